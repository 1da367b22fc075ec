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
    let query = if with_overlay {
        "SELECT body FROM entities WHERE id = ?1 ORDER BY position DESC LIMIT 1"
    } else {
        "SELECT body FROM entities WHERE id = ?1 AND position <= (SELECT settled FROM state)
         ORDER BY position DESC LIMIT 1"
    };
    let mut statement = transaction.prepare_cached(query)?;
    let body = statement.query_row([id.to_string()], |row| rows::text(row, 0)).optional()?;
    body.map(|body| rows::json(&body)).transpose()
}

fn holder(
    transaction: &Transaction<'_>,
    parent: PublicKey,
    name: &str,
    with_overlay: bool,
) -> Result<Option<EntityId>, RowError> {
    let query = if with_overlay {
        "SELECT id FROM entities WHERE parent = ?1 AND name = ?2 AND holds = 1 AND newest = 1"
    } else {
        "SELECT id FROM entities AS e
         WHERE parent = ?1 AND name = ?2 AND holds = 1 AND position <= (SELECT settled FROM state)
         AND NOT EXISTS (SELECT 1 FROM entities AS l WHERE l.id = e.id AND l.position > e.position
                         AND l.position <= (SELECT settled FROM state))"
    };
    let mut statement = transaction.prepare_cached(query)?;
    let parent = parent.to_string();
    let id = statement.query_row([parent.as_str(), name], |row| rows::text(row, 0)).optional()?;
    id.map(|id| rows::parse(&id)).transpose()
}

pub(super) fn recorded(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Recorded>, RowError> {
    let mut statement = transaction.prepare_cached("SELECT body FROM recorded WHERE command_id = ?1")?;
    let body = statement.query_row([id.as_bytes().as_slice()], |row| rows::text(row, 0)).optional()?;
    if let Some(body) = body {
        return Ok(Some(rows::json(&body)?));
    }
    let mut statement = transaction.prepare_cached(
        "SELECT attempt, command_hash, draft_hash, authority, first, count FROM journal
         WHERE command_id = ?1 AND state = 'confirmed'",
    )?;
    let mut found = statement.query([id.as_bytes().as_slice()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let first: u64 = row.get(4)?;
    Ok(Some(Recorded {
        command_id: id,
        attempt: row.get(0)?,
        command_hash: rows::parse(&rows::text(row, 1)?)?,
        draft_hash: rows::parse(&rows::text(row, 2)?)?,
        authority: rows::parse(&rows::text(row, 3)?)?,
        first,
        last: (first + row.get::<_, u64>(5)?).saturating_sub(1),
        voided: Vec::new(),
    }))
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
