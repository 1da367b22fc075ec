//! Held commands by a person's word: decided anew, or given up.

use super::redecide::{in_force, refused_since, used_up};
use super::run::{changed, internal};
use super::{Host, Outcome, Request};
use crate::error::KeyError;
use crate::keyring::KeyringError;
use crate::store::{Committed, Entry, Promised};
use cim_keys_core::command::{self, Command, HandedOut, Rejection};
use cim_keys_core::context::Context;
use cim_keys_core::draft::Draft;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::Kind;
use cim_keys_core::registry::{EntityId, Facts, Lookup};
use cim_keys_core::rules::Violation;
use uuid::Uuid;

/// Attempts before a command that always comes too late is left as it is.
const ATTEMPTS: u32 = 20;

/// What came of a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It was decided anew, and is pending again.
    Decided {
        /// Its newest attempt.
        outcome: Outcome,
        /// Which attempt that is.
        attempt: u32,
        /// Held commands that stand again behind it as they were decided: pending again, with the same bytes.
        along: Vec<Uuid>,
    },
    /// What it revokes is revoked by another command, or by a new one of this host.
    Settled,
}

/// What giving a command up came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The command that was given up.
    pub command_id: Uuid,
    /// The command that voids it for all, or revokes what was handed out for it; none where it was given up here alone.
    pub voiding: Option<Outcome>,
    /// Whose creds or token that command revokes.
    pub revoked: Option<HandedOut>,
}

impl Host {
    /// Decides a held command anew: the same command, id and keys, the next attempt, a later time and so new event ids and
    /// tokens. It goes to the end of the journal as pending, and behind it what was made after it and stands again, now that it is in
    /// place.
    ///
    /// # Errors
    /// There is no such command ([`KeyError::NoCommand`]), it is not held ([`KeyError::NotHeld`]), it came in a bundle
    /// ([`KeyError::HeldImported`]), its id is used up ([`KeyError::UsedUp`]), or it still does not stand. Nothing has
    /// changed then.
    pub fn retry(&self, command_id: Uuid, dry_run: bool) -> Result<Retried, KeyError> {
        for _ in 0..ATTEMPTS {
            let promised = self.held(command_id)?;
            if promised.imported {
                return Err(KeyError::HeldImported { id: command_id });
            }
            let (known, _) = self.store.facts(&[Lookup::Command(command_id)], true)?;
            if used_up(&known, command_id, promised.context.authority) {
                // What is still wanted of a revocation gets a new id.
                if promised.command.is_revocation() && !dry_run && self.redecide(command_id)? {
                    return Ok(Retried::Settled);
                }
                let reason = promised.reason.map(|reason| reason.text).unwrap_or_default();
                return Err(KeyError::UsedUp { id: command_id, reason });
            }
            let attempt = promised.context.attempt.saturating_add(1);
            let now = self.later_than(promised.context.now, promised.revoked_at)?;
            let context = Context { now, attempt, ..promised.context };
            let request = Request { dry_run, ..Request::new(promised.command) };
            let (facts, revision) = self.facts_for(&request.command, &context)?;
            if request.command.is_revocation() && in_force(&facts, &request.command, promised.revoked_at) {
                return if dry_run || self.store.settle(command_id)? {
                    Ok(Retried::Settled)
                } else {
                    Err(self.not_held(command_id)?)
                };
            }
            let (draft, context, facts, revision) = match command::decide(&facts, &request.command, &context)
            {
                Err(Rejection::Violation(Violation::NotListed { .. } | Violation::Authority { .. })) => {
                    // The key that vouched for it is none any more, and so is every attempt that it vouched for.
                    let context = Context { authority: self.authority(&request)?, ..context };
                    let (facts, revision) = self.facts_for(&request.command, &context)?;
                    (command::decide(&facts, &request.command, &context)?, context, facts, revision)
                }
                decided => (decided?, context, facts, revision),
            };
            if dry_run {
                let outcome = outcome(&context, &draft, None);
                return Ok(Retried::Decided { outcome, attempt, along: Vec::new() });
            }
            let mut outcome = outcome(&context, &draft, Some(State::Pending));
            let decision = draft.clone().complete(&self.keyring(&[]).sign(&draft)?)?;
            let entry = Entry {
                command: &request.command,
                context: &context,
                facts_hash: facts.hash(),
                entities: changed(&facts, &decision)?,
                keys: Vec::new(),
                hand_out: None,
                decision: &decision,
            };
            if let Committed::At { .. } = self.store.replace(revision, &entry)? {
                outcome.events.clone_from(&decision.events);
                let along = self.stand_again(promised.position);
                return Ok(Retried::Decided { outcome, attempt, along });
            }
        }
        Err(KeyError::Contended { attempts: ATTEMPTS })
    }

