//! Flags that every verb has, and where things are.

use super::exit::CliError;
use super::output::{Format, Output};
use crate::ambient::Ambient;
use crate::host::Host;
use crate::store::{Store, StoreError};
use crate::vault::Vault;
use cim_keys_core::context::{Actor, ActorError};
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Flags that every verb has.
#[derive(Clone, Debug, clap::Args)]
pub struct Globals {
    /// Name of the registry
    #[arg(
        long,
        global = true,
        env = "CIM_KEYS_REGISTRY",
        value_name = "NAME",
        default_value = "default",
        help_heading = "Global options"
    )]
    registry: RegistryName,
    /// Data folder of the registry, instead of the one that its name gives
    #[arg(long, global = true, env = "CIM_KEYS_DATA", value_name = "DIR", help_heading = "Global options")]
    data: Option<PathBuf>,
    /// File with the age identity that opens kept seeds (mode 0600)
    #[arg(
        long,
        global = true,
        env = "CIM_KEYS_IDENTITY",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    identity: Option<PathBuf>,
    /// How to write what comes out
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    output: Format,
    /// Who wants it; stands in every event, for ever
    #[arg(long, global = true, env = "CIM_KEYS_ACTOR", value_name = "NAME", help_heading = "Global options")]
    actor: Option<Named>,
    /// Whether talk is a log.
    #[arg(skip)]
    logs: bool,
}

/// What was typed for an actor. A seed that was pasted in the wrong place must not be repeated, and clap repeats whatever
/// it refuses: so it is refused later.
#[derive(Clone, Debug)]
struct Named(Result<Actor, ActorError>);

impl FromStr for Named {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse()))
    }
}

/// Name of a registry: letters, digits, `.`, `-`, `_`, at most 64, not a dot first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName(String);

impl FromStr for RegistryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.len() <= 64 && crate::files::safe_name(text) == text {
            Ok(Self(text.to_owned()))
        } else {
            Err("a registry's name has 1 to 64 letters, digits, '.', '-' or '_', and no dot first".to_owned())
        }
    }
}

impl Globals {
    /// Where and how to write.
    #[must_use]
    pub fn output(&self) -> Output {
        let output = Output::new(self.output);
        if self.logs { output.logging() } else { output }
    }

    /// The same, for a process that stays and whose talk is a log.
    #[cfg(feature = "nats")]
    #[must_use]
    pub fn logging(&self) -> Self {
        Self { logs: true, ..self.clone() }
    }

    /// The registry's data folder.
    ///
    /// # Errors
    /// No folder is named and there is no home folder.
    pub fn data_dir(&self) -> Result<PathBuf, CliError> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let base = base("XDG_DATA_HOME", ".local/share").ok_or_else(|| CliError::no_home("--data DIR"))?;
        Ok(base.join("cim-keys").join("registries").join(&self.registry.0))
    }

    /// The data folder that was named.
    #[must_use]
    pub fn data_given(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// The identity's file that was named.
    #[must_use]
    pub fn identity_given(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// The registry's store.
    ///
    /// # Errors
    /// See [`data_dir`](Self::data_dir).
    pub fn store_path(&self) -> Result<PathBuf, CliError> {
        Ok(self.data_dir()?.join("store.db"))
    }

    /// The identity's file.
    ///
    /// # Errors
    /// No file is named and there is no home folder.
    pub fn identity_path(&self) -> Result<PathBuf, CliError> {
        if let Some(identity) = &self.identity {
            return Ok(identity.clone());
        }
        // A folder that `up` made has its own.
        if let Some(own) =
            self.data.as_ref().map(|data| data.join("identity.age")).filter(|own| own.is_file())
        {
            return Ok(own);
        }
        let base = base("XDG_CONFIG_HOME", ".config").ok_or_else(|| CliError::no_home("--identity FILE"))?;
        Ok(base.join("cim-keys").join("identity.age"))
    }

    /// Who wants it: `--actor`, else the user's name.
    ///
    /// # Errors
    /// What was given is no actor.
    pub fn actor(&self) -> Result<Actor, CliError> {
        let named =
            || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| env::var(name).ok()?.parse().ok());
        let unknown = || "unknown".parse().unwrap_or_else(|_| unreachable!("a plain word is an actor"));
        match &self.actor {
            Some(Named(Ok(actor))) => Ok(actor.clone()),
            Some(Named(Err(error))) => Err(CliError::usage(error.to_string())
                .hint("give --actor or CIM_KEYS_ACTOR a name, such as ann@example.com")),
            None => Ok(named().unwrap_or_else(unknown)),
        }
    }

    /// The store of a registry that was founded.
    ///
    /// # Errors
    /// There is none.
    pub fn store(&self) -> Result<Store, CliError> {
        let store = Store::open(&self.store_path()?).map_err(crate::error::KeyError::from)?;
        store.registry_id().map_err(crate::error::KeyError::from)?;
        Ok(store)
    }

    /// The store, or none where there is no registry.
    ///
    /// # Errors
    /// There is one, and it cannot be opened.
    pub(crate) fn store_if_any(&self) -> Result<Option<Store>, CliError> {
        // Without a home folder there is none either.
        let Ok(path) = self.store_path() else { return Ok(None) };
        match Store::open(&path) {
            Ok(store) => Ok(store.is_founded().map_err(crate::error::KeyError::from)?.then_some(store)),
            Err(StoreError::Missing { .. } | StoreError::Empty { .. }) => Ok(None),
            Err(error) => Err(crate::error::KeyError::from(error).into()),
        }
    }

    /// A host over the registry.
    ///
    /// # Errors
    /// There is none.
    pub fn host(&self) -> Result<Host, CliError> {
        let store = self.store()?;
        self.host_over(store, Vault::new(&self.identity_path()?))
    }

    /// A host over this store and vault.
    ///
    /// # Errors
    /// See [`actor`](Self::actor).
    pub fn host_over(&self, store: Store, vault: Vault) -> Result<Host, CliError> {
        Ok(Host::new(store, vault, Ambient::system(), self.actor()?))
    }

    /// Flags that name the same registry again, for lines to type next: with a blank before each.
    #[must_use]
    pub fn again(&self) -> String {
        let mut flags = String::new();
        if env::var_os("CIM_KEYS_DATA").is_none()
            && let Some(data) = &self.data
        {
            flags.push_str(&format!(" --data {}", shell_word(data)));
        } else if self.registry.0 != "default" && env::var_os("CIM_KEYS_REGISTRY").is_none() {
            flags.push_str(&format!(" --registry {}", self.registry.0));
        }
        if env::var_os("CIM_KEYS_IDENTITY").is_none()
            && let Some(identity) = &self.identity
        {
            flags.push_str(&format!(" --identity {}", shell_word(identity)));
        }
        flags
    }
}

/// A path as one word of a shell's line.
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// An XDG folder: its variable where it is absolute, else below the home folder.
pub(crate) fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    absolute(variable).or_else(|| home().map(|home| home.join(below_home)))
}
