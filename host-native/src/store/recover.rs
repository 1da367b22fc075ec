//! A journal made anew after its stream went back.

use super::error::RowError;
use super::{Store, StoreError, commit, projection, rows, times};
use cim_keys_core::journal::{Progress, StreamIdentity};
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::{Confirmed, Recovery};
use rusqlite::Transaction;
use std::collections::BTreeSet;
use uuid::Uuid;

impl Store {
    /// Own commands that are confirmed, in journal order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn confirmed_commands(&self) -> Result<Vec<Confirmed>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT command_id, first + count - 1 FROM journal WHERE state = 'confirmed' ORDER BY position",
            )?;
            let mut found = statement.query([])?;
            let mut confirmed = Vec::new();
            while let Some(row) = found.next()? {
                confirmed.push(Confirmed { command_id: rows::uuid(row, 0)?, last: row.get(1)? });
            }
            Ok(confirmed)
        })
    }

    /// Takes another stream for this journal's, whose messages are the same: it has another name or was made at another
    /// time. Its archive is met again. False where the journal was moved meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn join(&self, head: u64, stream: &StreamIdentity) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let look = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, rows::text(row, 1)?));
            let (now, progress) = transaction.query_row("SELECT head, progress FROM state", [], look)?;
            if now != head {
                return Ok(false);
            }
            let progress: Progress = rows::json(&progress)?;
            // It is known by its messages: what is brought back otherwise than by a backup has other times.
            let progress = Progress {
                stream: Some(stream.clone()),
                mark: None,
                archive: None,
                archive_missing: false,
                ..progress
            };
            transaction.execute("UPDATE state SET progress = ?1", [rows::to_json(&progress)?])?;
            forget_pushed(transaction)?;
            // The messages are the same, stored at other times.
            times::forget(transaction, 0)?;
            commit::moved(transaction)?;
            Ok(true)
        })
    }

    /// Whether anything of the journal left this store: was sent, or exported.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn may_be_elsewhere(&self) -> Result<bool, StoreError> {
        self.read(|transaction| {
            let query = "SELECT EXISTS (
                SELECT 1 FROM journal WHERE sent = 1 OR position <= (SELECT sent_to FROM state))";
            Ok(transaction.query_row(query, [], |row| row.get(0))?)
        })
    }

    /// Writes a journal that was made anew, in one transaction. False where it is not what the recovery was made from:
    /// nothing was written then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn recover(&self, head: u64, recovery: &Recovery) -> Result<bool, StoreError> {
        let operator = self.registry_id()?.operator;
        self.write(|transaction| {
            let now: u64 = transaction.query_row("SELECT head FROM state", [], |row| row.get(0))?;
            if now != head {
                return Ok(false);
            }
            // Pending commands keep their places, which come before what was settled: now nothing is.
            transaction.execute(
                "UPDATE state SET head = ?1, progress = ?2, settled = 0",
                rusqlite::params![recovery.progress.head, rows::to_json(&recovery.progress)?],
            )?;
            transaction.execute_batch("DELETE FROM entities; DELETE FROM recorded; DELETE FROM anomalies")?;
            for entity in recovery.registry.entities() {
                rows::put_entity(transaction, entity, operator)?;
            }
            transaction.execute("DELETE FROM messages WHERE sequence > ?1", [recovery.progress.head])?;
            times::forget(transaction, recovery.progress.head)?;
            projection::drop_all(transaction)?;
            for id in &recovery.pending {
                keep_first(transaction, id, recovery.progress.head)?;
                let changed = transaction.execute(
                    "UPDATE journal SET state = 'pending', first = NULL, reason = NULL
                     WHERE command_id = ?1 AND state = 'confirmed'",
                    [id.as_bytes().as_slice()],
                )?;
                if changed != 1 {
                    return Err(RowError::Damaged("a confirmed command"));
                }
            }
            // What had brought a revocation into force may be among what is lost: it is decided anew.
            let reason = rows::to_json(&Reason {
                code: "stream-recovered".to_owned(),
                text: "the stream went back: it may not be in force any more".to_owned(),
            })?;
            transaction.execute(
                "UPDATE journal SET state = 'held', reason = ?1 WHERE state = 'settled'",
                [reason],
            )?;
            let own = own(transaction)?;
            let mut statement =
                transaction.prepare_cached("INSERT INTO recorded (command_id, body) VALUES (?1, ?2)")?;
            let others = recovery.registry.commands().filter(|recorded| !own.contains(&recorded.command_id));
            for recorded in others.chain(recovery.registry.voided()) {
                statement.execute((recorded.command_id.as_bytes().as_slice(), rows::to_json(recorded)?))?;
            }
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO anomalies (first, body) VALUES (?1, ?2)")?;
            for anomaly in &recovery.anomalies {
                let first = anomaly.sequences.first().copied().unwrap_or(0);
                statement.execute(rusqlite::params![first, rows::to_json(anomaly)?])?;
            }
            forget_pushed(transaction)?;
            commit::moved(transaction)?;
            Ok(true)
        })
    }
}

/// Where a stream went back or moved, the servers' account tokens may have as well: nothing is in force before a push has read
/// them.
fn forget_pushed(transaction: &Transaction<'_>) -> Result<(), RowError> {
    transaction.execute("DELETE FROM pushed", [])?;
    Ok(())
}

/// Of a command that was cut in two the stream has the first messages still: they stay in the trail, as nobody's.
fn keep_first(transaction: &Transaction<'_>, id: &Uuid, kept: u64) -> Result<(), RowError> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO messages (sequence, subject, headers, payload)
             SELECT j.first + e.id % 1024, e.subject, e.headers, e.payload
             FROM journal AS j
             CROSS JOIN envelopes AS e ON e.id >= j.position * 1024 AND e.id < (j.position + 1) * 1024
             WHERE j.command_id = ?1 AND j.first + e.id % 1024 <= ?2",
        )?
        .execute(rusqlite::params![id.as_bytes().as_slice(), kept])?;
    Ok(())
}

/// Own commands that are on the stream: of these the journal tells.
fn own(transaction: &Transaction<'_>) -> Result<BTreeSet<Uuid>, RowError> {
    let mut statement =
        transaction.prepare_cached("SELECT command_id FROM journal WHERE state = 'confirmed'")?;
    let mut found = statement.query([])?;
    let mut own = BTreeSet::new();
    while let Some(row) = found.next()? {
        own.insert(rows::uuid(row, 0)?);
    }
    Ok(own)
}
