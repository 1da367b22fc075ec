//! Dead letters as a person sees them, written through the edge by the role that may.

use cim_keys::consume::{Delivery, HandlerError, Told};
use cim_keys::nats::target::{Layer, Target};
use cim_keys_core::roles::EDGE_API_PREFIX;
use cim_keys_tests::consume::{processor, until};
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use serde_json::{Value, json};

/// A person with a registry on a server of its own, and creds for these roles.
pub(super) fn published() -> (Person, NatsServer) {
    let person = Person::new();
    assert_eq!(person.run(&["init", "--name", "Example"]).status, Some(0));
    let place = "/folder-of-the-server";
    let words =
        ["config", "server", "--store-dir", place, "--resolver-dir", "/folder-of-the-server/accounts"];
    let text = person.run(&words).stdout;
    let make = move |folder: &std::path::Path| text.replace(place, &folder.to_string_lossy());
    let server = Setup::configured(Version::Newest, make).start();
    for role in ["host", "service", "auditor"] {
        let file = format!("{role}.creds");
        let words = ["access", "renew", "--role", role, "--server", &server.url(), "--out", &file];
        assert_eq!(person.run(&words).status, Some(0));
    }
    let synced = person.run(&["sync", "--context", "./host.json", "--output", "json"]).json();
    let made = [
        "KEYS_EVENTS",
        "KEYS_ARCHIVE",
        "KEYS_DEAD",
        "keys-projector",
        "keys-service",
        "keys-service-retry",
        "KEYS_ISSUED",
    ];
    assert_eq!((&synced["created"], &synced["warnings"]), (&json!(made), &json!([])), "{synced}");
    (person, server)
}

/// Messages 2 and 3 are given up.
async fn picky(delivery: &Delivery) -> Result<(), HandlerError> {
    match delivery.sequence() {
        2 => Err(HandlerError::poison("no such account\n\u{1b}[2J")),
        3 => Err(HandlerError::retry("the database is away")),
        _ => Ok(()),
    }
}

fn service(person: &Person) -> Target {
    let context = person.home().join("service.json");
    let target = Target::resolve(Layer::default(), context.to_str(), &|_| None, None).unwrap().unwrap();
    assert_eq!(target.api_prefix, EDGE_API_PREFIX);
    target
}

fn dlq(person: &Person, words: &[&str]) -> Said {
    person.run(&[&["dlq"], words, &["--context", "./host.json"]].concat())
}

