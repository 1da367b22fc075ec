//! Drives the sync machine over a store and a connection: does what comes out, hands in what came back.

mod lock;
mod work;

pub use lock::{Lock, PumpError};

use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::{Link, LinkError};
use crate::nats::target::Target;
use crate::report::Reporter;
use cim_keys_core::journal::Hold;
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::sync::{Input, Machine, Output, Persist, Status};
use serde::Serialize;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use work::Work;

/// How often a journal that another process moved is begun again before somebody is asked.
const RELOADS: u32 = 10;
/// What the machine calls that.
const MOVED: &str = "journal-moved";
/// How often a pump that stays looks whether another process wrote into its journal.
const LOOK: Duration = Duration::from_millis(200);
/// How often a pump that is stopped by its creds looks whether there are others.
const RENEW: Duration = Duration::from_secs(1);
/// How often a pump that has nothing to do asks how the stream stands.
const PROBE: Duration = Duration::from_secs(30);

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Own events that are known to be on the stream since.
    pub published: u64,
    /// Own commands that they belong to.
    pub commands: u64,
    /// Messages read.
    pub read: u64,
    /// Foreign commands admitted.
    pub admitted: u64,
    /// Messages recorded as anomalies.
    pub anomalies: u64,
    /// Held revocations that were decided anew, or found fulfilled.
    pub redecided: u64,
    /// The last sequence read or written.
    pub head: u64,
    /// Commands held in this run that are still held.
    #[serde(skip)]
    pub held: Vec<Hold>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is pending that could be appended, and everything stored was read.
    Drained,
    /// It cannot go on until somebody changes something.
    Blocked(Reason),
    /// It had to wait longer than it was given.
    Patience(Reason),
    /// It was told to stop.
    Stopped,
}

/// Gives other creds and servers than those in use, where there are any.
pub type Renew<'a> = Box<dyn FnMut() -> Option<Target> + Send + 'a>;

/// Drives the machine.
pub struct Pump<'a> {
    host: &'a Host,
    target: Target,
    renew: Option<Renew<'a>>,
    expected: Option<StreamConfig>,
    work: Work,
    summary: Summary,
    /// The summary, for whoever looks while it works.
    told: watch::Sender<Summary>,
    trouble: Option<LinkError>,
}

/// How long it goes on.
enum Mode {
    /// Until there is nothing left to do, or it is stuck for so long.
    Drain(Duration),
    /// Until it is told to stop.
    Stay,
}

impl<'a> Pump<'a> {
    /// Over a host's store; connects when it is needed. The caller holds the [`Lock`].
    #[must_use]
    pub fn new(host: &'a Host, target: Target) -> Self {
        Self {
            host,
            target,
            renew: None,
            expected: None,
            work: Work::default(),
            summary: Summary::default(),
            told: watch::channel(Summary::default()).0,
            trouble: None,
        }
    }

    /// Expects other settings of the stream than the design's.
    #[must_use]
    pub fn expecting(mut self, config: StreamConfig) -> Self {
        self.expected = Some(config);
        self
    }

    /// Asks for other creds before each connection, and once a second while the server takes none.
    #[must_use]
    pub fn renewing(mut self, renew: Renew<'a>) -> Self {
        self.renew = Some(renew);
        self
    }

    /// Uses a connection that is there already.
    #[must_use]
    pub fn over(mut self, link: Link) -> Self {
        self.work.link = Some(Arc::new(link));
        self
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What was done so far, to be looked at while it works.
    #[must_use]
    pub fn summaries(&self) -> watch::Receiver<Summary> {
        self.told.subscribe()
    }

    /// The connection, where there is one.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.work.link.as_deref()
    }

    /// Reads and appends until nothing is left, something blocks, or it is stuck for longer than `patience`. `stop` ends it
    /// between two steps; `report` hears how it stands.
    ///
    /// # Errors
    /// The store, the random source, or a key cannot be used.
    pub async fn drain(
        &mut self,
        patience: Duration,
        stop: impl Future<Output = ()>,
        report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        self.go(&Mode::Drain(patience), stop, report).await
    }

    /// Keeps journal and stream together until `stop`: what is committed here, by this process or another, is appended,
    /// and what others append is read. `report` hears how it stands.
    ///
    /// # Errors
    /// See [`drain`](Self::drain).
    pub async fn stay(
        &mut self,
        stop: impl Future<Output = ()>,
        report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        self.go(&Mode::Stay, stop, report).await
    }

