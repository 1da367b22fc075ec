//! What is compared: what a scenario expects, and what must hold after every one of them.
//!
//! * Each event id stands once on the stream, and names the message.
//! * Each command stands on it once, whole, its events in order and side by side.
//! * Nothing stands on it but what was made here, and what others are known to have brought.
//! * Every command that a host took is in its journal, and there confirmed, pending or held. Confirmed, it stands on the
//!   stream at the sequence that the journal says; pending or held, it does not stand there at all.
//! * What a host has read is the beginning of the stream: one order, for everybody.
//!
//! A host that is blocked because the stream is not the one that it knows claims nothing about the one that is there.

use super::{Driver, Expectation, Fate, Journal, Made, Mark, Row, Seen};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::{CIM_EVENT_ID, NATS_MSG_ID};
use cim_keys_core::journal::State;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Reasons of a host that knows another stream than the one that is there.
const ELSEWHERE: [&str; 3] = ["stream-missing", "stream-foreign", "stream-regressed"];

/// Who takes part, and what is known of them.
#[derive(Debug)]
pub struct Cast {
    /// What was made, in this order.
    pub made: Vec<Made>,
    /// How each host was seen last.
    pub seen: BTreeMap<String, Seen>,
    /// Whose journal a host works on, where it is another's.
    journals: BTreeMap<String, String>,
}

impl Cast {
    /// Hosts that are not connected, and have made nothing.
    pub fn new(hosts: &[String]) -> Cast {
        let seen = hosts.iter().map(|host| (host.clone(), Seen::plain("offline"))).collect();
        Cast { made: Vec::new(), seen, journals: BTreeMap::new() }
    }

    /// A second driver over the journal of a host.
    pub fn beside(&mut self, host: &str, of: &str) {
        self.journals.insert(host.to_owned(), of.to_owned());
        self.seen.insert(host.to_owned(), Seen::plain("offline"));
    }

    fn journal_of<'a>(&'a self, host: &'a str) -> &'a str {
        self.journals.get(host).map_or(host, String::as_str)
    }

    /// A host that is alive and has this journal.
    fn reader<'a>(&'a self, journal: &str) -> Result<&'a str, String> {
        let alive = |(host, seen): &(&'a String, &Seen)| {
            seen.kind != "dead" && self.journal_of(host) == self.journal_of(journal)
        };
        let found = self.seen.iter().find(alive);
        found.map(|(host, _)| host.as_str()).ok_or_else(|| format!("nobody is left to ask for {journal}"))
    }

    fn label(&self, id: Uuid) -> Option<String> {
        let made = self.made.iter().find(|made| made.command_id == id)?;
        Some(format!("{}/{}", made.host, made.user))
    }
}

/// The marks of stored messages.
///
/// # Errors
/// A message is no event.
pub fn marks<'a>(messages: impl IntoIterator<Item = &'a StoredMessage>) -> Result<Vec<Mark>, String> {
    messages.into_iter().map(mark).collect()
}

fn mark(message: &StoredMessage) -> Result<Mark, String> {
    let broken = |what: &str| format!("the message at {} has no {what}", message.sequence);
    let body: Value = serde_json::from_slice(&message.payload).map_err(|_| broken("JSON"))?;
    let (id, command) = (body["id"].as_str().unwrap_or_default(), &body["data"]["command"]);
    let named = [CIM_EVENT_ID, NATS_MSG_ID].iter().all(|name| message.headers.only(name) == Some(id));
    Ok(Mark {
        sequence: message.sequence,
        event_id: if named { id.to_owned() } else { String::new() },
        kind: body["type"].as_str().unwrap_or_default().to_owned(),
        command_id: command["id"].as_str().and_then(|id| id.parse().ok()).ok_or_else(|| broken("command"))?,
        index: command["index"].as_u64().ok_or_else(|| broken("index"))?,
        count: command["count"].as_u64().ok_or_else(|| broken("count"))?,
    })
}

