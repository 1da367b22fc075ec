//! The machine itself. See [`Machine`] for its contract.

use super::append::LOAD_LIMIT;
use super::archive::Asked;
use super::breaker::Breaker;
use super::catchup::READ_LIMIT;
use super::contract::{Input, Moment, Output, Persist, Persisted, Reply, Status};
use super::patience::{self, Next};
#[cfg(feature = "planted-bugs")]
use super::planted::Bug;
use super::reasons::{named, newer_schema, unreachable_reason};
use super::recheck::Work;
use super::tail::Tail;
use crate::admission::{Group, StoredMessage};
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::envelope::SCHEMA_VERSION;
use crate::journal::{Hold, Progress, Ready, StreamIdentity};
use crate::registry::{Entity, Facts};
use crate::rules::Reason;
use crate::stream::{StreamConfig, keys_events_stream_config};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

/// Brings journal and stream together, exactly once.
///
/// # Contract
/// The host calls [`handle`](Self::handle) with each input and does what comes out, in order. It begins with
/// [`Input::Tick`]. At most one output of a list asks a question (`ReadFrom`, `LoadFacts`, `Load`, `Gather`, `Persist`,
/// `Redecide`, `Wait`), and the next one comes only after its answer. Beside it at most one append is on its way
/// ([`Output::Send`]): its [`Input::Reply`] is handed in when it comes. [`Input::Tail`] may come at any time, and so may
/// [`Input::Disconnected`]: after that the connection's answers (to `ReadFrom` and `Send`) are not handed in any more, the
/// store's still are. A machine that reported [`Status::Idle`] asks nothing: it goes on with a `Tick` (there is something
/// new in the journal, or half a minute is over) or a `Tail`.
///
/// * The stream's order is the truth. While an append is on its way the next one is prepared; it goes out once the one
///   before it is confirmed. (A second one on a head that is only predicted could be stored although the first was
///   refused, behind as many messages of somebody else: on a state that nobody checked it against.)
/// * An acknowledgement with the sequence expected confirms; any other answer, or none, has one consequence: catch up.
/// * A retry never goes out before a catch-up, and carries the same bytes.
/// * [`Persisted::Stale`] means: load and decide again. [`Persisted::Failed`] blocks.
/// * Blocked as `newer-schema`, a machine has read up to where the schema level was raised above what is known here, and
///   goes no further: a newer version goes on from that `head`.
/// * Blocked as `journal-moved`, a machine is done: make a new one from what the journal says.
/// * A connection never comes back by itself: another one is handed over with [`Input::Disconnected`] before anything of it
///   is, and what was queued in the old one is lost.
/// * After [`Output::Drop`] nothing that was queued in the old connection may be sent any more.
/// * Time and randomness come in with each input. The machine keeps no secret.
#[derive(Debug)]
pub struct Machine {
    pub(super) registry: RegistryId,
    pub(super) expected: StreamConfig,
    /// The newest schema known.
    pub(super) known_schema: u32,
    pub(super) progress: Progress,
    pub(super) state: State,
    /// Whether it rests because there is nothing to do.
    pub(super) idle: bool,
    /// Whether the message at `head` was compared since the last connection.
    pub(super) known: bool,
    /// How far it was compared, and what came of it: sequence and chain.
    pub(super) compared: Option<(u64, Digest)>,
    /// The journal does not say yet when the message at `head` was stored.
    pub(super) unwritten: bool,
    /// When the leader was asked last, in milliseconds; none where it is to be asked before anything else.
    pub(super) looked_at: Option<u64>,
    pub(super) server: Option<(u32, u32, u32)>,
    /// How the stream stood when it was asked last: its first and last sequence, and how old the first is, in seconds.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) first_age: Option<u64>,
    /// The archive as it was met first, and whether it was missing when it was asked for last.
    pub(super) archive: (Option<StreamIdentity>, bool),
    /// Whether it was there on this connection.
    pub(super) has_archive: bool,
    /// Whether the host listens to the log.
    pub(super) following: bool,
    pub(super) tail: Tail,
    /// What the log said is stored when the leader was asked: where the leader has less, the log is not believed.
    pub(super) claimed: u64,
    /// The append on its way, and the one that goes out next.
    pub(super) flight: Option<Box<Batch>>,
    pub(super) prepared: Option<Box<Batch>>,
    /// Place in the journal of the last command of either.
    pub(super) taken: u64,
    /// Nothing more was pending behind it.
    pub(super) dry: bool,
    /// An answer to the append that came while a question was open.
    pub(super) parked: Option<Reply>,
    /// Failures to read in a row.
    pub(super) failures: u32,
    /// Appends in a row that were not confirmed, conflicts left out: reading may work where appending does not.
    pub(super) unsent: u32,
    /// Odd answers in a row, and since when, in milliseconds.
    pub(super) odd: u32,
    pub(super) odd_since: u64,
    /// A batch was refused for one of its commands: the next one goes alone.
    pub(super) alone: bool,
    pub(super) breaker: Breaker,
    /// Since when other writers were always first, in milliseconds.
    pub(super) conflict_since: Option<u64>,
    /// Pending commands that are checked again at once, at most.
    pub(super) chunk: u32,
    /// Place in the journal up to which a pass looked since something was confirmed.
    pub(super) checked: u64,
    /// Conflicts since an append was stored.
    pub(super) losses: u32,
    /// The `head` at which an append met a conflict last.
    pub(super) conflict_at: Option<u64>,
    /// Since when its appends are stored without a pause, and when one was last, in milliseconds.
    pub(super) bulk_since: Option<u64>,
    pub(super) landed_at: Option<u64>,
    /// When another writer was seen last, in milliseconds.
    pub(super) others_at: Option<u64>,
    /// The same as it was at the last rest after bulk, and how many such rests nobody came in.
    pub(super) others_before: Option<u64>,
    pub(super) in_vain: u32,
    /// Drafts from elsewhere whose signatures were looked at.
    pub(super) verified: BTreeSet<Digest>,
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
    /// Asking something beside the plain reads.
    Asking(Box<Asked>),
    Admitting(Box<Caught>),
    PersistingRead {
        progress: Box<Progress>,
        more: bool,
    },
    Loading(Box<Pass>),
    Checking(Box<Pass>, Vec<Work>),
    PersistingPass {
        redecide: Vec<Uuid>,
        progress: Box<Progress>,
    },
    Redeciding(Vec<Uuid>),
    /// Loading messages to send, while an append may be on its way.
    Gathering,
    /// Waiting for nothing but the answer to an append.
    Flying,
    /// Writing down what was confirmed, while the next append may be on its way.
    PersistingAck {
        progress: Box<Progress>,
        rests: bool,
    },
}

