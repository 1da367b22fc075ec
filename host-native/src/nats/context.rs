//! natscli contexts: read where a person keeps them, written beside each creds file.

use crate::files::{self, FileError};
use cim_keys_core::secret::SecretText;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroize as _;

/// What was typed, or what the environment or a context says: one layer of a target.
#[derive(Default)]
pub struct Layer {
    /// Server addresses, comma separated.
    pub server: Option<String>,
    /// Creds file.
    pub creds: Option<PathBuf>,
    /// File with a user's seed.
    pub nkey: Option<PathBuf>,
    /// User token and seed in clear: from the environment or a context alone.
    pub jwt: Option<(String, SecretText)>,
    /// User and password.
    pub user: Option<(String, SecretText)>,
    /// Token.
    pub token: Option<SecretText>,
    /// Certificate authority.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Prefix of the JetStream API.
    pub api_prefix: Option<String>,
    /// Prefix of inboxes.
    pub inbox_prefix: Option<String>,
    /// Whether TLS comes first.
    pub tls_first: bool,
    /// How long one answer may take, as natscli writes it: `500ms`, `5s`, `1m`.
    pub timeout: Option<String>,
}

/// What natscli and this project read of a context beside a creds file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Context {
    /// What it is for.
    pub description: String,
    /// Server addresses, comma separated.
    pub url: String,
    /// Path of the creds file.
    pub creds: PathBuf,
    /// Inbox prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inbox_prefix: String,
    /// Prefix of the JetStream API.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jetstream_api_prefix: String,
}

impl Context {
    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        // A struct of strings always serializes.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    url: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    creds: String,
    #[serde(default)]
    nkey: String,
    #[serde(default)]
    cert: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    ca: String,
    #[serde(default)]
    jetstream_domain: String,
    #[serde(default)]
    jetstream_api_prefix: String,
    #[serde(default)]
    inbox_prefix: String,
    #[serde(default)]
    user_jwt: String,
    #[serde(default)]
    user_seed: String,
    #[serde(default)]
    tls_first: bool,
    #[serde(default)]
    nsc: String,
}

/// The context of this name in `<config>/nats/context`, or the file that `name` is a path of.
///
/// # Errors
/// See [`ContextError`].
pub fn read(name: &str, config: Option<&Path>) -> Result<Layer, ContextError> {
    let path = if name.ends_with(".json") || name.contains(std::path::MAIN_SEPARATOR) {
        PathBuf::from(name)
    } else {
        let config = config.ok_or_else(|| ContextError::NoHome { name: name.to_owned() })?;
        config.join("nats").join("context").join(format!("{name}.json"))
    };
    let text =
        files::read_text(&path).map_err(|error| ContextError::Unknown { name: name.to_owned(), error })?;
    let text = text.expose();
    let shown = || path.display().to_string();
    let not_json = || ContextError::Json { path: shown() };
    // A list of values would be taken for the members in their order.
    if !text.trim_start().starts_with('{') {
        return Err(not_json());
    }
    let file: File = serde_json::from_str(text).map_err(|_| not_json())?;
    file.layer(shown)
}

/// The context that natscli has selected.
///
/// # Errors
/// See [`ContextError`].
pub fn read_selected(config: &Path) -> Result<Option<Layer>, ContextError> {
    let Ok(name) = files::read_text(&config.join("nats").join("context.txt")) else { return Ok(None) };
    match name.expose().trim() {
        "" => Ok(None),
        name => read(name, Some(config)).map(Some),
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for secret in [&mut self.password, &mut self.token, &mut self.user_seed] {
            secret.zeroize();
        }
    }
}

impl File {
    fn layer(self, path: impl Fn() -> String) -> Result<Layer, ContextError> {
        if !self.nsc.is_empty() {
            return Err(ContextError::Reference { path: path(), member: "nsc", scheme: "nsc" });
        }
        let file = |member, text: &str| -> Result<Option<PathBuf>, ContextError> {
            for scheme in ["env", "data", "nsc", "op"] {
                if text
                    .strip_prefix(scheme)
                    .is_some_and(|rest| rest.starts_with("://") || rest.starts_with(':'))
                {
                    return Err(ContextError::Reference { path: path(), member, scheme });
                }
            }
            Ok((!text.is_empty()).then(|| home(text)))
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let secret = |text: &str| (!text.is_empty()).then(|| SecretText::new(text.to_owned()));
        let domain =
            (!self.jetstream_domain.is_empty()).then(|| format!("$JS.{}.API", self.jetstream_domain));
        Ok(Layer {
            server: text(&self.url),
            creds: file("creds", &self.creds)?,
            nkey: file("nkey", &self.nkey)?,
            jwt: text(&self.user_jwt).zip(secret(&self.user_seed)),
            user: text(&self.user).map(|user| (user, SecretText::new(self.password.clone()))),
            token: secret(&self.token),
            ca: file("ca", &self.ca)?,
            cert: file("cert", &self.cert)?,
            key: file("key", &self.key)?,
            api_prefix: text(&self.jetstream_api_prefix).or(domain),
            inbox_prefix: text(&self.inbox_prefix),
            tls_first: self.tls_first,
            timeout: None,
        })
    }
}

fn home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// Why a context cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Its file cannot be read.
    #[error("context {name:?} cannot be used: {error}; `nats context ls` lists them")]
    Unknown {
        /// Its name.
        name: String,
        /// Why not.
        error: FileError,
    },
    /// Without a home folder a name says nothing.
    #[error("context {name:?}: there is no home folder to look in; name the context's file")]
    NoHome {
        /// Its name.
        name: String,
    },
    /// Not a context.
    #[error("{path} is no natscli context: a JSON object is needed")]
    Json {
        /// The file.
        path: String,
    },
    /// A reference that this program does not follow.
    #[error(
        "{path}: `{member}` is a reference of the kind {scheme}: which this program does not follow; name a file"
    )]
    Reference {
        /// The file.
        path: String,
        /// The member.
        member: &'static str,
        /// Its kind.
        scheme: &'static str,
    },
}

impl ContextError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::NoHome { .. } => "context-unknown",
            Self::Json { .. } => "context-json",
            Self::Reference { .. } => "context-reference",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.json");
        let written = Context {
            description: "cim-keys host".into(),
            url: "nats://127.0.0.1:4222".into(),
            creds: folder.path().join("host.creds"),
            inbox_prefix: "_INBOX_UX".into(),
            jetstream_api_prefix: "CIMKEYS.API".into(),
        };
        std::fs::write(&path, written.text()).unwrap();
        let layer = read(path.to_str().unwrap(), None).unwrap();
        assert_eq!(layer.creds, Some(written.creds));
        assert_eq!(layer.server, Some(written.url));
        assert_eq!(
            (layer.inbox_prefix, layer.api_prefix),
            (Some(written.inbox_prefix), Some(written.jetstream_api_prefix))
        );
    }

    #[test]
    fn references_and_nonsense_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(path.to_str().unwrap(), None).map(|_| ()).unwrap_err()
        };
        let creds = refused(r#"{"url":"nats://a","creds":"env://CREDS"}"#);
        assert!(matches!(creds, ContextError::Reference { member: "creds", scheme: "env", .. }));
        assert!(matches!(
            refused(r#"{"nkey":"data:;base64,eA=="}"#),
            ContextError::Reference { member: "nkey", .. }
        ));
        assert_eq!(refused("[]").code(), "context-json");
        assert_eq!(read("nobody", Some(folder.path())).map(|_| ()).unwrap_err().code(), "context-unknown");
        assert_eq!(read("nobody", None).map(|_| ()).unwrap_err().code(), "context-unknown");
    }
}
