//! What people want: commands that fit what a host knows, and contradict each other across hosts.

use super::rng::Rng;
use cim_keys_core::command::{Command, Role};
use cim_keys_core::jwt::{AccountLimits, PermissionList, SigningKey, UserRights};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Registry};
use std::collections::BTreeMap;
use std::rc::Rc;

const ACCOUNTS: [&str; 3] = ["app", "web", "ops"];
const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// Private keys at hand. A copy of the store shares those made before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring(BTreeMap<PublicKey, Rc<KeyPair>>);

impl Keyring {
    /// Makes a key and keeps it.
    pub(crate) fn make(&mut self, kind: Kind, rng: &mut Rng) -> PublicKey {
        let pair = KeyPair::from_entropy(kind, rng.bytes());
        let key = pair.public_key();
        self.0.insert(key, Rc::new(pair));
        key
    }

    /// The private half.
    pub(crate) fn pair(&self, key: &PublicKey) -> Option<&KeyPair> {
        self.0.get(key).map(Rc::as_ref)
    }

    fn has(&self, key: &PublicKey) -> bool {
        self.0.contains_key(key)
    }
}

/// A command and the key that vouches for it.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// What is wanted.
    pub(crate) command: Command,
    /// Who vouches.
    pub(crate) authority: PublicKey,
}

/// Everything a host knows: its registry with the overlay over it.
pub(crate) fn view(registry: &Registry) -> BTreeMap<EntityId, Entity> {
    registry.entities().chain(registry.pending()).map(|entity| (entity.id(), entity.clone())).collect()
}

/// Signing keys of the operator that are listed and at hand.
pub(crate) fn operator_keys(view: &BTreeMap<EntityId, Entity>, keys: &Keyring) -> Vec<PublicKey> {
    let operator = view.values().find_map(|entity| match entity {
        Entity::Operator(operator) => operator.token.claims().body.as_operator(),
        _ => None,
    });
    let listed = operator.iter().flat_map(|operator| operator.signing_keys.iter().copied());
    listed.filter(|key| keys.has(key)).collect()
}

/// Something to want, where there is anything to want it of.
pub(crate) fn wish(registry: &Registry, keys: &Keyring, now: i64, rng: &mut Rng) -> Option<Wish> {
    let operator = registry.id().operator;
    let view = view(registry);
    let authority = rng.pick(&operator_keys(&view, keys)).copied()?;
    let accounts: Vec<&Account> = view.values().filter_map(account).filter(|a| is_application(a)).collect();
    let account = rng.pick(&accounts).copied();
    let users: Vec<(PublicKey, PublicKey)> = view
        .values()
        .filter_map(|entity| match entity {
            Entity::User(user) if user.revoked_at.is_none() => Some((user.account, user.key)),
            _ => None,
        })
        .collect();
    let user = rng.pick(&users).copied();
    match rng.below(100) {
        0..10 => create_account(authority, rng),
        10..45 => match account {
            Some(account) => create_user(account, keys, now, rng),
            None => create_account(authority, rng),
        },
        45..60 => {
            let (account, user) = user?;
            let authority =
                signer(view.get(&EntityId::Account(account)).and_then(self::account)?, keys, true, rng)?.0;
            Some(Wish { command: Command::SetPermissions { account, user, rights: rights(rng) }, authority })
        }
        60..74 => {
            let (account, user) = user?;
            Some(Wish { command: Command::RevokeUser { account, user }, authority })
        }
        74..82 => {
            let (account, user) = user?;
            let (authority, _) =
                signer(view.get(&EntityId::Account(account)).and_then(self::account)?, keys, false, rng)?;
            Some(Wish {
                command: Command::GenerateCredentials { account, user, expires: now + 3600 },
                authority,
            })
        }
        82..91 => {
            let owner = if rng.chance(250) { operator } else { account?.key };
            let scoped = owner.kind() == Kind::Account && rng.chance(300);
            let role = scoped.then(|| Role { name: String::from("reader"), template: rights(rng) });
            let label = rng.chance(300).then(|| String::from("spare"));
            // The operator's own token is signed by its identity key alone; so is what vouches for it.
            let authority = if owner == operator { operator } else { authority };
            let command = Command::GenerateKey { kind: owner.kind(), owner: Some(owner), label, role };
            Some(Wish { command, authority })
        }
        _ => revoke_key(&view, operator, authority, rng),
    }
}

