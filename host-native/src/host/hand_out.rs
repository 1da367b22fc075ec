//! Creds: their seed stays sealed in the store until the file is on the disk, and is erased then.

use super::{Host, Outcome, Request};
use crate::crash::{self, Step};
use crate::error::KeyError;
use crate::files;
use crate::store::HandOut;
use cim_keys_core::command::Command;
use cim_keys_core::creds;
use cim_keys_core::jwt::Token;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::secret::SecretText;
use std::path::Path;

impl Host {
    /// Writes creds that were made with a user and not written yet to a new file (mode 0600). The sealed seed is erased
    /// from the store once the file is on the disk; until then a crash loses nothing.
    ///
    /// # Errors
    /// [`KeyError::NoUserSeed`] where there are none; a file of that name exists; see [`KeyError`].
    pub fn hand_out(&self, account: PublicKey, user: PublicKey, path: &Path) -> Result<(), KeyError> {
        let hand_out = self.store.hand_out(account, user)?.ok_or(KeyError::NoUserSeed { user })?;
        let text = self.creds_of(&hand_out)?;
        files::check_new(path)?;
        if !self.store.note_handed_out(hand_out.command_id)? {
            return Err(KeyError::NoUserSeed { user });
        }
        files::write_new(path, text.expose().as_bytes())?;
        crash::reach(Step::CredsDelivered);
        self.store.erase_hand_out(hand_out.command_id)?;
        crash::reach(Step::HandOutErased);
        Ok(())
    }

    /// The same for a host that brings creds to their place itself: `deliver` returns once they are safe.
    ///
    /// # Errors
    /// What `deliver` says; see [`hand_out`](Self::hand_out).
    pub fn hand_out_with(
        &self,
        account: PublicKey,
        user: PublicKey,
        deliver: impl FnOnce(&SecretText) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let hand_out = self.store.hand_out(account, user)?.ok_or(KeyError::NoUserSeed { user })?;
        let text = self.creds_of(&hand_out)?;
        if !self.store.note_handed_out(hand_out.command_id)? {
            return Err(KeyError::NoUserSeed { user });
        }
        deliver(&text)?;
        Ok(self.store.erase_hand_out(hand_out.command_id)?)
    }

    /// Makes creds of a user anew, from its kept seed and a token issued anew, and writes them to a new file (mode 0600).
    /// Where creds made with the user are not written yet, use [`hand_out`](Self::hand_out).
    ///
    /// # Errors
    /// [`KeyError::NoUserSeed`] where the seed is not kept; see [`KeyError`].
    pub fn issue_creds(
        &self,
        account: PublicKey,
        user: PublicKey,
        expires: i64,
        dry_run: bool,
        path: &Path,
    ) -> Result<Outcome, KeyError> {
        if self.store.hand_out(account, user)?.is_some() {
            return Err(KeyError::NotHandedOut { user });
        }
        let sealed = self.store.sealed_key(user)?.ok_or(KeyError::NoUserSeed { user })?;
        files::check_new(path)?;
        // Opened before anything is written: an identity that does not fit changes nothing.
        let key = self.vault.open(&sealed)?;
        let command = Command::GenerateCredentials { account, user, expires };
        let outcome = self.run(&Request { dry_run, ..Request::new(command) })?;
        if !dry_run {
            let text = creds::format(&self.token(account, user)?, &key)?;
            if !self.store.note_handed_out(outcome.command_id)? {
                return Err(KeyError::NoUserSeed { user });
            }
            files::write_new(path, text.expose().as_bytes())?;
        }
        Ok(outcome)
    }

    fn creds_of(&self, hand_out: &HandOut) -> Result<SecretText, KeyError> {
        let key = self.vault.open(&hand_out.key)?;
        Ok(creds::format(&self.token(hand_out.account, key.public_key())?, &key)?)
    }

    /// The newest token of a user, whole.
    fn token(&self, account: PublicKey, user: PublicKey) -> Result<Token, KeyError> {
        let id = EntityId::User { account, user };
        let entity = self.entity(id)?;
        let text = entity.as_ref().and_then(Entity::token).and_then(|token| token.text());
        let text = text.ok_or(KeyError::Unknown { id })?;
        Token::parse(&text).map_err(|error| super::run::internal(&error.to_string()))
    }
}
