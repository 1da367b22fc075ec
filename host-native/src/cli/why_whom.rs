//! Whom a question of `why` concerns: the registry as it is, or as it was.

use super::at::At;
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::resolve;
use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::Directory;
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup, Operator, User};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// Users that are in memory at once.
const PORTION: u32 = 500;

/// Whom a question concerns.
#[derive(Clone, Debug)]
pub(super) struct Concerned {
    pub(super) operator: Operator,
    pub(super) account: Account,
    pub(super) user: User,
    /// Whether the stream has all of it so.
    pub(super) confirmed: bool,
}

/// An account and its operator, and whether the stream has both so.
type Parents = (Operator, Account, bool);

/// The registry that is asked. What was read of accounts is kept for the next user.
pub(super) struct Snapshot<'a> {
    store: &'a Store,
    /// Where in the past; none for how it is now, pending commands included.
    at: Option<At>,
    parents: BTreeMap<PublicKey, Parents>,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(store: &'a Store, at: Option<At>) -> Self {
        Self { store, at, parents: BTreeMap::new() }
    }

    /// An account by its name or public key.
    pub(super) fn account(&self, text: &str) -> Result<Account, CliError> {
        match &self.at {
            Some(at) => at.account(self.store, text),
            None => resolve::account(self.store, text),
        }
    }

    /// The one user of this name, or of this key.
    pub(super) fn user(
        &self,
        account: Option<&str>,
        user: &str,
        globals: &Globals,
    ) -> Result<Listed, CliError> {
        let account = account.map(|account| self.account(account)).transpose()?.map(|account| account.key);
        let mut found = match &self.at {
            Some(at) => then(self.store, at, account, user)?,
            None => now(self.store, account, user)?,
        };
        match (found.pop(), found.is_empty()) {
            (Some(listed), true) => Ok(listed),
            (Some(listed), false) => {
                let all: Vec<String> =
                    found.iter().chain([&listed]).map(|l| l.entity.id().to_string()).collect();
                let told =
                    CliError::new(Exit::Conflict, "ambiguous", format!("several users are called {user:?}"));
                Err(told.hint(format!(
                    "name the account with --account, or the user by its key: {}",
                    all.join(", ")
                )))
            }
            (None, _) => Err(match &self.at {
                Some(at) => was_not(self.store, at, account, user, globals)?,
                None => CliError::new(Exit::NotFound, "unknown-user", format!("there is no user {user:?}"))
                    .hint("`cim-keys list users` shows them"),
            }),
        }
    }

    /// All users, or those of an account, one after another, until `take` says false.
    pub(super) fn each_user(
        &mut self,
        account: Option<PublicKey>,
        mut take: impl FnMut(&Concerned) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let Some(at) = self.at else {
            let mut after = None;
            loop {
                let portion = self.store.users_after(account, after, PORTION).map_err(KeyError::from)?;
                let Some(last) = portion.last() else { return Ok(()) };
                after = Some(last.entity.id());
                for listed in portion {
                    if !take(&self.concerned(listed)?)? {
                        return Ok(());
                    }
                }
            }
        };
        let range = account.map_or_else(|| Directory::of_kind("user"), Directory::users_of);
        let (store, mut outcome) = (self.store, Ok(()));
        let mut one = |entity| take(&self.concerned(Listed { entity, pending: None })?);
        let each = store.each_at(&range, at.sequence, |version| {
            one(version.entity).unwrap_or_else(|error| {
                outcome = Err(error);
                false
            })
        });
        each.map_err(KeyError::from)?;
        outcome
    }

    /// The user, its account and the operator.
    pub(super) fn concerned(&mut self, listed: Listed) -> Result<Concerned, CliError> {
        let Listed { entity: Entity::User(user), pending } = listed else {
            return Err(CliError::unexpected(&"the entity is no user"));
        };
        let (store, at) = (self.store, self.at);
        let (operator, account, confirmed) = match self.parents.entry(user.account) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(slot) => slot.insert(match at {
                Some(at) => parents_then(store, at, user.account)?,
                None => parents_now(store, user.account)?,
            }),
        }
        .clone();
        Ok(Concerned { operator, account, user, confirmed: confirmed && pending.is_none() })
    }
}

/// Users of this name or key as they are. Each account is asked by its index of names, so that a registry's size does not
/// matter.
fn now(store: &Store, account: Option<PublicKey>, user: &str) -> Result<Vec<Listed>, CliError> {
    let mut found = match resolve::parsed(user)? {
        Some(key) => store.by_key(key).map_err(KeyError::from)?,
        None => live(store, account, user)?,
    };
    found.retain(|listed| is_of(&listed.entity, account));
    if found.is_empty() {
        // Who was revoked holds its name no more.
        found = store.by_name(user).map_err(KeyError::from)?;
        found.retain(|listed| is_of(&listed.entity, account));
    }
    Ok(found)
}

