//! Seals seeds for the store: one age file for each, to the host's identity and to whoever holds a copy in escrow.
//!
//! (`age` draws its own randomness for this: the named exception to [`ambient`](crate::ambient).)

use crate::files::{self, FileError};
use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use cim_keys_core::nkey::{KeyPair, PublicKey};
use cim_keys_core::secret::SecretText;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// Whom seeds are sealed to beside the host itself: an age recipient, `age1…`.
#[derive(Clone)]
pub struct Escrow(Recipient);

impl FromStr for Escrow {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, VaultError> {
        let recipient = text.trim().parse();
        recipient.map(Self).map_err(|_| VaultError::Recipient { found: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Escrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Escrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Escrow {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Escrow {}

/// Opens and closes sealed seeds with the identity in a file. The file is read when it is first needed, so that looking
/// at a registry needs no identity.
pub struct Vault {
    path: PathBuf,
    create: bool,
    identity: OnceLock<Identity>,
}

impl Vault {
    /// Uses the identity in this file (mode 0600), which must be there when it is needed.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), create: false, identity: OnceLock::new() }
    }

    /// The same, but makes a new identity where the file is missing: for founding a registry.
    #[must_use]
    pub fn or_create(path: &Path) -> Self {
        Self { create: true, ..Self::new(path) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public half of the identity, `age1…`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recipient(&self) -> Result<String, VaultError> {
        Ok(self.identity()?.to_public().to_string())
    }

    /// Seals a key pair's seed. What comes out has no part of it in clear.
    ///
    /// # Errors
    /// The identity cannot be read.
    pub fn seal(&self, key: &KeyPair, escrow: &[Escrow]) -> Result<SealedKey, VaultError> {
        let own = self.identity()?.to_public();
        let recipients = std::iter::once(&own).chain(escrow.iter().map(|escrow| &escrow.0));
        let seed = key.seed();
        let sealed = (|| {
            let all = recipients.map(|recipient| recipient as &dyn age::Recipient);
            let mut sealed = Vec::new();
            let mut writer = age::Encryptor::with_recipients(all)
                .map_err(|_| ())?
                .wrap_output(&mut sealed)
                .map_err(|_| ())?;
            writer.write_all(seed.expose().as_bytes()).map_err(|_| ())?;
            writer.finish().map_err(|_| ())?;
            Ok(sealed)
        })();
        let sealed = sealed.map_err(|()| VaultError::Seal { key: key.public_key() })?;
        Ok(SealedKey { public_key: key.public_key(), sealed })
    }

    /// Opens a sealed seed.
    ///
    /// # Errors
    /// It is sealed to another identity, damaged, or another key's.
    pub fn open(&self, key: &SealedKey) -> Result<KeyPair, VaultError> {
        let identity = self.identity()?;
        let public_key = key.public_key;
        let damaged = || VaultError::Damaged { key: public_key };
        let decryptor = age::Decryptor::new(key.sealed.as_slice()).map_err(|_| damaged())?;
        let mut reader = match decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)) {
            Ok(reader) => reader,
            Err(age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed) => {
                return Err(VaultError::OtherIdentity { key: public_key, path: self.path.clone() });
            }
            Err(_) => return Err(damaged()),
        };
        let mut seed = Zeroizing::new(String::with_capacity(128));
        reader.by_ref().take(128).read_to_string(&mut seed).map_err(|_| damaged())?;
        let pair = KeyPair::from_seed(&seed).map_err(|_| damaged())?;
        if pair.public_key() == public_key { Ok(pair) } else { Err(damaged()) }
    }

    fn identity(&self) -> Result<&Identity, VaultError> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let identity = match files::read_secret(&self.path) {
            Ok(text) => parse(&text, &self.path)?,
            Err(FileError::Missing { .. }) if self.create => create(&self.path)?,
            Err(FileError::Missing { path }) => return Err(VaultError::NoIdentity { path }),
            Err(error) => return Err(VaultError::File(error)),
        };
        Ok(self.identity.get_or_init(|| identity))
    }
}

/// The first line that is no comment, as `age-keygen` writes it.
fn parse(text: &SecretText, path: &Path) -> Result<Identity, VaultError> {
    let mut lines =
        text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identity = lines.next().and_then(|line| line.parse().ok());
    identity.ok_or_else(|| VaultError::Identity { path: path.to_owned() })
}

fn create(path: &Path) -> Result<Identity, VaultError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::make_folder(folder)?;
    }
    let identity = Identity::generate();
    let secret = identity.to_string();
    let public = identity.to_public().to_string();
    let parts =
        ["# opens the seeds that cim-keys keeps: keep it secret, keep a copy\n# public key: ", &public, "\n"];
    let mut text = Zeroizing::new(String::with_capacity(300));
    text.extend(parts);
    text.push_str(secret.expose_secret());
    text.push('\n');
    match files::write_new(path, text.as_bytes()) {
        Ok(()) => Ok(identity),
        // Another process made one meanwhile: that one counts.
        Err(FileError::Exists { .. }) => parse(&files::read_secret(path)?, path),
        Err(error) => Err(VaultError::File(error)),
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({}, redacted)", self.path.display())
    }
}

/// A sealed seed: an age file, and whose seed it is.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Whose.
    pub public_key: PublicKey,
    /// Bytes of the age file.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKey({}, {} bytes)", self.public_key, self.sealed.len())
    }
}

