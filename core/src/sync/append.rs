//! Checking pending commands again, and appending them where the stream ends.

use super::catchup::entities;
use super::contract::Moment;
use super::contract::{Outgoing, Output, Overlay, Persist, Reply, Send, Status};
use super::machine::{Batch, Machine, Pass, State};
use super::patience::{self, Next};
use super::reasons::{incomplete, named, too_old};
use super::recheck::{Verdict, Work};
use crate::admission::{Anomaly, Assembler, Group};
use crate::digest::Digest;
use crate::journal::{Hold, Progress};
use crate::order;
use crate::registry::{EntityId, Facts, Lookup, Recorded};
use crate::rules::Reason;
use crate::stream::SERVER_FLOOR;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

/// Commands loaded at once.
const LOAD_LIMIT: u32 = 1000;
/// Messages in one atomic batch.
const BATCH_LIMIT: usize = 1000;
/// Bytes in one atomic batch.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

impl Machine {
    /// Walks over the pending commands: all of them when something foreign came, else the first few.
    pub(super) fn walk(&mut self) -> Vec<Output> {
        let pass = Pass {
            refold: self.progress.recheck_due,
            after: 0,
            more: false,
            revision: 0,
            facts: Facts::new(self.registry.clone()),
            changed: BTreeMap::new(),
            held: Vec::new(),
            held_revocations: Vec::new(),
            rechecked: Vec::new(),
            batch: Batch::default(),
        };
        self.load(pass)
    }

    pub(super) fn load(&mut self, pass: Pass) -> Vec<Output> {
        let output = Output::Load { after: pass.after, limit: LOAD_LIMIT };
        self.state = State::Loading(Box::new(pass));
        alloc::vec![output]
    }

    pub(super) fn take_loaded(&mut self, pass: Pass, works: Vec<Work>) -> Vec<Output> {
        let wanted = order::set(works.iter().flat_map(Work::scopes));
        let wanted: Vec<Lookup> = wanted.into_iter().cloned().collect();
        let scopes = pass.facts.unanswered(&wanted);
        self.state = State::Checking(Box::new(pass), works);
        alloc::vec![Output::LoadFacts { scopes }]
    }

    pub(super) fn check(
        &mut self,
        mut pass: Pass,
        works: Vec<Work>,
        facts: Facts,
        moment: &Moment,
    ) -> Vec<Output> {
        pass.facts.add(facts);
        let skip = self.skips_recheck();
        for work in works {
            let full = !pass.batch.has_room(&work) || self.alone && !pass.batch.works.is_empty();
            if !pass.refold && full {
                pass.more = false;
                break;
            }
            pass.after = work.pending.position;
            let verdict = match self.genuine(&work, pass.refold) {
                Ok(()) => work.check(&mut pass.facts, skip),
                Err(reason) => Ok(Verdict::Hold(reason)),
            };
            match verdict {
                Ok(Verdict::Stands { facts_hash, changed }) => {
                    if facts_hash != work.pending.facts_hash {
                        pass.rechecked.push((work.pending.context.command_id, facts_hash));
                    }
                    pass.changed.extend(changed.iter().map(|id| (*id, work.pending.position)));
                    if !pass.refold {
                        pass.batch.push(work, changed);
                    }
                }
                Ok(Verdict::Hold(reason)) => {
                    let command_id = work.pending.context.command_id;
                    pass.held.push(Hold { command_id, reason });
                    if work.pending.command.is_revocation() {
                        pass.held_revocations.push(command_id);
                    }
                    if !pass.refold {
                        // It should have been held before: fold the overlay anew without it.
                        self.progress.recheck_due = true;
                        return self.walk();
                    }
                }
                Err(missing) => return self.block(incomplete(&missing)),
            }
        }
        if pass.refold && pass.more {
            return self.load(pass);
        }
        if pass.refold {
            return self.persist_pass(pass);
        }
        let redecide: Vec<Uuid> =
            pass.held_revocations.iter().filter(|id| !self.tried.contains(id)).copied().collect();
        if !redecide.is_empty() {
            return self.redecide(redecide);
        }
        self.send(pass, moment)
    }

    /// Signatures cost more than all the rest: each command's are looked at once, before it is sent for the first time.
    fn genuine(&mut self, work: &Work, refold: bool) -> Result<(), Reason> {
        let hash = work.pending.draft_hash;
        match self.verified.get(&hash) {
            Some(known) => return known.clone(),
            None if refold => return Ok(()),
            None => {}
        }
        let verdict = work.genuine(&self.registry);
        self.verified.insert(hash, verdict.clone());
        verdict
    }

    pub(super) fn persist_pass(&mut self, pass: Pass) -> Vec<Output> {
        let overlay = pass.changed.iter().filter_map(|(id, position)| {
            pass.facts.entity(*id).ok().flatten().map(|entity| (*position, entity.clone()))
        });
        let persist = Persist {
            expect_head: self.progress.head,
            expect_revision: Some(pass.revision),
            progress: Progress { recheck_due: false, ..self.progress.clone() },
            overlay: Overlay::Replace(overlay.collect()),
            held: pass.held,
            rechecked: pass.rechecked,
            ..Persist::default()
        };
        let redecide = pass.held_revocations.into_iter().filter(|id| !self.tried.contains(id)).collect();
        self.state = State::PersistingPass { redecide, again: false };
        alloc::vec![Output::Persist(Box::new(persist))]
    }

    pub(super) fn redecide(&mut self, mut rest: Vec<Uuid>) -> Vec<Output> {
        match rest.pop() {
            Some(command_id) => {
                self.tried.insert(command_id);
                self.state = State::Redeciding(rest);
                alloc::vec![Output::Redecide { command_id }]
            }
            None => self.walk(),
        }
    }

