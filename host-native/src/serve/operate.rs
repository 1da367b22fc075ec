//! From what is asked to what comes of it.

use super::answer::{Answer, Failure};
use super::caller::Caller;
use super::issue::Issuer;
use super::policy::{Ask, Named, Policy};
use super::request::{Grant, Operation, Request, Wish};
use crate::error::KeyError;
use crate::host::{self, Host};
use crate::nats::role;
use crate::outbox::Receipt;
use crate::push;
use crate::store::{Promised, StoreError};
use cim_keys_core::command::Command;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup};
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether another process has brought something about.
const LOOK: Duration = Duration::from_millis(200);

/// What is on the disk, and what of it is waited for.
pub(super) struct Begun {
    answer: Answer,
    /// Short-lived creds come to stand on a stream of their own.
    receipt: Option<Receipt>,
}

/// Does what is asked as far as this machine's disk. Takes its time: a signature and a write.
pub(super) fn begin(
    host: &Host,
    issuer: Option<&Issuer>,
    policy: &Policy,
    caller: Caller,
    request: &Request,
) -> Result<Begun, Failure> {
    let operation = operation(&request.wish);
    let from = role::account_name(host, &caller.account.to_string());
    let asked = Asked { policy, caller, from: from.as_deref(), operation };
    // Somebody without a rule does not hear which accounts there are.
    let in_account = |name: &str, grant: Option<&Grant>, ttl| -> Result<Account, Failure> {
        let found = account(host, name)?;
        let named = match &found {
            Some(account) => {
                Named { name: Some(account.token.claims().name.as_str()), key: Some(account.key) }
            }
            None => Named { name: Some(name), key: None },
        };
        asked.allowed(Some(named), grant, ttl)?;
        found.ok_or_else(|| Failure::new(404, "unknown-account", &format!("there is no account {name:?}")))
    };
    let wanted = |command: Command| host::Request {
        command_id: Some(request.command_id),
        correlation_id: request.correlation_id,
        actor: caller.actor().ok(),
        ..host::Request::new(command)
    };
    match &request.wish {
        Wish::AccountCreate { name, limits } => {
            asked.allowed(Some(Named { name: Some(name), key: None }), None, None)?;
            let command = Command::CreateAccount { name: name.clone(), limits: (**limits).clone() };
            run(host, operation, &wanted(command))
        }
        Wish::UserCreate { account, name, user, grant, expires, tags } => {
            let ttl = match expires {
                0 => 0,
                at => (at - host.ambient().now().seconds()).max(1),
            };
            let account = in_account(account, Some(grant), Some(ttl))?;
            let (role, rights) = match grant {
                Grant::Role(role) => (Some(role.clone()), None),
                Grant::Own(rights) => (None, Some((**rights).clone())),
            };
            let command = Command::CreateUser {
                account: account.key,
                name: name.clone(),
                rights,
                expires: *expires,
                tags: tags.clone(),
                credentials: false,
            };
            let request = host::Request { role, keys: Some(vec![*user]), ..wanted(command) };
            run(host, operation, &request)
        }
        Wish::UserPermissions { account, user, rights } => {
            let grant = Grant::Own(rights.clone());
            let account = in_account(account, Some(&grant), None)?;
            let rights = (**rights).clone();
            run(
                host,
                operation,
                &wanted(Command::SetPermissions { account: account.key, user: *user, rights }),
            )
        }
        Wish::UserRevoke { account, user } => {
            let account = in_account(account, None, None)?;
            run(host, operation, &wanted(Command::RevokeUser { account: account.key, user: *user }))
        }
        Wish::CredentialsIssue { account, role, user, name, ttl } => {
            let grant = Grant::Role(role.clone());
            let account = in_account(account, Some(&grant), Some(*ttl))?;
            let issuer = issuer.ok_or_else(|| {
                Failure::new(503, "issuing-off", "this service issues no short-lived creds")
            })?;
            let wish = super::issue::Wish { account: &account, role, user: *user, name, ttl: *ttl };
            let (answer, receipt) = issuer.issue(host, caller, request, &wish)?;
            Ok(Begun { answer, receipt: Some(receipt) })
        }
        Wish::CommandGet => {
            asked.allowed(None, None, None)?;
            let promised = host.store().promised(request.command_id).map_err(KeyError::from)?;
            let own = promised.filter(|promised| Ok(&promised.context.actor) == caller.actor().as_ref());
            let promised = own.ok_or(KeyError::NoCommand { id: request.command_id })?;
            Ok(Begun { answer: shown(&promised), receipt: None })
        }
    }
}

impl Begun {
    /// Waits for what comes of it, and says how it stands then.
    pub(super) async fn settled(mut self, host: &Host, wait: Duration) -> Result<Answer, Failure> {
        let end = Instant::now() + wait;
        let mut writes = host.store().writes();
        while !self.look(host)? {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            tokio::select! {
                _ = writes.changed() => {}
                () = tokio::time::sleep(LOOK.min(left)) => {}
            }
        }
        Ok(self.answer)
    }

