//! The machine itself. See [`Machine`] for its contract.

use super::contract::{
    Input, Moment, Outgoing, Output, Overlay, Persist, Persisted, Read, Reply, Send, Status, StreamInfo,
};
use super::patience::{self, Next};
use super::recheck::{Verdict, Work};
use crate::admission::{Anomaly, Assembler, Complete, Group, StoredMessage};
use crate::context::RegistryId;
use crate::journal::{Hold, Own, Progress, State as OwnState};
use crate::registry::{Entity, EntityId, Facts, Lookup, Missing, Recorded};
use crate::rules::Reason;
use crate::stream::{SERVER_FLOOR, StreamConfig, keys_events_stream_config};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

/// Messages asked for in one read.
const READ_LIMIT: u32 = 500;
/// Commands loaded at once.
const LOAD_LIMIT: u32 = 1000;
/// Messages in one atomic batch.
const BATCH_LIMIT: usize = 1000;
/// Bytes in one atomic batch.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Mistakes for the simulator to find.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An acknowledgement that says *duplicate* is taken for a confirmation.
    ConfirmOnDuplicate,
    /// A message gets a new `Nats-Msg-Id` when it is sent again.
    NewIdOnRetry,
    /// After a conflict the append is tried one sequence further, without reading what came between.
    RetryWithoutCatchUp,
    /// Commands are not checked again although facts changed.
    RecheckSkipped,
}

/// Brings journal and stream together, exactly once.
///
/// # Contract
/// The host calls [`handle`](Self::handle) with each input and does what comes out, in order. It begins with
/// [`Input::Tick`]. At most one output of a list asks for an answer (`ReadFrom`, `LoadFacts`, `Load`, `Persist`, `Send`,
/// `Redecide`, `Wait`); nothing else is handed in before that answer, except [`Input::Disconnected`], after which an
/// answer that was still outstanding is not handed in any more.
///
/// * The stream's order is the truth. Nothing is sent before what it follows was persisted.
/// * An acknowledgement with the sequence expected confirms; any other answer, or none, has one consequence: catch up.
/// * A retry never goes out before a catch-up, and carries the same bytes.
/// * [`Persisted::Stale`] means: load and decide again. [`Persisted::Failed`] blocks.
/// * After [`Output::Drop`] nothing that was queued in the old connection may be sent any more.
/// * Time and randomness come in with each input. The machine keeps no secret.
#[derive(Debug)]
pub struct Machine {
    registry: RegistryId,
    expected: StreamConfig,
    progress: Progress,
    state: State,
    /// Whether the message at `head` was compared since the last connection.
    known: bool,
    server: Option<(u32, u32, u32)>,
    /// Failures in a row.
    failures: u32,
    /// Odd answers in a row.
    odd: u32,
    /// Held revocations that were tried since something foreign came.
    tried: BTreeSet<Uuid>,
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

#[derive(Debug)]
enum State {
    /// Waiting for a tick.
    Rest,
    Reading,
    Admitting(Box<Caught>),
    PersistingRead {
        progress: Box<Progress>,
        more: bool,
    },
    Loading(Box<Pass>),
    Checking(Box<Pass>, Vec<Work>),
    PersistingPass {
        redecide: Vec<Uuid>,
        again: bool,
    },
    Redeciding(Vec<Uuid>),
    Sending(Box<Batch>),
    PersistingAck(Box<Progress>),
}

/// What a read brought.
#[derive(Debug)]
struct Caught {
    progress: Progress,
    groups: Vec<Group>,
    messages: Vec<StoredMessage>,
    more: bool,
}

/// One walk over pending commands in journal order: over all of them to fold the overlay anew, or over the first few to
/// send them.
#[derive(Debug)]
struct Pass {
    /// Fold the overlay anew and hold what does not stand; else gather a batch to send.
    refold: bool,
    after: u64,
    more: bool,
    revision: u64,
    facts: Facts,
    changed: BTreeMap<EntityId, u64>,
    held: Vec<Hold>,
    held_revocations: Vec<Uuid>,
    rechecked: Vec<(Uuid, crate::digest::Digest)>,
    batch: Batch,
}

/// Commands on their way, and what they leave behind once they are confirmed.
#[derive(Debug, Default)]
struct Batch {
    works: Vec<Work>,
    entities: Vec<Entity>,
    changed: BTreeSet<EntityId>,
    events: usize,
    bytes: usize,
}

impl Machine {
    /// A machine for one journal.
    #[must_use]
    pub fn new(registry: RegistryId, progress: Progress) -> Self {
        let expected = keys_events_stream_config(&registry.namespace);
        Self {
            registry,
            expected,
            progress,
            state: State::Rest,
            known: false,
            server: None,
            failures: 0,
            odd: 0,
            tried: BTreeSet::new(),
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }

    /// Expects other settings of the stream than [`keys_events_stream_config`] gives.
    #[must_use]
    pub fn expecting(mut self, config: StreamConfig) -> Self {
        self.expected = config;
        self
    }

    /// Plants a mistake.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
    }

