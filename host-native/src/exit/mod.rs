//! From an error to exit status and hint, in one place: for the command line, and for whoever asks the service.

#[cfg(feature = "nats")]
pub(crate) mod nats;

use crate::ambient::EntropyError;
use crate::config::ConfigError;
use crate::error::KeyError;
use crate::files::FileError;
use crate::keyring::KeyringError;
use crate::store::StoreError;
use crate::vault::VaultError;
use cim_keys_core::bundle::BundleError;
use cim_keys_core::command::Rejection;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::Kind;
use cim_keys_core::rules::Violation;
use serde::{Serialize, Serializer};
use std::fmt;
use std::process::ExitCode;

/// How the program ends. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something that should not happen: a disk, a fault of this program.
    Unexpected = 1,
    /// The command line says something that makes no sense.
    Usage = 2,
    /// A value breaks a rule.
    Validation = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// It contradicts what is there.
    Conflict = 5,
    /// A key is missing, or may not do this.
    Permission = 6,
    /// A server cannot be reached.
    Network = 7,
    /// A signature, token or read-back does not hold.
    Verification = 8,
    /// A part was done.
    Partial = 9,
    /// The answer is no: `why` denies.
    Denied = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// What a person is told when something fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CliError {
    /// Exit status.
    pub exit: Exit,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hints: Vec<String>,
    /// Whether stdout says it already: only the exit status is left.
    #[serde(skip)]
    pub told: bool,
}

impl CliError {
    /// An error with these words.
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hints: Vec::new(), told: false }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What stdout says already.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { told: true, ..self }
    }

    /// The command line makes no sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something that should not happen.
    #[must_use]
    pub fn unexpected(error: &dyn fmt::Display) -> Self {
        Self::new(Exit::Unexpected, "unexpected", error.to_string())
    }

    /// There is no home folder to derive a path from.
    #[must_use]
    pub fn no_home(flag: &str) -> Self {
        Self::new(Exit::Usage, "no-home", "there is no home folder: HOME is not set, or is no absolute path")
            .hint(format!("give {flag}, or set HOME"))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        let (exit, hint) = judge(&error);
        let mut told = Self::new(exit, error.code(), error.to_string());
        told.hints.extend(hint.map(String::from));
        if let KeyError::NoSigningKey { roles, .. } = &error
            && !roles.is_empty()
        {
            told.hints.push(format!("its roles: {} (`--role NAME`)", roles.join(", ")));
        }
        told
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Key(error) => return error.clone().into(),
            ConfigError::Unsigned { .. } => Exit::Verification,
            ConfigError::Text { .. } => Exit::Validation,
        };
        Self::new(exit, error.code(), error.to_string())
    }
}

const PERMISSIONS: &str = "see `cim-keys user create --help` for what can be set";
/// The code of what a registry says that asks for a schema which is not known here.
pub(crate) const NEWER: &str = "newer-schema";
pub(crate) const UPGRADE: &str = "upgrade cim-keys";
const IDENTITY: &str = "give the file that was made with the registry: --identity FILE or CIM_KEYS_IDENTITY";

