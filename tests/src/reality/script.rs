//! What is said to a stream, and what happens around it.

use std::fmt;

/// One message.
#[derive(Clone, PartialEq, Eq)]
pub struct Say {
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Payload.
    pub payload: String,
    /// Whether an answer is asked for.
    pub asks: bool,
}

/// A message without any header.
#[must_use]
pub fn say() -> Say {
    Say { headers: Vec::new(), payload: "x".to_owned(), asks: true }
}

impl Say {
    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Say {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With a message id.
    #[must_use]
    pub fn id(self, id: &str) -> Say {
        self.header("Nats-Msg-Id", id)
    }

    /// If the stream ends there.
    #[must_use]
    pub fn behind(self, last: impl ToString) -> Say {
        self.header("Nats-Expected-Last-Sequence", last)
    }

    /// If the stream has this name.
    #[must_use]
    pub fn to(self, stream: &str) -> Say {
        self.header("Nats-Expected-Stream", stream)
    }

    /// As a member of a batch, counted from 1.
    #[must_use]
    pub fn batch(self, id: &str, place: impl ToString) -> Say {
        self.header("Nats-Batch-Id", id).header("Nats-Batch-Sequence", place)
    }

    /// As the last member of its batch.
    #[must_use]
    pub fn commit(self) -> Say {
        self.header("Nats-Batch-Commit", 1)
    }

    /// With this payload.
    #[must_use]
    pub fn payload(self, payload: impl Into<String>) -> Say {
        Say { payload: payload.into(), ..self }
    }

    /// Without asking for an answer.
    #[must_use]
    pub fn silent(self) -> Say {
        Say { asks: false, ..self }
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.headers {
            write!(f, "{name}: {value:.20}, ")?;
        }
        write!(f, "{} bytes", self.payload.len())
    }
}

/// What came back for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An acknowledgement.
    Ack {
        /// The sequence in it.
        sequence: u64,
        /// Whether it says *duplicate*.
        duplicate: bool,
    },
    /// An error, by its number.
    Error(u32),
    /// 503.
    Nobody,
    /// An empty answer: a member of an open batch.
    Taken,
    /// Nothing so far.
    Silence,
    /// None was asked for.
    Unasked,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its sequence.
    pub sequence: u64,
    /// All headers in order, as they are stored.
    pub headers: Vec<(String, String)>,
    /// Payload.
    pub payload: String,
}

/// Something that happens to the server, to all streams at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Barrier {
    /// Time passes: so many milliseconds.
    Pause(u64),
    /// The server is killed and starts again.
    Restart,
    /// The disk's contents are noted, as what a power loss would leave.
    Keep,
    /// The power goes: what was noted comes back, all behind it was acknowledged in vain.
    Rewind,
    /// The followers stand still: nothing gets a majority.
    Hold,
    /// They go on.
    Release,
    /// The followers are killed: nothing gets a majority, and nothing reaches them.
    Isolate,
    /// The leader is killed, the others run: another one leads.
    Fall,
    /// While the followers stand still the leader is killed; they go on, and have what it had sent them.
    Topple,
    /// The node that was killed comes back and follows.
    Back,
}

impl Barrier {
    /// Whether it is about the nodes of a stream with several replicas.
    #[must_use]
    pub fn is_of_nodes(self) -> bool {
        !matches!(self, Barrier::Pause(_) | Barrier::Restart | Barrier::Keep | Barrier::Rewind)
    }
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages one behind the other; then all their answers.
    Say(Vec<Say>),
    /// Something happens.
    Barrier(Barrier),
}

impl From<Say> for Step {
    fn from(say: Say) -> Step {
        Step::Say(vec![say])
    }
}

impl From<Vec<Say>> for Step {
    fn from(list: Vec<Say>) -> Step {
        Step::Say(list)
    }
}

impl From<Barrier> for Step {
    fn from(barrier: Barrier) -> Step {
        Step::Barrier(barrier)
    }
}

/// Steps on a stream of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it is about.
    pub name: String,
    /// The stream's duplicate window, in milliseconds.
    pub window: u64,
    /// Whether the stream takes atomic batches.
    pub atomic: bool,
    /// Largest message, in bytes.
    pub largest: u32,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Script {
    /// On a stream that remembers ids for two minutes and takes batches and messages up to 1,000 bytes.
    #[must_use]
    pub fn new(name: &str, steps: Vec<Step>) -> Script {
        Script { name: name.to_owned(), window: 120_000, atomic: true, largest: 1000, steps }
    }

    /// With another duplicate window, in milliseconds.
    #[must_use]
    pub fn window(self, window: u64) -> Script {
        Script { window, ..self }
    }

    /// On a stream that takes no batches.
    #[must_use]
    pub fn without_batches(self) -> Script {
        Script { atomic: false, ..self }
    }

    /// What happens around it, in order.
    #[must_use]
    pub fn barriers(&self) -> Vec<Barrier> {
        let barrier = |step: &Step| match step {
            Step::Barrier(barrier) => Some(*barrier),
            Step::Say(_) => None,
        };
        self.steps.iter().filter_map(barrier).collect()
    }
}
