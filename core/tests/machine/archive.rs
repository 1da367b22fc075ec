//! What the stream has forgotten, and the archive that has it.

use crate::desk::*;
use cim_keys_core::sync::{Failure, Input, Output, Read, Status, StreamInfo};

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
