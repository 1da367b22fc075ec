//! A simulated host: a journal that survives, keys, a process that may die, a client, a clock of its own.

use super::link::Link;
use super::rng::Rng;
use super::store::{Entry, Store};
use super::workload::{self, Keyring, Wish};
use cim_keys_core::command::{Command, Rejection, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::draft::Decision;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId, Facts, Registry};
use cim_keys_core::sync::{Bug, Input, Machine, Moment, Status};
use cim_keys_core::time::Timestamp;
use uuid::{Builder, Uuid};

/// 2026-03-01T00:00:00Z in milliseconds: where virtual time begins.
const EPOCH: i64 = 1_772_323_200_000;

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Await {
    /// Nothing: it rests until there is something new.
    Nothing,
    /// The end of a pause.
    Pause(u64),
    /// An answer of the store.
    Store(u64),
    /// What is stored on the stream.
    Read(u64),
}

impl Await {
    /// The number under which the answer comes.
    pub(crate) fn ticket(self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Pause(ticket) | Self::Store(ticket) | Self::Read(ticket) => Some(ticket),
        }
    }
}

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its place in the world.
    pub(crate) number: usize,
    /// Its journal.
    pub(crate) store: Store,
    /// Its keys.
    pub(crate) keys: Keyring,
    /// Its process; none while it is down.
    pub(crate) machine: Option<Machine>,
    /// Counts processes: what was meant for an earlier one is lost.
    pub(crate) life: u64,
    /// Its client.
    pub(crate) link: Link,
    /// What the machine waits for.
    pub(crate) waits: Await,
    /// The append on its way.
    pub(crate) flight: Option<u64>,
    /// Whether an append was left unanswered on this connection.
    pub(crate) in_doubt: bool,
    /// Whether it listens to the log, and when the youngest message of that arrives.
    pub(crate) follows: bool,
    pub(crate) last_log: u64,
    /// What the machine reported last.
    pub(crate) status: Status,
    /// Whether the journal got something new while the machine was at work.
    pub(crate) dirty: bool,
    /// How far its clock is off, in milliseconds.
    pub(crate) clock: i64,
    rng: Rng,
}

impl Host {
    /// A host with this journal and these keys.
    pub(crate) fn new(seed: u64, number: usize, store: Store, keys: Keyring) -> Self {
        Self {
            number,
            store,
            keys,
            machine: None,
            life: 0,
            link: Link::default(),
            waits: Await::Nothing,
            flight: None,
            in_doubt: false,
            follows: false,
            last_log: 0,
            status: Status::Idle,
            dirty: false,
            clock: 0,
            rng: Rng::new(seed, &format!("host {number}")),
        }
    }

    /// Founds a registry: makes the keys and commits the founding. Nothing is sent yet.
    pub(crate) fn found(seed: u64) -> Result<Self, Rejection> {
        let mut keys = Keyring::default();
        let mut rng = Rng::new(seed, "founding");
        let kinds = (Command::FoundRegistry { name: String::from("sim") }).keys();
        let made: Vec<PublicKey> = kinds.into_iter().map(|kind| keys.make(kind, &mut rng)).collect();
        let operator = made.first().copied().unwrap_or(PublicKey::new(Kind::Operator, [0; 32]));
        let id = RegistryId { operator, namespace: cim_keys_core::subjects::Namespace::default() };
        let mut host = Self::new(seed, 0, Store::new(id), keys);
        let command = Command::FoundRegistry { name: String::from("sim") };
        let context = host.context(0, operator, made);
        host.commit(command, context, None)?;
        Ok(host)
    }

    /// Starts the process: nothing is known but what the store holds.
    pub(crate) fn start(&mut self, bug: Option<Bug>) {
        let mut machine = Machine::new(self.store.registry().id().clone(), self.store.progress().clone());
        if let Some(bug) = bug {
            machine.plant(bug);
        }
        machine.check_at_most(self.rng.pick(&[1, 2, 4, 1_000]).copied().unwrap_or(1_000));
        self.machine = Some(machine);
        self.waits = Await::Nothing;
        self.flight = None;
        self.in_doubt = false;
        self.follows = false;
        self.status = Status::Working;
        self.dirty = true;
    }

    /// The process is gone with all it knew.
    pub(crate) fn die(&mut self) {
        self.machine = None;
        self.life += 1;
        self.waits = Await::Nothing;
        self.flight = None;
        self.in_doubt = false;
        self.follows = false;
        self.link.queue.clear();
        self.link.broken = false;
    }

    /// Whether the machine has nothing to do, as far as the host knows.
    pub(crate) fn rests(&self) -> bool {
        self.machine.is_some() && self.waits == Await::Nothing && self.flight.is_none()
    }

    /// Time and randomness for the machine. Each process counts its own milliseconds.
    pub(crate) fn moment(&mut self, now: u64) -> Moment {
        Moment { millis: now + self.life * 1_000_000, random: self.rng.bytes() }
    }

    /// The host's clock, in milliseconds since 1970.
    pub(crate) fn wall(&self, now: u64) -> i64 {
        (EPOCH + self.clock).saturating_add_unsigned(now)
    }

    /// Wants something that fits what it knows. None where nothing came to mind.
    pub(crate) fn want(&mut self, now: u64) -> Option<Wish> {
        let wall = self.wall(now) / 1000;
        workload::wish(self.store.registry(), &self.keys, wall, &mut self.rng)
    }