/// What a read brought.
#[derive(Debug)]
pub(super) struct Caught {
    pub(super) progress: Progress,
    pub(super) groups: Vec<Group>,
    pub(super) messages: Vec<StoredMessage>,
    pub(super) more: bool,
}

/// A look at the first pending commands in journal order: checks each again, folds their overlay anew, holds what does not
/// stand.
#[derive(Debug)]
pub(super) struct Pass {
    /// Place of the last command that was looked at.
    pub(super) until: u64,
    pub(super) more: bool,
    pub(super) revision: u64,
    pub(super) facts: Facts,
    /// Each entity as each command left it.
    pub(super) overlay: Vec<(u64, Entity)>,
    pub(super) held: Vec<Hold>,
    pub(super) held_revocations: Vec<Uuid>,
    pub(super) rechecked: Vec<(Uuid, Digest)>,
}

/// Commands on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Ready>,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// It is one command, which voids another's id.
    pub(super) voids: bool,
}

impl Machine {
    /// A machine for one journal.
    #[must_use]
    pub fn new(registry: RegistryId, progress: Progress) -> Self {
        let expected = keys_events_stream_config(&registry.namespace);
        let archive = (progress.archive.clone(), progress.archive_missing);
        Self {
            registry,
            expected,
            known_schema: SCHEMA_VERSION,
            progress,
            first: 0,
            last: 0,
            first_age: None,
            archive,
            has_archive: false,
            state: State::Rest,
            idle: false,
            known: false,
            compared: None,
            unwritten: false,
            looked_at: None,
            server: None,
            following: false,
            tail: Tail::default(),
            claimed: 0,
            flight: None,
            prepared: None,
            taken: 0,
            dry: false,
            parked: None,
            failures: 0,
            unsent: 0,
            odd: 0,
            odd_since: 0,
            alone: false,
            breaker: Breaker::default(),
            conflict_since: None,
            chunk: LOAD_LIMIT,
            checked: 0,
            losses: 0,
            conflict_at: None,
            bulk_since: None,
            landed_at: None,
            others_at: None,
            others_before: None,
            in_vain: 0,
            verified: BTreeSet::new(),
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
        match input {
            Input::Disconnected => self.disconnected(&moment),
            Input::Tail(message) => self.take_tail(message),
            Input::Reply(reply) => self.park(reply, &moment),
            answer => {
                let mut outputs = self.answered(answer, &moment);
                if matches!(self.state, State::Flying)
                    && let Some(reply) = self.parked.take()
                {
                    outputs.extend(self.park(reply, &moment));
                }
                outputs
            }
        }
    }

    /// The answer to the append on its way. While a question is open it has to wait for that one's answer.
    fn park(&mut self, reply: Reply, moment: &Moment) -> Vec<Output> {
        match (&self.state, self.flight.take()) {
            (State::Flying, Some(batch)) => return self.take_reply(*batch, &reply, moment),
            (_, Some(batch)) => {
                self.flight = Some(batch);
                self.parked = Some(reply);
            }
            // It was given up.
            (_, None) => {}
        }
        Vec::new()
    }

    /// What an answer to a question brings.
    fn answered(&mut self, answer: Input, moment: &Moment) -> Vec<Output> {
        let state = core::mem::replace(&mut self.state, State::Rest);
        match (state, answer) {
            (State::Rest, Input::Tick) => self.begin(moment),
            (State::Reading, Input::Read(read)) => self.take_read(read, moment),
            (State::Reading, Input::ReadFailed(failure)) => {
                self.follow(patience::after_failure(&failure), moment, None)
            }
            (State::Asking(asked), Input::Read(read)) => self.take_asked(*asked, read, moment),
            (State::Asking(asked), Input::ReadFailed(failure)) => self.not_asked(*asked, &failure, moment),
            (State::Admitting(caught), Input::Facts { facts, own }) => {
                self.admit(*caught, facts, &own, Some(moment.millis))
            }
            (State::PersistingRead { progress, more }, Input::Persisted(outcome)) => {
                self.after_read(*progress, more, outcome)
            }
            (State::Loading(pass), Input::Loaded { commands, more, held_revocations, revision }) => {
                let works = commands
                    .into_iter()
                    .map(|pending| Work::new(self.known_schema, pending, &self.registry))
                    .collect();
                self.take_loaded(Pass { more, revision, held_revocations, ..*pass }, works)
            }
            (State::Checking(pass, works), Input::Facts { facts, .. }) => self.check(*pass, works, facts),
            (State::PersistingPass { redecide, progress }, Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => {
                    self.progress = *progress;
                    self.redecide(redecide)
                }
                // The journal, or its head, was moved by somebody else: reading tells which. A shorter look is less likely
                // to be overtaken again by what is made here meanwhile.
                Persisted::Stale => {
                    self.losses = self.losses.saturating_add(1);
                    self.checked = 0;
                    self.read()
                }
                Persisted::Failed { reason } => self.store_failed(reason),
            },
            (State::Redeciding(rest), Input::Redecided { .. }) => {
                // It stands behind what was checked now, and a void before it may be meant for it.
                self.checked = 0;
                self.redecide(rest)
            }
            (State::Gathering, Input::Gathered { commands, held_revocations }) => {
                self.take_gathered(commands, &held_revocations, moment)
            }
            (State::PersistingAck { progress, rests }, Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => {
                    self.progress = *progress;
                    self.learn_by_log();
                    self.after_ack(rests, moment)
                }
                // Another process moved the journal: the stream tells what is there.
                Persisted::Stale => self.reload(),
                Persisted::Failed { reason } => self.store_failed(reason),
            },
            // An answer to something that is not waited for any more: nothing follows.
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    /// There may be something new: on the stream, in the journal, or a pause is over.
    fn begin(&mut self, moment: &Moment) -> Vec<Output> {
        if let Some(level) = self.is_beyond(self.progress.level()) {
            return self.upgrade(level);
        }
        if self.stays_open() && self.breaker.is_open() {
            return self.pause(patience::PROBE);
        }
        self.breaker.try_out();
        let fresh = self.looked_at.is_some_and(|at| moment.millis.saturating_sub(at) < patience::LOOK);
        if self.known && self.following && fresh { self.catch_up() } else { self.read() }
    }

    /// The level, where it is not known here.
    pub(super) fn is_beyond(&self, level: u32) -> Option<u32> {
        Some(level).filter(|level| *level > self.known_schema)
    }

    /// Nothing behind `head` can be read or appended here.
    pub(super) fn upgrade(&mut self, level: u32) -> Vec<Output> {
        self.block(newer_schema(level, self.known_schema))
    }

    /// What the log brought is taken, else the stream is asked.
    pub(super) fn catch_up(&mut self) -> Vec<Output> {
        if !self.known {
            return self.read();
        }
        let head = self.progress.head;
        let messages = self.tail.behind(head, READ_LIMIT as usize, self.takes_gaps());
        if !messages.is_empty() {
            let progress = self.progress.clone();
            let mut outputs = alloc::vec![Output::Report(Status::Working)];
            outputs.extend(self.take_messages(progress, messages, false));
            return outputs;
        }
        if self.tail.is_ahead_of(head) { self.read() } else { self.walk() }
    }

    fn take_tail(&mut self, message: StoredMessage) -> Vec<Output> {
        if !self.following {
            return Vec::new();
        }
        self.tail.push(message, self.progress.head);
        self.learn_by_log();
        match self.state {
            State::Rest if self.idle && self.known && self.tail.is_ahead_of(self.progress.head) => {
                self.idle = false;
                self.catch_up()
            }
            _ => Vec::new(),
        }
    }

    /// Whatever was asked of the connection is not answered any more; the store's answers still come.
    fn disconnected(&mut self, moment: &Moment) -> Vec<Output> {
        self.known = false;
        if self.flight.is_some() {
            self.unsent = self.unsent.saturating_add(1);
        }
        self.cut_off();
        match self.state {
            State::Reading | State::Asking(_) | State::Flying => self.wait(unreachable_reason(), moment),
            State::Rest if self.idle => self.wait(unreachable_reason(), moment),
            _ => Vec::new(),
        }
    }

    /// Nothing is on its way any more, or listened to.
    fn cut_off(&mut self) {
        self.following = false;
        self.tail.clear();
        self.ground();
    }

    /// Forgets what was on its way: reading tells what came of it.
    pub(super) fn ground(&mut self) {
        self.flight = None;
        self.prepared = None;
        self.parked = None;
        self.taken = 0;
        self.dry = false;
    }

    /// Does what an answer asks for. `command` is the first of the append it answers, none where it answers a read.
    pub(super) fn follow(&mut self, next: Next, moment: &Moment, command: Option<Uuid>) -> Vec<Output> {
        if command.is_some() && next != Next::Conflict {
            self.unsent = self.unsent.saturating_add(1);
        }
        if !matches!(next, Next::Wait(_) | Next::Reconnect(_)) {
            self.breaker.success(moment);
        }
        if command.is_some() && !matches!(next, Next::Odd(_)) {
            self.odd = 0;
        }
        match (next, command) {
            (Next::Conflict, _) => self.conflict(moment),
            (Next::CatchUp(code), _) => {
                let mut outputs = Vec::new();
                let millis = patience::pause(self.unsent, moment);
                if self.unsent >= patience::UNSETTLED {
                    let reason = patience::unsettled(code);
                    outputs.push(Output::Report(Status::Waiting { reason, open: false, millis }));
                }
                outputs.extend(self.pause(millis));
                outputs
            }
            (Next::Wait(reason), _) => self.fail(reason, false, moment),
            (Next::Reconnect(reason), _) => self.fail(reason, !self.keeps_old_connection(), moment),
            (Next::Pause(reason), _) | (Next::Hold(reason), None) => self.wait(reason, moment),
            (Next::Block(reason), _) => self.block(reason),
            (Next::Hold(reason), Some(command_id)) => self.hold(command_id, reason),
            (Next::Odd(code), Some(command_id)) => {
                if self.odd == 0 {
                    self.odd_since = moment.millis;
                }
                self.odd = self.odd.saturating_add(1);
                let lasted = moment.millis.saturating_sub(self.odd_since);
                if self.odd < patience::ODD_LIMIT || lasted < patience::ODD_TIME {
                    return self.rest(moment);
                }
                self.odd = 0;
                self.hold(
                    command_id,
                    named(patience::REFUSES, format!("the server refuses it with error {code}")),
                )
            }
            (Next::Odd(code), None) => self.wait(named("api", format!("error {code}")), moment),
        }
    }

    /// Another writer was first: at once again, from behind what it wrote.
    fn conflict(&mut self, moment: &Moment) -> Vec<Output> {
        self.others_at = Some(moment.millis);
        self.losses = self.losses.saturating_add(1);
        let since = *self.conflict_since.get_or_insert(moment.millis);
        let millis = moment.millis.saturating_sub(since);
        let mut outputs = Vec::new();
        if millis >= patience::CONTENDED {
            outputs.push(Output::Report(Status::Contended { millis }));
        }
        outputs.extend(if self.conflict_at.replace(self.progress.head) == Some(self.progress.head) {
            // Nothing was stored since: what was first waits for a majority, and asking does not bring it nearer.
            self.unsent = self.unsent.saturating_add(1);
            self.rest(moment)
        } else if self.following {
            self.catch_up_or_read()
        } else {
            self.read()
        });
        outputs
    }

    /// After a conflict something is stored behind `head`: where the log has not brought it yet, it is read.
    fn catch_up_or_read(&mut self) -> Vec<Output> {
        if self.tail.is_ahead_of(self.progress.head) { self.catch_up() } else { self.read() }
    }

    /// A short pause that grows with each append in vain.
    fn rest(&mut self, moment: &Moment) -> Vec<Output> {
        self.pause(patience::pause(self.unsent, moment))
    }

    pub(super) fn pause(&mut self, millis: u64) -> Vec<Output> {
        self.state = State::Rest;
        self.idle = false;
        // What the log brings meanwhile is no proof that nothing else is there.
        self.looked_at = None;
        alloc::vec![Output::Wait { millis }]
    }

    /// The server fails: after a while again, on a new connection where the old one is in doubt or too much fails.
    fn fail(&mut self, reason: Reason, reconnect: bool, moment: &Moment) -> Vec<Output> {
        self.conflict_since = None;
        let opened = self.breaker.failure(moment);
        let mut outputs = Vec::new();
        if reconnect || opened.is_some() {
            self.known = false;
            self.cut_off();
            outputs.push(Output::Drop);
        }
        let millis = opened.unwrap_or_else(|| patience::backoff(self.failures.max(self.unsent), moment));
        self.failures = self.failures.saturating_add(1);
        outputs.push(Output::Report(Status::Waiting { reason, open: opened.is_some(), millis }));
        outputs.extend(self.pause(millis));
        outputs
    }

    pub(super) fn wait(&mut self, reason: Reason, moment: &Moment) -> Vec<Output> {
        let millis = patience::backoff(self.failures.max(self.unsent), moment);
        self.failures = self.failures.saturating_add(1);
        let mut outputs = alloc::vec![Output::Report(Status::Waiting { reason, open: false, millis })];
        outputs.extend(self.pause(millis));
        outputs
    }

    pub(super) fn block(&mut self, reason: Reason) -> Vec<Output> {
        self.known = false;
        self.checked = 0;
        self.cut_off();
        let mut outputs = alloc::vec![Output::Drop, Output::Report(Status::Blocked { reason })];
        outputs.extend(self.pause(patience::PROBE));
        outputs
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
        self.ground();
        self.alone = false;
        let progress = Progress { recheck_due: true, rechecked: 0, ..self.progress.clone() };
        let persist = Persist {
            expect_head: self.progress.head,
            progress: progress.clone(),
            held: alloc::vec![Hold { command_id, reason }],
            ..Persist::default()
        };
        self.state = State::PersistingPass { redecide: Vec::new(), progress: Box::new(progress) };
        alloc::vec![Output::Persist(Box::new(persist))]
    }
}