    async fn go(
        &mut self,
        mode: &Mode,
        stop: impl Future<Output = ()>,
        mut report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        tokio::pin!(stop);
        let mut reloads = 0;
        loop {
            let mut reporter = Reporter::new(self.host.store());
            let end = tokio::select! {
                biased;
                () = &mut stop => Ok(End::Stopped),
                end = self.run(mode, &mut report, &mut reporter) => end,
            };
            reporter.leave(self.host.store());
            // What was on its way is not waited for any more: the stream tells what came of it.
            self.work.ground();
            self.host.store().note_rest();
            match end? {
                End::Blocked(reason)
                    if reason.code == MOVED && (reloads < RELOADS || matches!(mode, Mode::Stay)) =>
                {
                    reloads += 1;
                }
                end => {
                    self.count_held()?;
                    return Ok(end);
                }
            }
        }
    }

    async fn run(
        &mut self,
        mode: &Mode,
        report: &mut impl FnMut(&Status),
        reporter: &mut Reporter,
    ) -> Result<End, PumpError> {
        let store = self.host.store();
        let mut machine = Machine::new(store.registry_id()?.clone(), store.progress()?);
        if let Some(config) = &self.expected {
            machine = machine.expecting(config.clone());
        }
        let mut inputs = VecDeque::from([Input::Tick]);
        let mut status = Status::Working;
        let mut why = None;
        let mut since = Instant::now();
        loop {
            while let Some(input) = inputs.pop_front() {
                let mut outputs =
                    machine.handle(input, self.host.ambient().moment().map_err(KeyError::from)?);
                for output in &mut outputs {
                    if let Output::Report(status) = output {
                        *status = self.explained(status);
                    }
                }
                let server = || self.link().map(|link| link.server(&self.target));
                reporter.note(self.host.ambient(), &outputs, server);
                for output in outputs {
                    match &output {
                        Output::Report(new) => {
                            // A journal that another process moved is begun again: no news.
                            if !matches!(new, Status::Blocked { reason } if reason.code == MOVED) {
                                report(new);
                            }
                            status = new.clone();
                            if let Some(end) = ends(mode, &status) {
                                return Ok(end);
                            }
                            if let Status::Waiting { reason, .. } = &status {
                                why = Some(reason.clone());
                            }
                            continue;
                        }
                        // Something was achieved.
                        Output::Persist(persist)
                            if !persist.messages.is_empty() || !persist.confirmed.is_empty() =>
                        {
                            since = Instant::now();
                        }
                        Output::Wait { millis } => {
                            let pause = Duration::from_millis(*millis);
                            if let Mode::Drain(patience) = mode
                                && since.elapsed() + pause > *patience
                            {
                                return Ok(End::Patience(why.take().unwrap_or_else(silent)));
                            }
                        }
                        _ => {}
                    }
                    inputs.extend(self.perform(output)?);
                }
            }
            reporter.leave(store);
            inputs.extend(self.next(mode, &status).await?);
        }
    }

    /// Does one thing: what the store answers comes at once, what the connection answers later.
    fn perform(&mut self, output: Output) -> Result<Option<Input>, PumpError> {
        let store = self.host.store();
        Ok(match output {
            Output::ReadFrom { stream, after, limit } => self.read(stream, after, limit),
            Output::LoadFacts { scopes } => {
                let (facts, own) = store.sync_facts(&scopes)?;
                Some(Input::Facts { facts, own })
            }
            Output::Load { after, limit } => {
                let batch = store.load(after, limit)?;
                Some(Input::Loaded {
                    commands: batch.commands,
                    more: batch.more,
                    held_revocations: store.held_revocations()?,
                    revision: batch.revision,
                })
            }
            Output::Gather { after, messages } => Some(Input::Gathered {
                commands: store.gather(after, messages)?,
                held_revocations: store.held_revocations()?,
            }),
            Output::Persist(persist) => {
                let persisted = store.persist(&persist);
                if persisted == cim_keys_core::sync::Persisted::Ok {
                    self.count(&persist);
                }
                Some(Input::Persisted(persisted))
            }
            Output::Send(send) => {
                if self.work.is_cut() {
                    self.work.drop_link();
                    return Ok(Some(Input::Disconnected));
                }
                store.note_sending()?;
                self.work.send(send);
                None
            }
            Output::Follow { on } => {
                self.work.follow(on, store.registry_id()?.namespace.clone());
                None
            }
            Output::Drop => {
                self.work.drop_link();
                None
            }
            Output::Redecide { command_id } => {
                let resolved = match self.host.redecide(command_id) {
                    Ok(resolved) => resolved,
                    // The key is not at hand: it stays held, and says so.
                    Err(KeyError::Keyring(_) | KeyError::Vault(_)) => false,
                    Err(error) => return Err(error.into()),
                };
                self.summary.redecided += u64::from(resolved);
                self.tell();
                Some(Input::Redecided { command_id, resolved })
            }
            Output::Wait { millis } => {
                self.work.pause(Duration::from_millis(millis));
                None
            }
            Output::Report(_) => None,
        })
    }

