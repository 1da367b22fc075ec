//! One SQLite file for each registry: what is confirmed, what is pending or held, and the sealed keys.
//!
//! `entities` has each entity as the stream says it and as commands of the journal left it: what is confirmed of that is the
//! state at `head`, what is pending lies over it. Everything of one command is
//! written in one transaction and is on the disk when [`Store::commit`] returns. Several processes may have a store open
//! together.

mod bundle;
mod commit;
mod directory;
pub(crate) mod error;
mod facts;
mod held;
mod projection;
mod rebuild;
mod recover;
mod report;
mod rows;
pub(crate) mod schema;
mod secrets;
mod sync;
mod times;
mod views;

pub use bundle::Import;
pub use commit::{Committed, Entry, Promised, Revision, Standing};
pub use error::StoreError;
pub use projection::{Kept, Order, Place, Projected};
pub use rebuild::{Difference, Rebuilt};
pub use report::Integrity;
pub use secrets::HandOut;
pub use sync::Batch;
pub use views::{Counts, Held, Listed, PendingEvent, Pushed, TrailEntry};

use cim_keys_core::context::RegistryId;
use cim_keys_core::journal::Progress;
use error::RowError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A registry's store. May be shared between threads; each call is one transaction.
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
    registry: OnceLock<RegistryId>,
    /// Told after each write that may change the journal.
    #[cfg(feature = "nats")]
    written: tokio::sync::Notify,
    /// The same for everybody else who listens.
    #[cfg(feature = "nats")]
    writes: tokio::sync::watch::Sender<u64>,
    /// Whether commands are being sent by whoever has this.
    sending: AtomicBool,
}

impl Store {
    /// Makes the file (mode 0600, and its folder), or opens it where it is there. Founding a registry comes next.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::with(schema::create(path)?, path)
    }

    /// Opens a store.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none; see [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with(schema::open(path)?, path)
    }

    /// A store of this registry that is empty, has no file and goes away with this value: for folding a stream anew.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn scratch(registry: &RegistryId) -> Result<Self, StoreError> {
        let store = Self::with(schema::scratch()?, Path::new("(scratch)"))?;
        store.adopt(registry)?;
        Ok(store)
    }

    fn with(connection: Connection, path: &Path) -> Result<Self, StoreError> {
        let store = Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
            registry: OnceLock::new(),
            #[cfg(feature = "nats")]
            written: tokio::sync::Notify::new(),
            #[cfg(feature = "nats")]
            writes: tokio::sync::watch::Sender::new(0),
            sending: AtomicBool::new(false),
        };
        store.is_founded()?;
        Ok(store)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which registry it holds.
    ///
    /// # Errors
    /// [`StoreError::NotFounded`] where there is none yet.
    pub fn registry_id(&self) -> Result<&RegistryId, StoreError> {
        self.is_founded()?;
        self.registry.get().ok_or_else(|| StoreError::NotFounded { path: self.path.clone() })
    }

    /// Whether a registry was founded in it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_founded(&self) -> Result<bool, StoreError> {
        if self.registry.get().is_some() {
            return Ok(true);
        }
        let registry = self.read(|transaction| {
            let look = |row: &rusqlite::Row<'_>| Ok((rows::text(row, 0)?, rows::text(row, 1)?));
            let row = transaction.query_row("SELECT operator, namespace FROM state", [], look).optional()?;
            row.map(|(operator, namespace)| {
                Ok(RegistryId { operator: rows::parse(&operator)?, namespace: rows::parse(&namespace)? })
            })
            .transpose()
        })?;
        if let Some(registry) = registry {
            self.registry.get_or_init(|| registry);
        }
        Ok(self.registry.get().is_some())
    }

    /// How far it has come on its stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn progress(&self) -> Result<Progress, StoreError> {
        self.registry_id()?;
        self.read(|transaction| {
            let text = transaction.query_row("SELECT progress FROM state", [], |row| rows::text(row, 0))?;
            rows::json(&text)
        })
    }

    /// The journal's revision: it moves when a command is added, decided anew or settled.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn revision(&self) -> Result<u64, StoreError> {
        self.registry_id()?;
        self.read(
            |transaction| Ok(transaction.query_row("SELECT revision FROM state", [], |row| row.get(0))?),
        )
    }

    /// Waits until this process has written something that may change the journal. Other processes are not noticed:
    /// [`revision`](Self::revision) tells.
    #[cfg(feature = "nats")]
    pub async fn changed(&self) {
        self.written.notified().await;
    }

    /// Counts the same writes, for any number of listeners: [`changed`](Self::changed) wakes one.
    #[cfg(feature = "nats")]
    #[must_use]
    pub fn writes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.writes.subscribe()
    }

    /// One consistent look.
    fn read<T>(&self, look: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Deferred, look)
    }

    /// One write: all of it or nothing, on the disk when this returns.
    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let done = self.transact(TransactionBehavior::Immediate, change);
        #[cfg(feature = "nats")]
        {
            self.written.notify_one();
            self.writes.send_modify(|count| *count = count.wrapping_add(1));
        }
        done
    }

    /// One write that may be lost with the machine's power, and nothing with it.
    fn write_lazily<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let synchronous = |mode: &str| {
            let set = connection.pragma_update(None, "synchronous", mode);
            set.map_err(|error| StoreError::sqlite(&self.path, &error))
        };
        synchronous("NORMAL")?;
        let done = self.transact_on(&connection, TransactionBehavior::Immediate, change);
        synchronous("FULL")?;
        done
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.transact_on(&connection, behavior, body)
    }

    fn transact_on<T>(
        &self,
        connection: &Connection,
        behavior: TransactionBehavior,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let done = Transaction::new_unchecked(connection, behavior).map_err(RowError::from).and_then(
            |transaction| {
                let value = body(&transaction)?;
                transaction.commit()?;
                Ok(value)
            },
        );
        done.map_err(|error| error.at(&self.path))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

#[cfg(test)]
mod tests;
