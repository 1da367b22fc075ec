//! What must hold of the token that an event brings.

use super::{Fault, Violation};
use crate::event::{Event, Fact};
use crate::jwt::{
    self, Account, Claims, Grant, Operator, Scope, SigningKey, TokenId, User, validate, validate_user,
};
use crate::nkey::PublicKey;
use crate::registry::{Entity, EntityId, Facts, Issued};
use alloc::string::ToString;

/// A token may be issued this many seconds ahead of the clock, and no more.
pub(crate) const AHEAD_LIMIT: i64 = 300;

pub(super) fn check(facts: &Facts, event: &Event, command: &[Event]) -> Result<(), Fault> {
    let token = match (&event.token, event.fact.brings_token()) {
        (None, false) => return Ok(()),
        (Some(token), true) => token,
        _ => return Err(Violation::NoToken.into()),
    };
    let claims = token.jwt.claims();
    validate(claims).map_err(Violation::Claims)?;
    if claims.name.is_empty() {
        return Err(Violation::NoName.into());
    }
    if claims.subject != event.entity {
        return Err(Violation::Token { member: "sub" }.into());
    }
    let id = crate::registry::entity_of(event).ok_or(Violation::NoToken)?;
    let before = facts.entity(id)?.and_then(Entity::token);
    replaces(before, token.replaces, claims)?;
    in_time(before, event, claims)?;
    match (&event.fact, &claims.body) {
        (Fact::OperatorCreated | Fact::OperatorUpdated, jwt::Body::Operator(operator)) => {
            check_operator(event, command, claims, operator, before)
        }
        (Fact::AccountCreated | Fact::AccountUpdated, jwt::Body::Account(account)) => {
            listed_by_operator(facts, claims.issuer)?;
            check_account(event, command, claims, account, before)
        }
        (Fact::UserCreated { .. } | Fact::UserUpdated | Fact::CredentialsIssued, jwt::Body::User(user)) => {
            check_user(facts, event, claims, user, before)
        }
        _ => Err(Violation::Token { member: "type" }.into()),
    }
}

/// A first token replaces nothing; any other replaces the newest, is younger, and keeps the name.
fn replaces(before: Option<&Issued>, replaced: Option<TokenId>, claims: &Claims) -> Result<(), Fault> {
    let newest = before.map(Issued::id);
    if newest != replaced {
        return Err(Violation::NotNewest { newest }.into());
    }
    if let Some(old) = before.map(Issued::claims) {
        if claims.issued_at <= old.issued_at {
            return Err(Violation::Token { member: "iat" }.into());
        }
        if claims.name != old.name {
            return Err(Violation::Token { member: "name" }.into());
        }
    }
    Ok(())
}

/// A token is issued at the command's time, or just after the one it replaces. Further ahead it could not be replaced any
/// more, nor what it allows be revoked.
fn in_time(before: Option<&Issued>, event: &Event, claims: &Claims) -> Result<(), Fault> {
    let now = event.time.seconds();
    let after = match (&claims.body, before) {
        // Users' tokens are held against the clock itself: one from the future would survive a revocation.
        (jwt::Body::User(_), _) | (_, None) => 0,
        (_, Some(old)) => old.claims().issued_at.saturating_add(1),
    };
    let ahead = claims.issued_at.saturating_sub(now.max(after));
    if ahead > AHEAD_LIMIT { Err(Violation::ClockAhead { ahead, now }.into()) } else { Ok(()) }
}

fn check_operator(
    event: &Event,
    command: &[Event],
    claims: &Claims,
    operator: &Operator,
    before: Option<&Issued>,
) -> Result<(), Fault> {
    if claims.issuer != event.registry {
        return Err(Violation::NotListed { key: claims.issuer, owner: event.registry }.into());
    }
    // Accounts are signed by signing keys alone, so that the identity key can be taken off the machine.
    if !operator.strict_signing_key_usage {
        return Err(Violation::Token { member: "strict_signing_key_usage" }.into());
    }
    same_frame(before, claims, "operator")?;
    let old = before.and_then(|token| token.claims().body.as_operator());
    let known = |key: &PublicKey| old.is_some_and(|old| old.signing_keys.contains(key));
    for key in operator.signing_keys.iter().filter(|key| !known(key)) {
        explained(granted(command, event.entity, *key), "signing_keys")?;
    }
    if let Some(old) = old {
        for key in old.signing_keys.iter().filter(|key| !operator.signing_keys.contains(key)) {
            explained(ended(command, *key), "signing_keys")?;
        }
        let same = Operator { signing_keys: old.signing_keys.clone(), ..operator.clone() } == *old;
        explained(same, "operator")?;
    }
    Ok(())
}

