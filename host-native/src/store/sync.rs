//! What the sync machine asks of a store.

use super::error::RowError;
use super::{Store, StoreError, commit, facts, rows, times};
use crate::crash::{self, Step};
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::journal::{Pending, Progress, Ready, StreamIdentity};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::sync::{BATCH_BYTES, Landed, Overlay, Persist, Persisted};
use rusqlite::{Row, Transaction};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What is damaged where a command that the machine speaks of is not in the journal.
const A_COMMAND: &str = "a command of the journal";
/// The same where not all of its messages are there.
const MESSAGES: &str = "a command's messages";

/// Pending commands in journal order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commands.
    pub commands: Vec<Pending>,
    /// Whether there are more behind them.
    pub more: bool,
    /// The journal's revision.
    pub revision: u64,
}

impl Store {
    /// Pending commands behind this place of the journal, at most `limit` of them and about [`BATCH_BYTES`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn load(&self, after: u64, limit: u32) -> Result<Batch, StoreError> {
        self.registry_id()?;
        self.read(|transaction| {
            let revision = transaction.query_row("SELECT revision FROM state", [], |row| row.get(0))?;
            let mut statement = transaction.prepare_cached(
                "SELECT position, command, context, facts_hash, draft_hash, messages_hash FROM journal
                 WHERE state = 'pending' AND position > ?1 ORDER BY position LIMIT ?2",
            )?;
            let mut found =
                statement.query([i64::try_from(after).unwrap_or(i64::MAX), i64::from(limit) + 1])?;
            let (mut commands, mut bytes) = (Vec::new(), 0);
            while let Some(row) = found.next()? {
                if commands.len() == limit as usize || bytes >= BATCH_BYTES {
                    return Ok(Batch { commands, more: true, revision });
                }
                let position = row.get(0)?;
                let envelopes = commit::envelopes(transaction, position)?;
                bytes += envelopes.iter().map(Envelope::len).sum::<usize>();
                commands.push(Pending {
                    position,
                    command: rows::json(&rows::text(row, 1)?)?,
                    context: rows::json(&rows::text(row, 2)?)?,
                    facts_hash: rows::parse(&rows::text(row, 3)?)?,
                    draft_hash: rows::parse(&rows::text(row, 4)?)?,
                    envelopes,
                    messages_hash: row
                        .get::<_, Option<String>>(5)?
                        .map(|hash| rows::parse(&hash))
                        .transpose()?,
                });
            }
            Ok(Batch { commands, more: false, revision })
        })
    }

    /// Messages of pending commands behind this place of the journal: whole commands, until there are `messages` of them or
    /// [`BATCH_BYTES`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn gather(&self, after: u64, messages: u32) -> Result<Vec<Ready>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT j.position, j.command_id, j.attempt, j.command_hash, j.draft_hash, j.authority,
                        j.messages_hash, e.subject, e.headers, e.payload, e.id % 1024, j.count
                 FROM journal AS j
                 LEFT JOIN envelopes AS e ON e.id >= j.position * 1024 AND e.id < (j.position + 1) * 1024
                 WHERE j.state = 'pending' AND j.position > ?1 ORDER BY j.position",
            )?;
            let mut found = statement.query([i64::try_from(after).unwrap_or(i64::MAX)])?;
            let mut commands: Vec<Ready> = Vec::new();
            let (mut count, mut bytes, mut missing) = (0, 0, 0);
            while let Some(row) = found.next()? {
                let position = row.get(0)?;
                if commands.last().is_none_or(|last| last.position != position) {
                    all_there(missing)?;
                    missing = 0;
                    if count >= messages || bytes >= BATCH_BYTES {
                        break;
                    }
                    missing = row.get::<_, usize>(11)?;
                    commands.push(ready(row, position)?);
                }
                let Some(subject) = row.get_ref(7)?.as_str_or_null()? else {
                    return Err(RowError::Damaged(MESSAGES));
                };
                let envelope = Envelope {
                    subject: rows::parse(subject)?,
                    headers: rows::json(row.get_ref(8)?.as_str()?)?,
                    payload: row.get(9)?,
                };
                count += 1;
                missing = missing.saturating_sub(1);
                bytes += envelope.len();
                match commands.last_mut() {
                    Some(last) if last.envelopes.len() == row.get::<_, usize>(10)? => {
                        last.envelopes.push(envelope);
                    }
                    _ => return Err(RowError::Damaged(MESSAGES)),
                }
            }
            all_there(missing)?;
            Ok(commands)
        })
    }

    /// Held commands that are revocations.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn held_revocations(&self) -> Result<Vec<Uuid>, StoreError> {
        let held = self.held()?.into_iter().filter(|held| held.command.is_revocation());
        Ok(held.map(|held| held.command_id).collect())
    }

    /// Takes an archive for that of this journal's stream, instead of one that it has met before. False where its stream is
    /// another one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn take_archive(
        &self,
        stream: &StreamIdentity,
        archive: &StreamIdentity,
    ) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let text = transaction.query_row("SELECT progress FROM state", [], |row| rows::text(row, 0))?;
            let progress: Progress = rows::json(&text)?;
            if progress.stream.as_ref() != Some(stream) {
                return Ok(false);
            }
            let progress = Progress { archive: Some(archive.clone()), archive_missing: false, ..progress };
            transaction.execute("UPDATE state SET progress = ?1", [rows::to_json(&progress)?])?;
            commit::moved(transaction)?;
            Ok(true)
        })
    }

    /// Writes what the machine says in one transaction. It decides; nothing is ticked off here by itself. What the stream
    /// says is read there again where it gets lost with the machine's power; what was committed before is on the disk.
    #[must_use]
    pub fn persist(&self, persist: &Persist) -> Persisted {
        let written = self.registry_id().and_then(|registry| {
            let operator = registry.operator;
            self.write_lazily(|transaction| {
                let look = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
                let (head, revision) = transaction.query_row("SELECT head, revision FROM state", [], look)?;
                if head != persist.expect_head
                    || persist.expect_revision.is_some_and(|expected| expected != revision)
                    || !are_the_same(transaction, &persist.confirmed)?
                {
                    return Ok(Persisted::Stale);
                }
                apply(transaction, persist, operator)?;
                crash::reach(Step::PersistWritten);
                Ok(Persisted::Ok)
            })
        });
        crash::reach(Step::PersistCommitted);
        written.unwrap_or_else(|error| Persisted::Failed { reason: error.to_string() })
    }
}

