//! Why there is no answer, or no connection; and what that is to the sync machine.

use cim_keys_core::sync::{Failure, Reply};

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// None in time.
    Timeout,
    /// The connection is gone.
    Closed,
    /// 503.
    NoResponders,
    /// Larger than the server takes.
    TooLarge,
    /// A subject is not permitted.
    Permission {
        /// The subject.
        subject: String,
    },
    /// The server refuses the creds.
    Authorization {
        /// In its words.
        reason: String,
    },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Timeout | Trouble::Closed | Trouble::TooLarge => Self::Unreachable,
            Trouble::NoResponders => Self::NoResponders,
            Trouble::Permission { subject } => Self::Permission { subject },
            Trouble::Authorization { reason } => Self::Authorization { reason },
        }
    }
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Timeout | Trouble::Closed => Self::Unknown,
            // The number that a stream gives for it: nothing was sent.
            Trouble::TooLarge => Self::Error { code: 10054 },
            Trouble::NoResponders => Self::NoResponders,
            Trouble::Permission { subject } => Self::Permission { subject },
            Trouble::Authorization { reason } => Self::Authorization { reason },
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the connection was lost"),
            Self::NoResponders => f.write_str("nobody answers (503)"),
            Self::TooLarge => f.write_str("larger than the server takes"),
            Self::Permission { subject } => write!(f, "not permitted: {subject}"),
            Self::Authorization { reason } => write!(f, "the server refuses the creds: {reason}"),
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The creds were valid until then.
    #[error(
        "the creds expired at {at} (Unix seconds): renew them with `cim-keys access renew` or `cim-keys user creds`"
    )]
    Expired {
        /// Unix seconds.
        at: i64,
    },
    /// The creds are not valid before then.
    #[error("the creds are valid only from {at} (Unix seconds) on: wait, or set this machine's clock")]
    NotYet {
        /// Unix seconds.
        at: i64,
    },
    /// The server refuses them.
    #[error("the server refuses the creds ({reason}): is the account pushed, and the user not revoked?")]
    Refused {
        /// In its words.
        reason: String,
    },
    /// No server answers.
    #[error("no server can be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
}

impl LinkError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "creds-expired",
            Self::NotYet { .. } => "creds-not-yet-valid",
            Self::Refused { .. } => "authorization",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

impl From<&LinkError> for Failure {
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::Expired { .. } | LinkError::NotYet { .. } | LinkError::Refused { .. } => {
                Self::Authorization { reason: error.to_string() }
            }
            LinkError::Unreachable { .. } => Self::Unreachable,
        }
    }
}
