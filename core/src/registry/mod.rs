//! One operator's entities, a pure function of one stream's prefix.

mod entity;
mod facts;
mod memory;

pub(crate) use entity::entity_of;
pub use entity::{Account, Entity, EntityId, EntityIdError, Issued, Key, Operator, User, evolve};
pub(crate) use facts::voided;
pub use facts::{Facts, Lookup, Missing, Recorded};
pub use memory::Registry;
