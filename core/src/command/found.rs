//! Founding a registry: everything that must exist before anything can be published.

use super::Rejection;
use super::plan::Plan;
use crate::context::{Context, RegistryId};
use crate::event::Fact;
use crate::jwt::{Account, Body, Operator};
use crate::nkey::{Kind, PublicKey};
use crate::registry::{EntityId, Lookup};
use crate::roles::{self, EdgeKeys, PipelineRole, edge_account};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Keys of the founding, in order: operator, its signing key; system account, its signing key; the resolver role's of
/// `KEYS_EDGE`; `KEYS`, the steward role's; `KEYS_EDGE`, the host, auditor, browser and service roles'; the responder role's
/// of `KEYS`, the client role's of `KEYS_EDGE`.
pub const KEYS: [Kind; 14] = [
    Kind::Operator,
    Kind::Operator,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
    Kind::Account,
];

/// Accounts that are founded, in the order of their keys.
const NAMES: [&str; 3] = [roles::SYSTEM_ACCOUNT, roles::KEYS_ACCOUNT, roles::EDGE_ACCOUNT];

pub(super) fn scope(context: &Context, registry: &RegistryId, scope: &mut Vec<Lookup>) {
    scope.extend(NAMES.map(|name| Lookup::Name { parent: registry.operator, name: String::from(name) }));
    for key in &context.keys {
        scope.extend(
            [EntityId::Account(*key), EntityId::Key(*key), EntityId::Operator(*key)].map(Lookup::Entity),
        );
    }
}

pub(super) fn decide(plan: &mut Plan<'_>, name: &str) -> Result<(), Rejection> {
    let mut keys = [plan.key(0)?; KEYS.len()];
    for (place, slot) in keys.iter_mut().enumerate() {
        *slot = plan.key(place)?;
    }
    let [
        operator,
        signing,
        system,
        system_signing,
        resolver,
        keys,
        steward,
        edge,
        host,
        auditor,
        browser,
        service,
        responder,
        client,
    ] = keys;
    let namespace = plan.facts.registry().namespace.clone();

    let body = Operator {
        signing_keys: [signing].to_vec(),
        system_account: Some(system),
        strict_signing_key_usage: true,
        ..Operator::default()
    };
    let claims = plan.first(operator, operator, name, Body::Operator(body));
    plan.issue(Fact::OperatorCreated, &claims, None)?;
    generated(plan, operator, &[(signing, None)]);

    let [sys, keys_name, edge_name] = NAMES;
    let account = roles::system_account(system_signing);
    create(plan, system, signing, sys, account)?;
    generated(plan, system, &[(system_signing, None)]);

    create(plan, keys, signing, keys_name, roles::keys_account(&namespace, steward, responder))?;
    let keys_keys = [(steward, Some(PipelineRole::Steward)), (responder, Some(PipelineRole::Responder))];
    generated(plan, keys, &keys_keys);

    let roles = EdgeKeys { resolver, host, auditor, browser, service, client };
    create(plan, edge, signing, edge_name, edge_account(&namespace, system, keys, roles))?;
    let edge_keys = [
        (resolver, Some(PipelineRole::Resolver)),
        (host, Some(PipelineRole::Host)),
        (auditor, Some(PipelineRole::Auditor)),
        (browser, Some(PipelineRole::Browser)),
        (service, Some(PipelineRole::Service)),
        (client, Some(PipelineRole::Client)),
    ];
    generated(plan, edge, &edge_keys);
    Ok(())
}

fn create(
    plan: &mut Plan<'_>,
    key: PublicKey,
    issuer: PublicKey,
    name: &str,
    body: Account,
) -> Result<(), Rejection> {
    let claims = plan.first(key, issuer, name, Body::Account(Box::new(body)));
    plan.issue(Fact::AccountCreated, &claims, None)
}

fn generated(plan: &mut Plan<'_>, owner: PublicKey, keys: &[(PublicKey, Option<PipelineRole>)]) {
    for (key, role) in keys {
        let label = role.map(|role| role.to_string());
        plan.push(*key, Fact::KeyGenerated { owner: Some(owner), label });
    }
}
