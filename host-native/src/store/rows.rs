//! Between rows and values.

use super::error::RowError;
use cim_keys_core::json;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::Entity;
use rusqlite::{Row, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::str::FromStr;
use uuid::Uuid;

pub(super) fn text(row: &Row<'_>, place: usize) -> rusqlite::Result<String> {
    row.get(place)
}

pub(super) fn parse<T: FromStr>(text: &str) -> Result<T, RowError> {
    text.parse().map_err(|_| RowError::Damaged("a key or name"))
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, RowError> {
    json::from_text(text).map_err(|_| RowError::Damaged("a record"))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, RowError> {
    json::to_text(value).map_err(|_| RowError::Damaged("a record to be written"))
}

pub(super) fn uuid(row: &Row<'_>, place: usize) -> Result<Uuid, RowError> {
    let bytes: Vec<u8> = row.get(place)?;
    Uuid::from_slice(&bytes).map_err(|_| RowError::Damaged("a command id"))
}

/// Writes an entity as the stream says that it is at `head`.
pub(super) fn put_entity(
    transaction: &Transaction<'_>,
    entity: &Entity,
    operator: PublicKey,
) -> Result<(), RowError> {
    let id = entity.id().to_string();
    transaction
        .prepare_cached("DELETE FROM entities WHERE id = ?1 AND position <= (SELECT settled FROM state)")?
        .execute([&id])?;
    let pending = transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM entities WHERE id = ?1)")?
        .query_row([&id], |row| row.get::<_, bool>(0))?;
    insert(transaction, &id, 0, !pending, entity, operator)
}

/// Writes an entity as the command at this place of the journal leaves it: behind all that are there.
pub(super) fn put_overlay(
    transaction: &Transaction<'_>,
    position: u64,
    entity: &Entity,
    operator: PublicKey,
) -> Result<(), RowError> {
    let id = entity.id().to_string();
    let before = transaction
        .prepare_cached("UPDATE entities SET newest = 0 WHERE id = ?1 AND newest = 1")?
        .execute([&id])?;
    if before > 0 {
        // Of those at head only the last one counts.
        transaction
            .prepare_cached(
                "DELETE FROM entities WHERE id = ?1 AND position < (
                     SELECT max(position) FROM entities WHERE id = ?1 AND position <= (SELECT settled FROM state))",
            )?
            .execute([&id])?;
    }
    insert(transaction, &id, position, true, entity, operator)
}

/// Forgets what commands up to a place left in the overlay, or all of it, and writes this instead.
pub(super) fn replace_overlay(
    transaction: &Transaction<'_>,
    until: Option<u64>,
    entities: &[(u64, Entity)],
    operator: PublicKey,
) -> Result<(), RowError> {
    let until = i64::try_from(until.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(
        "SELECT DISTINCT id FROM entities WHERE position > (SELECT settled FROM state) AND position <= ?1",
    )?;
    let mut ids: BTreeSet<String> =
        statement.query_map([until], |row| text(row, 0))?.collect::<Result<_, _>>()?;
    transaction
        .prepare_cached(
            "DELETE FROM entities WHERE position > (SELECT settled FROM state) AND position <= ?1",
        )?
        .execute([until])?;
    for (position, entity) in entities {
        let id = entity.id().to_string();
        insert(transaction, &id, *position, false, entity, operator)?;
        ids.insert(id);
    }
    let mut statement = transaction.prepare_cached(
        "UPDATE entities SET newest = (position = (SELECT max(position) FROM entities WHERE id = ?1))
         WHERE id = ?1",
    )?;
    for id in &ids {
        statement.execute([id])?;
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    id: &str,
    position: u64,
    newest: bool,
    entity: &Entity,
    operator: PublicKey,
) -> Result<(), RowError> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO entities (id, position, newest, kind, key, parent, name, holds, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    statement.execute(rusqlite::params![
        id,
        position,
        newest,
        kind(entity),
        entity.key().to_string(),
        entity.parent(operator).map(|parent| parent.to_string()),
        entity.name(),
        entity.holds_name(operator).is_some(),
        to_json(entity)?,
    ])?;
    Ok(())
}

fn kind(entity: &Entity) -> &'static str {
    match entity {
        Entity::Operator(_) => "operator",
        Entity::Account(_) => "account",
        Entity::User(_) => "user",
        Entity::Key(_) => "key",
    }
}
