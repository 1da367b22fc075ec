//! Creating an account.

use super::Rejection;
use super::plan::Plan;
use crate::context::{Context, RegistryId};
use crate::event::Fact;
use crate::jwt::{Account, AccountLimits, Body, SigningKey};
use crate::order;
use crate::registry::{EntityId, Lookup};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn scope(name: &str, context: &Context, registry: &RegistryId, scope: &mut Vec<Lookup>) {
    scope.push(Lookup::Name { parent: registry.operator, name: String::from(name) });
    for key in &context.keys {
        scope.extend(
            [EntityId::Account(*key), EntityId::Key(*key), EntityId::Operator(*key)].map(Lookup::Entity),
        );
    }
}

pub(super) fn decide(plan: &mut Plan<'_>, name: &str, limits: &AccountLimits) -> Result<(), Rejection> {
    let (key, signing) = (plan.key(0)?, plan.key(1)?);
    let body = Account {
        limits: limits.clone(),
        signing_keys: order::map([(signing, SigningKey::Plain)]),
        ..Account::default()
    };
    let claims = plan.first(key, plan.context.authority, name, Body::Account(Box::new(body)));
    plan.issue(Fact::AccountCreated, &claims, None)?;
    plan.push(signing, Fact::KeyGenerated { owner: Some(key), label: None });
    Ok(())
}
