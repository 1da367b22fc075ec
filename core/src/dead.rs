//! Dead letters: messages that a consumer gave up, why, and what a person said to it. How they stand is a fold of what stands
//! on `KEYS_DEAD`, where nothing is ever taken away.
//!
//! All that is said of one message stands on one subject, `<namespace>.keys-dead.<stream>.<consumer>.<sequence>`, and each word
//! is appended with the sequence of the one before it: so none is said twice, and of two that contradict each other one is
//! refused.

use crate::admission::StoredMessage;
use crate::digest::Digest;
use crate::json::{self, Json};
use crate::jwt::{DecodeError, Members};
use crate::stream::GIVEN_UP;
use crate::subjects::{Namespace, Token};
use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// With which a word is appended: the sequence of the one before it on its subject, 0 where it is the first.
pub const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Characters of a reason that are kept.
const REASON: usize = 2000;

/// Which message of which consumer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The stream.
    pub stream: String,
    /// The consumer that gave it up.
    pub consumer: String,
    /// The message's sequence on the stream.
    pub sequence: u64,
}

impl Place {
    /// Where everything about it stands.
    #[must_use]
    pub fn subject(&self, namespace: &Namespace) -> String {
        format!("{namespace}.keys-dead.{self}")
    }

    /// From such a subject.
    #[must_use]
    pub fn of_subject(subject: &str, namespace: &Namespace) -> Option<Self> {
        subject.strip_prefix(&format!("{namespace}.keys-dead."))?.parse().ok()
    }

    /// The id with which a word about it is appended: the same for the same word.
    #[must_use]
    pub fn message_id(&self, after: u64) -> String {
        format!("{self}.{after}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stream, self.consumer, self.sequence)
    }
}

/// A text is no place: `STREAM.CONSUMER.SEQUENCE`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dead letter's place: STREAM.CONSUMER.SEQUENCE, as `dlq list` shows it")]
pub struct PlaceError;

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut tokens = text.split('.');
        let mut name = || {
            let token: Token = tokens.next().ok_or(PlaceError)?.parse().map_err(|_| PlaceError)?;
            Ok(token.as_str().to_owned())
        };
        let (stream, consumer) = (name()?, name()?);
        let number = tokens.next().ok_or(PlaceError)?;
        let sequence = number.parse().map_err(|_| PlaceError)?;
        let place = Self { stream, consumer, sequence };
        // One text for each place.
        if tokens.next().is_none() && format!("{sequence}") == number { Ok(place) } else { Err(PlaceError) }
    }
}

/// What a worker writes of a message before it gives it up. The message itself stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The message's subject.
    pub subject: String,
    /// SHA-256 of its subject and payload: whether what stands there later is still that message.
    pub digest: Digest,
    /// When it was stored.
    pub stored: Timestamp,
    /// Deliveries until then.
    pub delivered: u64,
    /// `poison`: no try can help; `exhausted`: every try failed.
    pub code: String,
    /// Why, in the handler's words, cut after 2,000 characters.
    pub reason: String,
    /// When it was given up.
    pub at: Timestamp,
}

impl Letter {
    /// About a message.
    #[must_use]
    pub fn new(
        message: &StoredMessage,
        stored: Timestamp,
        delivered: u64,
        code: &str,
        reason: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            subject: message.subject.clone(),
            digest: message.content(),
            stored,
            delivered,
            code: code.to_owned(),
            reason: reason.chars().take(REASON).collect(),
            at,
        }
    }
}

/// What is said of a message that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It is given up.
    Letter(Letter),
    /// A person wants it tried again.
    Retry {
        /// Who.
        actor: String,
        /// When.
        at: Timestamp,
    },
    /// It was tried again, and is done.
    Handled {
        /// When.
        at: Timestamp,
    },
    /// A person says that nothing is to be done about it.
    Dropped {
        /// Who.
        actor: String,
        /// When.
        at: Timestamp,
    },
}

impl Word {
    /// Its bytes on the stream.
    ///
    /// # Errors
    /// Never: every word can be written.
    pub fn encode(&self) -> Result<String, json::JsonError> {
        json::to_text(self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is no word, or one of a later version.
    pub fn decode(payload: &[u8]) -> Result<Self, json::JsonError> {
        json::from_slice(payload)
    }
}

/// What a server says of a message that it, or a worker, gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// `max-deliveries` or `terminated`.
    pub code: String,
    /// Why, where the server knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Deliveries until then.
    pub delivered: u64,
    /// When, as the server writes it.
    pub at: String,
}

/// Where a message stands that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Given up; a person decides.
    Dead,
    /// To be tried again.
    Retrying,
    /// Tried again, and done.
    Handled,
    /// Nothing is to be done about it.
    Dropped,
}