    /// Makes the keys that a command asks for, decides it and commits it.
    pub(crate) fn execute(&mut self, now: u64, wish: Wish) -> Result<Uuid, Rejection> {
        let kinds = wish.command.keys();
        let made = kinds.into_iter().map(|kind| self.keys.make(kind, &mut self.rng)).collect();
        let context = self.context(now, wish.authority, made);
        let id = context.command_id;
        self.commit(wish.command, context, None).map(|()| id)
    }

    /// Decides a held revocation anew. Whether the journal holds it as pending or settled now.
    pub(crate) fn redecide(&mut self, now: u64, id: Uuid) -> bool {
        let Some(entry) = self.store.entry(id).filter(|entry| entry.state == State::Held) else {
            return false;
        };
        let (command, old, wanted) =
            (entry.pending.command.clone(), entry.pending.context.clone(), entry.revoked_at);
        if in_force(self.store.registry(), &command, wanted.unwrap_or(0)) {
            self.store.settle(id);
            return true;
        }
        let authority = self.authority(self.store.registry(), &old);
        let Some(authority) = authority else { return false };
        // Neither a clock that went back nor a token that is older now must make it earlier than it was promised.
        let promised = wanted.and_then(|at| Timestamp::from_millis(at.saturating_mul(1000)).ok());
        let now = Timestamp::from_millis(self.wall(now)).unwrap_or(old.now).max(old.now);
        let now = promised.map_or(now, |promised| now.max(promised));
        // An id that was admitted is used up: what is still wanted gets a new one. The attempts count on, or it would
        // take a revocation that is too early for the one it wants.
        let registry = self.store.registry();
        let used_up = registry.commands().any(|recorded| recorded.command_id == id)
            || registry
                .voided()
                .any(|voided| voided.command_id == id && voided.voids(old.authority, registry.id().operator));
        if used_up {
            let fresh = self.context(0, authority, Vec::new());
            let attempt = old.attempt + 1;
            let context =
                Context { now, attempt, causation_id: id, correlation_id: old.correlation_id, ..fresh };
            return self.commit(command, context, Some(id)).is_ok();
        }
        let context = Context { now, attempt: old.attempt + 1, authority, ..old };
        self.commit(command, context, None).is_ok()
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

    fn context(&mut self, now: u64, authority: PublicKey, keys: Vec<PublicKey>) -> Context {
        let millis = self.wall(now);
        let random = self.rng.bytes();
        let command_id = Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &random).into_uuid();
        Context {
            now: Timestamp::from_millis(millis).unwrap_or_else(|_| unix()),
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: "sim".parse().unwrap_or_else(|_| unreachable!("three letters are an actor")),
            authority,
            keys,
        }
    }

    fn commit(&mut self, command: Command, context: Context, instead: Option<Uuid>) -> Result<(), Rejection> {
        let (facts, decision) = decision(self.store.registry(), &self.keys, &command, &context)?;
        self.store.commit(command, context, &facts, decision, instead);
        Ok(())
    }

    /// A wish decided on what this host knows, without its journal hearing of it; under a given id where there is one.
    pub(crate) fn foreign(&mut self, now: u64, wish: Wish, id: Option<Uuid>) -> Option<Decision> {
        let kinds = wish.command.keys();
        let made = kinds.into_iter().map(|kind| self.keys.make(kind, &mut self.rng)).collect();
        let context = self.context(now, wish.authority, made);
        let context = Context { command_id: id.unwrap_or(context.command_id), ..context };
        decision(self.store.registry(), &self.keys, &wish.command, &context)
            .ok()
            .map(|(_, decision)| decision)
    }

    /// Feeds the machine, where there is one.
    pub(crate) fn handle(&mut self, now: u64, input: Input) -> Vec<cim_keys_core::sync::Output> {
        let moment = self.moment(now);
        self.machine.as_mut().map(|machine| machine.handle(input, moment)).unwrap_or_default()
    }
}

/// Decides, signs with the keys at hand, completes.
fn decision(
    registry: &Registry,
    keys: &Keyring,
    command: &Command,
    context: &Context,
) -> Result<(Facts, Decision), Rejection> {
    let facts = registry.facts(&command.scope(context, registry.id()), true);
    let draft = decide(&facts, command, context)?;
    let signatures = draft
        .requests()
        .into_iter()
        .filter_map(|request| keys.pair(&request.public_key)?.sign(&request.bytes).ok());
    let signatures: Vec<_> = signatures.collect();
    let missing = Rejection::NoRights { key: context.authority };
    let decision = draft.complete(&signatures).map_err(|_| missing)?;
    Ok((facts, decision))
}

/// Whether what a revocation wants holds already, with at least its time.
pub(crate) fn in_force(registry: &Registry, command: &Command, wanted: i64) -> bool {
    match target(registry, command) {
        Some(Entity::User(user)) => user.revoked_at.is_some_and(|at| at >= wanted),
        // A key that its owner lists no more signs nothing, whenever it was ended.
        Some(entity) => entity.revoked_at().is_some(),
        None => false,
    }
}

/// Whether the target of a revocation ever came to be.
pub(crate) fn exists(registry: &Registry, command: &Command) -> bool {
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
    registry.entities().find(|entity| entity.id() == id)
}

fn unix() -> Timestamp {
    Timestamp::from_millis(0).unwrap_or_else(|_| unreachable!("1970 is an instant"))
}
