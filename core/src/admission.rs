//! From messages on the stream to facts: a command is admitted whole or not at all. No clock, no local knowledge.

use crate::context::RegistryId;
use crate::digest::Digest;
use crate::draft::{COMMAND_BYTES, authority_message, draft_hash};
use crate::envelope::{self, OpenError, Opened, SCHEMA_VERSION};
use crate::event::{Event, Fact};
use crate::headers::Headers;
use crate::nkey::PublicKey;
use crate::order;
use crate::registry::{EntityId, Facts, Lookup, Missing, Recorded, voided};
use crate::rules::{self, Fault, Reason, Violation};
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Headers that a server adds to what it hands out. In a stored message they are somebody's attempt to deceive readers.
pub const SERVER_HEADERS: [&str; 5] =
    ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Last-Sequence"];

/// A message as it is stored on the stream: headers that the server adds on reading are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Stream sequence.
    pub sequence: u64,
    /// The subject it was published on.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    #[serde(with = "bytes")]
    pub payload: Vec<u8>,
    /// When the server stored it, as it writes it; none where it is not told. A message that is published again, with the
    /// same bytes and at the same place, has another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl StoredMessage {
    /// What is compared to know the message at `head` again: subject and payload.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_all([self.subject.as_bytes(), self.payload.as_slice()])
    }

    /// What is compared to know whether it is judged alike: the headers too, whatever their order. Those of transport are
    /// left out, for each attempt has its own, and a mirror strips some.
    #[must_use]
    pub fn content(&self) -> Digest {
        let mut headers: Vec<(String, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(name, _)| !TRANSPORT.iter().any(|transport| name.starts_with(transport)))
            .collect();
        order::sort_by_text(&mut headers, |(name, _)| name.clone());
        let headers = headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        Digest::of_all([self.subject.as_bytes(), self.payload.as_slice()].into_iter().chain(headers))
    }
}

/// How names of headers begin that an attempt adds.
const TRANSPORT: [&str; 3] = ["nats-expected-", "nats-batch-", "content-type"];

/// Payloads of foreign messages may be anything.
mod bytes {
    use alloc::string::String;
    use alloc::vec::Vec;
    use base64ct::{Base64, Encoding};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Base64::decode_vec(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Messages that change nothing, and why. Recorded and shown; reading and appending go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Their stream sequences.
    pub sequences: Vec<u64>,
    /// Why.
    pub reason: Reason,
}

/// What one more message makes of those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// All events of one command, contiguous.
    Command(Complete),
    /// Messages that are no whole command.
    Anomaly(Anomaly),
}

/// All events of one command as they were read, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// Sequence of the first.
    pub first: u64,
    /// Sequence of the last.
    pub last: u64,
    opened: Vec<Opened>,
}

/// Puts messages together into commands. Its state, the unfinished command at `head`, is part of what a journal keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembler {
    unfinished: Vec<StoredMessage>,
}

impl Assembler {
    /// Takes the next message. What it yields stands in the order of the stream.
    #[must_use]
    pub fn push(&mut self, message: StoredMessage) -> Vec<Group> {
        self.push_as(SCHEMA_VERSION, message)
    }

    /// [`push`](Self::push), as a version reads that knows the schema up to `known`. What is above the level in force is an
    /// anomaly for every version alike: this one cannot read it, or judges it when the command is whole; either way a
    /// command that has it changes nothing.
    pub(crate) fn push_as(&mut self, known: u32, message: StoredMessage) -> Vec<Group> {
        let mut groups = Vec::new();
        let opened = match open(known, &message) {
            Ok(opened) => opened,
            Err(error) => {
                groups.extend(self.interrupt());
                groups.push(anomaly(alloc::vec![message.sequence], error.code(), &error.to_string()));
                return groups;
            }
        };
        let goes_on = self.continues(known, &opened) && self.has_room(&message);
        if !self.unfinished.is_empty() && !goes_on {
            groups.extend(self.interrupt());
        }
        let command = &opened.event.command;
        let place = u32::try_from(self.unfinished.len()).unwrap_or(u32::MAX);
        // Nothing was verified yet: a count that is never reached, or is out of reach, must not be waited for.
        let reachable = (1..=rules::COMMAND_LIMIT).contains(&command.count) && place < command.count;
        if command.index != place || !reachable {
            let violation = Violation::Incomplete;
            groups.push(anomaly(alloc::vec![message.sequence], violation.code(), &violation.to_string()));
            return groups;
        }
        let last = opened.event.is_last();
        if last && self.unfinished.is_empty() {
            let (first, last) = (message.sequence, message.sequence);
            groups.push(Group::Command(Complete { first, last, opened: alloc::vec![opened] }));
            return groups;
        }
        self.unfinished.push(message);
        if last {
            let messages = core::mem::take(&mut self.unfinished);
            let sequences: Vec<u64> = messages.iter().map(|m| m.sequence).collect();
            // Each was opened when it came; opening again keeps the state plain data.
            let opened: Result<Vec<Opened>, OpenError> = messages.iter().map(|m| open(known, m)).collect();
            match (opened, sequences.first(), sequences.last()) {
                (Ok(opened), Some(first), Some(last)) => {
                    groups.push(Group::Command(Complete { first: *first, last: *last, opened }));
                }
                _ => groups.push(anomaly(sequences, "incomplete", "the command could not be put together")),
            }
        }
        groups
    }

