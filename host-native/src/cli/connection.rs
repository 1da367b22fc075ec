//! Flags of verbs that talk to a server, and where they lead.

use super::exit::CliError;
use super::globals::{Globals, base};
use crate::dev::Options as Up;
use crate::host::Host;
use crate::nats::role;
use crate::nats::target::{Layer, Target};
use std::env;
use std::path::PathBuf;

/// How to reach a server. What is left out is taken from the `NATS_*` variables, then from a natscli context.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Addresses, comma separated (NATS_URL)
    #[arg(long, short = 's', value_name = "URL")]
    server: Option<String>,
    /// natscli context, by name or file (NATS_CONTEXT; else the data folder's own, else the selected one)
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Creds file (NATS_CREDS)
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// File with a user's seed (NATS_NKEY)
    #[arg(long, value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// Certificate authority, PEM (NATS_CA)
    #[arg(long, value_name = "FILE")]
    tlsca: Option<PathBuf>,
    /// Client certificate, PEM (NATS_CERT)
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its key, PEM (NATS_KEY)
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// TLS before the server's first word
    #[arg(long)]
    tlsfirst: bool,
    /// Prefix of the JetStream API; found out from the creds where it is left out
    #[arg(long, value_name = "PREFIX")]
    js_api_prefix: Option<String>,
    /// Prefix of inboxes; found out from the creds where it is left out
    #[arg(long, value_name = "PREFIX")]
    inbox_prefix: Option<String>,
}

impl Connection {
    /// Whether the flags themselves name a server.
    pub(super) fn is_named(&self) -> bool {
        self.server.is_some() || self.context.is_some()
    }

    /// The same with this server, where one is given.
    pub(super) fn at(&self, server: Option<&String>) -> Self {
        Self { server: server.cloned().or_else(|| self.server.clone()), ..self.clone() }
    }

    /// Where it leads; none where nothing names a server.
    pub(super) fn target_if_any(&self, globals: &Globals, host: &Host) -> Result<Option<Target>, CliError> {
        let mut target = self.unsuited(globals)?;
        if let Some(target) = &mut target {
            target.suit(|key| role::account_name(host, key));
        }
        Ok(target)
    }

    /// The same as far as it is known without a registry.
    pub(super) fn unsuited(&self, globals: &Globals) -> Result<Option<Target>, CliError> {
        let flags = Layer {
            server: self.server.clone(),
            creds: self.creds.clone(),
            nkey: self.nkey.clone(),
            ca: self.tlsca.clone(),
            cert: self.tlscert.clone(),
            key: self.tlskey.clone(),
            tls_first: self.tlsfirst,
            api_prefix: self.js_api_prefix.clone(),
            inbox_prefix: self.inbox_prefix.clone(),
            ..Layer::default()
        };
        let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let mut context = self.context.clone();
        let unnamed = self.server.is_none() && given("NATS_URL").is_none() && given("NATS_CONTEXT").is_none();
        if context.is_none() && unnamed {
            // The system that `up` made in this folder is meant before whatever else a person has selected.
            let own = Up::contexts(&globals.data_dir()?).join("host.json");
            context = own.is_file().then(|| own.display().to_string());
        }
        let config = base("XDG_CONFIG_HOME", ".config");
        Ok(Target::resolve(flags, context.as_deref(), &given, config.as_deref())?)
    }

    /// Where it leads.
    pub(super) fn target(&self, globals: &Globals, host: &Host) -> Result<Target, CliError> {
        self.target_if_any(globals, host)?.ok_or_else(unnamed)
    }
}

pub(super) fn unnamed() -> CliError {
    CliError::usage("no server is named")
        .hint("give --server URL, set NATS_URL, or name a natscli context with --context")
        .hint("everything but sync, push and clone works without a server")
}

/// Runs something that waits, on a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| CliError::unexpected(&error))?.block_on(future))
}

/// Waits for Ctrl-C, or for whoever ends this process in order.
pub(super) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
