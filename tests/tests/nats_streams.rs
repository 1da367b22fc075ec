//! Streams on real servers: made, compared, read whatever is stored, appended to.

use cim_keys::nats::append;
use cim_keys::nats::link::{Link, LinkError, Trouble};
use cim_keys::nats::read::Reader;
use cim_keys::nats::streams::{self, StreamsError, Wanted};
use cim_keys::nats::target::Target;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::Headers;
use cim_keys_core::jetstream::{self, logged};
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, Outgoing, Read, Reply, Send};
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use std::future::Future;
use std::time::{Duration, Instant};

const SUBJECT: &str = "cowboyai.security.keys.user.created";

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn wanted() -> Wanted {
    Wanted::new(&Namespace::default())
}

async fn link(server: &NatsServer) -> Link {
    Link::connect(&Target::open(&server.url()), 0).await.unwrap()
}

fn message(payload: &str, headers: &[(&str, &str)]) -> Outgoing {
    let mut list = Headers::default();
    headers.iter().for_each(|(name, value)| list.push(name, value).unwrap());
    Outgoing { subject: SUBJECT.into(), headers: list, payload: payload.into() }
}

fn single(payload: &str, headers: &[(&str, &str)]) -> Send {
    Send { messages: vec![message(payload, headers)], batch: false }
}

fn batch(id: &str, expected: u64, payloads: &[&str]) -> Send {
    let messages = payloads.iter().enumerate().map(|(place, payload)| {
        let (place, expected) = ((place + 1).to_string(), expected.to_string());
        let mut headers = vec![("Nats-Batch-Id", id), ("Nats-Batch-Sequence", place.as_str())];
        if place == "1" {
            headers.push(("Nats-Expected-Last-Sequence", &expected));
        }
        if place == payloads.len().to_string() {
            headers.push(("Nats-Batch-Commit", "1"));
        }
        message(payload, &headers)
    });
    Send { messages: messages.collect(), batch: true }
}

fn ack(sequence: u64, duplicate: bool) -> Reply {
    Reply::Ack { stream: KEYS_EVENTS.into(), sequence, duplicate }
}

