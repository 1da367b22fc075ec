//! Entities as people and scripts see them, with the marks that matter.

use super::at::At;
use super::exit::CliError;
use super::output::printable;
use crate::error::KeyError;
use crate::host::{Host, Outcome};
use crate::store::{Held, Listed, Store};
use cim_keys_core::command::Command;
use cim_keys_core::event::{Event, Fact};
use cim_keys_core::jwt::{Account as AccountBody, AccountLimits, SigningKey, TokenId, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Key, Lookup, User};
use cim_keys_core::time::Timestamp;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What stands beside whatever a server does not know yet.
pub(super) const NOT_ENFORCED: &str = "NOT ENFORCED: push pending";
/// What stands beside an account that another host changed: that host may have pushed it, and this one was not told.
pub(super) const ENFORCEMENT_UNKNOWN: &str = "not known here whether enforced";
/// What stands beside whatever the stream does not have yet.
pub(super) const PENDING: &str = "pending";

/// Creds of a command that the stream does not have yet.
const UNPUBLISHED: &str = "unpublished";
/// Creds of a command of which the stream has another attempt.
const SUPERSEDED: &str = "superseded";

/// An entity with its marks.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// `operator`, `account`, `user` or `key`.
    pub(super) entity: &'static str,
    pub(super) name: String,
    pub(super) public_key: PublicKey,
    /// Whether the stream has it so.
    pub(super) confirmed: bool,
    /// For accounts: whether the servers have its newest token, and on how many. Missing where this host does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enforced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) servers: Option<u32>,
    /// In words: what is not as a person would think.
    pub(super) marks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<PublicKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_id: Option<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issued_at: Option<i64>,
    /// Unix seconds; missing where it never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked_at: Option<i64>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    /// Whether its seed is kept here, sealed.
    pub(super) seed_kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_kind: Option<Kind>,
    /// Role of a scoped key, or of a user that one signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rights: Option<UserRights>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<AccountLimits>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) signing_keys: Vec<SigningKeyView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    /// For a moment in the past: which, and since which sequence it was so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<u64>,
    /// The whole token; in `show` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<String>,
}

/// A signing key of an operator or account.
#[derive(Debug, Serialize)]
pub(super) struct SigningKeyView {
    pub(super) public_key: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
}

/// Makes views. What they need of parents is looked up when it is needed and read once, so that one view costs the same
/// in a registry of any size.
pub(super) struct Viewer<'a> {
    store: &'a Store,
    /// None where nobody knows when a moment in the past was.
    now: Option<Timestamp>,
    at: Option<At>,
    parents: RefCell<BTreeMap<PublicKey, Option<Entity>>>,
}

impl<'a> Viewer<'a> {
    pub(super) fn new(store: &'a Store, now: Timestamp) -> Self {
        Self { store, now: Some(now), at: None, parents: RefCell::default() }
    }

    /// Shows entities as they were.
    pub(super) fn at(store: &'a Store, at: At) -> Self {
        Self { store, now: at.clock(), at: Some(at), parents: RefCell::default() }
    }

    pub(super) fn view(&self, listed: &Listed) -> Result<View, CliError> {
        let entity = &listed.entity;
        let confirmed = listed.pending.is_none();
        let operator = self.store.registry_id().map_err(KeyError::from)?.operator;
        let parent = entity.parent(operator);
        let token = entity.token();
        let (created, updated) = times(entity);
        let mut view = View {
            entity: "operator",
            name: entity.name().to_owned(),
            public_key: entity.key(),
            confirmed,
            enforced: None,
            servers: None,
            marks: Vec::new(),
            parent,
            parent_name: parent.map(|parent| self.known_name(parent)).transpose()?.flatten(),
            token_id: token.map(|token| token.id()),
            issued_at: token.map(|token| token.claims().issued_at),
            expires: token.map(|token| token.claims().expires).filter(|expires| *expires != 0),
            revoked_at: entity.revoked_at(),
            created,
            updated,
            seed_kept: self.store.is_kept(entity.key()).map_err(KeyError::from)?,
            key_kind: None,
            role: None,
            rights: None,
            limits: None,
            signing_keys: Vec::new(),
            tags: Vec::new(),
            at: self.at,
            since: None,
            jwt: None,
        };
        match entity {
            Entity::Operator(operator) => {
                let listed = operator.token.claims().body.as_operator().map(|body| body.signing_keys.clone());
                let plain = |public_key| SigningKeyView { public_key, role: None };
                view.signing_keys = listed.unwrap_or_default().into_iter().map(plain).collect();
            }
            Entity::Account(account) => self.account(account, &mut view)?,
            Entity::User(user) => {
                self.user(user, &mut view)?;
                let handed_out = |position| self.store.is_handed_out(position).map_err(KeyError::from);
                if listed.pending.map(handed_out).transpose()? == Some(true) {
                    view.marks.push(format!("creds {UNPUBLISHED}"));
                }
            }
            Entity::Key(key) => self.key(key, &mut view)?,
        }
        if !confirmed {
            view.marks.push(PENDING.to_owned());
        }
        if let Some(at) = view.revoked_at {
            view.marks.push(format!("revoked {}", day(at)));
        }
        let over = |expires| self.now.is_some_and(|now| expires <= now.seconds());
        if view.expires.is_some_and(over) {
            view.marks.push("expired".to_owned());
        }
        Ok(view)
    }

