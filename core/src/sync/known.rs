//! Is it the stream that this journal knows, with the settings it needs, and has it kept what was confirmed?

use super::catchup::READ_LIMIT;
use super::contract::{Output, StreamInfo};
use super::machine::{Machine, State};
use super::reasons::{named, out_of_order, regressed};
use crate::admission::StoredMessage;
use crate::digest::Digest;
use crate::headers::{Headers, NATS_MSG_ID};
use crate::journal::{Mark, Progress};
use crate::rules::Reason;
use crate::stream::{KEYS_EVENTS, SERVER_FLOOR};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What comes of comparing the stream with what the journal knows of it.
pub(super) enum Compared {
    /// Everything that can be compared is the same.
    Same,
    /// More of it stands behind this sequence.
    More(u64),
    /// What should be there is not handed out yet.
    Late,
}

impl Machine {
    /// Where a read begins. Behind a new connection with the newest message whose time is known: from there on everything
    /// is compared. Else behind `head`, or with it where its time is still to be learned.
    pub(super) fn read_events(&mut self) -> Output {
        let head = self.progress.head;
        let after = match &self.progress.mark {
            Some(mark) if !self.known => mark.sequence.saturating_sub(1),
            Some(mark) if mark.sequence == head => head,
            _ => head.saturating_sub(1),
        };
        self.compared = None;
        Output::ReadFrom { stream: KEYS_EVENTS.to_string(), after, limit: READ_LIMIT }
    }

    pub(super) fn read_more(&mut self, after: u64) -> Vec<Output> {
        self.state = State::Reading;
        alloc::vec![Output::ReadFrom { stream: KEYS_EVENTS.to_string(), after, limit: READ_LIMIT }]
    }

    /// Is it the stream that this journal knows, with the settings it needs, and at least as long?
    pub(super) fn recognise(&self, info: &StreamInfo) -> Result<(), Reason> {
        if let Some(known) = self.progress.stream.as_ref().filter(|known| **known != info.identity) {
            let text = format!(
                "this journal belongs to the stream {} made {}, the server has {} made {}",
                known.name, known.created, info.identity.name, info.identity.created
            );
            return Err(named("stream-foreign", text));
        }
        let mut differences = self.expected.differences(&info.config);
        // A server below the floor cannot have it: reading works, and appending names the server.
        if info.server.is_some_and(|found| found < SERVER_FLOOR) {
            differences.retain(|difference| difference.setting != "allow_atomic");
        }
        if !differences.is_empty() {
            let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
            return Err(named(
                "stream-settings",
                format!("stream {}: {}", info.identity.name, all.join("; ")),
            ));
        }
        let head = self.progress.head;
        if info.last < head && !self.ignores_regression() {
            let text = format!(
                "the stream ends at {} and had come to {head}: confirmed events were lost",
                info.last
            );
            return Err(regressed(text));
        }
        Ok(())
    }

    /// Are the messages up to `head` those that the journal knows? They are taken out of what was read.
    ///
    /// The message at `head` alone proves nothing: what was lost may have been published again in another order, and by
    /// chance the same one stands there. So everything from the newest message on whose time the journal knows is compared,
    /// and that one by its time too: a message that is published again has another.
    pub(super) fn compare_read(
        &mut self,
        info: &StreamInfo,
        messages: &mut Vec<StoredMessage>,
    ) -> Result<Compared, Reason> {
        let head = self.progress.head;
        let known = messages.iter().take_while(|message| message.sequence <= head).count();
        let known: Vec<StoredMessage> = messages.drain(..known).collect();
        let reached = self.known || self.compared.is_some_and(|(sequence, _)| sequence == head);
        if head == 0 || info.first > head || reached && known.is_empty() {
            return Ok(Compared::Same);
        }
        let mark = self.progress.mark.clone().filter(|_| !self.known);
        let begins = mark.as_ref().map_or(head, |mark| mark.sequence);
        let due = self.compared.map_or(begins, |(sequence, _)| sequence.saturating_add(1));
        if info.first > due {
            // The stream has forgotten where it would begin: the message at `head` is what is left to compare.
            self.progress.mark = None;
            self.compared = None;
            return Ok(Compared::More(head.saturating_sub(1)));
        }
        for (due, message) in (due..).zip(&known) {
            if message.sequence != due {
                return Err(out_of_order(due.saturating_sub(1), message.sequence));
            }
            let told = mark.as_ref().filter(|mark| mark.sequence == due).map(|mark| mark.time.as_str());
            if let (Some(told), Some(time)) = (told, &message.time)
                && told != time
                && !self.ignores_regression()
            {
                let text = format!(
                    "the message at {due} was stored at {told}, and the one that is there now at {time}: confirmed events \
                     were lost"
                );
                return Err(regressed(text));
            }
            let digest = message.digest();
            let chain = self.compared.map_or(digest, |(_, chain)| chained(chain, &message.headers));
            self.compared = Some((due, chain));
        }
        match (self.compared, known.last()) {
            (Some((sequence, chain)), Some(last)) if sequence == head => {
                let same = mark.is_none_or(|mark| mark.chain == chain)
                    && self.progress.head_digest == Some(last.digest());
                if !same && !self.ignores_regression() {
                    let text = format!(
                        "the messages up to {head} are not those that were read there: confirmed events were lost"
                    );
                    return Err(regressed(text));
                }
                self.unwritten |= self.progress.learn(last);
                let ends_here = messages.is_empty() && head < info.last;
                Ok(if ends_here { Compared::More(head) } else { Compared::Same })
            }
            // Handed out without it, although the stream has it.
            (_, None) if !messages.is_empty() => Err(out_of_order(head.saturating_sub(1), info.first)),
            (_, None) => Ok(Compared::Late),
            (_, Some(last)) => Ok(Compared::More(last.sequence)),
        }
    }

    /// The log tells when the message at `head` was stored.
    pub(super) fn learn_by_log(&mut self) {
        let head = self.progress.head;
        if let Some(message) = self.tail.at(head) {
            self.unwritten |= self.progress.learn(message);
        }
    }
}

impl Progress {
    /// The message at `head`, and when it was stored. Whether that was not known.
    pub(super) fn learn(&mut self, message: &StoredMessage) -> bool {
        let Some(time) = &message.time else { return false };
        let digest = message.digest();
        let new = message.sequence == self.head
            && self.head_digest == Some(digest)
            && self.mark.as_ref().is_none_or(|mark| mark.sequence != self.head);
        if new {
            self.mark = Some(Mark { sequence: self.head, time: time.clone(), chain: digest });
        }
        new
    }

    /// One message more, as it was read.
    pub(super) fn pass(&mut self, message: &StoredMessage) {
        self.head = message.sequence;
        self.head_digest = Some(message.digest());
        if !self.learn(message) {
            self.chain(&message.headers);
        }
    }

    /// One message more is between the mark and `head`.
    pub(super) fn chain(&mut self, headers: &Headers) {
        if let Some(mark) = &mut self.mark {
            mark.chain = chained(mark.chain, headers);
        }
    }
}

/// Which messages follow each other: their ids are enough, for those at both ends are compared whole.
fn chained(before: Digest, headers: &Headers) -> Digest {
    let id = headers.only(NATS_MSG_ID).unwrap_or_default();
    Digest::of_all([before.as_bytes().as_slice(), id.as_bytes()])
}
