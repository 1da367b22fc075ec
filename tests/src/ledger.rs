//! The stream as it is stored, read by hand from its first message, and an auditor who believes nothing else.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding};
use cim_keys::nats::target::{Access, Target};
use cim_keys_core::admission::{Anomaly, Assembler, Group, StoredMessage};
use cim_keys_core::context::RegistryId;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::{ALL, CIM_EVENT_ID, Headers, NATS_MSG_ID};
use cim_keys_core::journal::State;
use cim_keys_core::registry::{EntityId, Lookup, Recorded, Registry};
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::KEYS_EVENTS;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::Desk;
use crate::server::NatsServer;
use crate::wait;
use crate::wire::Client;

/// Everything that the stream of events holds.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Its messages from the first one on; transport headers are in them.
    pub messages: Vec<StoredMessage>,
}

/// What an auditor makes of a ledger.
#[derive(Debug)]
pub struct Audit {
    /// The registry at the end.
    pub registry: Registry,
    /// Messages that changed nothing, by sequence.
    pub anomalies: Vec<Anomaly>,
}

impl Ledger {
    /// Reads it over a connection that may ask the leader for every message.
    ///
    /// # Panics
    /// When the stream cannot be read, or lacks a message.
    pub fn read(client: &mut Client, api_prefix: &str) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.read_on(client, api_prefix);
        ledger
    }

    /// Reads what is stored behind what it has.
    ///
    /// # Panics
    /// See [`read`](Ledger::read).
    pub fn read_on(&mut self, client: &mut Client, api_prefix: &str) {
        let mut ask = |tail: &str, body: &str| -> Value {
            let subject = format!("{api_prefix}.STREAM.{tail}.{KEYS_EVENTS}");
            // A node that was started a moment ago may not know who leads.
            let answer = wait::until(&subject, || {
                let answer = client.request(&subject, &[], body.as_bytes()).expect("an answer").json();
                (answer["error"]["err_code"] != 10008).then_some(answer)
            });
            assert!(answer["error"].is_null(), "{subject} {body}: {answer}");
            answer
        };
        let state = ask("INFO", "")["state"].clone();
        let last = state["last_seq"].as_u64().expect("a last sequence");
        assert!(last == 0 || state["first_seq"] == 1, "the stream begins at its beginning: {state}");
        for sequence in self.last() + 1..=last {
            let message = ask("MSG.GET", &json!({ "seq": sequence }).to_string())["message"].clone();
            assert_eq!(message["seq"], sequence);
            self.messages.push(stored(&message));
        }
    }

    /// Reads it from a server without accounts.
    ///
    /// # Panics
    /// See [`read`](Ledger::read).
    pub fn of(server: &NatsServer) -> Ledger {
        let mut client = Client::connect(server.address()).expect("a connection");
        Ledger::read(&mut client, API_PREFIX)
    }

    /// Reads it as a user of a server in operator mode.
    ///
    /// # Panics
    /// See [`read`](Ledger::read); when the target has no creds.
    pub fn read_as(target: &Target, server: &NatsServer, api_prefix: &str) -> Ledger {
        Ledger::read(&mut connect_as(target, server), api_prefix)
    }

    /// Sequence of the last message.
    pub fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    /// The message of a sequence.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, sequence: u64) -> &StoredMessage {
        let place = usize::try_from(sequence - 1).expect("a small stream");
        &self.messages[place]
    }

    /// Admits from zero.
    ///
    /// # Panics
    /// When a scope was incomplete.
    pub fn audit(&self, id: &RegistryId) -> Audit {
        let mut registry = Registry::new(id.clone());
        let mut anomalies = Vec::new();
        let mut assembler = Assembler::default();
        for group in self.messages.iter().flat_map(|message| assembler.push(message.clone())) {
            let complete = match group {
                Group::Command(complete) => complete,
                Group::Anomaly(anomaly) => {
                    anomalies.push(anomaly);
                    continue;
                }
            };
            let mut facts = registry.facts(&complete.scope(), false);
            match complete.admit(&mut facts).expect("a complete scope") {
                Err(anomaly) => anomalies.push(anomaly),
                Ok(admitted) => {
                    for id in &admitted.changed {
                        registry.put(facts.entity(*id).expect("loaded").expect("changed").clone());
                    }
                    registry.record(admitted.recorded);
                    admitted.voided.into_iter().for_each(|voided| registry.record(voided));
                }
            }
        }
        // What was unfinished is named when something else comes: later than its place.
        anomalies.sort_by(|a, b| a.sequences.cmp(&b.sequences));
        Audit { registry, anomalies }
    }

    /// Checks everything that must hold on a stream that nobody else wrote to: see [`check_with`](Ledger::check_with).
    /// Gives the audit.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check(&self, desks: &[&Desk]) -> Audit {
        let audit = self.check_with(desks);
        assert!(audit.anomalies.is_empty(), "{:?}", audit.anomalies);
        let ids: Vec<&str> = self.messages.iter().filter_map(|m| m.headers.only(CIM_EVENT_ID)).collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!((ids.len(), distinct.len()), (self.messages.len(), ids.len()), "each event stands once");
        audit
    }

    /// Checks what must hold whatever others wrote:
    ///
    /// * every event id stands once among the messages of admitted commands;
    /// * every confirmed command of a desk stands where its journal says, whole, in order and byte for byte, and no event
    ///   of a command that is pending, held or settled counts;
    /// * every admitted command is one of the desks';
    /// * each desk has read everything, and has at `head` exactly what (entities, commands, anomalies) an auditor makes of the stream.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check_with(&self, desks: &[&Desk]) -> Audit {
        let audit = self.audit(&desks[0].registry());
        let recorded: BTreeMap<Uuid, &Recorded> =
            audit.registry.commands().map(|recorded| (recorded.command_id, recorded)).collect();
        let mut ids = BTreeSet::new();
        for recorded in recorded.values() {
            for sequence in recorded.first..=recorded.last {
                let headers = &self.at(sequence).headers;
                let id = headers.only(CIM_EVENT_ID).expect("an event id");
                assert_eq!(headers.only(NATS_MSG_ID), Some(id));
                assert!(ids.insert(id.to_owned()), "event {id} stands twice");
            }
        }
        let mut known = BTreeSet::new();
        for desk in desks {
            for id in desk.commands() {
                known.insert(id);
                self.check_command(desk, id, recorded.get(&id).copied());
            }
            self.check_state(desk, &audit);
        }
        let strange: Vec<&Uuid> = recorded.keys().filter(|id| !known.contains(id)).collect();
        assert!(strange.is_empty(), "admitted commands of nobody: {strange:?}");
        audit
    }

    fn check_command(&self, desk: &Desk, id: Uuid, recorded: Option<&Recorded>) {
        let promised = desk.store().promised(id).expect("a store that works");
        let promised = promised.unwrap_or_else(|| panic!("{id} is lost"));
        let name = promised.command.name();
        if promised.state != State::Confirmed {
            assert!(recorded.is_none(), "{name} {id} is {:?} and on the stream", promised.state);
            return;
        }
        let first = promised.first.expect("the sequence of a confirmed command");
        let recorded = recorded.unwrap_or_else(|| panic!("{name} {id} is confirmed and not on the stream"));
        let last = first + promised.envelopes.len() as u64 - 1;
        assert_eq!((recorded.first, recorded.last), (first, last), "{name} {id}");
        assert_eq!(recorded.draft_hash, promised.draft_hash, "{name} {id}");
        for (sequence, envelope) in (first..).zip(&promised.envelopes) {
            assert_eq!(seven(self.at(sequence)), own(envelope), "{name} {id} at {sequence}");
        }
    }

    fn check_state(&self, desk: &Desk, audit: &Audit) {
        let (store, audited) = (desk.store(), &audit.registry);
        assert_eq!(store.anomalies().expect("a store that works"), audit.anomalies);
        let progress = store.progress().expect("a store that works");
        assert_eq!(progress.head, self.last(), "everything was read");
        assert_eq!(progress.head_digest, self.messages.last().map(StoredMessage::digest));
        let listed = [store.operators(), store.accounts(), store.users(None), store.keys(None)];
        let listed = listed.into_iter().flat_map(|list| list.expect("a store that works"));
        let mut entities: BTreeSet<EntityId> = listed.map(|listed| listed.entity.id()).collect();
        entities.extend(audited.entities().map(|entity| entity.id()));
        let used_up = audited.commands().chain(audited.voided());
        let commands = used_up.map(|recorded| Lookup::Command(recorded.command_id));
        let lookups: Vec<Lookup> = entities.into_iter().map(Lookup::Entity).chain(commands).collect();
        let (facts, _) = store.facts(&lookups, false).expect("a store that works");
        assert_eq!(facts, audited.facts(&lookups, false), "a desk has another registry than an auditor");
        let own = store.own(&desk.commands()).expect("a store that works");
        if own.iter().all(|own| own.state != State::Pending) {
            let (pending, _) = store.facts(&lookups, true).expect("a store that works");
            assert_eq!(pending, facts, "nothing is pending, and yet the overlay says something");
        }
    }
}

