//! Held commands: revocations decided anew by themselves, the others by a person's word, or given up. Each follows what
//! `host-native`'s host does, step by step; what is decided and what is used up is the core's to say.

use super::host::Host;
use super::store::Entry;
use super::workload;
use cim_keys_core::bundle::{Bundle, BundledCommand};
use cim_keys_core::command::{Command, HandedOut, Rejection};
use cim_keys_core::context::Context;
use cim_keys_core::journal::{Pending, State};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId, Lookup, Registry};
use cim_keys_core::rules::{Reason, Violation};
use cim_keys_core::time::Timestamp;
use uuid::Uuid;

/// What came of a person's word about a held command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is pending again, as the next attempt.
    Decided,
    /// What it revokes is revoked already.
    Settled,
    /// It was given up here alone.
    Dropped,
    /// It was given up, and this command voids it for all.
    Voided(Uuid),
    /// Nothing has changed: another host minted it, its id is used up, or it does not stand.
    Refused,
}

/// How often people's words came to something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words {
    /// Decided anew.
    pub(crate) retried: u64,
    /// Given up.
    pub(crate) dropped: u64,
}

impl Words {
    /// Counts one.
    pub(crate) fn note(&mut self, word: Word) {
        match word {
            Word::Decided => self.retried += 1,
            Word::Dropped | Word::Voided(_) => self.dropped += 1,
            Word::Settled | Word::Refused => {}
        }
    }
}

impl Host {
    /// Decides a held revocation anew. Whether the journal holds it as pending or settled now.
    pub(crate) fn redecide(&mut self, now: u64, id: Uuid) -> bool {
        let Some(entry) = self.held(id) else { return false };
        let Pending { command, context: old, position, .. } = entry.pending;
        let wanted = entry.revoked_at;
        if in_force(self.store.registry(), &command, wanted.unwrap_or(0)) {
            self.store.settle(id);
            return true;
        }
        let authority = self.authority(self.store.registry(), &old);
        let Some(authority) = authority else { return false };
        let now = self.later_than(now, old.now, wanted);
        // An id that was admitted is used up: what is still wanted gets a new one. The attempts count on, or it would
        // take a revocation that is too early for the one it wants.
        if used_up(self.store.registry(), id, old.authority) {
            let fresh = self.context(0, authority, Vec::new());
            let attempt = old.attempt + 1;
            let context =
                Context { now, attempt, causation_id: id, correlation_id: old.correlation_id, ..fresh };
            return self.commit(command, context, Some(id)).is_ok();
        }
        let context = Context { now, attempt: old.attempt + 1, authority, ..old };
        let done = self.commit(command, context, None).is_ok();
        if done {
            self.stand_again(position);
        }
        done
    }

    /// Held commands from behind this place that stand again as they were decided, now that one is in its place.
    fn stand_again(&mut self, behind: u64) {
        let of_the_rules = |entry: &&Entry| {
            let by_server = entry.reason.as_ref().is_some_and(Reason::is_by_server);
            entry.state == State::Held && entry.pending.position > behind && !by_server
        };
        let held: Vec<_> = self.store.entries().filter(of_the_rules).map(bundled).collect();
        let bundle = Bundle { registry: self.store.registry().id().clone(), commands: held };
        let Ok(verified) = bundle.verify() else { unreachable!("what a host decided is genuine") };
        for command in verified.commands() {
            let context = &command.bundled().context;
            if !used_up(self.store.registry(), context.command_id, context.authority) {
                let scopes: Vec<Lookup> = command.scopes().cloned().collect();
                let mut facts = self.store.registry().facts(&scopes, true);
                if let Ok(standing) = command.judge(&mut facts) {
                    self.store.revive(context.command_id, standing, &facts);
                }
            }
        }
    }

