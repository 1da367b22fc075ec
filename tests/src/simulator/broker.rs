//! A model of one JetStream stream on one server (R1), by the rules measured on nats-server 2.15.1.

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::{Headers, NATS_MSG_ID};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::stream::{StreamConfig, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Outgoing, Reply, StreamInfo};
use std::collections::BTreeMap;

/// An open batch is given up after this silence.
const BATCH_IDLE: u64 = 10_000;
/// Messages of one batch.
const BATCH_LIMIT: usize = 1000;

/// Who had a message stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A host, by its machine.
    Host(usize),
    /// Somebody else, and with what intent.
    Foreign(&'static str),
}

/// A message with what only the model knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// As readers get it.
    pub(crate) message: StoredMessage,
    /// Who sent it.
    pub(crate) origin: Origin,
    at: u64,
}

#[derive(Clone, Debug)]
struct Batch {
    messages: Vec<(Outgoing, Origin)>,
    touched: u64,
}

/// The stream, its duplicate memory and its open batches.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    config: StreamConfig,
    created: String,
    exists: bool,
    server: (u32, u32, u32),
    log: Vec<Stored>,
    ids: BTreeMap<String, (u64, u64)>,
    batches: BTreeMap<String, Batch>,
    window: u64,
}

impl Broker {
    /// A server; `window` is how long it remembers message ids, in milliseconds.
    pub(crate) fn new(namespace: &Namespace, window: u64, exists: bool) -> Self {
        Self {
            config: keys_events_stream_config(namespace),
            created: String::from("2026-01-01T00:00:00.000000001Z"),
            exists,
            server: (2, 15, 1),
            log: Vec::new(),
            ids: BTreeMap::new(),
            batches: BTreeMap::new(),
            window,
        }
    }

    /// Somebody created the stream.
    pub(crate) fn create(&mut self) {
        self.exists = true;
    }

    /// The same stream, made at another moment: not the same one.
    pub(crate) fn made_at(self, created: &str) -> Self {
        Self { created: created.to_owned(), ..self }
    }

    /// The stream's settings.
    pub(crate) fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Somebody changes them.
    pub(crate) fn configure(&mut self, config: StreamConfig) {
        self.config = config;
    }

    /// The server's release is this one from now on.
    pub(crate) fn release(&mut self, server: (u32, u32, u32)) {
        self.server = server;
    }

    /// Whether the stream exists.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// Everything stored.
    pub(crate) fn log(&self) -> &[Stored] {
        &self.log
    }

    /// Last sequence.
    pub(crate) fn last(&self) -> u64 {
        self.log.len() as u64
    }

    /// The message at a sequence.
    pub(crate) fn at(&self, sequence: u64) -> Option<&Stored> {
        self.log.get(usize::try_from(sequence.checked_sub(1)?).ok()?)
    }

    /// What `STREAM.INFO` says.
    pub(crate) fn info(&self) -> StreamInfo {
        StreamInfo {
            identity: StreamIdentity { name: self.config.name.clone(), created: self.created.clone() },
            config: self.config.clone(),
            first: 1,
            last: self.last(),
            server: Some(self.server),
        }
    }

