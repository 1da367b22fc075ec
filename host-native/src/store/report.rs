//! What the last run of `sync` left behind, and what a look at the whole store finds.

use super::error::RowError;
use super::{Store, StoreError, commit, rows};
use crate::report::Report;
use cim_keys_core::context::Context;
use cim_keys_core::digest::Digest;
use cim_keys_core::draft;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::time::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction};
use uuid::Uuid;

/// What a look at every page and every message of a store finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    /// What SQLite finds wrong with the file; empty where nothing is.
    pub file: Vec<String>,
    /// Commands whose messages were looked at.
    pub commands: u64,
    /// Commands whose messages are not those that were written, or are missing.
    pub altered: Vec<Uuid>,
}

impl Store {
    /// How the last run of `sync` stood; none where there was none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn report(&self) -> Result<Option<Report>, StoreError> {
        self.read(report)
    }

    /// Changes what the last run left behind. Not waited for: should the machine lose its power, it is an older one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_report(&self, change: impl FnOnce(&mut Report)) -> Result<(), StoreError> {
        self.write_lazily(|transaction| {
            let mut report = report(transaction)?.unwrap_or_default();
            change(&mut report);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO report (one, body) VALUES (1, ?1)")?
                .execute([rows::to_json(&report)?])?;
            Ok(())
        })
    }

    /// How many commands are to be appended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn pending(&self) -> Result<u64, StoreError> {
        self.read(|transaction| {
            let query = "SELECT count(*) FROM journal WHERE state = 'pending'";
            Ok(transaction.query_row(query, [], |row| row.get(0))?)
        })
    }

    /// How many of this host's commands are on the stream.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn confirmed(&self) -> Result<u64, StoreError> {
        self.read(|transaction| {
            // Those that have a place on the stream: an index has them, the whole journal would be read otherwise.
            let query = "SELECT count(*) FROM journal WHERE first IS NOT NULL";
            Ok(transaction.query_row(query, [], |row| row.get(0))?)
        })
    }

    /// When the oldest held command was decided.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn oldest_held(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|transaction| {
            let query = "SELECT context FROM journal WHERE state = 'held' ORDER BY position LIMIT 1";
            let context = transaction.query_row(query, [], |row| rows::text(row, 0)).optional()?;
            context.map(|context| rows::json::<Context>(&context).map(|context| context.now)).transpose()
        })
    }

    /// Public keys whose seeds are kept here, sealed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn kept_keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT key FROM keys ORDER BY key")?;
            let mut found = statement.query([])?;
            let mut keys = Vec::new();
            while let Some(row) = found.next()? {
                keys.push(rows::parse(&rows::text(row, 0)?)?);
            }
            Ok(keys)
        })
    }

    /// Kept keys that no command made and nothing of the registry is called by: made for this host itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn own_keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT key FROM keys WHERE made_by IS NULL
                 AND NOT EXISTS (SELECT 1 FROM entities WHERE entities.key = keys.key AND newest = 1) ORDER BY key",
            )?;
            let mut found = statement.query([])?;
            let mut keys = Vec::new();
            while let Some(row) = found.next()? {
                keys.push(rows::parse(&rows::text(row, 0)?)?);
            }
            Ok(keys)
        })
    }

    /// Looks at every page of the file and at every message of the journal.
    ///
    /// # Errors
    /// See [`StoreError`]: the store cannot be read at all.
    pub fn integrity(&self) -> Result<Integrity, StoreError> {
        self.read(|transaction| {
            let mut found = Integrity::default();
            let mut statement = transaction.prepare("PRAGMA integrity_check")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                found.file.push(row.get(0)?);
            }
            found.file.retain(|line| line != "ok");
            let mut statement = transaction
                .prepare("SELECT position, command_id, messages_hash FROM journal ORDER BY position")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (position, id) = (row.get(0)?, super::rows::uuid(row, 1)?);
                let hash = row.get::<_, Option<String>>(2)?;
                found.commands += 1;
                if !is_intact(transaction, position, hash.as_deref()) {
                    found.altered.push(id);
                }
            }
            Ok(found)
        })
    }
}

fn report(transaction: &Transaction<'_>) -> Result<Option<Report>, RowError> {
    let body = transaction.query_row("SELECT body FROM report", [], |row| rows::text(row, 0)).optional()?;
    body.map(|body| rows::json(&body)).transpose()
}

/// Messages that came in a bundle have no hash: it is enough that they are there.
fn is_intact(transaction: &Transaction<'_>, position: u64, hash: Option<&str>) -> bool {
    let Ok(messages) = commit::envelopes(transaction, position) else { return false };
    let expected = hash.map(str::parse::<Digest>);
    match expected {
        None => !messages.is_empty(),
        Some(Ok(expected)) => draft::messages_hash(&messages) == expected,
        Some(Err(_)) => false,
    }
}
