//! A model of one JetStream stream, by the rules measured on real servers: `tests/model` plays the same scripts against
//! this model and against them, and compares every answer and what is stored in the end.
//!
//! Where servers differ, [`Rules`] says which one the model is:
//!
//! | | one replica, 2.15.1 | three replicas, 2.15.1 | one replica, 2.12.1 |
//! | --- | --- | --- | --- |
//! | order of checks of a single message | size, stream, sequence, id | size, stream, id, sequence | stream, sequence, id, size |
//! | between proposal and commit | nothing | the id answers 10158, the sequence counts as taken | nothing |
//! | an open batch is given up | 10 s after its last message | the same | 10 s after its first message |
//! | the 51st open batch | 10210 | 10210 | 10176 |
//! | a batch sequence that is no number | 10175 | 10175 | 10199 |
//! | `Nats-Batch-Commit: eob` | commits without its own message | the same | 10200 |
//!
//! The members of a batch are checked at its commit, one after the other, on every server: stream, id, sequence. An
//! expectation on any but the first answers 10071, or 10164 where it is right. (Elsewhere 10164 is only said to an
//! expectation about a subject on which a message is on its way; this model knows none of those, for no host sends them.)

mod batches;
#[cfg(test)]
mod tests;

use batches::Batch;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::{Headers, NATS_MSG_ID};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::stream::{
    KEYS_ARCHIVE, StreamConfig, keys_archive_stream_config, keys_events_stream_config,
};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Outgoing, Reply, StreamInfo};
use cim_keys_core::time::ServerTime;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which server the model is, where servers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether the stream has three replicas: then a message is proposed first, and stored once a majority has it.
    pub(crate) replicated: bool,
    /// The server's release.
    pub(crate) release: (u32, u32, u32),
}

impl Rules {
    /// 2.15.1, one replica.
    pub(crate) const NEWEST: Self = Self { replicated: false, release: (2, 15, 1) };
    /// 2.15.1, three replicas.
    pub(crate) const REPLICATED: Self = Self { replicated: true, ..Self::NEWEST };
    /// 2.12.1, one replica.
    pub(crate) const OLDEST: Self = Self { release: (2, 12, 1), ..Self::NEWEST };

    /// What changed somewhere between 2.12.1 and 2.15.1.
    fn is_new(self) -> bool {
        self.release > (2, 12, 1)
    }
}

/// What a server says to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This.
    Reply(Reply),
    /// An empty answer: the message waits in an open batch.
    Taken,
    /// Nothing yet: [`Broker::settle`] answers under this number.
    Proposed(u64),
}

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

/// Messages that wait for a majority.
#[derive(Clone, Debug)]
struct Proposal {
    number: u64,
    messages: Vec<(Outgoing, Origin)>,
}

/// The stream, its duplicate memory, its open batches, and what is on its way into it.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    config: StreamConfig,
    namespace: Namespace,
    created: String,
    exists: bool,
    rules: Rules,
    log: Vec<Stored>,
    ids: BTreeMap<String, (u64, u64)>,
    batches: BTreeMap<String, Batch>,
    window: u64,
    /// Whether proposals wait for [`Self::settle`].
    slow: bool,
    proposals: VecDeque<Proposal>,
    proposed: u64,
    lost: Vec<Stored>,
    torn: BTreeSet<u64>,
    /// The first sequence that was not forgotten.
    first: u64,
}

impl Broker {
    /// A server; `window` is how long it remembers message ids, in milliseconds.
    pub(crate) fn new(namespace: &Namespace, window: u64, exists: bool) -> Self {
        Self {
            config: keys_events_stream_config(namespace),
            namespace: namespace.clone(),
            created: String::from("2026-01-01T00:00:00.000000001Z"),
            exists,
            rules: Rules::NEWEST,
            log: Vec::new(),
            ids: BTreeMap::new(),
            batches: BTreeMap::new(),
            window,
            slow: false,
            proposals: VecDeque::new(),
            proposed: 0,
            lost: Vec::new(),
            torn: BTreeSet::new(),
            first: 1,
        }
    }