    /// True where nothing more is to be waited for.
    fn look(&mut self, host: &Host) -> Result<bool, Failure> {
        let answer = &mut self.answer;
        if let Some(receipt) = &self.receipt {
            if let Some(published) = receipt.look()? {
                (answer.state, answer.sequence) = (State::Confirmed, Some(published.sequence));
            }
            return Ok(answer.state == State::Confirmed);
        }
        let failed = |error: StoreError| Failure::from(KeyError::from(error));
        let promised = host.store().promised(answer.command_id).map_err(failed)?;
        let Some(promised) = promised else { return Ok(true) };
        (answer.state, answer.reason, answer.sequence) = (promised.state, promised.reason, promised.first);
        if let (Some(_), Some(account)) = (answer.in_force, answer.account) {
            let confirmed = matches!(answer.state, State::Confirmed | State::Settled);
            let in_force = confirmed
                && push::is_in_force(host.store(), account)
                    .map_err(|error| Failure::new(500, error.code(), &error.to_string()))?;
            answer.in_force = Some(in_force);
            return Ok(in_force || (!confirmed && answer.state != State::Pending));
        }
        Ok(answer.state != State::Pending)
    }
}

fn run(host: &Host, operation: Operation, request: &host::Request) -> Result<Begun, Failure> {
    let outcome = host.run(request)?;
    let gives_token = matches!(operation, Operation::UserCreate | Operation::UserPermissions);
    // Before it is given: from now on giving the command up is revoking its user.
    if gives_token && !host.store().note_handed_out(outcome.command_id).map_err(KeyError::from)? {
        let state = State::Dropped;
        return Err(KeyError::NotHeld { id: outcome.command_id, state }.into());
    }
    let token = outcome.token().filter(|_| gives_token);
    let (account, user) = about(&request.command, &outcome.keys);
    Ok(Begun {
        answer: Answer {
            command_id: outcome.command_id,
            operation: operation.as_str(),
            state: outcome.state.unwrap_or(State::Pending),
            reason: None,
            repeated: outcome.repeated,
            sequence: None,
            account,
            user,
            expires: token.as_ref().map(|token| token.claims().expires),
            jwt: token.and_then(|token| token.text()),
            in_force: (!outcome.accounts_changed().is_empty()).then_some(false),
        },
        receipt: None,
    })
}

/// How a command of an earlier request stands. Its token was given with the first answer, and is with its repetition.
fn shown(promised: &Promised) -> Answer {
    let (account, user) = about(&promised.command, &promised.context.keys);
    let changes = matches!(promised.command, Command::CreateAccount { .. } | Command::RevokeUser { .. });
    Answer {
        command_id: promised.context.command_id,
        operation: match &promised.command {
            Command::CreateAccount { .. } => Operation::AccountCreate.as_str(),
            Command::CreateUser { .. } => Operation::UserCreate.as_str(),
            Command::SetPermissions { .. } => Operation::UserPermissions.as_str(),
            Command::RevokeUser { .. } => Operation::UserRevoke.as_str(),
            other => other.name(),
        },
        state: promised.state,
        reason: promised.reason.clone(),
        repeated: false,
        sequence: promised.first,
        account,
        user,
        jwt: None,
        expires: None,
        in_force: changes.then_some(false),
    }
}

/// The account and the user that a command is about.
fn about(command: &Command, keys: &[PublicKey]) -> (Option<PublicKey>, Option<PublicKey>) {
    match command {
        Command::CreateAccount { .. } => (keys.first().copied(), None),
        Command::CreateUser { account, .. } => (Some(*account), keys.first().copied()),
        Command::SetPermissions { account, user, .. } | Command::RevokeUser { account, user } => {
            (Some(*account), Some(*user))
        }
        _ => (None, None),
    }
}

pub(super) fn operation(wish: &Wish) -> Operation {
    match wish {
        Wish::AccountCreate { .. } => Operation::AccountCreate,
        Wish::UserCreate { .. } => Operation::UserCreate,
        Wish::UserPermissions { .. } => Operation::UserPermissions,
        Wish::UserRevoke { .. } => Operation::UserRevoke,
        Wish::CredentialsIssue { .. } => Operation::CredentialsIssue,
        Wish::CommandGet => Operation::CommandGet,
    }
}

/// An account by its name or public key, as pending commands leave it.
fn account(host: &Host, text: &str) -> Result<Option<Account>, Failure> {
    let store = host.store();
    let failed = |error: StoreError| Failure::from(KeyError::from(error));
    let id = match text.parse::<PublicKey>().ok().filter(|key| key.kind() == Kind::Account) {
        Some(key) => Some(EntityId::Account(key)),
        None => {
            let operator = store.registry_id().map_err(failed)?.operator;
            let lookup = Lookup::Name { parent: operator, name: text.to_owned() };
            let (facts, _) = store.facts(&[lookup], true).map_err(failed)?;
            facts.name(operator, text).ok().flatten()
        }
    };
    let Some(id) = id else { return Ok(None) };
    Ok(match host.entity(id)? {
        Some(Entity::Account(account)) => Some(account),
        _ => None,
    })
}

/// Somebody and what they ask for.
struct Asked<'a> {
    policy: &'a Policy,
    caller: Caller,
    from: Option<&'a str>,
    operation: Operation,
}

impl Asked<'_> {
    fn allowed(
        &self,
        account: Option<Named<'_>>,
        grant: Option<&Grant>,
        ttl: Option<i64>,
    ) -> Result<(), Failure> {
        let Self { policy, caller, from, operation } = *self;
        let ask = Ask { caller, from, operation, account, grant, ttl };
        if policy.allows(&ask).is_some() {
            return Ok(());
        }
        let text = format!("no rule of the policy allows {caller} this {operation}");
        let hint = "whoever runs the service writes the policy: `cim-keys serve --check` says what it allows";
        Err(Failure::new(403, "denied", &text).hint(hint))
    }
}
