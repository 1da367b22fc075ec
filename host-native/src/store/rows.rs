//! Between rows and values.

use super::error::RowError;
use cim_keys_core::json;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::Entity;
use rusqlite::{Row, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// Writes an entity as it is at `head`.
pub(super) fn put_entity(
    transaction: &Transaction<'_>,
    entity: &Entity,
    operator: PublicKey,
) -> Result<(), RowError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO entities (id, kind, key, parent, name, holds, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET parent = ?4, name = ?5, holds = ?6, body = ?7",
    )?;
    statement.execute(rusqlite::params![
        entity.id().to_string(),
        kind(entity),
        entity.key().to_string(),
        entity.parent(operator).map(|parent| parent.to_string()),
        entity.name(),
        entity.holds_name(operator).is_some(),
        to_json(entity)?,
    ])?;
    Ok(())
}

/// Writes an entity as the pending command at this place leaves it.
pub(super) fn put_overlay(
    transaction: &Transaction<'_>,
    position: u64,
    entity: &Entity,
    operator: PublicKey,
) -> Result<(), RowError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO overlay (id, kind, key, parent, name, holds, body, position) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET parent = ?4, name = ?5, holds = ?6, body = ?7, position = ?8",
    )?;
    statement.execute(rusqlite::params![
        entity.id().to_string(),
        kind(entity),
        entity.key().to_string(),
        entity.parent(operator).map(|parent| parent.to_string()),
        entity.name(),
        entity.holds_name(operator).is_some(),
        to_json(entity)?,
        position,
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