fn check_account(
    event: &Event,
    command: &[Event],
    claims: &Claims,
    account: &Account,
    before: Option<&Issued>,
) -> Result<(), Fault> {
    same_frame(before, claims, "account")?;
    let old = before.and_then(|token| token.claims().body.as_account());
    for (key, role) in &account.signing_keys {
        match old.and_then(|old| old.signing_keys.get(key)) {
            Some(known) => explained(known == role, "signing_keys")?,
            None => {
                explained(granted(command, event.entity, *key), "signing_keys")?;
                // Every token of such a role would be a secret, which no event can carry.
                if role.scope().is_some_and(|scope| scope.template.bearer_token) {
                    return Err(Violation::Token { member: "bearer_token" }.into());
                }
            }
        }
    }
    for (who, at) in &account.revocations {
        if old.and_then(|old| old.revocations.get(who)) != Some(at) {
            explained(revoked(command, event.entity, who, *at), "revocations")?;
        }
    }
    if let Some(old) = old {
        for key in old.signing_keys.keys().filter(|key| !account.signing_keys.contains_key(key)) {
            explained(ended(command, *key), "signing_keys")?;
        }
        // A revocation stays, and may only move on.
        for (who, at) in &old.revocations {
            explained(account.revocations.get(who).is_some_and(|now| now >= at), "revocations")?;
        }
        let same = Account {
            signing_keys: old.signing_keys.clone(),
            revocations: old.revocations.clone(),
            ..account.clone()
        };
        explained(same == *old, "account")?;
    }
    Ok(())
}

/// How long it holds, and for whom, is changed by no command yet: an operator or account that expires is a lock-out.
fn same_frame(before: Option<&Issued>, claims: &Claims, member: &'static str) -> Result<(), Fault> {
    let frame = |c: &Claims| (c.audience.clone(), c.expires, c.not_before, c.unknown.clone());
    explained(before.is_none_or(|old| frame(old.claims()) == frame(claims)), member)
}

fn check_user(
    facts: &Facts,
    event: &Event,
    claims: &Claims,
    user: &User,
    before: Option<&Issued>,
) -> Result<(), Fault> {
    let owner = user.issuer_account.ok_or(Violation::Token { member: "issuer_account" })?;
    let owner_claims = facts.entity(EntityId::Account(owner))?.and_then(Entity::token).map(Issued::claims);
    let Some((owner_claims, account)) = owner_claims.and_then(|c| Some((c, c.body.as_account()?))) else {
        return Err(Violation::Unknown { id: EntityId::Account(owner) }.into());
    };
    let not_listed = Violation::NotListed { key: claims.issuer, owner };
    let role = account.signing_keys.get(&claims.issuer).ok_or(not_listed)?;
    within_scope(claims, user, role, before)?;
    validate_user(claims, owner_claims, true).map_err(Violation::Claims)?;
    // A bearer token is a secret, whether itself or its role says so: it must not stand in an event.
    let rights = role.scope().map(|scope| &scope.template).or(user.grant.rights());
    if rights.is_some_and(|rights| rights.bearer_token) {
        return Err(Violation::Token { member: "bearer_token" }.into());
    }
    if account.revocations.contains_key(&event.entity.to_string()) {
        return Err(Violation::KeyRevoked { key: event.entity }.into());
    }
    if account.revocations.get("*").is_some_and(|all| claims.issued_at <= *all) {
        return Err(Violation::Token { member: "iat" }.into());
    }
    Ok(())
}

fn within_scope(
    claims: &Claims,
    user: &User,
    role: &SigningKey,
    before: Option<&Issued>,
) -> Result<(), Fault> {
    let outside = |scope: &Scope| Violation::Scope { key: claims.issuer, role: scope.role.clone() };
    let old = before.map(Issued::claims);
    let was_scoped = old.and_then(|old| old.body.as_user()).map(|old| old.grant == Grant::Scoped);
    match (role, &user.grant) {
        (SigningKey::Plain, Grant::Own(_)) if was_scoped != Some(true) => Ok(()),
        (SigningKey::Plain, _) => Err(Violation::Token { member: "permissions" }.into()),
        (SigningKey::Scoped(scope), Grant::Own(_)) => Err(outside(scope).into()),
        (SigningKey::Scoped(scope), Grant::Scoped) => {
            // A user keeps its role: another key would give it other permissions.
            let same_key = old.is_none_or(|old| old.issuer == claims.issuer);
            if same_key { Ok(()) } else { Err(outside(scope).into()) }
        }
    }
}

/// The issuer is one of the operator's signing keys.
fn listed_by_operator(facts: &Facts, issuer: PublicKey) -> Result<(), Fault> {
    let owner = facts.registry().operator;
    let operator = facts.entity(EntityId::Operator(owner))?.and_then(Entity::token);
    let listed = operator
        .and_then(|token| token.claims().body.as_operator())
        .is_some_and(|operator| operator.signing_keys.contains(&issuer));
    if listed { Ok(()) } else { Err(Violation::NotListed { key: issuer, owner }.into()) }
}

fn explained(yes: bool, member: &'static str) -> Result<(), Fault> {
    if yes { Ok(()) } else { Err(Violation::Unexplained { member }.into()) }
}

fn granted(command: &[Event], owner: PublicKey, key: PublicKey) -> bool {
    command
        .iter()
        .any(|e| e.entity == key && matches!(e.fact, Fact::KeyGenerated { owner: Some(o), .. } if o == owner))
}

fn ended(command: &[Event], key: PublicKey) -> bool {
    command.iter().any(|e| e.entity == key && matches!(e.fact, Fact::KeyRevoked { .. }))
}

fn revoked(command: &[Event], of: PublicKey, who: &str, at: i64) -> bool {
    command.iter().any(|e| {
        e.entity.to_string() == who
            && matches!(e.fact, Fact::UserRevoked { account, revoked_at } if account == of && revoked_at == at)
    })
}
