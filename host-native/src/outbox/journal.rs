//! The file: events in order, where the stream stood before each was tried, and what came of it.

use super::Counts;
use crate::crash::{self, Step};
use crate::error::KeyError;
use crate::files::{self, FileError};
use crate::store::StoreError;
use crate::store::error::RowError;
use crate::store::schema;
use cim_keys_core::json;
use cim_keys_core::outbox::{Attempt, Message, Outcome, Persist, Waiting};
use cim_keys_core::subjects::{Namespace, Token};
use cim_keys_core::sync::Persisted;
use cim_keys_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use uuid::Uuid;

/// Version of the tables; a file of another one is refused.
pub(super) const VERSION: i64 = 1;
/// Marks the file as ours: `CIMO`.
pub(super) const APPLICATION: i64 = 0x4349_4D4F;

const TABLES: &str = "
CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), stream TEXT NOT NULL, namespace TEXT NOT NULL);

CREATE TABLE events (
    -- Never given twice: the order in which events go out.
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    -- Of everything it says.
    digest TEXT NOT NULL,
    subject TEXT NOT NULL,
    headers TEXT NOT NULL,
    -- Empty once it is published.
    payload BLOB NOT NULL,
    expected INTEGER,
    -- Unix milliseconds.
    journalled INTEGER NOT NULL,
    -- Where the stream stood before the first attempt.
    attempt TEXT,
    -- What came of it.
    outcome TEXT,
    published INTEGER
);
CREATE INDEX events_open ON events (position) WHERE outcome IS NULL;
";

/// Events on their way. Each call is one transaction.
pub(super) struct Journal {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Counts this process's writes.
    written: watch::Sender<u64>,
}

