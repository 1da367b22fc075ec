//! Given where an event stands, when an answer comes, then what follows.

use super::*;
use crate::admission::StoredMessage;
use crate::headers::{CimEvent, HeaderError, Headers, NATS_MSG_ID};
use crate::journal::StreamIdentity;
use crate::stream::keys_events_stream_config;
use crate::subjects::{Namespace, Subject, Token};
use crate::sync::{Failure, Moment, Persisted, Reply, Status, StreamInfo};
use crate::time::Timestamp;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::format;
use uuid::Uuid;

const STREAM: &str = "ORDERS";

fn event(number: u128) -> DomainEvent {
    DomainEvent {
        subject: "cowboyai.security.orders.order.placed".parse().unwrap(),
        event: CimEvent {
            correlation_id: Uuid::from_u128(1),
            causation_id: Uuid::from_u128(2),
            event_type: "orders.order.placed".into(),
            timestamp: Timestamp::from_millis(0).unwrap(),
            message_id: Uuid::from_u128(number),
        },
        source: "orders".into(),
        trace: None,
        headers: vec![("Content-Type".into(), "text/plain".into())],
        payload: format!("order {number}").into_bytes(),
        expected: None,
    }
}

#[test]
fn the_trace_is_carried_and_is_no_part_of_the_event() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let without = checked(&event(1)).unwrap();
    let with = checked(&DomainEvent { trace: trace.parse().ok(), ..event(1) }).unwrap();
    assert_eq!((with.headers.only("traceparent"), without.headers.only("traceparent")), (Some(trace), None));
    assert_eq!(with.headers.iter().count(), 9);
    assert_eq!(with.digest(), without.digest(), "a repeated call has a trace of its own");
    let headers = vec![("TraceParent".into(), trace.into())];
    let twice = checked(&DomainEvent { headers, ..event(1) });
    assert_eq!(twice, Err(EventError::ReservedHeader { name: "TraceParent".into() }));
}

fn checked(event: &DomainEvent) -> Result<Message, EventError> {
    event.check(&Namespace::default())
}

fn waiting(number: u64) -> Waiting {
    let message = checked(&event(number.into())).unwrap();
    Waiting { position: number, message, attempt: None }
}

fn tried(number: u64, last: u64) -> Waiting {
    Waiting { attempt: Some(stood(last)), ..waiting(number) }
}

fn expecting(mut waiting: Waiting, sequence: u64) -> Waiting {
    waiting.message.expected = Some(sequence);
    waiting
}

fn stood(last: u64) -> Attempt {
    Attempt { created: "then".into(), last }
}

fn info(last: u64) -> StreamInfo {
    let mut config = keys_events_stream_config(&Namespace::default());
    config.name = STREAM.into();
    let identity = StreamIdentity { name: STREAM.into(), created: "then".into() };
    StreamInfo { identity, config, first: 1, first_age: None, last, server: None }
}

/// What the stream holds where this event was stored.
fn stored(waiting: &Waiting, sequence: u64) -> StoredMessage {
    StoredMessage {
        sequence,
        subject: waiting.message.subject.to_string(),
        headers: waiting.message.headers.clone(),
        payload: waiting.message.payload.clone(),
        time: None,
    }
}

fn found(last: u64, messages: &[StoredMessage], complete: bool) -> Input {
    Input::Found(Found { info: info(last), messages: messages.to_vec(), complete })
}

fn ack(sequence: u64, duplicate: bool) -> Input {
    Input::Reply(Reply::Ack { stream: STREAM.into(), sequence, duplicate })
}

fn error(code: u32) -> Input {
    Input::Reply(Reply::Error { code })
}

/// A machine, and what it says.
struct Scene {
    publisher: Publisher,
    millis: u64,
}

impl Scene {
    /// With these events loaded; gives what it asks first.
    fn with(events: &[Waiting]) -> (Self, Vec<Output>) {
        let publisher = Publisher::new(STREAM.parse().unwrap());
        let mut scene = Self { publisher, millis: 0 };
        assert_eq!(scene.when(Input::Tick), [Output::Load { limit: 32 }]);
        let outputs = scene.when(Input::Loaded(events.to_vec()));
        (scene, outputs)
    }

