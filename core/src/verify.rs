//! A walk along a stream from its first message on, that believes nobody: what stands there is judged anew, by the rules that
//! every reader has ([`admission`](crate::admission)), and every place that is missing is named.
//!
//! Calling: [`take`](Verifier::take) messages in order, answer the portion's [`lookups`](Portion::lookups) on the state that
//! the walk has come to, give both to [`judge`](Verifier::judge), and keep what that says was changed. At the end
//! [`finish`](Verifier::finish).

use crate::admission::{Anomaly, Assembler, Complete, Group, StoredMessage};
use crate::context::RegistryId;
use crate::envelope::SCHEMA_VERSION;
use crate::order;
use crate::registry::{Entity, EntityId, Facts, Lookup, Missing, Recorded};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stream sequence of the first message that it is about; 0 where it is about none.
    pub first: u64,
    /// Of the last one.
    pub last: u64,
    /// Stable code: that of the rule which is broken, or of [`codes`].
    pub code: String,
    /// In words.
    pub text: String,
}

impl Finding {
    /// A finding about these messages.
    #[must_use]
    pub fn new(first: u64, last: u64, code: &str, text: impl Into<String>) -> Self {
        Self { first, last, code: code.to_string(), text: text.into() }
    }
}

impl From<&Anomaly> for Finding {
    fn from(anomaly: &Anomaly) -> Self {
        let place = |sequence: Option<&u64>| sequence.copied().unwrap_or_default();
        let (first, last) = (place(anomaly.sequences.first()), place(anomaly.sequences.last()));
        Self::new(first, last, &anomaly.reason.code, anomaly.reason.text.clone())
    }
}

/// Codes of findings that are no anomaly of a message.
pub mod codes {
    /// Sequences that the stream does not have.
    pub const GAP: &str = "gap";
    /// A message whose sequence is not behind that of the one before.
    pub const ORDER: &str = "out-of-order";
}

/// Messages that were put together, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    gaps: Vec<Finding>,
    groups: Vec<Group>,
}

impl Portion {
    /// What judging it asks of the registry as the walk has left it.
    #[must_use]
    pub fn lookups(&self, registry: &RegistryId) -> Vec<Lookup> {
        let whole = |group: &Group| match group {
            Group::Command(complete) => Complete::scope(complete),
            Group::Anomaly(_) => Vec::new(),
        };
        let mut lookups = order::set(self.groups.iter().flat_map(whole));
        lookups.insert(Lookup::Entity(EntityId::Operator(registry.operator)));
        lookups.into_iter().collect()
    }
}

/// What a portion comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What is wrong, in the order of the stream.
    pub findings: Vec<Finding>,
    /// Entities as they are behind it.
    pub entities: Vec<Entity>,
    /// Commands that were admitted or voided.
    pub recorded: Vec<Recorded>,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Walked {
    /// The last sequence.
    pub head: u64,
    /// Messages.
    pub messages: u64,
    /// Commands that were admitted.
    pub commands: u64,
    /// Their events.
    pub events: u64,
    /// The schema level, above what is known here, behind which nothing is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at_level: Option<u32>,
}

/// Walks along a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    registry: RegistryId,
    assembler: Assembler,
    walked: Walked,
}

impl Verifier {
    /// Before the first message.
    #[must_use]
    pub fn new(registry: RegistryId) -> Self {
        Self { registry, assembler: Assembler::default(), walked: Walked::default() }
    }

    /// How far it has come.
    #[must_use]
    pub fn walked(&self) -> Walked {
        self.walked
    }

    /// Takes the messages that follow.
    #[must_use]
    pub fn take(&mut self, messages: Vec<StoredMessage>) -> Portion {
        let mut portion = Portion { gaps: Vec::new(), groups: Vec::new() };
        for message in messages {
            let (due, found) = (self.walked.head.saturating_add(1), message.sequence);
            if found < due {
                let text = format!("the message at {found} came behind that at {}", self.walked.head);
                portion.gaps.push(Finding::new(found, found, codes::ORDER, text));
                continue;
            }
            if found > due {
                portion.gaps.push(gap(due, found - 1));
            }
            self.walked.head = found;
            self.walked.messages = self.walked.messages.saturating_add(1);
            portion.groups.extend(self.assembler.push(message));
        }
        portion
    }

    /// Judges a portion on the state before it, which is folded into `facts`.
    ///
    /// # Errors
    /// A fact that was not loaded.
    pub fn judge(&mut self, portion: Portion, facts: &mut Facts) -> Result<Judged, Missing> {
        let mut judged = Judged { findings: portion.gaps, ..Judged::default() };
        let mut changed = BTreeSet::new();
        for group in portion.groups {
            let complete = match group {
                _ if self.walked.stopped_at_level.is_some() => break,
                Group::Anomaly(anomaly) => {
                    judged.findings.push(Finding::from(&anomaly));
                    continue;
                }
                Group::Command(complete) => complete,
            };
            match complete.admit(facts)? {
                Err(anomaly) => judged.findings.push(Finding::from(&anomaly)),
                Ok(admitted) => {
                    self.walked.commands = self.walked.commands.saturating_add(1);
                    self.walked.events = self.walked.events.saturating_add(admitted.events.len() as u64);
                    // Who does not know the level reads no further: nothing behind it may be called wrong.
                    self.walked.stopped_at_level = admitted.raised().filter(|level| *level > SCHEMA_VERSION);
                    changed.extend(admitted.changed);
                    judged.recorded.push(admitted.recorded);
                    judged.recorded.extend(admitted.voided);
                }
            }
        }
        judged.entities = changed.iter().filter_map(|id| facts.entity(*id).ok().flatten().cloned()).collect();
        order::sort_by_text(&mut judged.findings, |finding| format!("{:020}", finding.first));
        Ok(judged)
    }

    /// The stream ends at `last`: what is missing before that, or begun and not finished.
    #[must_use]
    pub fn finish(&mut self, last: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(Group::Anomaly(anomaly)) = self.assembler.interrupt() {
            findings.push(Finding::from(&anomaly));
        }
        if last > self.walked.head && self.walked.stopped_at_level.is_none() {
            findings.push(gap(self.walked.head.saturating_add(1), last));
        }
        findings
    }

    /// Which registry it walks along.
    #[must_use]
    pub fn registry(&self) -> &RegistryId {
        &self.registry
    }
}

fn gap(first: u64, last: u64) -> Finding {
    Finding::new(
        first,
        last,
        codes::GAP,
        "the stream does not have what stood there: what follows may rest on it",
    )
}
