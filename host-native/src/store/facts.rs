//! Answers look-ups, each by an index: the same cost with ten users or a million.

use super::commit::Revision;
use super::error::RowError;
use super::{Store, StoreError, rows};
use cim_keys_core::context::RegistryId;
use cim_keys_core::journal::{Own, State};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, EntityId, Facts, Lookup, Recorded};
use rusqlite::{OptionalExtension as _, Transaction};
use uuid::Uuid;

impl Store {
    /// Answers look-ups on the state at `head`, or with the overlay of pending commands over it; and the revision that
    /// was read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn facts(&self, lookups: &[Lookup], with_overlay: bool) -> Result<(Facts, Revision), StoreError> {
        let registry = self.registry_id()?;
        self.read(|transaction| {
            Ok((facts(transaction, registry, lookups, with_overlay)?, Revision::read(transaction)?))
        })
    }

    /// Answers the sync machine's look-ups: the state at `head`, and what the journal knows of the commands among them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn sync_facts(&self, lookups: &[Lookup]) -> Result<(Facts, Vec<Own>), StoreError> {
        let registry = self.registry_id()?;
        let ids: Vec<Uuid> = lookups
            .iter()
            .filter_map(|lookup| match lookup {
                Lookup::Command(id) => Some(*id),
                Lookup::Entity(_) | Lookup::Name { .. } => None,
            })
            .collect();
        self.read(|transaction| Ok((facts(transaction, registry, lookups, false)?, own(transaction, &ids)?)))
    }

    /// What the journal knows of these commands. Those that are not ours are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn own(&self, ids: &[Uuid]) -> Result<Vec<Own>, StoreError> {
        self.read(|transaction| own(transaction, ids))
    }
}

pub(super) fn facts(
    transaction: &Transaction<'_>,
    registry: &RegistryId,
    lookups: &[Lookup],
    with_overlay: bool,
) -> Result<Facts, RowError> {
    let mut facts = Facts::new(registry.clone());
    for lookup in lookups {
        match lookup {
            Lookup::Entity(id) => facts.put_entity(*id, entity(transaction, *id, with_overlay)?),
            Lookup::Name { parent, name } => {
                facts.put_name(*parent, name.clone(), holder(transaction, *parent, name, with_overlay)?);
            }
            Lookup::Command(id) => facts.put_command(*id, recorded(transaction, *id)?),
        }
    }
    Ok(facts)
}

fn entity(
    transaction: &Transaction<'_>,
    id: EntityId,
    with_overlay: bool,
) -> Result<Option<Entity>, RowError> {
    let id = id.to_string();
    let one = |query: &str| -> Result<Option<Entity>, RowError> {
        let mut statement = transaction.prepare_cached(query)?;
        let body = statement.query_row([&id], |row| rows::text(row, 0)).optional()?;
        body.map(|body| rows::json(&body)).transpose()
    };
    if with_overlay && let Some(entity) = one("SELECT body FROM overlay WHERE id = ?1")? {
        return Ok(Some(entity));
    }
    one("SELECT body FROM entities WHERE id = ?1")
}

fn holder(
    transaction: &Transaction<'_>,
    parent: PublicKey,
    name: &str,
    with_overlay: bool,
) -> Result<Option<EntityId>, RowError> {
    let parent = parent.to_string();
    let one = |query: &str| -> Result<Option<EntityId>, RowError> {
        let mut statement = transaction.prepare_cached(query)?;
        let id = statement.query_row([parent.as_str(), name], |row| rows::text(row, 0)).optional()?;
        id.map(|id| rows::parse(&id)).transpose()
    };
    if !with_overlay {
        return one("SELECT id FROM entities WHERE parent = ?1 AND name = ?2 AND holds = 1");
    }
    if let Some(id) = one("SELECT id FROM overlay WHERE parent = ?1 AND name = ?2 AND holds = 1")? {
        return Ok(Some(id));
    }
    // An overlaid entity holds what its overlay says.
    one("SELECT id FROM entities AS e WHERE parent = ?1 AND name = ?2 AND holds = 1
         AND NOT EXISTS (SELECT 1 FROM overlay AS o WHERE o.id = e.id)")
}

fn recorded(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Recorded>, RowError> {
    let mut statement = transaction.prepare_cached("SELECT body FROM recorded WHERE command_id = ?1")?;
    let body = statement.query_row([id.as_bytes().as_slice()], |row| rows::text(row, 0)).optional()?;
    body.map(|body| rows::json(&body)).transpose()
}

pub(super) fn own(transaction: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<Own>, RowError> {
    let mut statement = transaction.prepare_cached(
        "SELECT position, state, draft_hash, command_hash, authority FROM journal WHERE command_id = ?1",
    )?;
    let mut known = Vec::new();
    for id in ids {
        let mut found = statement.query([id.as_bytes().as_slice()])?;
        if let Some(row) = found.next()? {
            known.push(Own {
                command_id: *id,
                position: row.get(0)?,
                state: state(&rows::text(row, 1)?)?,
                draft_hash: rows::parse(&rows::text(row, 2)?)?,
                command_hash: rows::parse(&rows::text(row, 3)?)?,
                authority: rows::parse(&rows::text(row, 4)?)?,
            });
        }
    }
    Ok(known)
}

pub(super) fn state(text: &str) -> Result<State, RowError> {
    match text {
        "pending" => Ok(State::Pending),
        "held" => Ok(State::Held),
        "confirmed" => Ok(State::Confirmed),
        "settled" => Ok(State::Settled),
        "dropped" => Ok(State::Dropped),
        _ => Err(RowError::Damaged("the state of a command")),
    }
}
