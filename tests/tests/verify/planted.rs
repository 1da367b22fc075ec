//! Each planted fault is found, on the stream before anybody else has read it, and is said to be known afterwards.

use std::collections::BTreeMap;

use cim_keys_core::command::Command;
use cim_keys_core::jwt::{Body, SigningKey, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_core::registry::{Entity, EntityId, Facts};
use cim_keys_tests::desk::Desk;

use crate::place::Place;

/// The facts that a forger wishes for: the account's token says this.
fn twist(facts: &mut Facts, id: EntityId, change: impl FnOnce(&mut Entity)) {
    let mut entity = facts.entity(id).expect("a named fact").cloned().expect("an entity");
    change(&mut entity);
    facts.put_entity(id, Some(entity));
}

#[test]
fn each_fault_by_its_code() {
    let mut place = Place::new();
    let sound = place.verify(&place.desk, true);
    assert_eq!((sound.status, sound.findings.len()), (0, 0), "{}", sound.summary);
    assert_eq!((&sound.summary["compared"], &sound.summary["source"]), (&true.into(), &"server".into()));
    let (app, app_key) = (place.desk.app(), place.app_key());
    let id = EntityId::Account(app);
    let mut expected: BTreeMap<u64, (String, u64, bool)> = BTreeMap::new();
    let mut expect = |(first, last): (u64, u64), code: &str| {
        expected.insert(first, (code.to_owned(), last, false));
    };

    // A forged event with right headers: signed, then changed.
    let genuine = place.forge(&place.new_user("mallory"), app_key, |_| {}, &[]);
    let mut forged = genuine.envelopes[0].clone();
    let text = String::from_utf8(forged.payload.clone()).expect("text");
    forged.payload = text.replace("\"actor\":\"stranger\"", "\"actor\":\"somebody\"").into_bytes();
    assert_ne!(forged.payload, genuine.envelopes[0].payload);
    expect(place.command(&[forged]), "signature");

    // A user's token signed by a key of a foreign operator's account.
    let foreigner = Desk::founded();
    let foreign_app = foreigner.host().account(foreigner.app()).expect("an account");
    let foreign_body = foreign_app.token.claims().body.as_account().expect("an account");
    let foreign_key = *foreign_body.signing_keys.keys().next().expect("a key");
    let foreign: std::sync::Arc<KeyPair> = foreigner.host().key(foreign_key).expect("a key");
    let lists = |facts: &mut Facts| {
        twist(facts, id, |entity| {
            let Entity::Account(account) = entity else { panic!("an account") };
            let mut claims = account.token.claims().clone();
            let Body::Account(body) = &mut claims.body else { panic!("an account") };
            body.signing_keys.insert(foreign_key, SigningKey::Plain);
            account.token.jwt = encode(&claims).expect("claims");
        });
    };
    let decision = place.forge(&place.new_user("mallory"), foreign_key, lists, &[&foreign]);
    expect(place.command(&decision.envelopes), "not-listed");

    // A token that replaces another one than the newest.
    let user = place.desk.store().users(Some(app)).expect("users")[0].entity.key();
    let permissions = Command::SetPermissions {
        account: app,
        user,
        rights: UserRights { subs: 7, ..UserRights::default() },
    };
    let older = |facts: &mut Facts| {
        twist(facts, EntityId::User { account: app, user }, |entity| {
            let Entity::User(user) = entity else { panic!("a user") };
            let mut claims = user.token.claims().clone();
            claims.issued_at -= 60;
            user.token.jwt = encode(&claims).expect("claims");
        });
    };
    let decision = place.forge(&permissions, app_key, older, &[]);
    expect(place.command(&decision.envelopes), "not-newest");

    // A header that says something else than the payload.
    let genuine = place.forge(&place.new_user("mallory"), app_key, |_| {}, &[]);
    let envelope = &genuine.envelopes[0];
    let other = uuid::Uuid::from_u128(7).to_string();
    let headers: Vec<(&str, &str)> = envelope
        .headers
        .iter()
        .map(
            |(name, value)| if name == "CIM-Correlation-Id" { (name, other.as_str()) } else { (name, value) },
        )
        .collect();
    assert!(headers.iter().any(|(_, value)| *value == other), "{headers:?}");
    let sequence = place.publish(envelope.subject.as_str(), &headers, &envelope.payload);
    expect((sequence, sequence), "event-headers");

    // The subject of another event. (Each has an id of its own: the server would not take one twice.)
    let genuine = place.forge(&place.new_user("mallory"), app_key, |_| {}, &[]);
    let envelope = &genuine.envelopes[0];
    let headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
    let sequence = place.publish("cowboyai.security.keys.user.revoked", &headers, &envelope.payload);
    expect((sequence, sequence), "event-disagrees");

    // Bytes that mean the same and are not canonical.
    let genuine = place.forge(&place.new_user("mallory"), app_key, |_| {}, &[]);
    let envelope = &genuine.envelopes[0];
    let headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
    let payload = [b" ", envelope.payload.as_slice()].concat();
    let sequence = place.publish(envelope.subject.as_str(), &headers, &payload);
    expect((sequence, sequence), "event-not-canonical");

    // A whole genuine command once more.
    let created = place.desk.store().promised(*place.desk.commands().last().expect("a command"));
    let created = created.expect("a store").expect("its command").envelopes;
    expect(place.command(&created), "command-known");

    // The first half of a command.
    let revoke = Command::RevokeUser { account: app, user };
    let operator = place.desk.store().operators().expect("the operator")[0].entity.clone();
    let listed =
        operator.token().expect("a token").claims().body.as_operator().expect("an operator").signing_keys[0];
    let decision = place.forge(&revoke, listed, |_| {}, &[]);
    assert!(decision.envelopes.len() > 1);
    expect(place.command(&decision.envelopes[..1]), "incomplete");

    // A schema above the level in force.
    let genuine = place.forge(&place.new_user("mallory"), app_key, |_| {}, &[]);
    let mut newer = genuine.envelopes[0].clone();
    let text = String::from_utf8(newer.payload.clone()).expect("text");
    newer.payload = text.replace("keys.user.created:1\"", "keys.user.created:2\"").into_bytes();
    assert_ne!(newer.payload, genuine.envelopes[0].payload);
    expect(place.command(&[newer]), "event-schema");

    // Whoever signs accounts is not the account.
    let command = Command::GenerateKey { kind: Kind::Account, owner: Some(app), label: None, role: None };
    let mut decision = place.forge(&command, listed, |_| {}, &[]);
    for envelope in &mut decision.envelopes {
        let text = String::from_utf8(envelope.payload.clone()).expect("text");
        envelope.payload = text.replace(&listed.to_string(), &app_key.to_string()).into_bytes();
    }
    expect(place.command(&decision.envelopes), "signature");

    let found = place.verify(&place.desk, true);
    assert_eq!(found.by_place(), expected);
    assert_eq!((found.status, &found.summary["new"]), (8, &expected.len().into()));
    assert_eq!(found.summary["compared"], true, "up to where the host had read");

    // Read by the host they are anomalies of its store: known, by both.
    place.desk.user("bob");
    place.sync();
    for entry in expected.values_mut() {
        entry.2 = true;
    }
    for stream in [true, false] {
        let found = place.verify(&place.desk, stream);
        assert_eq!(found.by_place(), expected, "{stream}");
        assert_eq!((found.status, &found.summary["known"]), (0, &expected.len().into()));
        assert_eq!(found.summary["compared"], true);
    }
    let text = place.text(&place.desk);
    assert!(text.contains("nothing new is wrong; known: 10 anomalies"), "{text}");
}

#[test]
fn what_stands_behind_a_void() {
    let mut place = Place::new();
    let twin = place.desk.twin();
    twin.user("late");
    let late = *twin.commands().last().expect("a command");
    let envelopes = twin.store().promised(late).expect("a store").expect("its command").envelopes;
    place.desk.act(Command::VoidCommand { command_id: late, account: None, revoke: None });
    place.sync();
    let places = place.command(&envelopes);
    let found = place.verify(&place.desk, true);
    assert_eq!(found.findings, [(places.0, "voided".to_owned(), places.1, false)]);
    assert_eq!(found.status, 8);
}
