//! The facts that a host supplies with a command: the only door for what comes from outside.

use crate::nkey::PublicKey;
use crate::subjects::Namespace;
use crate::text::is_plain;
use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

/// Which registry: the public key at its root and the first two tokens of its subjects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegistryId {
    /// The operator's identity key.
    pub operator: PublicKey,
    /// `organization.unit`.
    pub namespace: Namespace,
}

/// The facts supplied with one attempt at a command. Plain data, stored word for word with the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The host's clock.
    pub now: Timestamp,
    /// UUID v7: one promise; the same id never means two things.
    pub command_id: Uuid,
    /// 1 for the first attempt; a command decided anew after a conflict counts on.
    pub attempt: u32,
    /// UUID of the conversation; the command's own id where it begins one.
    pub correlation_id: Uuid,
    /// UUID of the command or event that caused this one; the command's own id where nothing did.
    pub causation_id: Uuid,
    /// Who wants it.
    pub actor: Actor,
    /// The key that vouches for the whole command.
    pub authority: PublicKey,
    /// Public halves of the keys made for it, in the order of [`Command::keys`](crate::command::Command::keys).
    pub keys: Vec<PublicKey>,
}

impl Context {
    /// The id of one event of the command: UUID v7 of `now`, its random bits derived from the command, so that equal
    /// inputs give equal ids in every host.
    #[must_use]
    pub fn event_id(&self, index: u32) -> Uuid {
        event_id(self.now, self.command_id, self.attempt, index)
    }
}

/// See [`Context::event_id`]. Admission checks it against what stands in an event.
#[must_use]
pub fn event_id(now: Timestamp, command_id: Uuid, attempt: u32, index: u32) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(b"cim-keys/event");
    hasher.update(command_id.as_bytes());
    hasher.update(attempt.to_be_bytes());
    hasher.update(index.to_be_bytes());
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    Builder::from_unix_timestamp_millis(now.millis().unsigned_abs(), &random).into_uuid()
}

/// Who wants a command done: a person, a service, a host. 1 to 128 bytes, nothing invisible, no seed. Public, for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor(String);

impl Actor {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An actor is empty, longer than 128 bytes, a seed, or has something that is not seen. Never carries any of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an actor is 1 to 128 bytes of text without white space at its ends, without control and other unseen characters, and no seed"
)]
pub struct ActorError;

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        if text.is_empty() || text.len() > 128 || !is_plain(text) {
            return Err(ActorError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
