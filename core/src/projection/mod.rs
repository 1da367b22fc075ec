//! Read models: what admitted events make of rows, each a pure function of the stream's prefix.
//!
//! As a command names its scope, a projection names the rows that an event changes. The host loads those, the projection
//! changes them, and the host writes them together with the sequence that was reached. Nothing here depends on what a host
//! knows by itself, such as when a server stored a message: folded anywhere and at any time, rows are the same.

mod audit;
mod directory;
mod expiry;
mod memory;
mod record;
mod rows;

pub use audit::{Audit, Branch, Entry, tree};
pub use directory::{Directory, Version};
pub use expiry::{Expiring, Expiry};
pub use memory::Memory;
pub use record::Record;
pub use rows::{Key, Range, Rows, Unasked, number};

/// A read model.
pub trait Projection: Sync {
    /// Its name: lower-case letters.
    fn name(&self) -> &'static str;

    /// Moves when equal events give other rows than before: then all of them are made anew.
    fn version(&self) -> u32;

    /// The rows that [`apply`](Self::apply) reads for this event. What it only writes is not among them.
    fn scope(&self, record: &Record) -> Vec<Key>;

    /// Changes the rows. Total: an event that does not fit leaves them as they are.
    fn apply(&self, rows: &mut Rows, record: &Record);
}

use alloc::vec::Vec;

/// Every projection that a host keeps.
#[must_use]
pub fn all() -> [&'static dyn Projection; 3] {
    [&Directory, &Audit, &Expiry]
}
