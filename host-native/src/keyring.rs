//! Signs what a draft asks for with the keys that this host has.

use crate::store::{Store, StoreError};
use crate::vault::{Vault, VaultError};
use cim_keys_core::draft::{Draft, SigningRequest};
use cim_keys_core::nkey::{KeyPair, PublicKey, SignError, Signature};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Keys made for the command at hand, and those kept in the store, opened when they are needed.
pub struct Keyring<'a> {
    store: &'a Store,
    vault: &'a Vault,
    opened: &'a Opened,
    made: &'a [KeyPair],
}

/// Kept keys that were opened: each is unsealed once in the life of a host, and wiped with it.
#[derive(Default)]
pub struct Opened(Mutex<BTreeMap<PublicKey, Arc<KeyPair>>>);

impl<'a> Keyring<'a> {
    /// Over a store's kept keys and those just made.
    #[must_use]
    pub fn new(store: &'a Store, vault: &'a Vault, opened: &'a Opened, made: &'a [KeyPair]) -> Self {
        Self { store, vault, opened, made }
    }

    /// One signature for each request of the draft, in order.
    ///
    /// # Errors
    /// A key that this host does not have, by its name.
    pub fn sign(&self, draft: &Draft) -> Result<Vec<Signature>, KeyringError> {
        draft.requests().iter().map(|request| self.answer(request)).collect()
    }

    /// Whether this host can sign with a key.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has(&self, key: PublicKey) -> Result<bool, KeyringError> {
        Ok(self.made.iter().any(|made| made.public_key() == key) || self.store.is_kept(key)?)
    }

    /// A kept key, opened.
    ///
    /// # Errors
    /// This host does not have it, or cannot open it.
    pub fn key(&self, key: PublicKey) -> Result<Arc<KeyPair>, KeyringError> {
        let mut opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = opened.get(&key) {
            return Ok(pair.clone());
        }
        let sealed = self.store.sealed_key(key)?.ok_or(KeyringError::Missing { key })?;
        let pair = Arc::new(self.vault.open(&sealed)?);
        opened.insert(key, pair.clone());
        Ok(pair)
    }

    fn answer(&self, request: &SigningRequest) -> Result<Signature, KeyringError> {
        if let Some(made) = self.made.iter().find(|made| made.public_key() == request.public_key) {
            return Ok(made.sign(&request.bytes)?);
        }
        Ok(self.key(request.public_key)?.sign(&request.bytes)?)
    }
}

impl fmt::Debug for Keyring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(redacted)")
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(redacted)")
    }
}

/// Why something cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// This host does not have the key.
    #[error("this host does not have the seed of {key}, which must sign")]
    Missing {
        /// The key.
        key: PublicKey,
    },
    /// It cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A curve key cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl KeyringError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "seed-missing",
            Self::Vault(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Sign(error) => error.code(),
        }
    }
}
