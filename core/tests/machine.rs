//! The machine against odd answers, over a journal in memory.

mod lab;

use cim_keys_core::command::Command;
use cim_keys_core::context::Context;
use cim_keys_core::jetstream;
use cim_keys_core::journal::{Hold, Own, Pending, Progress, Ready, State, StreamIdentity};
use cim_keys_core::registry::{Facts, Lookup};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{KEYS_ARCHIVE, keys_archive_stream_config, keys_events_stream_config};
use cim_keys_core::sync::{
    Failure, Input, Machine, Moment, Output, Persist, Persisted, Read, Reply, Send, Status, StreamInfo,
};
use lab::*;

const NOW: Moment = Moment { millis: 0, random: [7; 16] };

struct Desk {
    lab: Lab,
    app: (cim_keys_core::nkey::PublicKey, cim_keys_core::nkey::PublicKey),
    pending: Vec<Pending>,
    held: Vec<Hold>,
    persisted: Vec<Persist>,
    stale: bool,
    /// Milliseconds.
    now: u64,
    machine: Machine,
    /// The archive, where there is one: as its leader says it stands.
    archive: Option<StreamInfo>,
    /// What asking for it gives where there is none.
    silence: Failure,
}

impl Desk {
    /// A founded registry with an account, read up to its end.
    fn new() -> Self {
        let mut lab = Lab::founded();
        let app = lab.account("APP");
        let progress = Progress {
            stream: Some(StreamIdentity { name: "KEYS_EVENTS".into(), created: "then".into() }),
            head: lab.sequence,
            head_digest: lab.stream.last().map(|message| message.digest()),
            ..Progress::default()
        };
        let machine = Machine::new(lab.registry.id().clone(), progress);
        Self {
            lab,
            app,
            pending: vec![],
            held: vec![],
            persisted: vec![],
            stale: false,
            now: 0,
            machine,
            archive: None,
            silence: Failure::StreamMissing,
        }
    }

    /// Writes a command into the journal.
    fn write(&mut self, command: Command, context: Context) {
        let facts: Facts = self.lab.facts(&command, &context);
        let decision = self.lab.decide(&command, &context).unwrap();
        let facts_hash = facts.hash();
        let position = self.pending.len() as u64 + 1;
        let (draft_hash, envelopes) = (decision.draft_hash, decision.envelopes);
        let messages_hash = Some(decision.messages_hash);
        let pending =
            Pending { position, command, context, facts_hash, draft_hash, envelopes, messages_hash };
        self.pending.push(pending);
    }

    fn user(&mut self, name: &str) {
        let keys = self.lab.draw(&[cim_keys_core::nkey::Kind::User]);
        let context = self.lab.context(self.app.1, keys);
        self.write(create_user(self.app.0, name), context);
    }

    /// Hands something in and answers for the store, until the stream is asked or something is waited for.
    fn hand_in(&mut self, input: Input) -> Vec<Output> {
        let now = Moment { millis: self.now, ..NOW };
        let mut outputs = self.machine.handle(input, now);
        let mut sent = Vec::new();
        for _ in 0..100 {
            let Some(answer) = outputs.iter().find_map(|output| self.answer(output)) else {
                outputs.extend(sent);
                return outputs;
            };
            // While it is on its way, the next one is made ready.
            sent.extend(outputs.into_iter().filter(|output| matches!(output, Output::Send(_))));
            outputs = self.machine.handle(answer, now);
        }
        panic!("the store is asked again and again");
    }

