//! Catching up: what is stored behind `head` is admitted and folded, and our own commands among it are ticked off.

use super::contract::{Landed, Moment, Output, Persist, Persisted, Read, Status};
use super::known::Compared;
use super::machine::{Caught, Machine, State};
use super::reasons::{behind, foreign_registry, incomplete, named, out_of_order};
use crate::admission::{Complete, Group, StoredMessage};
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::journal::{Hold, Own, Progress, State as OwnState};
use crate::order;
use crate::registry::{Entity, EntityId, Facts, Lookup, Recorded};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Messages asked for in one read: enough that a far server's round trips are a small part of it.
pub(super) const READ_LIMIT: u32 = 2_000;

impl Machine {
    pub(super) fn read(&mut self) -> Vec<Output> {
        self.state = State::Reading;
        self.idle = false;
        self.claimed = self.tail.last();
        let mut outputs = alloc::vec![Output::Report(Status::Working)];
        if !self.following {
            // From before the first look on: nothing falls between that and the log.
            self.following = true;
            outputs.push(Output::Follow { on: true });
        }
        if self.known
            && self.progress.head.saturating_add(1) < self.first
            && let Some(events) = self.progress.stream.clone()
        {
            outputs.extend(self.read_archive(events));
            return outputs;
        }
        outputs.push(self.read_events());
        outputs
    }

    pub(super) fn take_read(&mut self, read: Read, moment: &Moment) -> Vec<Output> {
        let Read { info, mut messages } = read;
        self.server = info.server;
        let compared = self.recognise(&info).and_then(|()| self.compare_read(&info, &mut messages));
        match compared {
            Ok(Compared::Same) => {}
            Ok(Compared::More(after)) => return self.read_more(after),
            Ok(Compared::Late) => return self.wait(behind(self.progress.head), moment),
            Err(reason) => return self.block(reason),
        }
        if info.last < self.claimed {
            self.tail.clear();
        }
        (self.first, self.last, self.first_age) = (info.first, info.last, info.first_age);
        let read = Read { info, messages };
        if self.known {
            return self.take_recognised(read, moment);
        }
        // Whatever was met before and not taken over says nothing of this one.
        self.archive = (self.progress.archive.clone(), self.progress.archive_missing);
        self.meet(read)
    }

    /// Goes on with what was read, on a stream and archive that are ours.
    pub(super) fn take_recognised(&mut self, read: Read, moment: &Moment) -> Vec<Output> {
        let Read { info, messages } = read;
        let head = self.progress.head;
        self.known = true;
        self.looked_at = Some(moment.millis);
        self.breaker.success(moment);
        let due = head.saturating_add(1);
        if info.first > due && head < info.last {
            // What the stream has no more, the archive has.
            return self.read_archive(info.identity);
        }
        let read_to = messages.last().map_or(head, |message| message.sequence);
        let more = read_to < info.last;
        if messages.is_empty() && more && self.trusts_mirrors() {
            self.progress.head = info.last;
            return self.walk();
        }
        if messages.is_empty() && more {
            // What the leader has and nobody hands out yet is late.
            return self.wait(behind(due), moment);
        }
        self.failures = 0;
        let progress = self.progress_on(info.identity);
        if messages.is_empty() && progress == self.progress && !self.unwritten {
            return self.catch_up();
        }
        self.take_messages(progress, messages, more)
    }

    /// Takes messages that follow `head` without a gap.
    pub(super) fn take_messages(
        &mut self,
        mut progress: Progress,
        messages: Vec<StoredMessage>,
        more: bool,
    ) -> Vec<Output> {
        let mut groups = Vec::new();
        for message in &messages {
            if Some(message.sequence) != progress.head.checked_add(1) && !self.takes_gaps() {
                return self.block(out_of_order(progress.head, message.sequence));
            }
            progress.pass(message);
            groups.extend(self.assemble(&mut progress.assembler, message.clone()));
        }
        let mut scopes = order::set(groups.iter().filter_map(whole).flat_map(Complete::scope));
        if !scopes.is_empty() {
            scopes.insert(Lookup::Entity(self.operator()));
        }
        let caught = Caught { progress, groups, messages, more };
        if scopes.is_empty() {
            let facts = Facts::new(self.registry.clone());
            return self.admit(caught, facts, &[], None);
        }
        self.state = State::Admitting(Box::new(caught));
        alloc::vec![Output::LoadFacts { scopes: scopes.into_iter().collect() }]
    }