impl Standing {
    /// The same as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Retrying => "retrying",
            Self::Handled => "handled",
            Self::Dropped => "dropped",
        }
    }
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub place: Place,
    /// Where it stands.
    pub state: Standing,
    /// What the worker wrote last; none where it wrote nothing.
    pub letter: Option<Letter>,
    /// What the server said last; none where it said nothing.
    pub advisory: Option<Advisory>,
    /// Everything that was said about it, in order, with its sequence.
    pub words: Vec<(u64, Word)>,
}

impl Entry {
    fn new(place: Place) -> Self {
        Self { place, state: Standing::Dead, letter: None, advisory: None, words: Vec::new() }
    }

    /// Sequence of the last word: what the next one is appended with.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.words.last().map_or(0, |(sequence, _)| *sequence)
    }

    /// Why it was given up: code and words.
    #[must_use]
    pub fn why(&self) -> (&str, &str) {
        match (&self.letter, &self.advisory) {
            (Some(letter), _) => (&letter.code, &letter.reason),
            (None, Some(advisory)) => (&advisory.code, &advisory.reason),
            (None, None) => ("unknown", ""),
        }
    }

    /// Whether this word would change anything now.
    #[must_use]
    pub fn takes(&self, word: &Word) -> bool {
        match word {
            Word::Letter(_) => self.state != Standing::Dead || self.letter.is_none(),
            Word::Retry { .. } => matches!(self.state, Standing::Dead | Standing::Dropped),
            Word::Handled { .. } => self.state == Standing::Retrying,
            Word::Dropped { .. } => matches!(self.state, Standing::Dead | Standing::Retrying),
        }
    }

    fn add(&mut self, sequence: u64, word: Word) {
        if self.takes(&word) {
            self.state = match &word {
                Word::Letter(letter) => {
                    self.letter = Some(letter.clone());
                    Standing::Dead
                }
                Word::Retry { .. } => Standing::Retrying,
                Word::Handled { .. } => Standing::Handled,
                Word::Dropped { .. } => Standing::Dropped,
            };
        }
        self.words.push((sequence, word));
    }
}

/// All of them: a fold of `KEYS_DEAD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetters {
    entries: BTreeMap<Place, Entry>,
    unreadable: Vec<u64>,
    head: u64,
}

impl DeadLetters {
    /// Takes in the next message of the stream. What is no word changes nothing, and is counted.
    pub fn apply(&mut self, namespace: &Namespace, message: &StoredMessage) {
        self.head = self.head.max(message.sequence);
        if let Some(place) = Place::of_subject(&message.subject, namespace) {
            match Word::decode(&message.payload) {
                Ok(word) => self.entry(place).add(message.sequence, word),
                Err(_) => self.unreadable.push(message.sequence),
            }
        } else if let Some((place, advisory)) = advisory(message) {
            self.entry(place).advisory = Some(advisory);
        } else {
            self.unreadable.push(message.sequence);
        }
    }

    fn entry(&mut self, place: Place) -> &mut Entry {
        self.entries.entry(place.clone()).or_insert_with(|| Entry::new(place))
    }

    /// They, by stream, consumer and sequence.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// Sequences of messages that say nothing.
    #[must_use]
    pub fn unreadable(&self) -> &[u64] {
        &self.unreadable
    }

    /// The last sequence that was taken in.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }
}

