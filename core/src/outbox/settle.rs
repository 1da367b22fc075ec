//! What came of an attempt, by what the stream holds.

use super::contract::{Found, Output, Wanted};
use super::event::{Outcome, Refusal};
use super::machine::{Publisher, Search, State, named};
use crate::admission::StoredMessage;
use crate::sync::Moment;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Messages read at once: each may have a megabyte.
const FIND_LIMIT: u32 = 64;

impl Publisher {
    pub(super) fn find(&mut self, search: Search) -> Vec<Output> {
        let Some(first) = self.queue.front() else { return self.step() };
        let (subject, after) = (first.message.subject.clone(), search.after);
        self.state = State::Finding(search);
        alloc::vec![Output::Find { subject, after, limit: FIND_LIMIT }]
    }

    pub(super) fn take_found(&mut self, search: Search, found: Found, moment: &Moment) -> Vec<Output> {
        if let Some(reason) = self.hear(&found.info, moment) {
            return self.block(reason);
        }
        let Some(first) = self.queue.front() else { return self.step() };
        let Some(attempt) = &first.attempt else { return self.step() };
        let (message, info) = (&first.message, &found.info);
        // Another stream, or one that went back: what its sequences meant before is void.
        let other = attempt.created != info.identity.created || info.last < attempt.last;
        if other && !search.anew && message.expected.is_none() && search.after > 0 {
            return self.find(Search { after: 0, until: None, anew: true });
        }
        let until = search.until.unwrap_or(info.last);
        let behind = |stored: &&StoredMessage| {
            stored.sequence > search.after && stored.subject == message.subject.as_str()
        };
        let mut last = None;
        for stored in found.messages.iter().filter(behind) {
            if let Some(outcome) = judged(stored, self) {
                return self.settle(outcome);
            }
            last = Some(stored.sequence);
        }
        match last {
            Some(last) if !found.complete && last < until => {
                self.find(Search { after: last, until: Some(until), ..search })
            }
            None if !found.complete => {
                let text =
                    "a message that the stream has is not handed out yet: a server is behind its leader";
                self.wait(named("read-behind", text.to_string()), moment)
            }
            _ if self.overtaken => {
                let subject = message.subject.clone();
                self.state = State::Last;
                alloc::vec![Output::Get(Wanted::LastOf(subject))]
            }
            _ if self.is_unfit(first) => self.settle(Outcome::Refused(Refusal::Forgetful)),
            _ => {
                self.clear = true;
                self.step()
            }
        }
    }

    /// An answer says that this message is the event.
    pub(super) fn duplicate(&mut self, sequence: u64) -> Vec<Output> {
        self.state = State::Duplicate { sequence };
        alloc::vec![Output::Get(Wanted::Sequence(sequence))]
    }

    pub(super) fn take_duplicate(
        &mut self,
        sequence: u64,
        stored: Option<StoredMessage>,
        moment: &Moment,
    ) -> Vec<Output> {
        let Some(first) = self.queue.front() else { return self.step() };
        match stored.filter(|stored| stored.sequence == sequence) {
            Some(stored) if first.message.is(&stored) => self.settle(Outcome::Published { sequence }),
            Some(_) => self.settle(Outcome::Refused(Refusal::IdTaken { sequence })),
            // The server remembers an id whose message is gone, or a server is behind its leader.
            None => {
                let text = format!(
                    "the server says that it has the event at {sequence}, and no message is there: it was deleted, or a server is behind its leader; it is sent again until the server has forgotten its id"
                );
                self.rest_or_say(named("event-gone", text), moment)
            }
        }
    }

    /// The event was refused for the last message of its subject, and nothing was found behind the one that it names.
    pub(super) fn take_last(&mut self, stored: Option<StoredMessage>, moment: &Moment) -> Vec<Output> {
        let Some(first) = self.queue.front() else { return self.step() };
        let expected = first.message.expected.unwrap_or_default();
        let found = stored.map_or(0, |stored| stored.sequence);
        if found < expected {
            return self.settle(Outcome::Refused(Refusal::Conflict { expected, found }));
        }
        // What refused it is not to be seen yet, or is only now.
        self.overtaken = false;
        let text = "the server refuses the event for a later one of its subject, and hands none out: it was deleted, or a server is behind its leader";
        self.rest_or_say(named("event-gone", text.to_string()), moment)
    }
}

/// What a stored message of its subject makes of the first event.
fn judged(stored: &StoredMessage, publisher: &Publisher) -> Option<Outcome> {
    let message = &publisher.queue.front()?.message;
    let sequence = stored.sequence;
    match message.expected {
        _ if message.is(stored) => Some(Outcome::Published { sequence }),
        // Only directly behind the message that it names could it stand.
        Some(expected) => Some(Outcome::Refused(Refusal::Conflict { expected, found: sequence })),
        None if message.has_id_of(stored) => Some(Outcome::Refused(Refusal::IdTaken { sequence })),
        None => None,
    }
}