fn payloads(read: &Read) -> Vec<String> {
    read.messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

#[test]
fn both_streams_are_made_once_with_the_settings_of_the_design() {
    for version in [Version::Newest, Version::Oldest] {
        let server = Setup::plain(version).start();
        run(async {
            let link = link(&server).await;
            let first = streams::ensure(&link, &wanted()).await.unwrap();
            assert_eq!(first.created, [KEYS_EVENTS, KEYS_ARCHIVE]);
            let second = streams::ensure(&link, &wanted()).await.unwrap();
            assert!(second.created.is_empty());
            assert_eq!(second.events.identity, first.events.identity);
        });
        let mut client = Client::connect(server.address()).unwrap();
        let mut config = |stream: &str| {
            client.request(&format!("$JS.API.STREAM.INFO.{stream}"), &[], b"").unwrap().json()["config"]
                .clone()
        };
        let events = config(KEYS_EVENTS);
        assert_eq!(events["subjects"], serde_json::json!(["cowboyai.security.keys.>"]));
        assert_eq!(events["max_age"], 90_u64 * 24 * 3600 * 1_000_000_000);
        assert_eq!(events["duplicate_window"], 120_000_000_000_u64);
        assert_eq!(
            (&events["retention"], &events["storage"], &events["discard"]),
            (&"limits".into(), &"file".into(), &"new".into())
        );
        assert_eq!(events["republish"]["dest"], "cowboyai.security.keys-log.>");
        for name in ["allow_direct", "allow_atomic", "deny_delete", "deny_purge"] {
            assert_eq!(events[name], true, "{name}");
        }
        let archive = config(KEYS_ARCHIVE);
        assert_eq!(archive["mirror"]["name"], KEYS_EVENTS);
        assert_eq!(
            (&archive["deny_delete"], &archive["deny_purge"], &archive["max_age"]),
            (&true.into(), &true.into(), &0.into())
        );
    }
}

#[test]
fn every_wrong_setting_is_named_and_nothing_is_changed() {
    let wrong = [
        ("subjects", r#""subjects":["cowboyai.security.keys.*.*"]"#),
        ("retention", r#""retention":"interest""#),
        ("storage", r#""storage":"memory""#),
        ("discard", r#""discard":"old""#),
        ("max_age", r#""max_age":3600000000000"#),
        ("max_msg_size", r#""max_msg_size":512"#),
        ("max_msgs", r#""max_msgs":10"#),
        ("max_msgs_per_subject", r#""max_msgs_per_subject":1"#),
        ("duplicate_window", r#""duplicate_window":1000000000"#),
        ("allow_direct", r#""allow_direct":false"#),
        ("allow_atomic", r#""allow_atomic":false"#),
        ("deny_delete", r#""deny_delete":false"#),
        ("deny_purge", r#""deny_purge":false"#),
        ("republish", r#""republish":{"src":"cowboyai.security.keys.>","dest":"elsewhere.>"}"#),
        ("allow_rollup_hdrs", r#""allow_rollup_hdrs":true,"deny_purge":false"#),
        ("no_ack", r#""no_ack":true"#),
    ];
    for (setting, member) in wrong {
        // A server each: one that deletes a stream may not be done with its folder when it answers.
        let server = NatsServer::plain();
        let mut client = Client::connect(server.address()).unwrap();
        let mut json = streams::to_json(&wanted().events, 1);
        let change: serde_json::Value = serde_json::from_str(&format!("{{{member}}}")).unwrap();
        change.as_object().unwrap().iter().for_each(|(name, value)| json[name] = value.clone());
        let made = client
            .request("$JS.API.STREAM.CREATE.KEYS_EVENTS", &[], json.to_string().as_bytes())
            .unwrap()
            .json();
        assert!(made["error"].is_null(), "{setting}: {made}");
        run(async {
            let link = link(&server).await;
            let error = streams::ensure(&link, &wanted()).await.unwrap_err();
            let StreamsError::Differs { stream, differences } = &error else { panic!("{setting}: {error}") };
            assert_eq!(stream, KEYS_EVENTS);
            let named = setting.split('_').next().unwrap();
            assert!(
                differences.iter().any(|difference| difference.setting.contains(named)),
                "{setting}: {error}"
            );
            let now = streams::info(&link, KEYS_EVENTS).await.unwrap();
            assert_eq!(wanted().events.differences(&now.config), *differences);
        });
    }
}

#[test]
fn an_archive_of_an_older_stream_is_refused() {
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).unwrap();
    run(async {
        let link = link(&server).await;
        streams::ensure(&link, &wanted()).await.unwrap();
        client.request("$JS.API.STREAM.DELETE.KEYS_EVENTS", &[], b"").unwrap();
        // Beside it no new stream is made,
        let error = streams::ensure(&link, &wanted()).await.unwrap_err();
        assert!(matches!(error, StreamsError::ArchiveAlone { .. }), "{error}");
        assert_eq!(streams::info(&link, "KEYS_EVENTS").await.unwrap_err().code(), "stream-missing");
        // and one that somebody made is not its stream.
        let body = streams::to_json(&wanted().events, 1).to_string();
        wait::until("the server is done with the folder of the deleted one", || {
            let subject = "$JS.API.STREAM.CREATE.KEYS_EVENTS";
            let answer = client.request(subject, &[], body.as_bytes()).unwrap().json();
            answer["error"].is_null().then_some(())
        });
        let error = streams::ensure(&link, &wanted()).await.unwrap_err();
        assert!(matches!(error, StreamsError::ArchiveOfAnother { .. }), "{error}");
    });
}

#[test]
fn a_server_that_is_too_old_gets_no_streams() {
    let server = Setup::plain(Version::TooOld).start();
    run(async {
        let link = link(&server).await;
        let error = streams::ensure(&link, &wanted()).await.unwrap_err();
        assert_eq!(error, StreamsError::ServerTooOld { found: "2.11.11".into() });
        assert_eq!(error.to_string(), "the server is 2.11.11, writers need 2.12.1 or newer");
    });
}

#[test]
fn answers_come_back_by_their_numbers() {
    let server = NatsServer::plain();
    run(async {
        let link = link(&server).await;
        // Nobody is there yet.
        assert_eq!(append::send(&link, single("a", &[])).await, Reply::NoResponders);
        streams::ensure(&link, &wanted()).await.unwrap();
        let first = [("Nats-Msg-Id", "1"), ("Nats-Expected-Last-Sequence", "0")];
        assert_eq!(append::send(&link, single("a", &first)).await, ack(1, false));
        assert_eq!(append::send(&link, single("a", &first)).await, Reply::Error { code: 10071 });
        assert_eq!(append::send(&link, single("a", &first[..1])).await, ack(1, true));
        assert_eq!(append::send(&link, batch("b1", 1, &["b", "c", "d"])).await, ack(4, false));
        assert_eq!(append::send(&link, batch("b2", 1, &["e", "f"])).await, Reply::Error { code: 10071 });
        let large = "x".repeat(1024 * 1024 + 1);
        assert_eq!(append::send(&link, single(&large, &[])).await, Reply::Error { code: 10054 });
        let read = Reader::default().read_from(&link, KEYS_EVENTS, 0, 100).await.unwrap();
        assert_eq!(payloads(&read), ["a", "b", "c", "d"]);
        assert_eq!((read.info.first, read.info.last, read.info.server), (1, 4, Some((2, 15, 1))));
    });
}

#[test]
fn reading_is_complete_in_any_portion() {
    let server = NatsServer::plain();
    run(async {
        let link = link(&server).await;
        streams::ensure(&link, &wanted()).await.unwrap();
        let all: Vec<String> = (1..=700).map(|number| number.to_string()).collect();
        let parts: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(append::send(&link, batch("b", 0, &parts)).await, ack(700, false));
        let mut reader = Reader::default();
        for limit in [1, 7, 500, 1000] {
            let mut found = Vec::new();
            loop {
                let read = reader.read_from(&link, KEYS_EVENTS, found.len() as u64, limit).await.unwrap();
                assert!(read.messages.len() <= limit as usize);
                if read.messages.is_empty() {
                    break;
                }
                found.extend(payloads(&read));
            }
            assert_eq!(found, all);
        }
        // What is not there yet is no error.
        assert!(reader.read_from(&link, KEYS_EVENTS, 900, 10).await.unwrap().messages.is_empty());
        let missing = reader.read_from(&link, "NOTHING", 0, 10).await;
        assert_eq!(missing, Err(Failure::StreamMissing));
    });
}

#[test]
fn when_a_message_was_stored_is_told_alike_by_whoever_hands_it_out() {
    for version in [Version::Newest, Version::Oldest] {
        let server = Setup::plain(version).start();
        run(async { streams::ensure(&link(&server).await, &wanted()).await.unwrap() });
        let mut client = Client::connect(server.address()).unwrap();
        client.subscribe("cowboyai.security.keys-log.>").unwrap();
        client.ping().unwrap();
        for payload in ["one", "two"] {
            client.publish(SUBJECT, None, &[("Nats-Msg-Id", payload)], payload.as_bytes()).unwrap();
        }
        let log: Vec<StoredMessage> = (0..2)
            .map(|_| {
                let heard = client.next(wait::PATIENCE).unwrap();
                let (lines, namespace) = (heard.header_lines(), Namespace::default());
                logged(&namespace, &heard.subject, lines, heard.payload).expect("a message of the log")
            })
            .collect();
        assert!(log[0].time.is_some() && log[0].time < log[1].time, "{log:?}");
        let archived = || {
            run(async {
                let link = link(&server).await;
                Reader::default().read_from(&link, KEYS_ARCHIVE, 0, 10).await.unwrap().messages
            })
        };
        // The mirror keeps the times; it is behind for a moment.
        let archived = wait::until("the archive has both", || Some(archived()).filter(|all| all.len() == 2));
        let read = run(async {
            let link = link(&server).await;
            Reader::default().read_from(&link, KEYS_EVENTS, 0, 10).await.unwrap().messages
        });
        assert_eq!((&read, &archived), (&log, &log), "{version:?}");
        for known in &log {
            let subject = format!("$JS.API.STREAM.MSG.GET.{KEYS_EVENTS}");
            let body = jetstream::message_get(known.sequence);
            let answer = client.request(&subject, &[], body.as_bytes()).unwrap();
            assert_eq!(jetstream::message(&answer.payload).unwrap().as_ref(), Some(known), "{version:?}");
        }
    }
}

#[test]
fn whatever_is_stored_can_be_read() {
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).unwrap();
    run(async {
        let near = link(&server).await;
        streams::ensure(&near, &wanted()).await.unwrap();
        let mut store = |block: &[u8], payload: &[u8]| {
            let mut frame =
                format!("HPUB {SUBJECT} {} {}\r\n", block.len(), block.len() + payload.len()).into_bytes();
            frame.extend_from_slice(block);
            frame.extend_from_slice(payload);
            frame.extend_from_slice(b"\r\n");
            client.send(&frame).unwrap();
            client.ping().unwrap();
        };
        let blocks: [&[u8]; 9] = [
            b"NATS/1.0\r\nA: 1\r\n\r\n",
            // What a client takes for the end of a batch, or for nobody there.
            b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 404 Not Found\r\n\r\n",
            // What a client drops its connection for.
            b"NATS/1.0\r\nno colon here\r\n\r\n",
            b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
            b"NATS/1.0 xyz\r\n\r\n",
            // What pretends to be the server's word.
            b"NATS/1.0\r\nNats-Sequence: 99\r\nNats-Subject: a.b\r\n\r\n",
            b"NATS/1.0\r\nnats-sequence: 99\r\nNats-Last-Sequence: 7\r\n\r\n",
        ];
        for (number, block) in blocks.iter().enumerate() {
            store(block, format!("m{number}").as_bytes());
        }
        store(b"NATS/1.0\r\nLast: 1\r\n\r\n", b"end");
        let mut reader = Reader::default();
        let mut found: Vec<cim_keys_core::admission::StoredMessage> = Vec::new();
        let mut near = near;
        let start = Instant::now();
        while found.len() < 10 {
            assert!(start.elapsed() < Duration::from_secs(30), "stuck after {}", found.len());
            match reader.read_from(&near, KEYS_EVENTS, found.len() as u64, 100).await {
                Ok(read) => found.extend(read.messages),
                // The connection is lost as often as there are such messages, and no more.
                Err(failure) => assert_eq!(failure, Failure::Unreachable),
            }
            if near.is_closed() {
                near = link(&server).await;
            }
        }
        let expected: Vec<String> = (0..9).map(|number| format!("m{number}")).chain(["end".into()]).collect();
        let texts: Vec<String> =
            found.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect();
        assert_eq!(texts, expected);
        assert!(found.iter().all(|message| message.subject == SUBJECT));
        // The pretenders keep what was stored, so that core can tell; nobody else has a header of the server's.
        assert_eq!(found[7].headers.only("Nats-Sequence"), Some("99"));
        assert_eq!(found[8].headers.only("Nats-Sequence"), Some("99"));
        assert_eq!(found[9].headers.iter().collect::<Vec<_>>(), [("Last", "1")]);
    });
}

#[test]
fn an_unreachable_server_is_named_without_delay() {
    let mut server = NatsServer::plain();
    let url = server.url();
    run(async {
        let near = link(&server).await;
        server.kill();
        assert_eq!(near.closed().await, Trouble::Closed);
        // Nothing waits out its time when the connection is gone.
        let start = Instant::now();
        assert_eq!(append::send(&near, single("a", &[])).await, Reply::Unknown);
        assert!(start.elapsed() < Duration::from_secs(4));
        let error = Link::connect(&Target::open(&url), 0).await.unwrap_err();
        assert!(matches!(&error, LinkError::Unreachable { reason } if reason.contains(&url)), "{error}");
        server.restart();
        // What was asked of the lost connection is never sent.
        drop(near);
        let again = link(&server).await;
        assert_eq!(streams::info(&again, KEYS_EVENTS).await.unwrap_err().code(), "stream-missing");
    });
}
