//! Checking a pending command again: deciding it anew is the only rule there is.

use crate::admission::Complete;
use crate::command::decide_as;
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::draft::messages_hash;
use crate::envelope::{self, Envelope, Opened};
use crate::event::{Event, Fact};
use crate::journal::{Pending, Ready};
use crate::registry::{EntityId, Facts, Lookup, Missing, Recorded, voided};
use crate::rules::{self, Fault, Reason};
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;

/// A pending command with its events read from its own messages.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) pending: Pending,
    /// The newest schema known.
    known: u32,
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
    pub(super) fn new(known: u32, pending: Pending, registry: &RegistryId) -> Self {
        let decision_scope = pending.command.scope(&pending.context, registry);
        let complete = Complete::unsent(opened(known, "", &pending.envelopes));
        let (events, event_scope) = (complete.events(), complete.scope());
        Self { known, pending, events, decision_scope, event_scope }
    }

    /// What checking it asks of the registry.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &Lookup> {
        self.decision_scope.iter().chain(&self.event_scope)
    }

    /// Checks it on the state before it and, where it stands, folds it in.
    pub(super) fn check(&self, facts: &mut Facts, skip: bool) -> Result<Verdict, Missing> {
        let seen = facts.only(&self.decision_scope)?;
        let facts_hash = seen.hash();
        if facts_hash != self.pending.facts_hash && !skip {
            match decide_as(self.known, &seen, &self.pending.command, &self.pending.context) {
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
                let context = &self.pending.context;
                let recorded = Recorded {
                    command_id: context.command_id,
                    attempt: context.attempt,
                    command_hash: self.pending.command.hash(),
                    draft_hash: self.pending.draft_hash,
                    authority: context.authority,
                    first: 0,
                    last: 0,
                    voided: Vec::new(),
                };
                voided(&self.events, &recorded).into_iter().for_each(|void| part.record(void));
                part.record(recorded);
                facts.overwrite(part);
                Ok(Verdict::Stands { facts_hash, changed })
            }
            Err(Fault::Missing(missing)) => Err(missing),
            Err(Fault::Violation(_)) if skip => Ok(Verdict::Stands { facts_hash, changed: BTreeSet::new() }),
            Err(Fault::Violation(violation)) => Ok(hold(violation.code(), &violation.to_string())),
        }
    }
}

/// Whether a command's messages are those that were decided and signed: what no reader would admit must not be confirmed
/// here. True where the signatures had to be looked at for that.
pub(super) fn genuine(known: u32, command: &Ready, registry: &RegistryId) -> Result<bool, Reason> {
    // Signatures cost more than all the rest. These were verified, and no byte has changed since.
    if command.messages_hash == Some(messages_hash(&command.envelopes)) {
        return Ok(false);
    }
    let damaged = |text: &str| Reason { code: "journal-damaged".to_string(), text: text.to_string() };
    match Complete::unsent(opened(known, "", &command.envelopes)).genuine(registry) {
        Ok(hash) if hash == command.draft_hash => Ok(true),
        Ok(_) => Err(damaged("its messages are not those that were decided: make it anew")),
        Err(error) => Err(damaged(&error.to_string())),
    }
}

/// Messages as they read, of one type or, where that is empty, all of them; none where one of them cannot be read.
fn opened(known: u32, kind: &str, envelopes: &[Envelope]) -> Vec<Opened> {
    let mut all = Vec::new();
    for e in envelopes.iter().filter(|e| kind.is_empty() || e.subject.event_type() == kind) {
        match envelope::decode_as(known, e.subject.as_str(), &e.headers, &e.payload) {
            Ok(opened) => all.push(opened),
            Err(_) => return Vec::new(),
        }
    }
    all
}

/// Those among the events that use the id of another command up.
pub(super) fn voiding(known: u32, envelopes: &[Envelope]) -> Vec<Event> {
    let voiding = opened(known, "keys.command.voided", envelopes);
    voiding.into_iter().map(|opened| opened.event).collect()
}

/// The schema level that a command raises the registry to, where it does.
pub(super) fn raising(known: u32, envelopes: &[Envelope]) -> Option<u32> {
    match opened(known, envelope::RAISED, envelopes).first()?.event.fact {
        Fact::SchemaRaised { level } => Some(level),
        _ => None,
    }
}

fn hold(code: &str, text: &str) -> Verdict {
    Verdict::Hold(Reason { code: code.to_string(), text: text.to_string() })
}