/// A key at hand that may vouch for such a command, where the one before may not any more.
pub(crate) fn authority(
    view: &BTreeMap<EntityId, Entity>,
    keys: &Keyring,
    command: &Command,
) -> Option<PublicKey> {
    match command {
        Command::CreateUser { account, .. }
        | Command::SetPermissions { account, .. }
        | Command::GenerateCredentials { account, .. } => {
            let account = view.get(&EntityId::Account(*account)).and_then(self::account)?;
            let listed = account.token.claims().body.as_account()?.signing_keys.iter();
            let mut plain = listed.filter(|(key, role)| **role == SigningKey::Plain && keys.has(key));
            plain.next().map(|(key, _)| *key)
        }
        _ => operator_keys(view, keys).first().copied(),
    }
}

/// A user of the account of this name, if it is there and a key that may sign for it is at hand.
pub(crate) fn user(registry: &Registry, keys: &Keyring, account_name: &str, name: &str) -> Option<Wish> {
    let view = view(registry);
    let mut accounts = view.values().filter_map(account);
    let account = accounts.find(|account| account.token.claims().name == account_name)?;
    let listed = account.token.claims().body.as_account()?.signing_keys.iter();
    let mut plain = listed.filter(|(key, role)| **role == SigningKey::Plain && keys.has(key));
    let command = Command::CreateUser {
        account: account.key,
        name: name.to_owned(),
        rights: Some(UserRights::default()),
        expires: 0,
        tags: Vec::new(),
        credentials: true,
    };
    Some(Wish { command, authority: *plain.next()?.0 })
}

/// An account of this name.
pub(crate) fn account_named(registry: &Registry, keys: &Keyring, name: &str) -> Option<Wish> {
    let authority = operator_keys(&view(registry), keys).first().copied()?;
    Some(Wish {
        command: Command::CreateAccount { name: name.to_owned(), limits: AccountLimits::default() },
        authority,
    })
}

fn create_account(authority: PublicKey, rng: &mut Rng) -> Option<Wish> {
    let name = (*rng.pick(&ACCOUNTS)?).to_owned();
    Some(Wish { command: Command::CreateAccount { name, limits: AccountLimits::default() }, authority })
}

fn create_user(account: &Account, keys: &Keyring, now: i64, rng: &mut Rng) -> Option<Wish> {
    let name = (*rng.pick(&USERS)?).to_owned();
    let (authority, scoped) = signer(account, keys, false, rng)?;
    let command = Command::CreateUser {
        account: account.key,
        name,
        rights: (!scoped).then(|| rights(rng)),
        expires: if rng.chance(500) { now + 86_400 } else { 0 },
        tags: Vec::new(),
        credentials: rng.chance(700),
    };
    Some(Wish { command, authority })
}

fn revoke_key(
    view: &BTreeMap<EntityId, Entity>,
    operator: PublicKey,
    authority: PublicKey,
    rng: &mut Rng,
) -> Option<Wish> {
    let live = view.values().filter_map(|entity| match entity {
        Entity::Key(key) if key.revoked_at.is_none() => Some((key.key, key.owner)),
        _ => None,
    });
    let application = |owner: Option<PublicKey>| {
        let account = owner.and_then(|owner| view.get(&EntityId::Account(owner))).and_then(account);
        owner == Some(operator) || account.is_some_and(is_application)
    };
    let live: Vec<(PublicKey, Option<PublicKey>)> = live.filter(|(_, owner)| application(*owner)).collect();
    let operators = live.iter().filter(|(_, owner)| *owner == Some(operator)).count();
    let (key, owner) = *rng.pick(&live)?;
    if owner == Some(operator) && operators < 2 {
        return None;
    }
    let authority = if owner == Some(operator) { operator } else { authority };
    Some(Wish { command: Command::RevokeKey { key, owner }, authority })
}

/// A listed signing key of an account that is at hand, and whether it has a role.
fn signer(account: &Account, keys: &Keyring, plain: bool, rng: &mut Rng) -> Option<(PublicKey, bool)> {
    let listed = account.token.claims().body.as_account()?.signing_keys.iter();
    let listed: Vec<(PublicKey, bool)> = listed
        .map(|(key, role)| (*key, *role != SigningKey::Plain))
        .filter(|(key, scoped)| keys.has(key) && !(plain && *scoped))
        .collect();
    rng.pick(&listed).copied()
}

fn account(entity: &Entity) -> Option<&Account> {
    match entity {
        Entity::Account(account) => Some(account),
        _ => None,
    }
}

fn is_application(account: &Account) -> bool {
    ACCOUNTS.contains(&account.token.claims().name.as_str())
}

fn rights(rng: &mut Rng) -> UserRights {
    let allow = vec![format!("orders.{}", rng.below(5))];
    UserRights { publish: PermissionList { allow, ..PermissionList::default() }, ..UserRights::default() }
}