    /// By the rules of another server.
    pub(crate) fn of(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Whether the majority takes its time: proposals wait for [`settle`](Self::settle). One replica never does.
    pub(crate) fn slow(&mut self, slow: bool) {
        self.slow = slow;
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
    pub(crate) fn release(&mut self, release: (u32, u32, u32)) {
        self.rules.release = release;
    }

    /// Whether the stream exists.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// Everything stored.
    pub(crate) fn log(&self) -> &[Stored] {
        &self.log
    }

    /// Everything that was stored and acknowledged once, and went with the power, by sequence within each loss.
    pub(crate) fn lost(&self) -> &[Stored] {
        &self.lost
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
            first: self.first,
            last: self.last(),
            first_age: None,
            server: Some(self.rules.release),
        }
    }

    /// Messages behind a sequence.
    pub(crate) fn read(&self, after: u64, limit: u32) -> Vec<StoredMessage> {
        self.archived(after.max(self.first - 1), limit)
    }

    /// Everything up to here was stored too long ago.
    pub(crate) fn forget(&mut self, up_to: u64) {
        self.first = self.first.max(up_to.min(self.last()) + 1);
    }

    /// What `STREAM.INFO` says of the mirror. It holds what the stream holds or held, and no power takes more from it.
    pub(crate) fn archive_info(&self) -> StreamInfo {
        let identity = StreamIdentity { name: KEYS_ARCHIVE.into(), created: self.created.clone() };
        let config = keys_archive_stream_config(&self.namespace);
        StreamInfo { identity, config, first: 1, ..self.info() }
    }

    /// The mirror's messages behind a sequence.
    pub(crate) fn archived(&self, after: u64, limit: u32) -> Vec<StoredMessage> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        self.log.iter().skip(skip).take(limit as usize).map(|stored| stored.message.clone()).collect()
    }