    pub(super) fn send(&mut self, pass: Pass, moment: &Moment) -> Vec<Output> {
        let mut batch = pass.batch;
        if batch.works.is_empty() {
            self.unsent = 0;
            self.state = State::Rest;
            return alloc::vec![Output::Report(Status::Idle)];
        }
        if self.server.is_some_and(|found| found < SERVER_FLOOR) {
            return self.block(too_old(self.server));
        }
        batch.entities = entities(&pass.facts, &batch.changed);
        let send = self.outgoing(&batch, moment);
        self.state = State::Sending(Box::new(batch));
        alloc::vec![Output::Send(send)]
    }

    pub(super) fn outgoing(&self, batch: &Batch, moment: &Moment) -> Send {
        let envelopes: Vec<_> = batch.works.iter().flat_map(|work| &work.pending.envelopes).collect();
        let several = envelopes.len() > 1;
        let id: String = moment.random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut messages = Vec::with_capacity(envelopes.len());
        for (place, envelope) in envelopes.iter().enumerate() {
            let mut headers = self.retried(envelope.headers.clone(), &id);
            let mut add = |name: &str, value: &str| {
                // Names and values are ours and valid.
                let _ = headers.push(name, value);
            };
            if place == 0 {
                add("Nats-Expected-Last-Sequence", &self.progress.head.to_string());
            }
            if several {
                add("Nats-Batch-Id", &id);
                add("Nats-Batch-Sequence", &(place + 1).to_string());
                if place + 1 == envelopes.len() {
                    add("Nats-Batch-Commit", "1");
                }
            }
            messages.push(Outgoing {
                subject: envelope.subject.as_str().to_string(),
                headers,
                payload: envelope.payload.clone(),
            });
        }
        Send { messages, batch: several }
    }

    pub(super) fn take_reply(&mut self, batch: Batch, reply: &Reply, moment: &Moment) -> Vec<Output> {
        let expected = self.progress.head + batch.events as u64;
        let name = self.progress.stream.as_ref().map(|stream| stream.name.as_str());
        if let Reply::Ack { stream, sequence, duplicate } = reply {
            if name != Some(stream) {
                let text =
                    format!("the stream {stream} answered to a publish for {}", name.unwrap_or("ours"));
                return self.block(named("stream-settings", text));
            }
            if *sequence == expected && !*duplicate || *duplicate && self.trusts_duplicate() {
                return self.confirm(batch, expected);
            }
        }
        if self.retries_blindly(reply) {
            self.progress.head += 1;
            let send = self.outgoing(&batch, moment);
            self.state = State::Sending(Box::new(batch));
            return alloc::vec![Output::Send(send)];
        }
        let first = batch.works.first().map(|work| work.pending.context.command_id);
        let next = patience::after_reply(reply);
        if batch.works.len() > 1 && matches!(next, Next::Hold(_) | Next::Odd(_)) {
            // No answer says which command of a batch is meant: each is tried by itself.
            self.alone = true;
            return self.read();
        }
        self.follow(next, moment, first)
    }

    /// The batch is stored where we wanted it.
    pub(super) fn confirm(&mut self, batch: Batch, head: u64) -> Vec<Output> {
        self.unsent = 0;
        self.odd = 0;
        self.alone = false;
        self.verified.clear();
        let mut assembler = self.progress.assembler.clone();
        // Half a command before ours stays half a command for every reader.
        let interrupted = assembler.interrupt();
        let mut persist = Persist { expect_head: self.progress.head, ..Persist::default() };
        persist.anomalies.extend(interrupted.and_then(anomaly));
        let mut sequence = self.progress.head;
        let mut position = 0;
        let mut digest = self.progress.head_digest;
        for work in &batch.works {
            let (first, last) = (sequence + 1, sequence + work.pending.envelopes.len() as u64);
            sequence = last;
            position = work.pending.position;
            let context = &work.pending.context;
            persist.confirmed.push((context.command_id, first));
            persist.recorded.push(Recorded {
                command_id: context.command_id,
                attempt: context.attempt,
                command_hash: work.command_hash(),
                draft_hash: work.pending.draft_hash,
                authority: context.authority,
                first,
                last,
            });
            if let Some(envelope) = work.pending.envelopes.last() {
                digest =
                    Some(Digest::of_all([envelope.subject.as_str().as_bytes(), envelope.payload.as_slice()]));
            }
        }
        let progress =
            Progress { head, head_digest: digest, assembler: Assembler::default(), ..self.progress.clone() };
        persist.progress = progress.clone();
        persist.entities = batch.entities;
        persist.overlay = Overlay::Settle { position };
        self.state = State::PersistingAck(Box::new(progress));
        alloc::vec![Output::Persist(Box::new(persist))]
    }
}

impl Batch {
    fn has_room(&self, work: &Work) -> bool {
        let events = work.pending.envelopes.len();
        let bytes: usize = work.pending.envelopes.iter().map(|envelope| envelope.len() + 256).sum();
        self.works.is_empty() || (self.events + events <= BATCH_LIMIT && self.bytes + bytes <= BATCH_BYTES)
    }

    fn push(&mut self, work: Work, changed: BTreeSet<EntityId>) {
        self.events += work.pending.envelopes.len();
        self.bytes += work.pending.envelopes.iter().map(|envelope| envelope.len() + 256).sum::<usize>();
        self.changed.extend(changed);
        self.works.push(work);
    }
}

fn anomaly(group: Group) -> Option<Anomaly> {
    match group {
        Group::Anomaly(anomaly) => Some(anomaly),
        Group::Command(_) => None,
    }
}