    /// With this event on its way, tried first when the stream ended at 10.
    fn flying(event: &Waiting) -> Self {
        let (mut scene, outputs) = Self::with(core::slice::from_ref(event));
        assert_eq!(outputs, [Output::Look]);
        let outputs = scene.when(Input::Looked(info(10)));
        let attempt = Some((event.position, stood(10)));
        assert_eq!(outputs, [Output::Persist(Persist { settled: None, attempt })]);
        assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [publish(event)]);
        scene
    }

    fn when(&mut self, input: Input) -> Vec<Output> {
        self.millis += 1;
        self.publisher.handle(input, Moment { millis: self.millis, random: [3; 16] })
    }

    /// It pauses, then asks this.
    fn after_pause(&mut self, outputs: &[Output]) -> Vec<Output> {
        assert!(matches!(outputs.last(), Some(Output::Wait { .. })), "{outputs:?}");
        self.when(Input::Tick)
    }
}

fn publish(waiting: &Waiting) -> Output {
    let mut headers = waiting.message.headers.clone();
    headers.push("Nats-Expected-Stream", STREAM).unwrap();
    if let Some(expected) = waiting.message.expected {
        headers.push("Nats-Expected-Last-Subject-Sequence", &expected.to_string()).unwrap();
    }
    let message = waiting.message.clone();
    Output::Publish { subject: message.subject, headers, payload: message.payload }
}

fn find(after: u64) -> Vec<Output> {
    vec![Output::Find { subject: event(1).subject, after, limit: 64 }]
}

fn settled(position: u64, outcome: Outcome) -> Vec<Output> {
    vec![Output::Persist(Persist { settled: Some((position, outcome)), attempt: None })]
}

fn published(sequence: u64) -> Outcome {
    Outcome::Published { sequence }
}

#[test]
fn an_acknowledgement_settles_it_and_the_next_one_goes_out_in_the_same_breath() {
    let (mut scene, _) = Scene::with(&[waiting(1), waiting(2)]);
    let _ = scene.when(Input::Looked(info(10)));
    assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [publish(&waiting(1))]);
    let both = Persist { settled: Some((1, published(14))), attempt: Some((2, stood(14))) };
    assert_eq!(scene.when(ack(14, false)), [Output::Persist(both)]);
    assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [publish(&waiting(2))]);
    assert_eq!(scene.when(ack(15, false)), settled(2, published(15)));
    assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [Output::Load { limit: 32 }]);
    assert_eq!(scene.when(Input::Loaded(Vec::new())), [Output::Report(Status::Idle)]);
}

#[test]
fn nothing_is_sent_before_the_journal_says_where_the_stream_stood() {
    let (mut scene, _) = Scene::with(&[waiting(1)]);
    let _ = scene.when(Input::Looked(info(10)));
    let outputs = scene.when(Input::Persisted(Persisted::Failed { reason: "full".into() }));
    assert!(matches!(
        outputs[..],
        [Output::Drop, Output::Report(Status::Blocked { .. }), Output::Wait { .. }]
    ));
    assert_eq!(scene.after_pause(&outputs), [Output::Look]);
    let _ = scene.when(Input::Looked(info(10)));
    assert_eq!(scene.when(Input::Persisted(Persisted::Stale)), [Output::Load { limit: 32 }]);
}

#[test]
fn whatever_is_in_doubt_is_looked_for_from_where_the_stream_stood() {
    let doubts = [
        Input::Reply(Reply::Unknown),
        Input::Disconnected,
        Input::Reply(Reply::NoResponders),
        error(10158),
        error(10164),
        error(10077),
        error(99_999),
        // An acknowledgement of what was there before.
        ack(10, false),
    ];
    for doubt in doubts {
        let mut scene = Scene::flying(&waiting(1));
        let outputs = scene.when(doubt.clone());
        let drops = outputs.contains(&Output::Drop);
        assert_eq!(drops, doubt == Input::Reply(Reply::Unknown), "{doubt:?}: {outputs:?}");
        assert_eq!(scene.after_pause(&outputs), find(10), "{doubt:?}");
        // It was stored.
        let outputs = scene.when(found(12, &[stored(&waiting(1), 12)], true));
        assert_eq!(outputs, settled(1, published(12)), "{doubt:?}");
        // It was not: the same bytes again, and the journal keeps where the stream stood at first.
        let mut scene = Scene::flying(&waiting(1));
        let outputs = scene.when(doubt);
        let _ = scene.after_pause(&outputs);
        let other = stored(&waiting(7), 11);
        assert_eq!(scene.when(found(12, &[other], true)), [publish(&waiting(1))]);
    }
}

#[test]
fn a_crash_between_journal_and_answer_is_looked_for_too() {
    let (mut scene, outputs) = Scene::with(&[tried(1, 10), waiting(2)]);
    assert_eq!(outputs, find(10));
    let both = Persist { settled: Some((1, published(11))), attempt: Some((2, stood(30))) };
    assert_eq!(scene.when(found(30, &[stored(&waiting(1), 11)], false)), [Output::Persist(both)]);
}

