//! Makes a projection's rows anew, beside those that are live, compares the two, and lets the new ones take their place.

use super::error::RowError;
use super::projection::{self, Order, Place, Projected};
use super::{Store, StoreError};
use crate::crash::{self, Step};
use cim_keys_core::projection::{Key, Projection, Range};
use rusqlite::Transaction;

/// Rows that are compared at a time.
const PAGE: u32 = 1000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// The sequence up to which rows were compared.
    pub sequence: u64,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differed.
    pub differences: u64,
    /// Whether the new rows are live now.
    pub swapped: bool,
}

/// A row that is not what the stream says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Its key, the parts with blanks between.
    pub key: String,
    /// Its text as it was kept; none where there was no such row.
    pub kept: Option<String>,
    /// As the stream says; none where there should be no such row.
    pub rebuilt: Option<String>,
}

impl Store {
    /// Folds a projection from the first sequence again, compares it with the live one, of which each difference is told,
    /// and lets it take that one's place, unless it is only to be `checked`. Whenever it is ended, the live one stays, or
    /// the new one has taken its place whole.
    ///
    /// # Errors
    /// See [`StoreError`]. [`StoreError::Busy`] where another process makes it anew at the same time.
    pub fn rebuild(
        &self,
        projection: &dyn Projection,
        checked: bool,
        mut tell: impl FnMut(Difference),
    ) -> Result<Rebuilt, StoreError> {
        self.project(projection)?;
        let mut new = self.write_lazily(|transaction| {
            // What was begun and not ended is of no use; whoever is at it notices.
            transaction.execute(
                "UPDATE projections SET state = 'dropped' WHERE name = ?1 AND state = 'building'",
                [projection.name()],
            )?;
            projection::begin(transaction, projection, "building")
        })?;
        let mut rebuilt = loop {
            let live = self.place(projection)?;
            new = self.reach(projection, new, live.sequence)?;
            if let Some(rebuilt) = self.compare(live, new, &mut tell)? {
                break rebuilt;
            }
            self.project(projection)?;
        };
        crash::reach(Step::ProjectionRebuilt);
        if checked {
            self.write_lazily(|transaction| {
                transaction.execute(
                    "UPDATE projections SET state = 'dropped' WHERE generation = ?1 AND state = 'building'",
                    [new.generation],
                )?;
                Ok(())
            })?;
        } else {
            // The live one may go on meanwhile: it is not fallen behind.
            while !self.swap(projection, new)? {
                let live = self.place(projection)?;
                new = self.reach(projection, new, live.sequence)?;
            }
            rebuilt.swapped = true;
        }
        while self.erase_dropped()? {}
        Ok(rebuilt)
    }

    /// Folds new rows up to a sequence.
    fn reach(&self, projection: &dyn Projection, mut new: Place, until: u64) -> Result<Place, StoreError> {
        while new.sequence < until {
            let (mut records, mut reached) = self.portion(new)?;
            if reached <= new.sequence {
                // The stream went back, and all is made anew.
                return Err(self.overtaken());
            }
            if reached > until {
                records.retain(|record| record.sequence <= until);
                reached = until;
            }
            match self.fold(projection, new, &records, reached)? {
                Projected::At(place) => new = place,
                Projected::Stale => return Err(self.overtaken()),
            }
        }
        Ok(new)
    }

    fn overtaken(&self) -> StoreError {
        StoreError::Overtaken { path: self.path.clone() }
    }

    /// Compares rows of one sequence. None where the live ones are of another one by now.
    fn compare(
        &self,
        live: Place,
        new: Place,
        tell: &mut impl FnMut(Difference),
    ) -> Result<Option<Rebuilt>, StoreError> {
        if live.sequence != new.sequence {
            return Ok(None);
        }
        self.read(|transaction| {
            if !is_at(transaction, live)? {
                return Ok(None);
            }
            let mut rebuilt = Rebuilt { sequence: live.sequence, rows: 0, differences: 0, swapped: false };
            let (mut ours, mut theirs) =
                (Cursor::new(transaction, live.generation), Cursor::new(transaction, new.generation));
            let (mut kept, mut other) = (ours.next()?, theirs.next()?);
            while kept.is_some() || other.is_some() {
                rebuilt.rows += 1;
                let order = match (&kept, &other) {
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                    (Some(_), None) => std::cmp::Ordering::Less,
                    _ => std::cmp::Ordering::Greater,
                };
                let left = if order.is_le() { std::mem::replace(&mut kept, ours.next()?) } else { None };
                let right = if order.is_ge() { std::mem::replace(&mut other, theirs.next()?) } else { None };
                if left != right {
                    rebuilt.differences += 1;
                    let key = left.as_ref().or(right.as_ref()).map(|(key, _)| shown(key));
                    tell(Difference {
                        key: key.unwrap_or_default(),
                        kept: left.map(|(_, value)| value),
                        rebuilt: right.map(|(_, value)| value),
                    });
                }
            }
            Ok(Some(rebuilt))
        })
    }

    /// False where the live rows are further than the new ones.
    fn swap(&self, projection: &dyn Projection, new: Place) -> Result<bool, StoreError> {
        let swapped = self.write_lazily(|transaction| {
            if !is_at(transaction, new)? {
                return Ok(None);
            }
            let live = projection::live(transaction, projection.name())?;
            if live.is_some_and(|live| live.place.sequence > new.sequence) {
                return Ok(Some(false));
            }
            transaction.execute(
                "UPDATE projections SET state = 'dropped' WHERE name = ?1 AND state = 'live'",
                [projection.name()],
            )?;
            transaction.execute(
                "UPDATE projections SET state = 'live' WHERE generation = ?1 AND state = 'building'",
                [new.generation],
            )?;
            crash::reach(Step::ProjectionSwapped);
            Ok(Some(true))
        })?;
        swapped.ok_or_else(|| self.overtaken())
    }
}

/// Whether a set of rows is in use and of this sequence.
fn is_at(transaction: &Transaction<'_>, place: Place) -> Result<bool, RowError> {
    let query = "SELECT EXISTS (SELECT 1 FROM projections
         WHERE generation = ?1 AND sequence = ?2 AND state IN ('live', 'building'))";
    let found = transaction
        .query_row(query, rusqlite::params![place.generation, place.sequence], |row| row.get::<_, bool>(0));
    Ok(found?)
}

/// Goes over all rows of a generation.
struct Cursor<'a> {
    transaction: &'a Transaction<'a>,
    generation: i64,
    rest: Range,
    page: std::vec::IntoIter<(Key, String)>,
}

impl<'a> Cursor<'a> {
    fn new(transaction: &'a Transaction<'a>, generation: i64) -> Self {
        Self { transaction, generation, rest: Range::beginning(&[""]), page: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<(Key, String)>, RowError> {
        if self.page.as_slice().is_empty() {
            let page = projection::some(self.transaction, self.generation, &self.rest, Order::First, PAGE)?;
            if let Some((last, _)) = page.last() {
                self.rest = self.rest.after(last);
            }
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

fn shown(key: &Key) -> String {
    key.as_str().replace('\u{1f}', " ")
}
