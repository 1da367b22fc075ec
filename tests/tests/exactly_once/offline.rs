//! Without a server everything works; publishing comes later, and once.

use cim_keys::host::Request;
use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::command::Command;
use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::nkey::Kind;
use cim_keys_core::subjects::Namespace;
use cim_keys_tests::desk::{Desk, make_streams, make_streams_in};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use std::time::Duration;

/// One of each command.
pub(crate) fn everything(desk: &Desk) {
    let alice = desk.user("alice");
    let bob = desk.user("bob");
    desk.permit(alice, "orders.>");
    desk.act(Command::GenerateCredentials { account: desk.app(), user: alice, expires: 0 });
    desk.revoke(bob);
    let owner = Some(desk.app());
    let make = |kind, owner| Command::GenerateKey { kind, owner, label: Some("spare".into()), role: None };
    let spare = desk.act(make(Kind::Account, owner)).keys[0];
    desk.act(make(Kind::Curve, None));
    desk.act(Command::RevokeKey { key: spare, owner });
    desk.account("OTHER");
}

#[test]
fn commands_wait_for_a_server_and_are_published_once() {
    let desk = Desk::founded();
    everything(&desk);
    let events = desk.store().pending_events(1000).unwrap().len() as u64;
    let commands = desk.commands().len() as u64;
    // A port that nobody listens on.
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let run = desk.sync_for(&Target::open(&format!("nats://{nobody}")), None, Duration::from_millis(300));
    assert!(matches!(&run.end, End::Patience(reason) if reason.code == "unreachable"), "{run:?}");
    assert_eq!(desk.pending(), commands);
    desk.user("carol");

    for version in [Version::Newest, Version::Oldest] {
        let server = Setup::plain(version).start();
        let desk = desk.twin();
        let target = Target::open(&server.url());
        make_streams(&target, 120);
        let first = desk.sync(&target).drained();
        assert_eq!((first.published, first.commands), (events + 1, commands + 1));
        assert_eq!((desk.pending(), first.head), (0, events + 1));
        let second = desk.sync(&target).drained();
        assert_eq!((second.published, second.commands, second.anomalies), (0, 0, 0));
        let ledger = Ledger::of(&server);
        assert_eq!(ledger.last(), events + 1);
        ledger.check(&[&desk]);
        // And so on with what comes later.
        desk.user("dave");
        assert_eq!(desk.sync(&target).drained().published, 1);
        Ledger::of(&server).check(&[&desk]);
    }
}

#[test]
fn subjects_of_ones_own() {
    let namespace: Namespace = "acme.it-security".parse().unwrap();
    let desk = Desk::founded_in(namespace.clone());
    everything(&desk);
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    // A stream of another namespace is another stream.
    make_streams(&target, 120);
    let reason = desk.sync(&target).blocked();
    assert!(reason.text.contains("must be acme.it-security.keys.>"), "{}", reason.text);
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams_in(&namespace, &target, 120);
    desk.sync(&target).drained();
    let ledger = Ledger::of(&server);
    ledger.check(&[&desk]);
    assert!(ledger.messages.iter().all(|message| message.subject.starts_with("acme.it-security.keys.")));
}

#[test]
fn more_than_one_batch_holds_and_the_largest_that_is_accepted() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let desk = Desk::founded();
    let twin = desk.twin();
    // 1,000 messages are the most that a batch takes: the next command would cross that line.
    let mut alice = None;
    while desk.store().counts().unwrap().pending < 2 + 983 {
        alice = Some(desk.user(&format!("user-{}", desk.commands().len())));
    }
    assert_eq!(desk.store().pending_events(2000).unwrap().len(), 999);
    desk.revoke(alice.unwrap());
    // The largest event that the host accepts must get through, headers for its transport included.
    let user = desk.user("large");
    let with = |bytes: usize| {
        let subject = |number: usize| format!("{}.{number}", "x".repeat(bytes / 1000));
        let publish = PermissionList { allow: (0..1000).map(subject).collect(), ..PermissionList::default() };
        let rights = UserRights { publish, ..UserRights::default() };
        desk.run(&Request::new(Command::SetPermissions { account: desk.app(), user, rights }))
    };
    let (mut fits, mut too_large) = (700_000_usize, 850_000);
    while too_large - fits > 4_000 {
        let middle = fits.midpoint(too_large) / 1_000 * 1_000;
        match with(middle) {
            Ok(_) => fits = middle,
            Err(error) => {
                assert!(["claims", "size"].contains(&error.code()), "{error}");
                too_large = middle;
            }
        }
    }
    let run = desk.sync(&target).drained();
    assert_eq!((run.held.len(), desk.pending()), (0, 0));
    let read = twin.sync(&target).drained();
    assert_eq!((read.read, read.anomalies), (run.head, 0));
    let ledger = Ledger::of(&server);
    assert!(ledger.messages.iter().any(|message| message.payload.len() > 1_000_000));
    ledger.check(&[&desk, &twin]);
}
