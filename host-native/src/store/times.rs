//! When the server stored messages, as far as it was told.

use super::error::RowError;
use super::{Store, StoreError};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::time::ServerTime;
use rusqlite::{OptionalExtension as _, Transaction};

/// Between which sequences a moment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// The last one known to be stored by then; 0 where there is none.
    pub by: u64,
    /// The first one known to be stored later; none where there is none.
    pub later: Option<u64>,
}

impl Store {
    /// When the server stored the message of a sequence, where that is known.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn stored_at(&self, sequence: u64) -> Result<Option<ServerTime>, StoreError> {
        self.read(|transaction| {
            let found = from(transaction, sequence)?;
            Ok(found.filter(|(known, _)| *known == sequence).map(|(_, time)| time))
        })
    }

    /// Notes times that were asked of the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_times(&self, messages: &[StoredMessage]) -> Result<(), StoreError> {
        self.write_lazily(|transaction| note(transaction, messages))
    }

    /// Between which sequences a moment lies, by the times that are known here. Servers' clocks are taken to go forward.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn around(&self, moment: ServerTime) -> Result<Around, StoreError> {
        self.read(|transaction| {
            let last: Option<u64> =
                transaction.query_row("SELECT max(sequence) FROM times", [], |row| row.get(0))?;
            let (mut by, mut later) = (0, None);
            // Everything up to `by` is known to be early, everything from `end` on to be late.
            let mut end = last.map_or(1, |last| last + 1);
            while by + 1 < end {
                let middle = by + (end - by) / 2;
                match from(transaction, middle)? {
                    Some((sequence, _)) if sequence >= end => end = middle,
                    Some((sequence, time)) if time <= moment => by = sequence,
                    Some((sequence, _)) => {
                        later = Some(sequence);
                        end = middle;
                    }
                    None => end = middle,
                }
            }
            Ok(Around { by, later })
        })
    }
}

/// The first time that is known from a sequence on.
fn from(transaction: &Transaction<'_>, sequence: u64) -> Result<Option<(u64, ServerTime)>, RowError> {
    let mut statement = transaction
        .prepare_cached("SELECT sequence, nanos FROM times WHERE sequence >= ?1 ORDER BY sequence LIMIT 1")?;
    let look = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, i64>(1)?));
    let found = statement.query_row([i64::try_from(sequence).unwrap_or(i64::MAX)], look).optional()?;
    found
        .map(|(sequence, nanos)| {
            let time = ServerTime::from_nanos(nanos).map_err(|_| RowError::Damaged("a time"))?;
            Ok((sequence, time))
        })
        .transpose()
}

/// Notes when messages were stored. A time that cannot be read is none.
pub(super) fn note(transaction: &Transaction<'_>, messages: &[StoredMessage]) -> Result<(), RowError> {
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO times (sequence, nanos) VALUES (?1, ?2)")?;
    for message in messages {
        let time = message.time.as_ref().and_then(|time| time.parse::<ServerTime>().ok());
        if let Some(time) = time {
            statement.execute(rusqlite::params![message.sequence, time.nanos()])?;
        }
    }
    Ok(())
}

/// Forgets the times behind a sequence: other messages will stand there.
pub(super) fn forget(transaction: &Transaction<'_>, behind: u64) -> Result<(), RowError> {
    transaction.execute("DELETE FROM times WHERE sequence > ?1", [behind])?;
    Ok(())
}
