//! The machine that brings journal and stream together: each input by its own export, on one machine.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::context::RegistryId;
use cim_keys_core::digest::Digest;
use cim_keys_core::jetstream::{self, Endpoints};
use cim_keys_core::journal::{Own, Pending, Progress, Ready, StreamIdentity};
use cim_keys_core::registry::Facts;
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::subjects::Subject;
use cim_keys_core::sync::{self, Confirmed, Failure, Input, Machine, Moment, Output, Persisted, Read, Reply};
use uuid::Uuid;

use crate::{Failed, exports};

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// The milliseconds and the random bytes of a moment.
type Now = (u64, [u8; 16]);

fn handle(input: Input, (millis, random): Now) -> Result<Vec<Output>, Failed> {
    MACHINE.with_borrow_mut(|machine| match machine {
        Some(machine) => Ok(machine.handle(input, Moment { millis, random })),
        None => Err(Failed::from("no machine: sync_new first")),
    })
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
    sync_read(now: Now, read: Read) { handle(Input::Read(read), now)? }
    sync_read_failed(now: Now, failure: Failure) { handle(Input::ReadFailed(failure), now)? }
    sync_facts(now: Now, facts: Facts, own: Vec<Own>) { handle(Input::Facts { facts, own }, now)? }
    sync_loaded(now: Now, commands: Vec<Pending>, more: bool, held_revocations: Vec<Uuid>, revision: u64) {
        handle(Input::Loaded { commands, more, held_revocations, revision }, now)?
    }
    sync_gathered(now: Now, commands: Vec<Ready>, held_revocations: Vec<Uuid>) {
        handle(Input::Gathered { commands, held_revocations }, now)?
    }
    sync_persisted(now: Now, persisted: Persisted) { handle(Input::Persisted(persisted), now)? }
    sync_redecided(now: Now, command_id: Uuid, resolved: bool) {
        handle(Input::Redecided { command_id, resolved }, now)?
    }
    sync_reply(now: Now, reply: Reply) { handle(Input::Reply(reply), now)? }
    sync_tail(now: Now, message: StoredMessage) { handle(Input::Tail(message), now)? }
    sync_disconnected(now: Now) { handle(Input::Disconnected, now)? }

    sync_last_agreeing(found: Vec<StoredMessage>, known: BTreeMap<u64, Digest>) {
        sync::last_agreeing(&found, |sequence| known.get(&sequence).copied())
    }
    sync_recover(registry: RegistryId, before: Progress, kept: u64, stored: Option<String>, messages: Vec<StoredMessage>, own: Vec<(Uuid, u64)>) {
        let own: Vec<Confirmed> =
            own.into_iter().map(|(command_id, last)| Confirmed { command_id, last }).collect();
        let found = sync::recover(registry, &before, kept, stored, messages, &own)?;
        (found.progress, found.anomalies, found.pending, found.lost)
    }
    stream_is_older(one: StreamIdentity, other: StreamIdentity) { one.is_older_than(&other) }

    jetstream_endpoints(registry: RegistryId, api_prefix: String, user: String) {
        Endpoints::new(&registry, &api_prefix, &user)
    }
    jetstream_requests(first: u64, count: u64) {
        (jetstream::direct_get(first, count), jetstream::message_get(first))
    }
    jetstream_requests_of(subject: Subject, first: u64) {
        let (next, last) = (jetstream::message_get_next(&subject, first), jetstream::message_get_last(&subject));
        (next, last, jetstream::message_get_from(first))
    }
    jetstream_server_version(text: String) { jetstream::server_version(&text) }
    jetstream_accepted(answer: String) { jetstream::accepted(answer.as_bytes())? }
    jetstream_stream_info(answer: String) { jetstream::stream_info(answer.as_bytes())? }
    jetstream_batched(block: String, payload: String) { jetstream::batched(block.as_bytes(), payload.into_bytes()) }
    jetstream_logged(namespace: Namespace, subject: String, block: String, headers: Vec<(String, String)>, payload: String) {
        (
            jetstream::logged_block(&namespace, &subject, block.as_bytes(), payload.clone().into_bytes()),
            jetstream::logged(&namespace, &subject, headers, payload.into_bytes()),
        )
    }
    jetstream_stored(headers: Vec<(String, String)>, payload: String) {
        jetstream::stored(headers, payload.into_bytes())
    }
    jetstream_message(answer: String) { jetstream::message(answer.as_bytes())? }
    jetstream_reply(answer: String) { jetstream::reply(answer.as_bytes()) }
}
