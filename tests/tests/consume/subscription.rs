//! What a subscription yields, and what it says when something is in its way.

use cim_keys::ambient::Ambient;
use cim_keys::consume::{AckError, ConsumerName, LetterBox, Said, Subscription};
use cim_keys::nats::consumers;
use cim_keys::nats::link::{Link, Trouble};
use cim_keys::nats::target::Target;
use cim_keys::outbox::Outbox;
use cim_keys::ports::JetStreamPort;
use cim_keys_core::consumer::declared;
use cim_keys_core::dead::Word;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_core::subjects::Namespace;
use cim_keys_tests::consume::{
    info, make, next, place, publish, server, service, state, subscription, wanted,
};
use cim_keys_tests::pipeline::ask;
use cim_keys_tests::site::Site;
use cim_keys_tests::wire::Client;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const ACK_WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_service_consumes_through_the_edge_what_the_stream_holds() {
    let site = Site::found();
    let server = site.server();
    let url = server.url();
    site.streams(&url).await;
    let made = site.consumers(&url).await;
    assert_eq!(
        made.created,
        ["KEYS_DEAD", "keys-projector", "keys-service", "keys-service-retry", "KEYS_ISSUED"]
    );
    assert_eq!(site.consumers(&url).await.created, [""; 0]);
    site.sync(&url).await;

    let target = site.role(PipelineRole::Service, &url);
    let mut consumer = Subscription::new(service(), target, Arc::new(Ambient::system()));
    let last = site.host.store().progress().unwrap().head;
    for sequence in 1..=last {
        let delivery = next(&mut consumer).await;
        let trail = site.host.store().trail(sequence - 1, 1).unwrap().pop().unwrap();
        let message = delivery.message();
        assert_eq!((message.sequence, &message.subject), (sequence, &trail.subject));
        assert_eq!(message.payload, trail.payload);
        for (name, value) in trail.headers.iter() {
            assert_eq!(message.headers.only(name), Some(value), "{name}");
        }
        assert_eq!((delivery.delivered(), delivery.pending()), (1, last - sequence));
        // In progress, and then done: both are confirmed.
        delivery.in_progress().await.unwrap();
        delivery.ack().await.unwrap();
    }
    let seen = site.consumers(&url).await.consumers;
    let service = seen.iter().find(|seen| seen.config.name == "keys-service").unwrap();
    assert_eq!((service.ack_floor, service.ack_pending, service.pending), (last, 0, 0));
}

