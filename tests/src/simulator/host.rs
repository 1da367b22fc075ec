//! A simulated host: a journal that survives, keys, a process that may die, a client, a clock of its own.

use super::link::Link;
use super::rng::Rng;
use super::store::Store;
use super::workload::{self, Keyring, Wish};
use cim_keys_core::command::{Command, Rejection, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::draft::Decision;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Facts, Registry};
use cim_keys_core::sync::{Bug, Input, Machine, Moment, Status};
use cim_keys_core::time::Timestamp;
use std::collections::BTreeSet;
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
    /// Everything that this host reported as committed.
    pub(crate) promised: BTreeSet<Uuid>,
    pub(super) rng: Rng,
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
            promised: BTreeSet::new(),
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
        self.store.forgets_acknowledged = bug == Some(Bug::RowDroppedAtAck);
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

    pub(super) fn context(&mut self, now: u64, authority: PublicKey, keys: Vec<PublicKey>) -> Context {
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

    /// Decides a command and writes it; in the place of another one where that is so.
    pub(super) fn commit(
        &mut self,
        command: Command,
        context: Context,
        instead: Option<Uuid>,
    ) -> Result<(), Rejection> {
        let (facts, decision) = decision(self.store.registry(), &self.keys, &command, &context)?;
        self.promised.insert(context.command_id);
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

fn unix() -> Timestamp {
    Timestamp::from_millis(0).unwrap_or_else(|_| unreachable!("1970 is an instant"))
}