/// A connection as the user of a target, to a server in operator mode.
///
/// # Panics
/// When the target has no creds, or the server refuses them.
pub fn connect_as(target: &Target, server: &NatsServer) -> Client {
    let Access::Creds { token, key } = &*target.access else { panic!("no creds: {target:?}") };
    let mut client = Client::connect_with(server.address(), |info| {
        let nonce = info["nonce"].as_str().unwrap_or_default();
        let signature = key.sign(nonce.as_bytes()).expect("a signature");
        json!({ "jwt": token.as_str(), "sig": signature.to_string() })
    })
    .expect("a connection");
    client.set_inbox_prefix(target.inbox_prefix.as_deref().unwrap_or("_INBOX"));
    client
}

/// Subject, the seven headers (which a client writes in any order) and payload: what an envelope is.
type Content = (String, Vec<(String, String)>, String);

fn seven(message: &StoredMessage) -> Content {
    let headers = message.headers.iter().filter(|(name, _)| ALL.contains(name));
    content(&message.subject, headers, &message.payload)
}

fn own(envelope: &Envelope) -> Content {
    content(envelope.subject.as_str(), envelope.headers.iter(), &envelope.payload)
}

fn content<'a>(subject: &str, headers: impl Iterator<Item = (&'a str, &'a str)>, payload: &[u8]) -> Content {
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    headers.sort();
    (subject.to_owned(), headers, String::from_utf8_lossy(payload).into_owned())
}

fn stored(message: &Value) -> StoredMessage {
    let bytes = |name: &str| {
        let text = message[name].as_str().unwrap_or_default();
        Base64::decode_vec(text).expect("base64 of the JetStream API")
    };
    let block = bytes("hdrs");
    let text = String::from_utf8_lossy(&block).into_owned();
    let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_owned(), value.trim().to_owned())
    });
    StoredMessage {
        sequence: message["seq"].as_u64().unwrap_or_default(),
        subject: message["subject"].as_str().unwrap_or_default().to_owned(),
        headers: Headers::received(headers.collect()),
        payload: bytes("data"),
        time: message["time"].as_str().map(ToOwned::to_owned),
    }
}
