//! Signing, curve and free keys: made known, and ended.

use super::plan::Plan;
use super::{Rejection, Role};
use crate::context::Context;
use crate::event::Fact;
use crate::jwt::{Body, Scope, SigningKey};
use crate::nkey::{Kind, PublicKey};
use crate::registry::{Entity, EntityId, Issued, Lookup};
use crate::rules::{Violation, owner_id};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn scope_generate(owner: Option<PublicKey>, context: &Context, scope: &mut Vec<Lookup>) {
    scope.extend(owner.map(|owner| Lookup::Entity(owner_id(owner))));
    for key in &context.keys {
        scope.extend(
            [EntityId::Key(*key), EntityId::Account(*key), EntityId::Operator(*key)].map(Lookup::Entity),
        );
    }
}

pub(super) fn scope_revoke(key: PublicKey, owner: Option<PublicKey>, scope: &mut Vec<Lookup>) {
    scope.extend([EntityId::Key(key), EntityId::Account(key), EntityId::Operator(key)].map(Lookup::Entity));
    if let Some(owner) = owner {
        scope.push(Lookup::Entity(owner_id(owner)));
        if key.kind() == Kind::User {
            scope.push(Lookup::Entity(EntityId::User { account: owner, user: key }));
        }
    }
}

pub(super) fn decide_generate(
    plan: &mut Plan<'_>,
    owner: Option<PublicKey>,
    label: Option<&String>,
    role: Option<&Role>,
) -> Result<(), Rejection> {
    let key = plan.key(0)?;
    plan.push(key, Fact::KeyGenerated { owner, label: label.cloned() });
    if role.is_some() && owner.is_none_or(|owner| owner.kind() != Kind::Account) {
        return Err(Rejection::RoleOwner);
    }
    let Some(owner) = owner else { return Ok(()) };
    change_signing_keys(plan, owner, |body| match body {
        Body::Operator(operator) => operator.signing_keys.push(key),
        Body::Account(account) => {
            let role = role.map(|role| Scope {
                role: role.name.clone(),
                template: role.template.clone(),
                description: String::new(),
                ..Scope::default()
            });
            account.signing_keys.insert(key, role.map_or(SigningKey::Plain, SigningKey::Scoped));
        }
        Body::User(_) => {}
    })
}

pub(super) fn decide_revoke(
    plan: &mut Plan<'_>,
    key: PublicKey,
    owner: Option<PublicKey>,
) -> Result<(), Rejection> {
    if key == plan.facts.registry().operator {
        return Err(Rejection::OperatorIdentity { key });
    }
    if plan.facts.entity(EntityId::Account(key))?.is_some() {
        return Err(Rejection::AccountIdentity { key });
    }
    if let (Kind::User, Some(account)) = (key.kind(), owner.filter(|owner| owner.kind() == Kind::Account)) {
        return super::user::decide_revoke(plan, account, key);
    }
    let id = EntityId::Key(key);
    let Some(Entity::Key(entity)) = plan.facts.entity(id)? else {
        return Err(Violation::Unknown { id }.into());
    };
    if let Some(at) = entity.revoked_at {
        return Err(Violation::AlreadyRevoked { id, at }.into());
    }
    if entity.owner != owner {
        let owner = entity.owner.map_or_else(|| String::from("nobody"), |owner| owner.to_string());
        return Err(Rejection::Owner { key, owner });
    }
    let revoked_at = plan.now();
    plan.push(key, Fact::KeyRevoked { revoked_at });
    let Some(owner) = owner else { return Ok(()) };
    change_signing_keys(plan, owner, |body| match body {
        Body::Operator(operator) => operator.signing_keys.retain(|listed| *listed != key),
        Body::Account(account) => {
            account.signing_keys.remove(&key);
        }
        Body::User(_) => {}
    })
}

/// Issues the owner's token anew with other signing keys.
fn change_signing_keys(
    plan: &mut Plan<'_>,
    owner: PublicKey,
    change: impl FnOnce(&mut Body),
) -> Result<(), Rejection> {
    let id = owner_id(owner);
    let token: &Issued = match plan.facts.entity(id)?.and_then(Entity::token) {
        Some(token) => token,
        None => return Err(Violation::Unknown { id }.into()),
    };
    // The operator's own token is signed by its identity key alone.
    let fact = if owner.kind() == Kind::Operator { Fact::OperatorUpdated } else { Fact::AccountUpdated };
    let issuer = if owner.kind() == Kind::Operator { owner } else { plan.context.authority };
    let mut claims = plan.next(token, issuer);
    change(&mut claims.body);
    plan.issue(fact, &claims, Some(token))
}