    /// The process starts anew: open batches and what was on its way are gone, message ids come back from what is stored
    /// within the window, of which `keep` thousandths are found again.
    pub(crate) fn restart(&mut self, now: u64, keep: u64) {
        self.batches.clear();
        self.proposals.clear();
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

    /// Last sequence that the disk has for sure, where the server writes through once in so many milliseconds (0: always).
    pub(crate) fn synced(&self, now: u64, interval: u64) -> u64 {
        let Some(rest) = now.checked_rem(interval) else { return self.last() };
        self.log.iter().take_while(|stored| stored.at < now - rest).count() as u64
    }

    /// The power went: what stands behind `kept` was acknowledged and never was; of the sequences in `torn` the rest of
    /// their command is lost. A [`restart`](Self::restart) follows.
    pub(crate) fn lose(&mut self, kept: u64, torn: impl IntoIterator<Item = u64>) {
        self.torn.retain(|sequence| *sequence <= kept);
        self.torn.extend(torn);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(self.log.len());
        self.lost.extend(self.log.drain(kept..));
    }

    /// Whether a loss left this message as a part of a command without its rest.
    pub(crate) fn is_torn(&self, sequence: u64) -> bool {
        self.torn.contains(&sequence)
    }

    /// Takes a message. An open batch and a slow majority answer later.
    pub(crate) fn publish(&mut self, message: &Outgoing, origin: Origin, now: u64) -> Answer {
        if !self.captures(&message.subject) {
            return Answer::Reply(Reply::NoResponders);
        }
        match first(&message.headers, "Nats-Batch-Id") {
            Some(id) => self.batched(id.to_owned(), message, origin, now),
            None => self.single(message, origin, now),
        }
    }

    /// A majority has all proposals up to this number: they are stored. Their answers, by number.
    pub(crate) fn settle(&mut self, number: u64, now: u64) -> Vec<(u64, Reply)> {
        let mut answers = Vec::new();
        while self.proposals.front().is_some_and(|proposal| proposal.number <= number) {
            let Some(proposal) = self.proposals.pop_front() else { break };
            answers.push((proposal.number, self.store_all(&proposal.messages, now)));
        }
        answers
    }

    /// How many proposals wait.
    pub(crate) fn proposals(&self) -> usize {
        self.proposals.len()
    }

    /// Another node leads. The first `survive` proposals had reached it: it stores them, and nobody hears of it. The
    /// others never were. Open batches are gone.
    pub(crate) fn depose(&mut self, survive: usize, now: u64) {
        self.batches.clear();
        let kept = self.proposals.iter().take(survive).map(|proposal| proposal.number).next_back();
        let _unheard = self.settle(kept.unwrap_or(0), now);
        self.proposals.clear();
    }

    fn captures(&self, subject: &str) -> bool {
        let captured = |pattern: &String| {
            pattern
                .strip_suffix('>')
                .is_some_and(|prefix| subject.len() > prefix.len() && subject.starts_with(prefix))
        };
        self.exists && self.config.subjects.iter().any(captured)
    }

    fn single(&mut self, message: &Outgoing, origin: Origin, now: u64) -> Answer {
        let refuse = |code| Answer::Reply(Reply::Error { code });
        if self.rules.is_new() && self.is_too_large(message) {
            return refuse(10054);
        }
        if self.is_for_another(message) {
            return refuse(10060);
        }
        let conflict = expected(&message.headers).is_some_and(|expected| expected != Some(self.end()));
        // One replica looks at the sequence first, three at the id.
        if conflict && !self.rules.replicated {
            return refuse(10071);
        }
        match self.known(&message.headers, now) {
            Some(Known::At(sequence)) => return Answer::Reply(self.ack(sequence, true)),
            Some(Known::InFlight) => return refuse(10158),
            None => {}
        }
        if conflict {
            return refuse(10071);
        }
        if self.is_too_large(message) {
            return refuse(10054);
        }
        self.accept(vec![(message.clone(), origin)], now)
    }

    /// What passed all checks is stored, or proposed.
    fn accept(&mut self, messages: Vec<(Outgoing, Origin)>, now: u64) -> Answer {
        if !(self.rules.replicated && self.slow) {
            return Answer::Reply(self.store_all(&messages, now));
        }
        self.proposed += 1;
        self.proposals.push_back(Proposal { number: self.proposed, messages });
        Answer::Proposed(self.proposed)
    }

    fn is_too_large(&self, message: &Outgoing) -> bool {
        let size = message.payload.len() + message.headers.wire_len();
        usize::try_from(self.config.max_msg_size).is_ok_and(|limit| size > limit)
    }

    fn is_for_another(&self, message: &Outgoing) -> bool {
        first(&message.headers, "Nats-Expected-Stream").is_some_and(|stream| stream != self.config.name)
    }

    /// Last sequence as a leader counts it: with what is on its way.
    fn end(&self) -> u64 {
        self.last() + self.proposals.iter().map(|proposal| proposal.messages.len() as u64).sum::<u64>()
    }

    /// Whether the message's id is remembered.
    fn known(&self, headers: &Headers, now: u64) -> Option<Known> {
        let id = first(headers, NATS_MSG_ID)?;
        let waits = self.proposals.iter().flat_map(|proposal| &proposal.messages);
        if waits.into_iter().any(|(message, _)| first(&message.headers, NATS_MSG_ID) == Some(id)) {
            return Some(Known::InFlight);
        }
        let (sequence, at) = self.ids.get(id)?;
        (now.saturating_sub(*at) < self.window).then_some(Known::At(*sequence))
    }

    fn store_all(&mut self, messages: &[(Outgoing, Origin)], now: u64) -> Reply {
        for (message, origin) in messages {
            self.store(message, *origin, now);
        }
        self.ack(self.last(), false)
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
            time: Some(self.time(now).to_string()),
        };
        self.log.push(Stored { message, origin, at: now });
    }

    /// When something is stored, as servers write it. Never the same twice, whatever is lost in between.
    fn time(&self, now: u64) -> ServerTime {
        let stored = u64::try_from(self.log.len() + self.lost.len()).unwrap_or(0);
        let nanos = now.saturating_mul(1_000_000).saturating_add(stored);
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        ServerTime::from_nanos(nanos).expect("a time after 1970")
    }

    fn ack(&self, sequence: u64, duplicate: bool) -> Reply {
        Reply::Ack { stream: self.config.name.clone(), sequence, duplicate }
    }
}

/// What a server knows of a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is stored here.
    At(u64),
    /// It is on its way.
    InFlight,
}

/// A header's first value: where it stands twice, a server looks at the first. An empty one is none.
fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    any(headers, name).filter(|value| !value.is_empty())
}

/// The same with an empty one. Servers know names only as they are spelled.
fn any<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// The expectation, where there is one; none inside where it is no number.
fn expected(headers: &Headers) -> Option<Option<u64>> {
    first(headers, "Nats-Expected-Last-Sequence").map(number)
}

/// Digits alone are a number.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
