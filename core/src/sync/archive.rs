//! The archive: what the stream has forgotten is read from it, where it is this stream's. It may be behind, and so its end
//! never means anything.

use super::catchup::READ_LIMIT;
use super::contract::{Failure, Moment, Output, Read, StreamInfo};
use super::machine::{Machine, State};
use super::patience::{self, Next};
use super::reasons::{archive_foreign, archive_settings, behind, gap, regressed};
use crate::admission::StoredMessage;
use crate::digest::Digest;
use crate::journal::{Progress, StreamIdentity};
use crate::rules::Reason;
use crate::stream::{KEYS_ARCHIVE, KEYS_EVENTS, keys_archive_stream_config};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What is asked beside the plain reads of the stream.
#[derive(Debug)]
pub(super) enum Asked {
    /// The stream's own oldest message, to compare with the archive's. With the read that goes on then.
    Oldest(Read),
    /// Whether there is an archive, and a message of it, which must be this one.
    Meet(Read, Option<Spot>),
    /// What follows `head`, and the stream has forgotten.
    Part(StreamIdentity),
}

/// A message as the stream has it, or had it.
#[derive(Debug)]
pub(super) struct Spot {
    sequence: u64,
    digest: Digest,
    /// When it was stored, where that is known.
    time: Option<String>,
}

impl Spot {
    fn of(message: &StoredMessage) -> Self {
        Self { sequence: message.sequence, digest: message.digest(), time: message.time.clone() }
    }

    /// Whether the archive has another one there.
    fn differs(&self, found: &Read) -> bool {
        let here = found.messages.iter().find(|message| message.sequence == self.sequence);
        here.is_some_and(|here| {
            let later = matches!((&self.time, &here.time), (Some(known), Some(time)) if known != time);
            later || here.digest() != self.digest
        })
    }

    /// Whether the archive has come so far, and does not hand it out yet. One that hands out what follows has a gap there.
    fn is_late(&self, found: &Read) -> bool {
        found.messages.is_empty() && found.info.first <= self.sequence && self.sequence <= found.info.last
    }

    /// Whether the archive has an older one there: it kept what the stream lost.
    fn is_later(&self, found: &Read) -> bool {
        let here = found.messages.iter().find(|message| message.sequence == self.sequence);
        let times = here.and_then(|here| Some((self.time.as_ref()?, here.time.as_ref()?)));
        // All of them are in UTC; without the letter that says so, the order of the texts is that of the times.
        times.is_some_and(|(known, time)| known.trim_end_matches('Z') > time.trim_end_matches('Z'))
    }
}

impl Machine {
    /// Behind a new connection: is there an archive, and is it this stream's?
    pub(super) fn meet(&mut self, read: Read) -> Vec<Output> {
        let (head, first) = (self.progress.head, read.info.first);
        let time = self.progress.mark.as_ref().filter(|mark| mark.sequence == head);
        let time = time.map(|mark| mark.time.clone());
        let known = self.progress.head_digest.filter(|_| head > 0);
        let known = known.map(|digest| Spot { sequence: head, digest, time });
        let seen = || read.messages.first().map(Spot::of);
        if known.is_none() && seen().is_none() && first > 1 && first <= read.info.last {
            // It stands further on than one read reaches.
            return self.ask(Asked::Oldest(read), KEYS_EVENTS, first - 1, 1);
        }
        let spot = known.or_else(seen);
        self.compare(read, spot)
    }

    fn compare(&mut self, read: Read, spot: Option<Spot>) -> Vec<Output> {
        let (after, limit) = spot.as_ref().map_or((0, 0), |spot| (spot.sequence.saturating_sub(1), 1));
        self.ask(Asked::Meet(read, spot), KEYS_ARCHIVE, after, limit)
    }

    /// Reads what the stream has forgotten.
    pub(super) fn read_archive(&mut self, events: StreamIdentity) -> Vec<Output> {
        if !self.has_archive {
            return self.block(gap(self.progress.head, self.first, "there is no KEYS_ARCHIVE"));
        }
        self.ask(Asked::Part(events), KEYS_ARCHIVE, self.progress.head, READ_LIMIT)
    }

    /// Whether the stream has forgotten what comes next.
    fn needs_archive(&self, read: &Read) -> bool {
        self.progress.head.saturating_add(1) < read.info.first && self.progress.head < read.info.last
    }

    /// Whether the stream has forgotten the message at `head`: only the archive says whether it still was that one.
    fn has_forgotten_head(&self, read: &Read) -> bool {
        self.progress.head > 0 && self.progress.head < read.info.first
    }

    fn ask(&mut self, asked: Asked, stream: &str, after: u64, limit: u32) -> Vec<Output> {
        self.state = State::Asking(Box::new(asked));
        alloc::vec![Output::ReadFrom { stream: stream.to_string(), after, limit }]
    }

