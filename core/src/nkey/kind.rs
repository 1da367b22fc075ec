//! The kinds of key that NATS knows.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a key is for. These six are all that a NATS server knows; the `nkeys` crate's modules and services are not
/// among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An account, or one of its signing keys: `A…`.
    Account,
    /// A cluster: `C…`.
    Cluster,
    /// A curve key (X25519), which seals and cannot sign: `X…`.
    Curve,
    /// An operator, or one of its signing keys: `O…`.
    Operator,
    /// A server: `N…`.
    Server,
    /// A user: `U…`.
    User,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 6] =
        [Self::Account, Self::Cluster, Self::Curve, Self::Operator, Self::Server, Self::User];

    /// The first letter of a public key of this kind.
    pub const fn letter(self) -> char {
        match self {
            Self::Account => 'A',
            Self::Cluster => 'C',
            Self::Curve => 'X',
            Self::Operator => 'O',
            Self::Server => 'N',
            Self::User => 'U',
        }
    }

    /// The name in lower case, as `FromStr` and serde read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Cluster => "cluster",
            Self::Curve => "curve",
            Self::Operator => "operator",
            Self::Server => "server",
            Self::User => "user",
        }
    }

    /// The byte that stands before a public key of this kind (`nats-identity` §1.1).
    pub(crate) const fn prefix(self) -> u8 {
        match self {
            Self::Account => 0,
            Self::Cluster => 2 << 3,
            Self::Server => 13 << 3,
            Self::Operator => 14 << 3,
            Self::User => 20 << 3,
            Self::Curve => 23 << 3,
        }
    }

    pub(crate) fn from_prefix(prefix: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(KindError::Unknown)
    }
}

/// Why a text names no kind of key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KindError {
    /// Not one of the six names.
    #[error("not a kind of key: use account, cluster, curve, operator, server or user")]
    Unknown,
}

impl KindError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "kind.unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_and_prefixes_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(Kind::from_prefix(kind.prefix()), Some(kind));
        }
    }

    #[test]
    fn unknown_names_and_prefixes_are_refused() {
        for text in ["", "Account", "module", "service", "private", "seed", " user"] {
            assert_eq!(text.parse::<Kind>(), Err(KindError::Unknown));
        }
        // Private, seed marker, unknown, and the crate's own module and service.
        for prefix in [15 << 3, 18 << 3, 25 << 3, 12 << 3, 21 << 3, 1, 255] {
            assert_eq!(Kind::from_prefix(prefix), None);
        }
    }
}
