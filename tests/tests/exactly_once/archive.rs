//! A stream that forgets, and the mirror that keeps: on a real server.

use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::journal::Progress;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::{Value, json};

struct Place {
    server: NatsServer,
    client: Client,
}

impl Place {
    fn new() -> Self {
        let server = NatsServer::plain();
        make_streams(&Target::open(&server.url()), 120);
        let client = Client::connect(server.address()).unwrap();
        Self { server, client }
    }

    fn target(&self) -> Target {
        Target::open(&self.server.url())
    }

    fn api(&mut self, tail: &str, body: &Value) -> Value {
        let subject = format!("$JS.API.STREAM.{tail}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        wait::until(&subject, || {
            let answer = self.client.request(&subject, &[], body.as_bytes()).unwrap().json();
            // A stream that was deleted a moment ago may still be on its way from the disk.
            if answer["error"]["err_code"] == 10049 {
                return None;
            }
            assert!(answer["error"].is_null(), "{tail}: {answer}");
            Some(answer)
        })
    }

    fn last(&mut self, stream: &str) -> u64 {
        self.api(&format!("INFO.{stream}"), &Value::Null)["state"]["last_seq"].as_u64().unwrap()
    }

    fn archive_has(&mut self, last: u64) {
        wait::until("the archive has all", || (self.last(KEYS_ARCHIVE) >= last).then_some(()));
    }

    /// Everything that is stored now is forgotten.
    fn forget(&mut self) {
        let config = self.api(&format!("INFO.{KEYS_EVENTS}"), &Value::Null)["config"].clone();
        let last = self.last(KEYS_EVENTS);
        let mut short = config.clone();
        for name in ["max_age", "duplicate_window"] {
            short[name] = json!(100_000_000);
        }
        self.api(&format!("UPDATE.{KEYS_EVENTS}"), &short);
        wait::until("it is forgotten", || {
            let info = self.api(&format!("INFO.{KEYS_EVENTS}"), &Value::Null);
            (info["state"]["first_seq"] == last + 1).then_some(())
        });
        self.api(&format!("UPDATE.{KEYS_EVENTS}"), &config);
    }

    /// The archive is deleted, and made anew where it is wanted.
    fn delete_archive(&mut self, anew: bool) {
        let config = self.api(&format!("INFO.{KEYS_ARCHIVE}"), &Value::Null)["config"].clone();
        self.api(&format!("DELETE.{KEYS_ARCHIVE}"), &Value::Null);
        if anew {
            self.api(&format!("CREATE.{KEYS_ARCHIVE}"), &config);
        }
    }
}

/// A host that was away while others published and the stream forgot.
fn away(place: &mut Place) -> (Desk, Desk) {
    let here = Desk::founded();
    here.sync(&place.target()).drained();
    let there = here.twin();
    for number in 0..3 {
        here.user(&format!("user-{number}"));
    }
    here.sync(&place.target()).drained();
    let last = place.last(KEYS_EVENTS);
    place.archive_has(last);
    place.forget();
    here.user("later");
    here.sync(&place.target()).drained();
    (here, there)
}

#[test]
fn who_was_away_reads_the_forgotten_part_from_the_archive_and_appends() {
    let mut place = Place::new();
    let (here, there) = away(&mut place);
    there.user("elsewhere");
    let summary = there.sync(&place.target()).drained();
    assert_eq!((summary.admitted, summary.published, summary.anomalies), (4, 1, 0));
    here.sync(&place.target()).drained();
    // Only the newest message whose time they have seen may be another one.
    let progress = |desk: &Desk| Progress { mark: None, ..desk.store().progress().unwrap() };
    assert_eq!(progress(&here), progress(&there));
    assert_eq!(here.store().users(None).unwrap().len(), 5);
    assert!(there.store().progress().unwrap().archive.is_some());
}

#[test]
fn without_the_archive_nothing_is_read_and_without_one_that_keeps_nothing_is_appended() {
    let mut place = Place::new();
    let (here, there) = away(&mut place);
    place.delete_archive(false);
    let head = there.store().progress().unwrap().head;
    let reason = there.sync(&place.target()).blocked();
    assert_eq!(reason.code, "history-missing", "{}", reason.text);
    assert_eq!(there.store().progress().unwrap().head, head);
    // Whoever has all of it reads on, and appends nothing that no new reader could ever understand.
    assert_eq!(here.sync(&place.target()).end, End::Drained);
    assert!(here.store().progress().unwrap().archive_missing);
    here.user("more");
    let reason = here.sync(&place.target()).blocked();
    assert_eq!(reason.code, "archive-missing", "{}", reason.text);
    assert_eq!(here.pending(), 1);
}

#[test]
fn an_archive_that_was_made_anew_is_not_taken_for_the_one_that_was_met() {
    let mut place = Place::new();
    let (here, there) = away(&mut place);
    place.delete_archive(true);
    let last = place.last(KEYS_EVENTS);
    place.archive_has(last);
    for desk in [&here, &there] {
        let reason = desk.sync(&place.target()).blocked();
        assert_eq!(reason.code, "archive-foreign", "{}", reason.text);
    }
}

#[test]
fn a_stream_made_anew_needs_a_new_archive() {
    let mut place = Place::new();
    Desk::founded().sync(&place.target()).drained();
    let last = place.last(KEYS_EVENTS);
    place.archive_has(last);
    let config = place.api(&format!("INFO.{KEYS_EVENTS}"), &Value::Null)["config"].clone();
    place.api(&format!("DELETE.{KEYS_EVENTS}"), &Value::Null);
    place.api(&format!("CREATE.{KEYS_EVENTS}"), &config);
    let other = Desk::founded();
    let reason = other.sync(&place.target()).blocked();
    assert_eq!(reason.code, "archive-foreign", "{}", reason.text);
    assert!(reason.text.contains("before KEYS_EVENTS"), "{}", reason.text);
    assert_eq!((place.last(KEYS_EVENTS), other.store().progress().unwrap().head), (0, 0));
    place.delete_archive(true);
    other.sync(&place.target()).drained();
}