    /// Whether a command is unfinished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// How many messages there are of an unfinished command.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// For planted mistakes: what is there of an unfinished command.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn half(&self) -> Option<Complete> {
        let opened: Result<Vec<Opened>, OpenError> =
            self.unfinished.iter().map(|m| open(SCHEMA_VERSION, m)).collect();
        let (first, last) = (self.unfinished.first()?.sequence, self.unfinished.last()?.sequence);
        Some(Complete { first, last, opened: opened.ok()? })
    }

    fn continues(&self, known: u32, next: &Opened) -> bool {
        let Some(Ok(last)) = self.unfinished.last().map(|m| open(known, m)) else { return false };
        let (a, b) = (&last.event.command, &next.event.command);
        a.id == b.id
            && a.attempt == b.attempt
            && a.hash == b.hash
            && a.count == b.count
            && b.index == a.index + 1
    }

    /// Whether the command stays below its limit with this message.
    fn has_room(&self, next: &StoredMessage) -> bool {
        let bytes = |m: &StoredMessage| m.subject.len() + m.headers.wire_len() + m.payload.len();
        self.unfinished.iter().chain([next]).map(bytes).sum::<usize>() <= COMMAND_BYTES
    }

    /// Something else came: what is unfinished stays so.
    pub(crate) fn interrupt(&mut self) -> Option<Group> {
        let messages = core::mem::take(&mut self.unfinished);
        if messages.is_empty() {
            return None;
        }
        let sequences = messages.iter().map(|message| message.sequence).collect();
        Some(anomaly(sequences, "incomplete", "only a part of the command is on the stream"))
    }
}

fn anomaly(sequences: Vec<u64>, code: &str, text: &str) -> Group {
    Group::Anomaly(Anomaly { sequences, reason: Reason { code: code.to_string(), text: text.to_string() } })
}

fn open(known: u32, message: &StoredMessage) -> Result<Opened, OpenError> {
    for name in SERVER_HEADERS {
        if message.headers.count(name) > 0 {
            return Err(OpenError::HeaderDisagrees { name: name.to_string() });
        }
    }
    envelope::decode_as(known, &message.subject, &message.headers, &message.payload)
}

/// An admitted command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What is kept of it.
    pub recorded: Recorded,
    /// Its events.
    pub events: Vec<Event>,
    /// The entities it changed.
    pub changed: BTreeSet<EntityId>,
    /// What is kept of the command ids it voided.
    pub voided: Vec<Recorded>,
}

impl Admitted {
    /// The schema level that it raised the registry to, where it did. Who does not know that level reads no further.
    #[must_use]
    pub fn raised(&self) -> Option<u32> {
        match self.events.first()?.fact {
            Fact::SchemaRaised { level } => Some(level),
            _ => None,
        }
    }
}

impl Complete {
    /// What admitting it asks of the registry.
    #[must_use]
    pub fn scope(&self) -> Vec<Lookup> {
        self.opened.iter().flat_map(|opened| rules::scope_of(&opened.event)).collect()
    }

    /// The command's id.
    #[must_use]
    pub fn command_id(&self) -> Option<uuid::Uuid> {
        self.opened.first().map(|opened| opened.event.command.id)
    }

    /// The registry that the command founds, where it founds one.
    #[must_use]
    pub fn founds(&self) -> Option<PublicKey> {
        let first = self.opened.first().filter(|opened| opened.event.fact == Fact::OperatorCreated)?;
        Some(first.event.registry)
    }

    /// Admits the command and folds it into `facts`, or says why not and leaves them alone.
    ///
    /// # Errors
    /// A fact that was not loaded.
    pub fn admit(self, facts: &mut Facts) -> Result<Result<Admitted, Anomaly>, Missing> {
        let sequences: Vec<u64> = (self.first..=self.last).collect();
        let mut part = facts.only(&self.scope())?;
        match self.check(&mut part) {
            Ok(admitted) => {
                part.record(admitted.recorded.clone());
                admitted.voided.iter().for_each(|voided| part.record(voided.clone()));
                facts.overwrite(part);
                Ok(Ok(admitted))
            }
            Err(AdmitError::Missing(missing)) => Err(missing),
            Err(error) => Ok(Err(Anomaly {
                sequences,
                reason: Reason { code: error.code().into(), text: error.to_string() },
            })),
        }
    }

