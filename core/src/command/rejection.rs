//! Why a command is not decided.

use crate::draft::SizeError;
use crate::jwt::ClaimsError;
use crate::nkey::{Kind, PublicKey};
use crate::registry::Missing;
use crate::rules::{Fault, Violation};
use alloc::string::String;
use alloc::vec::Vec;

/// Why a command is not decided. Nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A rule is broken.
    #[error(transparent)]
    Violation(Violation),
    /// The host loaded too little.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The context names other keys than the command asks for.
    #[error("the command needs keys of the kinds {expected:?}, the context names {found:?}")]
    Keys {
        /// Needed.
        expected: Vec<Kind>,
        /// Named.
        found: Vec<Kind>,
    },
    /// The claims of a token would not be valid.
    #[error("{0}")]
    Claims(#[from] ClaimsError),
    /// A scoped user's permissions come from its role.
    #[error("user {user} has the role {role:?}: its permissions are those of the scoped signing key {key}")]
    ScopedUser {
        /// The user.
        user: PublicKey,
        /// The role.
        role: String,
        /// The scoped key.
        key: PublicKey,
    },
    /// A scoped authority gives its role's permissions and no others.
    #[error(
        "the signing key {key} gives its users the permissions of the role {role:?}: leave permissions out, or sign with a plain signing key"
    )]
    ScopedAuthority {
        /// The scoped key.
        key: PublicKey,
        /// The role.
        role: String,
    },
    /// Permissions are missing where the authority is a plain signing key.
    #[error("the signing key {key} has no role: say what the user may do")]
    NoRights {
        /// The plain key.
        key: PublicKey,
    },
    /// An operator's identity key cannot be revoked.
    #[error(
        "{key} is the operator's identity: it cannot be revoked, for it is the root of every token. Found a new registry"
    )]
    OperatorIdentity {
        /// The key.
        key: PublicKey,
    },
    /// An account's identity key cannot be revoked.
    #[error(
        "{key} is an account's identity: it cannot be revoked, for servers know the account by it. Revoke its users or signing keys"
    )]
    AccountIdentity {
        /// The key.
        key: PublicKey,
    },
    /// The key belongs to somebody else.
    #[error("{key} belongs to {owner}")]
    Owner {
        /// The key.
        key: PublicKey,
        /// To whom it belongs.
        owner: String,
    },
    /// Only an account's signing key can have a role.
    #[error("a role belongs to a signing key of an account")]
    RoleOwner,
    /// A user is created to expire in the past.
    #[error("would have expired at {expires}, before now ({now}): name a time to come")]
    Expired {
        /// Unix seconds.
        expires: i64,
        /// Unix seconds.
        now: i64,
    },
    /// The registry was raised to a schema that is not known here: it can be read up to there, and nothing decided.
    #[error(
        "this registry asks for schema {level}, this version knows {known}: upgrade cim-keys; until then it is read-only here"
    )]
    NewerSchema {
        /// The level in force.
        level: u32,
        /// The newest known.
        known: u32,
    },
    /// The schema level would be raised to one that is not known here.
    #[error(
        "this version knows the schema up to {known}: upgrade cim-keys before you raise the level to {level}"
    )]
    UnknownSchema {
        /// The level that is wanted.
        level: u32,
        /// The newest known.
        known: u32,
    },
    /// A message or the command would be too large.
    #[error("too large for the stream: {0}")]
    Size(#[from] SizeError),
}

impl From<Violation> for Rejection {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Claims(error) => Self::Claims(error),
            other => Self::Violation(other),
        }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Violation(violation) => violation.into(),
            Fault::Missing(missing) => Self::Missing(missing),
        }
    }
}

impl Rejection {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.code(),
            Self::Missing(_) => "fact-missing",
            Self::Keys { .. } => "keys",
            Self::Claims(_) => "claims",
            Self::ScopedUser { .. } => "scoped-user",
            Self::ScopedAuthority { .. } => "scoped-authority",
            Self::NoRights { .. } => "no-rights",
            Self::OperatorIdentity { .. } => "operator-identity",
            Self::AccountIdentity { .. } => "account-identity",
            Self::Owner { .. } => "owner",
            Self::RoleOwner => "role-owner",
            Self::Expired { .. } => "expired",
            Self::NewerSchema { .. } => "newer-schema",
            Self::UnknownSchema { .. } => "unknown-schema",
            Self::Size(_) => "size",
        }
    }
}