/// Compares with what a scenario expects.
///
/// # Errors
/// What is not so.
pub fn expect(expectation: &Expectation, driver: &mut impl Driver, cast: &Cast) -> Result<(), String> {
    for (host, fates) in &expectation.journal {
        let journal = driver.journal(cast.reader(host)?)?;
        let mine: Vec<&Made> = cast.made.iter().filter(|made| made.host == *host).collect();
        let found: Vec<&str> = mine.iter().map(|made| made.user.as_str()).collect();
        if found.iter().collect::<BTreeSet<_>>()
            != fates.keys().map(String::as_str).collect::<Vec<_>>().iter().collect()
        {
            return Err(format!("{host} has made {found:?}"));
        }
        for made in mine {
            let row = row(&journal, made)?;
            let fits = match &fates[&made.user] {
                Fate::Pending => row.state == State::Pending,
                Fate::Confirmed => row.state == State::Confirmed,
                Fate::Held(code) => row.state == State::Held && row.code.as_ref() == Some(code),
            };
            if !fits {
                return Err(format!("{host}/{} is {:?} {:?}", made.user, row.state, row.code));
            }
        }
    }
    let (ordered, any) = (&expectation.stream, &expectation.stream_in_any_order);
    if ordered.is_none() && any.is_none() {
        return Ok(());
    }
    let marks = driver.ledger()?;
    let first = marks.iter().filter(|mark| mark.index == 0);
    let mut found: Vec<String> = first.filter_map(|mark| cast.label(mark.command_id)).collect();
    if ordered.as_ref().is_some_and(|wanted| *wanted != found) {
        return Err(format!("the stream has {found:?}"));
    }
    found.sort();
    let sorted = |list: &Vec<String>| {
        let mut list = list.clone();
        list.sort();
        list
    };
    if any.as_ref().is_some_and(|wanted| sorted(wanted) != found) {
        return Err(format!("the stream has, in some order, {found:?}"));
    }
    Ok(())
}

/// Compares with what must hold after every scenario.
///
/// # Errors
/// What does not hold.
pub fn invariants(driver: &mut impl Driver, cast: &Cast) -> Result<(), String> {
    let marks = driver.ledger()?;
    stream(&marks)?;
    let others = driver.others();
    let strange = |mark: &&Mark| !others.contains(&mark.command_id) && cast.label(mark.command_id).is_none();
    if let Some(mark) = marks.iter().find(strange) {
        return Err(format!("nobody has made what stands at {}: {mark:?}", mark.sequence));
    }
    let journals: BTreeSet<&str> = cast.seen.keys().map(|host| cast.journal_of(host)).collect();
    for owner in journals {
        let reader = cast.reader(owner)?;
        let journal = driver.journal(reader)?;
        if cast.seen.get(reader).is_some_and(|seen| ELSEWHERE.contains(&seen.code.as_str())) {
            continue;
        }
        let read = journal.trail.iter().map(|(sequence, id)| (*sequence, id.as_str()));
        let stored = marks.iter().map(|mark| (mark.sequence, mark.event_id.as_str()));
        if journal.trail.len() > marks.len() || !read.eq(stored.take(journal.trail.len())) {
            return Err(format!("{owner} has read something else than the stream: {:?}", journal.trail));
        }
        for made in cast.made.iter().filter(|made| cast.journal_of(&made.host) == owner) {
            command(row(&journal, made)?, made, &marks)?;
        }
    }
    Ok(())
}

fn row<'a>(journal: &'a Journal, made: &Made) -> Result<&'a Row, String> {
    let mut rows = journal.rows.iter().filter(|row| row.command_id == made.command_id);
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(format!("{}/{} was reported as made and is lost", made.host, made.user)),
        _ => Err(format!("{}/{} stands twice in its journal", made.host, made.user)),
    }
}

fn command(row: &Row, made: &Made, marks: &[Mark]) -> Result<(), String> {
    let who = format!("{}/{}", made.host, made.user);
    let on_stream = marks.iter().find(|mark| mark.command_id == made.command_id);
    match (row.state, on_stream) {
        (State::Confirmed, Some(mark)) if row.first == Some(mark.sequence) => Ok(()),
        (State::Confirmed, Some(mark)) => {
            Err(format!("{who} is said to be at {:?} and stands at {}", row.first, mark.sequence))
        }
        (State::Confirmed, None) => Err(format!("{who} is confirmed and not on the stream")),
        (State::Pending | State::Held, None) => Ok(()),
        (State::Pending | State::Held, Some(mark)) => {
            Err(format!("{who} is {:?} and stands at {}", row.state, mark.sequence))
        }
        (state, _) => Err(format!("{who} is {state:?}")),
    }
}