    /// Gives a held command up. Where nothing of it ever left this store (and for one that came in a bundle, where this
    /// host did not send it), that is a matter of this store alone. Otherwise a new command voids its id, for whoever has
    /// it; and where creds or a token were handed out for it, the same command revokes that user. `void` asks for the new
    /// command in any case, as for a bundle that must not be published by anybody.
    ///
    /// # Errors
    /// There is no such command ([`KeyError::NoCommand`]), it is not held ([`KeyError::NotHeld`]), or the key that must
    /// vouch is not here. Nothing has changed then.
    pub fn drop_held(&self, command_id: Uuid, void: bool, dry_run: bool) -> Result<Dropped, KeyError> {
        for _ in 0..ATTEMPTS {
            let promised = self.held(command_id)?;
            let (known, _) = self.store.facts(&[Lookup::Command(command_id)], true)?;
            let admitted = known.command(command_id).ok().flatten();
            // Where another attempt at it came first, it is done: that user and its creds are wanted.
            let overtaken = admitted.is_some_and(|recorded| {
                recorded.command_hash == promised.command.hash()
                    && recorded.authority == promised.context.authority
            });
            let given = if overtaken { None } else { self.handed_out(&promised)? };
            // Who is refused already needs no revocation, which the operator's key alone could vouch for.
            let refused = given.as_ref().map(|given| self.is_refused(given)).transpose()?;
            let handed_out = if refused == Some(true) { None } else { given };
            let out = void || promised.sent || promised.handed_out;
            let event = if promised.imported { out } else { out || given.is_some() };
            let request = self.voiding(&promised, handed_out, dry_run)?;
            let done = used_up(&known, command_id, promised.context.authority) && handed_out.is_none();
            if !event || done || self.is_in_force(&request)? {
                // Seeds of what may come to the stream after all are kept, and those of the registry itself.
                let founding = matches!(promised.command, Command::FoundRegistry { .. });
                let keep = event || promised.imported || founding;
                if dry_run || self.store.drop_held(&promised, !keep)? {
                    return Ok(Dropped { command_id, voiding: None, revoked: None });
                }
                continue;
            }
            if let (Some(HandedOut { account, user, .. }), true) = (handed_out, admitted.is_some())
                && self.entity(EntityId::User { account, user })?.is_none()
            {
                return Err(KeyError::CredsOut { id: command_id, user });
            }
            if let Some(outcome) = self.void(&promised, &request)? {
                return Ok(Dropped { command_id, voiding: Some(outcome), revoked: handed_out });
            }
        }
        Err(KeyError::Contended { attempts: ATTEMPTS })
    }

    /// Whether the account's token refuses the creds that were handed out.
    fn is_refused(&self, given: &HandedOut) -> Result<bool, KeyError> {
        let (facts, _) = self.store.facts(&[Lookup::Entity(EntityId::Account(given.account))], true)?;
        let since = refused_since(&facts, given.account, given.user);
        Ok(since.is_some_and(|at| at >= given.issued_at))
    }

