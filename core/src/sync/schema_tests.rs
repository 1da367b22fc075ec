//! Readers that know different schemas over one stream: where the older one stops, and where the newer one goes on.
//!
//! There is one schema so far. A *newer* reader here knows the second one, whose forms are those of the first.

use super::contract::{
    Failure, Input, Moment, Output, Overlay, Persisted, Read, Reply, Send, Status, StreamInfo,
};
use super::machine::Machine;
use super::recover::recover;
use crate::admission::{Anomaly, StoredMessage};
use crate::command::{Command, decide_as};
use crate::context::Context;
use crate::draft::Decision;
use crate::event::Fact;
use crate::journal::{Pending, Progress, State, StreamIdentity};
use crate::lab::{Lab, OPERATOR, OPERATOR_SIGNING, create_user, forge, forge_in};
use crate::nkey::{Kind, PublicKey};
use crate::registry::{Entity, EntityId, Lookup, Registry};
use crate::stream::{KEYS_ARCHIVE, keys_archive_stream_config, keys_events_stream_config};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

const NOW: Moment = Moment { millis: 0, random: [7; 16] };
const OLD: u32 = 1;
const NEW: u32 = 2;

/// A host: a journal in memory and the machine over it.
struct Reader {
    registry: Registry,
    progress: Progress,
    anomalies: Vec<Anomaly>,
    messages: Vec<u64>,
    pending: Vec<Pending>,
    held: Vec<String>,
    machine: Machine,
}

impl Reader {
    fn new(known: u32, lab: &Lab) -> Self {
        let (id, progress) = (lab.registry.id().clone(), Progress::default());
        Self {
            registry: Registry::new(id.clone()),
            machine: machine(known, &id, &progress),
            progress,
            anomalies: Vec::new(),
            messages: Vec::new(),
            pending: Vec::new(),
            held: Vec::new(),
        }
    }

    /// The same journal under another version of the program.
    fn becomes(&mut self, known: u32) {
        self.machine = machine(known, self.registry.id(), &self.progress);
    }

    /// Ticks, and answers until nothing is asked any more: what the machine said last.
    fn run(&mut self, lab: &Lab, first: u64) -> Vec<Output> {
        self.hand_in(Input::Tick, lab, first)
    }

    fn hand_in(&mut self, input: Input, lab: &Lab, first: u64) -> Vec<Output> {
        let mut outputs = self.machine.handle(input, NOW);
        for _ in 0..100 {
            let Some(answer) = outputs.iter().find_map(|output| self.answer(output, lab, first)) else {
                return outputs;
            };
            outputs = self.machine.handle(answer, NOW);
        }
        panic!("it is asked again and again");
    }

    fn answer(&mut self, output: &Output, lab: &Lab, first: u64) -> Option<Input> {
        Some(match output {
            Output::ReadFrom { stream, after, limit } => {
                let is_archive = stream == KEYS_ARCHIVE;
                let info = info(lab, is_archive, first);
                let from = info.first.max(after + 1);
                let messages = lab.stream.iter().filter(|m| m.sequence >= from).take(*limit as usize);
                if is_archive && first == 1 {
                    return Some(Input::ReadFailed(Failure::StreamMissing));
                }
                Input::Read(Read { info, messages: messages.cloned().collect() })
            }
            Output::LoadFacts { scopes } => {
                let asked = |p: &&Pending| scopes.contains(&Lookup::Command(p.context.command_id));
                let own =
                    self.pending.iter().filter(asked).map(|pending| pending.own(State::Pending)).collect();
                Input::Facts { facts: self.registry.facts(scopes, false), own }
            }
            Output::Load { after, .. } => {
                let commands = self.pending.iter().filter(|p| p.position > *after).cloned().collect();
                Input::Loaded { commands, more: false, held_revocations: Vec::new(), revision: 1 }
            }
            Output::Gather { after, .. } => {
                let commands =
                    self.pending.iter().filter(|p| p.position > *after).map(Pending::ready).collect();
                Input::Gathered { commands, held_revocations: Vec::new() }
            }
            Output::Persist(persist) => {
                assert_eq!(persist.expect_head, self.progress.head);
                self.progress = persist.progress.clone();
                self.anomalies.extend(persist.anomalies.iter().cloned());
                self.messages.extend(persist.messages.iter().map(|message| message.sequence));
                persist.entities.iter().for_each(|entity| self.registry.put(entity.clone()));
                persist.recorded.iter().for_each(|recorded| self.registry.record(recorded.clone()));
                match &persist.overlay {
                    Overlay::Keep => {}
                    Overlay::Settle { position } => self.registry.settle_overlay(*position),
                    Overlay::Replace { until, entities } => {
                        self.registry.drop_overlay(*until);
                        for (position, entity) in entities {
                            self.registry.put_overlay(*position, entity.clone());
                        }
                    }
                }
                self.held.extend(persist.held.iter().map(|hold| hold.reason.code.clone()));
                let gone = |p: &Pending| {
                    let id = p.context.command_id;
                    persist.confirmed.iter().any(|landed| landed.command_id == id)
                        || persist.held.iter().any(|hold| hold.command_id == id)
                };
                self.pending.retain(|pending| !gone(pending));
                Input::Persisted(Persisted::Ok)
            }
            _ => return None,
        })
    }

