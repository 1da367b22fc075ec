//! A journal made anew after its stream went back.

use super::*;
use cim_keys_core::sync::{Recovery, recover};

fn trail(host: &Host) -> Vec<StoredMessage> {
    let each = host.store().trail(0, 1000).unwrap().into_iter();
    let stored = |entry: crate::store::TrailEntry| StoredMessage {
        sequence: entry.sequence,
        subject: entry.subject,
        headers: entry.headers,
        payload: entry.payload,
        time: None,
    };
    each.map(stored).collect()
}

fn recovery(host: &Host, kept: u64) -> Recovery {
    let store = host.store();
    let (registry, before) = (store.registry_id().unwrap().clone(), store.progress().unwrap());
    recover(registry, &before, kept, None, trail(host), &store.confirmed_commands().unwrap()).unwrap()
}

#[test]
fn a_command_that_was_cut_in_two_leaves_no_hole_in_the_trail() {
    // Given a revocation, whose two events were confirmed by their acknowledgement;
    let (_folder, host, app) = founded();
    let alice = user(&host, app, "alice");
    let mut stream = Stream::default();
    sync(&host, &mut stream);
    let revocation = revoke(&host, app, alice);
    sync(&host, &mut stream);
    // when the stream lost the second one,
    for _ in 0..2 {
        let head = stream.messages.len() as u64;
        assert_eq!(host.store().progress().unwrap().head, head);
        let kept = head - 1;
        stream.messages.truncate(kept as usize);
        let recovery = recovery(&host, kept);
        assert_eq!(recovery.pending, [revocation]);
        assert!(host.store().recover(head, &recovery).unwrap());
        sync(&host, &mut stream);
        // then the journal knows every message of the stream, and can be recovered once more.
        assert_eq!(state(&host, revocation), State::Confirmed);
        let shown = |messages: &[StoredMessage]| -> Vec<_> {
            messages.iter().map(|message| (message.sequence, message.digest())).collect()
        };
        assert_eq!(shown(&trail(&host)), shown(&stream.messages));
    }
    assert_eq!(revocations(&host, app), 1);
}
