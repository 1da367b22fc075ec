//! Streams that went back, and streams that moved: a real server whose disk has lost what it had acknowledged.

use cim_keys::nats::append;
use cim_keys::nats::link::Link;
use cim_keys::nats::target::Target;
use cim_keys::recover::{RecoverError, plan};
use cim_keys_core::journal::{Progress, StreamIdentity};
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::sync::{Outgoing, Send};
use cim_keys_tests::desk::{Desk, block_on, make_streams};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// The folder of a stream, somewhere below the server's.
fn folder_of(stream: &str, below: &Path) -> PathBuf {
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()) {
            if path.file_name().unwrap() == stream {
                return path;
            }
            folders.push(path);
        }
    }
    panic!("no folder of {stream}")
}

/// A server whose streams can be put back to how they were.
struct Place {
    server: NatsServer,
    saved: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { server: NatsServer::plain(), saved: tempfile::tempdir().unwrap() };
        make_streams(&place.target(), 120);
        place
    }

    fn target(&self) -> Target {
        Target::open(&self.server.url())
    }

    fn archive_has_all(&self) {
        let mut client = Client::connect(self.server.address()).unwrap();
        let mut last = |stream: &str| {
            let info = client.request(&format!("$JS.API.STREAM.INFO.{stream}"), &[], b"").unwrap().json();
            info["state"]["last_seq"].as_u64().unwrap()
        };
        wait::until("the archive has all", || (last(KEYS_ARCHIVE) == last(KEYS_EVENTS)).then_some(()));
    }

    fn save(&mut self) {
        self.archive_has_all();
        self.server.stop();
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
            copy(&folder_of(stream, self.server.folder()), &self.saved.path().join(stream));
        }
        self.server.restart();
    }

    /// What was stored since is lost, though it was acknowledged.
    fn go_back(&mut self, streams: &[&str]) {
        self.archive_has_all();
        self.server.stop();
        for stream in streams {
            let folder = folder_of(stream, self.server.folder());
            fs::remove_dir_all(&folder).unwrap();
            copy(&self.saved.path().join(stream), &folder);
        }
        self.server.restart();
    }
}

fn sync(person: &Person, desk: &Desk, url: &str, words: &[&str]) -> Said {
    let mut all =
        vec!["--data", desk.folder().to_str().unwrap(), "sync", "--server", url, "--output", "json"];
    all.extend(words);
    person.run(&all)
}

