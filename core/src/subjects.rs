//! NATS subjects of events: `<organization>.<unit>.<domain>.<entity>.<operation>`, five literal tokens.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A key that is no entity's identity was made known: a signing, curve or free key.
pub const KEY_GENERATED: &str = "cowboyai.security.keys.key.generated";
/// A key was ended.
pub const KEY_REVOKED: &str = "cowboyai.security.keys.key.revoked";
/// A certificate was issued.
pub const CERTIFICATE_ISSUED: &str = "cowboyai.security.keys.certificate.issued";
/// An operator was created: the founding of a registry.
pub const OPERATOR_CREATED: &str = "cowboyai.security.keys.operator.created";
/// An account was created.
pub const ACCOUNT_CREATED: &str = "cowboyai.security.keys.account.created";
/// A user was created.
pub const USER_CREATED: &str = "cowboyai.security.keys.user.created";

/// The domain of every event of this project.
pub const DOMAIN: &str = "keys";

/// The domain of creds that are issued for a short time: one that a service publishes as its own.
pub const ISSUED_DOMAIN: &str = "keys-issued";

/// One literal token of a subject: an ASCII letter or digit, then letters, digits, `-` or `_`; 1 to 64 bytes.
///
/// Narrower than what a server takes: neither wildcards nor the `$` and `_` of system and inbox subjects can begin it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(String);

impl Token {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let starts = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if starts && rest && text.len() <= 64 {
            Ok(Self(text.to_owned()))
        } else {
            Err(SubjectError::Token { found: text.chars().take(80).collect() })
        }
    }
}

/// `organization.unit`, the first two tokens of every subject of one registry. Defaults to `cowboyai.security`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// First token.
    pub organization: Token,
    /// Second token.
    pub unit: Token,
}

impl Default for Namespace {
    fn default() -> Self {
        Self { organization: Token("cowboyai".to_owned()), unit: Token("security".to_owned()) }
    }
}

impl Namespace {
    /// The subject of an event of the domain `keys`.
    #[must_use]
    pub fn subject(&self, entity: &'static str, operation: &'static str) -> Subject {
        Subject(format!("{self}.{DOMAIN}.{entity}.{operation}"))
    }

    /// `<organization>.<unit>.keys.>`: what the stream captures.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{self}.{DOMAIN}.>")
    }

    /// `<organization>.<unit>.keys.*.*`: what a writer may publish.
    #[must_use]
    pub fn event_pattern(&self) -> String {
        format!("{self}.{DOMAIN}.*.*")
    }

    /// `<organization>.<unit>.keys-log.>`: stored messages, republished.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{self}.keys-log.>")
    }

    /// `<organization>.<unit>.keys-dead.*.*.*`: dead letters and their marks, by stream, consumer and sequence.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{self}.keys-dead.*.*.*")
    }

    /// The same for one consumer's.
    #[must_use]
    pub fn dead_of(&self, consumer: &str) -> String {
        format!("{self}.keys-dead.*.{consumer}.*")
    }

    /// `<organization>.<unit>.keys-api.>`: what is asked of the service of the keys.
    #[must_use]
    pub fn api(&self) -> String {
        format!("{self}.keys-api.>")
    }

    /// `<organization>.<unit>.keys-issued.*.*`: creds that were issued for a short time.
    #[must_use]
    pub fn issued(&self) -> String {
        format!("{self}.{ISSUED_DOMAIN}.*.*")
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.organization.0, self.unit.0)
    }
}

impl FromStr for Namespace {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.split_once('.') {
            Some((organization, unit)) => {
                Ok(Self { organization: organization.parse()?, unit: unit.parse()? })
            }
            None => Err(SubjectError::Count { expected: 2, found: text.split('.').count() }),
        }
    }
}

/// A subject of exactly five literal tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `keys.<entity>.<operation>`: what `CIM-Event-Type` says.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.0.splitn(3, '.').nth(2).unwrap_or_default()
    }

    /// The first two tokens.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        let mut tokens = self.0.splitn(3, '.').map(|t| Token(t.to_owned()));
        match (tokens.next(), tokens.next()) {
            (Some(organization), Some(unit)) => Namespace { organization, unit },
            _ => Namespace::default(),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let found = text.split('.').count();
        if found != 5 {
            return Err(SubjectError::Count { expected: 5, found });
        }
        for token in text.split('.') {
            token.parse::<Token>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no subject, namespace or token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A token is empty, too long, or has a character that is not a letter, digit, `-` or `_`.
    #[error(
        "{found:?} is no subject token: use letters, digits, '-' and '_', beginning with a letter or digit, 64 at most"
    )]
    Token {
        /// The token, cut after 80 characters.
        found: String,
    },
    /// Another number of tokens.
    #[error("a subject of {expected} tokens is needed, this has {found}")]
    Count {
        /// Tokens needed.
        expected: usize,
        /// Tokens found.
        found: usize,
    },
}

impl SubjectError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token { .. } => "subject-token",
            Self::Count { .. } => "subject-count",
        }
    }
}

macro_rules! text_serde {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_text())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
text_serde!(Namespace, Subject);

impl Namespace {
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Subject {
    fn to_text(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_given_subjects_follow_from_the_default_namespace() {
        let namespace = Namespace::default();
        for (constant, entity, operation) in [
            (KEY_GENERATED, "key", "generated"),
            (KEY_REVOKED, "key", "revoked"),
            (CERTIFICATE_ISSUED, "certificate", "issued"),
            (OPERATOR_CREATED, "operator", "created"),
            (ACCOUNT_CREATED, "account", "created"),
            (USER_CREATED, "user", "created"),
        ] {
            let subject = namespace.subject(entity, operation);
            assert_eq!(subject.as_str(), constant);
            assert_eq!(constant.parse::<Subject>(), Ok(subject.clone()));
            assert_eq!(subject.event_type(), format!("keys.{entity}.{operation}"));
            assert_eq!(subject.namespace(), namespace);
        }
    }

    #[test]
    fn anything_but_five_literal_tokens_is_refused() {
        for bad in [
            "",
            "a",
            "a.b.c.d",
            "a.b.c.d.e.f",
            "a.b.c.d.",
            ".b.c.d.e",
            "a.b.*.d.e",
            "a.b.c.d.>",
            "a b.b.c.d.e",
            "$JS.API.c.d.e",
            "_INBOX.b.c.d.e",
            "a.b.c.d.é",
            "a.b.c.d.e\r\n",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
        for bad in ["", "a", "a.b.c", "a.", "$JS.API"] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?}");
        }
    }
}
