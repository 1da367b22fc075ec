//! Checking pending commands again, and appending them where the stream ends.

use super::contract::{Landed, Moment, Outgoing, Output, Overlay, Persist, Reply, Send, Status};
use super::machine::{Batch, Machine, Pass, State};
use super::patience::{self, Next};
use super::reasons::{archive_due, incomplete, named, too_old};
use super::recheck::{Verdict, Work, genuine, raising, voiding};
use crate::admission::{Anomaly, Assembler, Group};
use crate::digest::Digest;
use crate::journal::{Hold, Progress, Ready};
use crate::order;
use crate::registry::{Facts, Lookup, Recorded, voided};
use crate::rules::Reason;
use crate::stream::SERVER_FLOOR;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

/// Commands loaded at once to be checked again.
pub(super) const LOAD_LIMIT: u32 = 1000;
/// Messages in one atomic batch.
const BATCH_LIMIT: usize = 1000;
/// Bytes in one atomic batch: subjects, headers and payloads, and what transport adds.
pub const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that transport headers add to a message at most.
const TRANSPORT: usize = 256;
/// Events of a batch from which on the log would only repeat what is known.
const BULK: usize = 64;

impl Machine {
    /// Walks over the pending commands: over all of them when something foreign came, else over the first few to send them.
    pub(super) fn walk(&mut self) -> Vec<Output> {
        self.ground();
        if !self.progress.recheck_due || self.progress.rechecked > 0 {
            return self.gather();
        }
        self.recheck()
    }

    /// Checks as many of the first pending commands as are sent next: all of a long journal would take so long that another
    /// writer is always first. The more often that happens, the fewer.
    fn recheck(&mut self) -> Vec<Output> {
        let limit = (self.chunk >> (2 * self.losses).min(10)).max(1);
        self.state = State::Loading(Box::new(Pass {
            until: 0,
            more: false,
            revision: 0,
            facts: Facts::new(self.registry.clone()),
            overlay: Vec::new(),
            held: Vec::new(),
            held_revocations: Vec::new(),
            rechecked: Vec::new(),
        }));
        alloc::vec![Output::Load { after: 0, limit }]
    }

    pub(super) fn take_loaded(&mut self, pass: Pass, works: Vec<Work>) -> Vec<Output> {
        // Decided by a newer version in this journal: it would be refused here, and is not this version's to hold.
        let raised = |work: &Work| raising(self.known_schema, &work.pending.envelopes);
        if let Some(level) = works.iter().filter_map(raised).find_map(|level| self.is_beyond(level)) {
            return self.upgrade(level);
        }
        let wanted = order::set(works.iter().flat_map(Work::scopes));
        let wanted: Vec<Lookup> = wanted.into_iter().cloned().collect();
        let scopes = pass.facts.unanswered(&wanted);
        self.state = State::Checking(Box::new(pass), works);
        alloc::vec![Output::LoadFacts { scopes }]
    }

    pub(super) fn check(&mut self, mut pass: Pass, works: Vec<Work>, facts: Facts) -> Vec<Output> {
        pass.facts.add(facts);
        let skip = self.skips_recheck();
        for work in works {
            let (position, command_id) = (work.pending.position, work.pending.context.command_id);
            pass.until = position;
            match work.check(&mut pass.facts, skip) {
                Ok(Verdict::Stands { facts_hash, changed }) => {
                    if facts_hash != work.pending.facts_hash {
                        pass.rechecked.push((command_id, facts_hash));
                    }
                    let left = changed.iter().filter_map(|id| pass.facts.entity(*id).ok().flatten());
                    pass.overlay.extend(left.map(|entity| (position, entity.clone())));
                }
                Ok(Verdict::Hold(reason)) => {
                    pass.held.push(Hold { command_id, reason });
                    if work.pending.command.is_revocation() {
                        pass.held_revocations.push(command_id);
                    }
                }
                Err(missing) => return self.block(incomplete(&missing)),
            }
        }
        self.persist_pass(pass)
    }

