//! A signing key for the page's first use, in a file that the person brings to the page.

use super::UpError;
use crate::error::KeyError;
use crate::files::{self, FileError};
use crate::host::{Host, Request};
use cim_keys_core::command::Command;
use cim_keys_core::jwt::SigningKey;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use std::path::{Path, PathBuf};

const FILE: &str = "app-signing-key.secret.nk";
const LABEL: &str = "page";

/// The file (mode 0600) with the seed of a plain signing key of this account: that of an earlier run where it still signs,
/// else of a new key.
pub(super) fn secret_file(host: &Host, account: PublicKey, folder: &Path) -> Result<PathBuf, UpError> {
    let path = folder.join(FILE);
    if signs(host, account, &path)? {
        return Ok(path);
    }
    let outcome = host.run(&Request::new(Command::GenerateKey {
        kind: Kind::Account,
        owner: Some(account),
        label: Some(LABEL.to_owned()),
        role: None,
    }))?;
    let key = outcome.keys.first().copied();
    let key = key.ok_or(KeyError::Internal { what: "a new signing key has no key".into() })?;
    files::replace(&path, host.key(key)?.seed().expose().as_bytes())?;
    Ok(path)
}

/// Whether the file has the seed of a key that may sign users of this account as it is now.
fn signs(host: &Host, account: PublicKey, path: &Path) -> Result<bool, UpError> {
    let text = match files::read_secret(path) {
        Ok(text) => text,
        Err(FileError::Missing { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let Ok(pair) = KeyPair::from_seed(text.expose().trim()) else { return Ok(false) };
    let account = host.account(account)?;
    let body = account.token.claims().body.as_account();
    let listed = body.and_then(|body| body.signing_keys.get(&pair.public_key()));
    Ok(matches!(listed, Some(SigningKey::Plain)))
}
