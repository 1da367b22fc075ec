//! `cim-keys config`: what a server must be told.

use super::exit::CliError;
use super::globals::Globals;
use crate::config::{self, Options, Resolver};
use crate::error::KeyError;
use crate::files;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Write a nats-server configuration: operator mode, resolver, JetStream with `sync_interval: always`
    Server(Server),
}

/// Flags of `config server`.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// Where clients connect
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    listen: Address,
    /// Where browsers connect, without TLS
    #[arg(long, value_name = "HOST:PORT")]
    websocket: Option<Address>,
    /// Where monitoring listens
    #[arg(long, value_name = "HOST:PORT")]
    monitoring: Option<Address>,
    /// The server's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where JetStream keeps its streams
    #[arg(long, value_name = "DIR", default_value = "nats-data")]
    store_dir: PathBuf,
    /// How the server learns accounts: by `push`, or from this file alone
    #[arg(long, value_enum, default_value_t)]
    resolver: Kind,
    /// Where the full resolver keeps accounts
    #[arg(long, value_name = "DIR", default_value = "nats-data/accounts")]
    resolver_dir: PathBuf,
    /// A new file for it, instead of stdout
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    #[default]
    Full,
    Memory,
}

/// `host:port`; -1 as port is a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address(String, i32);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "an address is HOST:PORT, such as 127.0.0.1:4222; port -1 is a free one".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: i32 = port.parse().map_err(|_| wrong())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host.is_empty() || !host.chars().all(plain) || !(port == -1 || (1..=65_535).contains(&port)) {
            return Err(wrong());
        }
        Ok(Self(host.to_owned(), port))
    }
}

impl From<&Address> for (String, i32) {
    fn from(address: &Address) -> Self {
        (address.0.clone(), address.1)
    }
}

#[derive(Serialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    accounts: u64,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Server(args) = verb;
    let store = globals.store()?;
    let options = Options {
        name: args.name.clone(),
        listen: (&args.listen).into(),
        websocket: args.websocket.as_ref().map(Into::into),
        websocket_origins: Vec::new(),
        monitoring: args.monitoring.as_ref().map(Into::into),
        store: args.store_dir.clone(),
        resolver: match args.resolver {
            Kind::Full => Resolver::Full { dir: args.resolver_dir.clone() },
            Kind::Memory => Resolver::Memory,
        },
        ports: None,
        pid: None,
    };
    let text = config::text(&store, &options)?;
    let accounts = store.counts().map_err(KeyError::from)?.accounts;
    if let Some(file) = &args.out {
        files::write_new(file, text.as_bytes()).map_err(KeyError::from)?;
        let written = Written { configuration: None, file: Some(file.clone()), accounts };
        return globals.output().data(&written, |_| format!("{}", file.display()));
    }
    let written = Written { configuration: Some(text), file: None, accounts };
    globals.output().data(&written, |written| written.configuration.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!("127.0.0.1:-1".parse(), Ok(Address("127.0.0.1".into(), -1)));
        assert_eq!("[::1]:4222".parse(), Ok(Address("[::1]".into(), 4222)));
        for bad in ["", "4222", "host", "host:", "host:0", "host:70000", "a b:1", "a\n:1", ":1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
