//! Drives the sync machine over a store and a connection: does what comes out, hands in what came back.

use crate::error::KeyError;
use crate::host::Host;
use crate::nats::append;
use crate::nats::link::{Link, LinkError};
use crate::nats::read::Reader;
use crate::nats::target::Target;
use crate::store::StoreError;
use cim_keys_core::journal::Hold;
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{KEYS_EVENTS, StreamConfig};
use cim_keys_core::sync::{Failure, Input, Machine, Output, Persist, Persisted, Status};
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a journal that another process moved is begun again before somebody is asked.
const RELOADS: u32 = 10;
/// What the machine calls that.
const MOVED: &str = "journal-moved";

/// Only one pump works on a store: this is its place, given up on drop or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the place beside this store.
    ///
    /// # Errors
    /// [`PumpError::Locked`] where another process has it.
    pub fn take(store: &Path) -> Result<Self, PumpError> {
        Self::named(store, "sync")
    }

    /// The same for another purpose: `<store>.<purpose>.lock`.
    ///
    /// # Errors
    /// See [`take`](Self::take).
    pub fn named(store: &Path, purpose: &'static str) -> Result<Self, PumpError> {
        let mut path = store.as_os_str().to_owned();
        path.push(format!(".{purpose}.lock"));
        let path = PathBuf::from(path);
        let failed = |reason: String| PumpError::Lock { path: path.clone(), reason };
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let file = options.open(&path).map_err(|error| failed(error.to_string()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(PumpError::Locked { purpose, path }),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

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

/// Drives the machine.
pub struct Pump<'a> {
    host: &'a Host,
    target: Target,
    expected: Option<StreamConfig>,
    link: Option<Link>,
    reader: Reader,
    summary: Summary,
    trouble: Option<LinkError>,
}

impl<'a> Pump<'a> {
    /// Over a host's store; connects when it is needed. The caller holds the [`Lock`].
    #[must_use]
    pub fn new(host: &'a Host, target: Target) -> Self {
        let (link, trouble) = (None, None);
        Self {
            host,
            target,
            expected: None,
            link,
            reader: Reader::default(),
            summary: Summary::default(),
            trouble,
        }
    }

    /// Expects other settings of the stream than the design's.
    #[must_use]
    pub fn expecting(mut self, config: StreamConfig) -> Self {
        self.expected = Some(config);
        self
    }

    /// Uses a connection that is there already.
    #[must_use]
    pub fn over(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The connection, where there is one.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Reads and appends until nothing is left, something blocks, or waiting takes longer than `patience` altogether
    /// since something last succeeded. `stop` ends it between two steps; `report` hears how it stands.
    ///
    /// # Errors
    /// The store, the random source, or a key cannot be used.
    pub async fn drain(
        &mut self,
        patience: Duration,
        stop: impl Future<Output = ()>,
        mut report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        tokio::pin!(stop);
        let mut reloads = 0;
        loop {
            let end = tokio::select! {
                biased;
                () = &mut stop => return Ok(End::Stopped),
                end = self.run(patience, &mut report) => end?,
            };
            match end {
                End::Blocked(reason) if reason.code == MOVED && reloads < RELOADS => reloads += 1,
                end => {
                    self.count_held()?;
                    return Ok(end);
                }
            }
        }
    }

    async fn run(&mut self, patience: Duration, report: &mut impl FnMut(&Status)) -> Result<End, PumpError> {
        let store = self.host.store();
        let mut machine = Machine::new(store.registry_id()?.clone(), store.progress()?);
        if let Some(config) = &self.expected {
            machine = machine.expecting(config.clone());
        }
        let mut waited = Duration::ZERO;
        let mut why = None;
        let mut input = Input::Tick;
        loop {
            let outputs = machine.handle(input, self.host.ambient().moment().map_err(KeyError::from)?);
            let mut next = None;
            for output in outputs {
                if let Output::Report(status) = &output {
                    report(status);
                    match status {
                        Status::Idle => return Ok(End::Drained),
                        Status::Blocked { reason } => return Ok(End::Blocked(self.explained(reason))),
                        Status::Waiting { reason } => why = Some(reason.clone()),
                        Status::Working => {}
                    }
                    continue;
                }
                if let Output::Persist(persist) = &output {
                    // Something was achieved.
                    if !persist.messages.is_empty() || !persist.confirmed.is_empty() {
                        waited = Duration::ZERO;
                    }
                }
                if let Output::Wait { millis } = &output {
                    let pause = Duration::from_millis(*millis);
                    if waited + pause > patience {
                        let reason = why.take().unwrap_or_else(contended);
                        return Ok(End::Patience(self.explained(&reason)));
                    }
                    waited += pause;
                }
                let waiting = tokio::time::Instant::now();
                let answer = self.perform(output).await?;
                if matches!(answer, Some(Input::ReadFailed(_) | Input::Reply(_))) {
                    waited += waiting.elapsed();
                }
                next = answer.or(next);
            }
            input =
                next.ok_or_else(|| KeyError::Internal { what: "the sync machine asks for nothing".into() })?;
        }
    }

    async fn perform(&mut self, output: Output) -> Result<Option<Input>, PumpError> {
        let store = self.host.store();
        Ok(match output {
            Output::ReadFrom { after, limit } => {
                if self.link.as_ref().is_some_and(Link::is_closed) {
                    // The machine must know: behind a new connection it looks at the message at `head` again.
                    self.link = None;
                    return Ok(Some(Input::Disconnected));
                }
                Some(match self.read(after, limit).await {
                    Ok(read) => Input::Read(read),
                    Err(failure) => Input::ReadFailed(failure),
                })
            }
            Output::LoadFacts { scopes } => {
                let (facts, own) = store.sync_facts(&scopes)?;
                Some(Input::Facts { facts, own })
            }
            Output::Load { after, limit } => {
                let batch = store.load(after, limit)?;
                let held = store.held()?;
                let revocations = held.iter().filter(|held| held.command.is_revocation());
                Some(Input::Loaded {
                    commands: batch.commands,
                    more: batch.more,
                    held_revocations: revocations.map(|held| held.command_id).collect(),
                    revision: batch.revision,
                })
            }
            Output::Persist(persist) => {
                let persisted = store.persist(&persist);
                if persisted == Persisted::Ok {
                    self.count(&persist)?;
                }
                Some(Input::Persisted(persisted))
            }
            Output::Send(send) => {
                if self.link.is_none() {
                    return Ok(Some(Input::Disconnected));
                }
                let Some(link) = &self.link else { return Ok(None) };
                Some(Input::Reply(append::send(link, send).await))
            }
            Output::Drop => {
                self.link = None;
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
                Some(Input::Redecided { command_id, resolved })
            }
            Output::Wait { millis } => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Some(Input::Tick)
            }
            Output::Report(_) => None,
        })
    }

    async fn read(&mut self, after: u64, limit: u32) -> Result<cim_keys_core::sync::Read, Failure> {
        if self.link.is_none() {
            let now = self.host.ambient().now().seconds();
            match Link::connect(&self.target, now).await {
                Ok(link) => {
                    self.trouble = None;
                    self.link = Some(link);
                }
                Err(error) => {
                    let failure = Failure::from(&error);
                    self.trouble = Some(error);
                    return Err(failure);
                }
            }
        }
        let Some(link) = &self.link else { return Err(Failure::Unreachable) };
        self.reader.read_from(link, KEYS_EVENTS, after, limit).await
    }

    fn count(&mut self, persist: &Persist) -> Result<(), PumpError> {
        let summary = &mut self.summary;
        summary.read += persist.messages.len() as u64;
        summary.commands += persist.confirmed.len() as u64;
        summary.anomalies += persist.anomalies.len() as u64;
        summary.head = persist.progress.head;
        for recorded in &persist.recorded {
            if persist.confirmed.iter().any(|(id, _)| *id == recorded.command_id) {
                summary.published += recorded.last - recorded.first + 1;
            } else {
                summary.admitted += 1;
            }
        }
        summary.held.extend(persist.held.iter().cloned());
        Ok(())
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
    fn explained(&self, reason: &Reason) -> Reason {
        match &self.trouble {
            Some(error) if ["unreachable", "authorization"].contains(&reason.code.as_str()) => {
                Reason { code: error.code().to_owned(), text: error.to_string() }
            }
            _ => reason.clone(),
        }
    }
}

fn contended() -> Reason {
    Reason { code: "contended".into(), text: "other writers were always first: try again".into() }
}

/// Why a pump cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PumpError {
    /// Another process is at it.
    #[error("another process is at work here ({purpose}, {}): wait until it ends, or end it", path.display())]
    Locked {
        /// What it does.
        purpose: &'static str,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("{}: {reason}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Store, keys or random source.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<StoreError> for PumpError {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

impl PumpError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::Lock { .. } => "lock-file",
            Self::Key(error) => error.code(),
        }
    }
}
