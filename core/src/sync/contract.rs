//! What goes into the machine and what comes out: plain data.

use crate::admission::{Anomaly, StoredMessage};
use crate::digest::Digest;
use crate::headers::Headers;
use crate::journal::{Hold, Own, Pending, Progress, Ready, StreamIdentity};
use crate::registry::{Entity, Facts, Lookup, Recorded};
use crate::rules::Reason;
use crate::stream::StreamConfig;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Time and randomness, supplied with every input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds; only differences count, so any clock that does not jump serves.
    pub millis: u64,
    /// Fresh random bytes: batch ids and jitter come from them.
    pub random: [u8; 16],
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Begin, or begin again: the time of the last [`Output::Wait`] is over, or there is something new in the journal.
    Tick,
    /// Answer to [`Output::ReadFrom`].
    Read(Read),
    /// [`Output::ReadFrom`] could not be done.
    ReadFailed(Failure),
    /// Answer to [`Output::LoadFacts`]: the state at `head`, pending commands left out.
    Facts {
        /// An answer to every look-up.
        facts: Facts,
        /// What the journal knows of the commands among the look-ups.
        own: Vec<Own>,
    },
    /// Answer to [`Output::Load`].
    Loaded {
        /// Pending commands in journal order.
        commands: Vec<Pending>,
        /// Whether there are more behind them.
        more: bool,
        /// Held commands that are revocations: they are decided anew by themselves.
        held_revocations: Vec<Uuid>,
        /// The journal's revision: it changes whenever a command is added, replaced or settled by somebody else.
        revision: u64,
    },
    /// Answer to [`Output::Gather`].
    Gathered {
        /// Pending commands in journal order, as messages; none where nothing is pending behind that place.
        commands: Vec<Ready>,
        /// Held commands that are revocations, as in [`Input::Loaded`].
        held_revocations: Vec<Uuid>,
    },
    /// Answer to [`Output::Persist`].
    Persisted(Persisted),
    /// Answer to [`Output::Redecide`].
    Redecided {
        /// The command.
        command_id: Uuid,
        /// Whether the journal holds it as pending (or settled) again.
        resolved: bool,
    },
    /// Answer to [`Output::Send`].
    Reply(Reply),
    /// A message of the log, as [`logged`](crate::jetstream::logged) reads it. It may come at any time.
    Tail(StoredMessage),
    /// The connection is gone; nothing that was asked of it will be answered.
    Disconnected,
}

/// What a host must do, in this order. At most one of them, beside a [`Output::Send`], asks for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Output {
    /// Ask this stream's leader how it stands, and read what it has stored behind `after`, in order and without a gap.
    ReadFrom {
        /// Name of the stream: `KEYS_EVENTS`, or `KEYS_ARCHIVE` for what that one has forgotten.
        stream: String,
        /// Sequence.
        after: u64,
        /// At most so many messages.
        limit: u32,
    },
    /// Load answers from the state at `head`.
    LoadFacts {
        /// Look-ups.
        scopes: Vec<Lookup>,
    },
    /// Load pending commands behind this place of the journal, to be checked again.
    Load {
        /// Place in the journal; 0 for the first.
        after: u64,
        /// At most so many commands; fewer once their messages are [`BATCH_BYTES`](crate::sync::BATCH_BYTES).
        limit: u32,
    },
    /// Load the messages of pending commands behind this place of the journal, to be sent.
    Gather {
        /// Place in the journal; 0 for the first.
        after: u64,
        /// Enough once there are so many messages, or [`BATCH_BYTES`](crate::sync::BATCH_BYTES); at least one command.
        messages: u32,
    },
    /// Write all of it in one transaction. What comes of the stream is read again where it gets lost, so that it need not
    /// be on the disk before the answer; what was committed before must not get lost with it.
    Persist(alloc::boxed::Box<Persist>),
    /// Publish these messages: one plainly, several as an atomic batch. What came back is answered whenever it comes; what
    /// else is asked goes on meanwhile.
    Send(Send),
    /// Listen to the log from now on and hand in its messages as [`Input::Tail`], or stop.
    Follow {
        /// Whether to.
        on: bool,
    },
    /// Drop the connection, so that nothing queued in it is sent afterwards; connect anew before the next read.
    Drop,
    /// Decide a held revocation anew, with a new context and the next attempt; answer with [`Input::Redecided`].
    Redecide {
        /// The command.
        command_id: Uuid,
    },
    /// Do nothing for so long, then [`Input::Tick`].
    Wait {
        /// Milliseconds.
        millis: u64,
    },
    /// Something changed that a person may want to know.
    Report(Status),
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// How the leader says the stream stands, asked before the messages were read.
    pub info: StreamInfo,
    /// Messages behind `after`, in order, without a gap.
    pub messages: Vec<StoredMessage>,
}

