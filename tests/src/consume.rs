//! A stream with durable consumers on a plain server, and what a worker sees of one.

use std::sync::Arc;
use std::time::Duration;

use cim_keys::ambient::Ambient;
use cim_keys::consume::{
    ConsumerName, Delivery, Handler, LetterBox, Next, Policy, Processor, State, Subscription, Tally, Told,
};
use cim_keys::nats::consumers;
use cim_keys::nats::link::Link;
use cim_keys::nats::streams::{self, Wanted};
use cim_keys::nats::target::Target;
use cim_keys_core::consumer::{ConsumerConfig, KEYS_SERVICE, KEYS_SERVICE_RETRY};
use cim_keys_core::dead::{DeadLetters, Entry, Place};
use cim_keys_core::delivery::ConsumerInfo;
use cim_keys_core::stream::{KEYS_DEAD, KEYS_EVENTS};
use cim_keys_core::subjects::Namespace;

use crate::desk::block_on;
use crate::server::NatsServer;
use crate::wire::Client;

/// A subject of the stream.
pub const SUBJECT: &str = "cowboyai.security.keys.thing.happened";

/// The consumer that most of these tests use.
///
/// # Panics
/// Never: these are names.
pub fn service() -> ConsumerName {
    ConsumerName::new(KEYS_EVENTS, KEYS_SERVICE).expect("two names")
}

/// What the design wants of a plain server, the service's ack wait a shorter one.
pub fn wanted(ack_wait: Duration) -> Wanted {
    let mut wanted = Wanted::new(&Namespace::default());
    let nanos = u64::try_from(ack_wait.as_nanos()).expect("a short time");
    for consumer in &mut wanted.consumers {
        consumer.ack_wait = nanos;
    }
    wanted
}

/// The streams and consumers on a plain server.
///
/// # Panics
/// When they cannot be made.
pub fn make(url: &str, wanted: &Wanted) {
    block_on(async {
        let link = Link::connect(&Target::open(url), 0).await.expect("a connection");
        streams::ensure(&link, wanted).await.expect("the streams");
        consumers::ensure(&link, wanted).await.expect("the consumers");
    });
}

/// A plain server with the streams and consumers, and so many messages on the stream.
///
/// # Panics
/// When anything of it fails.
pub fn server(wanted: &Wanted, messages: usize) -> NatsServer {
    let server = NatsServer::plain();
    make(&server.url(), wanted);
    publish(&server, 0, messages);
    server
}

/// Puts messages on the stream; each one's payload is its number.
///
/// # Panics
/// When one is refused.
pub fn publish(server: &NatsServer, first: usize, count: usize) {
    let mut client = Client::connect(server.address()).expect("a connection");
    for number in first..first + count {
        let id = format!("m{number}");
        let payload = number.to_string();
        // Only the last one is waited for: a stream takes them in order.
        if number + 1 < first + count {
            client.publish(SUBJECT, None, &[("Nats-Msg-Id", &id)], payload.as_bytes()).expect("a connection");
        } else {
            let ack =
                client.request(SUBJECT, &[("Nats-Msg-Id", &id)], payload.as_bytes()).expect("an answer");
            assert!(ack.json()["seq"].is_u64(), "{}", ack.json());
        }
    }
}

/// A subscription without a registry.
pub fn subscription(target: Target) -> Subscription<'static> {
    Subscription::new(service(), target, Arc::new(Ambient::system()))
}

/// The next message.
///
/// # Panics
/// When none comes in time.
pub async fn next(subscription: &mut Subscription<'_>) -> Delivery {
    let next = tokio::time::timeout(crate::wait::PATIENCE, subscription.delivery()).await;
    next.unwrap_or_else(|_| panic!("no message: {:?}", subscription.state()))
}