/// Each event id once, each command once, whole and in order.
fn stream(marks: &[Mark]) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    let mut ended = BTreeSet::new();
    let mut open: Option<(Uuid, u64, u64)> = None;
    for (place, mark) in (1..).zip(marks) {
        if mark.sequence != place {
            return Err(format!("the stream has a gap before {}", mark.sequence));
        }
        if mark.event_id.is_empty() || !ids.insert(&mark.event_id) {
            return Err(format!(
                "the event at {} stands there already, or is not named: {mark:?}",
                mark.sequence
            ));
        }
        let fits = match open {
            Some((id, index, count)) => (id, index, count) == (mark.command_id, mark.index, mark.count),
            None => mark.index == 0 && ended.insert(mark.command_id),
        };
        if !fits {
            return Err(format!(
                "the command at {} is not whole, or stands there already: {mark:?}",
                mark.sequence
            ));
        }
        open = (mark.index + 1 < mark.count).then_some((mark.command_id, mark.index + 1, mark.count));
    }
    match open {
        Some((id, ..)) => Err(format!("the command {id} has no end")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64, command: u128, index: u64, count: u64) -> Mark {
        Mark {
            sequence,
            event_id: format!("event {sequence}"),
            kind: "keys.user.created".to_owned(),
            command_id: Uuid::from_u128(command),
            index,
            count,
        }
    }

    #[test]
    fn a_stream_has_everything_once_and_whole() {
        let good = [mark(1, 1, 0, 2), mark(2, 1, 1, 2), mark(3, 2, 0, 1)];
        assert_eq!(stream(&good), Ok(()));
        let bad: [&[Mark]; 6] = [
            // An event twice, a command twice, a gap, half a command, another between its events, the wrong order.
            &[mark(1, 1, 0, 1), Mark { event_id: "event 1".to_owned(), ..mark(2, 2, 0, 1) }],
            &[mark(1, 1, 0, 1), mark(2, 1, 0, 1)],
            &[mark(1, 1, 0, 1), mark(3, 2, 0, 1)],
            &[mark(1, 1, 0, 2)],
            &[mark(1, 1, 0, 2), mark(2, 2, 0, 1), mark(3, 1, 1, 2)],
            &[mark(1, 1, 1, 2), mark(2, 1, 0, 2)],
        ];
        for marks in bad {
            assert!(stream(marks).is_err(), "{marks:?}");
        }
        assert!(stream(&[Mark { event_id: String::new(), ..mark(1, 1, 0, 1) }]).is_err());
    }

    #[test]
    fn a_command_is_where_its_journal_says() {
        let made = Made { host: "a".to_owned(), user: "ann".to_owned(), command_id: Uuid::from_u128(1) };
        let row = |state, first| Row { command_id: made.command_id, state, code: None, first };
        let (there, elsewhere) = ([mark(5, 1, 0, 1)], [mark(5, 2, 0, 1)]);
        assert_eq!(command(&row(State::Confirmed, Some(5)), &made, &there), Ok(()));
        assert_eq!(command(&row(State::Pending, None), &made, &elsewhere), Ok(()));
        assert_eq!(command(&row(State::Held, None), &made, &elsewhere), Ok(()));
        for (row, marks) in [
            (row(State::Confirmed, Some(4)), &there),
            (row(State::Confirmed, None), &there),
            (row(State::Confirmed, Some(5)), &elsewhere),
            (row(State::Pending, None), &there),
            (row(State::Held, None), &there),
            (row(State::Dropped, None), &elsewhere),
        ] {
            assert!(command(&row, &made, marks).is_err(), "{row:?}");
        }
        let twice =
            Journal { rows: vec![row(State::Pending, None), row(State::Pending, None)], trail: Vec::new() };
        assert!(super::row(&twice, &made).is_err());
        assert!(super::row(&Journal::default(), &made).is_err());
    }
}
