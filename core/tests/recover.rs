//! Given a journal that knows more than its stream, when it is recovered, then nothing is lost and nothing is invented.

mod lab;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::Headers;
use cim_keys_core::journal::{Mark, Progress, StreamIdentity};
use cim_keys_core::sync::{Confirmed, last_agreeing, recover};
use lab::*;

fn known(messages: &[StoredMessage]) -> impl Fn(u64) -> Option<cim_keys_core::digest::Digest> + '_ {
    |sequence| messages.iter().find(|m| m.sequence == sequence).map(StoredMessage::content)
}

#[test]
fn the_point_that_agrees_is_the_last_one_that_is_the_same() {
    let lab = Lab::founded();
    let mut stream = lab.stream.clone();
    assert_eq!(last_agreeing(&stream, known(&lab.stream)), Some(lab.sequence));
    stream.truncate(7);
    assert_eq!(last_agreeing(&stream, known(&lab.stream)), Some(7));
    for message in &mut stream[4..] {
        message.payload.push(b' ');
    }
    assert_eq!(last_agreeing(&stream, known(&lab.stream)), Some(4));
    assert_eq!(last_agreeing(&stream[4..], known(&lab.stream)), None);
    // The same message at the same place proves nothing of those before it.
    stream[6] = lab.stream[6].clone();
    assert_eq!(last_agreeing(&stream, known(&lab.stream)), Some(4));
    assert_eq!(last_agreeing(&[], known(&lab.stream)), None);
}

#[test]
fn headers_make_a_message_another_one_and_those_of_an_attempt_do_not() {
    let lab = Lab::founded();
    let with = |names: &[(&str, &str)], turn: usize| {
        let mut stream = lab.stream.clone();
        let mut headers: Vec<_> =
            stream[3].headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.extend(names.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        headers.rotate_left(turn);
        stream[3].headers = Headers::received(headers);
        last_agreeing(&stream, known(&lab.stream))
    };
    let all = Some(lab.sequence);
    assert_eq!(with(&[], 0), all);
    assert_eq!(with(&[], 4), all, "their order says nothing");
    assert_eq!(with(&[("Nats-Expected-Last-Sequence", "3"), ("Nats-Batch-Id", "x")], 1), all);
    for added in ["Nats-Sequence", "CIM-Event-Id", "X"] {
        assert_eq!(with(&[(added, "3")], 0), Some(3), "{added}");
    }
}

#[test]
fn what_was_ours_is_pending_and_what_was_others_is_named() {
    // Given two own users and one of somebody else, confirmed and read,
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    lab.user(app, "alice").unwrap();
    let (kept, state, assembler) = (lab.sequence, lab.registry.clone(), lab.assembler.clone());
    lab.user(app, "bob").unwrap();
    let ours = Confirmed {
        command_id: lab.registry.commands().find(|r| r.last == lab.sequence).unwrap().command_id,
        last: lab.sequence,
    };
    lab.user(app, "carol").unwrap();
    let stream = Some(StreamIdentity { name: "KEYS_EVENTS".into(), created: "then".into() });
    let archive = Some(StreamIdentity { name: "KEYS_ARCHIVE".into(), created: "then".into() });
    let before = Progress { stream: stream.clone(), head: lab.sequence, archive, ..Progress::default() };
    // when the stream has lost the last two,
    let id = lab.registry.id().clone();
    let found = recover(id, &before, kept, Some("then".into()), lab.stream.clone(), &[ours]).unwrap();
    // then the journal is where it was before them,
    assert_eq!(found.registry, state);
    let digest = lab.stream.iter().find(|message| message.sequence == kept).map(StoredMessage::digest);
    let progress = Progress {
        stream,
        head: kept,
        head_digest: digest,
        assembler,
        recheck_due: true,
        // It may go back again before anything is read.
        mark: digest.map(|chain| Mark { sequence: kept, time: "then".into(), chain }),
        ..Progress::default()
    };
    assert_eq!(found.progress, progress);
    assert!(found.anomalies.is_empty());
    // ours is to be published again, and the other's is named.
    assert_eq!(found.pending, [ours.command_id]);
    let lost: Vec<_> =
        found.lost.iter().map(|l| (l.sequence, l.subject.as_str(), l.actor.as_deref())).collect();
    assert_eq!(lost, [(lab.sequence, "cowboyai.security.keys.user.created", Some("lab"))]);
}

#[test]
fn a_command_that_was_cut_in_two_is_published_again_as_a_whole() {
    let mut lab = Lab::founded();
    let before = Progress { head: lab.sequence, ..Progress::default() };
    let founding = lab.registry.commands().next().unwrap().command_id;
    let own = [Confirmed { command_id: founding, last: lab.sequence }];
    let id = lab.registry.id().clone();
    let found = recover(id.clone(), &before, 4, None, lab.stream.clone(), &own).unwrap();
    assert_eq!((found.pending.as_slice(), found.progress.head), (&[founding][..], 4));
    assert!(!found.progress.assembler.is_empty());
    assert_eq!(found.registry.entities().count(), 0);
    assert!(found.lost.is_empty());
    // Garbage at the end of the stream was nobody's.
    let _ = lab.read(
        "cowboyai.security.keys.a.b",
        cim_keys_core::headers::Headers::received(Vec::new()),
        vec![b'x'],
    );
    let found = recover(id, &before, lab.sequence - 1, None, lab.stream.clone(), &own).unwrap();
    assert_eq!((found.lost.len(), found.lost[0].event_id), (1, None));
    assert!(found.pending.is_empty());
}