fn apply(transaction: &Transaction<'_>, persist: &Persist, operator: PublicKey) -> Result<(), RowError> {
    transaction
        .prepare_cached("UPDATE state SET head = ?1, progress = ?2, changes = changes + 1")?
        .execute(rusqlite::params![persist.progress.head, rows::to_json(&persist.progress)?])?;
    for entity in &persist.entities {
        rows::put_entity(transaction, entity, operator)?;
    }
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO recorded (command_id, body) VALUES (?1, ?2)")?;
    let own: BTreeSet<Uuid> = persist.confirmed.iter().map(|landed| landed.command_id).collect();
    for recorded in persist.recorded.iter().filter(|recorded| !own.contains(&recorded.command_id)) {
        let id = recorded.command_id;
        // An id stays void for whom it was.
        let before = if recorded.voided.is_empty() { None } else { facts::recorded(transaction, id)? };
        let recorded = recorded.clone().over(before.as_ref());
        statement.execute((id.as_bytes().as_slice(), rows::to_json(&recorded)?))?;
    }
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO messages (sequence, subject, headers, payload) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for message in &persist.messages {
        let headers = rows::to_json(&message.headers)?;
        statement.execute(rusqlite::params![message.sequence, message.subject, headers, message.payload])?;
    }
    times::note(transaction, &persist.messages)?;
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO anomalies (first, body) VALUES (?1, ?2)")?;
    for anomaly in &persist.anomalies {
        let first = anomaly.sequences.first().copied().unwrap_or(0);
        statement.execute(rusqlite::params![first, rows::to_json(anomaly)?])?;
    }
    let mut statement = transaction.prepare_cached(
        "UPDATE journal SET state = 'confirmed', first = ?2, reason = NULL WHERE command_id = ?1",
    )?;
    // Of what is admitted the journal tells, whoever had voided attempts of others at the id.
    let mut forget = transaction.prepare_cached("DELETE FROM recorded WHERE command_id = ?1")?;
    for Landed { command_id, first, .. } in &persist.confirmed {
        let id = command_id.as_bytes().as_slice();
        found(statement.execute(rusqlite::params![id, first])?)?;
        forget.execute([id])?;
    }
    let mut statement = transaction.prepare_cached(
        "UPDATE journal SET state = 'held', reason = ?2,
                 sent = sent OR position <= (SELECT sent_to FROM state) WHERE command_id = ?1",
    )?;
    for hold in &persist.held {
        found(statement.execute((hold.command_id.as_bytes().as_slice(), rows::to_json(&hold.reason)?))?)?;
    }
    let mut statement =
        transaction.prepare_cached("UPDATE journal SET facts_hash = ?2 WHERE command_id = ?1")?;
    for (id, hash) in &persist.rechecked {
        found(statement.execute((id.as_bytes().as_slice(), hash.to_string()))?)?;
    }
    match &persist.overlay {
        Overlay::Keep => {}
        Overlay::Settle { position } => {
            transaction
                .prepare_cached("UPDATE state SET settled = ?1 WHERE settled < ?1")?
                .execute([position])?;
        }
        Overlay::Replace { until, entities } => {
            rows::replace_overlay(transaction, *until, entities, operator)?;
        }
    }
    Ok(())
}