    fn answer(&mut self, output: &Output) -> Option<Input> {
        Some(match output {
            Output::ReadFrom { stream, after, limit } if stream == KEYS_ARCHIVE => match self.archive.clone()
            {
                Some(info) => {
                    let there = (after + 1).max(info.first)..=info.last.min(after + u64::from(*limit));
                    let messages =
                        self.lab.stream.iter().filter(|m| there.contains(&m.sequence)).cloned().collect();
                    Input::Read(Read { info, messages })
                }
                None => Input::ReadFailed(self.silence.clone()),
            },
            Output::LoadFacts { scopes } => {
                let facts = self.lab.registry.facts(scopes, false);
                let asked = |p: &&Pending| scopes.contains(&Lookup::Command(p.context.command_id));
                Input::Facts { facts, own: self.pending.iter().filter(asked).map(own).collect() }
            }
            Output::Load { after, .. } => {
                let commands = self.pending.iter().filter(|p| p.position > *after).cloned().collect();
                Input::Loaded { commands, more: false, held_revocations: Vec::new(), revision: 1 }
            }
            Output::Gather { after, .. } => {
                let commands = self.pending.iter().filter(|p| p.position > *after).map(ready).collect();
                Input::Gathered { commands, held_revocations: Vec::new() }
            }
            Output::Persist(_) if self.stale => Input::Persisted(Persisted::Stale),
            Output::Persist(persist) => {
                for entity in &persist.entities {
                    self.lab.registry.put(entity.clone());
                }
                for recorded in &persist.recorded {
                    self.lab.registry.record(recorded.clone());
                }
                let gone = |p: &Pending| {
                    let id = p.context.command_id;
                    persist.confirmed.iter().any(|landed| landed.command_id == id)
                        || persist.held.iter().any(|h| h.command_id == id)
                };
                self.pending.retain(|pending| !gone(pending));
                self.held.extend(persist.held.iter().cloned());
                self.persisted.push((**persist).clone());
                Input::Persisted(Persisted::Ok)
            }
            _ => return None,
        })
    }

    /// Answers a read with what the stream has behind it.
    fn read(&self, outputs: &[Output]) -> Input {
        let Some(after) = asked(outputs) else { panic!("no read in {outputs:?}") };
        let messages = self.lab.stream.iter().filter(|m| m.sequence > after).cloned().collect();
        Input::Read(Read { info: self.info(self.lab.sequence), messages })
    }

    fn info(&self, last: u64) -> StreamInfo {
        StreamInfo {
            identity: StreamIdentity { name: "KEYS_EVENTS".into(), created: "then".into() },
            config: keys_events_stream_config(&self.lab.registry.id().namespace),
            first: 1,
            last,
            first_age: None,
            server: Some((2, 15, 1)),
        }
    }

    /// The same of its archive.
    fn archive(&self, first: u64, last: u64) -> StreamInfo {
        StreamInfo {
            identity: StreamIdentity { name: KEYS_ARCHIVE.into(), created: "then".into() },
            config: keys_archive_stream_config(&self.lab.registry.id().namespace),
            first,
            ..self.info(last)
        }
    }

    /// Begins anew with an empty journal.
    fn fresh(&mut self) {
        self.machine = Machine::new(self.lab.registry.id().clone(), Progress::default());
        let id = self.lab.registry.id().clone();
        self.lab.registry = cim_keys_core::registry::Registry::new(id);
    }

    /// Answers reads of the stream, which has forgotten what comes before `first`, until it does not ask any more.
    fn read_all(&mut self, first: u64) -> Vec<Output> {
        let mut outputs = self.hand_in(Input::Tick);
        while let Some(after) = asked(&outputs) {
            let info = StreamInfo { first, ..self.info(self.lab.sequence) };
            let from = first.max(after + 1);
            let messages = self.lab.stream.iter().filter(|m| m.sequence >= from).cloned().collect();
            outputs = self.hand_in(Input::Read(Read { info, messages }));
        }
        outputs
    }

    /// Ticks until something is sent.
    fn sent(&mut self) -> Send {
        let outputs = self.hand_in(Input::Tick);
        let read = self.read(&outputs);
        let outputs = self.hand_in(read);
        send(&outputs).unwrap_or_else(|| panic!("nothing is sent: {outputs:?}"))
    }
}

fn ready(pending: &Pending) -> Ready {
    Ready {
        position: pending.position,
        command_id: pending.context.command_id,
        attempt: pending.context.attempt,
        command_hash: pending.command.hash(),
        draft_hash: pending.draft_hash,
        authority: pending.context.authority,
        envelopes: pending.envelopes.clone(),
        messages_hash: pending.messages_hash,
    }
}

