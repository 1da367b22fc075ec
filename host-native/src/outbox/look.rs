//! How an outbox stands, for whoever looks at its file from outside: nothing is written, nothing is made.

use super::journal::{APPLICATION, VERSION, from_json};
use super::{Counts, PURPOSE};
use crate::error::KeyError;
use crate::report;
use crate::store::StoreError;
use crate::store::error::RowError;
use cim_keys_core::outbox::{Outcome, Refusal};
use cim_keys_core::time::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Refused events that are named, the newest.
const NAMED: u32 = 100;
/// How long another process's write is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// How an outbox stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The stream.
    pub stream: String,
    /// The first two tokens of its subjects.
    pub namespace: String,
    /// Whether a process publishes what is in it now.
    pub publishing: bool,
    /// How many events stand where.
    #[serde(flatten)]
    pub counts: Counts,
    /// Events of the pending ones that were tried, without knowing yet what came of it.
    pub in_doubt: u64,
    /// When the oldest pending event was journalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<Timestamp>,
    /// The last event that is known to be on the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_published: Option<OnStream>,
    /// What is refused for good, the newest first.
    pub refusals: Vec<Refused>,
}

/// An event that is on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnStream {
    /// Its id.
    pub id: Uuid,
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// When it was journalled.
    pub journalled: Timestamp,
}

/// An event that is not published any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its id.
    pub id: Uuid,
    /// Its subject.
    pub subject: String,
    /// When it was journalled.
    pub journalled: Timestamp,
    /// Stable code of the reason.
    pub code: &'static str,
    /// Why.
    pub reason: String,
}

/// Looks at an outbox's file.
///
/// # Errors
/// There is no such file, it is no outbox, or it cannot be read.
pub fn look(path: &Path) -> Result<Standing, KeyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(BUSY).map_err(sqlite)?;
    // One consistent look.
    let transaction =
        Transaction::new_unchecked(&connection, TransactionBehavior::Deferred).map_err(sqlite)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) =
        (number("application_id").map_err(sqlite)?, number("user_version").map_err(sqlite)?);
    let place = || path.to_owned();
    if application != APPLICATION {
        return Err(StoreError::Foreign { path: place() }.into());
    }
    if version != VERSION {
        let (path, found, supported) = (place(), version, VERSION);
        return Err(if version < VERSION {
            StoreError::Older { path, found, supported }.into()
        } else {
            StoreError::Newer { path, found, supported }.into()
        });
    }
    let standing = standing(&transaction).map_err(|error| error.at(path))?;
    Ok(Standing { publishing: report::is_taken(path, PURPOSE), ..standing })
}

fn standing(transaction: &Transaction<'_>) -> Result<Standing, RowError> {
    let (stream, namespace) = transaction
        .query_row("SELECT stream, namespace FROM place", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts = super::journal::counts(transaction)?;
    let (in_doubt, oldest) = transaction.query_row(
        "SELECT count(attempt), min(journalled) FROM events WHERE outcome IS NULL",
        [],
        |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)),
    )?;
    let last_published = transaction
        .query_row(
            "SELECT id, subject, journalled, outcome FROM events WHERE published ORDER BY position DESC LIMIT 1",
            [],
            |row| Ok(settled(row)),
        )
        .optional()?
        .transpose()?
        .and_then(|(id, subject, journalled, outcome)| match outcome {
            Outcome::Published { sequence } => Some(OnStream { id, subject, sequence, journalled }),
            Outcome::Refused(_) => None,
        });
    let mut statement = transaction.prepare(
        "SELECT id, subject, journalled, outcome FROM events WHERE outcome IS NOT NULL AND NOT published \
         ORDER BY position DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([NAMED])?;
    let mut refusals = Vec::new();
    while let Some(row) = rows.next()? {
        if let (id, subject, journalled, Outcome::Refused(refusal)) = settled(row)? {
            let (code, reason) = (Refusal::code(&refusal), refusal.to_string());
            refusals.push(Refused { id, subject, journalled, code, reason });
        }
    }
    let oldest_pending = oldest.map(time).transpose()?;
    Ok(Standing {
        stream,
        namespace,
        publishing: false,
        counts,
        in_doubt,
        oldest_pending,
        last_published,
        refusals,
    })
}

fn settled(row: &Row<'_>) -> Result<(Uuid, String, Timestamp, Outcome), RowError> {
    let id: Vec<u8> = row.get(0)?;
    let id = Uuid::from_slice(&id).map_err(|_| RowError::Damaged("an event's id"))?;
    Ok((id, row.get(1)?, time(row.get(2)?)?, from_json(&row.get::<_, String>(3)?)?))
}

fn time(millis: i64) -> Result<Timestamp, RowError> {
    Timestamp::from_millis(millis).map_err(|_| RowError::Damaged("an event's time"))
}
