//! Checking a pending command again: deciding it anew is the only rule there is.

use crate::admission::Complete;
use crate::command::decide;
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::draft::messages_hash;
use crate::envelope::{self, Opened};
use crate::event::Event;
use crate::journal::Pending;
use crate::registry::{EntityId, Facts, Lookup, Missing};
use crate::rules::{self, Fault, Reason};
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;

/// A pending command with its events read from its own messages.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) pending: Pending,
    complete: Complete,
    events: Vec<Event>,
    decision_scope: Vec<Lookup>,
    event_scope: Vec<Lookup>,
}

/// Whether a pending command still stands.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It does: on facts of this digest; the entities that it changes.
    Stands { facts_hash: Digest, changed: BTreeSet<EntityId> },
    /// It does not.
    Hold(Reason),
}

impl Work {
    /// Reads a pending command. A journal whose messages cannot be read any more gives no events, and so is held.
    pub(super) fn new(pending: Pending, registry: &RegistryId) -> Self {
        let decision_scope = pending.command.scope(&pending.context, registry);
        let opened: Result<Vec<Opened>, _> = pending
            .envelopes
            .iter()
            .map(|e| envelope::decode(e.subject.as_str(), &e.headers, &e.payload))
            .collect();
        let complete = Complete::unsent(opened.unwrap_or_default());
        let (events, event_scope) = (complete.events(), complete.scope());
        Self { pending, complete, events, decision_scope, event_scope }
    }

    /// The command's digest as its own events say it, and so as every reader records it.
    pub(super) fn command_hash(&self) -> Digest {
        let said = self.events.first().map(|event| event.command.hash);
        said.unwrap_or_else(|| self.pending.command.hash())
    }

    /// What checking it asks of the registry.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &Lookup> {
        self.decision_scope.iter().chain(&self.event_scope)
    }

    /// Whether its messages are those that were decided and signed: what no reader would admit must not be confirmed here.
    pub(super) fn genuine(&self, registry: &RegistryId) -> Result<(), Reason> {
        // Signatures cost more than all the rest. These were verified, and no byte has changed since.
        if self.pending.messages_hash == Some(messages_hash(&self.pending.envelopes)) {
            return Ok(());
        }
        let damaged = |text: &str| Reason { code: "journal-damaged".to_string(), text: text.to_string() };
        match self.complete.genuine(registry) {
            Ok(hash) if hash == self.pending.draft_hash => Ok(()),
            Ok(_) => Err(damaged("its messages are not those that were decided: make it anew")),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }

    /// Checks it on the state before it and, where it stands, folds it in.
    pub(super) fn check(&self, facts: &mut Facts, skip: bool) -> Result<Verdict, Missing> {
        let seen = facts.only(&self.decision_scope)?;
        let facts_hash = seen.hash();
        if facts_hash != self.pending.facts_hash && !skip {
            match decide(&seen, &self.pending.command, &self.pending.context) {
                Ok(draft) if draft.hash() == self.pending.draft_hash => {}
                Ok(_) => {
                    return Ok(hold(
                        "facts-changed",
                        "what it was decided on has changed, and it would be another command now",
                    ));
                }
                Err(crate::command::Rejection::Missing(missing)) => return Err(missing),
                Err(rejection) => return Ok(hold(rejection.code(), &rejection.to_string())),
            }
        }
        let mut part = facts.only(&self.event_scope)?;
        match rules::judge(&mut part, &self.events) {
            Ok(changed) => {
                facts.overwrite(part);
                Ok(Verdict::Stands { facts_hash, changed })
            }
            Err(Fault::Missing(missing)) => Err(missing),
            Err(Fault::Violation(_)) if skip => Ok(Verdict::Stands { facts_hash, changed: BTreeSet::new() }),
            Err(Fault::Violation(violation)) => Ok(hold(violation.code(), &violation.to_string())),
        }
    }
}

fn hold(code: &str, text: &str) -> Verdict {
    Verdict::Hold(Reason { code: code.to_string(), text: text.to_string() })
}
