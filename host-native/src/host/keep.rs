//! Seeds that were made elsewhere, kept here.

use super::Host;
use crate::error::KeyError;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};

impl Host {
    /// Keeps the seeds of keys that this registry knows, sealed, all of them or none. Gives those that were not kept here
    /// before.
    ///
    /// # Errors
    /// [`KeyError::ForeignKey`] where the registry does not know one of them; see [`KeyError`].
    pub fn keep(&self, keys: &[KeyPair], dry_run: bool) -> Result<Vec<PublicKey>, KeyError> {
        self.store.registry_id()?;
        let mut new = Vec::new();
        for pair in keys {
            let key = pair.public_key();
            if self.store.by_key(key)?.is_empty() {
                return Err(KeyError::ForeignKey { key });
            }
            if !self.store.is_kept(key)? && !new.iter().any(|(known, _)| *known == key) {
                new.push((key, pair));
            }
        }
        if !dry_run {
            let escrow = self.store.escrow()?;
            let mut sealed = Vec::with_capacity(new.len());
            for (_, pair) in &new {
                sealed.push(self.vault.seal(pair, &escrow)?);
            }
            self.store.keep(&sealed)?;
        }
        Ok(new.into_iter().map(|(key, _)| key).collect())
    }

    /// Makes a key and keeps its seed, sealed. No event tells of it: it is for a registry in which somebody else adds its
    /// public half.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn make_own(&self, kind: Kind) -> Result<PublicKey, KeyError> {
        self.store.registry_id()?;
        let pair = KeyPair::from_entropy(kind, self.ambient.entropy()?);
        let sealed = self.vault.seal(&pair, &self.store.escrow()?)?;
        self.store.keep(&[sealed])?;
        Ok(pair.public_key())
    }
}