    /// Decides and writes the command that voids a held one. None where something was written meanwhile.
    fn void(&self, held: &Promised, request: &Request) -> Result<Option<Outcome>, KeyError> {
        let authority = self.authority(request)?;
        let id = self.ambient.command_id()?;
        let causation_id = held.context.command_id;
        let context = Context { causation_id, ..self.context(request, id, authority, &[]) };
        let (facts, revision) = self.facts_for(&request.command, &context)?;
        let draft = command::decide(&facts, &request.command, &context)?;
        if request.dry_run {
            // Nothing is promised that fails for want of a key.
            for signature in draft.requests() {
                let key = signature.public_key;
                if !self.store.is_kept(key)? {
                    return Err(KeyringError::Missing { key }.into());
                }
            }
            return Ok(Some(outcome(&context, &draft, None)));
        }
        let mut outcome = outcome(&context, &draft, Some(State::Pending));
        let decision = draft.clone().complete(&self.keyring(&[]).sign(&draft)?)?;
        let entry = Entry {
            command: &request.command,
            context: &context,
            facts_hash: facts.hash(),
            entities: changed(&facts, &decision)?,
            keys: Vec::new(),
            hand_out: None,
            decision: &decision,
        };
        Ok(match self.store.void(revision, &entry, held)? {
            Committed::At { .. } => {
                outcome.events.clone_from(&decision.events);
                Some(outcome)
            }
            Committed::Stale => None,
        })
    }

    /// The request that voids a held command: with the operator's key where it is here or must be, else with the key that
    /// the command itself names.
    fn voiding(
        &self,
        promised: &Promised,
        revoke: Option<HandedOut>,
        dry_run: bool,
    ) -> Result<Request, KeyError> {
        let operator = self.operator_key(self.store.registry_id()?.operator)?;
        let own = promised.context.authority;
        let account = promised.command.in_account().filter(|_| own.kind() == Kind::Account);
        let (account, authority) = match account {
            Some(account) if revoke.is_none() && !self.store.is_kept(operator)? => (Some(account), own),
            _ => (None, operator),
        };
        let command = Command::VoidCommand { command_id: promised.context.command_id, account, revoke };
        Ok(Request { authority: Some(authority), dry_run, ..Request::new(command) })
    }

    fn is_in_force(&self, request: &Request) -> Result<bool, KeyError> {
        let authority = self.authority(request)?;
        let context = self.context(request, Uuid::nil(), authority, &[]);
        Ok(in_force(&self.facts_for(&request.command, &context)?.0, &request.command, None))
    }

    fn facts_for(
        &self,
        command: &Command,
        context: &Context,
    ) -> Result<(Facts, crate::store::Revision), KeyError> {
        Ok(self.store.facts(&command.scope(context, self.store.registry_id()?), true)?)
    }

    fn held(&self, command_id: Uuid) -> Result<Promised, KeyError> {
        let promised = self.store.promised(command_id)?.ok_or(KeyError::NoCommand { id: command_id })?;
        match promised.state {
            State::Held => Ok(promised),
            state => Err(KeyError::NotHeld { id: command_id, state }),
        }
    }

    fn not_held(&self, command_id: Uuid) -> Result<KeyError, KeyError> {
        let promised = self.store.promised(command_id)?;
        let state = promised.map_or(State::Dropped, |promised| promised.state);
        Ok(KeyError::NotHeld { id: command_id, state })
    }

    /// Whose creds or token somebody may have by this command. What is kept here alone is nobody's; of a user whose seed
    /// was made elsewhere, or whose command came in a bundle, this host cannot know.
    fn handed_out(&self, promised: &Promised) -> Result<Option<HandedOut>, KeyError> {
        let found = HandedOut::by(&promised.command, &promised.context, &promised.envelopes)
            .map_err(|error| internal(&error.to_string()))?;
        let Some(HandedOut { account, user, .. }) = found else { return Ok(None) };
        let given = match &promised.command {
            Command::CreateUser { .. } => {
                let here = self.store.hand_out(account, user)?.is_some() || self.store.is_kept(user)?;
                promised.handed_out || !here
            }
            Command::GenerateCredentials { .. } => promised.handed_out || promised.imported,
            _ => promised.handed_out,
        };
        Ok(found.filter(|_| given))
    }
}

fn outcome(context: &Context, draft: &Draft, state: Option<State>) -> Outcome {
    Outcome {
        command_id: context.command_id,
        draft_hash: draft.hash(),
        events: draft.events().to_vec(),
        state,
        repeated: false,
        keys: context.keys.clone(),
    }
}