fn own(pending: &Pending) -> Own {
    Own {
        command_id: pending.context.command_id,
        position: pending.position,
        state: State::Pending,
        draft_hash: pending.draft_hash,
        command_hash: pending.command.hash(),
        authority: pending.context.authority,
    }
}

fn asked(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::ReadFrom { after, .. } => Some(*after),
        _ => None,
    })
}

fn send(outputs: &[Output]) -> Option<Send> {
    outputs.iter().find_map(|output| match output {
        Output::Send(send) => Some(send.clone()),
        _ => None,
    })
}

fn reasons(outputs: &[Output]) -> Vec<(bool, &Reason)> {
    let mut found = Vec::new();
    for output in outputs {
        match output {
            Output::Report(Status::Blocked { reason }) => found.push((true, reason)),
            Output::Report(Status::Waiting { reason, .. }) => found.push((false, reason)),
            _ => {}
        }
    }
    found
}

#[test]
fn a_follower_that_is_behind_is_waited_for() {
    let mut desk = Desk::new();
    let head = desk.lab.sequence;
    // Nothing at all, on the first read.
    desk.hand_in(Input::Tick);
    let outputs = desk.hand_in(Input::Read(Read { info: desk.info(head), messages: Vec::new() }));
    assert!(
        matches!(&reasons(&outputs)[..], [(false, reason)] if reason.code == "read-behind"),
        "{outputs:?}"
    );
    // The message at head, and not what follows.
    desk.hand_in(Input::Tick);
    let messages = desk.lab.stream.last().cloned().into_iter().collect();
    let outputs = desk.hand_in(Input::Read(Read { info: desk.info(head + 2), messages }));
    // It is known again; what follows is asked for, once.
    assert_eq!(asked(&outputs), Some(head));
    let outputs = desk.hand_in(Input::Read(Read { info: desk.info(head + 2), messages: Vec::new() }));
    assert!(
        matches!(&reasons(&outputs)[..], [(false, reason)] if reason.code == "read-behind"),
        "{outputs:?}"
    );
    // What the leader has no more is lost, and a person must know.
    desk.hand_in(Input::Tick);
    let info = StreamInfo { first: head + 2, ..desk.info(head + 2) };
    let outputs = desk.hand_in(Input::Read(Read { info, messages: Vec::new() }));
    assert!(
        matches!(&reasons(&outputs)[..], [(true, reason)] if reason.code == "history-missing"),
        "{outputs:?}"
    );
}

#[test]
fn a_journal_that_somebody_else_moved_is_read_again_and_not_asked_for_ever() {
    // Given a pass over the journal that is due, when the journal's head is another's by then,
    let mut desk = Desk::new();
    let known = desk.machine.progress().clone();
    let progress = Progress { recheck_due: true, archive_missing: true, ..known };
    desk.machine = Machine::new(desk.lab.registry.id().clone(), progress);
    desk.user("alice");
    desk.stale = true;
    let outputs = desk.hand_in(Input::Tick);
    let read = desk.read(&outputs);
    // then the stream is read again, which shows how far it is.
    let outputs = desk.hand_in(read);
    assert!(asked(&outputs).is_some(), "{outputs:?}");
}

#[test]
fn what_waits_for_a_majority_is_waited_for() {
    // Given a server that counts a message which it has not stored yet,
    let mut desk = Desk::new();
    desk.user("ann");
    desk.sent();
    let conflict = || Input::Reply(Reply::Error { code: 10071 });
    // when an append is refused for it, it is read for and tried again at once,
    let outputs = desk.hand_in(conflict());
    let nothing = desk.read(&outputs);
    let outputs = desk.hand_in(nothing);
    assert!(send(&outputs).is_some(), "{outputs:?}");
    // and as long as nothing comes, not without a pause.
    for _ in 0..3 {
        let outputs = desk.hand_in(conflict());
        assert!(asked(&outputs).is_none() && send(&outputs).is_none(), "{outputs:?}");
        assert!(matches!(outputs.last(), Some(Output::Wait { millis: 1.. })), "{outputs:?}");
        desk.sent();
    }
}