/// Users of this name or key as they were; who was revoked holds its name no more where somebody else had it then.
fn then(store: &Store, at: &At, account: Option<PublicKey>, user: &str) -> Result<Vec<Listed>, CliError> {
    let found = at.called(store, user)?.into_iter();
    let mut found: Vec<Listed> = found
        .filter(|version| is_of(&version.entity, account))
        .map(|version| Listed { entity: version.entity, pending: None })
        .collect();
    if found.iter().any(|listed| listed.entity.revoked_at().is_none()) {
        found.retain(|listed| listed.entity.revoked_at().is_none());
    }
    Ok(found)
}

/// Nobody was called so: when somebody was, where that is known.
fn was_not(
    store: &Store,
    at: &At,
    account: Option<PublicKey>,
    user: &str,
    globals: &Globals,
) -> Result<CliError, CliError> {
    let (sequence, again) = (at.sequence, globals.again());
    let text = format!("there was no user {user:?} at sequence {sequence}");
    let error = CliError::new(Exit::NotFound, "unknown-user", text);
    let ever = match resolve::parsed(user)? {
        Some(key) => store.ever_keyed(key),
        None => store.ever_named(user),
    };
    let mut first: Option<u64> = None;
    for id in ever.map_err(KeyError::from)? {
        if matches!(id, EntityId::User { account: of, .. } if account.is_none_or(|account| account == of)) {
            let since = store.first_at(id).map_err(KeyError::from)?;
            first = [first, since].into_iter().flatten().min();
        }
    }
    if let Some(first) = first {
        return Ok(
            error.hint(format!("it is there from sequence {first} on: ask with --at {first}, or later"))
        );
    }
    let waits = now(store, account, user)?;
    Ok(if waits.is_empty() {
        error.hint(format!("`cim-keys{again} list users --at {sequence}` shows who was there"))
    } else {
        error.hint(format!(
            "it is pending: leave --at out, or publish it with `cim-keys{again} sync` and ask for where it stands then"
        ))
    })
}

fn is_of(entity: &Entity, account: Option<PublicKey>) -> bool {
    matches!(entity, Entity::User(user) if account.is_none_or(|account| account == user.account))
}

/// Users who hold this name, in one account or in any.
fn live(store: &Store, account: Option<PublicKey>, name: &str) -> Result<Vec<Listed>, CliError> {
    let accounts = match account {
        Some(account) => vec![account],
        None => {
            let listed = store.accounts().map_err(KeyError::from)?;
            listed.iter().map(|listed| listed.entity.key()).collect()
        }
    };
    let lookup = |parent: &PublicKey| Lookup::Name { parent: *parent, name: name.to_owned() };
    let lookups: Vec<Lookup> = accounts.iter().map(lookup).collect();
    let (facts, _) = store.facts(&lookups, true).map_err(KeyError::from)?;
    let mut found = Vec::new();
    for account in accounts {
        if let Ok(Some(EntityId::User { account, user })) = facts.name(account, name) {
            let listed = store.by_key(user).map_err(KeyError::from)?.into_iter();
            found.extend(listed.filter(|l| l.entity.id() == EntityId::User { account, user }));
        }
    }
    Ok(found)
}

/// Account and operator as pending commands leave them.
fn parents_now(store: &Store, account: PublicKey) -> Result<Parents, CliError> {
    let operator = EntityId::Operator(resolve::operator(store)?);
    let account = EntityId::Account(account);
    let lookups = [Lookup::Entity(operator), Lookup::Entity(account)];
    let (now, _) = store.facts(&lookups, true).map_err(KeyError::from)?;
    let (stream, _) = store.facts(&lookups, false).map_err(KeyError::from)?;
    let confirmed =
        now.entity(operator) == stream.entity(operator) && now.entity(account) == stream.entity(account);
    match (now.entity(operator), now.entity(account)) {
        (Ok(Some(Entity::Operator(o))), Ok(Some(Entity::Account(a)))) => {
            Ok((o.clone(), a.clone(), confirmed))
        }
        _ => Err(no_account()),
    }
}

/// Account and operator as they were.
fn parents_then(store: &Store, at: At, account: PublicKey) -> Result<Parents, CliError> {
    let entity = |id| -> Result<Option<Entity>, CliError> {
        let found = store.entity_at(id, at.sequence).map_err(KeyError::from)?;
        Ok(found.map(|version| version.entity))
    };
    let operator = entity(EntityId::Operator(resolve::operator(store)?))?;
    match (operator, entity(EntityId::Account(account))?) {
        (Some(Entity::Operator(operator)), Some(Entity::Account(account))) => Ok((operator, account, true)),
        _ => Err(no_account()),
    }
}

fn no_account() -> CliError {
    CliError::new(Exit::NotFound, "unknown-account", "the user's account is not known here")
}