    pub(super) fn take_asked(&mut self, asked: Asked, found: Read, moment: &Moment) -> Vec<Output> {
        match asked {
            Asked::Oldest(read) => {
                if found.info.identity != read.info.identity {
                    return self.wait(behind(read.info.first), moment);
                }
                // What was forgotten meanwhile cannot be compared: the next look begins further on.
                match found.messages.first().map(Spot::of) {
                    Some(spot) => self.compare(read, Some(spot)),
                    None => self.wait(behind(found.info.first), moment),
                }
            }
            Asked::Meet(read, spot) => {
                if let Err(reason) = self.recognise_archive(&found, &read.info) {
                    return self.block(reason);
                }
                let forgotten = self.has_forgotten_head(&read);
                if let Some(late) = spot.as_ref().filter(|spot| forgotten && spot.is_late(&found)) {
                    return self.wait(behind(late.sequence), moment);
                }
                let other = spot.filter(|spot| spot.differs(&found));
                let proves = self.needs_archive(&read)
                    || forgotten && !other.as_ref().is_some_and(|spot| spot.is_later(&found));
                if let Some(Spot { sequence, .. }) = other.as_ref().filter(|_| proves) {
                    // The archive that it has met before: the stream went back, and has forgotten since where it did.
                    let known = self.progress.archive.as_ref() == Some(&found.info.identity)
                        && !self.progress.archive_missing;
                    let reason = if known { went_back(*sequence) } else { other_archive(*sequence) };
                    return self.block(reason);
                }
                // One that kept what the stream lost is as good as none, until a person has deleted it.
                self.has_archive = other.is_none();
                self.archive = (Some(found.info.identity), other.is_some());
                self.take_recognised(read, moment)
            }
            Asked::Part(events) => self.take_part(events, found, moment),
        }
    }

    pub(super) fn not_asked(&mut self, asked: Asked, failure: &Failure, moment: &Moment) -> Vec<Output> {
        let next = patience::after_failure(failure);
        let missing = *failure == Failure::StreamMissing;
        match asked {
            // Going without it is possible, and `status` warns of it.
            Asked::Meet(read, _)
                if missing
                    || !self.needs_archive(&read)
                        && !self.has_forgotten_head(&read)
                        && !matches!(failure, Failure::Unreachable | Failure::Authorization { .. }) =>
            {
                self.has_archive = false;
                self.archive.1 = missing;
                self.take_recognised(read, moment)
            }
            Asked::Part(_) if missing => {
                self.block(gap(self.progress.head, self.first, "there is no KEYS_ARCHIVE"))
            }
            Asked::Part(_) if matches!(next, Next::Hold(_) | Next::Odd(_)) => {
                self.wait(behind(self.progress.head.saturating_add(1)), moment)
            }
            _ => self.follow(next, moment, None),
        }
    }

    /// Is it the archive of this stream, and the one that this journal knows?
    fn recognise_archive(&self, found: &Read, events: &StreamInfo) -> Result<(), Reason> {
        let identity = &found.info.identity;
        if identity.is_older_than(&events.identity) {
            return Err(archive_foreign(&alloc::format!(
                "it was made {}, before {KEYS_EVENTS} ({})",
                identity.created,
                events.identity.created
            )));
        }
        if let Some(known) = self.progress.archive.as_ref().filter(|known| *known != identity) {
            return Err(archive_foreign(&alloc::format!(
                "this journal knows the one made {}, and the server has one made {}",
                known.created,
                identity.created
            )));
        }
        let wanted = keys_archive_stream_config(&self.registry.namespace);
        let differences: Vec<String> =
            wanted.differences(&found.info.config).iter().map(ToString::to_string).collect();
        if !differences.is_empty() {
            return Err(archive_settings(&differences.join("; ")));
        }
        Ok(())
    }

    /// A part of what the stream has forgotten.
    fn take_part(&mut self, events: StreamIdentity, found: Read, moment: &Moment) -> Vec<Output> {
        let Read { info, mut messages } = found;
        let due = self.progress.head.saturating_add(1);
        if self.archive.0.as_ref() != Some(&info.identity) {
            return self.block(archive_foreign("it was made anew meanwhile"));
        }
        if info.first > due && info.first <= info.last {
            let text = alloc::format!("KEYS_ARCHIVE begins at {}", info.first);
            return self.block(gap(self.progress.head, self.first, &text));
        }
        // The stream says where it ends, never the archive.
        let last = self.last;
        messages.retain(|message| message.sequence <= last);
        if messages.is_empty() {
            return self.wait(behind(due), moment);
        }
        self.failures = 0;
        let progress = self.progress_on(events);
        self.take_messages(progress, messages, true)
    }

    /// How far the journal is, on this stream and with the archive that was met.
    pub(super) fn progress_on(&self, stream: StreamIdentity) -> Progress {
        let (archive, archive_missing) = self.archive.clone();
        Progress { stream: Some(stream), archive, archive_missing, ..self.progress.clone() }
    }

    /// Whether appending must stop: what every new reader needs is forgotten soon, and there is no archive. A third of the
    /// stream's age is left for making one: 30 days of 90.
    pub(super) fn archive_is_due(&self) -> bool {
        if self.expected.max_age == 0 || !(self.archive.0.is_none() || self.archive.1) {
            return false;
        }
        let age = self.expected.max_age / 1_000_000_000;
        self.first > 1 || self.first_age.is_some_and(|oldest| oldest >= age - age / 3)
    }
}

fn other_archive(sequence: u64) -> Reason {
    archive_foreign(&alloc::format!("its message at {sequence} is another one"))
}

fn went_back(sequence: u64) -> Reason {
    regressed(alloc::format!(
        "the message at {sequence} is not the one that was read there, says KEYS_ARCHIVE: confirmed events were lost"
    ))
}