/// Why a seed cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no identity file.
    #[error("the identity that opens kept keys is missing: {} does not exist", path.display())]
    NoIdentity {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no identity.
    #[error("{} holds no age identity (AGE-SECRET-KEY-1…)", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// The identity file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not an age recipient.
    #[error("{found:?} is no age recipient (age1…)")]
    Recipient {
        /// The text, cut after 80 characters.
        found: String,
    },
    /// The seed could not be sealed.
    #[error("the seed of {key} could not be sealed")]
    Seal {
        /// Whose.
        key: PublicKey,
    },
    /// Sealed to somebody else.
    #[error("the seed of {key} is sealed to another identity than the one in {}", path.display())]
    OtherIdentity {
        /// Whose.
        key: PublicKey,
        /// The identity file.
        path: PathBuf,
    },
    /// What is stored is no sealed seed of this key.
    #[error("the sealed seed of {key} is damaged")]
    Damaged {
        /// Whose.
        key: PublicKey,
    },
}

impl VaultError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoIdentity { .. } => "identity-missing",
            Self::Identity { .. } => "identity-invalid",
            Self::File(error) => error.code(),
            Self::Recipient { .. } => "recipient",
            Self::Seal { .. } => "seal",
            Self::OtherIdentity { .. } => "identity-other",
            Self::Damaged { .. } => "sealed-damaged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::nkey::Kind;

    fn key() -> KeyPair {
        KeyPair::from_entropy(Kind::Account, *cim_keys_core::digest::Digest::of(b"vault").as_bytes())
    }

    #[test]
    fn a_sealed_seed_comes_back_and_shows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/identity.age");
        let sealed = Vault::or_create(&path).seal(&key(), &[]).unwrap();
        let seed = key().seed();
        assert!(!sealed.sealed.windows(20).any(|window| window == &seed.expose().as_bytes()[..20]));
        // Another process, later.
        let vault = Vault::new(&path);
        assert_eq!(vault.open(&sealed).unwrap().seed().expose(), seed.expose());
        let shown = format!("{vault:?} {sealed:?}");
        assert!(!shown.contains("AGE-SECRET") && !shown.contains(seed.expose()));
    }

    #[test]
    fn escrow_opens_it_too_and_strangers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let [own, escrow, stranger] = ["own", "escrow", "stranger"].map(|name| folder.path().join(name));
        let recipient: Escrow = Vault::or_create(&escrow).recipient().unwrap().parse().unwrap();
        let sealed = Vault::or_create(&own).seal(&key(), &[recipient]).unwrap();
        assert!(Vault::new(&escrow).open(&sealed).is_ok());
        let error = Vault::or_create(&stranger).open(&sealed).unwrap_err();
        assert_eq!(error, VaultError::OtherIdentity { key: key().public_key(), path: stranger });
        let other = KeyPair::from_entropy(Kind::Account, *cim_keys_core::digest::Digest::of(b"x").as_bytes());
        let swapped = SealedKey { public_key: other.public_key(), ..sealed };
        assert_eq!(Vault::new(&own).open(&swapped).unwrap_err().code(), "sealed-damaged");
    }

    #[test]
    fn a_missing_identity_is_made_only_when_founding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.age");
        assert_eq!(Vault::new(&path).recipient(), Err(VaultError::NoIdentity { path: path.clone() }));
        let made = Vault::or_create(&path).recipient().unwrap();
        assert_eq!(Vault::or_create(&path).recipient().unwrap(), made, "never made anew");
        assert!("age1nonsense".parse::<Escrow>().is_err());
    }
}
