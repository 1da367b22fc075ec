//! A host's journal and registry in memory, with the obligations of a real store: whole transactions or none.

use cim_keys_core::admission::{Anomaly, StoredMessage};
use cim_keys_core::bundle::Standing;
use cim_keys_core::command::Command;
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::event::{Event, Fact};
use cim_keys_core::journal::{Pending, Progress, State};
use cim_keys_core::registry::{Entity, EntityId, Facts, Lookup, Registry};
use cim_keys_core::rules::{self, Reason};
use cim_keys_core::sync::{Confirmed, Input, Landed, Overlay, Persist, Persisted, last_agreeing, recover};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// One command of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its newest attempt.
    pub(crate) pending: Pending,
    /// Where it stands.
    pub(crate) state: State,
    /// Why it is held.
    pub(crate) reason: Option<Reason>,
    /// Sequence of its first event, once it is confirmed.
    pub(crate) first: Option<u64>,
    /// Messages of earlier attempts.
    pub(crate) earlier: Vec<Vec<Envelope>>,
    /// The command made instead of it, where its id was used up by another.
    pub(crate) successor: Option<Uuid>,
    /// Unix seconds from which on the first attempt wanted its target refused.
    pub(crate) revoked_at: Option<i64>,
    /// Whether anybody else may have an attempt at it: it was sent, or it left in a bundle or a copy of the store.
    pub(crate) left: bool,
    /// Whether creds or a token that it brings were given to somebody.
    pub(crate) handed_out: bool,
    /// Whether another host minted it.
    pub(crate) imported: bool,
    /// The command that voids its id, where it was given up with one.
    pub(crate) voiding: Option<Uuid>,
}

/// What a crash leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    registry: Registry,
    progress: Progress,
    entries: BTreeMap<u64, Entry>,
    places: BTreeMap<Uuid, u64>,
    anomalies: Vec<Anomaly>,
    /// Messages that were read. Of own commands that were confirmed by their acknowledgement the journal has them.
    messages: BTreeMap<u64, StoredMessage>,
    revision: u64,
    /// A planted mistake: what is acknowledged is taken out of the journal.
    pub(crate) forgets_acknowledged: bool,
}

impl Store {
    /// An empty one.
    pub(crate) fn new(id: RegistryId) -> Self {
        Self {
            registry: Registry::new(id),
            progress: Progress::default(),
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            anomalies: Vec::new(),
            messages: BTreeMap::new(),
            revision: 0,
            forgets_acknowledged: false,
        }
    }

    /// The state at `head` with the overlay over it.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// All commands in journal order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The command of an id.
    pub(crate) fn entry(&self, id: Uuid) -> Option<&Entry> {
        self.entries.get(self.places.get(&id)?)
    }