#[test]
fn only_the_leader_can_say_that_it_is_not_there() {
    let (mut scene, _) = Scene::with(&[tried(1, 10)]);
    let page = [stored(&waiting(5), 11), stored(&waiting(6), 12)];
    assert_eq!(scene.when(found(30, &page, false)), find(12));
    let outputs = scene.when(found(31, &[], false));
    assert!(
        matches!(&outputs[0], Output::Report(Status::Waiting { reason, .. }) if reason.code == "read-behind")
    );
    assert_eq!(scene.after_pause(&outputs), find(10));
    // What others append meanwhile is not waited for.
    assert_eq!(scene.when(found(30, &page, false)), find(12));
    assert_eq!(scene.when(found(40, &[stored(&waiting(7), 31)], false)), [publish(&waiting(1))]);
}

#[test]
fn a_stream_that_is_another_one_or_went_back_is_searched_from_its_beginning() {
    let mut anew = info(30);
    anew.identity.created = "now".into();
    for info in [anew, info(9)] {
        let (mut scene, _) = Scene::with(&[tried(1, 10)]);
        let found = |messages: &[StoredMessage]| {
            Input::Found(Found { info: info.clone(), messages: messages.to_vec(), complete: true })
        };
        assert_eq!(scene.when(found(&[])), find(0));
        assert_eq!(scene.when(found(&[])), [publish(&waiting(1))]);
        let (mut scene, _) = Scene::with(&[tried(1, 10)]);
        let _ = scene.when(found(&[]));
        assert_eq!(scene.when(found(&[stored(&waiting(1), 3)])), settled(1, published(3)));
    }
}

#[test]
fn duplicate_proves_nothing_by_itself() {
    let asked = [Output::Get(Wanted::Sequence(4))];
    let mut scene = Scene::flying(&waiting(1));
    assert_eq!(scene.when(ack(4, true)), asked);
    assert_eq!(scene.when(Input::Got(Some(stored(&waiting(1), 4)))), settled(1, published(4)));

    let mut taken = stored(&waiting(1), 4);
    taken.payload = b"something else".to_vec();
    let mut scene = Scene::flying(&waiting(1));
    let _ = scene.when(ack(4, true));
    let refusal = Outcome::Refused(Refusal::IdTaken { sequence: 4 });
    assert_eq!(scene.when(Input::Got(Some(taken.clone()))), settled(1, refusal));
    // The same where it is met by searching.
    taken.sequence = 12;
    let (mut scene, _) = Scene::with(&[tried(1, 10)]);
    let refusal = Outcome::Refused(Refusal::IdTaken { sequence: 12 });
    assert_eq!(scene.when(found(12, &[taken], true)), settled(1, refusal));

    // Its message is gone: the server forgets the id in time.
    let mut scene = Scene::flying(&waiting(1));
    let _ = scene.when(ack(4, true));
    let outputs = scene.when(Input::Got(None));
    assert_eq!(scene.after_pause(&outputs), find(10));
}