    /// How far the journal has come.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes an input; see the type's contract.
    #[must_use]
    pub fn handle(&mut self, input: Input, moment: Moment) -> Vec<Output> {
        let state = core::mem::replace(&mut self.state, State::Rest);
        match (state, input) {
            (_, Input::Disconnected) => {
                self.known = false;
                self.wait(unreachable_reason(), &moment)
            }
            (State::Rest, Input::Tick) => self.read(),
            (State::Reading, Input::Read(read)) => self.take_read(read),
            (State::Reading, Input::ReadFailed(failure)) => {
                self.follow(patience::after_failure(&failure), &moment, None)
            }
            (State::Admitting(caught), Input::Facts { facts, own }) => self.admit(*caught, facts, &own),
            (State::PersistingRead { progress, more }, Input::Persisted(outcome)) => {
                self.after_read(*progress, more, outcome)
            }
            (State::Loading(pass), Input::Loaded { commands, more, held_revocations, revision }) => {
                let works = commands.into_iter().map(|pending| Work::new(pending, &self.registry)).collect();
                self.take_loaded(Pass { more, revision, held_revocations, ..*pass }, works)
            }
            (State::Checking(pass, works), Input::Facts { facts, .. }) => {
                self.check(*pass, works, facts, &moment)
            }
            (State::PersistingPass { redecide, again }, Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => {
                    self.progress.recheck_due = again && self.progress.recheck_due;
                    self.redecide(redecide)
                }
                Persisted::Stale => self.walk(),
                Persisted::Failed { reason } => self.store_failed(reason),
            },
            (State::Redeciding(rest), Input::Redecided { .. }) => self.redecide(rest),
            (State::Sending(batch), Input::Reply(reply)) => self.take_reply(*batch, &reply, &moment),
            (State::PersistingAck(progress), Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => {
                    self.progress = *progress;
                    self.walk()
                }
                // Another process moved the journal: the stream tells what is there.
                Persisted::Stale => self.reload(),
                Persisted::Failed { reason } => self.store_failed(reason),
            },
            // An answer to something that a disconnect has ended: nothing follows.
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    // ---- catching up

    fn read(&mut self) -> Vec<Output> {
        self.state = State::Reading;
        // The message at `head` is read again after each connection: is it still the one we know?
        let after = if self.known { self.progress.head } else { self.progress.head.saturating_sub(1) };
        alloc::vec![Output::Report(Status::Working), Output::ReadFrom { after, limit: READ_LIMIT }]
    }

    fn take_read(&mut self, read: Read) -> Vec<Output> {
        let Read { info, mut messages } = read;
        self.server = info.server;
        if let Err(reason) = self.recognise(&info, &mut messages) {
            return self.block(reason);
        }
        self.known = true;
        self.failures = 0;
        let mut progress = Progress { stream: Some(info.identity), ..self.progress.clone() };
        let mut groups = Vec::new();
        for message in &messages {
            if message.sequence != progress.head + 1 {
                return self.block(gap(progress.head, message.sequence));
            }
            progress.head = message.sequence;
            progress.head_digest = Some(message.digest());
            groups.extend(progress.assembler.push(message.clone()));
        }
        let more = progress.head < info.last;
        if messages.is_empty() && more {
            return self.block(gap(progress.head, info.first));
        }
        if messages.is_empty() && self.progress.stream.is_some() {
            return self.walk();
        }
        let mut scopes: BTreeSet<Lookup> =
            groups.iter().filter_map(whole).flat_map(Complete::scope).collect();
        if !scopes.is_empty() {
            scopes.insert(Lookup::Entity(self.operator()));
        }
        let caught = Caught { progress, groups, messages, more };
        if scopes.is_empty() {
            let facts = Facts::new(self.registry.clone());
            return self.admit(caught, facts, &[]);
        }
        self.state = State::Admitting(Box::new(caught));
        alloc::vec![Output::LoadFacts { scopes: scopes.into_iter().collect() }]
    }

    /// Is it the stream that this journal knows, with the settings it needs, and nothing lost?
    fn recognise(&self, info: &StreamInfo, messages: &mut Vec<StoredMessage>) -> Result<(), Reason> {
        if let Some(known) = self.progress.stream.as_ref().filter(|known| **known != info.identity) {
            let text = format!(
                "this journal belongs to the stream {} made {}, the server has {} made {}",
                known.name, known.created, info.identity.name, info.identity.created
            );
            return Err(named("stream-foreign", text));
        }
        let differences = self.expected.differences(&info.config);
        if !differences.is_empty() {
            let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
            return Err(named(
                "stream-settings",
                format!("stream {}: {}", info.identity.name, all.join("; ")),
            ));
        }
        let head = self.progress.head;
        if info.last < head {
            let text = format!(
                "the stream ends at {} and had come to {head}: confirmed events were lost",
                info.last
            );
            return Err(named("stream-regressed", text));
        }
        if !self.known && head > 0 {
            let here = messages.first().filter(|message| message.sequence == head).map(StoredMessage::digest);
            match here {
                Some(digest) if Some(digest) != self.progress.head_digest => {
                    let text = format!("the message at {head} is not the one that was confirmed there");
                    return Err(named("stream-regressed", text));
                }
                Some(_) => {
                    messages.remove(0);
                }
                // Forgotten by age while nothing newer came: then its follower must be there.
                None if info.first <= head => return Err(gap(head.saturating_sub(1), info.first)),
                None => {}
            }
        }
        Ok(())
    }

    fn admit(&mut self, caught: Caught, mut facts: Facts, own: &[Own]) -> Vec<Output> {
        let Caught { mut progress, groups, messages, more } = caught;
        let mut persist = Persist { expect_head: self.progress.head, messages, ..Persist::default() };
        let mut changed = BTreeSet::new();
        let mut settled = 0;
        for group in groups {
            let complete = match group {
                Group::Anomaly(anomaly) => {
                    persist.anomalies.push(anomaly);
                    continue;
                }
                Group::Command(complete) => complete,
            };
            let founds = complete.founds();
            match complete.admit(&mut facts) {
                Ok(Ok(admitted)) => {
                    changed.extend(admitted.changed);
                    match ours(own, &admitted.recorded) {
                        Mine::Confirmed { position } => {
                            settled = settled.max(position);
                            persist.confirmed.push((admitted.recorded.command_id, admitted.recorded.first));
                        }
                        Mine::Other(hold) => {
                            persist.held.extend(hold);
                            progress.recheck_due = true;
                            self.tried.clear();
                        }
                    }
                    persist.recorded.push(admitted.recorded);
                }
                Ok(Err(anomaly)) => {
                    // One stream is one registry: the first that is founded on it.
                    let foreign = founds.filter(|_| anomaly.reason.code == "foreign-registry");
                    if let (Some(found), Ok(None)) = (foreign, facts.entity(self.operator())) {
                        return self.block(foreign_registry(found));
                    }
                    persist.anomalies.push(anomaly);
                }
                Err(missing) => return self.block(incomplete(&missing)),
            }
        }
        persist.entities = entities(&facts, &changed);
        if settled > 0 {
            persist.overlay = Overlay::Settle { position: settled };
        }
        persist.progress = progress.clone();
        self.state = State::PersistingRead { progress: Box::new(progress), more };
        alloc::vec![Output::Persist(Box::new(persist))]
    }

    fn operator(&self) -> EntityId {
        EntityId::Operator(self.registry.operator)
    }

    fn after_read(&mut self, progress: Progress, more: bool, outcome: Persisted) -> Vec<Output> {
        match outcome {
            Persisted::Ok => {
                self.progress = progress;
                if more { self.read() } else { self.walk() }
            }
            Persisted::Stale => self.reload(),
            Persisted::Failed { reason } => self.store_failed(reason),
        }
    }

    // ---- checking again, and gathering a batch

    /// Walks over the pending commands: all of them when something foreign came, else the first few.
    fn walk(&mut self) -> Vec<Output> {
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

    fn load(&mut self, pass: Pass) -> Vec<Output> {
        let output = Output::Load { after: pass.after, limit: LOAD_LIMIT };
        self.state = State::Loading(Box::new(pass));
        alloc::vec![output]
    }

    fn take_loaded(&mut self, pass: Pass, works: Vec<Work>) -> Vec<Output> {
        let wanted: BTreeSet<&Lookup> = works.iter().flat_map(Work::scopes).collect();
        let wanted: Vec<Lookup> = wanted.into_iter().cloned().collect();
        let scopes = pass.facts.unanswered(&wanted);
        self.state = State::Checking(Box::new(pass), works);
        alloc::vec![Output::LoadFacts { scopes }]
    }

    fn check(&mut self, mut pass: Pass, works: Vec<Work>, facts: Facts, moment: &Moment) -> Vec<Output> {
        pass.facts.add(facts);
        let skip = self.skips_recheck();
        for work in works {
            if !pass.refold && !pass.batch.has_room(&work) {
                pass.more = false;
                break;
            }
            pass.after = work.pending.position;
            match work.check(&mut pass.facts, skip) {
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

    fn persist_pass(&mut self, pass: Pass) -> Vec<Output> {
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

    fn redecide(&mut self, mut rest: Vec<Uuid>) -> Vec<Output> {
        match rest.pop() {
            Some(command_id) => {
                self.tried.insert(command_id);
                self.state = State::Redeciding(rest);
                alloc::vec![Output::Redecide { command_id }]
            }
            None => self.walk(),
        }
    }

    // ---- appending

    fn send(&mut self, pass: Pass, moment: &Moment) -> Vec<Output> {
        let mut batch = pass.batch;
        if batch.works.is_empty() {
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

    fn outgoing(&self, batch: &Batch, moment: &Moment) -> Send {
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

    fn take_reply(&mut self, batch: Batch, reply: &Reply, moment: &Moment) -> Vec<Output> {
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
        self.follow(patience::after_reply(reply), moment, first)
    }

    /// The batch is stored where we wanted it.
    fn confirm(&mut self, batch: Batch, head: u64) -> Vec<Output> {
        self.failures = 0;
        self.odd = 0;
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
                command_hash: work.pending.command.hash(),
                draft_hash: work.pending.draft_hash,
                authority: context.authority,
                first,
                last,
            });
            if let Some(envelope) = work.pending.envelopes.last() {
                digest = Some(crate::digest::Digest::of_all([
                    envelope.subject.as_str().as_bytes(),
                    envelope.payload.as_slice(),
                ]));
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

    // ---- patience

    fn follow(&mut self, next: Next, moment: &Moment, command: Option<Uuid>) -> Vec<Output> {
        match (next, command) {
            (Next::Conflict, _) => self.read(),
            (Next::CatchUp, _) => self.rest(patience::pause(moment)),
            (Next::Wait(reason), _) => self.wait(reason, moment),
            (Next::Reconnect(reason), _) => {
                self.known = false;
                let mut outputs = alloc::vec![Output::Drop];
                outputs.extend(self.wait(reason, moment));
                outputs
            }
            (Next::Block(reason), _) => self.block(reason),
            (Next::Hold(reason), Some(command_id)) => self.hold(command_id, reason),
            (Next::Odd(code), Some(command_id)) => {
                self.odd += 1;
                if self.odd < patience::ODD_LIMIT {
                    return self.rest(patience::pause(moment));
                }
                self.odd = 0;
                self.hold(
                    command_id,
                    named("server-refuses", format!("the server refuses it with error {code}")),
                )
            }
            (Next::Hold(reason), None) => self.wait(reason, moment),
            (Next::Odd(code), None) => self.wait(named("api", format!("error {code}")), moment),
        }
    }

    fn rest(&mut self, millis: u64) -> Vec<Output> {
        self.state = State::Rest;
        alloc::vec![Output::Wait { millis }]
    }

    fn wait(&mut self, reason: Reason, moment: &Moment) -> Vec<Output> {
        let millis = patience::backoff(self.failures, moment);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Rest;
        alloc::vec![Output::Report(Status::Waiting { reason }), Output::Wait { millis }]
    }

    fn block(&mut self, reason: Reason) -> Vec<Output> {
        self.state = State::Rest;
        self.known = false;
        alloc::vec![
            Output::Drop,
            Output::Report(Status::Blocked { reason }),
            Output::Wait { millis: patience::PROBE }
        ]
    }

    fn store_failed(&mut self, reason: String) -> Vec<Output> {
        self.block(named("store-failed", reason))
    }

    /// The journal was moved by somebody else: what this machine knows of it is void.
    fn reload(&mut self) -> Vec<Output> {
        self.block(named("journal-moved", "another process moved this journal: begin again".to_string()))
    }

    /// Holds one command, then folds the overlay anew without it.
    fn hold(&mut self, command_id: Uuid, reason: Reason) -> Vec<Output> {
        self.progress.recheck_due = true;
        let persist = Persist {
            expect_head: self.progress.head,
            progress: self.progress.clone(),
            held: alloc::vec![Hold { command_id, reason }],
            ..Persist::default()
        };
        self.state = State::PersistingPass { redecide: Vec::new(), again: true };
        alloc::vec![Output::Persist(Box::new(persist))]
    }

    // ---- planted mistakes

    #[cfg(feature = "planted-bugs")]
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn skips_recheck(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::RecheckSkipped);
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    fn trusts_duplicate(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::ConfirmOnDuplicate);
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    fn retries_blindly(&self, _reply: &Reply) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::RetryWithoutCatchUp) && matches!(_reply, Reply::Error { code: 10071 });
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    fn retried(&self, headers: crate::headers::Headers, _id: &str) -> crate::headers::Headers {
        #[cfg(feature = "planted-bugs")]
        if self.has(Bug::NewIdOnRetry) && self.failures > 0 {
            let renamed = headers.iter().map(|(name, value)| {
                let value = if name == crate::headers::NATS_MSG_ID { _id } else { value };
                (name.to_string(), value.to_string())
            });
            return crate::headers::Headers::received(renamed.collect());
        }
        headers
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

/// What an admitted command is to our journal.
enum Mine {
    /// Ours, as we have it.
    Confirmed { position: u64 },
    /// Not ours, or another draft of ours: then ours is to be held.
    Other(Option<Hold>),
}

fn ours(own: &[Own], admitted: &Recorded) -> Mine {
    let Some(mine) = own.iter().find(|own| own.command_id == admitted.command_id) else {
        return Mine::Other(None);
    };
    if mine.draft_hash == admitted.draft_hash {
        return Mine::Confirmed { position: mine.position };
    }
    if mine.state == OwnState::Confirmed {
        return Mine::Other(None);
    }
    let same = mine.command_hash == admitted.command_hash && mine.authority == admitted.authority;
    let reason = if same {
        named("overtaken", "another attempt at this command came first: this one is void".to_string())
    } else {
        named("id-taken", "another command was admitted under this id: make this one anew".to_string())
    };
    Mine::Other(Some(Hold { command_id: mine.command_id, reason }))
}

fn whole(group: &Group) -> Option<&Complete> {
    match group {
        Group::Command(complete) => Some(complete),
        Group::Anomaly(_) => None,
    }
}

fn anomaly(group: Group) -> Option<Anomaly> {
    match group {
        Group::Anomaly(anomaly) => Some(anomaly),
        Group::Command(_) => None,
    }
}

fn entities(facts: &Facts, changed: &BTreeSet<EntityId>) -> Vec<Entity> {
    changed.iter().filter_map(|id| facts.entity(*id).ok().flatten().cloned()).collect()
}

fn named(code: &str, text: String) -> Reason {
    Reason { code: code.to_string(), text }
}

fn foreign_registry(found: crate::nkey::PublicKey) -> Reason {
    let text = format!(
        "the stream belongs to the registry {found}: one stream holds one registry, use another server or account"
    );
    named("stream-foreign", text)
}

fn incomplete(missing: &Missing) -> Reason {
    named("fact-missing", missing.to_string())
}

fn unreachable_reason() -> Reason {
    named("unreachable", "the connection was lost".to_string())
}

fn gap(head: u64, found: u64) -> Reason {
    let text = format!(
        "the stream has forgotten what came after {head} (next is {found}): read it from KEYS_ARCHIVE"
    );
    named("history-missing", text)
}

fn too_old(found: Option<(u32, u32, u32)>) -> Reason {
    let (a, b, c) = found.unwrap_or_default();
    let (x, y, z) = SERVER_FLOOR;
    named(
        "server-too-old",
        format!("the server is {a}.{b}.{c}: appending needs nats-server {x}.{y}.{z} or newer"),
    )
}
