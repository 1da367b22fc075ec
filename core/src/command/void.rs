//! Giving a command up for good: its id is used up, and what was handed out for it is revoked.

use super::plan::Plan;
use super::{HandedOut, Rejection, user};
use crate::event::Fact;
use crate::jwt::Body;
use crate::nkey::PublicKey;
use crate::registry::{Entity, EntityId, Lookup};
use crate::rules::{self, Violation};
use alloc::string::ToString;
use alloc::vec::Vec;
use uuid::Uuid;

pub(super) fn scope(
    command_id: Uuid,
    account: Option<PublicKey>,
    revoke: Option<&HandedOut>,
    scope: &mut Vec<Lookup>,
) {
    scope.push(Lookup::Command(command_id));
    scope.extend(account.map(|account| Lookup::Entity(EntityId::Account(account))));
    if let Some(handed_out) = revoke {
        user::scope(handed_out.account, handed_out.user, scope);
    }
}

pub(super) fn decide(
    plan: &mut Plan<'_>,
    command_id: Uuid,
    account: Option<PublicKey>,
    revoke: Option<&HandedOut>,
) -> Result<(), Rejection> {
    let admitted = plan.facts.command(command_id)?.is_some();
    if !admitted {
        let whose = account.unwrap_or(plan.facts.registry().operator);
        plan.push(whose, Fact::CommandVoided { command_id });
    }
    match revoke {
        // It came to the stream after all: what was handed out is revoked all the same.
        Some(handed_out) => decide_revoke(plan, handed_out, admitted),
        None if admitted => Err(Violation::Admitted { id: command_id }.into()),
        None => Ok(()),
    }
}

fn decide_revoke(plan: &mut Plan<'_>, handed_out: &HandedOut, alone: bool) -> Result<(), Rejection> {
    let HandedOut { account, user, issued_at } = *handed_out;
    let id = EntityId::User { account, user };
    let owner = plan.account(account)?;
    let known = plan.facts.entity(id)?;
    let newest = known.and_then(Entity::token).map_or(0, |token| token.claims().issued_at);
    let revoked_at = plan.now().max(newest).max(issued_at);
    match rules::revoked(plan.facts, known, account, user)? {
        Some(at) if alone && at >= issued_at => return Err(Violation::AlreadyRevoked { id, at }.into()),
        Some(at) if at >= issued_at => return Ok(()),
        _ => {}
    }
    let mut claims = plan.next(&owner.token, plan.context.authority);
    if let Body::Account(body) = &mut claims.body {
        body.revocations.insert(user.to_string(), revoked_at);
    }
    plan.push(user, Fact::UserRevoked { account, revoked_at });
    plan.issue(Fact::AccountUpdated, &claims, Some(&owner.token))
}