    fn account(&self, account: &Account, view: &mut View) -> Result<(), CliError> {
        view.entity = "account";
        // What the servers had at a moment in the past nobody knows.
        if self.at.is_none() {
            self.enforced(account, view)?;
        }
        if let Some(body) = account.token.claims().body.as_account() {
            view.limits = Some(body.limits.clone());
            view.signing_keys = signing_keys(body);
            view.tags.clone_from(&body.tags);
        }
        Ok(())
    }

    fn enforced(&self, account: &Account, view: &mut View) -> Result<(), CliError> {
        let pushed = self.store.pushed(account.key).map_err(KeyError::from)?;
        let newest = pushed.filter(|pushed| pushed.token == account.token.id());
        // What was signed here was pushed from here or not at all; of what others signed nothing is told.
        let ours =
            newest.is_some() || self.store.is_kept(account.token.claims().issuer).map_err(KeyError::from)?;
        let in_force = newest.filter(|pushed| pushed.done);
        view.enforced = (ours || in_force.is_some()).then_some(in_force.is_some());
        view.servers = in_force.map(|pushed| pushed.servers);
        view.marks.extend(enforcement(view.enforced).map(str::to_owned));
        Ok(())
    }

    fn user(&self, user: &User, view: &mut View) -> Result<(), CliError> {
        view.entity = "user";
        let claims = user.token.claims();
        view.role = self.role(user.account, claims.issuer)?;
        if let Some(body) = claims.body.as_user() {
            view.rights = body.grant.rights().cloned();
            view.tags.clone_from(&body.tags);
        }
        let waits = || self.store.hand_out(user.account, user.key).map_err(KeyError::from);
        if self.at.is_none() && waits()?.is_some() {
            view.marks.push("creds not written".to_owned());
        }
        Ok(())
    }

    fn key(&self, key: &Key, view: &mut View) -> Result<(), CliError> {
        view.entity = "key";
        view.key_kind = Some(key.key.kind());
        view.role = key.owner.map(|owner| self.role(owner, key.key)).transpose()?.flatten();
        Ok(())
    }

    /// What a person calls an operator or account.
    pub(super) fn name_of(&self, key: PublicKey) -> Result<String, CliError> {
        Ok(self.known_name(key)?.unwrap_or_else(|| key.to_string()))
    }

    fn known_name(&self, key: PublicKey) -> Result<Option<String>, CliError> {
        self.parent(key, |parent| Some(parent.name().to_owned()))
    }

    /// The role of an account's scoped key.
    fn role(&self, account: PublicKey, key: PublicKey) -> Result<Option<String>, CliError> {
        self.parent(account, |parent| {
            let keys = &parent.token()?.claims().body.as_account()?.signing_keys;
            Some(keys.get(&key)?.scope()?.role.clone())
        })
    }

    fn parent<T>(
        &self,
        key: PublicKey,
        look: impl FnOnce(&Entity) -> Option<T>,
    ) -> Result<Option<T>, CliError> {
        let mut parents = self.parents.borrow_mut();
        if let Some(parent) = parents.get(&key) {
            return Ok(parent.as_ref().and_then(look));
        }
        let id = if key.kind() == Kind::Operator { EntityId::Operator(key) } else { EntityId::Account(key) };
        let parent = match self.at {
            Some(at) => {
                let then = self.store.entity_at(id, at.sequence).map_err(KeyError::from)?;
                then.map(|version| version.entity)
            }
            None => {
                let (facts, _) = self.store.facts(&[Lookup::Entity(id)], true).map_err(KeyError::from)?;
                facts.entity(id).ok().flatten().cloned()
            }
        };
        let seen = parent.as_ref().and_then(look);
        parents.insert(key, parent);
        Ok(seen)
    }
}

/// The mark of an account that is not known to be in force.
pub(super) fn enforcement(enforced: Option<bool>) -> Option<&'static str> {
    match enforced {
        Some(true) => None,
        Some(false) => Some(NOT_ENFORCED),
        None => Some(ENFORCEMENT_UNKNOWN),
    }
}

