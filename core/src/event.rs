//! Past-tense facts about one entity each.

use crate::context::Actor;
use crate::digest::Digest;
use crate::jwt::{Claims, TokenId, Unsigned};
use crate::nkey::{PublicKey, Signature};
use crate::time::Timestamp;
use alloc::string::String;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The schema level of every registry from its founding on, and the version that the form of every event began with.
pub const FOUNDING_SCHEMA: u32 = 1;

/// One event: who it is about, what happened, and the command it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Version of the schema that its bytes are written in: the oldest one that says all of it, so that a level that is
    /// raised leaves what is pending as it was decided. Never above the level in force where it stands.
    pub schema: u32,
    /// UUID v7, derived from the command (see [`event_id`](crate::context::event_id)).
    pub id: Uuid,
    /// The command's time.
    pub time: Timestamp,
    /// UUID of the conversation.
    pub correlation_id: Uuid,
    /// UUID of what caused the command.
    pub causation_id: Uuid,
    /// Root key of the registry.
    pub registry: PublicKey,
    /// Public key of the entity. Of a voided command: whose attempts at it are void: the operator for all of them, or the
    /// account of the signing key that vouches.
    pub entity: PublicKey,
    /// The command and the event's place in it.
    pub command: CommandRef,
    /// What happened.
    pub fact: Fact,
    /// The token that the event brings, where it brings one.
    pub token: Option<IssuedToken>,
}

impl Event {
    /// Claims of the token that the event brings.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.token.as_ref().map(|token| token.jwt.claims())
    }

    /// Whether it is the command's last event, the one that carries the authority's signature.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.command.index.saturating_add(1) == self.command.count
    }

    /// How many signatures the payload's `signatures` holds.
    #[must_use]
    pub fn signature_count(&self) -> usize {
        usize::from(self.token.is_some()) + usize::from(self.is_last())
    }
}

/// What every event says of its command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandRef {
    /// The command's id.
    pub id: Uuid,
    /// Which attempt at it, from 1.
    pub attempt: u32,
    /// Digest of the command.
    pub hash: Digest,
    /// Who wanted it.
    pub actor: Actor,
    /// The key that vouches for the whole command.
    pub authority: PublicKey,
    /// Place of this event, from 0.
    pub index: u32,
    /// Number of the command's events.
    pub count: u32,
}

/// A token as an event carries it: `header.payload`, beside it the signature once there is one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedToken {
    /// `header.payload`.
    pub jwt: Unsigned,
    /// The token it replaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<TokenId>,
    /// The issuer's signature; missing in a draft.
    #[serde(skip)]
    pub signature: Option<Signature>,
}

/// What happened. Nothing is said here that the token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A registry was founded. Token: the operator's.
    OperatorCreated,
    /// The operator's token was issued anew.
    OperatorUpdated,
    /// Token: the account's.
    AccountCreated,
    /// The account's token was issued anew.
    AccountUpdated,
    /// Token: the user's.
    UserCreated {
        /// Whether creds were handed out with it.
        credentials: bool,
    },
    /// The user's token was issued anew, with other permissions.
    UserUpdated,
    /// The user is refused from now on. No token: the account's says so.
    UserRevoked {
        /// The user's account.
        account: PublicKey,
        /// Unix seconds: tokens issued up to here are dead.
        revoked_at: i64,
    },
    /// A signing, curve or free key became known.
    KeyGenerated {
        /// The operator or account it signs for; none for a free key.
        owner: Option<PublicKey>,
        /// What a person calls it.
        label: Option<String>,
    },
    /// A key was ended.
    KeyRevoked {
        /// Unix seconds.
        revoked_at: i64,
    },
    /// Creds were handed out again. Token: the user's, issued anew.
    CredentialsIssued,
    /// A command that was given up is never admitted any more, whoever still has it. Vouched for by the operator, every
    /// attempt at it is void; by a signing key of an account, those that this very key vouches for.
    CommandVoided {
        /// The id that is used up.
        command_id: Uuid,
    },
    /// The schema level of the registry was raised: from here on events may be written in newer versions, and who does not
    /// know them stops reading here, as read-only, until it is upgraded. No token, about the operator, vouched for by a key
    /// of the operator, and the only event of its command.
    ///
    /// Its form never changes, for every version there ever was has to read it: whatever the level, its `dataschema` is
    /// `urn:cim-keys:schema:keys.schema.raised:1`.
    SchemaRaised {
        /// The level in force from here on, higher than the one before.
        level: u32,
    },
}

impl Fact {
    /// Whether the event brings a token.
    #[must_use]
    pub fn brings_token(&self) -> bool {
        match self {
            Self::OperatorCreated
            | Self::OperatorUpdated
            | Self::AccountCreated
            | Self::AccountUpdated
            | Self::UserCreated { .. }
            | Self::UserUpdated
            | Self::CredentialsIssued => true,
            Self::UserRevoked { .. }
            | Self::KeyGenerated { .. }
            | Self::KeyRevoked { .. }
            | Self::CommandVoided { .. }
            | Self::SchemaRaised { .. } => false,
        }
    }

    /// `(entity, operation)` as they stand in the subject.
    #[must_use]
    pub fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::OperatorCreated => ("operator", "created"),
            Self::OperatorUpdated => ("operator", "updated"),
            Self::AccountCreated => ("account", "created"),
            Self::AccountUpdated => ("account", "updated"),
            Self::UserCreated { .. } => ("user", "created"),
            Self::UserUpdated => ("user", "updated"),
            Self::UserRevoked { .. } => ("user", "revoked"),
            Self::KeyGenerated { .. } => ("key", "generated"),
            Self::KeyRevoked { .. } => ("key", "revoked"),
            Self::CredentialsIssued => ("credentials", "issued"),
            Self::CommandVoided { .. } => ("command", "voided"),
            Self::SchemaRaised { .. } => ("schema", "raised"),
        }
    }
}
