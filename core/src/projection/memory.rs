//! A projection's rows in memory: for hosts without a database, and for tests.

use super::{Key, Projection, Range, Record, Rows, Unasked};
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Rows and the sequence that they have reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    rows: BTreeMap<Key, String>,
    reached: u64,
}

impl Memory {
    /// The last sequence that was folded.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// A row's text.
    #[must_use]
    pub fn row(&self, key: &Key) -> Option<&str> {
        self.rows.get(key).map(String::as_str)
    }

    /// Rows of a range, in order.
    pub fn rows(&self, range: &Range) -> impl DoubleEndedIterator<Item = (&Key, &str)> + use<'_> {
        self.rows.range(range.from.clone()..range.until.clone()).map(|(key, value)| (key, value.as_str()))
    }

    /// All rows, in order.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.rows.iter().map(|(key, value)| (key, value.as_str()))
    }

    /// Folds an event, unless it was folded before.
    ///
    /// # Errors
    /// The projection's scope is incomplete: nothing was changed.
    pub fn fold(&mut self, projection: &dyn Projection, record: &Record) -> Result<(), Unasked> {
        if record.sequence <= self.reached {
            return Ok(());
        }
        let mut rows = Rows::default();
        for key in projection.scope(record) {
            let value = self.rows.get(&key).cloned();
            rows.load(key, value);
        }
        projection.apply(&mut rows, record);
        for (key, value) in rows.changes()? {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.into()),
                None => self.rows.remove(key),
            };
        }
        self.reached = record.sequence;
        Ok(())
    }
}