    /// Decides as a version that knows this schema, and writes it into the journal.
    fn write(&mut self, known: u32, lab: &mut Lab, command: Command, authority: PublicKey) -> Decision {
        let keys = lab.draw(&command.keys());
        let context = lab.context(authority, keys);
        let facts = self.registry.facts(&command.scope(&context, self.registry.id()), true);
        let decision = lab.sign(decide_as(known, &facts, &command, &context).unwrap());
        self.pending.push(Pending {
            position: self.pending.last().map_or(0, |last| last.position) + 1,
            command,
            context,
            facts_hash: facts.hash(),
            draft_hash: decision.draft_hash,
            envelopes: decision.envelopes.clone(),
            messages_hash: Some(decision.messages_hash),
        });
        decision
    }

    fn level(&self) -> u32 {
        let facts =
            self.registry.facts(&[Lookup::Entity(EntityId::Operator(self.registry.id().operator))], false);
        let level = facts.level().unwrap();
        assert_eq!(self.progress.level(), level, "both say the same");
        level
    }
}

fn machine(known: u32, id: &crate::context::RegistryId, progress: &Progress) -> Machine {
    let mut machine = Machine::new(id.clone(), progress.clone());
    machine.known_schema = known;
    machine
}

fn info(lab: &Lab, is_archive: bool, first: u64) -> StreamInfo {
    let namespace = &lab.registry.id().namespace;
    let (name, config) = if is_archive {
        (KEYS_ARCHIVE, keys_archive_stream_config(namespace))
    } else {
        ("KEYS_EVENTS", keys_events_stream_config(namespace))
    };
    StreamInfo {
        identity: StreamIdentity { name: name.into(), created: "then".into() },
        config,
        first: if is_archive { 1 } else { first },
        last: lab.sequence,
        first_age: None,
        server: Some((2, 15, 1)),
    }
}

fn sent(outputs: &[Output]) -> Option<&Send> {
    outputs.iter().find_map(|output| match output {
        Output::Send(send) => Some(send),
        _ => None,
    })
}

/// It says so, drops the connection and does nothing but look again from time to time.
#[track_caller]
fn asks_for_an_upgrade(outputs: &[Output]) {
    let [Output::Drop, Output::Report(Status::Blocked { reason }), Output::Wait { millis: 30_000 }] = outputs
    else {
        panic!("not blocked: {outputs:?}");
    };
    assert_eq!(reason.code, "newer-schema");
    assert!(
        reason.text.starts_with("this registry asks for schema 2, this version knows 1: upgrade"),
        "{}",
        reason.text
    );
}

/// A command as it stands on the stream, whoever wrote it.
fn publish(lab: &mut Lab, context: &Context, schema: u32, fact: Fact, entity: PublicKey) {
    let forged = forge_in(schema, lab, context, vec![(entity, fact, None)]);
    append(lab, &forged);
}

