//! A registry whose schema level was raised by a newer version: this one stops there, is read-only, and says so, in the
//! library and on the command line.

use cim_keys::host::Request;
use cim_keys::nats::target::Target;
use cim_keys_core::command::Command;
use cim_keys_core::context::event_id;
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::{authority_message, draft_hash};
use cim_keys_core::envelope;
use cim_keys_core::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wire::Client;
use uuid::Uuid;

/// A key of the operator that a newer version signs with.
fn operator_key(desk: &Desk) -> KeyPair {
    let pair = KeyPair::from_entropy(Kind::Operator, *Digest::of(b"of the operator").as_bytes());
    let owner = Some(desk.registry().operator);
    let command = Command::GenerateKey { kind: Kind::Operator, owner, label: None, role: None };
    desk.run(&Request { keys: Some(vec![pair.public_key()]), ..Request::new(command) }).unwrap();
    pair
}

/// Puts a command of one event onto the stream, as a newer version would: its sequence.
fn publish(desk: &Desk, client: &mut Client, pair: &KeyPair, id: u128, entity: PublicKey, fact: Fact) -> u64 {
    let (registry, id, time) = (desk.registry(), Uuid::from_u128(id), desk.host().ambient().now());
    let event = Event {
        schema: FOUNDING_SCHEMA,
        id: event_id(time, id, 1, 0),
        time,
        correlation_id: id,
        causation_id: id,
        registry: registry.operator,
        entity,
        command: CommandRef {
            id,
            attempt: 1,
            hash: Digest::of(b"of a newer version"),
            actor: "newer".parse().unwrap(),
            authority: pair.public_key(),
            index: 0,
            count: 1,
        },
        fact,
        token: None,
    };
    let (subject, draft) = (envelope::subject_of(&event, &registry), envelope::encode_draft(&event));
    let hash = draft_hash([(subject.as_str(), draft.as_slice())]);
    let payload = envelope::complete(&draft, &[pair.sign(&authority_message(&hash)).unwrap()]);
    let headers = envelope::headers_of(&event).unwrap();
    let headers: Vec<_> = headers.iter().collect();
    let answer = client.request(subject.as_str(), &headers, &payload).unwrap().json();
    answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn at(person: &Person, desk: &Desk, words: &[&str]) -> Said {
    let (folder, identity) = (desk.folder().to_str().unwrap(), desk.identity());
    let mut all = vec!["--data", folder, "--identity", identity.to_str().unwrap()];
    all.extend(words);
    person.run(&all)
}

/// Refused with these words, as a conflict.
#[track_caller]
fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.status, Some(5), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }
}

#[test]
fn a_host_that_does_not_know_the_level_reads_up_to_it_and_is_read_only() {
    // Given a published registry and a command that waits,
    let person = Person::new();
    let server = NatsServer::plain();
    let (target, url) = (Target::open(&server.url()), server.url());
    make_streams(&target, 120);
    let desk = Desk::founded();
    let pair = operator_key(&desk);
    desk.sync(&target).drained();
    desk.user("alice");
    // when a newer version raises the level and goes on,
    let mut client = Client::connect(server.address()).unwrap();
    let operator = desk.registry().operator;
    let raised = publish(&desk, &mut client, &pair, 1, operator, Fact::SchemaRaised { level: 2 });
    let unread = KeyPair::from_entropy(Kind::Curve, [8; 32]).public_key();
    publish(&desk, &mut client, &pair, 2, unread, Fact::KeyGenerated { owner: None, label: None });
    let strange = client.request("cowboyai.security.keys.sequel.happened", &[], b"{}").unwrap().json();
    let last = strange["seq"].as_u64().unwrap();
    // then it is read up to there and no further, each time it is tried,
    for _ in 0..2 {
        let reason = desk.sync(&target).blocked();
        assert_eq!(reason.code, "newer-schema");
        assert!(reason.text.contains("asks for schema 2, this version knows 1: upgrade"), "{}", reason.text);
        let progress = desk.store().progress().unwrap();
        assert_eq!((progress.head, progress.level()), (raised, 2));
        assert!(desk.store().anomalies().unwrap().is_empty());
        assert_eq!((desk.pending(), desk.held_codes()), (1, Vec::new()));
        assert!(desk.store().by_key(unread).unwrap().is_empty());
    }
    let info = client.request("$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"").unwrap().json();
    assert_eq!(info["state"]["last_seq"], last, "nothing was appended");
    // nothing is decided,
    assert_eq!(desk.run(&desk.new_user("bob")).unwrap_err().code(), "newer-schema");
    let create = ["user", "create", "carol", "--account", "APP", "--creds", "carol.creds"];
    refused(&at(&person, &desk, &create), &["asks for schema 2", "upgrade cim-keys"]);
    refused(
        &at(&person, &desk, &["schema", "raise", "--to", "3"]),
        &["asks for schema 2", "upgrade cim-keys"],
    );
    // and a person is told.
    refused(&at(&person, &desk, &["sync", "--server", &url]), &["asks for schema 2", "upgrade cim-keys"]);
    let status = at(&person, &desk, &["status", "--output", "json"]).json();
    assert_eq!((&status["schema"], &status["schema_known"]), (&2.into(), &1.into()));
    assert_eq!((&status["sync"]["state"], &status["pending"]), (&"blocked".into(), &1.into()));
    assert_eq!(status["sync"]["reason"]["code"], "newer-schema");
    let text = at(&person, &desk, &["status"]).stdout;
    assert!(text.contains("schema     2, and this version knows 1: UPGRADE cim-keys"), "{text}");
    assert!(at(&person, &desk, &["schema", "show"]).stdout.contains("UPGRADE"));
    // Whoever takes part anew reads as far.
    let words = ["clone", &url, "--operator", &operator.to_string()];
    refused(&person.run(&words), &["asks for schema 2", &format!("goes on from {raised}")]);
    let cloned = person.run(&["status", "--output", "json"]).json();
    assert_eq!((&cloned["head"], &cloned["schema"]), (&raised.into(), &2.into()));
}

#[test]
fn nobody_is_locked_out_by_accident() {
    let person = Person::new();
    let desk = Desk::founded();
    let before = desk.pending();
    let show = at(&person, &desk, &["schema", "show", "--output", "json"]).json();
    assert_eq!((&show["schema"], &show["schema_known"]), (&1.into(), &1.into()));
    assert!(!at(&person, &desk, &["status"]).stdout.contains("schema "));
    let raise = |to: &str| at(&person, &desk, &["schema", "raise", "--to", to]);
    refused(&raise("2"), &["knows the schema up to 1", "before you raise the level to 2"]);
    refused(&raise("1"), &["the schema level is 1"]);
    refused(
        &at(&person, &desk, &["schema", "raise", "--to", "2", "--dry-run"]),
        &["knows the schema up to 1"],
    );
    assert_eq!(raise("x").status, Some(2));
    assert_eq!(desk.pending(), before);
}