    /// Messages behind a sequence.
    pub(crate) fn read(&self, after: u64, limit: u32) -> Vec<StoredMessage> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        self.log.iter().skip(skip).take(limit as usize).map(|stored| stored.message.clone()).collect()
    }

    /// The process starts anew: open batches are gone, message ids come back from what is stored within the window, of
    /// which `keep` thousandths are found again.
    pub(crate) fn restart(&mut self, now: u64, keep: u64) {
        self.batches.clear();
        self.ids.clear();
        let since = self.window * keep / 1000;
        for stored in &self.log {
            let id =
                first(&stored.message.headers, NATS_MSG_ID).filter(|_| now.saturating_sub(stored.at) < since);
            if let Some(id) = id {
                self.ids.insert(id.to_owned(), (stored.message.sequence, stored.at));
            }
        }
    }

    /// Takes a message. None where nobody answers: a message of an open batch.
    pub(crate) fn publish(&mut self, message: &Outgoing, origin: Origin, now: u64) -> Option<Reply> {
        if !self.captures(&message.subject) {
            return Some(Reply::NoResponders);
        }
        if first(&message.headers, "Nats-Expected-Stream").is_some_and(|stream| stream != self.config.name) {
            return Some(Reply::Error { code: 10060 });
        }
        match first(&message.headers, "Nats-Batch-Id") {
            Some(id) => self.batched(id.to_owned(), message, origin, now),
            None => Some(self.single(message, origin, now)),
        }
    }

    fn captures(&self, subject: &str) -> bool {
        let captured = |pattern: &String| {
            pattern
                .strip_suffix('>')
                .is_some_and(|prefix| subject.len() > prefix.len() && subject.starts_with(prefix))
        };
        self.exists && self.config.subjects.iter().any(captured)
    }

    fn single(&mut self, message: &Outgoing, origin: Origin, now: u64) -> Reply {
        // One replica looks at the sequence first, then at the id.
        if expected(&message.headers).is_some_and(|expected| expected != Some(self.last())) {
            return Reply::Error { code: 10071 };
        }
        if let Some(sequence) = self.known(&message.headers, now) {
            return Reply::Ack { stream: self.config.name.clone(), sequence, duplicate: true };
        }
        self.store(message, origin, now);
        self.ack()
    }

    fn batched(&mut self, id: String, message: &Outgoing, origin: Origin, now: u64) -> Option<Reply> {
        self.batches.retain(|_, batch| now.saturating_sub(batch.touched) < BATCH_IDLE);
        let sequence =
            first(&message.headers, "Nats-Batch-Sequence").and_then(|text| text.parse::<usize>().ok());
        let commit = first(&message.headers, "Nats-Batch-Commit") == Some("1");
        let refuse = |code| commit.then_some(Reply::Error { code });
        let Some(sequence) = sequence else { return refuse(10175) };
        let open = self.batches.get(&id).map_or(0, |batch| batch.messages.len());
        if sequence != open + 1 {
            // A gap, or an id that is still in use.
            self.batches.remove(&id);
            return refuse(10176);
        }
        if sequence > BATCH_LIMIT {
            self.batches.remove(&id);
            return refuse(10199);
        }
        let batch = self.batches.entry(id.clone()).or_insert(Batch { messages: Vec::new(), touched: now });
        batch.messages.push((message.clone(), origin));
        batch.touched = now;
        if !commit {
            return None;
        }
        let messages = self.batches.remove(&id).map(|batch| batch.messages).unwrap_or_default();
        Some(self.commit(&messages, now))
    }

    fn commit(&mut self, messages: &[(Outgoing, Origin)], now: u64) -> Reply {
        for (place, (message, _)) in messages.iter().enumerate() {
            let fits = match expected(&message.headers) {
                Some(expected) => place == 0 && expected == Some(self.last()),
                None => true,
            };
            if !fits {
                return Reply::Error { code: 10071 };
            }
        }
        let mut ids: Vec<&str> =
            messages.iter().filter_map(|(m, _)| first(&m.headers, NATS_MSG_ID)).collect();
        let wanted = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < wanted || messages.iter().any(|(m, _)| self.known(&m.headers, now).is_some()) {
            return Reply::Error { code: 10201 };
        }
        for (message, origin) in messages {
            self.store(message, *origin, now);
        }
        self.ack()
    }

    /// Sequence under which the message's id is remembered.
    fn known(&self, headers: &Headers, now: u64) -> Option<u64> {
        let (sequence, at) = self.ids.get(first(headers, NATS_MSG_ID)?)?;
        (now.saturating_sub(*at) < self.window).then_some(*sequence)
    }

    fn store(&mut self, message: &Outgoing, origin: Origin, now: u64) {
        let sequence = self.last() + 1;
        if let Some(id) = first(&message.headers, NATS_MSG_ID) {
            self.ids.insert(id.to_owned(), (sequence, now));
        }
        let message = StoredMessage {
            sequence,
            subject: message.subject.clone(),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
        };
        self.log.push(Stored { message, origin, at: now });
    }

    fn ack(&self) -> Reply {
        Reply::Ack { stream: self.config.name.clone(), sequence: self.last(), duplicate: false }
    }
}

