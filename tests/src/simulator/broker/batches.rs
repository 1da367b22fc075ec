//! Atomic batches: what is open, and what a commit does.

use super::{Answer, Broker, Known, NATS_MSG_ID, Origin, Outgoing, Reply, any, expected, first, number};
use std::collections::BTreeSet;

/// An open batch is given up after this, in milliseconds.
const IDLE: u64 = 10_000;
/// Messages of one batch.
const LIMIT: u64 = 1000;
/// Batches of one stream that are open at a time.
const OPEN: usize = 50;
/// Bytes of a batch id.
const ID_LIMIT: usize = 64;

/// Messages that wait for their commit.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    messages: Vec<(Outgoing, Origin)>,
    begun: u64,
    touched: u64,
}

impl Broker {
    pub(super) fn batched(&mut self, id: String, message: &Outgoing, origin: Origin, now: u64) -> Answer {
        let new = self.rules.is_new();
        self.batches
            .retain(|_, batch| now.saturating_sub(if new { batch.touched } else { batch.begun }) < IDLE);
        let refuse = |code| Answer::Reply(Reply::Error { code });
        if !self.config.allow_atomic {
            return refuse(10174);
        }
        if self.is_too_large(message) {
            return refuse(10054);
        }
        if id.len() > ID_LIMIT {
            return refuse(10179);
        }
        let Some(place) = first(&message.headers, "Nats-Batch-Sequence") else { return refuse(10175) };
        let place = match number(place) {
            Some(place) => place,
            None if new => return refuse(10175),
            // What is no number is the largest one.
            None => u64::MAX,
        };
        if place > LIMIT {
            self.batches.remove(&id);
            return refuse(10199);
        }
        let commit = any(&message.headers, "Nats-Batch-Commit");
        // `eob` ends a batch without a message of its own.
        let end = new && commit == Some("eob");
        let open = self.batches.get(&id).map(|batch| batch.messages.len() as u64);
        if open.is_none() && (place != 1 || end) {
            return refuse(10176);
        }
        if open.is_none() && self.batches.len() >= OPEN {
            return refuse(if new { 10210 } else { 10176 });
        }
        if commit.is_some_and(|commit| commit != "1") && !end {
            self.batches.remove(&id);
            return refuse(10200);
        }
        if place != open.unwrap_or(0) + 1 {
            // A gap, or an id that is still in use.
            self.batches.remove(&id);
            return refuse(10176);
        }
        let batch = self.batches.entry(id.clone()).or_insert(Batch {
            messages: Vec::new(),
            begun: now,
            touched: now,
        });
        batch.touched = now;
        if end {
            // The last of the others becomes what commits.
            if let Some((last, _)) = batch.messages.last_mut() {
                let _ = last.headers.push("Nats-Batch-Commit", "1");
            }
        } else {
            batch.messages.push((message.clone(), origin));
        }
        if commit.is_none() {
            return Answer::Taken;
        }
        let messages = self.batches.remove(&id).map(|batch| batch.messages).unwrap_or_default();
        self.commit(messages, now)
    }

    fn commit(&mut self, messages: Vec<(Outgoing, Origin)>, now: u64) -> Answer {
        let mut ids = BTreeSet::new();
        for (sequence, (message, _)) in (self.end()..).zip(&messages) {
            let code = if self.is_for_another(message) {
                Some(10060)
            } else if first(&message.headers, NATS_MSG_ID).is_some_and(|id| !ids.insert(id)) {
                Some(10201)
            } else if let Some(known) = self.known(&message.headers, now) {
                Some(if known == Known::InFlight { 10158 } else { 10201 })
            } else {
                match expected(&message.headers) {
                    Some(expected) if expected != Some(sequence) => Some(10071),
                    // Right, and refused all the same: only the first may expect something.
                    Some(_) if sequence != self.end() => Some(10164),
                    _ => None,
                }
            };
            if let Some(code) = code {
                return Answer::Reply(Reply::Error { code });
            }
        }
        self.accept(messages, now)
    }
}