/// Onto the stream alone: what a reader makes of it is its own affair.
fn append(lab: &mut Lab, envelopes: &[crate::envelope::Envelope]) {
    for envelope in envelopes {
        lab.sequence += 1;
        lab.stream.push(StoredMessage {
            sequence: lab.sequence,
            subject: envelope.subject.as_str().into(),
            headers: envelope.headers.clone(),
            payload: envelope.payload.clone(),
            time: None,
        });
    }
}

fn raise(lab: &mut Lab, level: u32) -> u64 {
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let context = lab.context(signing, Vec::new());
    publish(lab, &context, 1, Fact::SchemaRaised { level }, operator);
    lab.sequence
}

/// A free key that the operator's signing key vouches for, in this version of the schema.
fn key(lab: &mut Lab, schema: u32) -> PublicKey {
    let key = lab.draw(&[Kind::Curve])[0];
    let context = lab.context(lab.founding[OPERATOR_SIGNING], Vec::new());
    publish(lab, &context, schema, Fact::KeyGenerated { owner: None, label: None }, key);
    key
}

/// A founded registry with an account, and what came before the level was raised.
fn lab() -> (Lab, (PublicKey, PublicKey)) {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    (lab, app)
}

#[test]
fn an_old_reader_stops_at_the_raise_and_a_newer_one_goes_on_from_there() {
    // Given two pending commands, and a level that somebody else raised, with more of every kind behind it,
    let (mut lab, app) = lab();
    let mut reader = Reader::new(OLD, &lab);
    reader.run(&lab, 1);
    reader.write(OLD, &mut lab, create_user(app.0, "alice"), app.1);
    let signing = lab.founding[OPERATOR_SIGNING];
    reader.write(
        OLD,
        &mut lab,
        Command::CreateAccount { name: "B".into(), limits: Default::default() },
        signing,
    );
    let waits = reader.pending.clone();
    let raised = raise(&mut lab, 2);
    let old_form = key(&mut lab, 1);
    let new_form = key(&mut lab, 2);
    let again = lab.context(signing, Vec::new());
    let operator = lab.founding[OPERATOR];
    publish(&mut lab, &again, 1, Fact::SchemaRaised { level: 2 }, operator);
    // when a version reads it that does not know the level, because its own append was late,
    assert!(sent(&reader.run(&lab, 1)).is_some());
    let outputs = reader.hand_in(Input::Reply(Reply::Error { code: 10071 }), &lab, 1);
    // then it stops there: nothing behind is read, folded or called an anomaly, and nothing is sent,
    asks_for_an_upgrade(&outputs);
    assert_eq!((reader.progress.head, reader.level()), (raised, 2));
    let digest = lab.stream.iter().find(|message| message.sequence == raised).map(StoredMessage::digest);
    assert_eq!(reader.progress.head_digest, digest);
    assert_eq!(reader.messages.last(), Some(&raised));
    assert!(reader.anomalies.is_empty() && reader.registry.entities().all(|e| e.key() != old_form));
    assert_eq!((&reader.pending, reader.held.len()), (&waits, 0));
    // not on the next look, not by the log, not behind a new connection, and not where it is started anew;
    asks_for_an_upgrade(&reader.run(&lab, 1));
    let next = lab.stream.iter().find(|message| message.sequence == raised + 1).cloned().unwrap();
    assert_eq!(reader.hand_in(Input::Tail(next), &lab, 1), Vec::new());
    assert_eq!(reader.hand_in(Input::Disconnected, &lab, 1), Vec::new());
    reader.becomes(OLD);
    asks_for_an_upgrade(&reader.run(&lab, 1));
    // and nothing can be decided.
    let context = lab.context(signing, Vec::new());
    let command = Command::RevokeKey { key: signing, owner: None };
    let facts = reader.registry.facts(&command.scope(&context, reader.registry.id()), true);
    assert_eq!(crate::command::decide(&facts, &command, &context).unwrap_err().code(), "newer-schema");
    assert_eq!((reader.progress.head, &reader.pending), (raised, &waits));
    // When the program is upgraded, then the same journal goes on from that head,
    reader.becomes(NEW);
    let outputs = reader.run(&lab, 1);
    for key in [old_form, new_form] {
        assert!(reader.registry.entities().any(|e| e.key() == key), "{outputs:?}");
    }
    let [anomaly] = &reader.anomalies[..] else { panic!("{:?}", reader.anomalies) };
    assert_eq!((&anomaly.sequences[..], anomaly.reason.code.as_str()), (&[lab.sequence][..], "schema-level"));
    assert_eq!(reader.messages, (1..=lab.sequence).collect::<Vec<_>>(), "each message once");
    // and what was pending goes out as it was decided.
    let send = sent(&outputs).unwrap();
    let bytes: Vec<_> = send.messages.iter().map(|message| &message.payload).collect();
    assert_eq!(bytes, waits.iter().flat_map(|p| &p.envelopes).map(|e| &e.payload).collect::<Vec<_>>());
    assert_eq!(
        send.messages[0].headers.only("Nats-Expected-Last-Sequence"),
        Some(&*lab.sequence.to_string())
    );
    // A newer reader that reads all of it at once has the same.
    let mut fresh = Reader::new(NEW, &lab);
    fresh.run(&lab, 1);
    reader.registry.drop_overlay(None);
    assert_eq!((&fresh.registry, &fresh.anomalies), (&reader.registry, &reader.anomalies));
    assert_eq!(fresh.level(), 2);
}