/// A header's first value: where it stands twice, a server looks at the first.
fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The expectation, where there is one; none inside where it is no number.
fn expected(headers: &Headers) -> Option<Option<u64>> {
    first(headers, "Nats-Expected-Last-Sequence").map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "cowboyai.security.keys.user.created";

    fn message(list: &[(&str, &str)]) -> Outgoing {
        let headers = list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Outgoing { subject: SUBJECT.to_owned(), headers: Headers::received(headers), payload: b"x".to_vec() }
    }

    fn broker() -> Broker {
        Broker::new(&Namespace::default(), 1000, true)
    }

    fn publish(broker: &mut Broker, now: u64, list: &[(&str, &str)]) -> Option<Reply> {
        broker.publish(&message(list), Origin::Host(0), now)
    }

    fn ack(sequence: u64, duplicate: bool) -> Option<Reply> {
        Some(Reply::Ack { stream: "KEYS_EVENTS".to_owned(), sequence, duplicate })
    }

    fn error(code: u32) -> Option<Reply> {
        Some(Reply::Error { code })
    }

    const LAST: &str = "Nats-Expected-Last-Sequence";
    const BATCH: &str = "Nats-Batch-Id";
    const PLACE: &str = "Nats-Batch-Sequence";
    const COMMIT: &str = "Nats-Batch-Commit";

    #[test]
    fn the_sequence_is_looked_at_before_the_id() {
        let mut b = broker();
        assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a"), (LAST, "0")]), ack(1, false));
        assert_eq!(publish(&mut b, 1, &[(NATS_MSG_ID, "a"), (LAST, "0")]), error(10071));
        assert_eq!(publish(&mut b, 2, &[(NATS_MSG_ID, "a"), (LAST, "1")]), ack(1, true));
        assert_eq!(publish(&mut b, 1000, &[(NATS_MSG_ID, "a"), (LAST, "1")]), ack(2, false));
    }

    #[test]
    fn a_restart_remembers_what_is_stored_within_the_window() {
        let mut b = broker();
        assert_eq!(publish(&mut b, 0, &[(NATS_MSG_ID, "a")]), ack(1, false));
        b.restart(900, 1000);
        assert_eq!(publish(&mut b, 950, &[(NATS_MSG_ID, "a")]), ack(1, true));
        b.restart(960, 500);
        assert_eq!(publish(&mut b, 970, &[(NATS_MSG_ID, "a")]), ack(2, false));
    }

    #[test]
    fn a_batch_is_stored_whole_or_not_at_all() {
        let mut b = broker();
        assert_eq!(publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "1"), (LAST, "0"), (NATS_MSG_ID, "a")]), None);
        assert_eq!(b.last(), 0);
        assert_eq!(
            publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "2"), (COMMIT, "1"), (NATS_MSG_ID, "b")]),
            ack(2, false)
        );
        // A known id, a wrong expectation, an id still in use, a part that went missing.
        assert_eq!(publish(&mut b, 1, &[(BATCH, "y"), (PLACE, "1"), (LAST, "2"), (NATS_MSG_ID, "c")]), None);
        assert_eq!(
            publish(&mut b, 1, &[(BATCH, "y"), (PLACE, "2"), (COMMIT, "1"), (NATS_MSG_ID, "b")]),
            error(10201)
        );
        assert_eq!(publish(&mut b, 2, &[(BATCH, "z"), (PLACE, "1"), (LAST, "1")]), None);
        assert_eq!(publish(&mut b, 2, &[(BATCH, "z"), (PLACE, "2"), (COMMIT, "1")]), error(10071));
        assert_eq!(publish(&mut b, 3, &[(BATCH, "w"), (PLACE, "1"), (LAST, "2")]), None);
        assert_eq!(publish(&mut b, 3, &[(BATCH, "w"), (PLACE, "1"), (COMMIT, "1")]), error(10176));
        assert_eq!(publish(&mut b, 4, &[(BATCH, "v"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
        assert_eq!(b.last(), 2);
    }

    #[test]
    fn an_open_batch_is_given_up() {
        let mut b = broker();
        assert_eq!(publish(&mut b, 0, &[(BATCH, "x"), (PLACE, "1"), (LAST, "0")]), None);
        assert_eq!(publish(&mut b, 10_000, &[(BATCH, "x"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
        assert_eq!(publish(&mut b, 10_001, &[(BATCH, "y"), (PLACE, "1"), (LAST, "0")]), None);
        b.restart(10_002, 1000);
        assert_eq!(publish(&mut b, 10_003, &[(BATCH, "y"), (PLACE, "2"), (COMMIT, "1")]), error(10176));
        assert_eq!(b.last(), 0);
    }

    #[test]
    fn only_the_streams_subjects_are_stored() {
        let mut b = broker();
        let other = Outgoing { subject: "cowboyai.security.other.a.b".to_owned(), ..message(&[]) };
        assert_eq!(b.publish(&other, Origin::Foreign("test"), 0), Some(Reply::NoResponders));
        let mut none = Broker::new(&Namespace::default(), 1000, false);
        assert_eq!(publish(&mut none, 0, &[]), Some(Reply::NoResponders));
        assert_eq!(publish(&mut b, 0, &[("Nats-Expected-Stream", "OTHER")]), error(10060));
    }
}
