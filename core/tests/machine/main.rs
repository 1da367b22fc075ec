//! The machine against odd answers, over a journal in memory.

mod archive;
mod desk;
#[path = "../lab/mod.rs"]
mod lab;
mod voids;

use cim_keys_core::jetstream;
use cim_keys_core::journal::Progress;
use cim_keys_core::sync::{Input, Machine, Output, Read, Reply, StreamInfo};
use desk::*;

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
