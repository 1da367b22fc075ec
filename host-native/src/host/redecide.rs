//! Held revocations are decided anew without asking anybody.

use super::run::{changed, internal};
use super::{Host, Request};
use crate::error::KeyError;
use crate::store::{Committed, Entry};
use cim_keys_core::command::{self, Command, HandedOut};
use cim_keys_core::context::Context;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId, Facts, Lookup};
use cim_keys_core::time::Timestamp;
use uuid::Uuid;

/// Attempts before a command that always comes too late is left held.
const ATTEMPTS: u32 = 20;

impl Host {
    /// Decides a held revocation anew: the same command and id, the next attempt, a new time and so new event ids. It goes
    /// to the end of the journal as pending. Where it is in force already, with at least the time of the first attempt, it
    /// is settled. An id under which a command was admitted is used up: what is still wanted gets a new one, caused by the
    /// old, which is settled then. So does what came in a bundle, for only whoever minted a command may decide it anew
    /// under its id; it is dropped then. False where it stays held.
    ///
    /// # Errors
    /// The store or a key cannot be used. Nothing has changed then.
    pub fn redecide(&self, command_id: Uuid) -> Result<bool, KeyError> {
        for _ in 0..ATTEMPTS {
            let Some(promised) = self.store.promised(command_id)? else { return Ok(false) };
            if promised.state != State::Held {
                return Ok(promised.state != State::Confirmed);
            }
            if !promised.command.is_revocation() {
                return Ok(false);
            }
            let (admitted, _) = self.store.facts(&[Lookup::Command(command_id)], true)?;
            let anew = promised.imported || used_up(&admitted, command_id, promised.context.authority);
            let request = Request::new(promised.command.clone());
            let mut context = Context {
                now: self.later_than(promised.context.now, promised.revoked_at)?,
                // Counts on under a new id as well: a first attempt would not raise an earlier revocation.
                attempt: promised.context.attempt.saturating_add(1),
                authority: self.authority(&request)?,
                ..promised.context.clone()
            };
            if anew {
                context.command_id = self.ambient.command_id()?;
                context.causation_id = command_id;
                // Who wants it done here is whoever does it here.
                if promised.imported {
                    context.actor = self.actor.clone();
                }
            }
            let scope = request.command.scope(&context, self.store.registry_id()?);
            let (facts, revision) = self.store.facts(&scope, true)?;
            if in_force(&facts, &request.command, promised.revoked_at) {
                return Ok(self.store.settle(command_id)?);
            }
            // Whatever else forbids it is for a person to look at.
            let Ok(draft) = command::decide(&facts, &request.command, &context) else { return Ok(false) };
            let signatures = self.keyring(&[]).sign(&draft)?;
            let decision = draft.complete(&signatures)?;
            let entry = Entry {
                command: &request.command,
                context: &context,
                facts_hash: facts.hash(),
                entities: changed(&facts, &decision)?,
                keys: Vec::new(),
                hand_out: None,
                decision: &decision,
            };
            let written = if anew {
                self.store.commit(revision, &entry)?
            } else {
                self.store.replace(revision, &entry)?
            };
            match written {
                // A crash before this leaves a held command that is in force: it is settled next time.
                Committed::At { .. } if promised.imported => {
                    return Ok(self.store.drop_held(&promised, false)?);
                }
                Committed::At { .. } if anew => return Ok(self.store.settle(command_id)?),
                Committed::At { .. } => {
                    self.stand_again(promised.position);
                    return Ok(true);
                }
                Committed::Stale => {}
            }
        }
        Ok(false)
    }

    /// Now, and a second later than the attempt before, so that every token is younger than those of that attempt; and not
    /// before the time that a first attempt named: the token that it was for may never get onto the stream.
    pub(super) fn later_than(
        &self,
        before: Timestamp,
        revoked_at: Option<i64>,
    ) -> Result<Timestamp, KeyError> {
        let promised = revoked_at.unwrap_or(0).saturating_mul(1000);
        let later = Timestamp::from_millis(before.millis().saturating_add(1000).max(promised));
        Ok(self.ambient.now().max(later.map_err(|error| internal(&error.to_string()))?))
    }
}

/// Whether no attempt of this authority at the command can be admitted any more.
pub(super) fn used_up(facts: &Facts, command_id: Uuid, authority: PublicKey) -> bool {
    let admitted = facts.command(command_id).is_ok_and(|recorded| recorded.is_some());
    admitted || facts.is_void(command_id, authority) == Ok(true)
}

/// Since when the account's token says that a user is refused: also one whom the registry never knew.
pub(super) fn refused_since(facts: &Facts, account: PublicKey, user: PublicKey) -> Option<i64> {
    let entity = facts.entity(EntityId::Account(account)).ok().flatten()?;
    let body = entity.token()?.claims().body.as_account()?;
    body.revocations.get(&user.to_string()).copied()
}

/// Whether what a revocation wants is in force already. A key is dead from the moment it is revoked; a user's tokens are
/// dead up to the revocation's time, which must reach as far as the first attempt did.
pub(super) fn in_force(facts: &Facts, command: &Command, first_attempt: Option<i64>) -> bool {
    let revoked_at = |id| facts.entity(id).ok().flatten().and_then(Entity::revoked_at);
    let user = |account, user| {
        let at = revoked_at(EntityId::User { account, user });
        at.zip(first_attempt).is_some_and(|(at, first)| at >= first)
    };
    match command {
        Command::RevokeUser { account, user: key } => user(*account, *key),
        Command::RevokeKey { key, owner: Some(account) } if key.kind() == Kind::User => user(*account, *key),
        Command::RevokeKey { key, .. } => revoked_at(EntityId::Key(*key)).is_some(),
        Command::VoidCommand { command_id, revoke, .. } => {
            let reaches = |handed_out: &HandedOut| {
                let since = refused_since(facts, handed_out.account, handed_out.user);
                since.is_some_and(|at| at >= handed_out.issued_at)
            };
            used_up(facts, *command_id, facts.registry().operator) && revoke.as_ref().is_none_or(reaches)
        }
        _ => false,
    }
}
