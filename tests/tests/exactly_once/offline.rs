//! Without a server everything works; publishing comes later, and once.

use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::command::Command;
use cim_keys_core::nkey::Kind;
use cim_keys_tests::desk::{Desk, make_streams};
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
fn a_server_without_accounts_is_enough() {
    let server = NatsServer::plain();
    let desk = Desk::founded();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    everything(&desk);
    desk.sync(&target).drained();
    Ledger::of(&server).check(&[&desk]);
}
