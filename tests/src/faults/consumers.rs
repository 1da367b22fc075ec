//! Workers of a durable consumer: killed, their consumer taken away, and messages that nobody can handle.

use super::kills::worker;
use super::{Invariant, NotRun, Run};
use crate::consume::{
    SUBJECT, info, letter, letters, make, number, place, processor, publish, server, settled, state,
    subscription, until, wanted,
};
use crate::desk::block_on;
use crate::pipeline::ask;
use crate::server::NatsServer;
use crate::wait;
use crate::wire::Client;
use cim_keys::consume::{Delivery, HandlerError, LetterBox, Said, Told};
use cim_keys::nats::link::Link;
use cim_keys::nats::target::Target;
use cim_keys_core::consumer::KEYS_SERVICE;
use cim_keys_core::dead::{Standing, Word};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// How long the server waits for a worker that was killed.
const ACK_WAIT: Duration = Duration::from_secs(1);
/// Messages that are published for each worker that is killed.
const EACH: usize = 8;

/// Where a worker ends itself.
const PLACES: [&str; 4] = ["before", "after", "acked", "any"];

/// What a worker does, from its words in `end`: `before:N` aborts before it handles its Nth message, `after:N` once it has, `acked:N`
/// once the server has confirmed so, `poison:N` whenever it is to handle the message with that number. It writes what it did into
/// a file, and ends when the consumer has nothing left.
pub(super) fn consume(folder: &Path, url: &str, end: &str) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).map_err(said)?;
    // Each line in one write: what was written is there however this process ends.
    let note = |what: &str, number: usize| {
        let _ = (&log).write_all(format!("{what} {number}\n").as_bytes());
    };
    let (place, count) = end.split_once(':').unwrap_or((end, "0"));
    let count: usize = count.parse().map_err(|_| "an end is PLACE:COUNT".to_owned())?;
    block_on(async {
        let target = Target::open(url);
        let mut seen = 0;
        let mut handler = async |delivery: &Delivery| {
            let number = number(delivery);
            seen += 1;
            if place == "before" && seen == count || place == "poison" && number == count {
                std::process::abort();
            }
            note("handled", number);
            if place == "after" && seen == count {
                std::process::abort();
            }
            Ok(())
        };
        let mut done = 0;
        let wanted = wanted(ACK_WAIT);
        let rest = settled(url, &wanted.consumers[1]);
        processor(&target)
            .run(&mut handler, rest, |told| {
                if let Told::Handled(delivery) = told {
                    note("acked", number(delivery));
                    done += 1;
                    if place == "acked" && done == count {
                        std::process::abort();
                    }
                }
            })
            .await;
    });
    Ok(())
}

/// What workers wrote: how often each message was handled, and whether one was handled after it was acknowledged.
fn read(folder: &Path) -> BTreeMap<usize, usize> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let (mut handled, mut acked) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        let (what, number) = line.split_once(' ').expect("a line of a worker");
        let number: usize = number.parse().expect("a number");
        match what {
            "acked" => drop(acked.insert(number)),
            _ => {
                assert!(!acked.contains(&number), "I1: {number} was acknowledged, and came again");
                *handled.entry(number).or_default() += 1;
            }
        }
    }
    handled
}

/// Row 18, for a handler that only has to do something: a projection's part stands with the projections.
pub(super) fn workers_killed(run: &mut Run) -> Result<(), NotRun> {
    let wanted = wanted(ACK_WAIT);
    let server = server(&wanted, 0);
    let folder = TempDir::new().expect("a folder");
    let mut messages = 0;
    for number in 0..run.tries {
        publish(&server, messages, EACH);
        messages += EACH;
        let place = PLACES[number % PLACES.len()];
        let count = run.between(1, EACH as u64);
        let end = if place == "any" { "never:0".to_owned() } else { format!("{place}:{count}") };
        let mut child =
            worker("consume", folder.path(), &server.url()).args(["--end", &end]).spawn().expect("a worker");
        if place == "any" {
            wait::pass(Duration::from_millis(run.between(20, 400)));
            child.kill().expect("a worker to kill");
        }
        let ended = child.wait_with_output().expect("a worker that ends");
        let why = String::from_utf8_lossy(&ended.stderr).into_owned();
        // A worker may have been done before its end came.
        assert!(ended.status.success() || ended.status.code().is_none(), "{place}: {:?} {why}", ended.status);
        run.happened(1);
    }
    run.healed(|| {
        let last = worker("consume", folder.path(), &server.url()).args(["--end", "never:0"]).output();
        assert!(last.expect("a worker").status.success());
    });
    let handled = read(folder.path());
    assert_eq!(handled.len(), messages, "I1: every message is handled");
    let again: usize = handled.values().map(|times| times - 1).sum();
    run.did(format!("{messages} messages, {} workers killed", run.tries));
    run.bounded("messages handled once more than once", again, run.tries);
    let given_up = block_on(letters(&server.url()));
    assert_eq!(given_up.entries().count(), 0, "nothing was given up: {given_up:?}");
    run.holds(&[Invariant::I1]);
    taken_away(run, &server);
    behind(run);
    Ok(())
}

