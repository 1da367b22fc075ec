//! Who did what, when, caused by what.
//!
//! | key | value |
//! | --- | --- |
//! | `at`, sequence | the entry |
//! | `entity`, entity, sequence | none |
//! | `actor`, actor, sequence | none |
//! | `correlation`, id, sequence | none |
//! | `type`, event type, sequence | none |

use super::{Key, Projection, Range, Record, Rows, number};
use crate::event::Fact;
use crate::json;
use crate::nkey::PublicKey;
use crate::order;
use crate::registry::entity_of;
use crate::subjects::DOMAIN;
use crate::time::Timestamp;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The audit trail: who did what, when, and caused by what.
#[derive(Clone, Copy, Debug)]
pub struct Audit;

/// One event in the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its stream sequence.
    pub sequence: u64,
    /// Its id.
    pub event_id: Uuid,
    /// Such as `keys.user.created`.
    pub event_type: String,
    /// What it is about: an entity's id, or `command:` and the id of one that was voided.
    pub entity: String,
    /// The name in the token that it brings, or a key's label.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// When, by the clock of whoever did it.
    pub time: Timestamp,
    /// Who wanted it.
    pub actor: String,
    /// The key that vouched for it.
    pub authority: PublicKey,
    /// The command.
    pub command_id: Uuid,
    /// The conversation.
    pub correlation_id: Uuid,
    /// The command or event that caused the command; its own id where nothing did.
    pub causation_id: Uuid,
}

impl Entry {
    /// Of an event.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let event = &record.event;
        let (entity, operation) = event.fact.name();
        let about = match (&event.fact, entity_of(event)) {
            (Fact::CommandVoided { command_id }, _) => format!("command:{command_id}"),
            (_, Some(id)) => id.to_string(),
            (_, None) => event.entity.to_string(),
        };
        let label = match &event.fact {
            Fact::KeyGenerated { label, .. } => label.clone(),
            _ => None,
        };
        Self {
            sequence: record.sequence,
            event_id: event.id,
            event_type: format!("{DOMAIN}.{entity}.{operation}"),
            entity: about,
            name: event.claims().map(|claims| claims.name.clone()).or(label),
            time: event.time,
            actor: event.command.actor.to_string(),
            authority: event.command.authority,
            command_id: event.command.id,
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
        }
    }
}

impl Audit {
    /// The row of an entry.
    #[must_use]
    pub fn at(sequence: u64) -> Key {
        Key::of(&["at", &number(sequence)])
    }

    /// Rows of all entries between two sequences, both included.
    #[must_use]
    pub fn between(first: u64, last: u64) -> Range {
        Range::numbers(&["at"], first, last)
    }

    /// Rows that name the entries of a look-up between two sequences: `entity`, `actor`, `correlation` or `type`, and its
    /// text.
    #[must_use]
    pub fn by(look_up: &str, text: &str, first: u64, last: u64) -> Range {
        Range::numbers(&[look_up, text], first, last)
    }

    /// The sequence that a row names.
    #[must_use]
    pub fn sequence(key: &Key) -> Option<u64> {
        u64::from_str_radix(key.last(), 16).ok()
    }

    /// A row's text as an entry.
    #[must_use]
    pub fn entry(text: &str) -> Option<Entry> {
        json::from_text(text).ok()
    }
}

impl Projection for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scope(&self, _: &Record) -> Vec<Key> {
        Vec::new()
    }

    fn apply(&self, rows: &mut Rows, record: &Record) {
        let entry = Entry::of(record);
        let sequence = number(record.sequence);
        for (look_up, text) in [
            ("entity", entry.entity.as_str()),
            ("actor", &entry.actor),
            ("correlation", &entry.correlation_id.to_string()),
            ("type", &entry.event_type),
        ] {
            rows.mark(Key::of(&[look_up, text, &sequence]));
        }
        rows.write(Self::at(record.sequence), &entry);
    }
}

/// A command in the tree of what caused what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// How many commands lie between it and its root.
    pub depth: u32,
    /// The command.
    pub command_id: Uuid,
    /// The command that caused it; none at a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<Uuid>,
    /// Its events in order.
    pub entries: Vec<Entry>,
}

/// The tree of what caused what among some entries, root after root, each command right behind what caused it and that one's
/// earlier effects. What caused a command stands before it on the stream; where that is not among the entries, it is a root.
#[must_use]
pub fn tree(mut entries: Vec<Entry>) -> Vec<Branch> {
    order::sort_by_text(&mut entries, |entry| number(entry.sequence));
    // By the sequence of each command's first event.
    let mut commands: BTreeMap<u64, Branch> = BTreeMap::new();
    let mut first: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut children: BTreeMap<Option<u64>, Vec<u64>> = BTreeMap::new();
    for entry in entries {
        let is_new = !first.contains_key(&entry.command_id);
        let at = *first.entry(entry.command_id).or_insert(entry.sequence);
        if is_new {
            let cause = first.get(&entry.causation_id).copied().filter(|cause| *cause != at);
            children.entry(cause).or_default().push(at);
            let caused_by = cause.and_then(|cause| commands.get(&cause)).map(|cause| cause.command_id);
            let (depth, command_id) = (0, entry.command_id);
            commands.insert(at, Branch { depth, command_id, caused_by, entries: Vec::new() });
        }
        // A cause may be named by one of its events.
        first.entry(entry.event_id).or_insert(at);
        if let Some(branch) = commands.get_mut(&at) {
            branch.entries.push(entry);
        }
    }
    let mut branches = Vec::new();
    let of = |at: Option<u64>, depth: u32| {
        let found = children.get(&at).into_iter().flatten().rev();
        found.map(move |child| (*child, depth)).collect::<Vec<_>>()
    };
    let mut next = of(None, 0);
    while let Some((at, depth)) = next.pop() {
        branches.extend(commands.remove(&at).map(|branch| Branch { depth, ..branch }));
        next.extend(of(Some(at), depth.saturating_add(1)));
    }
    branches
}
