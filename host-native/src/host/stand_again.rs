//! Held commands that could not stand without another held one, once that is in place again.

use super::Host;
use super::redecide::used_up;
use crate::error::KeyError;
use crate::store::{Promised, Standing};
use cim_keys_core::bundle::{Bundle, BundledCommand};
use cim_keys_core::registry::Lookup;
use uuid::Uuid;

/// Attempts before they are left held: the next retry takes them along.
const ATTEMPTS: u32 = 20;

impl Host {
    /// Makes every held command from behind this place of the journal pending again that would be the same draft if it were
    /// decided now, behind what is pending: the same attempt, ids, tokens and bytes, in the order in which they were made.
    /// Each is judged with those before it in place. What a server refused for itself stays held. Their ids.
    ///
    /// What hinders this is no failure of what put the other command in its place: they stay held, as they are listed.
    pub(super) fn stand_again(&self, behind: u64) -> Vec<Uuid> {
        for _ in 0..ATTEMPTS {
            match self.standing_again(behind) {
                Ok(Some(ids)) => return ids,
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Vec::new()
    }

    /// None where something was written meanwhile.
    fn standing_again(&self, behind: u64) -> Result<Option<Vec<Uuid>>, KeyError> {
        let registry = self.store.registry_id()?;
        let mut held: Vec<Promised> = Vec::new();
        for found in self.store.held()?.into_iter().filter(|found| !found.reason.is_by_server()) {
            held.extend(self.store.promised(found.command_id)?.filter(|held| held.position > behind));
        }
        let mut bundle = Bundle { registry: registry.clone(), commands: held.iter().map(bundled).collect() };
        // One that is damaged or of another form is not in the way of the others.
        while let Err(error) = bundle.verify() {
            let before = bundle.commands.len();
            bundle.commands.retain(|command| command.context.command_id != error.command_id);
            if bundle.commands.len() == before {
                return Ok(Some(Vec::new()));
            }
        }
        let Ok(verified) = bundle.verify() else { return Ok(Some(Vec::new())) };
        let mut scope = Vec::new();
        for command in verified.commands() {
            scope.extend(command.scopes().cloned());
            scope.push(Lookup::Command(command.bundled().context.command_id));
        }
        let (mut facts, revision) = self.store.facts(&scope, true)?;
        let mut standing = Vec::new();
        for command in verified.commands() {
            let context = &command.bundled().context;
            let as_read = |held: &&Promised| held.context.command_id == context.command_id;
            let Some(held) = held.iter().find(as_read) else { continue };
            if used_up(&facts, context.command_id, context.authority) {
                continue;
            }
            // Each on a copy: one that fails leaves nothing behind.
            let mut after = facts.clone();
            let Ok(stands) = command.judge(&mut after) else { continue };
            let left = stands.changed.into_iter().filter_map(|id| after.entity(id).ok().flatten().cloned());
            let entities = left.collect();
            facts = after;
            standing.push(Standing { held, command, facts_hash: stands.facts_hash, entities });
        }
        if standing.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let ids = standing.iter().map(|standing| standing.held.context.command_id).collect();
        Ok(self.store.revive(revision, &standing)?.then_some(ids))
    }
}

fn bundled(held: &Promised) -> BundledCommand {
    BundledCommand {
        command: held.command.clone(),
        context: held.context.clone(),
        draft_hash: held.draft_hash,
        envelopes: held.envelopes.clone(),
    }
}
