//! A server's configuration, made from the registry: operator mode, resolver, JetStream.

use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::registry::Entity;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a person decides about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its name; none leaves it to the server.
    pub name: Option<String>,
    /// Where clients connect: host and port; -1 is a free port.
    pub listen: (String, i32),
    /// Where browsers connect, without TLS: host and port.
    pub websocket: Option<(String, i32)>,
    /// Origins of pages that may connect to the websocket, such as `http://127.0.0.1:8080`; empty lets all of them. Clients that are
    /// no browsers name no origin and are always let in.
    pub websocket_origins: Vec<String>,
    /// Where monitoring listens: host and port.
    pub monitoring: Option<(String, i32)>,
    /// Where JetStream keeps its streams.
    pub store: PathBuf,
    /// How it learns accounts.
    pub resolver: Resolver,
    /// Where it writes which ports it took.
    pub ports: Option<PathBuf>,
    /// Where it writes its process number.
    pub pid: Option<PathBuf>,
}

/// How a server learns accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// By `push`, kept in this folder; the configuration has those known now.
    Full {
        /// The folder.
        dir: PathBuf,
    },
    /// From the configuration alone: each change needs a new configuration and a reload.
    Memory,
}

/// The configuration's text. Tokens in it are public; no seed is. Accounts are in it as they are now, confirmed on the
/// stream or not: a new server must know those that publish.
///
/// # Errors
/// The store cannot be read, or a path cannot be written into a configuration.
pub fn text(store: &Store, options: &Options) -> Result<String, ConfigError> {
    store.registry_id().map_err(KeyError::from)?;
    let operators = store.operators().map_err(KeyError::from)?;
    let accounts = store.accounts().map_err(KeyError::from)?;
    let operator = operators.first().ok_or(ConfigError::Unsigned { what: "operator" })?;
    let system = operator.entity.token().and_then(|token| token.claims().body.as_operator()?.system_account);
    let system = system.ok_or(ConfigError::Unsigned { what: "system account" })?;
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line("# Made by cim-keys. Tokens are public, nothing here is secret.".to_owned());
    if let Some(name) = &options.name {
        line(format!("server_name: {}", quoted(name)?));
    }
    line(format!("listen: {}", address(&options.listen)?));
    if let Some(monitoring) = &options.monitoring {
        line(format!("http: {}", address(monitoring)?));
    }
    // A client says who it is in one line, its token within: as long as the longest that an event can carry. The server's
    // own limit of 4 KB turns users with about a hundred subjects away.
    line("max_control_line: 1MB".to_owned());
    if let Some(ports) = &options.ports {
        line(format!("ports_file_dir: {}", quoted_path(ports)?));
    }
    if let Some(pid) = &options.pid {
        line(format!("pid_file: {}", quoted_path(pid)?));
    }
    if let Some((host, port)) = &options.websocket {
        let origins = options.websocket_origins.iter().map(|origin| quoted(origin));
        let origins = match origins.collect::<Result<Vec<_>, _>>()?.join(", ") {
            none if none.is_empty() => none,
            some => format!("  allowed_origins: [{some}]\n"),
        };
        line(format!("websocket {{\n  host: {}\n  port: {port}\n  no_tls: true\n{origins}}}", quoted(host)?));
    }
    line(String::new());
    line("# An acknowledgement is an fsync.".to_owned());
    let store_dir = quoted_path(&options.store)?;
    // Named, because what the server would take by itself depends on the free space, and the account reserves its part.
    line(format!(
        "jetstream {{\n  store_dir: {store_dir}\n  sync_interval: always\n  max_memory_store: 256MB\n  max_file_store: 16GB\n}}"
    ));
    line(String::new());
    line(format!("# Operator {}", comment(operator.entity.name())));
    line(format!("operator: {}", token(operator)?));
    line(format!("system_account: {system}"));
    match &options.resolver {
        Resolver::Full { dir } => {
            let dir = quoted_path(dir)?;
            line(format!(
                "resolver {{\n  type: full\n  dir: {dir}\n  allow_delete: false\n  interval: \"2m\"\n}}"
            ));
        }
        Resolver::Memory => line("resolver: MEMORY".to_owned()),
    }
    line("resolver_preload {".to_owned());
    let mut known: Vec<&Listed> = accounts.iter().collect();
    known.sort_by_key(|listed| listed.entity.key());
    for account in known {
        line(format!("  # {}", comment(account.entity.name())));
        line(format!("  {}: {}", account.entity.key(), token(account)?));
    }
    line("}".to_owned());
    Ok(out)
}

fn token(listed: &Listed) -> Result<String, ConfigError> {
    let what = match listed.entity {
        Entity::Operator(_) => "operator",
        _ => "account",
    };
    listed.entity.token().and_then(|token| token.text()).ok_or(ConfigError::Unsigned { what })
}

/// Names are somebody's text: in a comment only what can never end it.
fn comment(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || " ._-".contains(c) { c } else { '?' }).collect()
}

fn address((host, port): &(String, i32)) -> Result<String, ConfigError> {
    quoted(&format!("{host}:{port}"))
}

fn quoted_path(path: &Path) -> Result<String, ConfigError> {
    quoted(path.to_str().ok_or_else(|| ConfigError::Text { found: path.display().to_string() })?)
}

fn quoted(text: &str) -> Result<String, ConfigError> {
    if text.chars().any(|c| c.is_control()) {
        return Err(ConfigError::Text { found: text.escape_debug().collect() });
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Something has no signed token.
    #[error("the registry has no signed {what}")]
    Unsigned {
        /// What.
        what: &'static str,
    },
    /// A text that a configuration cannot carry.
    #[error("{found:?} cannot be written into a configuration: it has control characters or is no text")]
    Text {
        /// The text, escaped.
        found: String,
    },
    /// The store.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ConfigError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned { .. } => "unsigned",
            Self::Text { .. } => "config-text",
            Self::Key(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_place() {
        assert_eq!(quoted("a\"b\\c").unwrap(), r#""a\"b\\c""#);
        assert!(quoted("a\nport: 1").is_err());
        assert_eq!(comment("x\n}\nport: 1 é"), "x???port? 1 ?");
    }
}
