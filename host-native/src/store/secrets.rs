//! Sealed seeds: kept keys, and those of creds that are not written yet.

use super::error::RowError;
use super::{Store, StoreError, rows};
use crate::vault::{Escrow, SealedKey};
use cim_keys_core::nkey::PublicKey;
use rusqlite::{OptionalExtension as _, Transaction};
use uuid::Uuid;

/// The sealed seed of creds that are not written yet. It stays until their file is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOut {
    /// The command that made them.
    pub command_id: Uuid,
    /// Identity key of the account.
    pub account: PublicKey,
    /// The user's sealed seed.
    pub key: SealedKey,
}

impl Store {
    /// Whether the seed of a key is kept here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_kept(&self, key: PublicKey) -> Result<bool, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT 1 FROM keys WHERE key = ?1")?;
            Ok(statement.exists([key.to_string()])?)
        })
    }

    /// The kept seed of a key, sealed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn sealed_key(&self, key: PublicKey) -> Result<Option<SealedKey>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT sealed FROM keys WHERE key = ?1")?;
            let sealed = statement.query_row([key.to_string()], |row| row.get(0)).optional()?;
            Ok(sealed.map(|sealed| SealedKey { public_key: key, sealed }))
        })
    }

    /// Keeps sealed seeds, all of them or none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn keep(&self, keys: &[SealedKey]) -> Result<(), StoreError> {
        self.write(|transaction| keys.iter().try_for_each(|key| put_key(transaction, key, None)))
    }

    /// Creds that are not written yet, oldest command first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn hand_outs(&self) -> Result<Vec<HandOut>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT command_id, account, key, sealed FROM hand_outs ORDER BY command_id",
            )?;
            collect(statement.query([])?)
        })
    }

    /// Creds of one user that are not written yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn hand_out(&self, account: PublicKey, user: PublicKey) -> Result<Option<HandOut>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT command_id, account, key, sealed FROM hand_outs WHERE key = ?1 AND account = ?2",
            )?;
            Ok(collect(statement.query([user.to_string(), account.to_string()])?)?.pop())
        })
    }

    /// Erases the seed of creds that are written. This alone does not wait for the disk: should it be lost, the creds can
    /// be written once more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn erase_hand_out(&self, command_id: Uuid) -> Result<(), StoreError> {
        self.write_lazily(|transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM hand_outs WHERE command_id = ?1")?;
            statement.execute([command_id.as_bytes().as_slice()])?;
            Ok(())
        })
    }

    /// Whom seeds are sealed to beside the host.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn escrow(&self) -> Result<Vec<Escrow>, StoreError> {
        self.read(|transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT recipient FROM escrow ORDER BY recipient")?;
            let mut found = statement.query([])?;
            let mut recipients = Vec::new();
            while let Some(row) = found.next()? {
                recipients.push(rows::parse(&rows::text(row, 0)?)?);
            }
            Ok(recipients)
        })
    }
}

pub(super) fn put_key(
    transaction: &Transaction<'_>,
    key: &SealedKey,
    made_by: Option<Uuid>,
) -> Result<(), RowError> {
    let mut statement = transaction
        .prepare_cached("INSERT OR REPLACE INTO keys (key, sealed, made_by) VALUES (?1, ?2, ?3)")?;
    let made_by = made_by.as_ref().map(|id| id.as_bytes().as_slice());
    statement.execute((key.public_key.to_string(), &key.sealed, made_by))?;
    Ok(())
}

/// Erases the kept seeds that a command made, unless one of its keys is named by anything else: what is known of it, or
/// another held command.
pub(super) fn erase_made_by(
    transaction: &Transaction<'_>,
    id: Uuid,
    keys: &[PublicKey],
) -> Result<(), RowError> {
    let id = id.as_bytes().as_slice();
    let mut named = transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM entities WHERE newest = 1 AND key = ?1)
             OR EXISTS (SELECT 1 FROM journal WHERE state = 'held' AND command_id <> ?2
                        AND (instr(context, ?1) > 0 OR instr(command, ?1) > 0))",
    )?;
    for key in keys {
        if named.query_row((key.to_string(), id), |row| row.get(0))? {
            return Ok(());
        }
    }
    let mut erase = transaction.prepare_cached("DELETE FROM keys WHERE key = ?1 AND made_by = ?2")?;
    for key in keys {
        erase.execute((key.to_string(), id))?;
    }
    Ok(())
}

pub(super) fn put_hand_out(transaction: &Transaction<'_>, hand_out: &HandOut) -> Result<(), RowError> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO hand_outs (command_id, account, key, sealed) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((
        hand_out.command_id.as_bytes().as_slice(),
        hand_out.account.to_string(),
        hand_out.key.public_key.to_string(),
        &hand_out.key.sealed,
    ))?;
    Ok(())
}

fn collect(mut found: rusqlite::Rows<'_>) -> Result<Vec<HandOut>, RowError> {
    let mut list = Vec::new();
    while let Some(row) = found.next()? {
        list.push(HandOut {
            command_id: rows::uuid(row, 0)?,
            account: rows::parse(&rows::text(row, 1)?)?,
            key: SealedKey { public_key: rows::parse(&rows::text(row, 2)?)?, sealed: row.get(3)? },
        });
    }
    Ok(list)
}
