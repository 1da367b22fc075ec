//! Who asks, as the server says it.
//!
//! An import with `share` puts `Nats-Request-Info` on every request: the account, the user's key and more of the
//! connection. nats-server 2.15.1 takes every header of that name away that a client sent; 2.12.1 takes one, so that a
//! second one stands beside its own, and behind two imports even puts it last. So a request where the name stands twice,
//! in whatever case, is refused.

use cim_keys_core::context::{Actor, ActorError};
use cim_keys_core::nkey::{Kind, PublicKey};
use serde::Deserialize;
use std::fmt;

/// What the server calls it.
pub const HEADER: &str = "Nats-Request-Info";

/// An account and a user of it, both by public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identity key of the account.
    pub account: PublicKey,
    /// The user's key.
    pub user: PublicKey,
}

/// The members that count. The others say more of the connection, the client's own words among them.
#[derive(Deserialize)]
struct Info {
    acc: String,
    #[serde(default)]
    user: String,
}

impl Caller {
    /// Reads it from the headers of a request, in the order in which they came.
    ///
    /// # Errors
    /// See [`CallerError`].
    pub fn of<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, CallerError> {
        let mut found = headers.filter(|(name, _)| name.trim().eq_ignore_ascii_case(HEADER));
        let (name, value) = found.next().ok_or(CallerError::Missing)?;
        if found.next().is_some() {
            return Err(CallerError::Twice);
        }
        if name != HEADER {
            return Err(CallerError::Missing);
        }
        let info: Info = serde_json::from_str(value).map_err(|_| CallerError::Unreadable)?;
        let key = |text: &str, kind| {
            text.parse::<PublicKey>().ok().filter(|key| key.kind() == kind).ok_or(CallerError::Unreadable)
        };
        if info.user.is_empty() {
            return Err(CallerError::Anonymous);
        }
        Ok(Self { account: key(&info.acc, Kind::Account)?, user: key(&info.user, Kind::User)? })
    }

    /// As it stands in events.
    ///
    /// # Errors
    /// None that is known: two keys are an actor.
    pub fn actor(&self) -> Result<Actor, ActorError> {
        self.to_string().parse()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.account)
    }
}

/// Why nobody knows who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// The server says nothing.
    #[error("the server does not say who asks")]
    Missing,
    /// It stands more than once: somebody wrote one.
    #[error("who asks stands in the request more than once")]
    Twice,
    /// It is not what a server in operator mode writes.
    #[error("what the server says of who asks cannot be read")]
    Unreadable,
    /// The account is known and the user is not.
    #[error("the server does not say which user asks")]
    Anonymous,
}

impl CallerError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "caller-missing",
            Self::Twice => "caller-twice",
            Self::Unreadable => "caller-unreadable",
            Self::Anonymous => "caller-anonymous",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::nkey::KeyPair;

    fn key(kind: Kind) -> String {
        KeyPair::from_entropy(kind, [9; 32]).public_key().to_string()
    }

    fn of(list: &[(&str, &str)]) -> Result<Caller, CallerError> {
        Caller::of(list.iter().copied())
    }

    #[test]
    fn only_one_word_of_the_server_counts() {
        let (account, user) = (key(Kind::Account), key(Kind::User));
        let info = format!(r#"{{"acc":"{account}","user":"{user}","name":"a \"user\":\"b\"","rtt":1}}"#);
        let caller = of(&[("X-A", "b"), (HEADER, &info)]).unwrap();
        assert_eq!(caller.to_string(), format!("{user}@{account}"));
        assert_eq!(caller.actor().unwrap().as_str(), caller.to_string());
        assert_eq!(of(&[("X-A", &info)]), Err(CallerError::Missing));
        assert_eq!(of(&[("nats-request-info", &info)]), Err(CallerError::Missing));
        for other in [HEADER, "nats-request-info", "NATS-REQUEST-INFO", "Nats-Request-Info "] {
            assert_eq!(of(&[(HEADER, &info), (other, &info)]), Err(CallerError::Twice), "{other}");
            assert_eq!(of(&[(other, "x"), (HEADER, &info)]), Err(CallerError::Twice), "{other}");
        }
        let not_shared = format!(r#"{{"acc":"{account}","rtt":1}}"#);
        assert_eq!(of(&[(HEADER, &not_shared)]), Err(CallerError::Anonymous));
        for text in [
            String::new(),
            "[]".into(),
            r#"{"user":"x"}"#.into(),
            r#"{"acc":"EDGE","user":"cli"}"#.into(),
            format!(r#"{{"acc":"{user}","user":"{account}"}}"#),
            format!(r#"{{"acc":"{account}","acc":"{account}","user":"{user}"}}"#),
        ] {
            assert_eq!(of(&[(HEADER, &text)]), Err(CallerError::Unreadable), "{text}");
        }
    }
}
