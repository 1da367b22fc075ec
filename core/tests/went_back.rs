//! A stream that went back is noticed behind the next connection, whatever stands at `head` by then.

mod lab;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::Headers;
use cim_keys_core::journal::{Mark, Progress, StreamIdentity};
use cim_keys_core::stream::{
    KEYS_EVENTS, StreamConfig, keys_archive_stream_config, keys_events_stream_config,
};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, Input, Machine, Moment, Output, Persisted, Read, Status, StreamInfo};
use lab::Lab;

const NOW: Moment = Moment { millis: 0, random: [7; 16] };

/// A message that changes nothing: what it says is of no account here.
fn message(sequence: u64, id: &str, time: Option<&str>) -> StoredMessage {
    StoredMessage {
        sequence,
        subject: "cowboyai.security.keys.a.b".into(),
        headers: Headers::received(vec![("Nats-Msg-Id".into(), id.into())]),
        payload: id.as_bytes().to_vec(),
        time: time.map(Into::into),
    }
}

/// `a` at 1, and so on; the first `timed` say when they were stored.
fn stream(ids: &str, timed: usize) -> Vec<StoredMessage> {
    let stored = |(place, id): (usize, char)| {
        let time = (place < timed).then(|| format!("at {place}"));
        message(place as u64 + 1, &id.to_string(), time.as_deref())
    };
    ids.chars().enumerate().map(stored).collect()
}

struct Server {
    machine: Machine,
    messages: Vec<StoredMessage>,
    first: u64,
    archive: Option<Vec<StoredMessage>>,
    /// How often the archive hands out nothing, though it says that it has come further.
    late: usize,
    /// Messages in one answer.
    page: usize,
    /// Where each read began.
    reads: Vec<u64>,
}

impl Server {
    fn new(progress: Progress, messages: Vec<StoredMessage>) -> Self {
        let machine = Machine::new(Lab::founded().registry.id().clone(), progress);
        Self { machine, messages, first: 1, archive: None, late: 0, page: 500, reads: Vec::new() }
    }

    /// A journal that has read all of it.
    fn read(messages: Vec<StoredMessage>) -> Self {
        let mut server = Self::new(Progress::default(), messages);
        assert_eq!(server.until_it_rests(), None);
        server
    }

    /// The same journal meets the stream as it is by now.
    fn meets(&mut self, messages: Vec<StoredMessage>) -> Option<String> {
        self.messages = messages;
        self.reads.clear();
        let _ = self.machine.handle(Input::Disconnected, NOW);
        self.until_it_rests()
    }

    fn mark(&self) -> (u64, Option<Mark>) {
        (self.machine.progress().head, self.machine.progress().mark.clone())
    }

    /// The code of what blocks it or makes it wait; none where it rests.
    fn until_it_rests(&mut self) -> Option<String> {
        let mut outputs = self.machine.handle(Input::Tick, NOW);
        for _ in 0..100 {
            let reported = outputs.iter().find_map(|output| match output {
                Output::Report(Status::Blocked { reason } | Status::Waiting { reason, .. }) => {
                    Some(Some(reason.code.to_string()))
                }
                Output::Report(Status::Idle) => Some(None),
                _ => None,
            });
            if let Some(code) = reported {
                return code;
            }
            let answer = outputs.iter().find_map(|output| self.answer(output));
            outputs = self.machine.handle(answer.expect("a question"), NOW);
        }
        panic!("it asks and asks: {outputs:?}");
    }

    fn answer(&mut self, output: &Output) -> Option<Input> {
        Some(match output {
            Output::ReadFrom { stream, after, limit } if stream == KEYS_EVENTS => {
                self.reads.push(*after);
                let there = self.messages.iter().filter(|m| m.sequence > *after && m.sequence >= self.first);
                let messages = there.take(self.page.min(*limit as usize)).cloned().collect();
                let id = self.machine.progress();
                let config = keys_events_stream_config(&Namespace::default());
                let info = info(config, self.first, self.messages.len());
                assert!(id.stream.is_none() || id.stream.as_ref() == Some(&info.identity));
                Input::Read(Read { info, messages })
            }
            Output::ReadFrom { after, limit, .. } => match &self.archive {
                None => Input::ReadFailed(Failure::StreamMissing),
                Some(archive) => {
                    let there = archive.iter().filter(|message| message.sequence > *after);
                    let messages = if self.late > 0 {
                        self.late -= 1;
                        Vec::new()
                    } else {
                        there.take(*limit as usize).cloned().collect()
                    };
                    let config = keys_archive_stream_config(&Namespace::default());
                    Input::Read(Read { info: info(config, 1, archive.len()), messages })
                }
            },
            Output::Persist(_) => Input::Persisted(Persisted::Ok),
            Output::Load { .. } => {
                Input::Loaded { commands: Vec::new(), more: false, held_revocations: Vec::new(), revision: 1 }
            }
            Output::Gather { .. } => Input::Gathered { commands: Vec::new(), held_revocations: Vec::new() },
            _ => return None,
        })
    }
}

fn info(config: StreamConfig, first: u64, last: usize) -> StreamInfo {
    let identity = StreamIdentity { name: config.name.clone(), created: "then".into() };
    StreamInfo { config, identity, first, last: last as u64, first_age: None, server: Some((2, 15, 1)) }
}

