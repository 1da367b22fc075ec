//! Held commands: what of them is out of the store's hands, and giving them up.

use super::commit::{self, Committed, Entry, Promised, Revision};
use super::error::RowError;
use super::{Store, StoreError, facts, secrets};
use rusqlite::{OptionalExtension as _, Transaction};
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// Where something becomes known that a crash must not make unknown: a command that anybody else may have is given up by
/// an event, never by forgetting it.
impl Store {
    /// Notes that from now on everything in the journal may be sent, before the first of it is: what is held later counts
    /// as sent. Costs a write only where something new is there that this store did not take in while it was sending.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_sending(&self) -> Result<(), StoreError> {
        let noted = self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT sent_to >= (SELECT coalesce(max(position), 0) FROM journal) FROM state",
            )?;
            Ok(statement.query_row([], |row| row.get::<_, bool>(0))?)
        })?;
        if !noted {
            self.write(|transaction| {
                transaction.execute(
                    "UPDATE state SET sent_to = (SELECT coalesce(max(position), 0) FROM journal)",
                    [],
                )?;
                Ok(())
            })?;
        }
        self.sending.store(true, Ordering::Release);
        Ok(())
    }

    /// Notes that nothing is sent any more.
    pub fn note_rest(&self) {
        self.sending.store(false, Ordering::Release);
    }

    /// Notes that these commands leave the store, in a bundle.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_exported(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        self.note(ids, "UPDATE journal SET sent = 1 WHERE command_id = ?1 AND sent = 0")
    }

    /// Notes that creds or a token that this command brings are given to somebody. False where it was given up: then they
    /// must not be.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_handed_out(&self, command_id: Uuid) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let id = command_id.as_bytes().as_slice();
            let query = "UPDATE journal SET handed_out = 1
                 WHERE command_id = ?1 AND handed_out = 0 AND state NOT IN ('confirmed', 'dropped')";
            transaction.prepare_cached(query)?.execute([id])?;
            let query =
                "SELECT NOT EXISTS (SELECT 1 FROM journal WHERE command_id = ?1 AND state = 'dropped')";
            Ok(transaction.prepare_cached(query)?.query_row([id], |row| row.get(0))?)
        })
    }

    /// The same for the pending command at this place of the journal.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_shown(&self, position: u64) -> Result<(), StoreError> {
        self.write(|transaction| {
            let query = "UPDATE journal SET handed_out = 1 WHERE position = ?1 AND handed_out = 0";
            transaction.execute(query, [position])?;
            Ok(())
        })
    }

    fn note(&self, ids: &[Uuid], query: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(query)?;
            for id in ids {
                statement.execute([id.as_bytes().as_slice()])?;
            }
            Ok(())
        })
    }

    /// Whether creds or a token of the pending command at this place were given to somebody.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_handed_out(&self, position: u64) -> Result<bool, StoreError> {
        self.read(|transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT handed_out FROM journal WHERE position = ?1")?;
            Ok(statement.query_row([position], |row| row.get(0)).optional()?.unwrap_or(false))
        })
    }

    /// Gives up a held command here alone, and erases the seed of its creds; with `erase` also the kept seeds that it made
    /// and nothing else names. False where it is not held any more as it was read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn drop_held(&self, held: &Promised, erase: bool) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let dropped = give_up(transaction, held)?;
            if dropped {
                if erase {
                    secrets::erase_made_by(transaction, held.context.command_id, &held.context.keys)?;
                }
                commit::moved(transaction)?;
            }
            Ok(dropped)
        })
    }

    /// Writes a command that voids a held one, and gives that one up, in one transaction.
    ///
    /// # Errors
    /// See [`StoreError`]. [`Committed::Stale`] also where it is not held any more as it was read.
    pub fn void(
        &self,
        revision: Revision,
        entry: &Entry<'_>,
        voided: &Promised,
    ) -> Result<Committed, StoreError> {
        let registry = self.registry_id()?;
        self.write(|transaction| {
            let known = facts::own(transaction, &[entry.context.command_id])?;
            if !known.is_empty() || !commit::stands(transaction, registry, revision, entry)? {
                return Ok(Committed::Stale);
            }
            if !give_up(transaction, voided)? {
                return Ok(Committed::Stale);
            }
            let position = commit::append(transaction, registry, entry, commit::revoked_at(entry.decision))?;
            self.may_be_sent(transaction, position)?;
            Ok(Committed::At { position })
        })
    }

    /// Notes in the same write that a new command may be sent at once, where this store is at it.
    pub(super) fn may_be_sent(&self, transaction: &Transaction<'_>, position: u64) -> Result<(), RowError> {
        if self.sending.load(Ordering::Acquire) {
            let mut statement = transaction.prepare_cached("UPDATE state SET sent_to = max(sent_to, ?1)")?;
            statement.execute([position])?;
        }
        Ok(())
    }
}

/// Only the attempt that was read, and only where nothing of it has left the store since: that decides how it is given up.
fn give_up(transaction: &Transaction<'_>, held: &Promised) -> Result<bool, RowError> {
    let query = "UPDATE journal SET state = 'dropped'
         WHERE position = ?1 AND state = 'held' AND sent = ?2 AND handed_out = ?3";
    let dropped = transaction.execute(query, (held.position, held.sent, held.handed_out))? > 0;
    if dropped {
        let id = held.context.command_id.as_bytes().as_slice();
        transaction.execute("DELETE FROM hand_outs WHERE command_id = ?1", [id])?;
    }
    Ok(dropped)
}
