//! The stream of dead letters on a server: what is said about one message, all of them, and one more word.

use crate::nats::append;
use crate::nats::link::Link;
use crate::nats::read::Reader;
use crate::nats::streams;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::dead::{DeadLetters, EXPECTED, Entry, Place, Word};
use cim_keys_core::headers::{Headers, NATS_MSG_ID};
use cim_keys_core::jetstream;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_DEAD, KEYS_EVENTS};
use cim_keys_core::subjects::{Namespace, Token};
use cim_keys_core::sync::{Failure, Outgoing, Reply, Send};

/// Letters that are read at once.
const PAGE: u32 = 1000;
/// Words about one message that are looked at: people do not say more.
const WORDS: usize = 1000;

/// Where dead letters stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterBox {
    stream: String,
    namespace: Namespace,
}

/// What came of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It stands there, at this sequence.
    Stored(u64),
    /// Something else was said before it: look again.
    Overtaken,
}

impl LetterBox {
    /// `KEYS_DEAD`, for the letters of this namespace.
    #[must_use]
    pub fn new(namespace: Namespace) -> Self {
        Self { stream: KEYS_DEAD.to_owned(), namespace }
    }

    /// Another stream with the same subjects, as a service may have one of its own.
    #[must_use]
    pub fn on(mut self, stream: &Token) -> Self {
        stream.as_str().clone_into(&mut self.stream);
        self
    }

    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The first two tokens of its subjects.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What stands about one message, by the stream's leader; none where nothing was written. What servers say by
    /// themselves is not looked for.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub async fn entry(&self, link: &Link, place: &Place) -> Result<Option<Entry>, LetterError> {
        let mut letters = DeadLetters::default();
        let subject = place.subject(&self.namespace);
        for _ in 0..WORDS {
            let next = letters.head().saturating_add(1);
            let body = format!(r#"{{"seq":{next},"next_by_subj":"{subject}"}}"#);
            let Some(message) = self.ask(link, &self.stream, body).await? else { break };
            letters.apply(&self.namespace, &message);
        }
        Ok(letters.get(place).cloned())
    }

    /// All of them.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub async fn read(&self, link: &Link) -> Result<DeadLetters, LetterError> {
        let mut letters = DeadLetters::default();
        let mut reader = Reader::default();
        loop {
            let read = reader.read_from(link, &self.stream, letters.head(), PAGE).await;
            let read = read.map_err(|failure| self.failed(failure))?;
            let before = letters.head();
            for message in &read.messages {
                letters.apply(&self.namespace, message);
            }
            // A copy that is behind ends early: then it is asked again.
            if letters.head() >= read.info.last {
                return Ok(letters);
            }
            if letters.head() == before {
                return Err(self.failed(Failure::Unreachable));
            }
        }
    }

    /// Says one more word about a message, directly behind the last one: `after` is its sequence, 0 for none.
    ///
    /// # Errors
    /// See [`LetterError`]: then it may stand there or not, and is looked for before it is said again.
    pub async fn say(
        &self,
        link: &Link,
        place: &Place,
        word: &Word,
        after: u64,
    ) -> Result<Said, LetterError> {
        let internal = || LetterError::Unsendable;
        let mut headers = Headers::default();
        for (name, value) in [
            (NATS_MSG_ID, place.message_id(after)),
            (EXPECTED, after.to_string()),
            ("Content-Type", "application/json".to_owned()),
        ] {
            headers.push(name, &value).map_err(|_| internal())?;
        }
        let payload = word.encode().map_err(|_| internal())?.into_bytes();
        let message = Outgoing { subject: place.subject(&self.namespace), headers, payload };
        match append::send(link, Send { messages: vec![message], batch: false }).await {
            Reply::Ack { stream, sequence, duplicate: false } if stream == self.stream => {
                Ok(Said::Stored(sequence))
            }
            // A duplicate proves nothing, and 10071 says that there is another word.
            Reply::Ack { duplicate: true, .. } | Reply::Error { code: 10071 | 10158 | 10164 } => {
                Ok(Said::Overtaken)
            }
            Reply::Ack { stream, .. } => Err(LetterError::Elsewhere { stream }),
            Reply::Error { code } => Err(self.failed(Failure::Code { code })),
            // Nobody takes it: a stream without a leader, or none at all.
            Reply::NoResponders => Err(match streams::info(link, &self.stream).await {
                Err(error) if error.code() == "stream-missing" => self.failed(Failure::StreamMissing),
                _ => self.failed(Failure::NoResponders),
            }),
            Reply::Unknown => Err(self.failed(Failure::Unreachable)),
            Reply::Permission { subject } => Err(self.failed(Failure::Permission { subject })),
            Reply::Authorization { reason } => Err(self.failed(Failure::Authorization { reason })),
        }
    }

    /// The message itself, as it stands on its stream now; of the keys' stream also in the archive. None where it is
    /// forgotten.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub async fn original(&self, link: &Link, place: &Place) -> Result<Option<StoredMessage>, LetterError> {
        let body = || jetstream::message_get(place.sequence);
        let found = self.ask(link, &place.stream, body()).await?;
        if found.is_some() || place.stream != KEYS_EVENTS {
            return Ok(found);
        }
        self.ask(link, KEYS_ARCHIVE, body()).await
    }

    async fn ask(
        &self,
        link: &Link,
        stream: &str,
        body: String,
    ) -> Result<Option<StoredMessage>, LetterError> {
        let failed = |failure: Failure| LetterError::Failed { stream: stream.to_owned(), failure };
        let subject = link.api(&format!("STREAM.MSG.GET.{stream}"));
        let answer = link.ask(&subject, None, body.into_bytes(), link.answer()).await;
        let answer = answer.map_err(|trouble| failed(trouble.into()))?;
        jetstream::message(&answer.payload).map_err(|error| failed(error.into()))
    }

    fn failed(&self, failure: Failure) -> LetterError {
        LetterError::Failed { stream: self.stream.clone(), failure }
    }
}

/// Why a dead letter is not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// The stream cannot be asked, or refuses.
    #[error("{}", text(stream, failure))]
    Failed {
        /// Which.
        stream: String,
        /// Why.
        failure: Failure,
    },
    /// Another stream takes these subjects.
    #[error("the dead letters are taken by the stream {stream}")]
    Elsewhere {
        /// Which.
        stream: String,
    },
    /// A name that no header can carry.
    #[error("internal: the dead letter cannot be sent")]
    Unsendable,
}

impl LetterError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed { failure, .. } => match failure {
                Failure::StreamMissing => "stream-missing",
                Failure::NoResponders => "no-responders",
                Failure::Unreachable => "no-answer",
                Failure::Permission { .. } => "permission",
                Failure::Authorization { .. } => "authorization",
                Failure::Code { .. } => "stream-refused",
            },
            Self::Elsewhere { .. } => "stream-settings",
            Self::Unsendable => "internal",
        }
    }
}

fn text(stream: &str, failure: &Failure) -> String {
    match failure {
        Failure::StreamMissing => format!("there is no stream {stream}"),
        Failure::NoResponders => format!("nobody answers for the stream {stream} (503)"),
        Failure::Unreachable => format!("no answer from the stream {stream}"),
        Failure::Permission { subject } => format!("not permitted: {subject}"),
        Failure::Authorization { reason } => format!("the server refuses the creds: {reason}"),
        Failure::Code { code } => format!("the stream {stream} refuses ({code})"),
    }
}
