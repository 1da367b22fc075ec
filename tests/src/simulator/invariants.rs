//! What must hold, checked against the stream itself. Numbers as in the list of invariants: I1 to I4, I8.

use super::broker::{Broker, Origin, Stored};
use super::held::{exists, in_force, used_up};
use super::host::Host;
use super::store::Entry;
use cim_keys_core::admission::{Admitted, Anomaly, Assembler, Group};
use cim_keys_core::command::{Command, decide};
use cim_keys_core::context::RegistryId;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::event::Fact;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, Recorded, Registry};
use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub text: String,
}

impl Broken {
    /// Says which and how.
    pub(crate) fn new(invariant: &'static str, text: impl Into<String>) -> Self {
        Self { invariant, text: text.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

/// Reads the stream from its beginning as any reader could, and folds it.
#[derive(Debug)]
pub(crate) struct Auditor {
    registry: Registry,
    assembler: Assembler,
    anomalies: Vec<Anomaly>,
    read: u64,
    by_id: BTreeMap<Uuid, Recorded>,
    /// Ids that were voided, with who may use none of them any more: none where nobody may.
    void: BTreeMap<Uuid, BTreeSet<Option<PublicKey>>>,
}

impl Auditor {
    /// It knows nothing but which registry it reads.
    pub(crate) fn new(id: RegistryId) -> Self {
        Self {
            registry: Registry::new(id),
            assembler: Assembler::default(),
            anomalies: Vec::new(),
            read: 0,
            by_id: BTreeMap::new(),
            void: BTreeMap::new(),
        }
    }

    /// Reads what is new. What a host appended must be admitted: it was checked on exactly the state before it.
    pub(crate) fn follow(&mut self, broker: &Broker) -> Result<(), Broken> {
        while self.read < broker.last() {
            self.read += 1;
            let Some(stored) = broker.at(self.read) else { break };
            for group in self.assembler.push(stored.message.clone()) {
                match group {
                    Group::Anomaly(anomaly) => self.anomaly(broker, anomaly)?,
                    Group::Command(complete) => {
                        let mut facts = self.registry.facts(&complete.scope(), false);
                        match complete.admit(&mut facts) {
                            Ok(Ok(admitted)) => {
                                self.once(&admitted)?;
                                for id in &admitted.changed {
                                    if let Ok(Some(entity)) = facts.entity(*id) {
                                        self.registry.put(entity.clone());
                                    }
                                }
                                self.by_id.insert(admitted.recorded.command_id, admitted.recorded.clone());
                                self.registry.record(admitted.recorded);
                                admitted.voided.into_iter().for_each(|void| self.registry.record(void));
                            }
                            Ok(Err(anomaly)) => self.anomaly(broker, anomaly)?,
                            Err(missing) => {
                                return Err(Broken::new("scope", format!("admission: {missing}")));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// An id is used up once: by the command that was admitted under it, or by an event that voids it.
    fn once(&mut self, admitted: &Admitted) -> Result<(), Broken> {
        let (id, who) = (admitted.recorded.command_id, admitted.recorded.authority);
        let void = self.void.get(&id).is_some_and(|void| void.contains(&None) || void.contains(&Some(who)));
        if void {
            return Err(Broken::new("voided", format!("command {id} was voided, and is admitted")));
        }
        if let Some(before) = self.by_id.get(&id) {
            let text =
                format!("command {id} is admitted at {} and {}", before.first, admitted.recorded.first);
            return Err(Broken::new("voided", text));
        }
        for event in &admitted.events {
            let Fact::CommandVoided { command_id } = event.fact else { continue };
            if self.by_id.contains_key(&command_id) {
                return Err(Broken::new(
                    "voided",
                    format!("command {command_id} was admitted, and is voided"),
                ));
            }
            let whose = (event.entity != event.registry).then_some(who);
            self.void.entry(command_id).or_default().insert(whose);
        }
        Ok(())
    }

    fn anomaly(&mut self, broker: &Broker, anomaly: Anomaly) -> Result<(), Broken> {
        for sequence in &anomaly.sequences {
            let origin = broker.at(*sequence).map(|stored| stored.origin);
            if let Some(Origin::Host(host)) = origin.filter(|_| !broker.is_torn(*sequence)) {
                let text = format!("host {host} appended an anomaly at {sequence}: {}", anomaly.reason.text);
                return Err(Broken::new("I3 admitted", text));
            }
        }
        self.anomalies.push(anomaly);
        Ok(())
    }

    /// The state at the end of the stream.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many messages change nothing.
    pub(crate) fn anomalies(&self) -> usize {
        self.anomalies.len()
    }
}

/// Id and attempt of the command that a message is part of, if it is one of a host.
pub(crate) fn command_of(stored: &Stored) -> Option<(String, u64)> {
    let Origin::Host(_) = stored.origin else { return None };
    let body: serde_json::Value = serde_json::from_slice(&stored.message.payload).ok()?;
    let command = &body["data"]["command"];
    Some((command["id"].as_str()?.to_owned(), command["attempt"].as_u64()?))
}

/// I2 and I3 by the payloads alone: one message an event id, each command's events contiguous and in order.
pub(crate) fn stream(broker: &Broker) -> Result<(), Broken> {
    let mut ids = BTreeMap::new();
    // By command and attempt: sequence, index and count of each event.
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for stored in broker.log() {
        let Origin::Host(_) = stored.origin else { continue };
        let sequence = stored.message.sequence;
        // What the power left of a command is no command; it was stored again.
        if broker.is_torn(sequence) {
            continue;
        }
        let body: serde_json::Value = serde_json::from_slice(&stored.message.payload)
            .map_err(|_| Broken::new("I3 contiguous", format!("a host appended no JSON at {sequence}")))?;
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        if let Some(before) = ids.insert(id.clone(), sequence) {
            return Err(Broken::new("I2 once", format!("event {id} stands at {before} and at {sequence}")));
        }
        let command = &body["data"]["command"];
        let key =
            (command["id"].as_str().unwrap_or_default().to_owned(), command["attempt"].as_u64().unwrap_or(0));
        let place =
            (sequence, command["index"].as_u64().unwrap_or(0), command["count"].as_u64().unwrap_or(0));
        places.entry(key).or_default().push(place);
    }
    for ((command, _), list) in places {
        let start = list.first().map_or(0, |(sequence, _, _)| *sequence);
        let fits = |(place, (sequence, index, count)): (u64, &(u64, u64, u64))| {
            *sequence == start + place && *index == place && *count == list.len() as u64
        };
        if !(0..).zip(&list).all(fits) {
            return Err(Broken::new("I3 contiguous", format!("command {command} stands at {list:?}")));
        }
    }
    Ok(())
}

/// I1 and I4 of one journal: what it says is confirmed stands there, with its bytes.
pub(crate) fn journal(host: &Host, broker: &Broker, auditor: &Auditor) -> Result<(), Broken> {
    for entry in host.store.entries() {
        let id = entry.pending.context.command_id;
        let found = auditor.by_id.get(&id);
        match entry.state {
            State::Confirmed => confirmed(host, entry, broker, found)?,
            State::Settled
                if entry.successor.is_none()
                    && !in_force(
                        host.store.registry(),
                        &entry.pending.command,
                        entry.revoked_at.unwrap_or(0),
                    ) =>
            {
                return Err(Broken::new(
                    "I1 done",
                    format!("host {}: {id} is settled and not in force", host.number),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn confirmed(host: &Host, entry: &Entry, broker: &Broker, found: Option<&Recorded>) -> Result<(), Broken> {
    let id = entry.pending.context.command_id;
    if was_lost(entry, broker) {
        return Ok(());
    }
    let Some(found) = found else {
        return Err(Broken::new(
            "I1 done",
            format!("host {}: {id} is confirmed and not on the stream", host.number),
        ));
    };
    if found.draft_hash != entry.pending.draft_hash || entry.first != Some(found.first) {
        let text = format!(
            "host {}: {id} is confirmed at {:?}, another stands at {}",
            host.number, entry.first, found.first
        );
        return Err(Broken::new("I4 bytes", text));
    }
    for (sequence, envelope) in (found.first..).zip(&entry.pending.envelopes) {
        let stored = broker.at(sequence).map(|stored| &stored.message);
        let same = stored.is_some_and(|message| {
            message.subject == envelope.subject.as_str()
                && message.payload == envelope.payload
                && envelope.headers.iter().all(|(name, value)| message.headers.only(name) == Some(value))
        });
        if !same {
            return Err(Broken::new("I4 bytes", format!("host {}: {id} differs at {sequence}", host.number)));
        }
    }
    Ok(())
}

/// Whether a confirmed command was stored where the journal says, and went with the power.
fn was_lost(entry: &Entry, broker: &Broker) -> bool {
    let Some(first) = entry.first else { return false };
    let places = (first..).zip(&entry.pending.envelopes);
    let of = |list: &[Stored], (sequence, envelope): (u64, &Envelope)| {
        list.iter().any(|stored| {
            stored.message.sequence == sequence
                && stored.message.subject == envelope.subject.as_str()
                && stored.message.payload == envelope.payload
        })
    };
    let mut places = places.skip_while(|place| of(broker.log(), *place)).peekable();
    places.peek().is_some() && places.all(|place| of(broker.lost(), place))
}

/// I1 without a look at the journal alone: whatever was reported as committed is on the stream, or the journal has it.
pub(crate) fn promised(host: &Host, auditor: &Auditor) -> Result<(), Broken> {
    let kept = |id: &Uuid| {
        auditor.by_id.contains_key(id)
            || host.store.entry(*id).is_some_and(|entry| entry.state != State::Confirmed)
    };
    match host.promised.iter().find(|id| !kept(id)) {
        Some(id) => {
            let text = format!("host {}: {id} was committed, and is neither stored nor kept", host.number);
            Err(Broken::new("I1 done", text))
        }
        None => Ok(()),
    }
}

/// What a person gave up is never published where it never left, and is used up for all where it may have left.
pub(crate) fn given_up(host: &Host, broker: &Broker, auditor: &Auditor) -> Result<(), Broken> {
    for entry in host.store.entries().filter(|entry| entry.state == State::Dropped && !entry.imported) {
        let id = entry.pending.context.command_id;
        let stored = || broker.log().iter().chain(broker.lost()).filter_map(command_of);
        if !entry.left && stored().any(|(stored, _)| stored == id.to_string()) {
            let text = format!("host {}: {id} was given up before it left, and was published", host.number);
            return Err(Broken::new("given up", text));
        }
        let done = |voiding| {
            let state = host.store.entry(voiding).map(|entry| entry.state);
            matches!(state, Some(State::Confirmed | State::Settled))
        };
        // Without an event of its own it was used up when it was given up, which may be lost since.
        let due = entry.voiding.map_or(entry.left && broker.lost().is_empty(), done);
        if due && !used_up(auditor.registry(), id, entry.pending.context.authority) {
            let text = format!("host {}: {id} was given up, and may still be admitted", host.number);
            return Err(Broken::new("given up", text));
        }
    }
    Ok(())
}

/// A command is held because it does not stand: decided anew where it has its place it fails, or is another one. Nothing
/// that a server answers is reason enough here, for it never refuses what a host of ours sends.
pub(crate) fn held(host: &Host, id: Uuid) -> Result<(), Broken> {
    let Some(entry) = host.store.entry(id) else { return Ok(()) };
    let (command, context) = (&entry.pending.command, &entry.pending.context);
    let registry = host.store.before(entry.pending.position);
    let anew = decide(&registry.facts(&command.scope(context, registry.id()), true), command, context);
    let stands = anew.is_ok_and(|draft| draft.hash() == entry.pending.draft_hash);
    let voids = |other: &Entry| {
        let before = other.state == State::Pending && other.pending.position < entry.pending.position;
        let voided = |command: &Command| match command {
            Command::VoidCommand { command_id, .. } => Some(*command_id),
            _ => None,
        };
        // Of two that contradict each other the first one stands.
        before
            && (voided(&other.pending.command) == Some(id)
                || voided(command) == Some(other.pending.context.command_id))
    };
    if stands && !used_up(&registry, id, context.authority) && !host.store.entries().any(voids) {
        let why = entry.reason.as_ref().map_or("", |reason| reason.text.as_str());
        let text = format!("host {}: {} {id} is held and stands: {why}", host.number, command.name());
        return Err(Broken::new("hold", text));
    }
    Ok(())
}

/// The overlay is what folding the pending commands gives; it is checked when the machine says that all is read.
pub(crate) fn overlay(host: &Host) -> Result<(), Broken> {
    let found: Vec<Entity> = host.store.registry().pending().cloned().collect();
    match host.store.folded_overlay() {
        Some(folded) if folded == found => Ok(()),
        Some(folded) => {
            let ids = |list: &[Entity]| list.iter().map(|e| e.id().to_string()).collect::<BTreeSet<_>>();
            let text =
                format!("host {}: {:?} where folding gives {:?}", host.number, ids(&found), ids(&folded));
            Err(Broken::new("overlay", text))
        }
        None => {
            Err(Broken::new("overlay", format!("host {}: a pending command does not stand", host.number)))
        }
    }
}

/// At the end every journal knows the stream as the auditor does, and what was revoked is revoked.
pub(crate) fn drained(host: &Host, broker: &Broker, auditor: &Auditor) -> Result<(), Broken> {
    let who = host.number;
    let (mine, theirs) = (host.store.registry(), auditor.registry());
    if host.store.progress().head != broker.last() || host.store.progress().assembler != auditor.assembler {
        return Err(Broken::new(
            "fold",
            format!("host {who} stands at {}, the stream at {}", host.store.progress().head, broker.last()),
        ));
    }
    if !mine.entities().eq(theirs.entities()) {
        let differing =
            mine.entities().zip(theirs.entities()).find(|(a, b)| a != b).map(|(a, _)| a.id().to_string());
        return Err(Broken::new(
            "fold",
            format!("host {who} knows other entities, {}", differing.unwrap_or_default()),
        ));
    }
    if !mine.commands().eq(theirs.commands()) || !mine.voided().eq(theirs.voided()) {
        return Err(Broken::new("fold", format!("host {who} knows other commands")));
    }
    let stream = broker.log().iter().map(|stored| (stored.message.sequence, stored.message.digest()));
    if !host.store.trail().into_iter().eq(stream) {
        return Err(Broken::new("trail", format!("host {who} has another trail than the stream")));
    }
    let list = |anomalies: &[Anomaly]| {
        let mut list: Vec<(Vec<u64>, String)> =
            anomalies.iter().map(|a| (a.sequences.clone(), a.reason.code.clone())).collect();
        list.sort();
        list
    };
    if list(host.store.anomalies()) != list(&auditor.anomalies) {
        let text =
            format!("host {who} recorded {:?}, a reader {:?}", host.store.anomalies(), auditor.anomalies);
        return Err(Broken::new("anomalies", text));
    }
    // What a person gave up is wanted no more.
    let wanted = |entry: &&Entry| entry.pending.command.is_revocation() && entry.state != State::Dropped;
    for entry in host.store.entries().filter(wanted) {
        revoked(host, entry, broker, theirs)?;
    }
    Ok(())
}

/// Whether a command that gives another one up names no user to revoke, for a pending command before it had done that, and
/// somebody else published it without that one. No machine does: it checks again what it sends, and decides it anew.
fn is_out_of_turn(entry: &Entry, broker: &Broker) -> bool {
    let first = entry.first.and_then(|first| broker.at(first)).map(|stored| stored.origin);
    let revokes = |envelope: &Envelope| envelope.subject.event_type() == "keys.user.revoked";
    entry.state == State::Confirmed
        && matches!(entry.pending.command, Command::VoidCommand { .. })
        && matches!(first, Some(Origin::Foreign(_)))
        && !entry.pending.envelopes.iter().any(revokes)
}

/// A revocation that somebody was told is committed has its effect, unless its target never came to be, or no key is at
/// hand that may vouch for it any more.
fn revoked(host: &Host, entry: &Entry, broker: &Broker, registry: &Registry) -> Result<(), Broken> {
    let command = &entry.pending.command;
    // What was made instead is looked at by itself.
    if entry.successor.is_some() || in_force(registry, command, entry.revoked_at.unwrap_or(0)) {
        return Ok(());
    }
    if is_out_of_turn(entry, broker) {
        return Ok(());
    }
    if entry.state == State::Held && !(exists(registry, command) && host.may_vouch(registry, entry)) {
        return Ok(());
    }
    let id = entry.pending.context.command_id;
    let why = entry.reason.as_ref().map_or("", |reason| reason.text.as_str());
    let text =
        format!("host {}: {} {id} is {:?} and not in force: {why}", host.number, command.name(), entry.state);
    Err(Broken::new("revocation", text))
}