    /// What was recorded as changing nothing.
    pub(crate) fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }

    /// Digest of the message at each sequence that it knows.
    pub(crate) fn trail(&self) -> BTreeMap<u64, Digest> {
        self.known().into_iter().map(|(sequence, message)| (sequence, message.digest())).collect()
    }

    /// What was read, and own messages at the places where they were confirmed.
    fn known(&self) -> BTreeMap<u64, StoredMessage> {
        let mut known: BTreeMap<u64, StoredMessage> =
            self.entries.values().flat_map(Entry::confirmed).map(|own| (own.sequence, own)).collect();
        known.extend(self.messages.iter().map(|(sequence, message)| (*sequence, message.clone())));
        known
    }

    /// Whether anything waits to be appended.
    pub(crate) fn has_pending(&self) -> bool {
        self.entries.values().any(|entry| entry.state == State::Pending)
    }

    /// Answers `LoadFacts`.
    pub(crate) fn facts(&self, scopes: &[Lookup]) -> Input {
        let own = scopes.iter().filter_map(|lookup| match lookup {
            Lookup::Command(id) => self.entry(*id).map(|entry| entry.pending.own(entry.state)),
            _ => None,
        });
        Input::Facts { own: own.collect(), facts: self.registry.facts(scopes, false) }
    }

    /// Answers `Load`.
    pub(crate) fn load(&self, after: u64, limit: u32) -> Input {
        let mut behind =
            self.entries.range(after + 1..).map(|(_, e)| e).filter(|e| e.state == State::Pending);
        let commands: Vec<Pending> =
            behind.by_ref().take(limit as usize).map(|e| e.pending.clone()).collect();
        Input::Loaded {
            commands,
            more: behind.next().is_some(),
            held_revocations: self.held_revocations(),
            revision: self.revision,
        }
    }

    /// Answers `Gather`.
    pub(crate) fn gather(&self, after: u64, messages: u32) -> Input {
        let mut commands = Vec::new();
        let mut left = messages as usize;
        for entry in self.entries.range(after + 1..).map(|(_, e)| e).filter(|e| e.state == State::Pending) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(entry.pending.envelopes.len());
            commands.push(entry.pending.ready());
        }
        Input::Gathered { commands, held_revocations: self.held_revocations() }
    }

    fn held_revocations(&self) -> Vec<Uuid> {
        let revocation = |e: &&Entry| e.state == State::Held && e.pending.command.is_revocation();
        self.entries.values().filter(revocation).map(|e| e.pending.context.command_id).collect()
    }

    /// Writes a decision: one transaction with its events and the entities that they leave.
    /// `instead` is the command whose place it takes, with what was promised of that.
    pub(crate) fn commit(
        &mut self,
        command: Command,
        context: Context,
        facts: &Facts,
        decision: Decision,
        instead: Option<Uuid>,
    ) {
        let position = self.entries.keys().next_back().map_or(1, |last| last + 1);
        let mut folded = facts.clone();
        let changed = rules::judge(&mut folded, &decision.events).unwrap_or_default();
        for entity in values(&folded, &changed) {
            self.registry.put_overlay(position, entity);
        }
        let id = context.command_id;
        let pending = Pending {
            position,
            command,
            context,
            facts_hash: facts.hash(),
            draft_hash: decision.draft_hash,
            envelopes: decision.envelopes,
            messages_hash: Some(decision.messages_hash),
        };
        let before = self.places.remove(&id).and_then(|place| self.entries.remove(&place));
        let mut earlier = Vec::new();
        let mut revoked_at = decision.events.iter().find_map(revocation_time);
        let (mut left, mut handed_out, mut imported) = (false, false, false);
        if let Some(before) = before {
            earlier = before.earlier;
            earlier.push(before.pending.envelopes);
            revoked_at = before.revoked_at;
            // What an earlier attempt left behind is out there still.
            (left, handed_out, imported) = (before.left, before.handed_out, before.imported);
        }
        if let Some(replaced) =
            instead.and_then(|id| self.places.get(&id)).and_then(|place| self.entries.get_mut(place))
        {
            replaced.state = State::Settled;
            replaced.reason = None;
            replaced.successor = Some(id);
            revoked_at = replaced.revoked_at;
        }
        let entry = Entry {
            pending,
            state: State::Pending,
            reason: None,
            first: None,
            earlier,
            successor: None,
            revoked_at,
            left,
            handed_out,
            imported,
            voiding: None,
        };
        self.places.insert(id, position);
        self.entries.insert(position, entry);
        self.revision += 1;
    }

    /// A held command stands again: the same bytes, at the end of the journal.
    pub(crate) fn revive(&mut self, id: Uuid, standing: Standing, facts: &Facts) {
        let Some(mut entry) = self.places.remove(&id).and_then(|place| self.entries.remove(&place)) else {
            return;
        };
        let position = self.entries.keys().next_back().map_or(1, |last| last + 1);
        for entity in values(facts, &standing.changed) {
            self.registry.put_overlay(position, entity);
        }
        entry.state = State::Pending;
        entry.reason = None;
        entry.pending =
            Pending { position, facts_hash: standing.facts_hash, messages_hash: None, ..entry.pending };
        self.places.insert(id, position);
        self.entries.insert(position, entry);
        self.revision += 1;
    }

    /// A held revocation is in force already.
    pub(crate) fn settle(&mut self, id: Uuid) {
        if let Some(entry) = self.places.get(&id).and_then(|place| self.entries.get_mut(place)) {
            entry.state = State::Settled;
            entry.reason = None;
            self.revision += 1;
        }
    }

    /// Gives a held command up, with the command that voids its id where there is one.
    pub(crate) fn give_up(&mut self, id: Uuid, voiding: Option<Uuid>) {
        if let Some(entry) = self.places.get(&id).and_then(|place| self.entries.get_mut(place)) {
            entry.state = State::Dropped;
            entry.voiding = voiding;
            self.revision += 1;
        }
    }

    /// Commands leave the store: they are sent, or go in a bundle.
    pub(crate) fn note_left(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            if let Some(entry) = self.places.get(&id).and_then(|place| self.entries.get_mut(place)) {
                entry.left = true;
            }
        }
    }

    /// Creds or a token that a command brings are given to somebody.
    pub(crate) fn note_handed_out(&mut self, id: Uuid) {
        if let Some(entry) = self.places.get(&id).and_then(|place| self.entries.get_mut(place)) {
            entry.handed_out = true;
        }
    }

    /// All of it leaves for another host, which minted none of it.
    pub(crate) fn copied(&mut self) -> Self {
        // What was given up already is not published by a copy either.
        let open = self.entries.values_mut().filter(|entry| entry.state != State::Dropped);
        open.for_each(|entry| entry.left = true);
        let mut copy = self.clone();
        copy.entries.values_mut().for_each(|entry| entry.imported = true);
        copy
    }

    /// Answers `Persist`.
    pub(crate) fn persist(&mut self, persist: &Persist) -> Persisted {
        let moved = persist.expect_revision.is_some_and(|revision| revision != self.revision);
        let another = |landed: &Landed| {
            self.entry(landed.command_id).is_some_and(|entry| entry.pending.draft_hash != landed.draft_hash)
        };
        if persist.expect_head != self.progress.head || moved || persist.confirmed.iter().any(another) {
            return Persisted::Stale;
        }
        self.progress = persist.progress.clone();
        for entity in &persist.entities {
            self.registry.put(entity.clone());
        }
        for recorded in &persist.recorded {
            self.registry.record(recorded.clone());
        }
        self.anomalies.extend(persist.anomalies.iter().cloned());
        self.messages.extend(persist.messages.iter().map(|message| (message.sequence, message.clone())));
        for Landed { command_id, first, .. } in &persist.confirmed {
            if let Some(entry) = self.places.get(command_id).and_then(|place| self.entries.get_mut(place)) {
                entry.state = State::Confirmed;
                entry.first = Some(*first);
                entry.reason = None;
            }
        }
        if self.forgets_acknowledged && persist.messages.is_empty() {
            for Landed { command_id: id, .. } in &persist.confirmed {
                let _row = self.places.remove(id).and_then(|place| self.entries.remove(&place));
            }
        }
        for hold in &persist.held {
            if let Some(entry) =
                self.places.get(&hold.command_id).and_then(|place| self.entries.get_mut(place))
            {
                entry.state = State::Held;
                entry.reason = Some(hold.reason.clone());
            }
        }
        for (id, hash) in &persist.rechecked {
            if let Some(entry) = self.places.get(id).and_then(|place| self.entries.get_mut(place)) {
                entry.pending.facts_hash = *hash;
            }
        }
        match &persist.overlay {
            Overlay::Keep => {}
            Overlay::Settle { position } => self.registry.settle_overlay(*position),
            Overlay::Replace { until, entities } => {
                self.registry.drop_overlay(*until);
                for (position, entity) in entities {
                    self.registry.put_overlay(*position, entity.clone());
                }
            }
        }
        Persisted::Ok
    }

    /// Makes the journal anew from what the stream has kept. Gives how far that is, and how many commands are pending again.
    /// None where the journal lacks a message that it has read or confirmed.
    pub(crate) fn recover(&mut self, stream: &[StoredMessage]) -> Option<(u64, usize)> {
        let messages = self.known();
        if !messages.keys().copied().eq(1..=self.progress.head) {
            return None;
        }
        let digest = |sequence| messages.get(&sequence).map(StoredMessage::content);
        let kept = last_agreeing(stream, digest).unwrap_or(0);
        let own: Vec<Confirmed> = self
            .entries
            .values()
            .filter(|entry| entry.state == State::Confirmed)
            .filter_map(|entry| {
                let last = entry.first? + entry.pending.envelopes.len() as u64 - 1;
                Some(Confirmed { command_id: entry.pending.context.command_id, last })
            })
            .collect();
        let id = self.registry.id().clone();
        let stored = stream.iter().find(|message| message.sequence == kept);
        let stored = stored.and_then(|message| message.time.clone());
        let recovery = recover(id, &self.progress, kept, stored, messages.into_values(), &own).ok()?;
        self.messages.retain(|sequence, _| *sequence <= kept);
        self.progress = recovery.progress;
        self.registry = recovery.registry;
        self.anomalies = recovery.anomalies;
        for entry in self.entries.values_mut() {
            if recovery.pending.contains(&entry.pending.context.command_id) {
                // Of a command that was cut in two the stream has the first messages still.
                for own in entry.confirmed().filter(|own| own.sequence <= kept) {
                    self.messages.entry(own.sequence).or_insert(own);
                }
                (entry.state, entry.first) = (State::Pending, None);
            }
            // What had brought it into force may be lost.
            if entry.state == State::Settled && entry.successor.is_none() {
                let text = String::from("the stream went back: it may not be in force any more");
                entry.state = State::Held;
                entry.reason = Some(Reason { code: String::from("stream-recovered"), text });
            }
        }
        self.revision += 1;
        Some((kept, recovery.pending.len()))
    }

    /// The state on which the command at this place of the journal is to stand: `head`, and what is pending before it.
    pub(crate) fn before(&self, position: u64) -> Registry {
        let mut registry = self.registry.clone();
        registry.drop_overlay(None);
        for (position, entry) in self.entries.range(..position).filter(|(_, e)| e.state == State::Pending) {
            let Some(events) = entry.events() else { continue };
            let scope: Vec<Lookup> = events.iter().flat_map(rules::scope_of).collect();
            let mut facts = registry.facts(&scope, true);
            let changed = rules::judge(&mut facts, &events).unwrap_or_default();
            for entity in values(&facts, &changed) {
                registry.put_overlay(*position, entity);
            }
        }
        registry
    }

    /// The overlay as folding the pending commands over the state at `head` gives it. None where one does not stand.
    pub(crate) fn folded_overlay(&self) -> Option<Vec<Entity>> {
        if !self.has_pending() {
            return Some(Vec::new());
        }
        let mut registry = self.registry.clone();
        registry.drop_overlay(None);
        for entry in self.entries.values().filter(|entry| entry.state == State::Pending) {
            let events = entry.events()?;
            let scope: Vec<Lookup> = events.iter().flat_map(rules::scope_of).collect();
            let mut facts = registry.facts(&scope, true);
            let changed = match rules::judge(&mut facts, &events) {
                Ok(changed) => changed,
                // What voids a command of this journal is checked again once nothing stands before it, and leaves nothing
                // here until then.
                Err(rules::Fault::Violation(rules::Violation::Admitted { .. }))
                    if matches!(entry.pending.command, Command::VoidCommand { revoke: None, .. }) =>
                {
                    continue;
                }
                Err(_) => return None,
            };
            for entity in values(&facts, &changed) {
                registry.put_overlay(entry.pending.position, entity);
            }
        }
        Some(registry.pending().cloned().collect())
    }
}

impl Entry {
    /// Its messages where they were confirmed.
    fn confirmed(&self) -> impl Iterator<Item = StoredMessage> {
        self.first.into_iter().flat_map(|first| (first..).zip(&self.pending.envelopes)).map(
            |(sequence, envelope)| StoredMessage {
                sequence,
                subject: envelope.subject.as_str().to_owned(),
                headers: envelope.headers.clone(),
                payload: envelope.payload.clone(),
                time: None,
            },
        )
    }

    fn events(&self) -> Option<Vec<Event>> {
        let open = |e: &Envelope| {
            cim_keys_core::envelope::decode(e.subject.as_str(), &e.headers, &e.payload).ok().map(|o| o.event)
        };
        self.pending.envelopes.iter().map(open).collect()
    }
}

fn values(facts: &Facts, changed: &BTreeSet<EntityId>) -> Vec<Entity> {
    changed.iter().filter_map(|id| facts.entity(*id).ok().flatten().cloned()).collect()
}

fn revocation_time(event: &Event) -> Option<i64> {
    match event.fact {
        Fact::UserRevoked { revoked_at, .. } | Fact::KeyRevoked { revoked_at } => Some(revoked_at),
        _ => None,
    }
}