#[test]
fn an_odd_answer_holds_a_command_where_it_lasts_and_a_busy_server_holds_none() {
    let answered = |text: &str, pause: u64| {
        let mut desk = Desk::new();
        desk.user("ann");
        for tries in 1..40 {
            desk.sent();
            let outputs = desk.hand_in(Input::Reply(jetstream::reply(text.as_bytes())));
            if let Some(held) = desk.held.first() {
                return Err((tries, desk.now, held.reason.code.clone()));
            }
            if tries == 39 {
                return Ok(reasons(&outputs)
                    .iter()
                    .map(|(_, reason)| reason.code.clone())
                    .collect::<Vec<_>>());
            }
            desk.now += pause;
        }
        unreachable!("it returns")
    };
    // What nobody expects holds a command after five tries, and not within ten seconds.
    let odd = r#"{"error":{"code":400,"err_code":10999,"description":"no"}}"#;
    assert_eq!(answered(odd, 20_000), Err((5, 80_000, "server-refuses".into())));
    assert_eq!(answered(odd, 1_000), Err((11, 10_000, "server-refuses".into())));
    // A server that has too much to do says so by a number of its own.
    for busy in [
        r#"{"error":{"code":429,"err_code":10167,"description":"too many requests"}}"#,
        r#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#,
    ] {
        assert_eq!(answered(busy, 20_000), Ok(vec!["resources".into()]), "{busy}");
    }
}

#[test]
fn only_the_command_that_is_too_large_is_held() {
    let mut desk = Desk::new();
    for name in ["alice", "bob", "carol"] {
        desk.user(name);
    }
    let large = desk.pending[1].context.command_id;
    for _ in 0..20 {
        if desk.pending.is_empty() {
            break;
        }
        let sending = desk.sent();
        let has_it = sending.messages.iter().any(|m| {
            desk.pending.iter().any(|p| p.context.command_id == large && p.envelopes[0].payload == m.payload)
        });
        let reply = if has_it {
            Reply::Error { code: 10054 }
        } else {
            for message in &sending.messages {
                desk.lab.sequence += 1;
                desk.lab.stream.push(cim_keys_core::admission::StoredMessage {
                    sequence: desk.lab.sequence,
                    subject: message.subject.clone(),
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                    time: None,
                });
            }
            Reply::Ack { stream: "KEYS_EVENTS".into(), sequence: desk.lab.sequence, duplicate: false }
        };
        let mut outputs = desk.hand_in(Input::Reply(reply));
        // Each round begins from rest.
        while asked(&outputs).is_some() || send(&outputs).is_some() {
            outputs = desk.hand_in(Input::Disconnected);
        }
    }
    let held: Vec<_> = desk.held.iter().map(|hold| hold.command_id).collect();
    assert_eq!(held, [large]);
    assert!(desk.pending.is_empty());
}

#[test]
fn what_no_reader_would_admit_is_never_sent() {
    // A signature of somebody else's, or bytes that are not those of the draft.
    let swaps: [fn(&mut Desk); 2] = [
        |desk| {
            let other = desk.pending[1].envelopes[0].payload.clone();
            let text = String::from_utf8(desk.pending[0].envelopes[0].payload.clone()).unwrap();
            let other = String::from_utf8(other).unwrap();
            let (head, _) = text.rsplit_once("\"signatures\":\"").unwrap();
            let (_, tail) = other.rsplit_once("\"signatures\":\"").unwrap();
            desk.pending[0].envelopes[0].payload = format!("{head}\"signatures\":\"{tail}").into_bytes();
        },
        |desk| desk.pending[0].envelopes = desk.pending[1].envelopes.clone(),
    ];
    // Whether they were completed here or come from elsewhere.
    for (swap, here) in swaps.into_iter().flat_map(|swap| [(swap, true), (swap, false)]) {
        let mut desk = Desk::new();
        desk.user("alice");
        desk.user("bob");
        desk.pending[1].position = 2;
        if !here {
            desk.pending.iter_mut().for_each(|pending| pending.messages_hash = None);
        }
        swap(&mut desk);
        let damaged = desk.pending[0].context.command_id;
        let sending = desk.sent();
        assert_eq!(desk.held.iter().map(|hold| hold.command_id).collect::<Vec<_>>(), [damaged]);
        assert_eq!(sending.messages.len(), 1, "the others go on");
    }
}

