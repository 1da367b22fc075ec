//! Where a server is and how to get in: flags win over environment, environment over a natscli context.

pub use super::context::Layer;
use super::context::{self, ContextError};
use super::link::ANSWER;
use crate::files::{self, FileError};
use cim_keys_core::creds;
use cim_keys_core::jwt::Token;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::roles::{self, PipelineRole};
use cim_keys_core::secret::SecretText;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where a server is and how to get in.
#[derive(Clone)]
pub struct Target {
    /// Server addresses; the first that answers counts.
    pub urls: Vec<String>,
    /// How to get in.
    pub access: Arc<Access>,
    /// Prefix of the JetStream API.
    pub api_prefix: String,
    /// Prefix of inboxes; none for the client's own.
    pub inbox_prefix: Option<String>,
    /// Certificate authority, PEM.
    pub ca: Option<PathBuf>,
    /// Client certificate and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether TLS comes before the server's first word.
    pub tls_first: bool,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The file that the creds came from, to be read again when it changes.
    pub file: Option<PathBuf>,
}

/// How to get in. Wiped on drop.
pub enum Access {
    /// No creds.
    Open,
    /// A user's token, its key signing the server's nonce.
    Creds {
        /// The token.
        token: Token,
        /// The key.
        key: KeyPair,
    },
    /// A user's key alone.
    Nkey(KeyPair),
    /// User and password.
    User {
        /// User.
        user: String,
        /// Password.
        password: SecretText,
    },
    /// A token.
    Token(SecretText),
}

impl Target {
    /// A server without creds.
    #[must_use]
    pub fn open(url: &str) -> Self {
        Self {
            urls: vec![url.to_owned()],
            access: Arc::new(Access::Open),
            api_prefix: roles::API_PREFIX.to_owned(),
            inbox_prefix: None,
            ca: None,
            certificate: None,
            tls_first: false,
            timeout: ANSWER,
            file: None,
        }
    }

    /// A server and a user of one of the pipeline's roles.
    #[must_use]
    pub fn of_role(url: &str, role: PipelineRole, token: Token, key: KeyPair) -> Self {
        let inbox = roles::inbox(&key.public_key().to_string());
        Self {
            access: Arc::new(Access::Creds { token, key }),
            api_prefix: role.api_prefix().unwrap_or(roles::API_PREFIX).to_owned(),
            inbox_prefix: Some(inbox),
            ..Self::open(url)
        }
    }

