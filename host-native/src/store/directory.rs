//! The state at a sequence, by the projection `directory`.

use super::error::RowError;
use super::projection::{self, Order};
use super::{Store, StoreError};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::{Directory, Range, Version};
use cim_keys_core::registry::EntityId;
use rusqlite::Transaction;

/// Rows that are looked through at a time.
const PAGE: u32 = 1000;

impl Store {
    /// How an entity stood at a sequence; none where it was not there yet. Folds first what is not folded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn entity_at(&self, id: EntityId, sequence: u64) -> Result<Option<Version>, StoreError> {
        self.at(|transaction, generation| version(transaction, generation, id, sequence))
    }

    /// From which sequence on an entity is there; none where the stream does not have it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn first_at(&self, id: EntityId) -> Result<Option<u64>, StoreError> {
        self.at(|transaction, generation| {
            let was = projection::some(transaction, generation, &Directory::was(id, 0), Order::First, 1)?;
            let first = match was.into_iter().next() {
                Some((_, text)) => Some(text),
                None => projection::row(transaction, generation, &Directory::now(id))?,
            };
            let since = |text: String| Directory::version(&text).map(|version| version.since);
            first.map(|text| since(text).ok_or(RowError::Damaged("a row of the directory"))).transpose()
        })
    }

    /// Whatever had this name or label at a sequence, exactly.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn named_at(&self, name: &str, sequence: u64) -> Result<Vec<Version>, StoreError> {
        let mut found = self.those(&Directory::named(name), sequence)?;
        found.retain(|version| version.entity.name() == name);
        Ok(found)
    }

    /// Whatever has or had this name or label at any time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn ever_named(&self, name: &str) -> Result<Vec<EntityId>, StoreError> {
        self.ids(&Directory::named(name))
    }

    /// Whatever has this public key.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn ever_keyed(&self, key: PublicKey) -> Result<Vec<EntityId>, StoreError> {
        self.ids(&Directory::keyed(key))
    }

    /// Whatever had this public key at a sequence.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn keyed_at(&self, key: PublicKey, sequence: u64) -> Result<Vec<Version>, StoreError> {
        self.those(&Directory::keyed(key), sequence)
    }

    /// The entities of a range of the directory as they stood at a sequence, one after another, until `take` says false.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn each_at(
        &self,
        range: &Range,
        sequence: u64,
        mut take: impl FnMut(Version) -> bool,
    ) -> Result<(), StoreError> {
        let mut rest = range.clone();
        loop {
            let page = self.at(|transaction, generation| {
                let rows = projection::some(transaction, generation, &rest, Order::First, PAGE)?;
                let last = rows.last().map(|(key, _)| key.clone());
                let mut found = Vec::new();
                for (key, now) in rows {
                    let id = Directory::entity(&key).ok_or(RowError::Damaged("a row of the directory"))?;
                    found.extend(at(transaction, generation, id, sequence, &now)?);
                }
                Ok(last.map(|last| (last, found)))
            })?;
            let Some((last, found)) = page else { return Ok(()) };
            for version in found {
                if !take(version) {
                    return Ok(());
                }
            }
            rest = rest.after(&last);
        }
    }

    fn those(&self, range: &Range, sequence: u64) -> Result<Vec<Version>, StoreError> {
        self.at(|transaction, generation| {
            let mut found = Vec::new();
            for id in ids(transaction, generation, range)? {
                found.extend(version(transaction, generation, id, sequence)?);
            }
            Ok(found)
        })
    }

    fn ids(&self, range: &Range) -> Result<Vec<EntityId>, StoreError> {
        self.at(|transaction, generation| ids(transaction, generation, range))
    }

    fn at<T>(
        &self,
        look: impl FnOnce(&Transaction<'_>, i64) -> Result<T, RowError>,
    ) -> Result<T, StoreError> {
        self.read(|transaction| look(transaction, projection::generation(transaction, &Directory)?))
    }
}

fn ids(transaction: &Transaction<'_>, generation: i64, range: &Range) -> Result<Vec<EntityId>, RowError> {
    let (mut rest, mut found) = (range.clone(), Vec::new());
    loop {
        let page = projection::some(transaction, generation, &rest, Order::First, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        rest = rest.after(last);
        for (key, _) in &page {
            found.push(Directory::entity(key).ok_or(RowError::Damaged("a row of the directory"))?);
        }
    }
}

fn version(
    transaction: &Transaction<'_>,
    generation: i64,
    id: EntityId,
    sequence: u64,
) -> Result<Option<Version>, RowError> {
    let Some(now) = projection::row(transaction, generation, &Directory::now(id))? else { return Ok(None) };
    at(transaction, generation, id, sequence, &now)
}

fn at(
    transaction: &Transaction<'_>,
    generation: i64,
    id: EntityId,
    sequence: u64,
    now: &str,
) -> Result<Option<Version>, RowError> {
    let newest = Directory::version(now).ok_or(RowError::Damaged("a row of the directory"))?;
    if newest.since <= sequence {
        return Ok(Some(newest));
    }
    let was = projection::some(transaction, generation, &Directory::was(id, sequence), Order::First, 1)?;
    Ok(Directory::at(sequence, now, was.first().map(|(_, was)| was.as_str())))
}
