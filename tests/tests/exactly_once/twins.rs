//! Two hosts of one registry, the second a copy of the first: both work without a server, then both publish.

use cim_keys::nats::target::Target;
use cim_keys_core::command::Command;
use cim_keys_core::journal::State;
use cim_keys_core::jwt::Account;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::ledger::{Audit, Ledger};
use cim_keys_tests::server::NatsServer;
use std::thread;
use std::time::Duration;

/// Rounds of `sync` by both, the first one first.
fn meet(target: &Target, one: &Desk, two: &Desk) {
    for _ in 0..3 {
        one.sync(target).drained();
        two.sync(target).drained();
    }
}

fn checked(server: &NatsServer, one: &Desk, two: &Desk) -> Audit {
    let ledger = Ledger::of(server);
    let audit = ledger.check(&[one, two]);
    // One order: both tell the same story.
    let trail = |desk: &Desk| -> Vec<(u64, String, Vec<u8>)> {
        let trail = desk.store().trail(0, 10_000).unwrap().into_iter();
        trail.map(|entry| (entry.sequence, entry.subject, entry.payload)).collect()
    };
    assert_eq!(trail(one), trail(two));
    assert_eq!(trail(one).len() as u64, ledger.last());
    audit
}

fn app(audit: &Audit, desk: &Desk) -> Account {
    let id = EntityId::Account(desk.app());
    let entity = audit.registry.entities().find(|entity| entity.id() == id).unwrap();
    entity.token().unwrap().claims().body.as_account().unwrap().clone()
}

fn revoked(audit: &Audit, desk: &Desk) -> Vec<String> {
    app(audit, desk).revocations.keys().cloned().collect()
}

fn texts<const N: usize>(keys: [PublicKey; N]) -> Vec<String> {
    let mut texts = keys.map(|key| key.to_string()).to_vec();
    texts.sort();
    texts
}

fn creds(desk: &Desk, user: PublicKey) {
    desk.act(Command::GenerateCredentials { account: desk.app(), user, expires: 0 });
}

#[test]
fn contradictions_are_held_and_everything_else_is_published() {
    // The copy is made before anything was published, or after.
    for published in [false, true] {
        let server = NatsServer::plain();
        let target = Target::open(&server.url());
        make_streams(&target, 120);
        let one = Desk::founded();
        let users = ["alice", "bob", "carol", "dave"].map(|name| one.user(name));
        let [alice, bob, carol, dave] = users;
        if published {
            one.sync(&target).drained();
        }
        let two = one.twin();

        one.user("same");
        one.permit(alice, "a.>");
        one.revoke(bob);
        one.user("only-one");
        one.revoke(carol);

        let same = two.user("same");
        two.permit(same, "mine.>");
        two.permit(alice, "b.>");
        creds(&two, bob);
        two.user("only-two");
        two.revoke(dave);
        two.account("ONLY_TWO");

        meet(&target, &one, &two);
        let held = [
            ("create-user", "name-taken"),
            ("set-permissions", "unknown"),
            ("set-permissions", "facts-changed"),
            ("generate-credentials", "already-revoked"),
        ];
        let found = two.held_codes();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, code)| (*name, code.as_str())).collect();
        assert_eq!(found, held);
        assert!(two.held()[0].reason.text.contains("\"same\""), "{:?}", two.held()[0].reason);
        assert_eq!((one.pending(), two.pending(), one.held_codes()), (0, 0, Vec::new()));
        let audit = checked(&server, &one, &two);
        assert_eq!(revoked(&audit, &one), texts([bob, carol, dave]));
        let names: Vec<&str> = audit.registry.entities().map(Entity::name).collect();
        for name in ["same", "only-one", "only-two", "ONLY_TWO"] {
            assert_eq!(names.iter().filter(|found| **found == name).count(), 1, "{name}");
        }
    }
}