    /// For planted mistakes: whole commands are admitted whatever must hold before them, or parts as well.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn admit_carelessly(
        self,
        facts: &mut Facts,
        whole: bool,
    ) -> Result<Result<Admitted, Anomaly>, Missing> {
        let Some(command) = self.opened.last().map(|last| last.event.command.clone()) else {
            return self.admit(facts);
        };
        let known = facts.command(command.id)?.is_some();
        let is_part = self.opened.len() as u64 != u64::from(command.count);
        let genuine = self.genuine(facts.registry());
        if known || is_part == whole || whole && genuine.is_err() {
            return self.admit(facts);
        }
        let events = self.events();
        let mut changed = BTreeSet::new();
        for event in &events {
            changed.extend(facts.apply(event)?);
        }
        let recorded = Recorded {
            command_id: command.id,
            attempt: command.attempt,
            command_hash: command.hash,
            draft_hash: genuine.unwrap_or(command.hash),
            authority: command.authority,
            first: self.first,
            last: self.last,
            voided: Vec::new(),
        };
        facts.record(recorded.clone());
        let voided = voided(&events, &recorded);
        Ok(Ok(Admitted { recorded, events, changed, voided }))
    }

    /// Messages of ours that are not on the stream yet, as every reader would find them there.
    pub(crate) fn unsent(opened: Vec<Opened>) -> Self {
        Self { first: 0, last: 0, opened }
    }

    /// Its events.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.opened.iter().map(|opened| opened.event.clone()).collect()
    }

    /// Whether subjects and signatures are good. Returns the digest of the draft that the authority signed.
    pub(crate) fn genuine(&self, registry: &RegistryId) -> Result<Digest, AdmitError> {
        let hash = draft_hash(self.opened.iter().map(|o| (o.subject.as_str(), o.draft.as_slice())));
        for opened in &self.opened {
            if opened.subject.namespace() != registry.namespace {
                return Err(AdmitError::Namespace { found: opened.subject.as_str().to_string() });
            }
            if let Some(token) = &opened.event.token {
                let issuer = token.jwt.claims().issuer;
                let signature = token.signature.ok_or(AdmitError::Signature { public_key: issuer })?;
                issuer
                    .verify(token.jwt.as_str().as_bytes(), &signature)
                    .map_err(|_| AdmitError::Signature { public_key: issuer })?;
            }
        }
        let last = self.opened.last().ok_or(Violation::Incomplete)?;
        let command = &last.event.command;
        let unsigned = AdmitError::Signature { public_key: command.authority };
        let signature = last.authority_signature.ok_or_else(|| unsigned.clone())?;
        command.authority.verify(&authority_message(&hash), &signature).map_err(|_| unsigned)?;
        Ok(hash)
    }

    fn check(self, facts: &mut Facts) -> Result<Admitted, AdmitError> {
        let hash = self.genuine(facts.registry())?;
        let command = match self.opened.last() {
            Some(last) => last.event.command.clone(),
            None => return Err(Violation::Incomplete.into()),
        };
        let events: Vec<Event> = self.opened.into_iter().map(|opened| opened.event).collect();
        let changed = rules::judge(facts, &events)?;
        let recorded = Recorded {
            command_id: command.id,
            attempt: command.attempt,
            command_hash: command.hash,
            draft_hash: hash,
            authority: command.authority,
            first: self.first,
            last: self.last,
            voided: Vec::new(),
        };
        let voided = voided(&events, &recorded);
        Ok(Admitted { recorded, events, changed, voided })
    }
}

/// Why a whole command is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// A rule is broken.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The host loaded too little.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Published under another registry's subjects.
    #[error("subject {found} is of another namespace")]
    Namespace {
        /// The subject.
        found: String,
    },
    /// A signature is missing or does not hold.
    #[error("no valid signature by {public_key}")]
    Signature {
        /// Whose.
        public_key: PublicKey,
    },
}

impl From<Fault> for AdmitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Violation(violation) => Self::Violation(violation),
            Fault::Missing(missing) => Self::Missing(missing),
        }
    }
}

impl AdmitError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.code(),
            Self::Missing(_) => "fact-missing",
            Self::Namespace { .. } => "namespace",
            Self::Signature { .. } => "signature",
        }
    }
}
