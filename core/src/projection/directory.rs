//! Every entity as it is and as it ever was.
//!
//! | key | value |
//! | --- | --- |
//! | `now`, entity | the entity as it is, and since when |
//! | `was`, entity, sequence | as it was until before that sequence, and since when |
//! | `name`, name, entity | none: the entity has or had that name or label |
//! | `key`, public key, entity | none |

use super::{Key, Projection, Range, Record, Rows, number};
use crate::json;
use crate::nkey::PublicKey;
use crate::registry::{Entity, EntityId, entity_of, evolve};
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The directory of entities, with their history: the state at any sequence is one look-up in order for each entity.
#[derive(Clone, Copy, Debug)]
pub struct Directory;

/// An entity, and from which sequence on it is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Sequence of the last event of the command that left it so.
    pub since: u64,
    /// The entity.
    pub entity: Entity,
}

impl Directory {
    /// The row of an entity as it is.
    #[must_use]
    pub fn now(id: EntityId) -> Key {
        Key::of(&["now", &id.to_string()])
    }

    /// Rows of an entity as it was, of which the first one tells how it stood at a sequence, unless it is as it is now.
    #[must_use]
    pub fn was(id: EntityId, sequence: u64) -> Range {
        Range::numbers(&["was", &id.to_string()], sequence.saturating_add(1), u64::MAX)
    }

    /// How an entity stood at a sequence, by the texts of its rows [`now`](Self::now) and [`was`](Self::was); none where it
    /// was not there yet, or a row cannot be read.
    #[must_use]
    pub fn at(sequence: u64, now: &str, was: Option<&str>) -> Option<Version> {
        let there = |version: &Version| version.since <= sequence;
        let now = Self::version(now)?;
        if there(&now) { Some(now) } else { Self::version(was?).filter(there) }
    }

    /// A row's text as a version.
    #[must_use]
    pub fn version(text: &str) -> Option<Version> {
        json::from_text(text).ok()
    }

    /// Rows of the entities that have this name or label, or had it.
    #[must_use]
    pub fn named(name: &str) -> Range {
        Range::below(&["name", name])
    }

    /// Rows of the entities that have this public key.
    #[must_use]
    pub fn keyed(key: PublicKey) -> Range {
        Range::below(&["key", &key.to_string()])
    }

    /// Rows of all entities of a kind (`operator`, `account`, `user`, `key`) as they are.
    #[must_use]
    pub fn of_kind(kind: &str) -> Range {
        Range::beginning(&["now", &alloc::format!("{kind}:")])
    }

    /// Rows of an account's users as they are.
    #[must_use]
    pub fn users_of(account: PublicKey) -> Range {
        Range::beginning(&["now", &alloc::format!("user:{account}/")])
    }

    /// Which entity a row is of, `was` left out.
    #[must_use]
    pub fn entity(key: &Key) -> Option<EntityId> {
        key.last().parse().ok()
    }
}

impl Projection for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scope(&self, record: &Record) -> Vec<Key> {
        entity_of(&record.event).map(Self::now).into_iter().collect()
    }

    fn apply(&self, rows: &mut Rows, record: &Record) {
        let Some(id) = entity_of(&record.event) else { return };
        let before: Option<Version> = rows.read(&Self::now(id));
        let (old, since) = (before.as_ref().map(|before| before.entity.clone()), record.since());
        // Who never was is revoked by the account's token alone: nothing of it is kept.
        let Some(entity) = evolve(old, &record.event) else { return };
        let id_text = id.to_string();
        if let Some(before) = &before
            && before.entity == entity
        {
            return;
        }
        if let Some(before) = before.as_ref().filter(|before| before.since < since) {
            rows.write(Key::of(&["was", &id_text, &number(since)]), before);
        }
        let is_new = |old: &Version| old.entity.name() != entity.name();
        if before.as_ref().is_none_or(is_new) && !entity.name().is_empty() {
            rows.mark(Key::of(&["name", entity.name(), &id_text]));
        }
        if before.is_none() {
            rows.mark(Key::of(&["key", &entity.key().to_string(), &id_text]));
        }
        rows.write(Self::now(id), &Version { since, entity });
    }
}
