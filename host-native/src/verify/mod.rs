//! Verifies: walks along the stream, or along what the store kept of it, judges all of it anew, and compares what comes of that with
//! the store. Only the core judges; the fold stands in a scratch store, so that memory is bounded.

#[cfg(feature = "nats")]
pub mod server;

use crate::error::KeyError;
use crate::store::Store;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::journal::Progress;
use cim_keys_core::registry::{EntityId, Lookup};
use cim_keys_core::sync::{Persist, Persisted};
use cim_keys_core::verify::{Finding, Verifier, Walked};
use std::collections::BTreeMap;

/// Messages that are judged at a time.
pub const PORTION: u32 = 500;
/// Entities that are compared at a time.
const ENTITIES: u32 = 1000;

/// The store has another entity than the stream makes.
pub const ENTITY_DIFFERS: &str = "entity-differs";
/// The store has an entity that the stream does not make.
pub const ENTITY_UNFOUNDED: &str = "entity-unfounded";
/// The store lacks an entity that the stream makes.
pub const ENTITY_MISSING: &str = "entity-missing";
/// An entity of the store cannot be read.
pub const ENTITY_UNREADABLE: &str = "entity-unreadable";
/// The store says of a message that it changes nothing, and it does, or for another reason.
pub const ANOMALY_UNFOUNDED: &str = "anomaly-unfounded";
/// The server has another message than this host has read there.
pub const MESSAGE_DIFFERS: &str = "message-differs";
/// The server has fewer messages than this host has read.
pub const WENT_BACK: &str = "stream-went-back";

/// A finding, and whether the store tells of it already.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// What.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whether `anomalies` lists it.
    pub known: bool,
}

/// A walk beside a store.
pub struct Walk<'a> {
    store: &'a Store,
    scratch: Store,
    verifier: Verifier,
    /// What the store tells of: first and last sequence to code. What the walk finds is taken out.
    told: BTreeMap<(u64, u64), String>,
}

