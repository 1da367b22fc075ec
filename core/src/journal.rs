//! What a host keeps: what is confirmed on the stream up to `head`, and which commands are pending or held.

use crate::admission::Assembler;
use crate::command::Command;
use crate::context::Context;
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::event::FOUNDING_SCHEMA;
use crate::nkey::PublicKey;
use crate::rules::Reason;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which stream: a stream of the same name that was made anew is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIdentity {
    /// Its name.
    pub name: String,
    /// Creation time as the server writes it.
    pub created: String,
}

impl StreamIdentity {
    /// Whether it was made before another one.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        moment(&self.created) < moment(&other.created)
    }
}

/// Sorts RFC 3339 texts in UTC whose decimals may be cut: `…05Z` is before `…05.5Z`.
fn moment(text: &str) -> (&str, String) {
    let text = text.trim_end_matches('Z');
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    (seconds, format!("{decimals:0<9}"))
}

/// How far a journal has come on its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The stream it knows; none before it met one.
    pub stream: Option<StreamIdentity>,
    /// The last sequence read; 0 before the first.
    pub head: u64,
    /// Digest of the message at `head`.
    pub head_digest: Option<Digest>,
    /// The newest message whose time is known; none before there was one.
    #[serde(default)]
    pub mark: Option<Mark>,
    /// The unfinished command at `head`.
    pub assembler: Assembler,
    /// Whether pending commands must be checked again, and the overlay folded anew: something foreign was admitted.
    pub recheck_due: bool,
    /// Place in the journal up to which that was done; 0 where it has not begun.
    #[serde(default)]
    pub rechecked: u64,
    /// The stream's archive, as it was met first; none before.
    #[serde(default)]
    pub archive: Option<StreamIdentity>,
    /// Whether the server had no archive when it was asked last: what the stream forgets is lost then.
    #[serde(default)]
    pub archive_missing: bool,
    /// The schema level in force at `head`; 0, and not written, where it was never raised. See [`level`](Self::level).
    #[serde(default, skip_serializing_if = "never_raised")]
    pub schema: u32,
}

impl Progress {
    /// The schema level in force at `head`.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.schema.max(FOUNDING_SCHEMA)
    }
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn never_raised(schema: &u32) -> bool {
    *schema == 0
}

/// What a stream is known by again behind a new connection: one that lost what it had acknowledged, and got it again, has
/// other times there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where the message stands, at `head` or before it.
    pub sequence: u64,
    /// When the server stored it.
    pub time: String,
    /// Digest of that message, chained with the ids of those behind it up to `head`.
    pub chain: Digest,
}

/// A command that is not on the stream yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Place in the journal, ascending.
    pub position: u64,
    /// What was wanted.
    pub command: Command,
    /// The facts supplied with it.
    pub context: Context,
    /// Digest of the registry facts it was decided on.
    pub facts_hash: Digest,
    /// Digest of its draft.
    pub draft_hash: Digest,
    /// Its messages.
    pub envelopes: Vec<Envelope>,
    /// Digest of the messages as they were completed here, every signature verified. None for those that came from
    /// elsewhere: their signatures are verified before they are sent.
    #[serde(default)]
    pub messages_hash: Option<Digest>,
}

impl Pending {
    /// What is sent of it.
    #[must_use]
    pub fn ready(&self) -> Ready {
        Ready {
            position: self.position,
            command_id: self.context.command_id,
            attempt: self.context.attempt,
            command_hash: self.command.hash(),
            draft_hash: self.draft_hash,
            authority: self.context.authority,
            envelopes: self.envelopes.clone(),
            messages_hash: self.messages_hash,
        }
    }

    /// What the journal knows of it where it stands so.
    #[must_use]
    pub fn own(&self, state: State) -> Own {
        Own {
            command_id: self.context.command_id,
            position: self.position,
            state,
            draft_hash: self.draft_hash,
            command_hash: self.command.hash(),
            authority: self.context.authority,
        }
    }
}

/// A command whose messages can be sent: decided on exactly the state that the commands before it leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Place in the journal, ascending.
    pub position: u64,
    /// Its id.
    pub command_id: Uuid,
    /// Which attempt at it.
    pub attempt: u32,
    /// Digest of the command.
    pub command_hash: Digest,
    /// Digest of its draft.
    pub draft_hash: Digest,
    /// Who vouches for it.
    pub authority: PublicKey,
    /// Its messages.
    pub envelopes: Vec<Envelope>,
    /// Digest of the messages as they were completed here; see [`Pending::messages_hash`].
    #[serde(default)]
    pub messages_hash: Option<Digest>,
}

/// Where one of our commands stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be appended.
    Pending,
    /// Cannot be appended as it was decided; a person decides.
    Held,
    /// On the stream.
    Confirmed,
    /// A revocation that another command had brought into force before.
    Settled,
    /// Held here, and given up here. Where anybody else may have it, its id was voided for all, unless it came in a bundle:
    /// then whoever minted it may still publish it.
    Dropped,
}

/// What the journal knows of one of our commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Its id.
    pub command_id: Uuid,
    /// Place in the journal.
    pub position: u64,
    /// Where it stands.
    pub state: State,
    /// Digest of its newest draft.
    pub draft_hash: Digest,
    /// Digest of the command.
    pub command_hash: Digest,
    /// Who vouches for it.
    pub authority: PublicKey,
}

/// A command that is to be held, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub command_id: Uuid,
    /// Why.
    pub reason: Reason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_cut_decimals_are_in_order() {
        let made = |created: &str| StreamIdentity { name: "A".into(), created: created.into() };
        let times = [
            "2026-11-23T18:00:05Z",
            "2026-11-23T18:00:05.09Z",
            "2026-11-23T18:00:05.1Z",
            "2026-11-23T18:00:06Z",
        ];
        for (place, older) in times.iter().enumerate() {
            for (other, newer) in times.iter().enumerate() {
                assert_eq!(made(older).is_older_than(&made(newer)), place < other, "{older} {newer}");
            }
        }
    }
}