/// A command without all of its messages would be passed over, or sent in part.
fn all_there(missing: usize) -> Result<(), RowError> {
    if missing == 0 { Ok(()) } else { Err(RowError::Damaged(MESSAGES)) }
}

fn ready(row: &Row<'_>, position: u64) -> Result<Ready, RowError> {
    let hash = row.get_ref(6)?.as_str_or_null()?.map(rows::parse).transpose()?;
    Ok(Ready {
        position,
        command_id: Uuid::from_slice(row.get_ref(1)?.as_blob()?)
            .map_err(|_| RowError::Damaged("a command id"))?,
        attempt: row.get(2)?,
        command_hash: rows::parse(row.get_ref(3)?.as_str()?)?,
        draft_hash: rows::parse(row.get_ref(4)?.as_str()?)?,
        authority: rows::parse(row.get_ref(5)?.as_str()?)?,
        envelopes: Vec::new(),
        messages_hash: hash,
    })
}

/// Whether these are the attempts that the journal has: a command may have been decided anew since the machine asked.
fn are_the_same(transaction: &Transaction<'_>, landed: &[Landed]) -> Result<bool, RowError> {
    let mut statement = transaction.prepare_cached("SELECT draft_hash FROM journal WHERE command_id = ?1")?;
    for Landed { command_id, draft_hash, .. } in landed {
        let mut rows = statement.query([command_id.as_bytes().as_slice()])?;
        let row = rows.next()?.ok_or(RowError::Damaged(A_COMMAND))?;
        if rows::parse::<Digest>(row.get_ref(0)?.as_str()?)? != *draft_hash {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A command that the machine speaks of is there: where it is not found, the file is not what was written, and going on would
/// load and confirm the same command without end.
fn found(changed: usize) -> Result<(), RowError> {
    if changed == 1 { Ok(()) } else { Err(RowError::Damaged(A_COMMAND)) }
}
