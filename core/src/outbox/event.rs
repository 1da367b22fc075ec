//! What a service wants published, checked, and what comes of it.

use crate::admission::StoredMessage;
use crate::digest::Digest;
use crate::headers::{self, CimEvent, HeaderError, Headers, NATS_MSG_ID, build_headers};
use crate::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use crate::subjects::{DOMAIN, ISSUED_DOMAIN, Namespace, Subject, Token};
use crate::trace::{TRACEPARENT, TraceParent};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of payload and headers together at most.
const LIMIT: usize = 1024 * 1024;
/// Bytes of headers at most; a server takes 64 kB, and transport adds a little.
const HEADERS: usize = 60 * 1024;

/// An event of a service's own domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEvent {
    /// `<organization>.<unit>.<domain>.<entity>.<operation>`.
    pub subject: Subject,
    /// What its seven headers say. The message id is what makes it one event: a repeated call has the same.
    pub event: CimEvent,
    /// Who makes it: the value of `CIM-Source`.
    pub source: String,
    /// The trace that it belongs to, carried in the header `traceparent`. No part of what the event says: a repeated call may
    /// have another.
    pub trace: Option<TraceParent>,
    /// Further headers, such as `Content-Type`. Neither one of the seven, nor `traceparent`, nor one that begins with `Nats-`.
    pub headers: Vec<(String, String)>,
    /// Payload, as it is.
    pub payload: Vec<u8>,
    /// Sequence of the last message on this subject, 0 for none: the event is published directly behind it or not at all
    /// (`Nats-Expected-Last-Subject-Sequence`).
    pub expected: Option<u64>,
}

impl DomainEvent {
    /// The event as it is journalled, every part of it checked.
    ///
    /// # Errors
    /// See [`EventError`].
    pub fn check(&self, namespace: &Namespace) -> Result<Message, EventError> {
        let found = self.subject.namespace();
        if found != *namespace {
            return Err(EventError::Namespace { expected: namespace.clone(), found: self.subject.clone() });
        }
        let event_type = self.subject.event_type();
        let domain = event_type.split('.').next().unwrap_or_default();
        // `keys-log` and its like carry what the stream of the keys says.
        let keys = domain.strip_prefix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if keys && domain != ISSUED_DOMAIN {
            return Err(EventError::KeysDomain { found: self.subject.clone() });
        }
        if self.event.event_type != event_type {
            return Err(EventError::Type {
                expected: event_type.to_owned(),
                found: self.event.event_type.chars().take(200).collect(),
            });
        }
        let mut headers = build_headers(&self.event, &self.source)?;
        if let Some(trace) = &self.trace {
            headers.push(TRACEPARENT, &trace.to_string())?;
        }
        for (name, value) in &self.headers {
            let mut ours = headers::ALL.iter().chain([&TRACEPARENT]);
            let own = ours.any(|known| known.eq_ignore_ascii_case(name));
            if own || name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-")) {
                return Err(EventError::ReservedHeader { name: name.chars().take(80).collect() });
            }
            headers.push(name, value)?;
        }
        let bytes = headers.wire_len().saturating_add(self.payload.len());
        if headers.wire_len() > HEADERS || bytes > LIMIT {
            return Err(EventError::TooLarge { limit: LIMIT, found: bytes });
        }
        Ok(Message {
            id: self.event.message_id,
            subject: self.subject.clone(),
            headers,
            payload: self.payload.clone(),
            expected: self.expected,
        })
    }
}

/// Whether a service may journal events for this stream.
///
/// # Errors
/// [`EventError::KeysStream`] for a stream of the keys.
pub fn check_place(stream: &Token) -> Result<(), EventError> {
    if [KEYS_EVENTS, KEYS_ARCHIVE].contains(&stream.as_str()) {
        return Err(EventError::KeysStream { found: stream.as_str().to_owned() });
    }
    Ok(())
}

/// An event as it is journalled and published, the same bytes at every attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id: `CIM-Event-Id` and `Nats-Msg-Id`.
    pub id: Uuid,
    /// Its subject.
    pub subject: Subject,
    /// Its headers, those of transport left out.
    pub headers: Headers,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Sequence of the last message of its subject, where it names one.
    pub expected: Option<u64>,
}