/// Reads what a server says of a message that was given up.
fn advisory(message: &StoredMessage) -> Option<(Place, Advisory)> {
    let [exhausted, _] = GIVEN_UP;
    GIVEN_UP.iter().find(|subject| message.subject.starts_with(**subject))?;
    let code = if message.subject.starts_with(exhausted) { "max-deliveries" } else { "terminated" };
    let told = || -> Result<(Place, Advisory), Box<DecodeError>> {
        let text = core::str::from_utf8(&message.payload).map_err(|_| DecodeError::Encoding)?;
        let mut found = Members::open(Json::parse(text)?)?;
        let place = Place {
            stream: found.take("stream")?,
            consumer: found.take("consumer")?,
            sequence: found.take("stream_seq")?,
        };
        let reason: String = found.take("reason")?;
        let advisory = Advisory {
            code: code.to_owned(),
            reason: reason.chars().take(REASON).collect(),
            delivered: found.take("deliveries")?,
            at: found.take("timestamp")?,
        };
        Ok((place, advisory))
    };
    // Only what could be a place: names of others may have characters that ours have not.
    told().ok().filter(|(place, _)| format!("{place}").parse::<Place>().as_ref() == Ok(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;
    use alloc::string::ToString;

    fn place() -> Place {
        "KEYS_EVENTS.keys-service.17".parse().unwrap()
    }

    fn stored(sequence: u64, subject: String, payload: &str) -> StoredMessage {
        StoredMessage { sequence, subject, headers: Headers::default(), payload: payload.into(), time: None }
    }

    fn at() -> Timestamp {
        Timestamp::from_millis(1_795_423_807_042).unwrap()
    }

    fn letter() -> Word {
        let message = stored(17, "cowboyai.security.keys.user.created".into(), "{}");
        Word::Letter(Letter::new(&message, at(), 5, "exhausted", "the database is away", at()))
    }

    fn fold(words: &[Word]) -> DeadLetters {
        let namespace = Namespace::default();
        let mut letters = DeadLetters::default();
        for (word, sequence) in words.iter().zip(1..) {
            let message = stored(sequence, place().subject(&namespace), &word.encode().unwrap());
            letters.apply(&namespace, &message);
        }
        letters
    }

    #[test]
    fn words_have_one_text() {
        let text = concat!(
            r#"{"letter":{"subject":"cowboyai.security.keys.user.created","#,
            r#""digest":"DIGEST","stored":"2026-11-23T08:50:07.042Z","delivered":5,"code":"exhausted","#,
            r#""reason":"the database is away","at":"2026-11-23T08:50:07.042Z"}}"#
        );
        let message = stored(17, "cowboyai.security.keys.user.created".into(), "{}");
        let text = text.replace("DIGEST", &message.content().to_string());
        assert_eq!(letter().encode().unwrap(), text);
        assert_eq!(Word::decode(text.as_bytes()), Ok(letter()));
        let retry = Word::Retry { actor: "ann".into(), at: at() };
        assert_eq!(retry.encode().unwrap(), r#"{"retry":{"actor":"ann","at":"2026-11-23T08:50:07.042Z"}}"#);
        assert!(Word::decode(br#"{"later":{}}"#).is_err());
    }

    #[test]
    fn a_place_has_one_text() {
        assert_eq!(place().to_string(), "KEYS_EVENTS.keys-service.17");
        assert_eq!(
            place().subject(&Namespace::default()),
            "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.17"
        );
        for odd in ["", "a", "a.b", "a.b.c", "a.b.01", "a.b.1.2", "a.*.1", ".b.1", "a.b.-1"] {
            assert_eq!(odd.parse::<Place>(), Err(PlaceError), "{odd}");
        }
    }

    #[test]
    fn what_stands_there_decides_how_it_stands() {
        let (actor, at) = ("ann".to_owned(), at());
        let retry = Word::Retry { actor: actor.clone(), at };
        let dropped = Word::Dropped { actor, at };
        let handled = Word::Handled { at };
        for (words, state) in [
            (&[letter()][..], Standing::Dead),
            (&[letter(), retry.clone()], Standing::Retrying),
            // A second one of the same is harmless.
            (&[letter(), retry.clone(), retry.clone()], Standing::Retrying),
            (&[letter(), retry.clone(), handled.clone()], Standing::Handled),
            (&[letter(), retry.clone(), letter()], Standing::Dead),
            (&[letter(), dropped.clone(), dropped.clone()], Standing::Dropped),
            (&[letter(), dropped.clone(), retry.clone()], Standing::Retrying),
            (&[letter(), retry.clone(), dropped.clone(), handled.clone()], Standing::Dropped),
            (&[letter(), retry.clone(), handled.clone(), dropped.clone()], Standing::Handled),
            (core::slice::from_ref(&retry), Standing::Retrying),
        ] {
            let letters = fold(words);
            let entry = letters.get(&place()).unwrap();
            assert_eq!((entry.state, entry.last()), (state, words.len() as u64), "{words:?}");
        }
    }

    #[test]
    fn what_a_server_says_is_a_letter_as_well() {
        let namespace = Namespace::default();
        let body = r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-25T13:34:26.2Z",
            "stream":"KEYS_EVENTS","consumer":"keys-service","stream_seq":17,"deliveries":20}"#;
        let [exhausted, terminated] = GIVEN_UP.map(|subject| format!("{subject}.KEYS_EVENTS.keys-service"));
        let mut letters = DeadLetters::default();
        letters.apply(&namespace, &stored(1, exhausted, body));
        let entry = letters.get(&place()).unwrap();
        assert_eq!((entry.state, entry.why(), entry.last()), (Standing::Dead, ("max-deliveries", ""), 0));
        // What the worker wrote says more.
        letters.apply(&namespace, &stored(2, place().subject(&namespace), &letter().encode().unwrap()));
        let said = body.replace("\"deliveries\"", "\"reason\":\"poison\",\"deliveries\"");
        letters.apply(&namespace, &stored(3, terminated, &said));
        let entry = letters.get(&place()).unwrap();
        assert_eq!(entry.why(), ("exhausted", "the database is away"));
        assert_eq!(entry.advisory.as_ref().unwrap().reason, "poison");
        // And what says nothing is counted.
        letters.apply(&namespace, &stored(4, "a.b".into(), "{}"));
        letters.apply(&namespace, &stored(5, place().subject(&namespace), "garbage"));
        assert_eq!((letters.unreadable(), letters.head(), letters.entries().count()), (&[4, 5][..], 5, 1));
    }
}
