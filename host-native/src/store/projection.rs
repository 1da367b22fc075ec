//! Keeps projections: rows and the sequence reached are written in one transaction.
//!
//! The source is this store's own trail, which the sync machine has admitted: what is an anomaly is not folded, and of an
//! unfinished command at `head` nothing yet.

use super::error::RowError;
use super::{Store, StoreError, rows, views};
use crate::crash::{self, Step};
use cim_keys_core::jetstream::READ_BYTES;
use cim_keys_core::journal::Progress;
use cim_keys_core::projection::{Key, Projection, Range, Record, Rows};
use rusqlite::{OptionalExtension as _, Transaction};
use std::collections::BTreeSet;

/// Messages that are folded in one transaction, and no more of them than [`READ_BYTES`].
const PORTION: u32 = 1000;
/// Rows of a dropped generation that are erased in one transaction.
const ERASED: u32 = 5000;

/// Where a projection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which set of rows.
    pub(super) generation: i64,
    /// The last sequence that was folded into them.
    pub sequence: u64,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projected {
    /// Rows and sequence are written.
    At(Place),
    /// Another process was there first, or made the rows anew: nothing was written. Ask again where it stands.
    Stale,
}

/// A projection as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Version of its rows.
    pub version: u32,
    /// The last sequence that was folded.
    pub sequence: u64,
    /// How many rows there are.
    pub rows: u64,
}

/// In which order rows are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first of them.
    First,
    /// The last of them, the very last one first.
    Last,
}

impl Store {
    /// Where a projection stands: begins it where there is none, and begins it anew where its rows are of an older version.
    ///
    /// # Errors
    /// See [`StoreError`]. [`StoreError::NewerProjection`] where its rows are of a newer version.
    pub fn place(&self, projection: &dyn Projection) -> Result<Place, StoreError> {
        let look = |transaction: &Transaction<'_>| live(transaction, projection.name());
        let found = match self.read(look)? {
            Some(found) if found.version == projection.version() => return Ok(found.place),
            _ => self.write_lazily(|transaction| {
                // Another process may have been first.
                let found = live(transaction, projection.name())?;
                if found.as_ref().is_some_and(|found| found.version >= projection.version()) {
                    return Ok(found);
                }
                transaction.execute(
                    "UPDATE projections SET state = 'dropped' WHERE name = ?1 AND state = 'live'",
                    [projection.name()],
                )?;
                begin(transaction, projection, "live")?;
                live(transaction, projection.name())
            })?,
        };
        match found {
            Some(found) if found.version == projection.version() => Ok(found.place),
            _ => Err(StoreError::NewerProjection { path: self.path.clone(), name: projection.name() }),
        }
    }