#[tokio::test]
async fn a_service_without_a_registry_consumes_on_a_plain_server() {
    let wanted = wanted(ACK_WAIT);
    let server = tokio::task::spawn_blocking({
        let wanted = wanted.clone();
        move || server(&wanted, 3)
    });
    let server = server.await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let names = ("ORDERS".parse().unwrap(), Namespace::default());
    let outbox = Outbox::open(&folder.path().join("outbox.db"), names.0, names.1, Ambient::system()).unwrap();
    let mut consumer = outbox.subscribe(service(), Target::open(&server.url()));

    let [first, second, third] =
        [next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    assert_eq!([&first, &second, &third].map(|one| one.sequence()), [1, 2, 3]);
    first.ack().await.unwrap();
    second.nak(Duration::from_millis(200)).await.unwrap();
    third.term("nobody can read it").await.unwrap();
    // Only what was given back comes again, with its count.
    let again = next(&mut consumer).await;
    assert_eq!((again.sequence(), again.delivered()), (2, 2));
    assert_eq!(again.message(), second.message());
    assert_eq!(again.stored(), second.stored());
    again.ack().await.unwrap();
    let seen = info(&server.url(), &wanted.consumers[1]).await;
    assert_eq!((seen.ack_floor, seen.ack_pending, seen.pending), (3, 0, 0));
}

#[tokio::test]
async fn an_acknowledgement_that_nobody_hears_is_none() {
    let server = tokio::task::spawn_blocking(|| server(&wanted(ACK_WAIT), 1)).await.unwrap();
    let mut consumer = subscription(Target::open(&server.url()));
    let delivery = next(&mut consumer).await;
    let mut client = Client::connect(server.address()).unwrap();
    let gone = ask(&mut client, "$JS.API.CONSUMER.DELETE.KEYS_EVENTS.keys-service", &[], b"");
    assert_eq!(gone["success"], true);
    // The client library's own `double_ack` says that all is well.
    for said in [delivery.ack().await, delivery.in_progress().await, delivery.term("no").await] {
        assert_eq!(said, Err(AckError::NoAnswer { trouble: Trouble::NoResponders }));
    }
    state(&mut consumer, "consumer-missing").await;
    // Made anew, it delivers the message that was never acknowledged.
    let url = server.url();
    tokio::task::spawn_blocking(move || make(&url, &wanted(ACK_WAIT))).await.unwrap();
    state(&mut consumer, "following").await;
    let again = next(&mut consumer).await;
    assert_eq!((again.sequence(), again.delivered()), (1, 1));
    again.ack().await.unwrap();
}

#[tokio::test]
async fn what_is_in_the_way_has_a_name() {
    let server = tokio::task::spawn_blocking(|| server(&wanted(ACK_WAIT), 0)).await.unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    let mut consumer = subscription(Target::open(&server.url()));
    state(&mut consumer, "following").await;
    let pause = "$JS.API.CONSUMER.PAUSE.KEYS_EVENTS.keys-service";
    let paused = ask(&mut client, pause, &[], br#"{"pause_until":"2199-01-01T00:00:00Z"}"#);
    assert_eq!(paused["paused"], true);
    publish(&server, 0, 1);
    state(&mut consumer, "consumer-paused").await;
    let link = Link::connect(&Target::open(&server.url()), 0).await.unwrap();
    let seen = consumers::look(&link, &wanted(ACK_WAIT)).await.unwrap();
    let said = "the consumer keys-service of KEYS_EVENTS is paused until 2199-01-01T00:00:00Z: nothing is delivered to it";
    assert_eq!(seen.warnings(), [said]);
    assert_eq!(ask(&mut client, pause, &[], b"{}")["paused"], false);
    state(&mut consumer, "following").await;
    next(&mut consumer).await.ack().await.unwrap();

    // Somebody set the consumer otherwise: named, and not changed.
    let mut config = consumers::to_json(&wanted(ACK_WAIT).consumers[1]);
    config["max_ack_pending"] = json!(7);
    let body = json!({ "stream_name": KEYS_EVENTS, "config": config }).to_string();
    ask(&mut client, "$JS.API.CONSUMER.CREATE.KEYS_EVENTS.keys-service", &[], body.as_bytes());
    let error = consumers::ensure(&link, &wanted(ACK_WAIT)).await.unwrap_err();
    let text =
        "the consumer keys-service of KEYS_EVENTS has other settings: max_ack_pending is 7, must be 1000";
    assert_eq!((error.code(), error.to_string().as_str()), ("consumer-settings", text));

    ask(&mut client, "$JS.API.STREAM.DELETE.KEYS_EVENTS", &[], b"");
    state(&mut consumer, "stream-missing").await;
    drop(server);
    state(&mut consumer, "unreachable").await;
}

#[tokio::test]
async fn whoever_may_not_consume_is_told_so() {
    let site = Site::found();
    let server = site.server();
    let url = server.url();
    site.streams(&url).await;
    site.consumers(&url).await;
    for role in [PipelineRole::Auditor, PipelineRole::Host] {
        let mut consumer = subscription(site.role(role, &url));
        state(&mut consumer, "permission").await;
    }
    assert_eq!(declared(&Namespace::default()).len(), 3);
}

#[tokio::test]
async fn a_server_that_comes_back_goes_on() {
    let server = tokio::task::spawn_blocking(|| server(&wanted(Duration::from_secs(30)), 2)).await.unwrap();
    let mut consumer = subscription(Target::open(&server.url())).batch(1);
    let first = next(&mut consumer).await;
    let server = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.kill();
        server.restart();
        server
    })
    .await
    .unwrap();
    // One that was killed may have forgotten what it had delivered: that comes again.
    let mut second = next(&mut consumer).await;
    if second.sequence() == 1 {
        second = next(&mut consumer).await;
    }
    assert_eq!(second.sequence(), 2);
    // What was delivered over the old connection is acknowledged over the new one.
    first.ack().await.unwrap();
    second.ack().await.unwrap();
    drop(server);
}

#[tokio::test]
async fn what_is_given_back_through_the_edge_comes_again() {
    let site = Site::found();
    let server = site.server();
    let url = server.url();
    site.streams(&url).await;
    site.consumers(&url).await;
    site.sync(&url).await;
    let target = site.role(PipelineRole::Service, &url);
    let mut consumer = subscription(target.clone());
    let first = next(&mut consumer).await;
    first.nak(Duration::from_millis(20)).await.unwrap();
    let last = site.host.store().progress().unwrap().head;
    for _ in 1..last {
        next(&mut consumer).await.ack().await.unwrap();
    }
    let again = next(&mut consumer).await;
    assert_eq!((again.sequence(), again.delivered()), (1, 2));
    again.term("enough").await.unwrap();

    // Dead letters and what is said of them go the same way.
    let link = Link::connect(&target, 0).await.unwrap();
    let letters = LetterBox::new(Namespace::default());
    let word = Word::Retry { actor: "ann".into(), at: again.stored() };
    assert_eq!(letters.say(&link, &place(1), &word, 0).await, Ok(Said::Stored(2)));
    let name = ConsumerName::new("KEYS_DEAD", "keys-service-retry").unwrap();
    let mut retries = Subscription::new(name, target, Arc::new(Ambient::system()));
    let mark = next(&mut retries).await;
    assert_eq!(mark.sequence(), 2);
    mark.nak(Duration::from_millis(20)).await.unwrap();
    let mark = next(&mut retries).await;
    assert_eq!((mark.sequence(), mark.delivered()), (2, 2));
    mark.ack().await.unwrap();
}