impl Message {
    /// Digest of everything it says, its trace left out: two calls with one id are the same call only with the same digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let expected = self.expected.map(|sequence| sequence.to_string()).unwrap_or_default();
        let mut pieces: Vec<&[u8]> = alloc::vec![self.subject.as_str().as_bytes(), expected.as_bytes()];
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != TRACEPARENT) {
            pieces.push(name.as_bytes());
            pieces.push(value.as_bytes());
        }
        pieces.push(&self.payload);
        Digest::of_all(pieces)
    }

    /// Whether a stored message is this one.
    pub(super) fn is(&self, stored: &StoredMessage) -> bool {
        self.has_id_of(stored)
            && stored.subject == self.subject.as_str()
            && Digest::of(&stored.payload) == Digest::of(&self.payload)
    }

    /// Whether a stored message has its id, whatever it says.
    pub(super) fn has_id_of(&self, stored: &StoredMessage) -> bool {
        stored.headers.only(NATS_MSG_ID).is_some_and(|id| id == self.id.to_string())
    }
}

/// Where the stream stood before the first attempt at an event: whatever the attempts came to lies behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Creation time of the stream, as the server writes it.
    pub created: String,
    /// Its last sequence.
    pub last: u64,
}

/// An event that is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Place in the journal, ascending.
    pub position: u64,
    /// The event.
    pub message: Message,
    /// Where the stream stood before the first attempt; none where there was none.
    pub attempt: Option<Attempt>,
}

/// What came of an event, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is on the stream.
    Published {
        /// Its sequence.
        sequence: u64,
    },
    /// It is not, and is not tried any more. An attempt that is still on its way may arrive all the same, where the event
    /// names no last message of its subject.
    Refused(Refusal),
}

/// Why an event is not published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The subject's last message is another one than the event names.
    #[error(
        "the last message of its subject is {found}, not {expected}: read what came in between, and decide again"
    )]
    Conflict {
        /// Sequence that the event names.
        expected: u64,
        /// Sequence of the message that follows it, or of the last one where none does; 0 for none.
        found: u64,
    },
    /// Another message has its id.
    #[error("the message {sequence} has its id and other content: an event has an id of its own")]
    IdTaken {
        /// Its sequence.
        sequence: u64,
    },
    /// The server takes no message of this size.
    #[error("the server refuses a message of this size: see max_payload and the stream's max_msg_size")]
    TooLarge,
    /// The stream does not keep what it would be settled by.
    #[error(
        "the stream keeps too little for an event that names the last message of its subject: it needs limits retention, and no limit of messages a subject"
    )]
    Forgetful,
    /// The server refuses it again and again.
    #[error("the server refuses it with error {code}")]
    Server {
        /// The error's number.
        code: u32,
    },
}

impl Refusal {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "subject-conflict",
            Self::IdTaken { .. } => "event-id-taken",
            Self::TooLarge => "too-large",
            Self::Forgetful => "stream-forgetful",
            Self::Server { .. } => "server-refuses",
        }
    }
}

/// Why an event is not taken into a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Its subject is of another namespace.
    #[error("{found} is not of the namespace {expected}: a journal has the events of one")]
    Namespace {
        /// The journal's.
        expected: Namespace,
        /// The subject.
        found: Subject,
    },
    /// Events of the keys go through commands only.
    #[error("{found} belongs to the domain of the keys: those events are made by commands only")]
    KeysDomain {
        /// The subject.
        found: Subject,
    },
    /// The stream is one of the keys'.
    #[error("{found} is a stream of the keys: a service has one of its own")]
    KeysStream {
        /// The stream.
        found: String,
    },
    /// Its type is not what its subject says.
    #[error("the event type {found:?} does not fit the subject: it must be {expected:?}")]
    Type {
        /// What the subject says.
        expected: String,
        /// The event's.
        found: String,
    },
    /// A header cannot be sent.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A header's name is not the service's to give.
    #[error("the header {name} is set by the library or by the server: leave it out")]
    ReservedHeader {
        /// The name, cut after 80 characters.
        name: String,
    },
    /// It is larger than any event may be.
    #[error(
        "payload and headers have {found} bytes, {limit} at most (60 kB of headers): put large things elsewhere, and a reference here"
    )]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
}

impl EventError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Namespace { .. } => "event-namespace",
            Self::KeysDomain { .. } => "event-keys-domain",
            Self::KeysStream { .. } => "event-keys-stream",
            Self::Type { .. } => "event-type",
            Self::Header(error) => error.code(),
            Self::ReservedHeader { .. } => "event-reserved-header",
            Self::TooLarge { .. } => "event-too-large",
        }
    }
}