/// How a stream stands, by its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Which stream.
    pub identity: StreamIdentity,
    /// Its settings.
    pub config: StreamConfig,
    /// First sequence stored.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
    /// How long ago the first message was stored, in seconds by the server's clock; none where there is none, or it is not
    /// told.
    #[serde(default)]
    pub first_age: Option<u64>,
    /// The server's version; none where it is not known.
    pub server: Option<(u32, u32, u32)>,
}

/// Why a read could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No answer in time, no connection, or an answer that cannot be read.
    Unreachable,
    /// Nobody answers (503): no leader, or no such stream or permission.
    NoResponders,
    /// There is no such stream (10059).
    StreamMissing,
    /// A subject is not permitted.
    Permission {
        /// The subject.
        subject: String,
    },
    /// The server refuses the creds.
    Authorization {
        /// In the server's words.
        reason: String,
    },
    /// Another error of the JetStream API.
    Code {
        /// Its number.
        code: u32,
    },
}

/// Messages to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// In order; headers complete, transport headers included.
    pub messages: Vec<Outgoing>,
    /// Whether they are one atomic batch: only the last one wants a reply.
    pub batch: bool,
}

/// One message to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Subject.
    pub subject: String,
    /// All headers.
    pub headers: Headers,
    /// Payload: JSON text.
    #[serde(with = "crate::envelope::text")]
    pub payload: Vec<u8>,
}

/// What came back for a [`Send`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Stored, says the server.
    Ack {
        /// Stream.
        stream: String,
        /// Sequence of the last message.
        sequence: u64,
        /// Whether the server took it for a duplicate.
        duplicate: bool,
    },
    /// An error of the JetStream API, by its number.
    Error {
        /// Its number.
        code: u32,
    },
    /// Nobody answers (503).
    NoResponders,
    /// No answer in time, or none that can be read: it may be stored or not, now or later.
    Unknown,
    /// Publishing is not permitted.
    Permission {
        /// The subject.
        subject: String,
    },
    /// The server refuses the creds.
    Authorization {
        /// In the server's words.
        reason: String,
    },
}

/// What came of a [`Persist`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persisted {
    /// Written, durably.
    Ok,
    /// The journal is not what the machine worked from: nothing was written.
    Stale,
    /// The store failed: nothing was written.
    Failed {
        /// What the store says.
        reason: String,
    },
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persist {
    /// The journal's `head` must be this, or it is *stale*.
    pub expect_head: u64,
    /// The journal's revision must be this where it is given, or it is *stale*.
    pub expect_revision: Option<u64>,
    /// How far the journal has come.
    pub progress: Progress,
    /// Entities as they are at the new `head`.
    pub entities: Vec<Entity>,
    /// Commands admitted, those of `confirmed` among them.
    pub recorded: Vec<Recorded>,
    /// Messages read, admitted or not, for views of the trail. Empty when own commands are confirmed by their
    /// acknowledgement: the journal has those messages, in the order in which they are stored.
    pub messages: Vec<StoredMessage>,
    /// Messages that change nothing.
    pub anomalies: Vec<Anomaly>,
    /// Own commands that are on the stream. Where the journal has another attempt at one of them by now, all of it is
    /// *stale*.
    pub confirmed: Vec<Landed>,
    /// Own commands to hold.
    pub held: Vec<Hold>,
    /// Facts on which own pending commands stand again.
    pub rechecked: Vec<(Uuid, Digest)>,
    /// What becomes of the overlay.
    pub overlay: Overlay,
}

/// An own command that is on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landed {
    /// The command.
    pub command_id: Uuid,
    /// Which attempt at it, as the journal has it: another one is not on the stream.
    pub draft_hash: Digest,
    /// Sequence of its first event.
    pub first: u64,
}

/// What becomes of the entities that pending commands touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlay {
    /// Nothing.
    #[default]
    Keep,
    /// What commands up to this place left is the state at `head` now: of each entity the newest that one of them left.
    Settle {
        /// Place in the journal.
        position: u64,
    },
    /// What commands up to a place left is void, and this instead: each entity as each of them left it, with its place.
    Replace {
        /// Place in the journal; none for all of it.
        until: Option<u64>,
        /// In the order of the journal.
        entities: Vec<(u64, Entity)>,
    },
}

/// How the machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing is pending that could be appended, and everything stored was read.
    Idle,
    /// At work.
    Working,
    /// At work, and other writers were always first.
    Contended {
        /// For so many milliseconds.
        millis: u64,
    },
    /// Waiting before it tries again.
    Waiting {
        /// Why.
        reason: Reason,
        /// Whether the breaker is open: the server fails too often to be asked more.
        open: bool,
        /// Milliseconds until it tries again.
        millis: u64,
    },
    /// It cannot go on until somebody changes something; it looks again from time to time.
    Blocked {
        /// Why, and what to do.
        reason: Reason,
    },
}