/// The consumer is paused, deleted, and made again: each has a name, and nothing is lost.
fn taken_away(run: &mut Run, server: &NatsServer) {
    let mut client = Client::connect(server.address()).expect("a connection");
    let url = server.url();
    let pause = format!("$JS.API.CONSUMER.PAUSE.KEYS_EVENTS.{KEYS_SERVICE}");
    block_on(async {
        let mut consumer = subscription(Target::open(&url));
        state(&mut consumer, "following").await;
        ask(&mut client, &pause, &[], br#"{"pause_until":"2199-01-01T00:00:00Z"}"#);
        state(&mut consumer, "consumer-paused").await;
        ask(&mut client, &pause, &[], b"{}");
        state(&mut consumer, "following").await;
        ask(&mut client, &format!("$JS.API.CONSUMER.DELETE.KEYS_EVENTS.{KEYS_SERVICE}"), &[], b"");
        state(&mut consumer, "consumer-missing").await;
    });
    make(&url, &wanted(ACK_WAIT));
    run.healed(|| {
        // A new consumer begins at the first message: handling twice is the handler's affair.
        let folder = TempDir::new().expect("a folder");
        consume(folder.path(), &url, "never:0").expect("a worker");
        let info = block_on(info(&url, &wanted(ACK_WAIT).consumers[1]));
        assert_eq!((read(folder.path()).len() as u64, info.pending), (info.ack_floor, 0));
    });
    run.did("consumer paused, deleted and made again: named each time, and every message came");
}

/// A consumer that is far behind catches up, and holds a few messages at a time.
fn behind(run: &mut Run) {
    let count: usize = if run.is_quick() { 20_000 } else { 1_000_000 };
    let wanted = wanted(Duration::from_secs(30));
    let server = server(&wanted, 0);
    let mut client = Client::connect(server.address()).expect("a connection");
    // Big enough that all of them together would be seen.
    let payload = vec![b'x'; 600];
    for number in 0..count {
        if number % 500 == 499 {
            client.request(SUBJECT, &[], &payload).expect("an answer");
        } else {
            client.publish(SUBJECT, None, &[], &payload).expect("a connection");
        }
    }
    let begun = std::time::Instant::now();
    let mut seen = 0_usize;
    let tally = block_on(async {
        let mut handler = async |_: &Delivery| Ok(());
        let stop = tokio::sync::Notify::new();
        let mut processor = processor(&Target::open(&server.url()));
        processor
            .run(&mut handler, stop.notified(), |told| {
                seen += usize::from(matches!(told, Told::Handled(_)));
                if seen == count {
                    stop.notify_one();
                }
            })
            .await
    });
    assert_eq!((tally.handled, tally.failed, tally.not_confirmed), (count as u64, 0, 0));
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    run.bounded(&format!("{count} messages behind, {rate:.0} a second, handled twice"), 0, 0);
}

/// What is played, and how.
type Way = (&'static str, fn(&mut Run));

/// Row 19.
pub(super) fn not_handled(run: &mut Run) -> Result<(), NotRun> {
    let ways: [Way; 4] = [
        ("poison", |run| unhandled(run, "poison", HandlerError::poison("no such thing"))),
        ("a handler that always fails", |run| unhandled(run, "exhausted", HandlerError::retry("it is away"))),
        ("no stream of dead letters", no_letters),
        ("a message that kills its worker", deadly),
    ];
    let mut counts = BTreeMap::new();
    for number in 0..run.tries {
        let (what, play) = ways[number % ways.len()];
        play(run);
        *counts.entry(what).or_insert(0) += 1;
        run.happened(1);
    }
    for (what, count) in counts {
        run.did(format!("{what}: {count} times"));
    }
    run.holds(&[Invariant::I1, Invariant::I2, Invariant::I8]);
    Ok(())
}

/// One of ten messages becomes one letter with its reason; the others are handled.
fn unhandled(run: &mut Run, code: &str, error: HandlerError) {
    let wanted = wanted(ACK_WAIT);
    let server = server(&wanted, 10);
    let odd = usize::try_from(run.between(0, 9)).expect("a small number");
    let mut tries = 0;
    block_on(async {
        let mut handler = async |delivery: &Delivery| {
            if number(delivery) == odd {
                tries += 1;
                return Err(error.clone());
            }
            Ok(())
        };
        let mut done = 0;
        let mut processor = processor(&Target::open(&server.url()));
        let tally = until(&mut processor, &mut handler, |told| {
            done += usize::from(matches!(told, Told::Handled(_) | Told::Dead { .. }));
            done == 10
        })
        .await;
        assert_eq!((tally.handled, tally.dead), (9, 1));
        given_up(&server, odd, code, &error.to_string(), 1).await;
    });
    assert!(tries <= 3, "I8: tried {tries} times");
}

/// The letter of a message stands there once, with its reason.
async fn given_up(server: &NatsServer, number: usize, code: &str, reason: &str, words: usize) {
    let url = server.url();
    let letters = letters(&url).await;
    assert_eq!((letters.entries().count(), letters.unreadable()), (1, &[][..]));
    let entry = letter(&letters, number as u64 + 1);
    assert_eq!((entry.state, entry.why()), (Standing::Dead, (code, reason)), "I1");
    assert_eq!(entry.words.len(), words, "I2: written once");
}

/// Nothing is given up while nobody takes the letter; then it is.
fn no_letters(run: &mut Run) {
    let wanted = wanted(ACK_WAIT);
    let server = server(&wanted, 4);
    let url = server.url();
    let mut client = Client::connect(server.address()).expect("a connection");
    ask(&mut client, "$JS.API.STREAM.DELETE.KEYS_DEAD", &[], b"");
    let mut handler = async |delivery: &Delivery| match number(delivery) {
        2 => Err(HandlerError::poison("no such thing")),
        _ => Ok(()),
    };
    let mut worker = processor(&Target::open(&url));
    block_on(async {
        let stuck =
            |told: &Told<'_>| matches!(told, Told::Stuck { error, .. } if error.code() == "stream-missing");
        until(&mut worker, &mut handler, stuck).await;
        let seen = info(&url, &wanted.consumers[1]).await;
        assert_eq!((seen.ack_floor, seen.ack_pending > 0), (2, true), "I1: the message stays");
    });
    make(&url, &wanted);
    run.healed(|| {
        block_on(async {
            until(&mut worker, &mut handler, |told| matches!(told, Told::Dead { .. })).await;
            given_up(&server, 2, "poison", "no such thing", 1).await;
        });
    });
}

/// A message that ends every worker takes no other along; the server gives it up, and a person has it tried again.
fn deadly(run: &mut Run) {
    let mut wanted = wanted(ACK_WAIT);
    wanted.consumers[1].max_deliver = 3;
    let server = server(&wanted, 10);
    let url = server.url();
    let folder = TempDir::new().expect("a folder");
    let mut ended = 0;
    loop {
        let output =
            worker("consume", folder.path(), &url).args(["--end", "poison:4"]).output().expect("a worker");
        if output.status.success() {
            break;
        }
        ended += 1;
        assert!(ended <= 3, "I8: {ended} workers ended");
    }
    let handled = read(folder.path());
    assert_eq!((handled.len(), handled.contains_key(&4)), (9, false), "I1: all others are handled");
    block_on(async {
        given_up(&server, 4, "max-deliveries", "", 0).await;
        let link = Link::connect(&Target::open(&url), 0).await.expect("a connection");
        let at = Timestamp::from_millis(1_795_423_807_042).expect("a time");
        let word = Word::Retry { actor: "ann".into(), at };
        let said = LetterBox::new(Namespace::default()).say(&link, &place(5), &word, 0).await;
        assert!(matches!(said, Ok(Said::Stored(_))), "{said:?}");
        let mut willing = async |delivery: &Delivery| {
            assert_eq!(number(delivery), 4);
            Ok(())
        };
        until(&mut processor(&Target::open(&url)), &mut willing, |told| matches!(told, Told::Retried(_)))
            .await;
        assert_eq!(letter(&letters(&url).await, 5).state, Standing::Handled);
    });
    run.did(format!("a message ended {ended} workers, and was handled when a person said so"));
}