#[test]
fn an_event_whose_message_is_gone_is_said_after_some_attempts_in_vain() {
    for expected in [None, Some(10)] {
        let event = Waiting { message: Message { expected, ..waiting(1).message }, ..waiting(1) };
        let mut scene = Scene::flying(&event);
        for attempt in 1..6 {
            // The server remembers it, or what came after the message that it names, and no message is there.
            let outputs = match expected {
                None => {
                    let _ = scene.when(ack(4, true));
                    scene.when(Input::Got(None))
                }
                Some(_) => {
                    let _ = scene.when(error(10071));
                    let _ = scene.when(found(10, &[], true));
                    scene.when(Input::Got(Some(stored(&waiting(2), 10))))
                }
            };
            let said = match outputs.as_slice() {
                [Output::Report(Status::Waiting { reason, .. }), Output::Wait { .. }] => {
                    Some(reason.code.clone())
                }
                [Output::Wait { .. }] => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(said.as_deref(), (attempt > 2).then_some("event-gone"), "attempt {attempt}");
            let _ = scene.when(Input::Tick);
            assert_eq!(scene.when(found(10, &[], true)), [publish(&event)]);
        }
    }
}

#[test]
fn a_message_whose_id_stands_twice_or_with_another_subject_is_not_ours() {
    let mut doubled = stored(&waiting(1), 11);
    let mut list: Vec<(String, String)> =
        doubled.headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
    list.push((NATS_MSG_ID.to_string(), "x".into()));
    doubled.headers = Headers::received(list);
    let mut elsewhere = stored(&waiting(1), 12);
    elsewhere.subject = "cowboyai.security.orders.order.cancelled".into();
    let (mut scene, _) = Scene::with(&[tried(1, 10)]);
    assert_eq!(scene.when(found(12, &[doubled, elsewhere], true)), [publish(&waiting(1))]);
}

#[test]
fn what_follows_the_named_message_is_the_event_or_a_conflict() {
    let ours = expecting(waiting(1), 8);
    let mut scene = Scene::flying(&ours);
    assert_eq!(scene.when(error(10071)), find(8));
    assert_eq!(scene.when(found(30, &[stored(&ours, 11)], false)), settled(1, published(11)));
    let mut scene = Scene::flying(&ours);
    let _ = scene.when(error(10071));
    let page = [stored(&waiting(5), 9), stored(&ours, 11)];
    let conflict = |found| Outcome::Refused(Refusal::Conflict { expected: 8, found });
    assert_eq!(scene.when(found(30, &page, true)), settled(1, conflict(9)));

    // Nothing follows it: the last one of the subject tells.
    let last = [Output::Get(Wanted::LastOf(event(1).subject))];
    for (seen, found_at) in [(None, 0), (Some(5), 5)] {
        let mut scene = Scene::flying(&ours);
        let _ = scene.when(error(10071));
        assert_eq!(scene.when(found(30, &[], true)), last);
        let got = seen.map(|sequence| stored(&waiting(5), sequence));
        assert_eq!(scene.when(Input::Got(got)), settled(1, conflict(found_at)));
    }
    // A server that is behind says that it could be published: that is tried again, for ever if need be.
    let mut scene = Scene::flying(&ours);
    for _ in 0..20 {
        let _ = scene.when(error(10071));
        let _ = scene.when(found(30, &[], true));
        let outputs = scene.when(Input::Got(Some(stored(&waiting(5), 8))));
        assert_eq!(scene.after_pause(&outputs), find(8));
        assert_eq!(scene.when(found(30, &[], true)), [publish(&ours)]);
    }
    // Something on its way is no conflict yet.
    let outputs = scene.when(error(10164));
    assert_eq!(scene.after_pause(&outputs), find(8));
}

#[test]
fn a_stream_that_forgets_cannot_settle_an_expectation() {
    let forgetful = |change: fn(&mut StreamInfo)| {
        let mut info = info(10);
        change(&mut info);
        info
    };
    for info in [
        forgetful(|info| info.config.max_msgs_per_subject = 1),
        forgetful(|info| info.config.retention = "workqueue".into()),
    ] {
        let (mut scene, _) = Scene::with(&[expecting(waiting(1), 8)]);
        let refusal = Outcome::Refused(Refusal::Forgetful);
        assert_eq!(scene.when(Input::Looked(info.clone())), settled(1, refusal));
        // Without one it can be published there.
        let (mut scene, _) = Scene::with(&[waiting(1)]);
        let _ = scene.when(Input::Looked(info));
        assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [publish(&waiting(1))]);
    }
}

#[test]
fn what_is_refused_for_good_is_noted_and_the_others_go_on() {
    let (mut scene, _) = Scene::with(&[waiting(1), waiting(2)]);
    let _ = scene.when(Input::Looked(info(10)));
    let _ = scene.when(Input::Persisted(Persisted::Ok));
    let refusal = Outcome::Refused(Refusal::TooLarge);
    let both = Persist { settled: Some((1, refusal)), attempt: Some((2, stood(10))) };
    assert_eq!(scene.when(error(10054)), [Output::Persist(both)]);
    assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), [publish(&waiting(2))]);
    for _ in 0..4 {
        let outputs = scene.when(error(4711));
        assert_eq!(scene.after_pause(&outputs), find(10));
        assert_eq!(scene.when(found(10, &[], true)), [publish(&waiting(2))]);
    }
    let refusal = Outcome::Refused(Refusal::Server { code: 4711 });
    assert_eq!(scene.when(error(4711)), settled(2, refusal));
}