    /// A person wants a held command decided anew: the next attempt, on the host that minted it.
    pub(crate) fn retry(&mut self, now: u64, id: Uuid) -> Word {
        let Some(entry) = self.held(id).filter(|entry| !entry.imported) else { return Word::Refused };
        let Pending { command, context: old, position, .. } = entry.pending;
        let wanted = entry.revoked_at;
        let registry = self.store.registry();
        if used_up(registry, id, old.authority) {
            let settled = command.is_revocation() && self.redecide(now, id);
            return if settled { Word::Settled } else { Word::Refused };
        }
        if command.is_revocation() && in_force(registry, &command, wanted.unwrap_or(0)) {
            self.store.settle(id);
            return Word::Settled;
        }
        let now = self.later_than(now, old.now, wanted);
        let context = Context { now, attempt: old.attempt + 1, ..old };
        match self.commit(command.clone(), context.clone(), None) {
            Ok(()) => {
                self.stand_again(position);
                Word::Decided
            }
            Err(Rejection::Violation(Violation::NotListed { .. } | Violation::Authority { .. })) => {
                // The key that vouched for it is none any more, and so is every attempt that it vouched for.
                let view = workload::view(self.store.registry());
                let Some(authority) = workload::authority(&view, &self.keys, &command) else {
                    return Word::Refused;
                };
                if self.commit(command, Context { authority, ..context }, None).is_err() {
                    return Word::Refused;
                }
                self.stand_again(position);
                Word::Decided
            }
            Err(_) => Word::Refused,
        }
    }

    /// A person gives a held command up: here alone while nothing of it left the store, else by an event that voids its id,
    /// and revokes what was handed out. `void` asks for that event in any case.
    pub(crate) fn drop_held(&mut self, now: u64, id: Uuid, void: bool) -> Word {
        let Some(entry) = self.held(id) else { return Word::Refused };
        let registry = self.store.registry();
        let own = &entry.pending.context;
        let facts = registry.facts(&[Lookup::Command(id)], true);
        let admitted = facts.command(id).ok().flatten();
        // Where another attempt at it came first, it is done: that user and its creds are wanted.
        let overtaken = admitted.is_some_and(|recorded| {
            recorded.command_hash == entry.pending.command.hash() && recorded.authority == own.authority
        });
        let revoke = if overtaken { None } else { handed_out(&entry) };
        let out = void || entry.left || entry.handed_out;
        let event = if entry.imported { out } else { out || revoke.is_some() };
        let view = workload::view(registry);
        let Some(operator) = workload::operator_keys(&view, &self.keys).first().copied() else {
            return Word::Refused;
        };
        // A signing key speaks for its own attempts alone; where creds are out, it must be the operator.
        let account = entry.pending.command.in_account().filter(|_| {
            own.authority.kind() == Kind::Account && revoke.is_none() && own.now.millis() % 2 == 0
        });
        let authority = if account.is_some() { own.authority } else { operator };
        let command = Command::VoidCommand { command_id: id, account, revoke };
        let done = used_up(registry, id, own.authority) && revoke.is_none();
        if !event || done || in_force(registry, &command, 0) {
            self.store.give_up(id, None);
            return Word::Dropped;
        }
        let unknown =
            |out: HandedOut| !has(registry, EntityId::User { account: out.account, user: out.user });
        if admitted.is_some() && revoke.is_some_and(unknown) {
            return Word::Refused;
        }
        let context = Context { causation_id: id, ..self.context(now, authority, Vec::new()) };
        let voiding = context.command_id;
        if self.commit(command, context, None).is_err() {
            return Word::Refused;
        }
        self.store.give_up(id, Some(voiding));
        Word::Voided(voiding)
    }

    /// Whether a key is at hand that may vouch for this command on this state.
    pub(crate) fn may_vouch(&self, registry: &Registry, entry: &Entry) -> bool {
        self.authority(registry, &entry.pending.context).is_some()
    }

    /// The key that vouches for another attempt: the one before may have been revoked, any that may now serves.
    fn authority(&self, registry: &Registry, old: &Context) -> Option<PublicKey> {
        if old.authority == registry.id().operator {
            return Some(old.authority);
        }
        workload::operator_keys(&workload::view(registry), &self.keys).first().copied()
    }