#[test]
fn the_log_and_the_archive_stop_it_as_well() {
    // Given a reader that follows, when the raise and more come by the log,
    let (mut lab, _) = lab();
    let mut reader = Reader::new(OLD, &lab);
    let outputs = reader.run(&lab, 1);
    assert!(outputs.contains(&Output::Report(Status::Idle)), "{outputs:?}");
    let raised = raise(&mut lab, 2);
    let outputs = reader.hand_in(Input::Tail(lab.stream.last().cloned().unwrap()), &lab, 1);
    // then it stops.
    asks_for_an_upgrade(&outputs);
    assert_eq!((reader.progress.head, reader.level()), (raised, 2));
    // Given a stream that has forgotten the raise, when a new reader takes it from the archive, then it stops there too.
    key(&mut lab, 1);
    key(&mut lab, 2);
    let mut late = Reader::new(OLD, &lab);
    asks_for_an_upgrade(&late.run(&lab, lab.sequence));
    assert_eq!((late.progress.head, late.level(), late.messages.last()), (raised, 2, Some(&raised)));
    assert!(late.progress.archive.is_some(), "it was read from the archive");
}

#[test]
fn above_the_level_in_force_is_an_anomaly_for_every_reader() {
    // Given messages of a newer schema before anybody raised the level: alone, as a part of a command, and of another form,
    let (mut lab, _) = lab();
    let start = lab.sequence;
    key(&mut lab, 2);
    let keys = lab.draw(&[Kind::Curve, Kind::Curve, Kind::Curve]);
    let context = lab.context(lab.founding[OPERATOR_SIGNING], Vec::new());
    let said = |key: &PublicKey| (*key, Fact::KeyGenerated { owner: None, label: None }, None);
    let mut mixed = forge(&lab, &context, keys.iter().map(said).collect());
    let newer = forge_in(2, &lab, &context, keys.iter().map(said).collect());
    mixed[1] = newer[1].clone();
    append(&mut lab, &mixed);
    let good = key(&mut lab, 1);
    key(&mut lab, 2);
    let strange = lab.stream.last_mut().unwrap();
    let text = String::from_utf8(strange.payload.clone()).unwrap();
    strange.payload = text.replace("\"specversion\"", "\"sequel\":{},\"specversion\"").into_bytes();
    // when an old and a newer version read them,
    let [old, new] = [OLD, NEW].map(|known| {
        let mut reader = Reader::new(known, &lab);
        reader.run(&lab, 1);
        reader
    });
    // then they are anomalies for both, and both have the same state.
    for reader in [&old, &new] {
        let mut odd: Vec<u64> = reader.anomalies.iter().flat_map(|a| a.sequences.clone()).collect();
        odd.sort_unstable();
        assert_eq!(odd, [1, 2, 3, 4, 6].map(|place| start + place));
        assert!(reader.anomalies.iter().any(|a| a.reason.code == "event-schema"));
        assert_eq!((reader.progress.head, reader.level()), (lab.sequence, 1));
        assert!(reader.registry.entities().any(|e| e.key() == good));
    }
    assert_eq!(old.registry, new.registry);
    let code = |reader: &Reader, sequence: u64| {
        reader.anomalies.iter().find(|a| a.sequences.contains(&sequence)).map(|a| a.reason.code.clone())
    };
    assert_eq!(code(&old, start + 6).as_deref(), Some("event-schema"), "of whatever form");
    assert_eq!(code(&new, start + 1).as_deref(), Some("event-schema"));
}

