//! The machine that brings journal and stream together: each input by its own export, on one machine.

use std::cell::RefCell;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::context::RegistryId;
use cim_keys_core::digest::Digest;
use cim_keys_core::journal::{Own, Pending, Progress, State, StreamIdentity};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::Lookup;
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::sync::{Failure, Input, Machine, Moment, Persisted, Read, Reply, StreamInfo};
use serde::Deserialize;
use uuid::Uuid;

use crate::{Failed, exports, registry, shown};

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// The milliseconds and the random bytes of a moment.
type Now = (u64, [u8; 16]);

fn handle(input: Input, (millis, random): Now) -> Result<String, Failed> {
    MACHINE.with_borrow_mut(|machine| match machine {
        Some(machine) => Ok(shown(machine.handle(input, Moment { millis, random }))),
        None => Err(Failed::from("no machine: sync_new first")),
    })
}

/// What came back for a message, as an argument.
#[derive(Deserialize)]
enum Answer {
    Ack { stream: String, sequence: u64, duplicate: bool },
    Error { code: u32 },
    NoResponders,
    Unknown,
    Permission { subject: String },
    Authorization { reason: String },
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        match answer {
            Answer::Ack { stream, sequence, duplicate } => Reply::Ack { stream, sequence, duplicate },
            Answer::Error { code } => Reply::Error { code },
            Answer::NoResponders => Reply::NoResponders,
            Answer::Unknown => Reply::Unknown,
            Answer::Permission { subject } => Reply::Permission { subject },
            Answer::Authorization { reason } => Reply::Authorization { reason },
        }
    }
}

/// Why a read failed, as an argument.
#[derive(Deserialize)]
enum Failing {
    Unreachable,
    NoResponders,
    StreamMissing,
    Permission { subject: String },
    Authorization { reason: String },
    Code { code: u32 },
}

impl From<Failing> for Failure {
    fn from(failing: Failing) -> Failure {
        match failing {
            Failing::Unreachable => Failure::Unreachable,
            Failing::NoResponders => Failure::NoResponders,
            Failing::StreamMissing => Failure::StreamMissing,
            Failing::Permission { subject } => Failure::Permission { subject },
            Failing::Authorization { reason } => Failure::Authorization { reason },
            Failing::Code { code } => Failure::Code { code },
        }
    }
}

/// What came of a write, as an argument.
#[derive(Deserialize)]
enum Written {
    Ok,
    Stale,
    Failed { reason: String },
}

impl From<Written> for Persisted {
    fn from(written: Written) -> Persisted {
        match written {
            Written::Ok => Persisted::Ok,
            Written::Stale => Persisted::Stale,
            Written::Failed { reason } => Persisted::Failed { reason },
        }
    }
}

/// How a stream stands, as an argument.
#[derive(Deserialize)]
struct Stands {
    identity: StreamIdentity,
    config: StreamConfig,
    first: u64,
    last: u64,
    server: Option<(u32, u32, u32)>,
}

/// What the journal knows of an own command, as an argument.
#[derive(Deserialize)]
struct Known {
    command_id: Uuid,
    position: u64,
    state: State,
    draft_hash: Digest,
    command_hash: Digest,
    authority: PublicKey,
}

exports! {
    sync_new(registry: RegistryId, progress: Progress, expected: Option<StreamConfig>) {
        let machine = Machine::new(registry, progress);
        let machine = match expected {
            Some(config) => machine.expecting(config),
            None => machine,
        };
        MACHINE.set(Some(machine));
    }
    sync_tick(now: Now) { handle(Input::Tick, now)? }
    sync_read(now: Now, stands: Stands, messages: Vec<StoredMessage>) {
        let Stands { identity, config, first, last, server } = stands;
        handle(Input::Read(Read { info: StreamInfo { identity, config, first, last, server }, messages }), now)?
    }
    sync_read_failed(now: Now, failing: Failing) { handle(Input::ReadFailed(failing.into()), now)? }
    sync_facts(now: Now, state: registry::State, lookups: Vec<Lookup>, own: Vec<Known>) {
        let own = own.into_iter().map(|known| Own {
            command_id: known.command_id,
            position: known.position,
            state: known.state,
            draft_hash: known.draft_hash,
            command_hash: known.command_hash,
            authority: known.authority,
        });
        let facts = state.registry().facts(&lookups, false);
        handle(Input::Facts { facts, own: own.collect() }, now)?
    }
    sync_loaded(now: Now, commands: Vec<Pending>, more: bool, held_revocations: Vec<Uuid>, revision: u64) {
        handle(Input::Loaded { commands, more, held_revocations, revision }, now)?
    }
    sync_persisted(now: Now, written: Written) { handle(Input::Persisted(written.into()), now)? }
    sync_redecided(now: Now, command_id: Uuid, resolved: bool) {
        handle(Input::Redecided { command_id, resolved }, now)?
    }
    sync_reply(now: Now, answer: Answer) { handle(Input::Reply(answer.into()), now)? }
    sync_disconnected(now: Now) { handle(Input::Disconnected, now)? }
}
