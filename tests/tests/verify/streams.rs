//! What the stream forgot is read from its archive; what neither has is a gap.

use cim_keys::nats::target::Target;
use cim_keys::store::Store;
use cim_keys::verify::server::walk;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_tests::desk::block_on;
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::{Value, json};

use crate::place::Place;

fn api(client: &mut Client, tail: &str, body: &Value) -> Value {
    let subject = format!("$JS.API.STREAM.{tail}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(&subject, &[], body.as_bytes()).expect("an answer").json();
    assert!(answer["error"].is_null(), "{tail}: {answer}");
    answer
}

#[test]
fn through_the_archive_where_the_stream_forgot() {
    let mut place = Place::new();
    let client = &mut place.stranger;
    let info = api(client, &format!("INFO.{KEYS_EVENTS}"), &Value::Null);
    let last = info["state"]["last_seq"].as_u64().expect("a sequence");
    wait::until("the archive has all", || {
        let info = api(client, &format!("INFO.{KEYS_ARCHIVE}"), &Value::Null);
        (info["state"]["last_seq"].as_u64() == Some(last)).then_some(())
    });
    let mut short = info["config"].clone();
    for name in ["max_age", "duplicate_window"] {
        short[name] = json!(100_000_000);
    }
    api(client, &format!("UPDATE.{KEYS_EVENTS}"), &short);
    wait::until("all of it is forgotten", || {
        let info = api(client, &format!("INFO.{KEYS_EVENTS}"), &Value::Null);
        (info["state"]["first_seq"] == last + 1).then_some(())
    });
    api(client, &format!("UPDATE.{KEYS_EVENTS}"), &info["config"]);
    place.desk.user("bob");
    place.sync();
    let found = place.verify(&place.desk, true);
    assert_eq!((found.status, found.findings.len()), (0, 0), "{:?}", found.findings);
    let all = last + 1;
    assert_eq!(
        (&found.summary["messages"], &found.summary["head"], &found.summary["compared"]),
        (&all.into(), &all.into(), &true.into())
    );
    // Without it, what stood there is missing, and the rest stands on nothing.
    api(&mut place.stranger, &format!("DELETE.{KEYS_ARCHIVE}"), &Value::Null);
    let found = place.verify(&place.desk, true);
    assert_eq!(found.status, 8);
    assert_eq!(found.findings[0], (1, "gap".to_owned(), last, false), "{:?}", found.findings);
    assert_eq!(found.summary["messages"], 1);
    assert!(found.codes().contains(&"not-founded") && found.codes().contains(&"entity-unfounded"));
}

#[test]
fn holes_in_the_stream() {
    let place = Place::new();
    // The same messages on a stream that lets them be deleted.
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).expect("a connection");
    let subjects = format!("{}.*.*", place.desk.registry().namespace);
    let subjects = if subjects.contains(".keys.") { subjects } else { subjects.replace(".*.*", ".keys.*.*") };
    let config =
        json!({ "name": KEYS_EVENTS, "subjects": [subjects], "storage": "file", "allow_direct": true });
    api(&mut client, &format!("CREATE.{KEYS_EVENTS}"), &config);
    let ledger = Ledger::of(&place.server);
    for message in &ledger.messages {
        let own =
            message.headers.iter().filter(|(name, _)| !name.starts_with("Nats-") || *name == "Nats-Msg-Id");
        let headers: Vec<(&str, &str)> = own.collect();
        let ack = client.request(&message.subject, &headers, &message.payload).expect("an answer").json();
        assert_eq!(ack["seq"].as_u64(), Some(message.sequence), "{ack}");
    }
    let scratch = Store::scratch(&place.desk.registry()).expect("a store");
    let target = Target::open(&server.url());
    let walked = |found: &mut Vec<(u64, u64, String)>| {
        let say = |list: Vec<cim_keys::verify::Found>| {
            found.extend(list.into_iter().map(|one| (one.finding.first, one.finding.last, one.finding.code)));
        };
        block_on(walk(&scratch, &target, 0, say, |_, _| {})).expect("a walk")
    };
    let mut found = Vec::new();
    let summary = walked(&mut found);
    assert_eq!((found.as_slice(), summary.walked.head), (&[][..], ledger.last()));
    let last = ledger.last();
    // Two beside each other before the end, and the last two: the user's creation rests on nothing that is missing.
    for sequence in [last - 3, last - 2, last] {
        let body = json!({ "seq": sequence });
        api(&mut client, &format!("MSG.DELETE.{KEYS_EVENTS}"), &body);
    }
    let mut found = Vec::new();
    let summary = walked(&mut found);
    assert_eq!(summary.walked.messages, last - 3);
    let gaps: Vec<(u64, u64)> =
        found.iter().filter(|(_, _, code)| code == "gap").map(|(first, last, _)| (*first, *last)).collect();
    assert_eq!(gaps, [(last - 3, last - 2), (last, last)], "{found:?}");
}

#[test]
fn another_stream_is_refused() {
    let place = Place::new();
    let other = Place::new();
    let said = other.verify_elsewhere(&place.desk);
    assert_eq!(said.0, 5, "{}", said.1);
    assert!(said.1.contains("not the stream that the journal knows"), "{}", said.1);
}
