//! What becomes of a message: handled, tried again, or a dead letter with its reason.

use cim_keys::consume::{Delivery, HandlerError, LetterBox, Policy, Said, Told};
use cim_keys::nats::link::Link;
use cim_keys::nats::target::Target;
use cim_keys_core::dead::{Letter, Standing, Word};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use cim_keys_tests::consume::{
    impatient, info, letter, letters, make, next, number, place, processor, server, settled, subscription,
    until, wanted,
};
use cim_keys_tests::pipeline::ask;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wire::Client;
use std::time::{Duration, Instant};

const ACK_WAIT: Duration = Duration::from_secs(30);

/// A server with so many messages.
async fn served(ack_wait: Duration, messages: usize) -> NatsServer {
    tokio::task::spawn_blocking(move || server(&wanted(ack_wait), messages)).await.unwrap()
}

/// Message 2 cannot be read, message 4 always fails.
async fn picky(delivery: &Delivery) -> Result<(), HandlerError> {
    match number(delivery) {
        2 => Err(HandlerError::poison("no such thing as 2")),
        4 => Err(HandlerError::retry("the database is away")),
        _ => Ok(()),
    }
}

fn at() -> Timestamp {
    Timestamp::from_millis(1_795_423_807_042).unwrap()
}

#[tokio::test]
async fn what_cannot_be_handled_becomes_one_letter_and_everything_else_is_handled() {
    let server = served(ACK_WAIT, 7).await;
    let url = server.url();
    let mut tries = [0; 7];
    let mut handler = async |delivery: &Delivery| {
        tries[number(delivery)] += 1;
        picky(delivery).await
    };
    let mut processor = processor(&Target::open(&url));
    let mut count = 0;
    let tally = until(&mut processor, &mut handler, |told| {
        count += usize::from(matches!(told, Told::Handled(_) | Told::Dead { .. }));
        count == 7
    })
    .await;
    assert_eq!((tally.handled, tally.dead, tally.failed, tally.not_confirmed), (5, 2, 2, 0));
    assert_eq!(tries, [1, 1, 1, 1, 3, 1, 1]);
    let seen = info(&url, &wanted(ACK_WAIT).consumers[1]).await;
    assert_eq!((seen.ack_floor, seen.ack_pending, seen.pending), (7, 0, 0));

    // Each letter once, and what the server said of it beside.
    let letters = letters(&url).await;
    assert_eq!((letters.entries().count(), letters.unreadable()), (2, &[][..]));
    for (sequence, code, reason, delivered) in
        [(3, "poison", "no such thing as 2", 1), (5, "exhausted", "the database is away", 3)]
    {
        let entry = letter(&letters, sequence);
        assert_eq!((entry.state, entry.why(), entry.words.len()), (Standing::Dead, (code, reason), 1));
        assert_eq!(entry.letter.as_ref().unwrap().delivered, delivered);
        let advisory = entry.advisory.as_ref().unwrap();
        assert_eq!((advisory.code.as_str(), advisory.reason.as_str()), ("terminated", reason));
    }
}

#[tokio::test]
async fn without_a_stream_of_dead_letters_nothing_is_given_up() {
    let server = served(ACK_WAIT, 3).await;
    let url = server.url();
    let mut client = Client::connect(server.address()).unwrap();
    ask(&mut client, "$JS.API.STREAM.DELETE.KEYS_DEAD", &[], b"");
    let mut processor = processor(&Target::open(&url));
    let mut stuck = 0;
    let tally = until(&mut processor, &mut picky, |told| {
        let Told::Stuck { place: found, error } = told else { return false };
        assert_eq!((*found, error.to_string()), (&place(3), "there is no stream KEYS_DEAD".to_owned()));
        stuck += 1;
        stuck == 2
    })
    .await;
    assert_eq!((tally.handled, tally.dead), (2, 0));
    let seen = info(&url, &wanted(ACK_WAIT).consumers[1]).await;
    assert_eq!((seen.ack_floor, seen.ack_pending), (2, 1), "the message stays");

    // Once the stream is there, the same message gets its letter.
    let there = url.clone();
    tokio::task::spawn_blocking(move || make(&there, &wanted(ACK_WAIT))).await.unwrap();
    until(&mut processor, &mut picky, |told| matches!(told, Told::Dead { code: "poison", .. })).await;
    assert_eq!(letter(&letters(&url).await, 3).words.len(), 1);
    assert_eq!(info(&url, &wanted(ACK_WAIT).consumers[1]).await.ack_floor, 3);
}