    /// Folds what was read since it was last done, in portions. Gives the sequence that was reached: of an unfinished
    /// command at `head` nothing is folded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn project(&self, projection: &dyn Projection) -> Result<u64, StoreError> {
        while self.project_portion(projection)? {}
        Ok(self.place(projection)?.sequence)
    }

    /// Folds the next portion. False where nothing is left.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn project_portion(&self, projection: &dyn Projection) -> Result<bool, StoreError> {
        let place = self.place(projection)?;
        let (records, until) = self.portion(place)?;
        if until <= place.sequence {
            self.erase_dropped()?;
            return Ok(false);
        }
        self.fold(projection, place, &records, until)?;
        Ok(true)
    }

    /// Folds all projections; see [`project`](Self::project).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn project_all(&self) -> Result<(), StoreError> {
        for projection in cim_keys_core::projection::all() {
            self.project(projection)?;
        }
        Ok(())
    }

    /// Applies admitted events and writes the rows with the sequence that is reached by them, `until`, in one transaction.
    /// What was delivered may be acknowledged once this has said [`Projected::At`]. Records up to where it stands, which
    /// were delivered again, are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn fold(
        &self,
        projection: &dyn Projection,
        place: Place,
        records: &[Record],
        until: u64,
    ) -> Result<Projected, StoreError> {
        let new = || records.iter().filter(|record| record.sequence > place.sequence);
        let mut rows = Rows::default();
        self.read(|transaction| {
            for key in new().flat_map(|record| projection.scope(record)) {
                if !rows.knows(&key) {
                    let value = row(transaction, place.generation, &key)?;
                    rows.load(key, value);
                }
            }
            Ok(())
        })?;
        for record in new() {
            projection.apply(&mut rows, record);
        }
        let written = self.write_lazily(|transaction| {
            // Rows that were read before are these still: whoever writes some moves the sequence.
            let moved = transaction
                .prepare_cached(
                    "UPDATE projections SET sequence = ?3 WHERE generation = ?1 AND sequence = ?2
                     AND state IN ('live', 'building')",
                )?
                .execute(rusqlite::params![place.generation, place.sequence, until])?;
            if moved == 0 {
                return Ok(Projected::Stale);
            }
            let changes = rows.changes().map_err(|_| RowError::Damaged("a projection's scope"))?;
            write(transaction, place.generation, changes)?;
            crash::reach(Step::ProjectionWritten);
            Ok(Projected::At(Place { sequence: until, ..place }))
        })?;
        crash::reach(Step::ProjectionCommitted);
        Ok(written)
    }

    /// Admitted events behind a place, and the sequence that is reached by them.
    pub(super) fn portion(&self, place: Place) -> Result<(Vec<Record>, u64), StoreError> {
        self.registry_id()?;
        self.read(|transaction| {
            let look = |row: &rusqlite::Row<'_>| rows::text(row, 0);
            let progress = transaction.query_row("SELECT progress FROM state", [], look)?;
            let progress: Progress = rows::json(&progress)?;
            // What is unfinished may still become a command or an anomaly.
            let unfinished = u64::try_from(progress.assembler.unfinished()).unwrap_or(u64::MAX);
            let last = progress.head.saturating_sub(unfinished);
            let until = last.min(place.sequence.saturating_add(PORTION.into()));
            if until <= place.sequence {
                return Ok((Vec::new(), until));
            }
            let ignored: BTreeSet<u64> = views::anomalies(transaction, place.sequence, until)?
                .into_iter()
                .flat_map(|anomaly| anomaly.sequences)
                .collect();
            let entries = views::trail(transaction, (place.sequence, until), PORTION, READ_BYTES)?;
            let size: usize = entries.iter().map(|entry| entry.payload.len()).sum();
            let (mut records, mut next) = (Vec::new(), place.sequence);
            for entry in entries {
                next += 1;
                if entry.sequence != next {
                    return Err(RowError::Damaged("the trail"));
                }
                if !ignored.contains(&next) {
                    let record = Record::open(next, &entry.subject, &entry.headers, &entry.payload);
                    records.push(record.map_err(|_| RowError::Damaged("an admitted message"))?);
                }
            }
            // Large messages make a portion short, and nothing else does.
            if next == until || size >= READ_BYTES {
                Ok((records, next))
            } else {
                Err(RowError::Damaged("the trail"))
            }
        })
    }

    /// The projections that there are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn projections(&self) -> Result<Vec<Kept>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT name, version, sequence,
                     (SELECT count(*) FROM projection_rows AS r WHERE r.generation = p.generation)
                 FROM projections AS p WHERE state = 'live' ORDER BY name",
            )?;
            let mut found = statement.query([])?;
            let mut kept = Vec::new();
            while let Some(row) = found.next()? {
                let (name, version) = (rows::text(row, 0)?, row.get(1)?);
                kept.push(Kept { name, version, sequence: row.get(2)?, rows: row.get(3)? });
            }
            Ok(kept)
        })
    }

    /// How many of them are being made anew, or were until a process was ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn projections_building(&self) -> Result<u64, StoreError> {
        self.read(|transaction| {
            let query = "SELECT count(*) FROM projections WHERE state = 'building'";
            Ok(transaction.query_row(query, [], |row| row.get(0))?)
        })
    }

    /// A row's text.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn row(&self, projection: &dyn Projection, key: &Key) -> Result<Option<String>, StoreError> {
        self.read(|transaction| row(transaction, generation(transaction, projection)?, key))
    }

    /// At most so many rows of a range.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn rows(
        &self,
        projection: &dyn Projection,
        range: &Range,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(Key, String)>, StoreError> {
        self.read(|transaction| some(transaction, generation(transaction, projection)?, range, order, limit))
    }

    /// Erases some rows of what is not used any more. False where there is nothing left.
    pub(super) fn erase_dropped(&self) -> Result<bool, StoreError> {
        let look = "SELECT generation FROM projections WHERE state = 'dropped' LIMIT 1";
        let dropped = |transaction: &Transaction<'_>| {
            Ok(transaction.prepare_cached(look)?.query_row([], |row| row.get::<_, i64>(0)).optional()?)
        };
        if self.read(dropped)?.is_none() {
            return Ok(false);
        }
        self.write_lazily(|transaction| {
            let Some(generation) = dropped(transaction)? else { return Ok(false) };
            let erased = transaction.execute(
                "DELETE FROM projection_rows WHERE id IN (
                     SELECT id FROM projection_rows WHERE generation = ?1 LIMIT ?2)",
                (generation, ERASED),
            )?;
            if erased == 0 {
                transaction.execute("DELETE FROM projections WHERE generation = ?1", [generation])?;
            }
            Ok(true)
        })
    }
}