    /// Puts flags, environment and a natscli context together; none where nobody names a server.
    ///
    /// `context` is what `--context` says; `environment` looks a variable up; `config` is the folder that has
    /// `nats/context`. The context that natscli has selected counts only where neither a flag nor the environment names
    /// a server.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn resolve(
        flags: Layer,
        context: Option<&str>,
        environment: &dyn Fn(&str) -> Option<String>,
        config: Option<&Path>,
    ) -> Result<Option<Self>, TargetError> {
        let named = context
            .map(str::to_owned)
            .or_else(|| environment("NATS_CONTEXT").filter(|name| !name.is_empty()));
        let environment = from_environment(environment);
        let server_known = flags.server.is_some() || environment.server.is_some();
        let context = match (named, config) {
            (Some(name), config) => context::read(&name, config)?,
            (None, Some(config)) if !server_known => context::read_selected(config)?.unwrap_or_default(),
            (None, _) => Layer::default(),
        };
        Self::overlay([flags, environment, context])
    }

    fn overlay(layers: [Layer; 3]) -> Result<Option<Self>, TargetError> {
        let Some(server) = layers.iter().find_map(|layer| layer.server.clone()) else { return Ok(None) };
        let urls: Vec<String> =
            server.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        if urls.is_empty() {
            return Err(TargetError::Server { found: server });
        }
        if let Some(bad) = urls.iter().find(|url| url.parse::<async_nats::ServerAddr>().is_err()) {
            return Err(TargetError::Server { found: bad.clone() });
        }
        let mut target = Self { urls, ..Self::open("") };
        let pick = |of: fn(&Layer) -> Option<PathBuf>| layers.iter().find_map(of);
        target.ca = pick(|layer| layer.ca.clone());
        target.certificate = match (pick(|layer| layer.cert.clone()), pick(|layer| layer.key.clone())) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(TargetError::HalfCertificate),
        };
        target.tls_first = layers.iter().any(|layer| layer.tls_first);
        target.check_tls()?;
        target.timeout = match layers.iter().find_map(|layer| layer.timeout.as_deref()) {
            Some(text) => duration(text).ok_or_else(|| TargetError::Timeout { found: text.to_owned() })?,
            None => ANSWER,
        };
        let api_prefix = layers.iter().find_map(|layer| layer.api_prefix.clone());
        target.inbox_prefix = layers.iter().find_map(|layer| layer.inbox_prefix.clone());
        for layer in layers {
            let file = layer.creds.clone().or_else(|| layer.nkey.clone());
            if let Some(access) = layer.access()? {
                target.access = Arc::new(access);
                target.file =
                    file.filter(|_| matches!(*target.access, Access::Creds { .. } | Access::Nkey(_)));
                break;
            }
        }
        match api_prefix {
            Some(prefix) => target.api_prefix = subject_prefix(prefix)?,
            // To be replaced by what fits the creds: see `suit`.
            None => target.api_prefix = String::new(),
        }
        if let Some(prefix) = &target.inbox_prefix {
            subject_prefix(prefix.clone())?;
            target.check_inbox(prefix)?;
        }
        Ok(Some(target))
    }

    /// Settles what nobody named, by the account that the creds belong to: an edge user has another API prefix, and each
    /// user of the pipeline's accounts an inbox of its own. `account` looks the name of an account up by its key.
    pub fn suit(&mut self, account: impl Fn(&str) -> Option<String>) {
        let role = match &*self.access {
            Access::Creds { token, key } => {
                let claims = token.claims();
                let owner =
                    claims.body.as_user().and_then(|user| user.issuer_account).unwrap_or(claims.issuer);
                account(&owner.to_string()).map(|name| (name, key.public_key().to_string()))
            }
            _ => None,
        };
        if let Some((name, user)) = role {
            if self.api_prefix.is_empty() && name == roles::EDGE_ACCOUNT {
                self.api_prefix = roles::EDGE_API_PREFIX.to_owned();
            }
            let ours =
                [roles::EDGE_ACCOUNT, roles::KEYS_ACCOUNT, roles::SYSTEM_ACCOUNT].contains(&name.as_str());
            if ours && self.inbox_prefix.is_none() {
                self.inbox_prefix = Some(roles::inbox(&user));
            }
        }
        if self.api_prefix.is_empty() {
            self.api_prefix = roles::API_PREFIX.to_owned();
        }
    }

    /// Whether TLS is a must: whoever names a certificate means it.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        self.tls_first || self.ca.is_some() || self.certificate.is_some()
    }

    /// Whether an inbox that is named after a user is named after the one whose creds these are: no other hears there.
    fn check_inbox(&self, prefix: &str) -> Result<(), TargetError> {
        let named: Option<PublicKey> = prefix.strip_prefix("_INBOX_").and_then(|key| key.parse().ok());
        let named = named.filter(|key| key.kind() == Kind::User);
        match (named, self.user()) {
            (Some(named), Some(user)) if named != user => Err(TargetError::Inbox { named, user }),
            _ => Ok(()),
        }
    }

    /// Whether the files for TLS are there, are what they should be, and are of use for these addresses.
    fn check_tls(&self) -> Result<(), TargetError> {
        let pem = |path: &Path, end: &str, what: &'static str| -> Result<(), TargetError> {
            let text = files::read_text(path)?;
            let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(end);
            let path = path.display().to_string();
            if text.expose().lines().any(begins) { Ok(()) } else { Err(TargetError::Pem { path, what }) }
        };
        const CERTIFICATE: &str = "CERTIFICATE-----";
        if let Some(ca) = &self.ca {
            pem(ca, CERTIFICATE, "certificate")?;
        }
        if let Some((certificate, key)) = &self.certificate {
            pem(certificate, CERTIFICATE, "certificate")?;
            pem(key, "PRIVATE KEY-----", "private key")?;
        }
        // Such an address says that there is no TLS, and the client goes by it.
        match self.urls.iter().find(|url| url.starts_with("ws://")) {
            Some(url) if self.needs_tls() => Err(TargetError::Plain { url: url.clone() }),
            _ => Ok(()),
        }
    }

    /// Whether whoever reaches the server gets in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(*self.access, Access::Open)
    }

    /// The user's public key, where the creds have one.
    #[must_use]
    pub fn user(&self) -> Option<PublicKey> {
        match &*self.access {
            Access::Creds { key, .. } | Access::Nkey(key) => Some(key.public_key()),
            Access::Open | Access::User { .. } | Access::Token(_) => None,
        }
    }

    /// When the creds expire, in Unix seconds; none where they do not, or where nobody can tell.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        match &*self.access {
            Access::Creds { token, .. } => Some(token.claims().expires).filter(|at| *at != 0),
            _ => None,
        }
    }

    /// The addresses as they may be shown: without what stands before an `@`.
    #[must_use]
    pub fn shown(&self) -> String {
        let shown: Vec<String> = self
            .urls
            .iter()
            .map(|url| match (url.split_once("://"), url.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
                (None, Some((_, host))) => host.to_owned(),
                _ => url.clone(),
            })
            .collect();
        shown.join(",")
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({}, {:?})", self.shown(), self.access)
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Creds { .. } => "Creds(redacted)",
            Self::Nkey(_) => "Nkey(redacted)",
            Self::User { .. } => "User(redacted)",
            Self::Token(_) => "Token(redacted)",
        })
    }
}