fn json_of(person: &Person, words: &[&str]) -> Value {
    let said = dlq(person, &[words, &["--output", "json"]].concat());
    assert_eq!(said.status, Some(0), "{said:?}");
    said.json()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_retried_and_dropped() {
    let (person, server) = tokio::task::spawn_blocking(published).await.unwrap();
    assert_eq!(dlq(&person, &["list"]).stdout, "none: no message is given up\n");
    let mut processor = processor(&service(&person));
    let mut dead = 0;
    let both = |told: &Told<'_>| {
        dead += usize::from(matches!(told, Told::Dead { .. }));
        dead == 2
    };
    until(&mut processor, &mut picky, both).await;

    let listed = json_of(&person, &["list"]);
    let rows: Vec<Value> = listed["letters"].as_array().unwrap().clone();
    let essence = |row: &Value| {
        ["letter", "state", "code", "delivered"].map(|name| row[name].to_string().replace('"', ""))
    };
    assert_eq!(
        rows.iter().map(essence).collect::<Vec<_>>(),
        [
            ["KEYS_EVENTS.keys-service.2", "dead", "poison", "1"],
            ["KEYS_EVENTS.keys-service.3", "dead", "exhausted", "3"],
        ]
    );
    // Nothing that others wrote moves a cursor.
    let text = dlq(&person, &["list"]).stdout;
    assert!(text.contains("no such account\\n\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(dlq(&person, &["list", "--output", "jsonl"]).stdout.lines().count(), 2);

    let letter = "KEYS_EVENTS.keys-service.3";
    let shown = json_of(&person, &["show", letter]);
    assert_eq!(shown["server"], "terminated after 3: the database is away");
    assert_eq!((&shown["message"]["same"], shown["words"].as_array().unwrap().len()), (&json!(true), 1));
    let payload: Value = serde_json::from_str(shown["message"]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["specversion"], "1.0");
    let text = dlq(&person, &["show", letter]).stdout;
    for part in [
        "why        exhausted: the database is away\n",
        "header     CIM-Event-Type: keys.",
        "state      dead\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let missing = dlq(&person, &["show", "KEYS_EVENTS.keys-service.99"]);
    assert_eq!((missing.status, missing.stdout.as_str()), (Some(4), ""), "{missing:?}");
    assert_eq!(dlq(&person, &["show", "nonsense"]).status, Some(2));

    // Dry, then done, then done already.
    let dry = json_of(&person, &["retry", letter, "--dry-run"]);
    assert_eq!(dry["letters"], json!([{ "letter": letter, "state": "retrying", "changed": true }]));
    assert_eq!(json_of(&person, &["show", letter])["state"], "dead");
    let other = "KEYS_EVENTS.keys-service.2";
    for (changed, verb, letter, state) in [
        (true, "retry", letter, "retrying"),
        (false, "retry", letter, "retrying"),
        (true, "drop", other, "dropped"),
        (false, "drop", other, "dropped"),
    ] {
        let marked = json_of(&person, &[verb, letter]);
        let expected = json!([{ "letter": letter, "state": state, "changed": changed }]);
        assert_eq!(marked["letters"], expected, "{verb}");
    }
    // Who may only read marks nothing.
    let auditor = person.run(&["dlq", "list", "--context", "./auditor.json", "--output", "json"]).json();
    assert_eq!((&auditor["letters"][0]["state"], &auditor["done"]), (&json!("retrying"), &json!(1)));
    let refused = person.run(&["dlq", "drop", letter, "--context", "./auditor.json"]);
    assert_eq!(refused.status, Some(6), "{refused:?}");
    assert!(
        refused.stderr.contains("not permitted: cowboyai.security.keys-dead.KEYS_EVENTS."),
        "{refused:?}"
    );

    // The worker takes it up, and only it.
    let mut seen = Vec::new();
    let mut willing = async |delivery: &Delivery| {
        seen.push((delivery.sequence(), delivery.message().payload.clone()));
        Ok(())
    };
    until(&mut processor, &mut willing, |told| matches!(told, Told::Retried(_))).await;
    let whole = serde_json::to_vec(&payload).unwrap();
    assert_eq!((seen.len(), seen[0].0), (1, 3));
    assert_eq!(serde_json::from_slice::<Value>(&seen[0].1).unwrap(), payload, "{} bytes", whole.len());
    assert_eq!(
        dlq(&person, &["list"]).stdout,
        "none: no message is given up\n2 letters handled or dropped: --all shows them\n"
    );
    let all = json_of(&person, &["list", "--all"]);
    assert_eq!(
        (&all["letters"][0]["state"], &all["letters"][1]["state"]),
        (&json!("dropped"), &json!("handled"))
    );
    assert_eq!(json_of(&person, &["drop", letter])["letters"][0]["changed"], false);
    drop(server);
}

#[test]
fn without_the_stream_it_says_what_to_do() {
    let (person, server) = published();
    let mut client = cim_keys_tests::wire::Client::connect(server.address());
    assert!(client.is_err(), "the server lets nobody in: {:?}", client.as_mut().map(|_| ()));
    let plain = NatsServer::plain();
    let said = person.run(&["dlq", "list", "--server", &plain.url()]);
    assert_eq!(said.status, Some(4), "{said:?}");
    assert!(
        said.stderr.contains("there is no stream KEYS_DEAD") && said.stderr.contains("cim-keys sync"),
        "{said:?}"
    );
}
