//! From a request to a committed command.

use super::{Founding, Host, Outcome, Request};
use crate::crash::{self, Step};
use crate::error::KeyError;
use crate::store::{Committed, Entry, HandOut};
use crate::vault::{Escrow, SealedKey};
use cim_keys_core::command::{self, Command};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope;
use cim_keys_core::event::Event;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{Entity, Facts};
use cim_keys_core::rules;
use uuid::Uuid;

/// Attempts before a command that always comes too late is given back.
const ATTEMPTS: u32 = 100;

/// Keys of a command: public halves in order, and those made here.
struct Keys {
    public: Vec<PublicKey>,
    made: Vec<KeyPair>,
}

impl Host {
    /// Founds a registry in an empty store: operator, system account, and the pipeline's accounts with their roles, in one
    /// transaction.
    ///
    /// # Errors
    /// [`KeyError::Founded`] where the store has one.
    pub fn found(&self, founding: &Founding, dry_run: bool) -> Result<Outcome, KeyError> {
        let founded = || KeyError::Founded { path: self.store.path().to_owned() };
        if self.store.is_founded()? {
            return Err(founded());
        }
        let command = Command::FoundRegistry { name: founding.name.clone() };
        let keys = self.make(&command, None)?;
        let operator =
            keys.public.first().copied().ok_or_else(|| internal("the founding asks for no key"))?;
        let registry = RegistryId { operator, namespace: founding.namespace.clone() };
        let request = Request { authority: Some(operator), dry_run, ..Request::new(command) };
        let context = self.context(&request, self.ambient.command_id()?, operator, &keys.public);
        let facts = nothing(&registry, &request.command, &context);
        let draft = command::decide(&facts, &request.command, &context)?;
        if dry_run {
            return Ok(dry(&context, draft.hash(), draft.events()));
        }
        let signatures = self.keyring(&keys.made).sign(&draft)?;
        let decision = draft.complete(&signatures)?;
        let entry = Entry {
            command: &request.command,
            context: &context,
            facts_hash: facts.hash(),
            entities: changed(&facts, &decision)?,
            keys: self.seal(&keys.made, &founding.escrow)?,
            hand_out: None,
            decision: &decision,
        };
        crash::reach(Step::SeedsSealed);
        match self.store.found(&registry, &founding.escrow, &entry)? {
            Committed::At { .. } => {
                crash::reach(Step::CommandCommitted);
                Ok(done(&context, decision))
            }
            Committed::Stale => Err(founded()),
        }
    }

    /// Decides a command, signs it and writes it with all that belongs to it in one transaction. When this returns it is
    /// on the disk; nothing of it is on the stream yet.
    ///
    /// A request whose command id was given before, with the same content, gives the first outcome again.
    ///
    /// # Errors
    /// See [`KeyError`]; nothing has changed then.
    pub fn run(&self, request: &Request) -> Result<Outcome, KeyError> {
        let registry = self.store.registry_id()?;
        let command_id = match request.command_id {
            Some(id) => id,
            None => self.ambient.command_id()?,
        };
        if request.command_id.is_some()
            && let Some(outcome) = self.repeated(command_id, request)?
        {
            return Ok(outcome);
        }
        let keys = self.make(&request.command, request.keys.as_deref())?;
        let escrow = if keys.made.is_empty() { Vec::new() } else { self.store.escrow()? };
        let mut sealed = None;
        for _ in 0..ATTEMPTS {
            let authority = self.authority(request)?;
            let context = self.context(request, command_id, authority, &keys.public);
            let (facts, revision) = self.store.facts(&request.command.scope(&context, registry), true)?;
            let draft = command::decide(&facts, &request.command, &context)?;
            if request.dry_run {
                return Ok(dry(&context, draft.hash(), draft.events()));
            }
            let signatures = self.keyring(&keys.made).sign(&draft)?;
            let decision = draft.complete(&signatures)?;
            let secrets = match &sealed {
                Some(secrets) => secrets,
                None => sealed.insert(self.seal(&keys.made, &escrow)?),
            };
            let entry = Entry {
                command: &request.command,
                context: &context,
                facts_hash: facts.hash(),
                entities: changed(&facts, &decision)?,
                keys: kept(secrets, request),
                hand_out: handed_out(secrets, request, command_id),
                decision: &decision,
            };
            crash::reach(Step::SeedsSealed);
            match self.store.commit(revision, &entry)? {
                Committed::At { .. } => {
                    crash::reach(Step::CommandCommitted);
                    return Ok(done(&context, decision));
                }
                // Another process was first: perhaps with this very command.
                Committed::Stale => {
                    if let Some(outcome) = self.repeated(command_id, request)? {
                        return Ok(outcome);
                    }
                }
            }
        }
        Err(KeyError::Contended { attempts: ATTEMPTS })
    }