#[tokio::test]
async fn a_letter_is_written_once_whoever_was_killed_before_it_was_said() {
    let server = served(ACK_WAIT, 1).await;
    let url = server.url();
    // A worker wrote the letter, and was gone before it said so to the consumer.
    let link = Link::connect(&Target::open(&url), 0).await.unwrap();
    let letter_box = LetterBox::new(Namespace::default());
    let mut consumer = subscription(Target::open(&url));
    let delivery = next(&mut consumer).await;
    let written = Letter::new(delivery.message(), delivery.stored(), 1, "poison", "unreadable", at());
    let word = Word::Letter(written);
    assert_eq!(letter_box.say(&link, &place(1), &word, 0).await, Ok(Said::Stored(1)));
    assert_eq!(letter_box.say(&link, &place(1), &word, 0).await, Ok(Said::Overtaken));
    delivery.nak(Duration::from_millis(1)).await.unwrap();
    drop(consumer);

    let mut handler = async |_: &Delivery| -> Result<(), HandlerError> { panic!("it is dead") };
    until(&mut processor(&Target::open(&url)), &mut handler, |told| matches!(told, Told::Dead { .. })).await;
    let letters = letters(&url).await;
    assert_eq!(letter(&letters, 1).words.len(), 1);
    assert_eq!(letter(&letters, 1).advisory.as_ref().unwrap().reason, "unreadable");
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_when_a_person_says_so() {
    let server = served(ACK_WAIT, 5).await;
    let url = server.url();
    let link = Link::connect(&Target::open(&url), 0).await.unwrap();
    let letter_box = LetterBox::new(Namespace::default());
    let mut processor = processor(&Target::open(&url));
    let mut dead = 0;
    until(&mut processor, &mut picky, |told| {
        dead += usize::from(matches!(told, Told::Dead { .. }));
        dead == 2
    })
    .await;
    let retry = |actor: &str| Word::Retry { actor: actor.into(), at: at() };
    let entry = async |sequence| letter_box.entry(&link, &place(sequence)).await.unwrap().unwrap();

    // 3 was dropped before anybody took it up: the older word changes nothing.
    let last = entry(3).await.last();
    let Ok(Said::Stored(marked)) = letter_box.say(&link, &place(3), &retry("ann"), last).await else {
        panic!()
    };
    let dropped = Word::Dropped { actor: "bob".into(), at: at() };
    assert!(matches!(letter_box.say(&link, &place(3), &dropped, marked).await, Ok(Said::Stored(_))));
    // 5 fails again, and has another letter; then it succeeds.
    let last = entry(5).await.last();
    letter_box.say(&link, &place(5), &retry("ann"), last).await.unwrap();
    assert_eq!(letter_box.say(&link, &place(5), &retry("eve"), last).await, Ok(Said::Overtaken));
    let mut handled = Vec::new();
    let mut failing = async |delivery: &Delivery| {
        handled.push((delivery.sequence(), delivery.stream().to_owned()));
        picky(delivery).await
    };
    until(&mut processor, &mut failing, |told| matches!(told, Told::Dead { code: "exhausted", .. })).await;
    let events = "KEYS_EVENTS".to_owned();
    assert_eq!(handled, [(5, events.clone()), (5, events.clone()), (5, events)]);
    assert_eq!((entry(5).await.state, entry(5).await.words.len()), (Standing::Dead, 3));
    letter_box.say(&link, &place(5), &retry("ann"), entry(5).await.last()).await.unwrap();
    let mut willing = async |_: &Delivery| Ok(());
    let tally = until(&mut processor, &mut willing, |told| matches!(told, Told::Retried(_))).await;
    assert_eq!(tally.retried, 1);
    assert_eq!((entry(5).await.state, entry(3).await.state), (Standing::Handled, Standing::Dropped));
    // Nothing else is taken up, and every word is done with.
    let mut idle = async |_: &Delivery| -> Result<(), HandlerError> { panic!("nothing is to be done") };
    let wanted = wanted(ACK_WAIT);
    let tally = processor.run(&mut idle, settled(&url, &wanted.consumers[2]), |_| {}).await;
    assert_eq!((tally.handled, tally.retried, tally.dead), (3, 1, 3));
}

#[tokio::test]
async fn whoever_works_for_long_keeps_the_message() {
    let server = served(Duration::from_secs(1), 2).await;
    let url = server.url();
    // Three times the ack wait, and it is delivered once.
    let mut seen = Vec::new();
    let mut slow = async |delivery: &Delivery| {
        seen.push((delivery.sequence(), delivery.delivered()));
        if delivery.sequence() == 1 {
            // The time is the fault.
            cim_keys_tests::wait::pass_beside(Duration::from_secs(3)).await;
        }
        Ok(())
    };
    let mut processor = processor(&Target::open(&url));
    until(
        &mut processor,
        &mut slow,
        |told| matches!(told, Told::Handled(delivery) if delivery.sequence() == 2),
    )
    .await;
    assert_eq!(seen, [(1, 1), (2, 1)]);
}

#[tokio::test]
async fn whoever_stops_gives_the_message_back() {
    // One that never ends: it is left within the time, and the next worker has it at once, long before the ack wait is over.
    let server = served(Duration::from_secs(30), 1).await;
    let url = server.url();
    let mut processor = processor(&Target::open(&url));
    let stop = tokio::sync::Notify::new();
    let mut endless = async |_: &Delivery| {
        stop.notify_one();
        std::future::pending().await
    };
    let begun = Instant::now();
    processor.run(&mut endless, stop.notified(), |_| {}).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut consumer = subscription(Target::open(&url));
    let again = next(&mut consumer).await;
    assert_eq!((again.sequence(), again.delivered()), (1, 2));
    assert!(begun.elapsed() < Duration::from_secs(30), "it was given back, not waited for");
}

#[tokio::test]
async fn a_try_that_takes_too_long_has_failed() {
    let server = served(ACK_WAIT, 1).await;
    let url = server.url();
    let policy = Policy { at_most: Duration::from_millis(100), tries: 2, ..impatient() };
    let mut processor = processor(&Target::open(&url)).policy(policy);
    let mut endless = async |_: &Delivery| std::future::pending().await;
    until(&mut processor, &mut endless, |told| matches!(told, Told::Dead { code: "exhausted", .. })).await;
    assert_eq!(letter(&letters(&url).await, 1).why().1, "it took longer than 0 s");
}
