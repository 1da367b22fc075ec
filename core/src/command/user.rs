//! A user's life: created, given other permissions, handed creds, revoked.

use super::Rejection;
use super::plan::Plan;
use crate::context::Context;
use crate::event::Fact;
use crate::jwt::{Body, Claims, Grant, Scope, SigningKey, Unknown, User, UserRights};
use crate::nkey::PublicKey;
use crate::registry::{Account, EntityId, Lookup};
use crate::rules::Violation;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn scope_create(account: PublicKey, name: &str, context: &Context, scope: &mut Vec<Lookup>) {
    scope.push(Lookup::Entity(EntityId::Account(account)));
    scope.push(Lookup::Name { parent: account, name: String::from(name) });
    for user in &context.keys {
        scope.push(Lookup::Entity(EntityId::User { account, user: *user }));
        scope.push(Lookup::Entity(EntityId::Key(*user)));
    }
}

pub(super) fn scope(account: PublicKey, user: PublicKey, scope: &mut Vec<Lookup>) {
    scope.push(Lookup::Entity(EntityId::Account(account)));
    scope.push(Lookup::Entity(EntityId::User { account, user }));
    scope.push(Lookup::Entity(EntityId::Key(user)));
}

pub(super) fn decide_create(
    plan: &mut Plan<'_>,
    account: PublicKey,
    name: &str,
    rights: Option<&UserRights>,
    expires: i64,
    tags: &[String],
    credentials: bool,
) -> Result<(), Rejection> {
    not_expired(plan, expires)?;
    let owner = plan.account(account)?;
    let issuer = plan.context.authority;
    let grant = match (role(owner, issuer)?, rights) {
        (Some(scope), Some(_)) => {
            return Err(Rejection::ScopedAuthority { key: issuer, role: scope.role.clone() });
        }
        (Some(_), None) => Grant::Scoped,
        (None, Some(rights)) => Grant::Own(Box::new(rights.clone())),
        (None, None) => return Err(Rejection::NoRights { key: issuer }),
    };
    let user =
        User { issuer_account: Some(account), grant, tags: tags.to_vec(), unknown: Unknown::default() };
    let claims = plan.first(plan.key(0)?, issuer, name, Body::User(user));
    let claims = Claims { expires, issued_at: after_all(owner, claims.issued_at), ..claims };
    plan.issue(Fact::UserCreated { credentials }, &claims, None)
}

pub(super) fn decide_permissions(
    plan: &mut Plan<'_>,
    account: PublicKey,
    user: PublicKey,
    rights: &UserRights,
) -> Result<(), Rejection> {
    let owner = plan.account(account)?;
    let entity = plan.user(account, user)?;
    let old = entity.token.claims();
    if old.body.as_user().is_some_and(|body| body.grant == Grant::Scoped) {
        let role = role(owner, old.issuer).ok().flatten().map(|scope| scope.role.clone());
        let key = old.issuer;
        return Err(Rejection::ScopedUser { user, role: role.unwrap_or_default(), key });
    }
    if let Some(scope) = role(owner, plan.context.authority)? {
        return Err(Rejection::ScopedAuthority { key: plan.context.authority, role: scope.role.clone() });
    }
    let mut claims = reissue(plan, owner, &entity.token);
    if let Body::User(body) = &mut claims.body {
        body.grant = Grant::Own(Box::new(rights.clone()));
    }
    plan.issue(Fact::UserUpdated, &claims, Some(&entity.token))
}

pub(super) fn decide_credentials(
    plan: &mut Plan<'_>,
    account: PublicKey,
    user: PublicKey,
    expires: i64,
) -> Result<(), Rejection> {
    not_expired(plan, expires)?;
    let owner = plan.account(account)?;
    let entity = plan.user(account, user)?;
    role(owner, plan.context.authority)?;
    let claims = Claims { expires, ..reissue(plan, owner, &entity.token) };
    plan.issue(Fact::CredentialsIssued, &claims, Some(&entity.token))
}

pub(super) fn decide_revoke(
    plan: &mut Plan<'_>,
    account: PublicKey,
    user: PublicKey,
) -> Result<(), Rejection> {
    let owner = plan.account(account)?;
    let entity = plan.user(account, user)?;
    // A clock that is behind must not leave the user's newest token alive.
    let revoked_at = plan.now().max(entity.token.claims().issued_at);
    // A first attempt finds its wish fulfilled, and so does one whose id another attempt has used up; a later one raises a
    // revocation that was earlier than its own.
    let first = plan.context.attempt <= 1 || plan.facts.command(plan.context.command_id)?.is_some();
    if let Some(at) = entity.revoked_at.filter(|at| first || *at >= revoked_at) {
        return Err(Violation::AlreadyRevoked { id: EntityId::User { account, user }, at }.into());
    }
    let mut claims = plan.next(&owner.token, plan.context.authority);
    if let Body::Account(body) = &mut claims.body {
        body.revocations.insert(user.to_string(), revoked_at);
    }
    plan.push(user, Fact::UserRevoked { account, revoked_at });
    plan.issue(Fact::AccountUpdated, &claims, Some(&owner.token))
}

/// Claims of the user's next token, later than its newest and than a revocation of all.
fn reissue(plan: &Plan<'_>, owner: &Account, token: &crate::registry::Issued) -> Claims {
    let claims = plan.next(token, plan.context.authority);
    Claims { issued_at: after_all(owner, claims.issued_at), ..claims }
}

fn after_all(owner: &Account, issued_at: i64) -> i64 {
    let all = owner.token.claims().body.as_account().and_then(|account| account.revocations.get("*"));
    all.map_or(issued_at, |all| issued_at.max(all.saturating_add(1)))
}

/// The scope of a signing key of the account; none for a plain one.
fn role(owner: &Account, key: PublicKey) -> Result<Option<&Scope>, Rejection> {
    let listed = owner.token.claims().body.as_account().and_then(|account| account.signing_keys.get(&key));
    match listed {
        Some(SigningKey::Scoped(scope)) => Ok(Some(scope)),
        Some(SigningKey::Plain) => Ok(None),
        None => Err(Violation::NotListed { key, owner: owner.key }.into()),
    }
}

fn not_expired(plan: &Plan<'_>, expires: i64) -> Result<(), Rejection> {
    let now = plan.now();
    if expires != 0 && expires <= now { Err(Rejection::Expired { expires, now }) } else { Ok(()) }
}
