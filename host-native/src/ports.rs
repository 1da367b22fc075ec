//! The library's doors, as traits: for services that want to put something else behind them.

use crate::error::KeyError;
use crate::host::{Founding, Host, Outcome, Request};
use cim_keys_core::command::Command;
use cim_keys_core::jwt::{AccountLimits, UserRights};
use cim_keys_core::nkey::PublicKey;
use std::path::Path;

/// What a user gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Identity key of its account.
    pub account: PublicKey,
    /// Its name, free in the account.
    pub name: String,
    /// What it may do.
    pub access: Access,
    /// Unix seconds; 0 is never.
    pub expires: i64,
    /// Tags, as NATS matches them.
    pub tags: Vec<String>,
    /// Public key made elsewhere; none lets the host make one.
    pub key: Option<PublicKey>,
    /// Whether creds are made, to be handed out by [`Host::hand_out`]: only for keys that the host makes.
    pub credentials: bool,
    /// Whether its seed is kept, so that creds can be made again.
    pub keep: bool,
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// What the scoped signing key of this role says.
    Role(String),
    /// What its own token says.
    Own(Box<UserRights>),
}

/// Operators, accounts, users and their creds. Every method is one command: all of it is on the disk when it returns, or
/// nothing has changed.
pub trait NatsPort {
    /// Founds the registry in an empty store.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn create_operator(&self, founding: &Founding) -> Result<Outcome, KeyError>;

    /// Creates an account with one signing key; -1 in its limits is unlimited.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn create_account(&self, name: &str, limits: AccountLimits) -> Result<Outcome, KeyError>;

    /// Creates a user.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn create_user(&self, user: NewUser) -> Result<Outcome, KeyError>;

    /// Writes creds of a user to a new file (mode 0600): those made with it where they are not written yet, else new ones,
    /// for which its seed must be kept. `expires` in Unix seconds, 0 is never, counts for new ones. None where creds made
    /// with the user were written: that is no new command.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn generate_credentials(
        &self,
        account: PublicKey,
        user: PublicKey,
        expires: i64,
        path: &Path,
    ) -> Result<Option<Outcome>, KeyError>;

    /// Sets a user's permissions anew. Creds handed out before keep theirs until they expire.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn set_permissions(
        &self,
        account: PublicKey,
        user: PublicKey,
        rights: UserRights,
    ) -> Result<Outcome, KeyError>;
}

/// A service's own domain events, on the service's own stream. Events of the keys are made by commands only.
#[cfg(feature = "nats")]
pub trait JetStreamPort {
    /// Journals an event. It is on the disk when this returns, and reaches the stream whatever happens to process,
    /// connection and server meanwhile: exactly once within the stream's duplicate window, at least once beyond it; an
    /// event that names the last message of its subject exactly once, or its receipt says what is in its way. Events of
    /// one journal are tried in the order of these calls. The same event again gives the same receipt.
    ///
    /// # Errors
    /// [`KeyError::Event`] where it must not or cannot be published; [`KeyError::EventIdTaken`] where its id was given
    /// with other content before; see [`KeyError`].
    fn publish_event(
        &self,
        event: &cim_keys_core::outbox::DomainEvent,
    ) -> Result<crate::outbox::Receipt, KeyError>;

    /// Messages of a durable consumer, at least once each: of any stream that `target` leads to, by name alone. It connects
    /// when it is first asked for one; what is in the way then has a name and is tried again.
    fn subscribe(
        &self,
        consumer: crate::consume::ConsumerName,
        target: crate::nats::target::Target,
    ) -> crate::consume::Subscription<'static>;
}

impl NatsPort for Host {
    fn create_operator(&self, founding: &Founding) -> Result<Outcome, KeyError> {
        self.found(founding, false)
    }

    fn create_account(&self, name: &str, limits: AccountLimits) -> Result<Outcome, KeyError> {
        self.run(&Request::new(Command::CreateAccount { name: name.to_owned(), limits }))
    }

    fn create_user(&self, user: NewUser) -> Result<Outcome, KeyError> {
        self.run(&Request::from(user))
    }

    fn generate_credentials(
        &self,
        account: PublicKey,
        user: PublicKey,
        expires: i64,
        path: &Path,
    ) -> Result<Option<Outcome>, KeyError> {
        if self.store().hand_out(account, user)?.is_some() {
            return self.hand_out(account, user, path).map(|()| None);
        }
        self.issue_creds(account, user, expires, false, path).map(Some)
    }

    fn set_permissions(
        &self,
        account: PublicKey,
        user: PublicKey,
        rights: UserRights,
    ) -> Result<Outcome, KeyError> {
        self.run(&Request::new(Command::SetPermissions { account, user, rights }))
    }
}

impl From<NewUser> for Request {
    fn from(user: NewUser) -> Self {
        let (role, rights) = match user.access {
            Access::Role(role) => (Some(role), None),
            Access::Own(rights) => (None, Some(*rights)),
        };
        let command = Command::CreateUser {
            account: user.account,
            name: user.name,
            rights,
            expires: user.expires,
            tags: user.tags,
            credentials: user.credentials && user.key.is_none(),
        };
        Self { role, keys: user.key.map(|key| vec![key]), keep: user.keep, ..Self::new(command) }
    }
}
