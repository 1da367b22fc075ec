//! A host: store, vault, clock and randomness together. Supplies facts to the core and keeps what comes out.

mod authority;
mod bundle;
mod hand_out;
mod held;
mod keep;
mod redecide;
mod run;
mod stand_again;

pub use bundle::Imported;
pub use held::{Dropped, Retried};

use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::keyring::{Keyring, Opened};
use crate::store::Store;
use crate::vault::{Escrow, Vault};
use cim_keys_core::command::Command;
use cim_keys_core::context::Actor;
use cim_keys_core::digest::Digest;
use cim_keys_core::event::{Event, Fact};
use cim_keys_core::journal::State;
use cim_keys_core::nkey::{KeyPair, PublicKey};
use cim_keys_core::registry::Issued;
use cim_keys_core::subjects::Namespace;
use std::sync::Arc;
use uuid::Uuid;

/// Whoever supplies facts and keeps what was decided. May be shared between threads.
#[derive(Debug)]
pub struct Host {
    store: Store,
    vault: Vault,
    ambient: Ambient,
    actor: Actor,
    opened: Opened,
}

/// A command with what the host needs to know beside it.
#[derive(Debug)]
pub struct Request {
    /// What is wanted.
    pub command: Command,
    /// The key that vouches for it; chosen from those kept here where none is named.
    pub authority: Option<PublicKey>,
    /// For users: sign with the scoped key of this role.
    pub role: Option<String>,
    /// Its id; a new one where none is given. A service that repeats a request repeats the id.
    pub command_id: Option<Uuid>,
    /// The conversation it belongs to; its own id where it begins one.
    pub correlation_id: Option<Uuid>,
    /// What caused it; its own id where nothing did.
    pub causation_id: Option<Uuid>,
    /// Who wants it; the host's own actor where nobody is named. The same id by somebody else is another command.
    pub actor: Option<Actor>,
    /// Public keys made elsewhere, instead of new ones: as many as the command asks for.
    pub keys: Option<Vec<PublicKey>>,
    /// Whether a user's seed is kept.
    pub keep: bool,
    /// Decide, and write nothing.
    pub dry_run: bool,
}

impl Request {
    /// A command with nothing special beside it.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            authority: None,
            role: None,
            command_id: None,
            correlation_id: None,
            causation_id: None,
            actor: None,
            keys: None,
            keep: false,
            dry_run: false,
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command.
    pub command_id: Uuid,
    /// Identifies its draft.
    pub draft_hash: Digest,
    /// Its events, tokens signed (unsigned in a dry run).
    pub events: Vec<Event>,
    /// Where it stands in the journal; none in a dry run.
    pub state: Option<State>,
    /// Whether it had been done before, by the same id.
    pub repeated: bool,
    /// Public keys that the command was given, in their order.
    pub keys: Vec<PublicKey>,
}

impl Outcome {
    /// The token of the first event that brings one: of a new account or user, its own.
    #[must_use]
    pub fn token(&self) -> Option<Issued> {
        self.events.iter().find_map(|event| event.token.as_ref()).map(Issued::from)
    }

    /// Accounts whose token it issued: their servers do not know yet.
    #[must_use]
    pub fn accounts_changed(&self) -> Vec<PublicKey> {
        let changed = |event: &&Event| matches!(event.fact, Fact::AccountCreated | Fact::AccountUpdated);
        self.events.iter().filter(changed).map(|event| event.entity).collect()
    }

    /// Whether the operator's token was issued anew: servers must be restarted with it.
    #[must_use]
    pub fn operator_changed(&self) -> bool {
        self.events.iter().any(|event| event.fact == Fact::OperatorUpdated)
    }
}

/// What a registry begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The operator's name.
    pub name: String,
    /// First two tokens of its subjects.
    pub namespace: Namespace,
    /// Whom seeds are sealed to beside the host.
    pub escrow: Vec<Escrow>,
}

impl Host {
    /// A host over a store, which may have no registry yet.
    #[must_use]
    pub fn new(store: Store, vault: Vault, ambient: Ambient, actor: Actor) -> Self {
        Self { store, vault, ambient, actor, opened: Opened::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Clock and randomness.
    #[must_use]
    pub fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    /// Who wants the commands of this host.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// A kept key, opened: for signing something of the host's own, such as a short-lived user in memory.
    ///
    /// # Errors
    /// Its seed is not here, or cannot be opened.
    pub fn key(&self, key: PublicKey) -> Result<Arc<KeyPair>, KeyError> {
        Ok(self.keyring(&[]).key(key)?)
    }

    fn keyring<'a>(&'a self, made: &'a [KeyPair]) -> Keyring<'a> {
        Keyring::new(&self.store, &self.vault, &self.opened, made)
    }
}

#[cfg(test)]
mod tests;
