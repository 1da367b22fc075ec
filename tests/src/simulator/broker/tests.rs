//! The rules, one by one.

use super::*;

const SUBJECT: &str = "cowboyai.security.keys.user.created";

fn message(list: &[(&str, &str)]) -> Outgoing {
    let headers = list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Outgoing { subject: SUBJECT.to_owned(), headers: Headers::received(headers), payload: b"x".to_vec() }
}

fn broker() -> Broker {
    Broker::new(&Namespace::default(), 1000, true)
}

fn publish(broker: &mut Broker, now: u64, list: &[(&str, &str)]) -> Answer {
    broker.publish(&message(list), Origin::Host(0), now)
}

fn ack(sequence: u64, duplicate: bool) -> Answer {
    Answer::Reply(Reply::Ack { stream: "KEYS_EVENTS".to_owned(), sequence, duplicate })
}

fn error(code: u32) -> Answer {
    Answer::Reply(Reply::Error { code })
}

const LAST: &str = "Nats-Expected-Last-Sequence";
const BATCH: &str = "Nats-Batch-Id";
const PLACE: &str = "Nats-Batch-Sequence";
const COMMIT: &str = "Nats-Batch-Commit";

#[test]
fn the_sequence_is_looked_at_before_the_id() {
    let mut b = broker();
    assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a"), (LAST, "0")]), ack(1, false));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "a"), (LAST, "0")]), error(10071));
    assert_eq!(publish(&mut b, 2, &[(NATS_MSG_ID, "a"), (LAST, "1")]), ack(1, true));
    assert_eq!(publish(&mut b, 1000, &[(NATS_MSG_ID, "a"), (LAST, "1")]), ack(2, false));
}

#[test]
fn a_restart_remembers_what_is_stored_within_the_window() {
    let mut b = broker();
    assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a")]), ack(1, false));
    b.restart(900, 1000);
    assert_eq!(publish(&mut b, 950, &[(NATS_MSG_ID, "a")]), ack(1, true));
    b.restart(960, 500);
    assert_eq!(publish(&mut b, 970, &[(NATS_MSG_ID, "a")]), ack(2, false));
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let mut b = broker();
    assert_eq!(
        publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "1"), (LAST, "0"), (NATS_MSG_ID, "a")]),
        Answer::Taken
    );
    assert_eq!(b.last(), 0);
    assert_eq!(
        publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "2"), (COMMIT, "1"), (NATS_MSG_ID, "b")]),
        ack(2, false)
    );
    // A known id, a wrong expectation, an id still in use, a part that went missing.
    assert_eq!(
        publish(&mut b, 1, &[(BATCH, "y"), (PLACE, "1"), (LAST, "2"), (NATS_MSG_ID, "c")]),
        Answer::Taken
    );
    assert_eq!(
        publish(&mut b, 1, &[(BATCH, "y"), (PLACE, "2"), (COMMIT, "1"), (NATS_MSG_ID, "b")]),
        error(10201)
    );
    assert_eq!(publish(&mut b, 2, &[(BATCH, "z"), (PLACE, "1"), (LAST, "1")]), Answer::Taken);
    assert_eq!(publish(&mut b, 2, &[(BATCH, "z"), (PLACE, "2"), (COMMIT, "1")]), error(10071));
    assert_eq!(publish(&mut b, 3, &[(BATCH, "w"), (PLACE, "1"), (LAST, "2")]), Answer::Taken);
    assert_eq!(publish(&mut b, 3, &[(BATCH, "w"), (PLACE, "1"), (COMMIT, "1")]), error(10176));
    assert_eq!(publish(&mut b, 4, &[(BATCH, "v"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
    assert_eq!(b.last(), 2);
}

#[test]
fn an_open_batch_is_given_up() {
    let mut b = broker();
    assert_eq!(publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "1"), (LAST, "0")]), Answer::Taken);
    assert_eq!(publish(&mut b, 10_000, &[(BATCH, "x"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
    assert_eq!(publish(&mut b, 10_001, &[(BATCH, "y"), (PLACE, "1"), (LAST, "0")]), Answer::Taken);
    b.restart(10_002, 1000);
    assert_eq!(publish(&mut b, 10_003, &[(BATCH, "y"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
    assert_eq!(b.last(), 0);
}

#[test]
fn only_the_streams_subjects_are_stored() {
    let mut b = broker();
    let other = Outgoing { subject: "cowboyai.security.other.a.b".to_owned(), ..message(&[]) };
    assert_eq!(b.publish(&other, Origin::Foreign("test"), 0), Answer::Reply(Reply::NoResponders));
    let mut none = Broker::new(&Namespace::default(), 1000, false);
    assert_eq!(publish(&mut none, 0, &[]), Answer::Reply(Reply::NoResponders));
    assert_eq!(publish(&mut b, 0, &[("Nats-Expected-Stream", "OTHER")]), error(10060));
}

#[test]
fn three_replicas_look_at_the_id_first() {
    let mut b = broker().of(Rules::REPLICATED);
    assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a"), (LAST, "0")]), ack(1, false));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "a"), (LAST, "0")]), ack(1, true));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "b"), (LAST, "0")]), error(10071));
}

#[test]
fn what_waits_for_a_majority_counts_and_is_not_stored() {
    let mut b = broker().of(Rules::REPLICATED);
    b.slow(true);
    assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a"), (LAST, "0")]), Answer::Proposed(1));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "a"), (LAST, "0")]), error(10158));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "b"), (LAST, "0")]), error(10071));
    assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "b"), (LAST, "1")]), Answer::Proposed(2));
    assert_eq!((b.last(), b.proposals()), (0, 2));
    let Answer::Reply(first) = ack(1, false) else { unreachable!() };
    assert_eq!(b.settle(1, 2), [(1, first)]);
    // Another leader has what reached it, and no more.
    assert_eq!(publish(&mut b, 3, &[(NATS_MSG_ID, "c"), (LAST, "2")]), Answer::Proposed(3));
    b.depose(1, 4);
    assert_eq!((b.last(), b.proposals()), (2, 0));
    assert_eq!(publish(&mut b, 5, &[(NATS_MSG_ID, "b")]), ack(2, true));
    assert_eq!(publish(&mut b, 5, &[(NATS_MSG_ID, "c"), (LAST, "2")]), Answer::Proposed(4));
}

#[test]
fn what_no_disk_has_goes_with_the_power() {
    let mut b = broker();
    for (now, id) in [(0, "a"), (90, "b"), (110, "c")] {
        publish(&mut b, now, &[(NATS_MSG_ID, id)]);
    }
    assert_eq!((b.synced(199, 100), b.synced(200, 100), b.synced(199, 0)), (2, 3, 3));
    b.lose(2, []);
    b.restart(300, 1000);
    assert_eq!((b.last(), b.lost().len()), (2, 1));
    assert_eq!(publish(&mut b, 301, &[(NATS_MSG_ID, "b")]), ack(2, true));
    assert_eq!(publish(&mut b, 302, &[(NATS_MSG_ID, "c"), (LAST, "2")]), ack(3, false));
}
