//! One pump a store.

use crate::error::KeyError;
use crate::report;
use crate::store::StoreError;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a place that is taken is asked for again, 10 ms apart.
const LOOKS: u32 = 10;

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
        Self::named(store, report::SYNC)
    }

    /// The same for another purpose: `<store>.<purpose>.lock`.
    ///
    /// # Errors
    /// See [`take`](Self::take).
    pub fn named(store: &Path, purpose: &'static str) -> Result<Self, PumpError> {
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
        let mut taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        for _ in 0..LOOKS {
            if taken != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            // Somebody may only be looking whether the place is taken.
            std::thread::sleep(Duration::from_millis(10));
            taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match taken {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(PumpError::Locked { purpose, path }),
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