/// Waits until it stands so.
///
/// # Panics
/// When a message comes, or it does not come to stand so in time.
pub async fn state(subscription: &mut Subscription<'_>, code: &str) {
    let mut seen = Vec::new();
    let waiting = async {
        loop {
            match subscription.next().await {
                Next::Delivery(delivery) => panic!("{delivery:?}"),
                Next::State(State::Following) if code == "following" => return,
                Next::State(State::Blocked { reason } | State::Waiting { reason }) if reason.code == code => {
                    return;
                }
                Next::State(state) => seen.push(state),
            }
        }
    };
    if tokio::time::timeout(crate::wait::PATIENCE, waiting).await.is_err() {
        panic!("never {code}: {seen:?}");
    }
}

/// How a consumer stands.
///
/// # Panics
/// When nobody says.
pub async fn info(url: &str, config: &ConsumerConfig) -> ConsumerInfo {
    let link = Link::connect(&Target::open(url), 0).await.expect("a connection");
    consumers::info(&link, &config.stream, &config.name).await.expect("a consumer")
}

/// What a handler gets here: short pauses, so that tests need no long ones.
pub fn impatient() -> Policy {
    Policy {
        tries: 3,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        ..Policy::default()
    }
}

/// A processor on a plain server, which takes up dead letters as well.
///
/// # Panics
/// Never: these are names.
pub fn processor(target: &Target) -> Processor<'static> {
    let letters = LetterBox::new(Namespace::default());
    let retry = ConsumerName::new(KEYS_DEAD, KEYS_SERVICE_RETRY).expect("two names");
    Processor::new(service(), letters, target.clone(), Arc::new(Ambient::system()))
        .retrying(retry)
        .policy(impatient())
}

/// Runs it until something is told, and it has stopped; gives what it did.
///
/// # Panics
/// When that is not told in time, or it takes longer than 5 s to stop.
pub async fn until(
    processor: &mut Processor<'_>,
    handler: &mut impl Handler,
    mut enough: impl FnMut(&Told<'_>) -> bool,
) -> Tally {
    let stop = tokio::sync::Notify::new();
    let asked = std::cell::Cell::new(None);
    let mut said = std::collections::VecDeque::new();
    let run = processor.run(handler, stop.notified(), |told| {
        said.push_back(format!("{told:?}"));
        if asked.get().is_none() && enough(told) {
            asked.set(Some(std::time::Instant::now()));
            stop.notify_one();
        }
    });
    let tally = tokio::time::timeout(crate::wait::PATIENCE, run).await;
    let tally = tally.unwrap_or_else(|_| panic!("never told: {said:#?}"));
    let took = asked.get().expect("it was asked to stop").elapsed();
    assert!(took < Duration::from_secs(5), "stopped after {took:?}");
    tally
}

/// All dead letters on a plain server.
///
/// # Panics
/// When they cannot be read.
pub async fn letters(url: &str) -> DeadLetters {
    let link = Link::connect(&Target::open(url), 0).await.expect("a connection");
    LetterBox::new(Namespace::default()).read(&link).await.expect("the dead letters")
}

/// The place of a message that the service gave up.
pub fn place(sequence: u64) -> Place {
    Place { stream: KEYS_EVENTS.into(), consumer: KEYS_SERVICE.into(), sequence }
}

/// One dead letter.
///
/// # Panics
/// When there is none.
pub fn letter(letters: &DeadLetters, sequence: u64) -> &Entry {
    letters.get(&place(sequence)).unwrap_or_else(|| panic!("no letter of {sequence}: {letters:?}"))
}

/// The number that a message carries.
///
/// # Panics
/// When it carries none.
pub fn number(delivery: &Delivery) -> usize {
    let text = std::str::from_utf8(&delivery.message().payload).expect("text");
    text.parse().expect("a number")
}

/// Waits until a consumer has nothing out and nothing to deliver.
///
/// # Panics
/// When it does not come to that in time.
pub async fn settled(url: &str, config: &ConsumerConfig) {
    let link = Link::connect(&Target::open(url), 0).await.expect("a connection");
    let waiting = crate::wait::asking(async || {
        let info = consumers::info(&link, &config.stream, &config.name).await;
        info.is_ok_and(|info| (info.ack_pending, info.pending) == (0, 0))
    });
    tokio::time::timeout(crate::wait::PATIENCE, waiting).await.expect("a consumer that comes to rest");
}