impl Layer {
    fn access(self) -> Result<Option<Access>, TargetError> {
        if let Some(path) = self.creds {
            let text = files::read_text(&path)?;
            let creds = creds::parse(text.expose()).map_err(|error| TargetError::Creds {
                path: path.display().to_string(),
                reason: error.to_string(),
            })?;
            return Ok(Some(Access::Creds { token: creds.token, key: creds.key }));
        }
        if let Some((jwt, seed)) = self.jwt {
            let wrong = |reason: String| TargetError::Creds { path: "user JWT and seed".into(), reason };
            let token = Token::parse(jwt.trim()).map_err(|error| wrong(error.to_string()))?;
            let key = KeyPair::from_seed(seed.expose()).map_err(|error| wrong(error.to_string()))?;
            if token.claims().subject != key.public_key() {
                return Err(wrong("the seed is not that of the JWT's user".into()));
            }
            return Ok(Some(Access::Creds { token, key }));
        }
        if let Some(path) = self.nkey {
            let text = files::read_text(&path)?;
            let key = KeyPair::from_seed(text.expose()).map_err(|error| TargetError::Creds {
                path: path.display().to_string(),
                reason: error.to_string(),
            })?;
            return Ok(Some(Access::Nkey(key)));
        }
        if let Some((user, password)) = self.user {
            return Ok(Some(Access::User { user, password }));
        }
        Ok(self.token.map(Access::Token))
    }
}

fn from_environment(look: &dyn Fn(&str) -> Option<String>) -> Layer {
    let value = |name: &str| look(name).filter(|value| !value.is_empty());
    let path = |name: &str| value(name).map(PathBuf::from);
    let secret = |name: &str| value(name).map(SecretText::new);
    Layer {
        server: value("NATS_URL"),
        creds: path("NATS_CREDS"),
        nkey: path("NATS_NKEY"),
        jwt: value("NATS_JWT").zip(secret("NATS_SEED")),
        user: value("NATS_USER").zip(secret("NATS_PASSWORD")),
        token: secret("NATS_TOKEN"),
        ca: path("NATS_CA"),
        cert: path("NATS_CERT"),
        key: path("NATS_KEY"),
        timeout: value("NATS_TIMEOUT"),
        ..Layer::default()
    }
}

/// A time of 1 ms to 10 min as natscli writes it: a whole number and `ms`, `s` or `m`.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=600_000).contains(&millis).then(|| Duration::from_millis(millis))
}

