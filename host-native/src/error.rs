//! The one error of the library's operations.

use crate::ambient::EntropyError;
use crate::files::FileError;
use crate::keyring::KeyringError;
use crate::store::StoreError;
use crate::vault::VaultError;
use cim_keys_core::bundle::{BundleError, Refusal, VerifyError};
use cim_keys_core::command::Rejection;
use cim_keys_core::context::RegistryId;
use cim_keys_core::creds::CredsError;
use cim_keys_core::draft::CompleteError;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::outbox::{EventError, Refusal as EventRefusal};
use cim_keys_core::registry::EntityId;
use std::path::PathBuf;
use uuid::Uuid;

/// Why an operation was not done. Unless said otherwise, nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The core's rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealed seeds.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Signing.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The random source.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A signature did not fit what was asked for.
    #[error(transparent)]
    Complete(#[from] CompleteError),
    /// Creds cannot be written.
    #[error(transparent)]
    Creds(#[from] CredsError),
    /// A registry was founded in this store before.
    #[error("a registry was founded in {} before", path.display())]
    Founded {
        /// The store.
        path: PathBuf,
    },
    /// Bytes are no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A bundle's command is not what it says.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A bundle is of another registry than the store.
    #[error("the bundle belongs to the registry {} ({}), this store to {} ({})", found.operator, found.namespace, here.operator, here.namespace)]
    BundleRegistry {
        /// The store's.
        here: Box<RegistryId>,
        /// The bundle's.
        found: Box<RegistryId>,
    },
    /// An empty store takes a bundle that founds its registry, and no other.
    #[error("there is no registry here, and the bundle founds none: it belongs to {registry}")]
    NotFounding {
        /// The bundle's.
        registry: PublicKey,
    },
    /// A bundle's command does not stand in this registry.
    #[error(
        "nothing of the bundle was taken in: its command {command} {command_id} does not stand here: {refusal}"
    )]
    Refused {
        /// Its id.
        command_id: Uuid,
        /// What it is.
        command: &'static str,
        /// Why it does not stand.
        refusal: Box<Refusal>,
    },
    /// There is nothing that a bundle could carry.
    #[error("nothing is pending: there is nothing to write into a bundle")]
    NothingPending,
    /// The journal has no such command.
    #[error("there is no command {id} in this journal")]
    NoCommand {
        /// The id.
        id: Uuid,
    },
    /// The command is not held.
    #[error("the command {id} is not held: it is {}", state_word(*state))]
    NotHeld {
        /// The id.
        id: Uuid,
        /// Where it stands.
        state: State,
    },
    /// A held command came in a bundle.
    #[error("the command {id} came in a bundle: only the host that minted it decides it anew")]
    HeldImported {
        /// The id.
        id: Uuid,
    },
    /// Creds are out for a command whose id another command was admitted under: no voiding can revoke them.
    #[error(
        "creds of user {user} were handed out for command {id}, and another command was admitted under that id"
    )]
    CredsOut {
        /// The id.
        id: Uuid,
        /// The user, whom the registry never knew.
        user: PublicKey,
    },
    /// No attempt at a held command can be admitted any more.
    #[error("the id of command {id} is used up: {reason}")]
    UsedUp {
        /// The id.
        id: Uuid,
        /// Why it is held, in words.
        reason: String,
    },
    /// The command id is another command's.
    #[error("command {id} was given before, with other content")]
    IdTaken {
        /// The id.
        id: Uuid,
    },
    /// There is no such entity.
    #[error("{id} does not exist")]
    Unknown {
        /// Which.
        id: EntityId,
    },
    /// The registry does not know the key.
    #[error("no entity of this registry has the key {key}")]
    ForeignKey {
        /// The key.
        key: PublicKey,
    },
    /// The account has no key that could sign this.
    #[error("account {account} has no {}", match role { Some(role) => format!("signing key with the role {role:?}"), None => "plain signing key".to_owned() })]
    NoSigningKey {
        /// Identity key of the account.
        account: PublicKey,
        /// The role asked for.
        role: Option<String>,
        /// Roles it has.
        roles: Vec<String>,
    },
    /// The user's seed is not here.
    #[error("the seed of user {user} is not kept here, so no creds can be written")]
    NoUserSeed {
        /// The user.
        user: PublicKey,
    },
    /// Creds are not written yet, and those come first.
    #[error("the creds of user {user} are made but not written yet")]
    NotHandedOut {
        /// The user.
        user: PublicKey,
    },
    /// Other writers were always first.
    #[error("the registry changed each time before the command could be written: {attempts} attempts")]
    Contended {
        /// Attempts.
        attempts: u32,
    },
    /// A service's event must not or cannot be published.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The event's id is another event's.
    #[error("an event with the id {id} was given before, with other content")]
    EventIdTaken {
        /// The id.
        id: Uuid,
    },
    /// The journal has no such event any more.
    #[error("the event {id} was settled and forgotten")]
    NoEvent {
        /// The id.
        id: Uuid,
    },
    /// The event is not published, and not tried any more.
    #[error("the event {id} is not published: {refusal}")]
    NotPublished {
        /// Its id.
        id: Uuid,
        /// Why.
        refusal: EventRefusal,
    },
    /// The file has the events of another stream.
    #[error("{} has the events of the stream {stream} and the namespace {namespace}", path.display())]
    OutboxOf {
        /// The file.
        path: PathBuf,
        /// Its stream.
        stream: String,
        /// Its namespace.
        namespace: String,
    },
    /// What was decided could not be judged as it was decided: a fault of this program.
    #[error("internal: {what}")]
    Internal {
        /// What.
        what: String,
    },
}

impl KeyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Vault(error) => error.code(),
            Self::Keyring(error) => error.code(),
            Self::Entropy(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Complete(error) => error.code(),
            Self::Creds(error) => error.code(),
            Self::Founded { .. } => "founded",
            Self::Bundle(error) => error.code(),
            Self::Verify(error) => error.code(),
            Self::BundleRegistry { .. } => "bundle-registry",
            Self::NotFounding { .. } => "bundle-not-founding",
            Self::Refused { refusal, .. } => refusal.code(),
            Self::NothingPending => "nothing-pending",
            Self::NoCommand { .. } => "unknown-command",
            Self::NotHeld { .. } => "not-held",
            Self::HeldImported { .. } => "held-imported",
            Self::UsedUp { .. } => "used-up",
            Self::CredsOut { .. } => "creds-out",
            Self::IdTaken { .. } => "id-taken",
            Self::Unknown { .. } => "unknown",
            Self::ForeignKey { .. } => "foreign-key",
            Self::NoSigningKey { .. } => "no-signing-key",
            Self::NoUserSeed { .. } => "no-user-seed",
            Self::NotHandedOut { .. } => "not-handed-out",
            Self::Contended { .. } => "contended",
            Self::Event(error) => error.code(),
            Self::EventIdTaken { .. } => "event-id-taken",
            Self::NoEvent { .. } => "unknown-event",
            Self::NotPublished { refusal, .. } => refusal.code(),
            Self::OutboxOf { .. } => "outbox-foreign",
            Self::Internal { .. } => "internal",
        }
    }
}

fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Held => "held",
        State::Confirmed => "confirmed",
        State::Settled => "settled",
        State::Dropped => "dropped",
    }
}