    fn persist_pass(&mut self, pass: Pass) -> Vec<Output> {
        let until = pass.more.then_some(pass.until);
        self.checked = pass.until;
        let progress = Progress {
            recheck_due: pass.more,
            rechecked: until.unwrap_or_default(),
            ..self.progress.clone()
        };
        let persist = Persist {
            expect_head: self.progress.head,
            expect_revision: Some(pass.revision),
            progress: progress.clone(),
            overlay: Overlay::Replace { until, entities: pass.overlay },
            held: pass.held,
            rechecked: pass.rechecked,
            ..Persist::default()
        };
        // What lies behind is not folded anew yet: a revocation waits for that.
        let redecide = if pass.more { Vec::new() } else { self.untried(&pass.held_revocations) };
        self.state = State::PersistingPass { redecide, progress: Box::new(progress) };
        alloc::vec![Output::Persist(Box::new(persist))]
    }

    fn untried(&self, held_revocations: &[Uuid]) -> Vec<Uuid> {
        held_revocations.iter().filter(|id| !self.tried.contains(id)).copied().collect()
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

    /// One command at a time goes out while it is not known which one is refused, or whether the server is well again.
    fn goes_alone(&self) -> bool {
        self.alone || self.breaker.is_half_open()
    }

    fn gather(&mut self) -> Vec<Output> {
        let messages = if self.goes_alone() { 1 } else { BATCH_LIMIT as u32 };
        self.state = State::Gathering;
        alloc::vec![Output::Gather { after: self.taken, messages }]
    }

    /// Pending commands stand on exactly the state that those before them leave: what was decided here was decided on that,
    /// and what something foreign could have changed was checked again since.
    pub(super) fn take_gathered(
        &mut self,
        commands: Vec<Ready>,
        held_revocations: &[Uuid],
        moment: &Moment,
    ) -> Vec<Output> {
        if !self.known {
            return self.read();
        }
        let flies = self.flight.is_some();
        let redecide = self.untried(held_revocations);
        if !flies && !redecide.is_empty() && !self.progress.recheck_due {
            return self.redecide(redecide);
        }
        let mut batch = Box::new(Batch::default());
        let mut all = true;
        let checked = if self.progress.recheck_due { self.progress.rechecked } else { u64::MAX };
        for command in commands {
            if command.position > checked {
                all = false;
                break;
            }
            // What it voids may stand before it or behind it, and may be decided anew meanwhile by who does not know of it.
            let voids = !voiding(self.known_schema, &command.envelopes).is_empty();
            if voids && (flies || !batch.commands.is_empty()) {
                all = false;
                break;
            }
            if voids && command.position > self.checked {
                return self.recheck();
            }
            let full = !batch.has_room(&command) || self.goes_alone() && !batch.commands.is_empty();
            if full {
                all = false;
                break;
            }
            // Decided by a newer version in this journal: neither this nor what stands on it is ours to send.
            if let Some(level) =
                raising(self.known_schema, &command.envelopes).and_then(|level| self.is_beyond(level))
            {
                if !flies && batch.commands.is_empty() {
                    return self.upgrade(level);
                }
                all = false;
                break;
            }
            if let Err(reason) = self.look_at(&command) {
                if !flies && batch.commands.is_empty() {
                    return self.hold(command.command_id, reason);
                }
                // Its turn comes when nothing else is on its way.
                all = false;
                break;
            }
            self.taken = command.position;
            batch.push(command);
            if voids {
                batch.voids = true;
                all = false;
                break;
            }
        }
        let is_empty = batch.commands.is_empty();
        self.dry = all && (is_empty || !batch.is_full());
        if flies {
            self.prepared = (!is_empty).then_some(batch);
            self.state = State::Flying;
            return Vec::new();
        }
        if is_empty && self.progress.recheck_due {
            return self.recheck();
        }
        if is_empty {
            return self.rests();
        }
        if self.server.is_some_and(|found| found < SERVER_FLOOR) {
            return self.block(too_old(self.server));
        }
        if self.archive_is_due() {
            return self.block(archive_due());
        }
        if self.gives_way(moment) {
            return self.rest_after_bulk(moment);
        }
        let mut outputs = alloc::vec![Output::Send(self.outgoing(&batch, self.progress.head, moment))];
        // What a void leaves is looked at before anything else is made ready.
        self.dry |= batch.voids;
        self.flight = Some(batch);
        outputs.extend(self.prepare());
        outputs
    }

    /// Whether it has appended for so long without a pause that it is somebody else's turn: one after the other, its appends
    /// leave no room for who is farther away, however slowly they come.
    fn gives_way(&self, moment: &Moment) -> bool {
        let goes_on = self.landed_at.is_some_and(|at| !patience::is_pause(at, moment));
        goes_on && self.bulk_since.is_some_and(|at| patience::bulk_is_over(at, self.others_at, moment))
    }

    fn rest_after_bulk(&mut self, moment: &Moment) -> Vec<Output> {
        self.ground();
        self.bulk_since = None;
        self.landed_at = None;
        let seen = patience::are_seen(self.others_at, moment);
        let came = self.others_before != self.others_at;
        self.in_vain = if seen && !came { self.in_vain.saturating_add(1) } else { 0 };
        self.others_before = self.others_at;
        let mut outputs = alloc::vec![Output::Report(Status::Working)];
        outputs.extend(self.pause(patience::bulk_rest(self.in_vain, moment)));
        outputs
    }

    /// While one append is on its way, the next one is made ready.
    fn prepare(&mut self) -> Vec<Output> {
        if self.dry || self.goes_alone() {
            self.state = State::Flying;
            return Vec::new();
        }
        self.gather()
    }

    /// Nothing is left to send.
    fn rests(&mut self) -> Vec<Output> {
        self.unsent = 0;
        self.conflict_since = None;
        self.losses = 0;
        if !self.following {
            return self.read();
        }
        if self.tail.is_ahead_of(self.progress.head) {
            return self.catch_up();
        }
        self.state = State::Rest;
        self.idle = true;
        alloc::vec![Output::Report(Status::Idle)]
    }

    /// Signatures cost more than all the rest: they are looked at once.
    fn look_at(&mut self, command: &Ready) -> Result<(), Reason> {
        if self.verified.contains(&command.draft_hash) {
            return Ok(());
        }
        if genuine(self.known_schema, command, &self.registry)? {
            self.verified.insert(command.draft_hash);
        }
        Ok(())
    }

    fn outgoing(&self, batch: &Batch, head: u64, moment: &Moment) -> Send {
        let envelopes: Vec<_> = batch.commands.iter().flat_map(|command| &command.envelopes).collect();
        let several = envelopes.len() > 1;
        let mut id: String = moment.random.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(first) = batch.commands.first().filter(|_| self.reuses_batch_id()) {
            id = first.command_id.to_string();
        }
        let mut messages = Vec::with_capacity(envelopes.len());
        for (place, envelope) in envelopes.iter().enumerate() {
            let mut headers = self.retried(envelope.headers.clone(), &id);
            let mut add = |name: &str, value: &str| {
                // Names and values are ours and valid.
                let _ = headers.push(name, value);
            };
            if place == 0 {
                add("Nats-Expected-Last-Sequence", &head.to_string());
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
                return self.confirm(&batch, expected, moment);
            }
        }
        if self.retries_blindly(reply) {
            self.progress.head += 1;
            let send = self.outgoing(&batch, self.progress.head, moment);
            self.state = State::Flying;
            self.flight = Some(Box::new(batch));
            return alloc::vec![Output::Send(send)];
        }
        self.ground();
        let first = batch.commands.first().map(|command| command.command_id);
        let mut next = patience::after_reply(reply);
        if next == Next::Conflict && self.fails_on_conflict() {
            next = Next::Hold(named("server-refuses", "a planted mistake".to_string()));
        }
        if batch.commands.len() > 1 && matches!(next, Next::Hold(_) | Next::Odd(_)) {
            // No answer says which command of a batch is meant: each is tried by itself.
            self.alone = true;
            return self.read();
        }
        self.follow(next, moment, first)
    }

    /// The batch is stored where we wanted it; what was made ready meanwhile goes out behind it.
    fn confirm(&mut self, batch: &Batch, head: u64, moment: &Moment) -> Vec<Output> {
        self.unsent = 0;
        self.odd = 0;
        self.alone = false;
        self.conflict_since = None;
        self.losses /= 2;
        self.verified.clear();
        self.checked = 0;
        self.tried.clear();
        self.breaker.success(moment);
        let mut outputs = Vec::new();
        let more = self.prepared.is_some();
        if more && self.following && batch.events >= BULK {
            self.following = false;
            self.tail.clear();
            outputs.push(Output::Follow { on: false });
        }
        if self.landed_at.replace(moment.millis).is_none_or(|at| patience::is_pause(at, moment)) {
            self.bulk_since = Some(moment.millis);
        }
        let rests = more && self.gives_way(moment);
        if rests {
            self.ground();
        }
        if let Some(next) = self.prepared.take() {
            outputs.push(Output::Send(self.outgoing(&next, head, moment)));
            self.flight = Some(next);
        }
        let persist = self.landed(batch, head);
        self.state = State::PersistingAck { progress: Box::new(persist.progress.clone()), rests };
        outputs.push(Output::Persist(Box::new(persist)));
        outputs
    }

    /// What is written down of a batch that is stored.
    fn landed(&mut self, batch: &Batch, head: u64) -> Persist {
        let mut assembler = self.progress.assembler.clone();
        // Half a command before ours stays half a command for every reader.
        let interrupted = assembler.interrupt();
        let mut persist = Persist { expect_head: self.progress.head, ..Persist::default() };
        persist.anomalies.extend(interrupted.and_then(anomaly));
        let mut sequence = self.progress.head;
        let (mut position, mut schema) = (0, self.progress.schema);
        for command in &batch.commands {
            let (first, last) = (sequence + 1, sequence + command.envelopes.len() as u64);
            sequence = last;
            position = command.position;
            let (command_id, draft_hash) = (command.command_id, command.draft_hash);
            persist.confirmed.push(Landed { command_id, draft_hash, first });
            let recorded = Recorded {
                command_id: command.command_id,
                attempt: command.attempt,
                command_hash: command.command_hash,
                draft_hash: command.draft_hash,
                authority: command.authority,
                first,
                last,
                voided: Vec::new(),
            };
            let voided = voided(&voiding(self.known_schema, &command.envelopes), &recorded);
            schema = raising(self.known_schema, &command.envelopes).unwrap_or(schema);
            persist.recorded.push(recorded);
            persist.recorded.extend(voided);
        }
        let envelopes = || batch.commands.iter().flat_map(|command| &command.envelopes);
        let last = envelopes().next_back();
        let digest =
            last.map(|last| Digest::of_all([last.subject.as_str().as_bytes(), last.payload.as_slice()]));
        persist.progress = Progress {
            head,
            head_digest: digest,
            assembler: Assembler::default(),
            schema,
            ..self.progress.clone()
        };
        envelopes().for_each(|envelope| persist.progress.chain(&envelope.headers));
        if batch.voids {
            persist.progress.recheck_due = true;
            persist.progress.rechecked = 0;
        }
        persist.overlay = Overlay::Settle { position };
        persist
    }

    /// What was confirmed is written down.
    pub(super) fn after_ack(&mut self, rests: bool, moment: &Moment) -> Vec<Output> {
        if rests {
            return self.rest_after_bulk(moment);
        }
        if self.flight.is_some() { self.prepare() } else { self.walk() }
    }
}

impl Batch {
    fn has_room(&self, command: &Ready) -> bool {
        let (events, bytes) = (command.envelopes.len(), bytes(command));
        self.commands.is_empty() || (self.events + events <= BATCH_LIMIT && self.bytes + bytes <= BATCH_BYTES)
    }

    fn push(&mut self, command: Ready) {
        self.events += command.envelopes.len();
        self.bytes += bytes(&command);
        self.commands.push(command);
    }

    fn is_full(&self) -> bool {
        self.events >= BATCH_LIMIT || self.bytes >= BATCH_BYTES
    }
}

fn bytes(command: &Ready) -> usize {
    command.envelopes.iter().map(|envelope| envelope.len() + TRANSPORT).sum()
}

fn anomaly(group: Group) -> Option<Anomaly> {
    match group {
        Group::Anomaly(anomaly) => Some(anomaly),
        Group::Command(_) => None,
    }
}
