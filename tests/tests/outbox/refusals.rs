//! What cannot be published, and who is told what.

use cim_keys::ambient::Ambient;
use cim_keys::error::KeyError;
use cim_keys::nats::target::Target;
use cim_keys::outbox::{Outbox, OutboxPump};
use cim_keys::ports::JetStreamPort;
use cim_keys::pump::{End, PumpError};
use cim_keys_core::outbox::{DomainEvent, Refusal};
use cim_keys_tests::desk::block_on;
use cim_keys_tests::outbox::{Shop, event};
use cim_keys_tests::server::Setup;
use cim_keys_tests::tools::Version;
use serde_json::json;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(120);

fn open(shop: &Shop) -> Target {
    Target::open(&shop.server.url())
}

fn refusal(result: Result<Option<cim_keys::outbox::Published>, KeyError>) -> Refusal {
    match result {
        Err(KeyError::NotPublished { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn blocked(end: End) -> String {
    match end {
        End::Blocked(reason) => format!("{}: {}", reason.code, reason.text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_that_names_what_it_follows_is_there_or_the_conflict_is_named() {
    for version in [Version::Newest, Version::Oldest] {
        let shop = Shop::with(version, &json!({}));
        let outbox = shop.outbox();
        let expecting = |number, expected| {
            let event = DomainEvent { expected: Some(expected), ..event(number) };
            outbox.publish_event(&event).unwrap()
        };
        let (first, second) = (expecting(0, 0), expecting(1, 1));
        assert_eq!(shop.drain(&open(&shop)), End::Drained);
        assert_eq!(first.look().unwrap().unwrap().sequence, 1);
        assert_eq!(second.look().unwrap().unwrap().sequence, 2);
        // Somebody else comes in between; and a number that nothing has yet.
        shop.client().request(event(0).subject.as_str(), &[], b"9").unwrap();
        let (overtaken, ahead) = (expecting(2, 2), expecting(3, 77));
        let after = expecting(4, 3);
        assert_eq!(shop.drain(&open(&shop)), End::Drained);
        assert_eq!(refusal(overtaken.look()), Refusal::Conflict { expected: 2, found: 3 });
        assert_eq!(refusal(ahead.look()), Refusal::Conflict { expected: 77, found: 3 });
        assert_eq!(after.look().unwrap().unwrap().sequence, 4);
        assert_eq!(shop.numbers(), [0, 1, 9, 4]);
    }
}

#[test]
fn an_id_that_somebody_else_used_is_named() {
    let shop = Shop::new(WINDOW);
    let id = event(0).event.message_id.to_string();
    shop.client().request("cowboyai.security.orders.probe.sent", &[("Nats-Msg-Id", &id)], b"7").unwrap();
    let outbox = shop.outbox();
    let (taken, next) = (outbox.publish_event(&event(0)).unwrap(), outbox.publish_event(&event(1)).unwrap());
    assert_eq!(shop.drain(&open(&shop)), End::Drained);
    assert_eq!(refusal(taken.look()), Refusal::IdTaken { sequence: 1 });
    assert_eq!(next.look().unwrap().unwrap().sequence, 2);
    assert_eq!(outbox.counts().unwrap(), cim_keys::outbox::Counts { pending: 0, published: 1, refused: 1 });
}

#[test]
fn what_is_too_large_for_the_stream_is_refused_and_the_others_go_on() {
    let shop = Shop::with(Version::Newest, &json!({ "max_msg_size": 2_000 }));
    let outbox = shop.outbox();
    let large = DomainEvent { payload: vec![b'1'; 3_000], ..event(0) };
    let (large, next) = (outbox.publish_event(&large).unwrap(), outbox.publish_event(&event(1)).unwrap());
    assert_eq!(shop.drain(&open(&shop)), End::Drained);
    assert_eq!(refusal(large.look()), Refusal::TooLarge);
    assert_eq!(next.look().unwrap().unwrap().sequence, 1);
}

#[test]
fn a_stream_that_is_missing_silent_or_another_one_blocks() {
    let shop = Shop::new(WINDOW);
    let outbox = shop.outbox();
    let receipt = outbox.publish_event(&event(0)).unwrap();
    assert_eq!(shop.api("STREAM.DELETE.ORDERS", &json!({}))["success"], true);
    let told = blocked(shop.drain(&open(&shop)));
    assert!(told.starts_with("stream-missing: the stream ORDERS does not exist"), "{told}");
    // Its subject belongs to another stream.
    shop.create("OTHER", &json!(["cowboyai.security.orders.>"]), &json!({}));
    shop.create("ORDERS", &json!(["elsewhere.>"]), &json!({}));
    let told = blocked(shop.drain(&open(&shop)));
    assert!(told.starts_with("stream-settings: the stream ORDERS does not take the event"), "{told}");
    let other = shop.api("STREAM.INFO.OTHER", &json!({}));
    assert_eq!(other["state"]["messages"], 0);
    for name in ["OTHER", "ORDERS"] {
        shop.api(&format!("STREAM.DELETE.{name}"), &json!({}));
    }
    shop.create("ORDERS", &json!(["cowboyai.security.orders.>"]), &json!({ "no_ack": true }));
    let told = blocked(shop.drain(&open(&shop)));
    assert!(told.starts_with("stream-settings: the stream ORDERS acknowledges nothing"), "{told}");
    // Nothing was given up.
    assert_eq!(receipt.look(), Ok(None));
    shop.api("STREAM.DELETE.ORDERS", &json!({}));
    shop.create("ORDERS", &json!(["cowboyai.security.orders.>"]), &json!({}));
    assert_eq!(shop.drain(&open(&shop)), End::Drained);
    assert_eq!(receipt.look().unwrap().unwrap().sequence, 1);
}

#[test]
fn a_stream_that_keeps_too_little_takes_no_expectation() {
    let shop = Shop::with(Version::Newest, &json!({ "max_msgs_per_subject": 1 }));
    let outbox = shop.outbox();
    let expecting = DomainEvent { expected: Some(0), ..event(0) };
    let (refused, plain) =
        (outbox.publish_event(&expecting).unwrap(), outbox.publish_event(&event(1)).unwrap());
    assert_eq!(shop.drain(&open(&shop)), End::Drained);
    assert_eq!(refusal(refused.look()), Refusal::Forgetful);
    assert_eq!(plain.look().unwrap().unwrap().sequence, 1);
}

#[test]
fn a_subject_that_is_not_permitted_is_named() {
    let setup = Setup::configured(Version::Newest, |folder| {
        format!(
            "jetstream {{ store_dir: {:?} }}\nauthorization {{ users: [\n\
             {{ user: steward, password: s }},\n\
             {{ user: orders, password: o, permissions: {{ publish: [\"$JS.API.>\"], subscribe: [\"_INBOX.>\"] }} }}\n] }}\n",
            folder.join("store")
        )
    });
    let server = setup.start();
    let folder = tempfile::TempDir::new().unwrap();
    let outbox = Shop::open(&folder.path().join("orders.outbox"));
    outbox.publish_event(&event(0)).unwrap();
    let access = |user: &str, password: &str| Target {
        access: std::sync::Arc::new(cim_keys::nats::target::Access::User {
            user: user.into(),
            password: cim_keys_core::secret::SecretText::new(password.into()),
        }),
        ..Target::open(&server.url())
    };
    block_on(async {
        let link = cim_keys::nats::link::Link::connect(&access("steward", "s"), 0).await.unwrap();
        let body = json!({ "name": "ORDERS", "subjects": ["cowboyai.security.orders.>"] }).to_string();
        link.ask("$JS.API.STREAM.CREATE.ORDERS", None, body.into_bytes(), WINDOW).await.unwrap();
        let mut pump = OutboxPump::new(&outbox, access("orders", "o")).unwrap();
        let told = blocked(pump.drain(WINDOW, std::future::pending(), |_| {}).await.unwrap());
        assert!(
            told.starts_with("permission: not permitted: cowboyai.security.orders.order.placed"),
            "{told}"
        );
        assert!(told.contains("MSG.GET"), "{told}");
    });
}

#[test]
fn one_id_is_one_event_and_one_file_one_stream() {
    let shop = Shop::new(WINDOW);
    let outbox = shop.outbox();
    let receipt = outbox.publish_event(&event(0)).unwrap();
    assert_eq!(outbox.publish_event(&event(0)).unwrap().id(), receipt.id());
    let other = DomainEvent { payload: b"other".to_vec(), ..event(0) };
    let taken = KeyError::EventIdTaken { id: receipt.id() };
    assert_eq!(outbox.publish_event(&other).map(|receipt| receipt.id()), Err(taken));
    assert_eq!(outbox.counts().unwrap().pending, 1);
    assert_eq!(shop.drain(&open(&shop)), End::Drained);
    // Known by its id also when it is published.
    assert_eq!(outbox.publish_event(&event(0)).unwrap().look().unwrap().unwrap().sequence, 1);
    let later = Ambient::system().now();
    assert_eq!(outbox.forget_settled(later).unwrap(), 1);
    assert_eq!(receipt.look(), Err(KeyError::NoEvent { id: receipt.id() }));

    let elsewhere = Outbox::open(
        &shop.file(),
        "OTHER".parse().unwrap(),
        "cowboyai.security".parse().unwrap(),
        Ambient::system(),
    );
    assert_eq!(elsewhere.unwrap_err().code(), "outbox-foreign");
    let keys = shop.file().with_extension("keys");
    let keys = Outbox::open(
        &keys,
        "KEYS_EVENTS".parse().unwrap(),
        "cowboyai.security".parse().unwrap(),
        Ambient::system(),
    );
    assert_eq!(keys.unwrap_err().code(), "event-keys-stream");
    let mut pump = OutboxPump::new(&outbox, open(&shop)).unwrap();
    let second = OutboxPump::new(&outbox, open(&shop)).map(drop);
    assert!(matches!(second, Err(PumpError::Locked { .. })), "{second:?}");
    // A service may run it as a task.
    let stopped = async move { pump.stay(std::future::ready(()), |_| {}).await };
    let task = async { tokio::spawn(stopped).await.unwrap() };
    assert_eq!(block_on(task), Ok(End::Stopped));
}

#[test]
fn events_of_the_keys_and_what_no_header_carries_never_get_into_the_journal() {
    let shop = Shop::new(WINDOW);
    let outbox = shop.outbox();
    let code = |change: fn(&mut DomainEvent)| {
        let mut event = event(0);
        change(&mut event);
        outbox.publish_event(&event).unwrap_err().code()
    };
    let keys =
        |event: &mut DomainEvent| event.subject = cim_keys_core::subjects::USER_CREATED.parse().unwrap();
    assert_eq!(code(keys), "event-keys-domain");
    assert_eq!(code(|event| event.subject = "a.b.orders.order.placed".parse().unwrap()), "event-namespace");
    assert_eq!(code(|event| event.source = "a\r\nb".into()), "header-value");
    assert_eq!(code(|event| event.headers = vec![(String::new(), "x".into())]), "header-name");
    assert_eq!(
        code(|event| event.headers = vec![("Nats-Rollup".into(), "all".into())]),
        "event-reserved-header"
    );
    assert_eq!(code(|event| event.payload = vec![0; 2_000_000]), "event-too-large");
    assert_eq!(outbox.counts().unwrap(), cim_keys::outbox::Counts::default());
}