    fn read(&mut self, stream: String, after: u64, limit: u32) -> Option<Input> {
        if self.work.link.is_some() && self.work.is_cut() {
            // The machine must know: behind a new connection it looks at the message at `head` again.
            self.work.drop_link();
            return Some(Input::Disconnected);
        }
        if self.work.link.is_none()
            && let Some(target) = self.renew.as_mut().and_then(|renew| renew())
        {
            self.target = target;
        }
        let now = self.host.ambient().now().seconds();
        self.work.read(&self.target, now, stream, after, limit);
        None
    }

    /// Waits for whatever comes first.
    async fn next(&mut self, mode: &Mode, status: &Status) -> Result<Option<Input>, PumpError> {
        let stays = matches!(mode, Mode::Stay);
        let idle = stays && *status == Status::Idle && !self.work.is_at_work();
        let refused = stays
            && self.renew.is_some()
            && matches!(status, Status::Blocked { .. } | Status::Waiting { .. });
        if !idle && !self.work.is_at_work() {
            return Err(KeyError::Internal { what: "the sync machine asks for nothing".into() }.into());
        }
        if !idle && !refused {
            return Ok(Some(self.arrived().await));
        }
        let store = self.host.store();
        let revision = store.revision()?;
        let begun = Instant::now();
        loop {
            let look = tokio::time::sleep(if refused { RENEW } else { LOOK });
            tokio::select! {
                biased;
                input = self.arrived() => return Ok(Some(input)),
                () = store.changed(), if idle => return Ok(Some(Input::Tick)),
                () = look, if idle || refused => {
                    if idle && (begun.elapsed() >= PROBE || store.revision()? != revision) {
                        return Ok(Some(Input::Tick));
                    }
                    if refused && let Some(target) = self.renew.as_mut().and_then(|renew| renew()) {
                        self.target = target;
                        return Ok(self.work.end_pause().then_some(Input::Tick));
                    }
                }
            }
        }
    }

    async fn arrived(&mut self) -> Input {
        let input = self.work.next().await;
        if let Some(trouble) = self.work.trouble.take() {
            self.trouble = trouble;
        }
        input
    }

    fn count(&mut self, persist: &Persist) {
        let summary = &mut self.summary;
        summary.read += persist.messages.len() as u64;
        summary.commands += persist.confirmed.len() as u64;
        summary.anomalies += persist.anomalies.len() as u64;
        summary.head = persist.progress.head;
        let own: std::collections::BTreeSet<_> =
            persist.confirmed.iter().map(|landed| landed.command_id).collect();
        // What was voided was not admitted.
        for recorded in persist.recorded.iter().filter(|recorded| recorded.voided.is_empty()) {
            if own.contains(&recorded.command_id) {
                summary.published += recorded.last - recorded.first + 1;
            } else {
                summary.admitted += 1;
            }
        }
        summary.held.extend(persist.held.iter().cloned());
        self.tell();
    }

    fn tell(&self) {
        if self.told.receiver_count() > 0 {
            self.told.send_replace(self.summary.clone());
        }
    }

    /// What was held and is pending again, or settled, is not held.
    fn count_held(&mut self) -> Result<(), PumpError> {
        let held = self.host.store().held()?;
        let is_held = |hold: &Hold| held.iter().any(|found| found.command_id == hold.command_id);
        self.summary.held.retain(is_held);
        self.summary.held.dedup_by_key(|hold| hold.command_id);
        Ok(())
    }

    /// The machine's reason, or the connection's own words where it is about that.
    fn explained(&self, status: &Status) -> Status {
        let mut status = status.clone();
        if let Status::Blocked { reason } | Status::Waiting { reason, .. } = &mut status
            && let Some(error) = &self.trouble
            && ["unreachable", "authorization"].contains(&reason.code.as_str())
        {
            *reason = Reason { code: error.code().to_owned(), text: error.to_string() };
        }
        status
    }
}

/// Whether a run ends here.
fn ends(mode: &Mode, status: &Status) -> Option<End> {
    match (mode, status) {
        (Mode::Drain(_), Status::Idle) => Some(End::Drained),
        (Mode::Drain(_), Status::Blocked { reason }) => Some(End::Blocked(reason.clone())),
        (Mode::Stay, Status::Blocked { reason }) if reason.code == MOVED => {
            Some(End::Blocked(reason.clone()))
        }
        (Mode::Drain(patience), Status::Contended { millis })
            if Duration::from_millis(*millis) > *patience =>
        {
            let text = "other writers were always first: try again";
            Some(End::Patience(Reason { code: "contended".into(), text: text.into() }))
        }
        _ => None,
    }
}

/// It waits without a reason of its own.
pub(crate) fn silent() -> Reason {
    Reason { code: "no-answer".into(), text: "the server did not say what came of it: try again".into() }
}