fn judge(error: &KeyError) -> (Exit, Option<&'static str>) {
    match error {
        KeyError::Rejected(error) => rejection(error),
        KeyError::Store(error) => store(error),
        KeyError::Vault(error) => vault(error),
        KeyError::Keyring(error) => keyring(error),
        KeyError::Entropy(error) => entropy(error),
        KeyError::File(error) => file(error),
        KeyError::Complete(_) | KeyError::Creds(_) => (Exit::Verification, None),
        KeyError::Founded { .. } => (
            Exit::Conflict,
            Some("take another name (--registry NAME) or folder (--data DIR) for another registry"),
        ),
        KeyError::Bundle(error) => bundle(error),
        // Of a newer version, as far as it says.
        KeyError::Verify(error) if error.code() == "event-schema" => (Exit::Conflict, Some(UPGRADE)),
        KeyError::Verify(_) => (
            Exit::Verification,
            Some("nothing of it can be trusted: have it made again, and brought here on a safe way"),
        ),
        KeyError::BundleRegistry { .. } => {
            (Exit::Conflict, Some("name the registry it belongs to: --registry NAME or --data DIR"))
        }
        KeyError::NotFounding { .. } => (
            Exit::NotFound,
            Some("take in the bundle that founds it first, or name its store: --registry NAME or --data DIR"),
        ),
        KeyError::Refused { refusal, .. } if refusal.code() == NEWER => (Exit::Conflict, Some(UPGRADE)),
        KeyError::Refused { .. } => (Exit::Conflict, Some("have it made anew on what this registry has now")),
        KeyError::NothingPending => (Exit::NotFound, Some("`cim-keys log` shows what is on the stream")),
        KeyError::NotHeld { state: State::Pending, .. } => (
            Exit::NotFound,
            Some(
                "what is pending is not taken back: `cim-keys sync` publishes it, then revoke or change what it made",
            ),
        ),
        KeyError::NoCommand { .. } | KeyError::NotHeld { .. } => {
            (Exit::NotFound, Some("`cim-keys held list` names what is held"))
        }
        KeyError::HeldImported { .. } | KeyError::UsedUp { .. } => {
            (Exit::Conflict, Some("give it up (`cim-keys held drop ID`) and make what is still wanted anew"))
        }
        KeyError::CredsOut { .. } => (
            Exit::Conflict,
            Some(
                "make that user known and revoke it: `cim-keys user create NAME --account A --key U…`, `cim-keys user revoke`; then drop the command",
            ),
        ),
        KeyError::IdTaken { .. } => (Exit::Conflict, Some("a command id is one promise: take a new one")),
        KeyError::Unknown { .. } => {
            (Exit::NotFound, Some("`cim-keys list accounts` and `cim-keys list users` show what there is"))
        }
        KeyError::ForeignKey { .. } => (
            Exit::NotFound,
            Some(
                "nothing was kept: `cim-keys list keys` shows what it knows; name another registry with --registry NAME",
            ),
        ),
        KeyError::NoSigningKey { role: Some(_), .. } => (
            Exit::NotFound,
            Some("make one: `cim-keys key generate --owner ACCOUNT --role NAME --allow-pub …`"),
        ),
        KeyError::NoSigningKey { role: None, .. } => {
            (Exit::NotFound, Some("name a role, or make a key: `cim-keys key generate --owner ACCOUNT`"))
        }
        KeyError::NoUserSeed { .. } => {
            (Exit::Permission, Some("only users made with --keep get creds again: create a new user instead"))
        }
        KeyError::NotHandedOut { .. } => {
            (Exit::Conflict, Some("write them first: `cim-keys user creds NAME --account A --out FILE`"))
        }
        KeyError::Contended { .. } => (Exit::Conflict, Some("try again when other processes are done")),
        // No verb has to do with a service's events.
        KeyError::Event(_) => (Exit::Usage, None),
        KeyError::EventIdTaken { .. } | KeyError::NotPublished { .. } | KeyError::OutboxOf { .. } => {
            (Exit::Conflict, None)
        }
        KeyError::NoEvent { .. } => (Exit::NotFound, None),
        KeyError::Internal { .. } => {
            (Exit::Unexpected, Some("this is a fault of cim-keys: please report it with the command"))
        }
    }
}

fn bundle(error: &BundleError) -> (Exit, Option<&'static str>) {
    match error {
        BundleError::NotABundle => (Exit::Validation, Some("`cim-keys bundle export` writes one")),
        BundleError::Newer { .. } => (Exit::Conflict, Some(UPGRADE)),
        BundleError::Checksum => {
            (Exit::Verification, Some("fetch the file again: bytes of it were lost or changed on the way"))
        }
        BundleError::Line { .. }
        | BundleError::Empty
        | BundleError::FoundingNotFirst { .. }
        | BundleError::Root { .. }
        | BundleError::Twice { .. } => {
            (Exit::Verification, Some("whoever wrote it made a mistake: have it written again"))
        }
    }
}