    /// Now, and a second later than the attempt before; neither a clock that went back nor a token that is older now makes
    /// a revocation earlier than it was promised.
    fn later_than(&self, now: u64, before: Timestamp, wanted: Option<i64>) -> Timestamp {
        let promised = wanted.unwrap_or(0).saturating_mul(1000);
        let millis = self.wall(now).max(before.millis().saturating_add(1000)).max(promised);
        Timestamp::from_millis(millis).unwrap_or(before)
    }

    fn held(&self, id: Uuid) -> Option<Entry> {
        self.store.entry(id).filter(|entry| entry.state == State::Held).cloned()
    }
}

fn bundled(entry: &Entry) -> BundledCommand {
    let Pending { command, context, draft_hash, envelopes, .. } = entry.pending.clone();
    BundledCommand { command, context, draft_hash, envelopes }
}

/// Whether no attempt of this authority at the command can be admitted any more.
pub(crate) fn used_up(registry: &Registry, id: Uuid, authority: PublicKey) -> bool {
    let facts = registry.facts(&[Lookup::Command(id)], false);
    let admitted = facts.command(id).is_ok_and(|recorded| recorded.is_some());
    admitted || facts.is_void(id, authority) == Ok(true)
}

/// Whose creds or token somebody may have by this command.
fn handed_out(entry: &Entry) -> Option<HandedOut> {
    let given = match &entry.pending.command {
        Command::GenerateCredentials { .. } => entry.handed_out || entry.imported,
        _ => entry.handed_out,
    };
    let pending = &entry.pending;
    HandedOut::by(&pending.command, &pending.context, &pending.envelopes).ok().flatten().filter(|_| given)
}

/// Whether what a revocation wants holds already, with at least its time.
pub(crate) fn in_force(registry: &Registry, command: &Command, wanted: i64) -> bool {
    if let Command::VoidCommand { command_id, revoke, .. } = command {
        let refused = |out: &HandedOut| {
            let Some(Entity::Account(account)) = find(registry, EntityId::Account(out.account)) else {
                return false;
            };
            let body = account.token.claims().body.as_account();
            let since = body.and_then(|body| body.revocations.get(&out.user.to_string()));
            since.is_some_and(|at| *at >= out.issued_at)
        };
        return used_up(registry, *command_id, registry.id().operator) && revoke.as_ref().is_none_or(refused);
    }
    match target(registry, command) {
        Some(Entity::User(user)) => user.revoked_at.is_some_and(|at| at >= wanted),
        // A key that its owner lists no more signs nothing, whenever it was ended.
        Some(entity) => entity.revoked_at().is_some(),
        None => false,
    }
}

/// Whether the target of a revocation ever came to be.
pub(crate) fn exists(registry: &Registry, command: &Command) -> bool {
    if let Command::VoidCommand { command_id, revoke: Some(out), .. } = command {
        // Of a user that nobody created only the event that voids the command can revoke anything.
        let user = has(registry, EntityId::User { account: out.account, user: out.user });
        let admitted = registry.commands().any(|recorded| recorded.command_id == *command_id);
        return has(registry, EntityId::Account(out.account)) && (user || !admitted);
    }
    target(registry, command).is_some()
}

fn target<'a>(registry: &'a Registry, command: &Command) -> Option<&'a Entity> {
    let id = match command {
        Command::RevokeUser { account, user } => EntityId::User { account: *account, user: *user },
        Command::RevokeKey { key, owner: Some(account) } if key.kind() == Kind::User => {
            EntityId::User { account: *account, user: *key }
        }
        Command::RevokeKey { key, .. } => EntityId::Key(*key),
        _ => return None,
    };
    find(registry, id)
}

fn find(registry: &Registry, id: EntityId) -> Option<&Entity> {
    registry.entities().find(|entity| entity.id() == id)
}

fn has(registry: &Registry, id: EntityId) -> bool {
    find(registry, id).is_some()
}