    pub(super) fn admit(
        &mut self,
        caught: Caught,
        mut facts: Facts,
        own: &[Own],
        millis: Option<u64>,
    ) -> Vec<Output> {
        let Caught { mut progress, groups, messages, more } = caught;
        let mut persist = Persist { expect_head: self.progress.head, messages, ..Persist::default() };
        let mut changed = BTreeSet::new();
        for group in groups {
            let complete = match group {
                Group::Anomaly(anomaly) => {
                    persist.anomalies.push(anomaly);
                    continue;
                }
                Group::Command(complete) => complete,
            };
            let founds = complete.founds();
            match self.admitted(complete, &mut facts) {
                Ok(Ok(admitted)) => {
                    let (raised, last) = (admitted.raised(), admitted.recorded.last);
                    changed.extend(admitted.changed);
                    match self.ours(own, &admitted.recorded) {
                        Mine::Confirmed(draft_hash) => {
                            self.unsent = 0;
                            self.tried.clear();
                            // It may have overtaken commands that stand before it in the journal: the overlay is
                            // folded anew from those that are still pending.
                            progress.recheck_due = true;
                            progress.rechecked = 0;
                            let Recorded { command_id, first, .. } = admitted.recorded;
                            persist.confirmed.push(Landed { command_id, draft_hash, first });
                        }
                        Mine::Other(hold) => {
                            self.others_at = millis.or(self.others_at);
                            persist.held.extend(hold);
                            progress.recheck_due = true;
                            progress.rechecked = 0;
                            self.tried.clear();
                        }
                    }
                    let void =
                        admitted.voided.iter().filter_map(|voided| given_up(own, voided, &self.registry));
                    persist.held.extend(void);
                    persist.recorded.push(admitted.recorded);
                    persist.recorded.extend(admitted.voided);
                    progress.schema = raised.unwrap_or(progress.schema);
                    let beyond = raised.is_some_and(|level| self.is_beyond(level).is_some());
                    if beyond && last < progress.head {
                        // What follows is for who knows that level, and not even an anomaly here: once more, without it.
                        let Progress { stream, archive, archive_missing, .. } = progress;
                        let before = Progress { stream, archive, archive_missing, ..self.progress.clone() };
                        persist.messages.retain(|message| message.sequence <= last);
                        return self.take_messages(before, persist.messages, more);
                    }
                }
                Ok(Err(anomaly)) => {
                    // One stream is one registry: the first that is founded on it.
                    let foreign = founds.filter(|_| anomaly.reason.code == "foreign-registry");
                    if let (Some(found), Ok(None)) = (foreign, facts.entity(self.operator())) {
                        return self.block(foreign_registry(found));
                    }
                    persist.anomalies.push(anomaly);
                }
                Err(missing) => return self.block(incomplete(&missing)),
            }
        }
        persist.entities = entities(&facts, &changed);
        persist.progress = progress.clone();
        self.state = State::PersistingRead { progress: Box::new(progress), more };
        alloc::vec![Output::Persist(Box::new(persist))]
    }

    fn ours(&self, own: &[Own], admitted: &Recorded) -> Mine {
        let Some(mine) = own.iter().find(|own| own.command_id == admitted.command_id) else {
            return Mine::Other(None);
        };
        let same = mine.command_hash == admitted.command_hash && mine.authority == admitted.authority;
        let taken = self.ticks_off_by_id() || same && self.takes_other_attempts();
        if mine.draft_hash == admitted.draft_hash || taken {
            return Mine::Confirmed(mine.draft_hash);
        }
        if matches!(mine.state, OwnState::Confirmed | OwnState::Dropped) {
            return Mine::Other(None);
        }
        let reason = if same {
            named("overtaken", "another attempt at this command came first: this one is void".to_string())
        } else {
            named("id-taken", "another command was admitted under this id: make this one anew".to_string())
        };
        Mine::Other(Some(Hold { command_id: mine.command_id, reason }))
    }

    pub(super) fn operator(&self) -> EntityId {
        EntityId::Operator(self.registry.operator)
    }

    pub(super) fn after_read(&mut self, progress: Progress, more: bool, outcome: Persisted) -> Vec<Output> {
        match outcome {
            Persisted::Ok => {
                self.progress = progress;
                self.unwritten = false;
                if let Some(level) = self.is_beyond(self.progress.level()) {
                    return self.upgrade(level);
                }
                if more { self.read() } else { self.catch_up() }
            }
            Persisted::Stale => self.reload(),
            Persisted::Failed { reason } => self.store_failed(reason),
        }
    }
}

/// What an admitted command is to our journal.
enum Mine {
    /// Ours, as we have it: by this draft.
    Confirmed(Digest),
    /// Not ours, or another draft of ours: then ours is to be held.
    Other(Option<Hold>),
}

/// One of our commands whose id somebody voided: no attempt of it is admitted any more.
fn given_up(own: &[Own], voided: &Recorded, registry: &RegistryId) -> Option<Hold> {
    let mine = own.iter().find(|own| own.command_id == voided.command_id)?;
    let open = matches!(mine.state, OwnState::Pending | OwnState::Held);
    if !open || !voided.voids(mine.authority, registry.operator) {
        return None;
    }
    let text = "it was voided on another host and is never published: make what is still wanted anew";
    Some(Hold { command_id: mine.command_id, reason: named("voided", text.to_string()) })
}

fn whole(group: &Group) -> Option<&Complete> {
    match group {
        Group::Command(complete) => Some(complete),
        Group::Anomaly(_) => None,
    }
}

/// Entities as they stand after a fold.
pub(super) fn entities(facts: &Facts, changed: &BTreeSet<EntityId>) -> Vec<Entity> {
    changed.iter().filter_map(|id| facts.entity(*id).ok().flatten().cloned()).collect()
}
