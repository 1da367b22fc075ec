//! What a person sees of a service's outbox.

use cim_keys::nats::target::Target;
use cim_keys::outbox::OutboxPump;
use cim_keys::ports::JetStreamPort;
use cim_keys::pump::End;
use cim_keys_core::outbox::DomainEvent;
use cim_keys_tests::outbox::{Shop, event};
use cim_keys_tests::program::Person;
use serde_json::Value;
use std::time::Duration;

#[test]
fn pending_published_and_refused_events_are_seen_and_nothing_is_changed() {
    let shop = Shop::new(Duration::from_secs(120));
    let person = Person::new();
    let file = shop.file();
    let status =
        |more: &[&str]| person.run(&[&["outbox", "status", "--file", file.to_str().unwrap()], more].concat());
    let json = || status(&["--output", "json"]).json();
    let missing = status(&[]);
    assert_eq!(missing.status, Some(4), "{missing:?}");
    assert!(!file.exists());

    let outbox = shop.outbox();
    let seen = json();
    assert_eq!((&seen["stream"], &seen["pending"]), (&"ORDERS".into(), &0.into()), "{seen}");
    assert_eq!((&seen["oldest_pending"], &seen["last_published"]), (&Value::Null, &Value::Null), "{seen}");
    outbox.publish_event(&event(0)).unwrap();
    let refused = DomainEvent { expected: Some(77), ..event(1) };
    outbox.publish_event(&refused).unwrap();
    assert_eq!(shop.drain(&Target::open(&shop.server.url())), End::Drained);
    outbox.publish_event(&event(2)).unwrap();
    outbox.publish_event(&event(3)).unwrap();
    let seen = json();
    let counts = ["pending", "published", "refused", "in_doubt"].map(|name| seen[name].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 0], "{seen}");
    assert_eq!((&seen["publishing"], seen["oldest_pending"].is_string()), (&false.into(), true), "{seen}");
    let last = &seen["last_published"];
    assert_eq!((&last["sequence"], &last["id"]), (&1.into(), &event(0).event.message_id.to_string().into()));
    let refusal = &seen["refusals"][0];
    assert_eq!(
        (&refusal["id"], &refusal["code"]),
        (&event(1).event.message_id.to_string().into(), &"subject-conflict".into())
    );
    let text = status(&[]).stdout;
    for word in [
        "stream     ORDERS, of cowboyai.security\n",
        "pending    2 events, the oldest for ",
        "NOBODY publishes them now",
        "published  1 event, the last at 1: cowboyai.security.orders.order.placed ",
        "refused    1 event\n",
        "the last message of its subject is 1, not 77",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let pump = OutboxPump::new(&outbox, Target::open(&shop.server.url())).unwrap();
    assert_eq!(json()["publishing"], true);
    assert!(!status(&[]).stdout.contains("obody publishes"));
    drop(pump);
    // Looking changed nothing: all that is left goes out.
    assert_eq!(shop.drain(&Target::open(&shop.server.url())), End::Drained);
    assert_eq!(shop.numbers(), [0, 2, 3]);
    // A registry's store is none.
    assert_eq!(person.run(&["init", "--name", "Example"]).status, Some(0));
    let store = person.home().join(".local/share/cim-keys/registries/default/store.db");
    let foreign = person.run(&["outbox", "status", "--file", store.to_str().unwrap()]);
    assert!(foreign.status != Some(0) && foreign.stdout.is_empty(), "{foreign:?}");
}