#[test]
fn a_revocation_gets_through_whatever_came_first() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let one = Desk::founded();
    let users = ["alice", "bob", "carol", "dave"].map(|name| one.user(name));
    let [alice, bob, carol, dave] = users;
    let owner = Some(one.app());
    let make = || Command::GenerateKey { kind: Kind::Account, owner, label: None, role: None };
    let keys = [one.act(make()).keys[0], one.act(make()).keys[0]];
    let two = one.twin_ahead(Duration::from_secs(60));

    // The first host moves everything that the second one's revocations are about.
    one.permit(alice, "a.>");
    creds(&one, bob);
    one.revoke(carol);
    one.act(Command::RevokeKey { key: keys[0], owner });
    one.act(make());
    for user in [alice, bob, dave] {
        two.revoke(user);
    }
    two.act(Command::RevokeKey { key: keys[1], owner });

    meet(&target, &one, &two);
    assert_eq!((one.held_codes(), two.held_codes()), (Vec::new(), Vec::new()));
    let audit = checked(&server, &one, &two);
    assert_eq!(revoked(&audit, &one), texts(users));
    assert!(keys.iter().all(|key| !app(&audit, &one).signing_keys.contains_key(key)));
    for user in users {
        let id = EntityId::User { account: one.app(), user };
        let (Some(Entity::User(user)), _) = (audit.registry.entities().find(|entity| entity.id() == id), ())
        else {
            panic!("{id}")
        };
        assert!(user.revoked_at.unwrap() >= user.token.claims().issued_at, "{id}");
    }
}

#[test]
fn a_revocation_that_is_in_force_is_not_published_again() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let one = Desk::founded();
    let [alice, bob] = ["alice", "bob"].map(|name| one.user(name));
    let owner = Some(one.app());
    let make = Command::GenerateKey { kind: Kind::Account, owner, label: None, role: None };
    let key = one.act(make).keys[0];
    let two = one.twin_ahead(Duration::from_secs(60));
    let both = |desk: &Desk| {
        let users = [alice, bob].map(|user| desk.revoke(user).command_id);
        (users, desk.act(Command::RevokeKey { key, owner }).command_id)
    };
    let (mine, my_key) = both(&one);
    let (theirs, their_key) = both(&two);

    // The later one is first on the stream: what the other wanted is in force.
    two.sync(&target).drained();
    one.sync(&target).drained();
    meet(&target, &one, &two);
    let state = |desk: &Desk, id| desk.store().promised(id).unwrap().unwrap().state;
    assert!(theirs.iter().chain([&their_key]).all(|id| state(&two, *id) == State::Confirmed));
    assert!(mine.iter().chain([&my_key]).all(|id| state(&one, *id) == State::Settled));
    let audit = checked(&server, &one, &two);
    assert_eq!(revoked(&audit, &one), texts([alice, bob]));
}

#[test]
fn an_earlier_revocation_is_raised_to_the_later_one() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let one = Desk::founded();
    let alice = one.user("alice");
    let owner = Some(one.app());
    let make = Command::GenerateKey { kind: Kind::Account, owner, label: None, role: None };
    let key = one.act(make).keys[0];
    let two = one.twin_ahead(Duration::from_secs(60));
    one.revoke(alice);
    one.act(Command::RevokeKey { key, owner });
    let later = two.revoke(alice).command_id;
    let ended = two.act(Command::RevokeKey { key, owner }).command_id;
    let wanted = two.store().promised(later).unwrap().unwrap().revoked_at.unwrap();

    meet(&target, &one, &two);
    let state = |id| two.store().promised(id).unwrap().unwrap().state;
    assert_eq!(state(later), State::Confirmed);
    // A signing key that is ended is ended for all it ever signed.
    assert_eq!(state(ended), State::Settled);
    assert_eq!((one.held_codes(), two.held_codes()), (Vec::new(), Vec::new()));
    let audit = checked(&server, &one, &two);
    assert!(app(&audit, &one).revocations[&alice.to_string()] >= wanted);
}

#[test]
fn both_write_and_publish_at_once() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let one = Desk::founded();
    let two = one.twin();
    let work = |desk: &Desk, name: &str| {
        for number in 0..30 {
            let user = desk.user(&format!("{name}-{number}"));
            if number % 3 == 0 {
                desk.revoke(user);
            }
            desk.sync(&target).drained();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| work(&one, "one"));
        scope.spawn(|| work(&two, "two"));
    });
    meet(&target, &one, &two);
    assert_eq!((one.held_codes(), two.held_codes()), (Vec::new(), Vec::new()));
    let audit = checked(&server, &one, &two);
    assert_eq!(revoked(&audit, &one).len(), 20);
}
