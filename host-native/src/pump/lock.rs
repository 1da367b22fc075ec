//! One pump a store.

use crate::error::KeyError;
use crate::report;
use crate::store::StoreError;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at a place that is taken.
const STEP: Duration = Duration::from_millis(10);
/// How long a place that is taken is asked for: somebody may only be looking whether it is.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same where a process stays on it that gives it up when it is asked to, and takes it again afterwards.
const HANDED_OVER: Duration = Duration::from_secs(10);
/// How often who stays looks whether somebody else wants the place.
const LOOK: Duration = Duration::from_millis(200);

/// Only one pump works on a store: this is its place, given up on drop or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the place beside this store. Where a process stays on it (`sync --watch`), it is asked for the place, and has
    /// it again once this is dropped.
    ///
    /// # Errors
    /// [`PumpError::Locked`] where another process has it, and does not give it up within seconds.
    pub fn take(store: &Path) -> Result<Self, PumpError> {
        let mut asks = None;
        Self::within(store, report::SYNC, || {
            if asks.is_none() {
                asks = Self::at_once(store, report::NEXT)?;
            }
            Ok(if report::is_taken(store, report::WATCH) { HANDED_OVER } else { PATIENCE })
        })
    }

    /// The same for another purpose, and without asking for it: `<store>.<purpose>.lock`.
    ///
    /// # Errors
    /// See [`take`](Self::take).
    pub fn named(store: &Path, purpose: &'static str) -> Result<Self, PumpError> {
        Self::within(store, purpose, || Ok(PATIENCE))
    }

    /// As soon as nobody else has it, for as long as the patience that is asked for with each look.
    fn within(
        store: &Path,
        purpose: &'static str,
        mut patience: impl FnMut() -> Result<Duration, PumpError>,
    ) -> Result<Self, PumpError> {
        let began = Instant::now();
        loop {
            if let Some(lock) = Self::at_once(store, purpose)? {
                return Ok(lock);
            }
            if began.elapsed() >= patience()? {
                return Err(PumpError::Locked { purpose, path: report::lock_file(store, purpose) });
            }
            std::thread::sleep(STEP);
        }
    }

    /// Takes a pump's place for a process that stays: as soon as nobody else has it or asks for it.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub async fn stay(store: &Path) -> Result<Self, PumpError> {
        loop {
            if !report::is_taken(store, report::NEXT)
                && let Some(lock) = Self::at_once(store, report::SYNC)?
            {
                return Ok(lock);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until another process asks for the place ([`take`](Self::take)): whoever stays on it gives it up then.
    pub async fn is_wanted(store: &Path) {
        while !report::is_taken(store, report::NEXT) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// None where another process has it.
    fn at_once(store: &Path, purpose: &str) -> Result<Option<Self>, PumpError> {
        let path = report::lock_file(store, purpose);
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
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
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