impl<'a> Walk<'a> {
    /// Before the first message.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(store: &'a Store) -> Result<Self, KeyError> {
        let registry = store.registry_id()?;
        let told = store.anomalies()?.into_iter().map(|anomaly| {
            let finding = Finding::from(&anomaly);
            ((finding.first, finding.last), finding.code)
        });
        Ok(Self {
            store,
            scratch: Store::scratch(registry)?,
            verifier: Verifier::new(registry.clone()),
            told: told.collect(),
        })
    }

    /// How far it has come.
    #[must_use]
    pub fn walked(&self) -> Walked {
        self.verifier.walked()
    }

    /// Takes the messages that follow, and says what is wrong with them.
    ///
    /// # Errors
    /// A store cannot be read or written.
    pub fn take(&mut self, messages: Vec<StoredMessage>) -> Result<Vec<Found>, KeyError> {
        let before = self.walked().head;
        let portion = self.verifier.take(messages);
        let lookups = portion.lookups(self.verifier.registry());
        let (mut facts, _) = self.scratch.facts(&lookups, false)?;
        let judged = self
            .verifier
            .judge(portion, &mut facts)
            .map_err(|missing| KeyError::Internal { what: missing.to_string() })?;
        let progress = Progress { head: self.walked().head, ..Progress::default() };
        let (entities, recorded) = (judged.entities, judged.recorded);
        let persist = Persist { expect_head: before, progress, entities, recorded, ..Persist::default() };
        match self.scratch.persist(&persist) {
            Persisted::Ok => Ok(judged.findings.into_iter().map(|finding| self.found(finding)).collect()),
            Persisted::Stale => Err(KeyError::Internal { what: "the scratch store moved".to_owned() }),
            Persisted::Failed { reason } => Err(KeyError::Internal { what: reason }),
        }
    }

    fn found(&mut self, finding: Finding) -> Found {
        let place = (finding.first, finding.last);
        let known = self.told.get(&place).is_some_and(|code| *code == finding.code);
        if known {
            self.told.remove(&place);
        }
        Found { finding, known }
    }

    /// Compares what came of the messages with the store's entities, where both have come equally far; none where the store
    /// has come further meanwhile, or not as far.
    ///
    /// # Errors
    /// A store cannot be read.
    pub fn compare(&mut self) -> Result<Option<Vec<Found>>, KeyError> {
        let head = self.walked().head;
        let mut list = Vec::new();
        let mut after = String::new();
        let differs = |code: &str, id: &str, text: &str| Finding::new(0, 0, code, format!("{id} {text}"));
        loop {
            let portion = self.store.at_head(&after, ENTITIES)?;
            let Some((last, _)) = portion.last() else { break };
            after.clone_from(last);
            let ids = portion.iter().filter_map(|(id, _)| id.parse().ok());
            let lookups: Vec<Lookup> = ids.map(Lookup::Entity).collect();
            let (folded, _) = self.scratch.facts(&lookups, false)?;
            for (id, entity) in portion {
                let made = id.parse().ok().and_then(|id: EntityId| folded.entity(id).ok().flatten());
                match (made, entity) {
                    (_, None) => list.push(differs(ENTITY_UNREADABLE, &id, "cannot be read in the store")),
                    (Some(made), Some(entity)) if *made == entity => {}
                    (Some(_), Some(_)) => {
                        list.push(differs(ENTITY_DIFFERS, &id, "is not in the store as the stream makes it"));
                    }
                    (None, Some(_)) => {
                        list.push(differs(ENTITY_UNFOUNDED, &id, "is in the store, and nothing made it"));
                    }
                }
            }
        }
        after.clear();
        loop {
            let portion = self.scratch.at_head(&after, ENTITIES)?;
            let Some((last, _)) = portion.last() else { break };
            after.clone_from(last);
            let ids: Vec<EntityId> = portion.iter().filter_map(|(id, _)| id.parse().ok()).collect();
            let lookups: Vec<Lookup> = ids.iter().map(|id| Lookup::Entity(*id)).collect();
            // What cannot be read there was named above.
            let Ok((facts, _)) = self.store.facts(&lookups, false) else { continue };
            let missing = ids.iter().filter(|id| matches!(facts.entity(**id), Ok(None)));
            list.extend(missing.map(|id| {
                differs(ENTITY_MISSING, &id.to_string(), "is made by the stream, and not in the store")
            }));
        }
        if self.store.progress()?.head != head {
            return Ok(None);
        }
        Ok(Some(list.into_iter().map(|finding| Found { finding, known: false }).collect()))
    }

    /// The stream ends at `last`: what is missing, and what the store tells of and is not so.
    #[must_use]
    pub fn finish(mut self, last: u64) -> Vec<Found> {
        let findings = self.verifier.finish(last);
        // What is unfinished at the end goes on perhaps: a store does not tell of it yet.
        let mut found: Vec<Found> = findings.into_iter().map(|finding| self.found(finding)).collect();
        let until = self.walked().head;
        let stopped = self.walked().stopped_at_level.is_some();
        let told = self.told.into_iter().filter(|((_, last), _)| *last <= until && !stopped);
        found.extend(told.map(|((first, last), code)| {
            let text = format!("the store has it as an anomaly ({code}), and it is none, or another one");
            Found { finding: Finding::new(first, last, ANOMALY_UNFOUNDED, text), known: false }
        }));
        found
    }
}

/// What the store kept of the stream behind `after`, a portion of it up to `until`.
///
/// # Errors
/// The store cannot be read.
pub fn kept(store: &Store, after: u64, until: u64) -> Result<Vec<StoredMessage>, KeyError> {
    let entries = store.trail_between(after, until, PORTION)?;
    let message = |entry: crate::store::TrailEntry| StoredMessage {
        sequence: entry.sequence,
        subject: entry.subject,
        headers: entry.headers,
        payload: entry.payload,
        time: None,
    };
    Ok(entries.into_iter().map(message).collect())
}

/// Messages that are not those which the store kept.
///
/// # Errors
/// The store cannot be read.
pub fn compare_messages(store: &Store, messages: &[StoredMessage]) -> Result<Vec<Found>, KeyError> {
    let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut after = first.sequence.saturating_sub(1);
    let by_place: BTreeMap<u64, &StoredMessage> =
        messages.iter().map(|message| (message.sequence, message)).collect();
    loop {
        let portion = kept(store, after, last.sequence)?;
        let Some(end) = portion.last() else { return Ok(found) };
        after = end.sequence;
        for own in &portion {
            let place = own.sequence;
            if by_place.get(&place).is_some_and(|message| message.content() != own.content()) {
                let text = "the server has another message there than this host has read";
                let finding = Finding::new(place, place, MESSAGE_DIFFERS, text);
                found.push(Found { finding, known: false });
            }
        }
    }
}