#[test]
fn what_the_stream_lost_of_ours_is_published_again_once_and_what_it_lost_of_others_is_named() {
    let person = Person::new();
    let mut place = Place::new();
    // Given two hosts that know all of the stream,
    let here = Desk::founded();
    here.sync(&place.target()).drained();
    let there = here.twin();
    place.save();
    let url = place.server.url();
    let before = here.store().progress().unwrap().head;
    let alice = here.user("alice");
    here.sync(&place.target()).drained();
    there.user("bob");
    there.sync(&place.target()).drained();
    here.revoke(alice);
    here.sync(&place.target()).drained();
    there.sync(&place.target()).drained();
    let lost = Ledger::of(&place.server);
    // when the stream has lost its end,
    place.go_back(&[KEYS_EVENTS, KEYS_ARCHIVE]);
    let url = if place.server.url() == url { url } else { place.server.url() };
    let reason = here.sync(&place.target()).blocked();
    assert_eq!(reason.code, "stream-regressed", "{}", reason.text);
    // then nothing is done before a person says so,
    let said = sync(&person, &here, &url, &["--recover"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("2 commands of its own") && said.stderr.contains("--yes"), "{said:?}");
    assert_eq!(here.sync(&place.target()).blocked().code, "stream-regressed");
    // what was ours is published again with the same ids, and what was not is named.
    let said = sync(&person, &here, &url, &["--recover", "--yes"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let bob = lost.at(before + 2);
    let id = bob.headers.only("CIM-Event-Id").unwrap();
    assert!(said.stderr.contains(id) && said.stderr.matches("lost from the stream").count() == 1, "{said:?}");
    let kept: Vec<PathBuf> = fs::read_dir(here.folder()).unwrap().map(|e| e.unwrap().path()).collect();
    let kept = kept.iter().find(|p| p.extension().is_some_and(|e| e == "jsonl")).unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains(id));
    assert_eq!(said.json()["published"], 3);
    // The other host publishes what was its own.
    let said = sync(&person, &there, &url, &["--recover", "--yes"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    // What the first one published again is not lost any more.
    assert!(!said.stderr.contains("lost from"), "{said:?}");
    assert_eq!(said.json()["published"], 1);
    here.sync(&place.target()).drained();
    let now = Ledger::of(&place.server);
    now.check(&[&here, &there]);
    let ids = |ledger: &Ledger| {
        let mut ids: Vec<String> = ledger
            .messages
            .iter()
            .filter_map(|m| m.headers.only("CIM-Event-Id"))
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&now), ids(&lost));
    // Then there is nothing to recover.
    let again = block_on(plan(here.store(), &place.target(), 0));
    assert!(matches!(again, Err(RecoverError::Agrees { .. })), "{again:?}");
}

#[test]
fn a_stream_that_got_again_what_it_had_lost_is_an_alarm_and_loses_nothing() {
    let person = Person::new();
    let mut place = Place::new();
    let here = Desk::founded();
    here.sync(&place.target()).drained();
    place.save();
    here.user("alice");
    here.user("bob");
    let there = here.twin();
    let head = here.sync(&place.target()).drained().head;
    // As often as it looks, the stream is the one it knows.
    here.sync(&place.target()).drained();
    let mark = here.store().progress().unwrap().mark.unwrap();
    assert_eq!(mark.sequence, head);
    // What was acknowledged is lost, and another host that had it publishes the same at the same places.
    place.go_back(&[KEYS_EVENTS, KEYS_ARCHIVE]);
    assert_eq!(there.sync(&place.target()).drained().head, head);
    let stored = Ledger::of(&place.server);
    assert_ne!(stored.at(head).time.as_ref(), Some(&mark.time));
    here.user("carol");
    let reason = here.sync(&place.target()).blocked();
    assert_eq!(reason.code, "stream-regressed", "{}", reason.text);
    let said = sync(&person, &here, &place.server.url(), &["--recover", "--yes"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(said.json()["published"], 1);
    there.sync(&place.target()).drained();
    Ledger::of(&place.server).check(&[&here, &there]);
}

#[test]
fn an_archive_that_kept_what_the_stream_lost_must_be_deleted_and_is_made_anew() {
    let person = Person::new();
    let mut place = Place::new();
    let desk = Desk::founded();
    desk.sync(&place.target()).drained();
    place.save();
    desk.user("alice");
    desk.user("bob");
    desk.sync(&place.target()).drained();
    place.go_back(&[KEYS_EVENTS]);
    let url = place.server.url();
    assert!(block_on(plan(desk.store(), &place.target(), 0)).unwrap().archive_diverges);
    let said = sync(&person, &desk, &url, &["--recover", "--yes"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains("nats req '$JS.API.STREAM.DELETE.KEYS_ARCHIVE' ''"), "{said:?}");
    // The very request that was named, and what follows it.
    let mut client = Client::connect(place.server.address()).unwrap();
    let deleted = client.request(&format!("$JS.API.STREAM.DELETE.{KEYS_ARCHIVE}"), &[], b"").unwrap().json();
    assert_eq!(deleted["success"], true, "{deleted}");
    let joined = sync(&person, &desk, &url, &["--join"]);
    assert_eq!(joined.status, Some(0), "{joined:?}");
    place.archive_has_all();
    assert!(!block_on(plan_of(&desk, &place)));
    Ledger::of(&place.server).check(&[&desk]);
    assert!(!desk.store().progress().unwrap().archive_missing);
}

/// Whether there is anything to recover.
async fn plan_of(desk: &Desk, place: &Place) -> bool {
    !matches!(plan(desk.store(), &place.target(), 0).await, Err(RecoverError::Agrees { .. }))
}

/// The same messages on another server.
fn moved(ledger: &Ledger, count: usize, spoil: bool) -> NatsServer {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    block_on(async {
        let link = Link::connect(&target, 0).await.unwrap();
        for (place, message) in ledger.messages.iter().take(count).enumerate() {
            let mut payload = message.payload.clone();
            if spoil && place == 0 {
                payload.push(b' ');
            }
            let mut headers = cim_keys_core::headers::Headers::default();
            for (name, value) in
                message.headers.iter().filter(|(name, _)| cim_keys_core::headers::ALL.contains(name))
            {
                headers.push(name, value).unwrap();
            }
            let message = Outgoing { subject: message.subject.clone(), headers, payload };
            append::send(&link, Send { messages: vec![message], batch: false }).await;
        }
    });
    server
}

#[test]
fn another_stream_is_joined_only_where_it_is_the_same_registry_and_history() {
    let person = Person::new();
    let place = Place::new();
    let desk = Desk::founded();
    desk.user("alice");
    desk.sync(&place.target()).drained();
    let ledger = Ledger::of(&place.server);
    let all = ledger.messages.len();
    let known = desk.store().progress().unwrap().stream;
    let refused = |server: &NatsServer, what: &str| {
        let said = sync(&person, &desk, &server.url(), &["--join"]);
        assert_eq!(said.status, Some(5), "{what}: {said:?}");
        assert_eq!(desk.store().progress().unwrap().stream, known, "{what}");
    };
    // Another registry, one that lacks the end, and one whose founding is another message.
    let other = Desk::founded();
    let foreign = NatsServer::plain();
    make_streams(&Target::open(&foreign.url()), 120);
    other.user("bob");
    other.user("carol");
    other.sync(&Target::open(&foreign.url())).drained();
    refused(&foreign, "another registry");
    refused(&moved(&ledger, all - 1, false), "without its end");
    refused(&moved(&ledger, all, true), "another founding");
    // The same messages, in a stream made at another time.
    let server = moved(&ledger, all, false);
    assert_eq!(desk.sync(&Target::open(&server.url())).blocked().code, "stream-foreign");
    let said = sync(&person, &desk, &server.url(), &["--join"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_ne!(desk.store().progress().unwrap().stream, known);
    desk.user("dora");
    desk.sync(&Target::open(&server.url())).drained();
    Ledger::of(&server).check(&[&desk]);
    // The old one is foreign now.
    assert_eq!(desk.sync(&place.target()).blocked().code, "stream-foreign");
}

/// Stores messages that a client cannot read: a line of their headers has no colon. Whoever may append can.
fn poison(server: &NatsServer, count: usize) {
    let mut stranger = Client::connect(server.address()).unwrap();
    let block = "NATS/1.0\r\nno colon\r\n\r\n";
    let (subject, length) = ("cowboyai.security.keys.user.created", block.len());
    let line = format!("HPUB {subject} _INBOX.stranger {length} {}\r\n{block}{{}}\r\n", length + 2);
    stranger.subscribe("_INBOX.stranger").unwrap();
    for _ in 0..count {
        stranger.send(line.as_bytes()).unwrap();
        assert!(stranger.next(Duration::from_secs(10)).unwrap().json()["error"].is_null());
    }
}

#[test]
fn messages_that_break_connections_off_stand_in_the_way_of_no_recovery() {
    let person = Person::new();
    let mut place = Place::new();
    // Given a stream with such messages, before and behind the place to which it went back;
    let desk = Desk::founded();
    desk.sync(&place.target()).drained();
    poison(&place.server, 2);
    desk.user("early");
    desk.sync(&place.target()).drained();
    poison(&place.server, 1);
    desk.sync(&place.target()).drained();
    place.save();
    desk.user("alice");
    desk.sync(&place.target()).drained();
    let ledger = Ledger::of(&place.server);
    place.go_back(&[KEYS_EVENTS, KEYS_ARCHIVE]);
    poison(&place.server, 1);
    let reason = desk.sync(&place.target()).blocked();
    assert_eq!(reason.code, "stream-regressed", "{}", reason.text);
    // when the journal is recovered, then all of it is compared, and what was lost is published again.
    let url = place.server.url();
    let said = sync(&person, &desk, &url, &["--recover", "--yes"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let told = said.json();
    assert_eq!((&told["published"], &told["pending"]), (&1.into(), &0.into()));
    let again = block_on(plan(desk.store(), &place.target(), 0));
    assert!(matches!(again, Err(RecoverError::Agrees { .. })), "{again:?}");
    assert_eq!(Ledger::of(&place.server).messages.len(), ledger.messages.len() + 1);
    // The same where the stream was made at another time.
    let mut stream = desk.store().progress().unwrap();
    let head = stream.head;
    let known = stream.stream.take().unwrap();
    let other = StreamIdentity { created: "2026-01-01T00:00:00Z".into(), ..known.clone() };
    assert!(desk.store().join(head, &other).unwrap());
    assert_eq!(desk.sync(&place.target()).blocked().code, "stream-foreign");
    let said = sync(&person, &desk, &url, &["--join"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(desk.store().progress().unwrap().stream, Some(known));
}

#[test]
fn a_registry_that_was_never_published_joins_no_stream_but_its_own() {
    let person = Person::new();
    let place = Place::new();
    let url = place.server.url();
    let desk = Desk::founded();
    let refused = |said: &Said, code: &str| {
        assert_eq!(said.status, Some(5), "{said:?}");
        assert!(said.stderr.contains(code) && !said.stderr.contains("--join"), "{said:?}");
        assert_eq!(desk.store().progress().unwrap(), Progress::default());
    };
    // An empty stream: there is nothing to join, nor to recover.
    refused(&sync(&person, &desk, &url, &["--join"]), "not-published");
    refused(&sync(&person, &desk, &url, &["--recover"]), "not-published");
    // Another registry's: `sync` does not lead there, and it is not taken.
    let other = Desk::founded();
    other.sync(&place.target()).drained();
    refused(&sync(&person, &desk, &url, &[]), "stream-foreign");
    refused(&sync(&person, &desk, &url, &["--join"]), "stream-foreign");
    // Its own, that a copy of it was published to.
    let twin = desk.twin();
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    twin.sync(&Target::open(&server.url())).drained();
    let said = sync(&person, &desk, &server.url(), &["--join"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    Ledger::of(&server).check(&[&desk, &twin]);
}

#[test]
fn what_stands_in_the_way_of_a_recovery_is_said_as_sync_says_it() {
    let person = Person::new();
    let place = Place::new();
    let desk = Desk::founded();
    desk.sync(&place.target()).drained();
    let head = desk.store().progress().unwrap().head;
    let told = |url: &str, words: &[&str]| {
        let said = sync(&person, &desk, url, words);
        (said.status, said.stderr)
    };
    // No JetStream, and no streams.
    let without = Setup::configured(Version::Newest, |_| String::new()).start();
    let bare = NatsServer::plain();
    for (server, status) in [(&without, 7), (&bare, 4)] {
        let plain = told(&server.url(), &[]);
        assert_eq!(plain.0, Some(status), "{plain:?}");
        for words in [&["--join"][..], &["--recover"]] {
            assert_eq!(told(&server.url(), words), plain, "{words:?}");
        }
    }
    // Another stream, and an empty one: what to do next.
    let other = NatsServer::plain();
    make_streams(&Target::open(&other.url()), 120);
    let (status, text) = told(&other.url(), &["--recover"]);
    assert!(
        status == Some(5) && text.contains("check the server's address") && text.contains("--join"),
        "{text}"
    );
    let (status, text) = told(&other.url(), &["--join"]);
    let ends = format!("ends at 0, and this journal has come to {head}");
    assert!(status == Some(5) && text.contains(&ends) && text.contains("bring a newer one back"), "{text}");
}
