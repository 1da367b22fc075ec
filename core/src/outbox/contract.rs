//! What goes into the machine and what comes out: plain data.

use super::event::{Attempt, Outcome, Waiting};
use crate::admission::StoredMessage;
use crate::headers::Headers;
use crate::subjects::Subject;
use crate::sync::{Failure, Persisted, Reply, Status, StreamInfo};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Begin, or begin again: the time of the last [`Output::Wait`] is over, or there is something new in the journal.
    Tick,
    /// Answer to [`Output::Load`]: events that are not settled, in journal order; none where there is none.
    Loaded(Vec<Waiting>),
    /// Answer to [`Output::Look`].
    Looked(StreamInfo),
    /// Answer to [`Output::Find`].
    Found(Found),
    /// Answer to [`Output::Get`]; none where there is no such message.
    Got(Option<StoredMessage>),
    /// [`Output::Look`], [`Output::Find`] or [`Output::Get`] could not be done.
    Failed(Failure),
    /// Answer to [`Output::Persist`].
    Persisted(Persisted),
    /// Answer to [`Output::Publish`].
    Reply(Reply),
    /// The connection is gone; nothing that was asked of it will be answered.
    Disconnected,
}

/// What a host must do, in this order. At most one of them asks for an answer, and it is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Output {
    /// Load the first events of the journal that are not settled.
    Load {
        /// At most so many.
        limit: u32,
    },
    /// Ask the stream's leader how it stands; connect where there is no connection.
    Look,
    /// Ask the stream's leader how it stands, then read the messages of one subject behind `after`; connect where there
    /// is no connection.
    Find {
        /// The subject.
        subject: Subject,
        /// Sequence.
        after: u64,
        /// At most so many messages.
        limit: u32,
    },
    /// Ask the stream's leader for one message.
    Get(Wanted),
    /// Write all of it in one transaction, durably.
    Persist(Persist),
    /// Publish this message, on the connection that there is and on no other; where there is none any more the answer is
    /// [`Input::Disconnected`].
    Publish {
        /// The subject.
        subject: Subject,
        /// All headers, those of transport included.
        headers: Headers,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Drop the connection, so that nothing queued in it is sent afterwards.
    Drop,
    /// Do nothing for so long, then [`Input::Tick`].
    Wait {
        /// Milliseconds.
        millis: u64,
    },
    /// Something changed that a person may want to know.
    Report(Status),
}

/// What a search gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How the leader says the stream stands, asked before the messages were read.
    pub info: StreamInfo,
    /// Messages of the subject, in order, none left out. Wherever they come from.
    pub messages: Vec<StoredMessage>,
    /// Whether the leader said that none follows. Nobody else can.
    pub complete: bool,
}

/// Which message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The one of this sequence.
    Sequence(u64),
    /// The last one of this subject.
    LastOf(Subject),
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persist {
    /// What came of the event at this place. One that is settled already makes the whole of it *stale*.
    pub settled: Option<(u64, Outcome)>,
    /// The event at this place is about to be tried for the first time: where the stream stands before.
    pub attempt: Option<(u64, Attempt)>,
}
