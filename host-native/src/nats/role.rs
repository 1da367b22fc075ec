//! Users of the pipeline's roles that live for minutes and in memory only: signed with the role's key from the vault, no
//! event, never written down.

use super::target::{Access, Target};
use crate::error::KeyError;
use crate::host::Host;
use cim_keys_core::jwt::{Body, Claims, Grant, SigningKey, Unknown, User, encode};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup};
use cim_keys_core::roles::{self, PipelineRole};
use std::sync::Arc;

/// How long such a user lives, in seconds.
pub const LIFETIME: i64 = 300;

/// The same servers, entered as a user of this role that is made now.
///
/// # Errors
/// The registry lacks the role, or this host its key.
pub fn target(host: &Host, role: PipelineRole, servers: &Target) -> Result<Target, KeyError> {
    target_for(host, role, servers, LIFETIME)
}

/// The same, for so many seconds.
///
/// # Errors
/// See [`target`].
pub fn target_for(
    host: &Host,
    role: PipelineRole,
    servers: &Target,
    lifetime: i64,
) -> Result<Target, KeyError> {
    let account = account(host, role.account())?;
    let signer = signing_key(&account, role)?;
    let key = KeyPair::from_entropy(Kind::User, host.ambient().entropy()?);
    let now = host.ambient().now().seconds();
    let body = account.token.claims().body.as_account();
    let all = body.and_then(|body| body.revocations.get("*")).copied().unwrap_or(i64::MIN);
    let claims = Claims {
        audience: String::new(),
        expires: now + lifetime,
        issued_at: now.max(all.saturating_add(1)),
        issuer: signer,
        name: format!("cim-keys-{role}"),
        not_before: 0,
        subject: key.public_key(),
        body: Body::User(User {
            issuer_account: Some(account.key),
            grant: Grant::Scoped,
            tags: Vec::new(),
            unknown: Unknown::default(),
        }),
        unknown: Unknown::default(),
    };
    let internal = |what: String| KeyError::Internal { what };
    let unsigned = encode(&claims).map_err(|error| internal(error.to_string()))?;
    let signature =
        host.key(signer)?.sign(unsigned.as_str().as_bytes()).map_err(|error| internal(error.to_string()))?;
    let token = unsigned.with_signature(signature).map_err(|error| internal(error.to_string()))?;
    Ok(Target {
        inbox_prefix: Some(roles::inbox(&key.public_key().to_string())),
        api_prefix: role.api_prefix().unwrap_or(roles::API_PREFIX).to_owned(),
        access: Arc::new(Access::Creds { token, key }),
        file: None,
        ..servers.clone()
    })
}

/// An account of the registry by its name, as pending commands leave it.
///
/// # Errors
/// The store cannot be read, or has no such account.
pub fn account(host: &Host, name: &str) -> Result<Account, KeyError> {
    let store = host.store();
    let operator = store.registry_id()?.operator;
    let lookup = Lookup::Name { parent: operator, name: name.to_owned() };
    let (facts, _) = store.facts(&[lookup], true)?;
    let missing = || KeyError::Internal { what: format!("the registry has no account {name}") };
    let id = facts.name(operator, name).ok().flatten().ok_or_else(missing)?;
    let (facts, _) = store.facts(&[Lookup::Entity(id)], true)?;
    match facts.entity(id) {
        Ok(Some(Entity::Account(account))) => Ok(account.clone()),
        _ => Err(missing()),
    }
}

/// The name of an account by its key, for [`Target::suit`].
#[must_use]
pub fn account_name(host: &Host, key: &str) -> Option<String> {
    let id = EntityId::Account(key.parse().ok()?);
    let (facts, _) = host.store().facts(&[Lookup::Entity(id)], true).ok()?;
    facts.entity(id).ok().flatten().map(|entity| entity.name().to_owned())
}

/// The name of the account that the creds of a target are of, where it is one of this registry's.
#[must_use]
pub fn account_of(host: &Host, target: &Target) -> Option<String> {
    let Access::Creds { token, .. } = &*target.access else { return None };
    let claims = token.claims();
    let owner = claims.body.as_user().and_then(|user| user.issuer_account).unwrap_or(claims.issuer);
    account_name(host, &owner.to_string())
}

/// Whether the creds of a target are of one of this registry's accounts: then the server knows our operator.
#[must_use]
pub fn is_ours(host: &Host, target: &Target) -> bool {
    account_of(host, target).is_some()
}

/// Whether the creds of a target are of this role: in its account, and signed by the key that grants it.
#[must_use]
pub fn grants(host: &Host, target: &Target, role: PipelineRole) -> bool {
    let Access::Creds { token, .. } = &*target.access else { return false };
    account(host, role.account())
        .and_then(|account| signing_key(&account, role))
        .is_ok_and(|key| token.claims().issuer == key)
}

fn signing_key(account: &Account, role: PipelineRole) -> Result<PublicKey, KeyError> {
    let keys = account.token.claims().body.as_account().map(|body| &body.signing_keys);
    let named = |key: &SigningKey| key.scope().is_some_and(|scope| scope.role == role.as_str());
    keys.and_then(|keys| keys.iter().find(|(_, key)| named(key)).map(|(key, _)| *key)).ok_or_else(|| {
        let roles = keys
            .iter()
            .flat_map(|keys| keys.values())
            .filter_map(|key| key.scope().map(|scope| scope.role.clone()));
        KeyError::NoSigningKey { account: account.key, role: Some(role.to_string()), roles: roles.collect() }
    })
}