fn times(entity: &Entity) -> (Timestamp, Timestamp) {
    match entity {
        Entity::Operator(e) => (e.created, e.updated),
        Entity::Account(e) => (e.created, e.updated),
        Entity::User(e) => (e.created, e.updated),
        Entity::Key(e) => (e.created, e.updated),
    }
}

fn signing_keys(body: &AccountBody) -> Vec<SigningKeyView> {
    let view = |(key, kind): (&PublicKey, &SigningKey)| SigningKeyView {
        public_key: *key,
        role: kind.scope().map(|scope| scope.role.clone()),
    };
    body.signing_keys.iter().map(view).collect()
}

/// Unix seconds as a date.
pub(super) fn day(seconds: i64) -> String {
    let time = Timestamp::from_millis(seconds.saturating_mul(1000));
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string().chars().take(10).collect())
}

/// A command that is held, with its reason.
#[derive(Debug, Serialize)]
pub(super) struct HeldView {
    pub(super) command_id: Uuid,
    pub(super) command: &'static str,
    pub(super) about: String,
    pub(super) code: String,
    pub(super) reason: String,
    /// Whether it came in a bundle: then only its minter decides it anew.
    pub(super) imported: bool,
    /// Which attempt is held.
    pub(super) attempt: u32,
    /// Whether an attempt at it left this host: was sent, or exported.
    pub(super) sent: bool,
    /// Of creds that were handed out for it: `unpublished`, or `superseded` where another attempt came first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) creds: Option<&'static str>,
}

impl From<&Held> for HeldView {
    fn from(held: &Held) -> Self {
        Self {
            command_id: held.command_id,
            command: held.command.name(),
            about: about(&held.command),
            code: held.reason.code.clone(),
            reason: held.reason.text.clone(),
            imported: held.imported,
            attempt: held.context.attempt,
            sent: held.sent,
            creds: held.handed_out.then_some(if held.reason.code == "overtaken" {
                SUPERSEDED
            } else {
                UNPUBLISHED
            }),
        }
    }
}

/// Name, label or public key of whatever a command is about.
pub(super) fn about(command: &Command) -> String {
    match command {
        Command::FoundRegistry { name }
        | Command::CreateAccount { name, .. }
        | Command::CreateUser { name, .. } => name.clone(),
        Command::SetPermissions { user, .. }
        | Command::RevokeUser { user, .. }
        | Command::GenerateCredentials { user, .. } => user.to_string(),
        Command::GenerateKey { label, role, kind, .. } => label
            .clone()
            .or_else(|| role.as_ref().map(|role| role.name.clone()))
            .unwrap_or_else(|| kind.as_str().to_owned()),
        Command::RevokeKey { key, .. } => key.to_string(),
        Command::VoidCommand { command_id, .. } => command_id.to_string(),
        Command::RaiseSchema { level } => format!("to {level}"),
    }
}

/// What every command says of itself.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) command_id: Uuid,
    pub(super) dry_run: bool,
    /// Whether it had been done before, by the same id.
    pub(super) repeated: bool,
    pub(super) events: Vec<EventLine>,
    /// Whether its events are on the stream.
    pub(super) published: bool,
    /// Accounts whose newest token no server has yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_enforced: Vec<String>,
    /// In words, where something is not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enforcement: Option<&'static str>,
}

/// One event in a line.
#[derive(Debug, Serialize)]
pub(super) struct EventLine {
    pub(super) event_id: Uuid,
    pub(super) event_type: String,
    /// Public key of the entity, or the id of a command that was voided.
    pub(super) entity: String,
}

impl Done {
    pub(super) fn new(outcome: &Outcome, host: &Host) -> Result<Self, CliError> {
        let mut not_enforced = Vec::new();
        let viewer = Viewer::new(host.store(), host.ambient().now());
        for account in outcome.accounts_changed().into_iter().filter(|_| outcome.state.is_some()) {
            not_enforced.push(viewer.name_of(account)?);
        }
        Ok(Self {
            command_id: outcome.command_id,
            dry_run: outcome.state.is_none(),
            repeated: outcome.repeated,
            events: outcome.events.iter().map(event_line).collect(),
            published: outcome.state == Some(cim_keys_core::journal::State::Confirmed),
            enforcement: (!not_enforced.is_empty()).then_some(NOT_ENFORCED),
            not_enforced,
        })
    }
}

pub(super) fn event_line(event: &Event) -> EventLine {
    let (entity, operation) = event.fact.name();
    let event_type = format!("keys.{entity}.{operation}");
    let about = match event.fact {
        Fact::CommandVoided { command_id } => command_id.to_string(),
        _ => event.entity.to_string(),
    };
    EventLine { event_id: event.id, event_type, entity: about }
}

/// Marks in one cell.
pub(super) fn marks(view: &View) -> String {
    printable(&view.marks.join(", "))
}