impl Journal {
    pub(super) fn open(path: &Path, stream: &Token, namespace: &Namespace) -> Result<Self, KeyError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        // First as an empty private file: SQLite gives its companions the same mode.
        match files::private().create_new(true).open(path) {
            Ok(file) => file.sync_all().map_err(|error| FileError::io("write", path, &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(FileError::io("write", path, &error).into()),
        }
        let connection = schema::connect(path)?;
        let journal =
            Self { connection: Mutex::new(connection), path: path.to_owned(), written: watch::channel(0).0 };
        let place = (stream.as_str().to_owned(), namespace.to_string());
        let found = journal.make(&place)?;
        if found != place {
            return Err(KeyError::OutboxOf { path: path.to_owned(), stream: found.0, namespace: found.1 });
        }
        Ok(journal)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the tables where there are none; gives whose they are.
    fn make(&self, place: &(String, String)) -> Result<(String, String), StoreError> {
        let number = |transaction: &Transaction<'_>, name: &str| {
            transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let (application, version, found) = self.transact(|transaction| {
            let tables: i64 =
                transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
            if tables == 0 {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.execute("INSERT INTO place VALUES (1, ?1, ?2)", params![place.0, place.1])?;
            }
            let application = number(transaction, "application_id")?;
            let version = number(transaction, "user_version")?;
            // Whose tables these are is to be known before they are read.
            if (application, version) != (APPLICATION, VERSION) {
                return Ok((application, version, None));
            }
            let found = transaction
                .query_row("SELECT stream, namespace FROM place", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((application, version, Some(found)))
        })?;
        let path = self.path.clone();
        match found {
            Some(found) => Ok(found),
            None if application != APPLICATION => Err(StoreError::Foreign { path }),
            None if version < VERSION => Err(StoreError::Older { path, found: version, supported: VERSION }),
            None => Err(StoreError::Newer { path, found: version, supported: VERSION }),
        }
    }

    /// Puts an event at the end; one that is there already keeps its place. It is on the disk when this returns.
    pub(super) fn add(&self, message: &Message, now: Timestamp) -> Result<u64, KeyError> {
        let digest = message.digest().to_string();
        let id = message.id.as_bytes().as_slice();
        let (position, found) = self.write(|transaction| {
            let known = transaction
                .prepare_cached("SELECT position, digest FROM events WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
                .optional()?;
            if let Some(known) = known {
                return Ok(known);
            }
            transaction
                .prepare_cached(
                    "INSERT INTO events (id, digest, subject, headers, payload, expected, journalled) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id,
                    digest,
                    message.subject.as_str(),
                    to_json(&message.headers)?,
                    message.payload,
                    message.expected,
                    now.millis(),
                ])?;
            let position =
                transaction.query_row("SELECT last_insert_rowid()", [], |row| row.get::<_, u64>(0))?;
            Ok((position, digest.clone()))
        })?;
        if found == digest { Ok(position) } else { Err(KeyError::EventIdTaken { id: message.id }) }
    }

    /// The first events that are not settled.
    pub(super) fn load(&self, limit: u32) -> Result<Vec<Waiting>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT position, id, subject, headers, payload, expected, attempt FROM events \
                 WHERE outcome IS NULL ORDER BY position LIMIT ?1",
            )?;
            let mut rows = statement.query([limit])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(waiting(row)?);
            }
            Ok(events)
        })
    }

    /// Writes what the machine wants written.
    pub(super) fn persist(&self, persist: &Persist) -> Persisted {
        let done = self.write(|transaction| {
            if let Some((position, outcome)) = &persist.settled {
                let published = matches!(outcome, Outcome::Published { .. });
                let changed = transaction
                    .prepare_cached(
                        "UPDATE events SET outcome = ?2, published = ?3, \
                         payload = CASE WHEN ?3 THEN x'' ELSE payload END \
                         WHERE position = ?1 AND outcome IS NULL",
                    )?
                    .execute(params![position, to_json(outcome)?, published])?;
                if changed == 0 {
                    return Ok(false);
                }
            }
            if let Some((position, attempt)) = &persist.attempt {
                // Where it stood before the first attempt, for ever.
                let changed = transaction
                    .prepare_cached(
                        "UPDATE events SET attempt = coalesce(attempt, ?2) WHERE position = ?1 AND outcome IS NULL",
                    )?
                    .execute(params![position, to_json(attempt)?])?;
                if changed == 0 {
                    return Err(RowError::Damaged("an event that is about to be published"));
                }
            }
            crash::reach(Step::PersistWritten);
            Ok(true)
        });
        crash::reach(Step::PersistCommitted);
        match done {
            Ok(true) => Persisted::Ok,
            Ok(false) => Persisted::Stale,
            Err(error) => Persisted::Failed { reason: error.to_string() },
        }
    }

    /// What came of an event; none while it is not settled.
    pub(super) fn outcome(&self, id: Uuid, position: u64) -> Result<Option<Outcome>, KeyError> {
        let found = self.read(|transaction| {
            transaction
                .prepare_cached("SELECT outcome FROM events WHERE position = ?1")?
                .query_row([position], |row| row.get::<_, Option<String>>(0))
                .optional()?
                .map(|outcome| outcome.as_deref().map(from_json).transpose())
                .transpose()
        })?;
        found.ok_or(KeyError::NoEvent { id })
    }

    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        self.read(|transaction| {
            let open = "SELECT NOT EXISTS (SELECT 1 FROM events WHERE outcome IS NULL)";
            Ok(transaction.prepare_cached(open)?.query_row([], |row| row.get(0))?)
        })
    }

    pub(super) fn counts(&self) -> Result<Counts, StoreError> {
        self.read(counts)
    }

    pub(super) fn forget_settled(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let forget = "DELETE FROM events WHERE outcome IS NOT NULL AND journalled < ?1";
            Ok(transaction.execute(forget, [before.millis()])? as u64)
        })
    }

    /// Changes after each write of this process.
    pub(super) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    fn read<T>(&self, look: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>) -> Result<T, StoreError> {
        self.with(TransactionBehavior::Deferred, look)
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let done = self.transact(change);
        self.written.send_modify(|count| *count = count.wrapping_add(1));
        done
    }

    fn transact<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        self.with(TransactionBehavior::Immediate, change)
    }

    fn with<T>(
        &self,
        behavior: TransactionBehavior,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let done = Transaction::new_unchecked(&connection, behavior).map_err(RowError::from).and_then(
            |transaction| {
                let value = body(&transaction)?;
                transaction.commit()?;
                Ok(value)
            },
        );
        done.map_err(|error| error.at(&self.path))
    }
}

pub(super) fn counts(transaction: &Transaction<'_>) -> Result<Counts, RowError> {
    let count = "SELECT count(*) FILTER (WHERE outcome IS NULL), count(*) FILTER (WHERE published), \
                 count(*) FILTER (WHERE outcome IS NOT NULL AND NOT published) FROM events";
    Ok(transaction.query_row(count, [], |row| {
        Ok(Counts { pending: row.get(0)?, published: row.get(1)?, refused: row.get(2)? })
    })?)
}

fn waiting(row: &Row<'_>) -> Result<Waiting, RowError> {
    let id: Vec<u8> = row.get(1)?;
    let subject: String = row.get(2)?;
    let attempt: Option<String> = row.get(6)?;
    let message = Message {
        id: Uuid::from_slice(&id).map_err(|_| RowError::Damaged("an event's id"))?,
        subject: subject.parse().map_err(|_| RowError::Damaged("an event's subject"))?,
        headers: from_json(&row.get::<_, String>(3)?)?,
        payload: row.get(4)?,
        expected: row.get(5)?,
    };
    let attempt = attempt.as_deref().map(from_json::<Attempt>).transpose()?;
    Ok(Waiting { position: row.get(0)?, message, attempt })
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, RowError> {
    json::from_text(text).map_err(|_| RowError::Damaged("a record of an event"))
}

fn to_json<T: Serialize>(value: &T) -> Result<String, RowError> {
    json::to_text(value).map_err(|_| RowError::Damaged("a record to be written"))
}
