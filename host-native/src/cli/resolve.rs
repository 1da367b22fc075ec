//! From what was typed to keys: a name or a public key, exactly.

use super::exit::{CliError, Exit};
use crate::error::KeyError;
use crate::store::Store;
use cim_keys_core::nkey::{KeyError as NkeyError, Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Key, Lookup, User};

/// An account by its name or public key.
pub(super) fn account(store: &Store, text: &str) -> Result<Account, CliError> {
    let id = match key_of(text, Kind::Account)? {
        Some(key) => Some(EntityId::Account(key)),
        None => named(store, operator(store)?, text)?,
    };
    let found = match id {
        Some(id) => one(store, id)?,
        None => None,
    };
    match found {
        Some(Entity::Account(account)) => Ok(account),
        _ => Err(unknown_account(store, text)?),
    }
}

/// A user of an account by its name or public key.
pub(super) fn user(store: &Store, account: &Account, text: &str) -> Result<User, CliError> {
    let id = match key_of(text, Kind::User)? {
        Some(user) => Some(EntityId::User { account: account.key, user }),
        None => named(store, account.key, text)?,
    };
    let found = match id {
        Some(id) => one(store, id)?,
        None => None,
    };
    if let Some(Entity::User(user)) = found {
        return Ok(user);
    }
    let name = &account.token.claims().name;
    let error = CliError::new(Exit::NotFound, "unknown-user", format!("account {name} has no user {text:?}"));
    // Only live users hold their names; a revoked one is found by its key alone.
    let revoked =
        store.by_name(text).map_err(KeyError::from)?.into_iter().find_map(|listed| match listed.entity {
            Entity::User(user) if user.account == account.key && user.revoked_at.is_some() => Some(user.key),
            _ => None,
        });
    Err(match revoked {
        Some(key) => error.hint(format!("a user of this name was revoked: name it by its key {key}")),
        None => error.hint(format!("`cim-keys list users --account {name}` shows them")),
    })
}

/// The operator, an account or a signing, curve or free key: by public key, name or label.
pub(super) fn key(store: &Store, text: &str) -> Result<Key, CliError> {
    let found: Vec<Key> = match parsed(text)? {
        Some(key) => one(store, EntityId::Key(key))?.into_iter().filter_map(of_kind).collect(),
        None => store
            .by_name(text)
            .map_err(KeyError::from)?
            .into_iter()
            .filter_map(|listed| of_kind(listed.entity))
            .collect(),
    };
    let live: Vec<Key> = found.iter().filter(|key| key.revoked_at.is_none()).cloned().collect();
    let mut fitting = if live.is_empty() { found } else { live };
    match (fitting.pop(), fitting.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(key), false) => {
            let all: Vec<String> = fitting.iter().chain([&key]).map(|key| key.key.to_string()).collect();
            Err(CliError::new(Exit::Conflict, "ambiguous", format!("several keys are called {text:?}"))
                .hint(format!("name one by its public key: {}", all.join(", "))))
        }
        (None, _) => Err(CliError::new(Exit::NotFound, "unknown-key", format!("there is no key {text:?}"))
            .hint("`cim-keys key list` shows them")),
    }
}

/// Whom a signing key signs for: `operator`, or an account.
pub(super) fn owner(store: &Store, text: &str) -> Result<PublicKey, CliError> {
    let operator = operator(store)?;
    if text == "operator" || parsed(text)? == Some(operator) {
        return Ok(operator);
    }
    Ok(account(store, text)?.key)
}

pub(super) fn operator(store: &Store) -> Result<PublicKey, CliError> {
    Ok(store.registry_id().map_err(KeyError::from)?.operator)
}

/// A public key, where the text is one. A seed is refused without being repeated.
pub(super) fn parsed(text: &str) -> Result<Option<PublicKey>, CliError> {
    match text.parse::<PublicKey>() {
        Ok(key) => Ok(Some(key)),
        Err(error @ NkeyError::Seed) => Err(CliError::new(Exit::Validation, error.code(), error.to_string())
            .hint("it may stand in your shell's history now: revoke it, and make a new key")),
        // 56 characters of the right alphabet were meant as a key.
        Err(error @ (NkeyError::Checksum | NkeyError::Prefix { .. })) => {
            Err(CliError::new(Exit::Validation, error.code(), error.to_string()))
        }
        Err(_) => Ok(None),
    }
}

fn key_of(text: &str, kind: Kind) -> Result<Option<PublicKey>, CliError> {
    let Some(key) = parsed(text)? else { return Ok(None) };
    let key = key
        .of_kind(kind)
        .map_err(|error| CliError::new(Exit::Validation, error.code(), error.to_string()))?;
    Ok(Some(key))
}

fn named(store: &Store, parent: PublicKey, name: &str) -> Result<Option<EntityId>, CliError> {
    let lookup = Lookup::Name { parent, name: name.to_owned() };
    let (facts, _) = store.facts(&[lookup], true).map_err(KeyError::from)?;
    Ok(facts.name(parent, name).ok().flatten())
}

fn one(store: &Store, id: EntityId) -> Result<Option<Entity>, CliError> {
    let (facts, _) = store.facts(&[Lookup::Entity(id)], true).map_err(KeyError::from)?;
    Ok(facts.entity(id).ok().flatten().cloned())
}

fn of_kind(entity: Entity) -> Option<Key> {
    match entity {
        Entity::Key(key) => Some(key),
        _ => None,
    }
}

fn unknown_account(store: &Store, text: &str) -> Result<CliError, CliError> {
    let accounts = store.accounts().map_err(KeyError::from)?;
    let names: Vec<&str> = accounts.iter().map(|listed| listed.entity.name()).collect();
    let error = CliError::new(Exit::NotFound, "unknown-account", format!("there is no account {text:?}"));
    let close = close(text, &names);
    let error =
        if close.is_empty() { error } else { error.hint(format!("did you mean {}?", close.join(" or "))) };
    Ok(error.hint("`cim-keys list accounts` shows them"))
}

/// Names that differ by little: at most three, nearest first.
pub(super) fn close(text: &str, names: &[&str]) -> Vec<String> {
    let typed = text.to_lowercase();
    let limit = (typed.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(&typed, &name.to_lowercase()), *name))
        .filter(|(far, _)| *far <= limit)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (place, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[place + 1];
            row[place + 1] = replaced.min(corner + 1).min(row[place] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered() {
        assert_eq!(close("ORDER", &["ORDERS", "SYS", "order"]), ["order", "ORDERS"]);
        assert!(close("X", &["KEYS", "KEYS_EDGE", "SYS"]).is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
