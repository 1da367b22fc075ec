//! The live tail: messages of the log that follow what is known, so that catching up takes no round trip.

use crate::admission::StoredMessage;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Messages that are kept at most.
const LIMIT: usize = 2_000;
/// Bytes that are kept at most.
const BYTES: usize = 8 * 1024 * 1024;

/// A run of messages without a gap, somewhere behind `head`.
#[derive(Debug, Default)]
pub(super) struct Tail {
    run: VecDeque<StoredMessage>,
    bytes: usize,
}

impl Tail {
    /// Takes a message. What does not follow the run begins another one: what is between must be read.
    pub(super) fn push(&mut self, message: StoredMessage, head: u64) {
        let last = self.run.back().map_or(head.saturating_sub(1), |last| last.sequence);
        // The one at `head` tells when it was stored.
        if message.sequence <= last.max(head.saturating_sub(1)) {
            return;
        }
        if message.sequence != last.saturating_add(1) || self.run.len() >= LIMIT || self.bytes >= BYTES {
            self.clear();
        }
        self.bytes += size(&message);
        self.run.push_back(message);
    }

    pub(super) fn clear(&mut self) {
        self.run.clear();
        self.bytes = 0;
    }

    /// The message at this place, where the log brought it.
    pub(super) fn at(&self, sequence: u64) -> Option<&StoredMessage> {
        let place = sequence.checked_sub(self.run.front()?.sequence)?;
        self.run.get(usize::try_from(place).ok()?)
    }

    /// The last sequence that the log told of; 0 where there is none.
    pub(super) fn last(&self) -> u64 {
        self.run.back().map_or(0, |last| last.sequence)
    }

    /// Whether something is stored behind this place, as far as the log tells.
    pub(super) fn is_ahead_of(&self, head: u64) -> bool {
        self.last() > head
    }

    /// Up to `limit` messages that follow this place; none where something between them is missing (unless `gaps` are taken,
    /// by a planted mistake).
    pub(super) fn behind(&mut self, head: u64, limit: usize, gaps: bool) -> Vec<StoredMessage> {
        while self.run.front().is_some_and(|first| first.sequence <= head) {
            let old = self.run.pop_front();
            self.bytes = self.bytes.saturating_sub(old.as_ref().map_or(0, size));
        }
        if !gaps && self.run.front().is_none_or(|first| Some(first.sequence) != head.checked_add(1)) {
            return Vec::new();
        }
        let taken: Vec<_> = self.run.drain(..limit.min(self.run.len())).collect();
        self.bytes = self.bytes.saturating_sub(taken.iter().map(size).sum());
        taken
    }
}

fn size(message: &StoredMessage) -> usize {
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
    message.subject.len() + message.payload.len() + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;
    use alloc::string::String;

    fn message(sequence: u64) -> StoredMessage {
        let headers = Headers::received(Vec::new());
        StoredMessage {
            sequence,
            subject: String::from("a.b.keys.c.d"),
            headers,
            payload: Vec::new(),
            time: None,
        }
    }

    fn taken(tail: &mut Tail, head: u64) -> Vec<u64> {
        tail.behind(head, 10, false).into_iter().map(|message| message.sequence).collect()
    }

    #[test]
    fn only_what_follows_without_a_gap_is_given_out() {
        let mut tail = Tail::default();
        for sequence in [3, 4, 4, 2, 5] {
            tail.push(message(sequence), 2);
        }
        assert_eq!(taken(&mut tail, 3), [4, 5]);
        assert_eq!(taken(&mut tail, 5), Vec::<u64>::new());
        for sequence in [6, 8, 9] {
            tail.push(message(sequence), 5);
        }
        assert!(tail.is_ahead_of(5));
        assert_eq!(taken(&mut tail, 5), Vec::<u64>::new());
        // Once the gap was read, the run behind it counts.
        assert_eq!(taken(&mut tail, 7), [8, 9]);
    }

    #[test]
    fn what_is_not_fetched_is_not_kept_for_ever() {
        let mut tail = Tail::default();
        for sequence in 1..10_000 {
            tail.push(message(sequence), 0);
            assert!(tail.run.len() <= LIMIT);
        }
    }
}
