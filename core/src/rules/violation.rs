//! What an event or command violates.

use crate::jwt::{ClaimsError, TokenId};
use crate::nkey::PublicKey;
use crate::registry::{EntityId, Missing};
use alloc::string::String;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a command violates, before it is made or after it was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not all events of one command in their order, or more than 1,000.
    #[error("the events are not one whole command")]
    Incomplete,
    /// Another registry's.
    #[error("belongs to the registry {found}")]
    ForeignRegistry {
        /// Its root.
        found: PublicKey,
    },
    /// The event id does not follow from the command.
    #[error("event id {found} does not follow from its command")]
    EventId {
        /// The id.
        found: Uuid,
    },
    /// A command of this id was admitted before.
    #[error("command {id} was admitted before")]
    CommandKnown {
        /// The id.
        id: Uuid,
    },
    /// The command's id was voided.
    #[error("command {id} was voided: it was given up for good, make it anew under another id")]
    Voided {
        /// The id.
        id: Uuid,
    },
    /// What was admitted cannot be given up.
    #[error("command {id} was admitted: it cannot be voided any more")]
    Admitted {
        /// The id.
        id: Uuid,
    },
    /// Nothing can happen before the registry is founded.
    #[error("the registry is not founded yet")]
    NotFounded,
    /// The registry is founded once.
    #[error("the registry is founded already")]
    AlreadyFounded,
    /// The authority may not vouch for this.
    #[error("{key} may not vouch for {}.{}", operation.0, operation.1)]
    Authority {
        /// The authority.
        key: PublicKey,
        /// Entity and operation.
        operation: (&'static str, &'static str),
    },
    /// There is no such entity.
    #[error("{id} does not exist")]
    Unknown {
        /// Which.
        id: EntityId,
    },
    /// The key is an entity's already.
    #[error("{id} exists already")]
    KeyTaken {
        /// Whose.
        id: EntityId,
    },
    /// Nothing is issued to a key that was revoked.
    #[error("{key} was revoked: make a new key")]
    KeyRevoked {
        /// The key.
        key: PublicKey,
    },
    /// It was revoked before.
    #[error("{id} is revoked since {at}")]
    AlreadyRevoked {
        /// Which.
        id: EntityId,
        /// Unix seconds.
        at: i64,
    },
    /// Another live entity has the name.
    #[error("the name {name:?} is taken by {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// By whom.
        holder: EntityId,
    },
    /// Accounts, users and operators have names.
    #[error("a name is needed")]
    NoName,
    /// An empty, long or unprintable label.
    #[error(
        "a label is 1 to 128 bytes of text without white space at its ends, without control and other unseen characters, and no seed"
    )]
    Label,
    /// A signing key must be of its owner's kind.
    #[error("{key} cannot sign for {owner}: an operator's signing keys begin with O, an account's with A")]
    OwnerKind {
        /// The owner.
        owner: PublicKey,
        /// The key.
        key: PublicKey,
    },
    /// The event lacks its token, or has one where none belongs.
    #[error("the event's token is missing, or one is there where none belongs")]
    NoToken,
    /// A token's claims are not valid.
    #[error("token: {0}")]
    Claims(ClaimsError),
    /// A claim contradicts the event.
    #[error("the token's {member} does not fit the event")]
    Token {
        /// The claim.
        member: &'static str,
    },
    /// The replaced token is not the newest.
    #[error("replaces a token that is not the newest{}", if newest.is_some() { "" } else { " (there is none)" })]
    NotNewest {
        /// The newest token.
        newest: Option<TokenId>,
    },
    /// The token's issuer is no signing key that the newest token of its owner lists.
    #[error("{key} is no signing key of {owner}")]
    NotListed {
        /// The issuer.
        key: PublicKey,
        /// Whose signing key it would have to be.
        owner: PublicKey,
    },
    /// A scoped key may only issue users of its role; permissions come from the scope.
    #[error(
        "outside the scope of {key} (role {role:?}): its permissions come from the account's signing key"
    )]
    Scope {
        /// The scoped key.
        key: PublicKey,
        /// Its role.
        role: String,
    },
    /// A token grants or ends something that no event of the command says.
    #[error("the tokens and events of the command disagree about {member}")]
    Unexplained {
        /// The claim.
        member: &'static str,
    },
    /// A user token from the future would survive revocation.
    #[error("the token would be issued {ahead} s ahead of the clock {now}: set the clock right, or wait")]
    ClockAhead {
        /// Seconds.
        ahead: i64,
        /// Unix seconds.
        now: i64,
    },
    /// An event is written in a schema above the level in force.
    #[error("written in schema {found}, and the level in force is {level}")]
    Schema {
        /// The event's.
        found: u32,
        /// In force before it.
        level: u32,
    },
    /// The schema level only rises.
    #[error("the schema level is {current}: it can be raised, but not to {level}")]
    NotHigher {
        /// The level that is wanted.
        level: u32,
        /// The level in force.
        current: u32,
    },
    /// A raised schema level is a command of its own.
    #[error("the schema level is raised by a command of its own")]
    NotAlone,
}

impl Violation {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::ForeignRegistry { .. } => "foreign-registry",
            Self::EventId { .. } => "event-id",
            Self::CommandKnown { .. } => "command-known",
            Self::Voided { .. } => "voided",
            Self::Admitted { .. } => "already-admitted",
            Self::NotFounded => "not-founded",
            Self::AlreadyFounded => "already-founded",
            Self::Authority { .. } => "authority",
            Self::Unknown { .. } => "unknown",
            Self::KeyTaken { .. } => "key-taken",
            Self::KeyRevoked { .. } => "key-revoked",
            Self::AlreadyRevoked { .. } => "already-revoked",
            Self::NameTaken { .. } => "name-taken",
            Self::NoName => "no-name",
            Self::Label => "label",
            Self::OwnerKind { .. } => "owner-kind",
            Self::NoToken => "no-token",
            Self::Claims(_) => "claims",
            Self::Token { .. } => "token",
            Self::NotNewest { .. } => "not-newest",
            Self::NotListed { .. } => "not-listed",
            Self::Scope { .. } => "scope",
            Self::Unexplained { .. } => "unexplained",
            Self::ClockAhead { .. } => "clock-ahead",
            Self::Schema { .. } => "event-schema",
            Self::NotHigher { .. } => "schema-level",
            Self::NotAlone => "not-alone",
        }
    }
}

/// Why a command could not be judged good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A rule is broken.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The host loaded too little.
    #[error(transparent)]
    Missing(#[from] Missing),
}

/// A reason in words with its code, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: String,
    /// In words.
    pub text: String,
}