/// A live projection.
pub(super) struct Live {
    pub(super) version: u32,
    pub(super) place: Place,
}

pub(super) fn live(transaction: &Transaction<'_>, name: &str) -> Result<Option<Live>, RowError> {
    let mut statement = transaction.prepare_cached(
        "SELECT version, generation, sequence FROM projections WHERE name = ?1 AND state = 'live'",
    )?;
    let look = |row: &rusqlite::Row<'_>| {
        let place = Place { generation: row.get(1)?, sequence: row.get(2)? };
        Ok(Live { version: row.get(0)?, place })
    };
    Ok(statement.query_row([name], look).optional()?)
}

/// Which rows are read: none yet where nothing was folded.
pub(super) fn generation(
    transaction: &Transaction<'_>,
    projection: &dyn Projection,
) -> Result<i64, RowError> {
    let live = live(transaction, projection.name())?;
    Ok(live.filter(|live| live.version == projection.version()).map_or(0, |live| live.place.generation))
}

/// Begins a new set of rows.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    projection: &dyn Projection,
    state: &str,
) -> Result<Place, RowError> {
    transaction.execute(
        "INSERT INTO projections (name, version, sequence, state) VALUES (?1, ?2, 0, ?3)",
        (projection.name(), projection.version(), state),
    )?;
    Ok(Place { generation: transaction.last_insert_rowid(), sequence: 0 })
}

/// Lets all of them be made anew: the stream is another one than they were made from.
pub(super) fn drop_all(transaction: &Transaction<'_>) -> Result<(), RowError> {
    transaction.execute("UPDATE projections SET state = 'dropped'", [])?;
    Ok(())
}

pub(super) fn row(
    transaction: &Transaction<'_>,
    generation: i64,
    key: &Key,
) -> Result<Option<String>, RowError> {
    let mut statement =
        transaction.prepare_cached("SELECT value FROM projection_rows WHERE generation = ?1 AND key = ?2")?;
    Ok(statement.query_row((generation, key.as_str()), |row| rows::text(row, 0)).optional()?)
}

pub(super) fn some(
    transaction: &Transaction<'_>,
    generation: i64,
    range: &Range,
    order: Order,
    limit: u32,
) -> Result<Vec<(Key, String)>, RowError> {
    let direction = if order == Order::First { "ASC" } else { "DESC" };
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT key, value FROM projection_rows WHERE generation = ?1 AND key >= ?2 AND key < ?3
         ORDER BY key {direction} LIMIT ?4"
    ))?;
    let mut found = statement.query((generation, range.from.as_str(), range.until.as_str(), limit))?;
    let mut list = Vec::new();
    while let Some(row) = found.next()? {
        list.push((Key::stored(rows::text(row, 0)?), rows::text(row, 1)?));
    }
    Ok(list)
}

fn write(
    transaction: &Transaction<'_>,
    generation: i64,
    changes: Vec<(&Key, Option<&str>)>,
) -> Result<(), RowError> {
    let mut put = transaction.prepare_cached(
        "INSERT INTO projection_rows (generation, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (generation, key) DO UPDATE SET value = ?3",
    )?;
    let mut remove =
        transaction.prepare_cached("DELETE FROM projection_rows WHERE generation = ?1 AND key = ?2")?;
    for (key, value) in changes {
        match value {
            Some(value) => put.execute((generation, key.as_str(), value))?,
            None => remove.execute((generation, key.as_str()))?,
        };
    }
    Ok(())
}
