//! The machine itself. See [`Machine`] for its contract.

use super::contract::{Input, Moment, Output, Persist, Persisted, Status};
use super::patience::{self, Next};
#[cfg(feature = "planted-bugs")]
use super::planted::Bug;
use super::reasons::{named, unreachable_reason};
use super::recheck::Work;
use crate::admission::{Group, StoredMessage};
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::journal::{Hold, Progress};
use crate::registry::{Entity, EntityId, Facts};
use crate::rules::Reason;
use crate::stream::{StreamConfig, keys_events_stream_config};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

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
/// * Blocked as `journal-moved`, a machine is done: make a new one from what the journal says. (So it is when the answer to a
///   [`Output::Persist`] that was written got lost in an [`Input::Disconnected`].)
/// * After [`Output::Drop`] nothing that was queued in the old connection may be sent any more.
/// * Time and randomness come in with each input. The machine keeps no secret.
#[derive(Debug)]
pub struct Machine {
    pub(super) registry: RegistryId,
    pub(super) expected: StreamConfig,
    pub(super) progress: Progress,
    pub(super) state: State,
    /// Whether the message at `head` was compared since the last connection.
    pub(super) known: bool,
    pub(super) server: Option<(u32, u32, u32)>,
    /// Failures to read in a row.
    pub(super) failures: u32,
    /// Appends in a row that were not confirmed, conflicts left out: reading may work where appending does not.
    pub(super) unsent: u32,
    /// Odd answers in a row.
    pub(super) odd: u32,
    /// A batch was refused for one of its commands: the next one goes alone.
    pub(super) alone: bool,
    /// Drafts of pending commands whose messages were looked at as a reader would, and what came of it.
    pub(super) verified: BTreeMap<Digest, Result<(), Reason>>,
    /// Held revocations that were tried since something foreign came.
    pub(super) tried: BTreeSet<Uuid>,
    #[cfg(feature = "planted-bugs")]
    pub(super) bug: Option<Bug>,
}

#[derive(Debug)]
pub(super) enum State {
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
pub(super) struct Caught {
    pub(super) progress: Progress,
    pub(super) groups: Vec<Group>,
    pub(super) messages: Vec<StoredMessage>,
    pub(super) more: bool,
}

/// One walk over pending commands in journal order: over all of them to fold the overlay anew, or over the first few to
/// send them.
#[derive(Debug)]
pub(super) struct Pass {
    /// Fold the overlay anew and hold what does not stand; else gather a batch to send.
    pub(super) refold: bool,
    pub(super) after: u64,
    pub(super) more: bool,
    pub(super) revision: u64,
    pub(super) facts: Facts,
    pub(super) changed: BTreeMap<EntityId, u64>,
    pub(super) held: Vec<Hold>,
    pub(super) held_revocations: Vec<Uuid>,
    pub(super) rechecked: Vec<(Uuid, Digest)>,
    pub(super) batch: Batch,
}

/// Commands on their way, and what they leave behind once they are confirmed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) works: Vec<Work>,
    pub(super) entities: Vec<Entity>,
    pub(super) changed: BTreeSet<EntityId>,
    pub(super) events: usize,
    pub(super) bytes: usize,
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
            unsent: 0,
            odd: 0,
            alone: false,
            verified: BTreeMap::new(),
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
            (State::Reading, Input::Read(read)) => self.take_read(read, &moment),
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
                // The journal, or its head, was moved by somebody else: reading tells which.
                Persisted::Stale => self.read(),
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

    /// Does what an answer asks for. `command` is the first of the append it answers, none where it answers a read.
    pub(super) fn follow(&mut self, next: Next, moment: &Moment, command: Option<Uuid>) -> Vec<Output> {
        if command.is_some() && next != Next::Conflict {
            self.unsent = self.unsent.saturating_add(1);
        }
        match (next, command) {
            (Next::Conflict, _) => self.read(),
            (Next::CatchUp, _) => self.rest(moment),
            (Next::Wait(reason), _) | (Next::Hold(reason), None) => self.wait(reason, moment),
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
                    return self.rest(moment);
                }
                self.odd = 0;
                self.hold(
                    command_id,
                    named("server-refuses", format!("the server refuses it with error {code}")),
                )
            }
            (Next::Odd(code), None) => self.wait(named("api", format!("error {code}")), moment),
        }
    }

    /// A short pause that grows with each append in vain.
    fn rest(&mut self, moment: &Moment) -> Vec<Output> {
        self.state = State::Rest;
        alloc::vec![Output::Wait { millis: patience::pause(self.unsent, moment) }]
    }

    pub(super) fn wait(&mut self, reason: Reason, moment: &Moment) -> Vec<Output> {
        let millis = patience::backoff(self.failures.max(self.unsent), moment);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Rest;
        alloc::vec![Output::Report(Status::Waiting { reason }), Output::Wait { millis }]
    }

    pub(super) fn block(&mut self, reason: Reason) -> Vec<Output> {
        self.state = State::Rest;
        self.known = false;
        alloc::vec![
            Output::Drop,
            Output::Report(Status::Blocked { reason }),
            Output::Wait { millis: patience::PROBE }
        ]
    }

    pub(super) fn store_failed(&mut self, reason: String) -> Vec<Output> {
        self.block(named("store-failed", reason))
    }

    /// The journal was moved by somebody else: what this machine knows of it is void.
    pub(super) fn reload(&mut self) -> Vec<Output> {
        self.block(named("journal-moved", "another process moved this journal: begin again".to_string()))
    }

    /// Holds one command, then folds the overlay anew without it.
    pub(super) fn hold(&mut self, command_id: Uuid, reason: Reason) -> Vec<Output> {
        self.alone = false;
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
}