#[test]
fn what_somebody_must_change_blocks_and_says_what() {
    let silent = || {
        let mut info = info(10);
        info.config.no_ack = true;
        info
    };
    let blocked = |outputs: &[Output]| match outputs {
        [Output::Drop, Output::Report(Status::Blocked { reason }), Output::Wait { .. }] => reason.clone(),
        other => panic!("{other:?}"),
    };
    let (mut scene, _) = Scene::with(&[waiting(1)]);
    let reason = blocked(&scene.when(Input::Failed(Failure::StreamMissing)));
    assert_eq!(reason.code, "stream-missing");
    assert!(reason.text.contains("ORDERS") && !reason.text.contains("steward"), "{}", reason.text);
    let _ = scene.when(Input::Tick);
    assert_eq!(blocked(&scene.when(Input::Looked(silent()))).code, "stream-settings");
    let mut scene = Scene::flying(&waiting(1));
    let denied = Reply::Permission { subject: "a.b.c.d.e".into() };
    let reason = blocked(&scene.when(Input::Reply(denied)));
    assert!(reason.text.contains("a.b.c.d.e") && !reason.text.contains("cim-keys"), "{}", reason.text);
    let mut scene = Scene::flying(&waiting(1));
    let elsewhere = Reply::Ack { stream: "OTHER".into(), sequence: 11, duplicate: false };
    assert_eq!(blocked(&scene.when(Input::Reply(elsewhere))).code, "stream-other");
    assert_eq!(blocked(&Scene::flying(&waiting(1)).when(error(10060))).code, "stream-settings");
}

#[test]
fn a_server_that_fails_is_asked_less() {
    let (mut scene, mut outputs) = Scene::with(&[waiting(1)]);
    let mut opened = false;
    for _ in 0..6 {
        assert_eq!(outputs, [Output::Look]);
        outputs = scene.when(Input::Failed(Failure::NoResponders));
        opened |= outputs.iter().any(|o| matches!(o, Output::Report(Status::Waiting { open: true, .. })));
        outputs = scene.after_pause(&outputs);
    }
    assert!(opened);
}

#[test]
fn a_connection_lost_while_writing_sends_nothing_on_another_one() {
    let (mut scene, _) = Scene::with(&[waiting(1)]);
    let _ = scene.when(Input::Looked(info(10)));
    assert_eq!(scene.when(Input::Disconnected), []);
    assert_eq!(scene.when(Input::Persisted(Persisted::Ok)), find(10));
}

#[test]
fn events_are_checked_before_they_are_journalled() {
    let with = |change: fn(&mut DomainEvent)| {
        let mut event = event(1);
        change(&mut event);
        checked(&event).map(drop)
    };
    let subject = |text: &str| text.parse::<Subject>().unwrap();
    assert_eq!(with(|_| {}), Ok(()));
    for keys in ["cowboyai.security.keys.user.created", "cowboyai.security.keys-log.user.created"] {
        let mut event = event(1);
        event.subject = subject(keys);
        assert_eq!(checked(&event), Err(EventError::KeysDomain { found: subject(keys) }));
    }
    let foreign = with(|event| event.subject = "other.unit.orders.order.placed".parse().unwrap());
    assert_eq!(foreign.unwrap_err().code(), "event-namespace");
    assert_eq!(with(|event| event.event.event_type.push('x')).unwrap_err().code(), "event-type");
    let header = |name: &'static str| {
        let mut event = event(1);
        event.headers = vec![(name.into(), "x".into())];
        checked(&event).unwrap_err()
    };
    for name in ["cim-source", "Nats-Rollup", "nats-expected-last-sequence", "NATS-TTL"] {
        assert_eq!(header(name), EventError::ReservedHeader { name: name.into() });
    }
    for name in ["", "a b", "a\r\nEvil", "é", "ab\u{20ac}"] {
        assert!(matches!(header(name), EventError::Header(HeaderError::Name { .. })), "{name:?}");
    }
    assert!(with(|event| event.source = "a\r\nEvil: 1".into()).is_err());
    let large = with(|event| event.payload = vec![0; 1024 * 1024]).unwrap_err();
    assert_eq!(large.code(), "event-too-large");
    let many = with(|event| event.headers = vec![("X".into(), "y".repeat(256)); 300]).unwrap_err();
    assert_eq!(many.code(), "event-too-large");
    let stream: Token = "KEYS_EVENTS".parse().unwrap();
    assert_eq!(check_place(&stream), Err(EventError::KeysStream { found: "KEYS_EVENTS".into() }));
    assert_eq!(check_place(&STREAM.parse().unwrap()), Ok(()));
}

#[test]
fn equal_digests_are_equal_events() {
    let digest = |change: fn(&mut DomainEvent)| {
        let mut event = event(1);
        change(&mut event);
        checked(&event).unwrap().digest()
    };
    let same = digest(|_| {});
    assert_eq!(same, digest(|_| {}));
    let changes: [fn(&mut DomainEvent); 5] = [
        |event| event.payload.push(0),
        |event| event.expected = Some(0),
        |event| event.source.push('x'),
        |event| event.event.correlation_id = Uuid::nil(),
        |event| event.headers.clear(),
    ];
    for change in changes {
        assert_ne!(same, digest(change));
    }
}