#[test]
fn what_another_host_voided_is_held_and_never_sent() {
    // Given two commands of ours,
    let mut desk = Desk::new();
    desk.user("alice");
    desk.user("bob");
    let ids: Vec<_> = desk.pending.iter().map(|pending| pending.context.command_id).collect();
    // when another host voids the first one with the operator's key, and the other with a key that has no say in it,
    let before = desk.lab.registry.clone();
    let void = |command_id, account| Command::VoidCommand { command_id, account, revoke: None };
    let other = desk.lab.account("OTHER");
    desk.lab.run(void(ids[0], None), desk.lab.founding[OPERATOR_SIGNING]).unwrap();
    desk.lab.run(void(ids[1], Some(other.0)), other.1).unwrap();
    desk.lab.registry = before;
    // then the first is held as what it is, and only the second is sent.
    let sending = desk.sent();
    let held: Vec<_> = desk.held.iter().map(|hold| (hold.command_id, hold.reason.code.as_str())).collect();
    assert_eq!(held, [(ids[0], "voided")]);
    assert_eq!(sending.messages.len(), 1);
    assert_eq!(sending.messages[0].payload, desk.pending[0].envelopes[0].payload);
    let recorded: Vec<_> = desk.persisted.iter().flat_map(|persist| &persist.recorded).collect();
    let voided = recorded.iter().filter(|r| !r.voided.is_empty()).map(|r| r.command_id).collect::<Vec<_>>();
    assert_eq!(voided, ids);
}

#[test]
fn a_void_of_ours_is_recorded_with_its_acknowledgement() {
    // Given a voiding in our journal, and the command that it is about behind it (as whoever took in a bundle has it),
    let mut desk = Desk::new();
    desk.user("alice");
    let id = desk.pending[0].context.command_id;
    let command = Command::VoidCommand { command_id: id, account: None, revoke: None };
    let context = desk.lab.context(desk.lab.founding[OPERATOR_SIGNING], Vec::new());
    desk.write(command, context);
    desk.pending.swap(0, 1);
    (desk.pending[0].position, desk.pending[1].position) = (1, 2);
    // when both are looked at, then only the voiding is sent,
    let progress = Progress { recheck_due: true, ..desk.machine.progress().clone() };
    desk.machine = Machine::new(desk.lab.registry.id().clone(), progress);
    let sending = desk.sent();
    assert_eq!(sending.messages.len(), 1);
    assert_eq!(desk.held.iter().map(|hold| hold.reason.code.as_str()).collect::<Vec<_>>(), ["voided"]);
    // and its acknowledgement is as good as reading it.
    let sequence = desk.lab.sequence + 1;
    desk.hand_in(Input::Reply(Reply::Ack { stream: "KEYS_EVENTS".into(), sequence, duplicate: false }));
    let recorded: Vec<_> = desk.persisted.iter().flat_map(|persist| &persist.recorded).collect();
    let kept: Vec<_> = recorded.iter().map(|r| (r.command_id == id, r.first, r.voided.len())).collect();
    assert_eq!(kept, [(false, sequence, 0), (true, sequence, 1)]);
}