    fn repeated(&self, command_id: Uuid, request: &Request) -> Result<Option<Outcome>, KeyError> {
        let Some(promised) = self.store.promised(command_id)? else { return Ok(None) };
        let same_keys = request.keys.as_ref().is_none_or(|keys| *keys == promised.context.keys);
        let same_actor = request.actor.as_ref().is_none_or(|actor| *actor == promised.context.actor);
        if promised.command.hash() != request.command.hash() || !same_keys || !same_actor {
            return Err(KeyError::IdTaken { id: command_id });
        }
        let mut events = Vec::with_capacity(promised.envelopes.len());
        for message in &promised.envelopes {
            let opened = envelope::decode(message.subject.as_str(), &message.headers, &message.payload);
            events.push(opened.map_err(|error| internal(&error.to_string()))?.event);
        }
        Ok(Some(Outcome {
            command_id,
            draft_hash: promised.draft_hash,
            events,
            state: Some(promised.state),
            repeated: true,
            keys: promised.context.keys,
        }))
    }

    fn make(&self, command: &Command, given: Option<&[PublicKey]>) -> Result<Keys, KeyError> {
        if let Some(given) = given {
            return Ok(Keys { public: given.to_vec(), made: Vec::new() });
        }
        let mut made = Vec::new();
        for kind in command.keys() {
            made.push(KeyPair::from_entropy(kind, self.ambient.entropy()?));
        }
        Ok(Keys { public: made.iter().map(KeyPair::public_key).collect(), made })
    }

    pub(super) fn context(
        &self,
        request: &Request,
        command_id: Uuid,
        authority: PublicKey,
        keys: &[PublicKey],
    ) -> Context {
        Context {
            now: self.ambient.now(),
            command_id,
            attempt: 1,
            correlation_id: request.correlation_id.unwrap_or(command_id),
            causation_id: request.causation_id.unwrap_or(command_id),
            actor: request.actor.clone().unwrap_or_else(|| self.actor.clone()),
            authority,
            keys: keys.to_vec(),
        }
    }

    fn seal(&self, made: &[KeyPair], escrow: &[Escrow]) -> Result<Vec<SealedKey>, KeyError> {
        made.iter().map(|key| Ok(self.vault.seal(key, escrow)?)).collect()
    }
}

/// Facts of a registry that does not exist: every answer is none.
fn nothing(registry: &RegistryId, command: &Command, context: &Context) -> Facts {
    let empty = cim_keys_core::registry::Registry::new(registry.clone());
    empty.facts(&command.scope(context, registry), true)
}

/// The entities that a decision changes, as it leaves them.
pub(super) fn changed(facts: &Facts, decision: &Decision) -> Result<Vec<Entity>, KeyError> {
    let mut folded = facts.clone();
    let ids = rules::judge(&mut folded, &decision.events).map_err(|fault| internal(&fault.to_string()))?;
    Ok(ids.into_iter().filter_map(|id| folded.entity(id).ok().flatten().cloned()).collect())
}

/// Seeds to keep: all but users', which are kept only when asked.
fn kept(sealed: &[SealedKey], request: &Request) -> Vec<SealedKey> {
    let is_user = matches!(request.command, Command::CreateUser { .. });
    sealed
        .iter()
        .filter(|key| request.keep || !is_user || key.public_key.kind() != Kind::User)
        .cloned()
        .collect()
}

/// The seed of creds that this command promises.
fn handed_out(sealed: &[SealedKey], request: &Request, command_id: Uuid) -> Option<HandOut> {
    match &request.command {
        Command::CreateUser { account, credentials: true, .. } => {
            sealed.first().map(|key| HandOut { command_id, account: *account, key: key.clone() })
        }
        _ => None,
    }
}

fn done(context: &Context, decision: Decision) -> Outcome {
    Outcome {
        command_id: context.command_id,
        draft_hash: decision.draft_hash,
        events: decision.events,
        state: Some(State::Pending),
        repeated: false,
        keys: context.keys.clone(),
    }
}

fn dry(context: &Context, draft_hash: cim_keys_core::digest::Digest, events: &[Event]) -> Outcome {
    Outcome {
        command_id: context.command_id,
        draft_hash,
        events: events.to_vec(),
        state: None,
        repeated: false,
        keys: context.keys.clone(),
    }
}

pub(super) fn internal(what: &str) -> KeyError {
    KeyError::Internal { what: what.to_owned() }
}