fn subject_prefix(prefix: String) -> Result<String, TargetError> {
    let token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '*' | '>'))
    };
    if prefix.split('.').all(token) { Ok(prefix) } else { Err(TargetError::Prefix { found: prefix }) }
}

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No address.
    #[error("{found:?} is no server address such as nats://127.0.0.1:4222")]
    Server {
        /// What was given.
        found: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is no creds or no seed.
    #[error("{path}: {reason}")]
    Creds {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("a client certificate needs both --tlscert and --tlskey")]
    HalfCertificate,
    /// A file has not what TLS needs.
    #[error("{path} has no {what} in PEM")]
    Pem {
        /// The file.
        path: String,
        /// What it should have.
        what: &'static str,
    },
    /// An address without TLS, where TLS is a must.
    #[error("{url} is an address without TLS, and TLS is asked for: take wss://")]
    Plain {
        /// The address.
        url: String,
    },
    /// No subject prefix.
    #[error("{found:?} is no subject prefix: tokens separated by dots, without wildcards")]
    Prefix {
        /// What was given.
        found: String,
    },
    /// The inbox is another user's.
    #[error(
        "the inbox prefix is that of the user {named}, and the creds are of the user {user}: context and creds do not belong together"
    )]
    Inbox {
        /// Whose inbox it is.
        named: PublicKey,
        /// Whose creds they are.
        user: PublicKey,
    },
    /// No time.
    #[error("{found:?} is no time-out: write 500ms, 5s or 1m, at most 10m")]
    Timeout {
        /// What was given.
        found: String,
    },
    /// See [`ContextError`].
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl TargetError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Server { .. } => "server-address",
            Self::File(error) => error.code(),
            Self::Creds { .. } => "creds",
            Self::HalfCertificate => "half-certificate",
            Self::Pem { .. } => "pem",
            Self::Plain { .. } => "no-tls",
            Self::Prefix { .. } => "prefix",
            Self::Inbox { .. } => "inbox",
            Self::Timeout { .. } => "timeout",
            Self::Context(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        flags: Layer,
        environment: &[(&str, &str)],
        config: Option<&Path>,
    ) -> Result<Option<Target>, TargetError> {
        let look = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Target::resolve(flags, None, &look, config)
    }

    #[test]
    fn flags_win_over_environment_over_context() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = folder.path().join("nats/context");
        std::fs::create_dir_all(&contexts).unwrap();
        std::fs::write(folder.path().join("nats/context.txt"), "dev\n").unwrap();
        std::fs::write(
            contexts.join("dev.json"),
            r#"{"url":"nats://c:1","user":"u","password":"p","inbox_prefix":"_IN","jetstream_domain":"hub"}"#,
        )
        .unwrap();
        let config = Some(folder.path());
        assert!(resolve(Layer::default(), &[], None).unwrap().is_none());
        let target = resolve(Layer::default(), &[], config).unwrap().unwrap();
        assert_eq!((target.shown().as_str(), target.api_prefix.as_str()), ("nats://c:1", "$JS.hub.API"));
        assert!(matches!(*target.access, Access::User { .. }));
        let target = resolve(Layer::default(), &[("NATS_URL", "nats://e:1")], config).unwrap().unwrap();
        assert_eq!(target.shown(), "nats://e:1");
        assert!(target.is_open(), "a selected context does not give its password to another server");
        let target =
            resolve(Layer::default(), &[("NATS_URL", "nats://e:1"), ("NATS_CONTEXT", "dev")], config)
                .unwrap()
                .unwrap();
        assert_eq!(target.shown(), "nats://e:1");
        assert!(matches!(*target.access, Access::User { .. }));
        let flags = Layer { server: Some("nats://f:1, nats://g:2".into()), ..Layer::default() };
        let target =
            resolve(flags, &[("NATS_URL", "nats://e:1"), ("NATS_TOKEN", "t")], config).unwrap().unwrap();
        assert_eq!(target.urls, ["nats://f:1", "nats://g:2"]);
        assert!(matches!(*target.access, Access::Token(_)));
        assert!(!format!("{target:?}").contains('t') || format!("{target:?}").contains("redacted"));
    }

    #[test]
    fn what_is_no_address_prefix_or_certificate_is_refused() {
        let with = |change: fn(&mut Layer)| {
            let mut layer = Layer { server: Some("nats://a:1".into()), ..Layer::default() };
            change(&mut layer);
            resolve(layer, &[], None).map(|_| ()).unwrap_err().code()
        };
        assert_eq!(with(|l| l.server = Some("nats://a:b:c".into())), "server-address");
        assert_eq!(with(|l| l.server = Some(" , ".into())), "server-address");
        assert_eq!(with(|l| l.cert = Some("x".into())), "half-certificate");
        assert_eq!(with(|l| l.api_prefix = Some("A..B".into())), "prefix");
        assert_eq!(with(|l| l.inbox_prefix = Some("_IN.>".into())), "prefix");
        assert_eq!(with(|l| l.creds = Some("/nowhere/x.creds".into())), "file-missing");
        for wrong in ["5", "s", "0s", "-1s", "1.5s", "11m", "5 s"] {
            let layer =
                Layer { server: Some("nats://a:1".into()), timeout: Some(wrong.into()), ..Layer::default() };
            assert_eq!(resolve(layer, &[], None).unwrap_err().code(), "timeout", "{wrong}");
        }
    }

    #[test]
    fn answers_may_be_given_less_time() {
        let timeout = |text| {
            let server = [("NATS_URL", "nats://a:1"), ("NATS_TIMEOUT", text)];
            resolve(Layer::default(), &server, None).unwrap().unwrap().timeout
        };
        assert_eq!(timeout(""), ANSWER);
        assert_eq!(timeout("300ms"), Duration::from_millis(300));
        assert_eq!(timeout("2m"), Duration::from_secs(120));
    }

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        assert_eq!(Target::open("nats://user:secret@host:4222").shown(), "nats://host:4222");
    }
}