#[test]
fn a_void_goes_alone_and_what_was_made_meanwhile_is_looked_at_behind_it() {
    // Given a voiding between other commands, and the command that it is about kept back,
    let mut desk = Desk::new();
    for name in ["alice", "bob"] {
        desk.user(name);
    }
    let (alice, bob) = (desk.pending.remove(0), desk.pending.remove(0));
    let id = alice.context.command_id;
    let command = Command::VoidCommand { command_id: id, account: None, revoke: None };
    let context = desk.lab.context(desk.lab.founding[OPERATOR_SIGNING], Vec::new());
    desk.write(command, context);
    let voiding = desk.pending.remove(0);
    let at = |position, pending: &Pending| Pending { position, ..pending.clone() };
    desk.pending = vec![at(1, &bob), at(2, &voiding)];
    // when they are sent, then the voiding waits for its own turn,
    let sending = desk.sent();
    assert_eq!((sending.messages.len(), &sending.messages[0].payload), (1, &bob.envelopes[0].payload));
    let ack =
        |sequence| Input::Reply(Reply::Ack { stream: "KEYS_EVENTS".into(), sequence, duplicate: false });
    let head = desk.lab.sequence;
    let outputs = desk.hand_in(ack(head + 1));
    let sending = send(&outputs).unwrap();
    assert_eq!((sending.messages.len(), &sending.messages[0].payload), (1, &voiding.envelopes[0].payload));
    // and what comes into the journal while it is on its way is not sent behind it.
    desk.pending.push(at(3, &alice));
    let outputs = desk.hand_in(ack(head + 2));
    assert!(send(&outputs).is_none());
    assert_eq!(desk.held.iter().map(|hold| hold.reason.code.as_str()).collect::<Vec<_>>(), ["voided"]);
}

fn blocked(outputs: &[Output]) -> &str {
    match &reasons(outputs)[..] {
        [(true, reason)] => &reason.code,
        _ => panic!("not blocked: {outputs:?}"),
    }
}

#[test]
fn what_the_stream_has_forgotten_is_read_from_the_archive() {
    let mut desk = Desk::new();
    let (entities, last) = (desk.lab.registry.entities().count(), desk.lab.sequence);
    for archive_last in [last, last + 3, 7] {
        // Given a new journal, and a stream that has forgotten its first five messages,
        desk.fresh();
        desk.archive = Some(desk.archive(1, archive_last));
        // when it catches up, then it knows everything.
        let outputs = desk.read_all(6);
        assert!(outputs.contains(&Output::Report(Status::Idle)), "{outputs:?}");
        assert_eq!(desk.machine.progress().head, last);
        assert_eq!(desk.lab.registry.entities().count(), entities);
        assert_eq!(desk.machine.progress().archive, desk.archive.clone().map(|info| info.identity));
        assert!(!desk.machine.progress().archive_missing);
    }
}

#[test]
fn half_a_history_is_refused() {
    let code = |change: fn(&mut Desk)| {
        let mut desk = Desk::new();
        desk.fresh();
        desk.archive = Some(desk.archive(1, desk.lab.sequence));
        change(&mut desk);
        let outputs = desk.read_all(6);
        let code = blocked(&outputs).to_owned();
        assert_eq!((desk.machine.progress().head, &desk.machine.progress().stream), (0, &None), "{code}");
        assert!(desk.persisted.is_empty(), "nothing was taken over");
        code
    };
    assert_eq!(code(|desk| desk.archive = None), "history-missing");
    assert_eq!(code(|desk| desk.archive = Some(desk.archive(3, desk.lab.sequence))), "history-missing");
    // An archive made before the stream is that of another one, and so is one with another message.
    let older = |desk: &mut Desk| desk.archive.as_mut().unwrap().identity.created = "tha".into();
    assert_eq!(code(older), "archive-foreign");
    assert_eq!(code(|desk| desk.archive.as_mut().unwrap().config.max_age = 1), "archive-settings");
}