#[test]
fn the_raise_is_an_anomaly_in_any_other_form_or_place() {
    let (mut lab, app) = lab();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let own = |level| (operator, Fact::SchemaRaised { level }, None);
    let free = lab.draw(&[Kind::Curve])[0];
    let beside = (free, Fact::KeyGenerated { owner: None, label: None }, None);
    for (authority, schema, said, code) in [
        (app.1, 1, vec![own(2)], "authority"),
        (app.0, 1, vec![own(2)], "authority"),
        (signing, 1, vec![own(1)], "schema-level"),
        (signing, 1, vec![own(0)], "schema-level"),
        (signing, 1, vec![own(2), beside.clone()], "not-alone"),
        (signing, 1, vec![beside, own(2)], "not-alone"),
        (signing, 2, vec![own(2)], "event-schema"),
        (signing, 1, vec![(app.0, Fact::SchemaRaised { level: 2 }, None)], "unknown"),
    ] {
        let context = lab.context(authority, Vec::new());
        let count = said.len() as u64;
        let forged = forge_in(schema, &lab, &context, said);
        append(&mut lab, &forged);
        for known in [OLD, NEW] {
            let mut reader = Reader::new(known, &lab);
            reader.run(&lab, 1);
            let last = reader.anomalies.last().unwrap();
            assert_eq!((last.reason.code.as_str(), last.sequences.len() as u64), (code, count), "{known}");
            assert_eq!((reader.progress.head, reader.level()), (lab.sequence, 1));
        }
    }
    // By the identity key, and by as many levels as is wanted.
    let context = lab.context(operator, Vec::new());
    publish(&mut lab, &context, 1, Fact::SchemaRaised { level: 7 }, operator);
    let mut reader = Reader::new(NEW, &lab);
    reader.run(&lab, 1);
    assert_eq!((reader.progress.head, reader.level()), (lab.sequence, 7));
}

#[test]
fn a_raise_of_our_own_is_noted_when_it_is_confirmed() {
    // Given a newer version that raises the level, and goes on,
    let (mut lab, app) = lab();
    let mut reader = Reader::new(NEW, &lab);
    reader.run(&lab, 1);
    let signing = lab.founding[OPERATOR_SIGNING];
    let raising = reader.write(NEW, &mut lab, Command::RaiseSchema { level: 2 }, signing);
    let operator = raised_operator(&reader, &reader.pending[0]);
    reader.registry.put_overlay(1, operator);
    reader.write(NEW, &mut lab, create_user(app.0, "alice"), app.1);
    // when an older version takes over the journal before anything is sent, then it sends nothing,
    let waits = reader.pending.clone();
    reader.becomes(OLD);
    asks_for_an_upgrade(&reader.run(&lab, 1));
    assert_eq!((&reader.pending, reader.held.len()), (&waits, 0));
    // nor does it hold anything, where all of it is due to be checked again;
    reader.progress.recheck_due = true;
    reader.becomes(OLD);
    asks_for_an_upgrade(&reader.run(&lab, 1));
    assert_eq!((&reader.pending, reader.held.len()), (&waits, 0));
    // when the newer one sends it, then what was confirmed is noted,
    reader.becomes(NEW);
    let outputs = reader.run(&lab, 1);
    assert_eq!(sent(&outputs).map(|send| send.messages.len()), Some(2));
    append(&mut lab, &raising.envelopes);
    append(&mut lab, &waits[1].envelopes);
    let ack = Reply::Ack { stream: "KEYS_EVENTS".into(), sequence: lab.sequence, duplicate: false };
    reader.hand_in(Input::Reply(ack), &lab, 1);
    assert!(reader.pending.is_empty());
    assert_eq!((reader.level(), reader.progress.head), (2, lab.sequence));
    // and an older version is stopped from then on.
    reader.becomes(OLD);
    asks_for_an_upgrade(&reader.run(&lab, 1));
}

