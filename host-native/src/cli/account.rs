//! `cim-keys account`.

use super::entities::{Done, View, Viewer};
use super::exit::CliError;
use super::globals::Globals;
use super::parse::{Limit, Size};
use super::user::tell;
use crate::error::KeyError;
use crate::host::Request;
use cim_keys_core::command::Command;
use cim_keys_core::jwt::AccountLimits;
use clap::Subcommand;
use serde::Serialize;

/// Verbs of `account`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create an account with one signing key
    Create(Create),
}

/// Flags of `account create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its name
    name: String,
    #[command(flatten)]
    limits: Limits,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Limits of an account, named as nsc names them. What is not said is unlimited; JetStream is off unless storage is given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits (-1 for none)")]
struct Limits {
    /// Connections
    #[arg(long, visible_alias = "conn", value_name = "COUNT", allow_hyphen_values = true)]
    conns: Option<Limit>,
    /// Leaf node connections
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    leaf_conns: Option<Limit>,
    /// Subscriptions of one connection
    #[arg(long, visible_alias = "subs", value_name = "COUNT", allow_hyphen_values = true)]
    subscriptions: Option<Limit>,
    /// Bytes of one message
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    payload: Option<Size>,
    /// Bytes
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    data_limit: Option<Size>,
    /// Exports
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    exports: Option<Limit>,
    /// Imports
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    imports: Option<Limit>,
    /// Whether exports may have wildcards
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    wildcard_exports: Option<bool>,
    /// JetStream: bytes on disk
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    js_disk_storage: Option<Size>,
    /// JetStream: bytes in memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    js_mem_storage: Option<Size>,
    /// JetStream: streams
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    js_streams: Option<Limit>,
    /// JetStream: consumers
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    js_consumer: Option<Limit>,
    /// JetStream: messages that a consumer may leave without acknowledgement
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    js_max_ack_pending: Option<Limit>,
    /// JetStream: bytes of one stream on disk
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    js_max_disk_stream: Option<Size>,
    /// JetStream: bytes of one stream in memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    js_max_mem_stream: Option<Size>,
    /// JetStream: every stream must have a limit in bytes
    #[arg(long)]
    js_max_bytes_required: bool,
}

impl Limits {
    fn limits(&self) -> AccountLimits {
        let none = AccountLimits::default();
        let limit = |typed: Option<Limit>, default: i64| typed.map_or(default, |limit| limit.0);
        let size = |typed: Option<Size>, default: i64| typed.map_or(default, |size| size.0);
        // With JetStream on, what is not said is unlimited: 0 would be read as that by some servers and as none by people.
        let jetstream = self.js_disk_storage.is_some() || self.js_mem_storage.is_some();
        let open = if jetstream { -1 } else { 0 };
        AccountLimits {
            conn: limit(self.conns, none.conn),
            leaf: limit(self.leaf_conns, none.leaf),
            subs: limit(self.subscriptions, none.subs),
            payload: size(self.payload, none.payload),
            data: size(self.data_limit, none.data),
            exports: limit(self.exports, none.exports),
            imports: limit(self.imports, none.imports),
            wildcards: self.wildcard_exports.unwrap_or(none.wildcards),
            disk_storage: size(self.js_disk_storage, 0),
            mem_storage: size(self.js_mem_storage, 0),
            streams: limit(self.js_streams, open),
            consumer: limit(self.js_consumer, open),
            max_ack_pending: limit(self.js_max_ack_pending, none.max_ack_pending),
            disk_max_stream_bytes: size(self.js_max_disk_stream, none.disk_max_stream_bytes),
            mem_max_stream_bytes: size(self.js_max_mem_stream, none.mem_max_stream_bytes),
            max_bytes_required: self.js_max_bytes_required,
            ..none
        }
    }
}

#[derive(Serialize)]
struct Created {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<View>,
    #[serde(flatten)]
    done: Done,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Create(args) = verb;
    let host = globals.host()?;
    let command = Command::CreateAccount { name: args.name.clone(), limits: args.limits.limits() };
    let outcome = host.run(&Request { dry_run: args.dry_run, ..Request::new(command) })?;
    let key = outcome.keys.first().copied();
    let account = match key.filter(|_| !args.dry_run) {
        Some(key) => {
            let listed = host.store().by_key(key).map_err(KeyError::from)?;
            let viewer = Viewer::new(host.store(), host.ambient().now());
            listed.first().map(|listed| viewer.view(listed)).transpose()?
        }
        None => None,
    };
    let created = Created { account, done: Done::new(&outcome, &host)? };
    globals.output().data(&created, |created| match &created.account {
        Some(account) => format!("account {} {}", args.name, account.public_key),
        None => format!("account {} would be created", args.name),
    })?;
    tell(&created.done, globals);
    Ok(())
}