#[test]
fn an_archive_that_does_not_answer_now_is_asked_again_where_it_is_needed() {
    for (silence, code, blocks) in [
        (Failure::Code { code: 10008 }, "api", false),
        (Failure::NoResponders, "no-responders", false),
        (Failure::Unreachable, "unreachable", false),
        (Failure::Permission { subject: "x".into() }, "permission", true),
        (Failure::StreamMissing, "history-missing", true),
    ] {
        let mut desk = Desk::new();
        desk.fresh();
        desk.silence = silence.clone();
        let outputs = desk.read_all(3);
        assert!(
            matches!(&reasons(&outputs)[..], [(blocked, reason)] if *blocked == blocks && reason.code == code),
            "{silence:?}: {outputs:?}"
        );
        // Where nothing is missing, it is done without, unless the server itself is away.
        desk.fresh();
        let outputs = desk.read_all(1);
        assert_eq!(reasons(&outputs).is_empty(), silence != Failure::Unreachable, "{silence:?}: {outputs:?}");
    }
}

#[test]
fn an_archive_that_is_behind_is_waited_for() {
    let mut desk = Desk::new();
    desk.fresh();
    desk.archive = Some(desk.archive(1, 3));
    let outputs = desk.read_all(6);
    assert!(
        matches!(&reasons(&outputs)[..], [(false, reason)] if reason.code == "read-behind"),
        "{outputs:?}"
    );
    assert_eq!(desk.machine.progress().head, 3);
    desk.archive = Some(desk.archive(1, 5));
    let outputs = desk.read_all(6);
    assert!(outputs.contains(&Output::Report(Status::Idle)), "{outputs:?}");
    assert_eq!(desk.machine.progress().head, desk.lab.sequence);
}

#[test]
fn an_archive_made_anew_or_with_another_message_is_not_ours() {
    let mut desk = Desk::new();
    let head = desk.lab.sequence;
    desk.archive = Some(desk.archive(1, head));
    let outputs = desk.read_all(1);
    assert!(outputs.contains(&Output::Report(Status::Idle)), "{outputs:?}");
    // The one that the journal knows is another one: whatever is asked behind the next connection,
    desk.archive.as_mut().unwrap().identity.created = "thereafter".into();
    assert!(!desk.hand_in(Input::Disconnected).is_empty());
    assert_eq!(blocked(&desk.read_all(1)), "archive-foreign");
    // and one with another message at `head` is as good as none: it must not be read, and nothing is missing yet.
    for (missing, code) in [(0, None), (1, Some("archive-foreign"))] {
        let mut desk = Desk::new();
        desk.archive = Some(desk.archive(1, head + missing));
        let outputs = desk.hand_in(Input::Tick);
        let Input::Read(read) = desk.read(&outputs) else { panic!("a read") };
        desk.lab.stream.last_mut().unwrap().payload.push(b' ');
        let (first, last) = if missing > 0 { (head + 2, head + 2) } else { (1, head) };
        let messages = if missing > 0 { Vec::new() } else { read.messages };
        let info = StreamInfo { first, last, ..read.info };
        let outputs = desk.hand_in(Input::Read(Read { info, messages }));
        match code {
            Some(code) => assert_eq!(blocked(&outputs), code),
            None => {
                assert!(outputs.contains(&Output::Report(Status::Idle)), "{outputs:?}");
                assert!(desk.machine.progress().archive_missing);
            }
        }
    }
}

#[test]
fn nothing_is_appended_where_the_stream_forgets_and_no_archive_keeps() {
    const DAY: u64 = 86_400;
    let appends = |age: u64, first: u64, archive: bool| {
        let mut desk = Desk::new();
        desk.user("alice");
        desk.archive = archive.then(|| desk.archive(first, desk.lab.sequence));
        let outputs = desk.hand_in(Input::Tick);
        let Input::Read(read) = desk.read(&outputs) else { panic!("a read") };
        let info = StreamInfo { first_age: Some(age), first, ..read.info };
        let outputs = desk.hand_in(Input::Read(Read { info, ..read }));
        assert_eq!(desk.machine.progress().archive_missing, !archive);
        if send(&outputs).is_some() {
            return true;
        }
        assert_eq!(blocked(&outputs), "archive-missing");
        false
    };
    assert!(appends(60 * DAY - 1, 1, false));
    assert!(!appends(60 * DAY, 1, false));
    assert!(!appends(0, 2, false), "some of it is forgotten already");
    assert!(appends(89 * DAY, 2, true));
}