fn rejection(error: &Rejection) -> (Exit, Option<&'static str>) {
    match error {
        Rejection::Violation(violation) => self::violation(violation),
        Rejection::Claims(_) => (Exit::Validation, Some(PERMISSIONS)),
        Rejection::ScopedUser { .. } => (
            Exit::Conflict,
            Some("permissions of a role are set with its key; create a user without a role for its own"),
        ),
        Rejection::ScopedAuthority { .. } => (Exit::Conflict, None),
        Rejection::NoRights { .. } => (Exit::Validation, Some(PERMISSIONS)),
        Rejection::OperatorIdentity { .. } | Rejection::AccountIdentity { .. } => (Exit::Conflict, None),
        Rejection::Owner { .. } => (Exit::Conflict, Some("name the owner that `cim-keys show KEY` shows")),
        Rejection::RoleOwner => (Exit::Validation, Some("give --owner ACCOUNT")),
        Rejection::Expired { .. } => (Exit::Validation, Some("give --expiry a time to come, such as 30d")),
        Rejection::NewerSchema { .. } | Rejection::UnknownSchema { .. } => (Exit::Conflict, Some(UPGRADE)),
        Rejection::Size(_) => {
            (Exit::Validation, Some("make it smaller: fewer or shorter permissions, tags and names"))
        }
        Rejection::Missing(_) | Rejection::Keys { .. } => {
            (Exit::Unexpected, Some("this is a fault of cim-keys: please report it with the command"))
        }
    }
}

fn violation(violation: &Violation) -> (Exit, Option<&'static str>) {
    match violation {
        Violation::NameTaken { .. } => (Exit::Conflict, Some("take another name, or revoke who has it")),
        Violation::KeyTaken { .. } => (Exit::Conflict, Some("make a new key")),
        Violation::KeyRevoked { .. } | Violation::AlreadyRevoked { .. } => (Exit::Conflict, None),
        Violation::Voided { .. } => {
            (Exit::Conflict, Some("make what is still wanted anew: it gets an id of its own"))
        }
        Violation::Admitted { .. } => {
            (Exit::Conflict, Some("it is on the stream: revoke or change what it made"))
        }
        Violation::AlreadyFounded | Violation::CommandKnown { .. } | Violation::NotNewest { .. } => {
            (Exit::Conflict, None)
        }
        Violation::NotHigher { .. } => (Exit::Conflict, Some("`cim-keys schema show` says which it is")),
        Violation::Schema { .. } | Violation::NotAlone => (Exit::Validation, None),
        Violation::NotFounded => (Exit::NotFound, Some("found a registry first: `cim-keys init`")),
        Violation::Unknown { .. } => {
            (Exit::NotFound, Some("`cim-keys list accounts` and `cim-keys list users` show what there is"))
        }
        Violation::Authority { .. } | Violation::NotListed { .. } | Violation::Scope { .. } => {
            (Exit::Permission, None)
        }
        Violation::NoName | Violation::Label | Violation::OwnerKind { .. } | Violation::Claims(_) => {
            (Exit::Validation, None)
        }
        Violation::Token { .. } | Violation::NoToken | Violation::Unexplained { .. } => {
            (Exit::Validation, None)
        }
        Violation::ClockAhead { .. } => (Exit::Validation, Some("set this machine's clock right, or wait")),
        Violation::Incomplete | Violation::ForeignRegistry { .. } | Violation::EventId { .. } => {
            (Exit::Validation, None)
        }
    }
}

