//! Which of the kept keys vouches for a command.

use super::{Host, Request};
use crate::error::KeyError;
use cim_keys_core::command::Command;
use cim_keys_core::jwt::SigningKey;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup};
use std::collections::BTreeMap;

impl Host {
    /// The request's own choice, else a fitting key that is kept here, else one that fits (signing will name it).
    pub(super) fn authority(&self, request: &Request) -> Result<PublicKey, KeyError> {
        if let Some(authority) = request.authority {
            return Ok(authority);
        }
        let operator = self.store.registry_id()?.operator;
        match &request.command {
            Command::FoundRegistry { .. } => Ok(operator),
            // The operator's own token is signed by its identity key alone.
            Command::GenerateKey { owner: Some(owner), .. }
            | Command::RevokeKey { owner: Some(owner), .. }
                if *owner == operator =>
            {
                Ok(operator)
            }
            Command::CreateAccount { .. }
            | Command::RevokeUser { .. }
            | Command::GenerateKey { .. }
            | Command::RevokeKey { .. }
            | Command::VoidCommand { account: None, .. }
            | Command::RaiseSchema { .. } => self.operator_key(operator),
            Command::VoidCommand { account: Some(account), .. } => {
                self.account_key(*account, Wanted::Plain(None))
            }
            Command::CreateUser { account, rights, .. } => match (&request.role, rights) {
                (Some(role), _) => self.account_key(*account, Wanted::Role(role)),
                (None, _) => self.account_key(*account, Wanted::Plain(None)),
            },
            Command::SetPermissions { account, .. } => self.account_key(*account, Wanted::Plain(None)),
            Command::GenerateCredentials { account, user, .. } => {
                let id = EntityId::User { account: *account, user: *user };
                let issuer = match self.entity(id)? {
                    Some(entity) => entity.token().map(|token| token.claims().issuer),
                    None => return Err(KeyError::Unknown { id }),
                };
                let keys = signing_keys(&self.account(*account)?);
                // A scoped user stays with its key; another may move to any plain key.
                match issuer.filter(|issuer| keys.get(issuer).is_some_and(|key| key.scope().is_some())) {
                    Some(scoped) => Ok(scoped),
                    None => self.account_key(*account, Wanted::Plain(issuer)),
                }
            }
        }
    }

    /// An entity as pending commands leave it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn entity(&self, id: EntityId) -> Result<Option<Entity>, KeyError> {
        let (facts, _) = self.store.facts(&[Lookup::Entity(id)], true)?;
        Ok(facts.entity(id).ok().flatten().cloned())
    }

    /// An account, which must exist.
    ///
    /// # Errors
    /// There is none, or the store cannot be read.
    pub fn account(&self, key: PublicKey) -> Result<Account, KeyError> {
        let id = EntityId::Account(key);
        match self.entity(id)? {
            Some(Entity::Account(account)) => Ok(account),
            _ => Err(KeyError::Unknown { id }),
        }
    }

    pub(super) fn operator_key(&self, operator: PublicKey) -> Result<PublicKey, KeyError> {
        let entity = self.entity(EntityId::Operator(operator))?;
        let body =
            entity.as_ref().and_then(Entity::token).and_then(|token| token.claims().body.as_operator());
        let listed = body.map(|body| body.signing_keys.clone()).unwrap_or_default();
        // Where the operator lost all its signing keys, the identity key may still vouch for what ends something.
        self.best(listed.into_iter())?.map_or(Ok(operator), Ok)
    }

    fn account_key(&self, account: PublicKey, wanted: Wanted<'_>) -> Result<PublicKey, KeyError> {
        let owner = self.account(account)?;
        let listed = signing_keys(&owner);
        let fits = |key: &SigningKey| match (&wanted, key) {
            (Wanted::Role(role), SigningKey::Scoped(scope)) => scope.role == **role,
            (Wanted::Plain(_), SigningKey::Plain) => true,
            _ => false,
        };
        let preferred = match &wanted {
            Wanted::Plain(preferred) => *preferred,
            Wanted::Role(_) => None,
        };
        let fitting = || listed.iter().filter(|(_, key)| fits(key)).map(|(key, _)| *key);
        let first = preferred.filter(|preferred| fitting().any(|key| key == *preferred));
        if let Some(key) = self.best(first.into_iter().chain(fitting()))? {
            return Ok(key);
        }
        let roles = listed.values().filter_map(|key| key.scope().map(|scope| scope.role.clone())).collect();
        let role = match wanted {
            Wanted::Role(role) => Some(role.to_owned()),
            Wanted::Plain(_) => None,
        };
        Err(KeyError::NoSigningKey { account, role, roles })
    }

    /// The first that is kept here, else the first.
    fn best(&self, keys: impl Iterator<Item = PublicKey>) -> Result<Option<PublicKey>, KeyError> {
        let mut first = None;
        for key in keys.filter(|key| key.kind() != Kind::Curve) {
            if self.store.is_kept(key)? {
                return Ok(Some(key));
            }
            first = first.or(Some(key));
        }
        Ok(first)
    }
}

enum Wanted<'a> {
    Role(&'a str),
    Plain(Option<PublicKey>),
}

fn signing_keys(account: &Account) -> BTreeMap<PublicKey, SigningKey> {
    let body = account.token.claims().body.as_account();
    body.map(|body| body.signing_keys.clone()).unwrap_or_default()
}