fn went_back() -> Option<String> {
    Some("stream-regressed".to_owned())
}

#[test]
fn one_that_kept_everything_is_known_again() {
    let mut server = Server::read(stream("abcdef", 6));
    assert_eq!(server.meets(stream("abcdefgh", 8)), None);
    assert_eq!((server.reads.as_slice(), server.mark().0), ([5].as_slice(), 8));
}

#[test]
fn the_same_message_at_the_same_place_is_another_one_where_it_was_stored_later() {
    let mut server = Server::read(stream("abcdef", 6));
    let mut anew = stream("abdcef", 6);
    anew[5].time = Some("later".into());
    assert_eq!(server.meets(anew), went_back());
}

#[test]
fn what_was_confirmed_behind_the_newest_known_time_is_compared_all() {
    // The last four came without a time, as what an acknowledgement confirms does.
    let before = |page| {
        let mut server = Server::read(stream("abcdef", 2));
        server.page = page;
        assert_eq!(server.mark().1.map(|mark| mark.sequence), Some(2));
        server
    };
    for page in [1, 2, 3, 500] {
        // Another order, and the same message at the end.
        assert_eq!(before(page).meets(stream("abdcef", 6)), went_back(), "{page}");
        assert_eq!(before(page).meets(stream("abdcefgh", 6)), went_back(), "{page}");
        let mut server = before(page);
        assert_eq!(server.meets(stream("abcdefgh", 8)), None, "{page}");
        assert_eq!(server.reads[0], 1);
        // Then its time is known too, and the next look begins there.
        assert_eq!(server.mark().1.map(|mark| mark.sequence), Some(8));
        assert_eq!(server.meets(stream("abcdefgh", 8)), None);
        assert_eq!(server.reads, [7]);
    }
}

#[test]
fn a_journal_that_knows_no_times_compares_the_message_at_head() {
    let digest = stream("abc", 0)[2].digest();
    let old = || Progress { head: 3, head_digest: Some(digest), ..Progress::default() };
    assert_eq!(Server::new(old(), stream("abcd", 0)).until_it_rests(), None);
    assert_eq!(Server::new(old(), stream("abdc", 0)).until_it_rests(), went_back());
    assert_eq!(Server::new(old(), stream("ab", 0)).until_it_rests(), went_back());
    let mut server = Server::new(old(), stream("abc", 3));
    assert_eq!(server.until_it_rests(), None);
    assert_eq!(server.mark().1.map(|mark| mark.sequence), Some(3));
}

#[test]
fn where_the_stream_forgot_the_mark_the_message_at_head_is_compared() {
    let before = |first| {
        let mut server = Server::read(stream("abcdef", 2));
        server.first = first;
        server
    };
    for first in 3..=6 {
        assert_eq!(before(first).meets(stream("abcdefg", 7)), None, "{first}");
        assert_eq!(before(first).meets(stream("abcdxfg", 7)), None, "{first}: nothing tells any more");
        assert_eq!(before(first).meets(stream("abcdegf", 7)), went_back(), "{first}");
    }
    assert_eq!(before(7).meets(stream("abcdefg", 7)), None);
}

#[test]
fn where_the_stream_forgot_all_that_was_read_the_archive_tells() {
    let before = |timed| {
        let mut server = Server::new(Progress::default(), stream("abcdef", timed));
        server.archive = Some(stream("abcdef", timed));
        assert_eq!(server.until_it_rests(), None);
        (server.first, server.archive) = (7, Some(stream("abcdefg", 7)));
        server
    };
    for timed in [0, 2, 6] {
        assert_eq!(before(timed).meets(stream("abcdefg", 7)), None, "{timed}");
        // What was lost was published again in another order.
        let mut server = before(timed);
        server.archive = Some(stream("abcdegf", 7));
        assert_eq!(server.meets(stream("abcdegf", 7)), went_back(), "{timed}");
    }
    // The same message, stored later.
    let mut server = before(6);
    server.archive.as_mut().unwrap()[5].time = Some("later".into());
    assert_eq!(server.meets(stream("abcdefg", 7)), went_back());
    // An archive that says nothing yet proves nothing.
    for late in [1, 3] {
        let mut server = before(6);
        (server.late, server.archive) = (late, Some(stream("abcdegf", 7)));
        for _ in 0..late {
            assert_eq!(server.meets(stream("abcdegf", 7)), Some("read-behind".to_owned()), "{late}");
            assert_eq!(server.machine.progress().head, 6);
        }
        assert_eq!(server.meets(stream("abcdegf", 7)), went_back(), "{late}");
    }
    // An archive that kept what the stream lost is as good as none.
    let mut server = before(6);
    server.archive.as_mut().unwrap()[5].time = Some("at 4".into());
    assert_eq!(server.meets(stream("abcdefg", 7)), None);
    assert!(server.machine.progress().archive_missing);
}

#[test]
fn what_is_not_handed_out_yet_is_waited_for() {
    let mut server = Server::read(stream("abcdef", 2));
    server.page = 0;
    assert_eq!(server.meets(stream("abcdef", 6)), Some("read-behind".to_owned()));
}