fn raised_operator(reader: &Reader, pending: &Pending) -> Entity {
    let Command::RaiseSchema { level } = pending.command else { panic!("a raise") };
    let operator = reader.registry.entities().find_map(|entity| match entity {
        Entity::Operator(operator) => Some(operator.clone()),
        _ => None,
    });
    Entity::Operator(crate::registry::Operator {
        schema: level,
        updated: pending.context.now,
        ..operator.unwrap()
    })
}

#[test]
fn a_journal_is_made_anew_up_to_the_raise() {
    // Given a stream that went back to behind a raise that this version does not know,
    let (mut lab, _) = lab();
    let raised = raise(&mut lab, 2);
    let unread = key(&mut lab, 1);
    key(&mut lab, 2);
    let kept = lab.sequence - 1;
    // when the journal is made anew, then it ends at the raise.
    let before = Progress { head: lab.sequence, ..Progress::default() };
    let found = recover(lab.registry.id().clone(), &before, kept, None, lab.stream.clone(), &[]).unwrap();
    let digest = lab.stream.iter().find(|message| message.sequence == raised).map(StoredMessage::digest);
    assert_eq!(
        (found.progress.head, found.progress.level(), found.progress.head_digest),
        (raised, 2, digest)
    );
    assert!(found.anomalies.is_empty() && found.registry.entities().all(|e| e.key() != unread));
    assert_eq!(found.lost.iter().map(|lost| lost.sequence).collect::<Vec<_>>(), [lab.sequence]);
    // Where the raise is lost itself, the level is as it was.
    let found =
        recover(lab.registry.id().clone(), &before, raised - 1, None, lab.stream.clone(), &[]).unwrap();
    assert_eq!((found.progress.head, found.progress.level()), (raised - 1, 1));
}

#[test]
fn what_is_decided_by_whom() {
    let (mut lab, app) = lab();
    let signing = lab.founding[OPERATOR_SIGNING];
    let context = lab.context(signing, Vec::new());
    let try_to = |lab: &Lab, known: u32, level: u32, context: &Context| {
        let command = Command::RaiseSchema { level };
        decide_as(known, &lab.facts(&command, context), &command, context)
    };
    for (known, level, code) in
        [(1, 2, "unknown-schema"), (2, 3, "unknown-schema"), (1, 1, "schema-level"), (2, 0, "schema-level")]
    {
        assert_eq!(try_to(&lab, known, level, &context).unwrap_err().code(), code, "{known} {level}");
    }
    let by_account = lab.context(app.1, Vec::new());
    assert_eq!(try_to(&lab, 2, 2, &by_account).unwrap_err().code(), "authority");
    let draft = try_to(&lab, 2, 2, &context).unwrap();
    let [event] = draft.events() else { panic!("one event") };
    assert_eq!(
        (event.schema, event.entity, &event.fact),
        (1, lab.founding[OPERATOR], &Fact::SchemaRaised { level: 2 })
    );
    // What a newer version decides has the form of whoever knew the first schema.
    let decision = lab.sign(draft);
    let payload = String::from_utf8(decision.envelopes[0].payload.clone()).unwrap();
    assert!(
        payload.contains(&format!("\"dataschema\":\"urn:cim-keys:schema:keys.schema.raised:{}\"", 1)),
        "{payload}"
    );
    lab.publish(&decision).unwrap();
    // The level is not raised twice, and not back.
    let context = lab.context(signing, Vec::new());
    assert_eq!(try_to(&lab, 2, 2, &context).unwrap_err().code(), "schema-level");
    assert_eq!(try_to(&lab, 1, 2, &context).unwrap_err().code(), "newer-schema");
    assert!(try_to(&lab, 3, 3, &context).is_ok());
}