fn store(error: &StoreError) -> (Exit, Option<&'static str>) {
    match error {
        StoreError::Missing { .. } | StoreError::NotFounded { .. } => (
            Exit::NotFound,
            Some("found one with `cim-keys init`, or name another: --registry NAME or --data DIR"),
        ),
        StoreError::Empty { .. } => (
            Exit::NotFound,
            Some(
                "where there was one, restore the data folder from a copy; where its making was ended, repeat that (`cim-keys init`)",
            ),
        ),
        StoreError::NoFile { .. } | StoreError::Foreign { .. } => {
            (Exit::Conflict, Some("name another folder: --data DIR"))
        }
        StoreError::Older { .. } => (
            Exit::Conflict,
            Some(
                "it was made before the first release: use the cim-keys that made it, or found it anew in another folder",
            ),
        ),
        StoreError::Newer { .. } | StoreError::NewerProjection { .. } => (Exit::Conflict, Some(UPGRADE)),
        StoreError::Overtaken { .. } => {
            (Exit::Conflict, Some("nothing was changed: try again when the other process is done"))
        }
        StoreError::Damaged { .. } => (Exit::Verification, Some("restore the data folder from a copy")),
        StoreError::Busy { .. } => (Exit::Conflict, Some("wait until the other process is done")),
        StoreError::Full { .. } => (Exit::Unexpected, Some("make room on the disk")),
        StoreError::Sqlite { .. } => {
            (Exit::Unexpected, Some("check the disk and the permissions of the data folder"))
        }
        StoreError::File(error) => file(error),
    }
}

fn vault(error: &VaultError) -> (Exit, Option<&'static str>) {
    match error {
        VaultError::NoIdentity { .. } | VaultError::OtherIdentity { .. } => {
            (Exit::Permission, Some(IDENTITY))
        }
        VaultError::Identity { .. } => (Exit::Validation, Some(IDENTITY)),
        VaultError::File(error) => file(error),
        VaultError::Recipient { .. } => (Exit::Validation, Some("`age-keygen` makes one")),
        VaultError::Seal { .. } => (Exit::Unexpected, None),
        VaultError::Damaged { .. } => (Exit::Verification, Some("restore the data folder from a copy")),
    }
}

fn keyring(error: &KeyringError) -> (Exit, Option<&'static str>) {
    match error {
        KeyringError::Missing { key } if key.kind() == Kind::Operator => (
            Exit::Permission,
            Some(
                "do it on the host that keeps the operator's keys, or bring its seed here (`cim-keys key import`): no key of an account does it",
            ),
        ),
        KeyringError::Missing { .. } => (
            Exit::Permission,
            Some(
                "do it on the host that keeps this key, bring its seed here (`cim-keys key import`); where it has no key of its own that the account lists, make one (`cim-keys key generate account --own`)",
            ),
        ),
        KeyringError::Vault(error) => vault(error),
        KeyringError::Store(error) => store(error),
        KeyringError::Sign(_) => (Exit::Validation, None),
    }
}

fn entropy(error: &EntropyError) -> (Exit, Option<&'static str>) {
    match error {
        EntropyError::Source { .. } | EntropyError::Short { .. } => {
            (Exit::Unexpected, Some("no key was made: repair the system's random source"))
        }
        EntropyError::Pattern { .. } | EntropyError::Repeated => {
            (Exit::Verification, Some("no key was made: repair the system's random source"))
        }
    }
}

fn file(error: &FileError) -> (Exit, Option<&'static str>) {
    match error {
        FileError::Exists { .. } => {
            (Exit::Conflict, Some("nothing is overwritten: name another file, or move that one away"))
        }
        FileError::Missing { .. } => (Exit::NotFound, None),
        FileError::Folder { .. } => (Exit::NotFound, Some("make the folder first")),
        FileError::Open { .. } => (Exit::Permission, Some("close it to others: `chmod 600 FILE`")),
        FileError::Content { .. } => (Exit::Validation, None),
        FileError::Large { .. } => (Exit::Validation, Some("is it the right file?")),
        FileError::Denied { .. } => (Exit::Permission, None),
        FileError::Io { .. } => (Exit::Unexpected, None),
    }
}
