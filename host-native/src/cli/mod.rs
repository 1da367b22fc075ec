//! The command line: clap structs are what was typed; each verb turns them into core's commands.
//!
//! stdout is data, stderr is talk. Nothing secret is ever a flag's value, and nothing prompts.

mod access;
mod account;
mod anomalies;
mod at;
mod bundle;
#[cfg(feature = "nats")]
mod clone;
mod config;
#[cfg(feature = "nats")]
mod connection;
mod creds;
mod diff;
#[cfg(feature = "nats")]
mod dlq;
#[cfg(feature = "nats")]
mod dlq_shown;
mod doctor;
mod entities;
mod expiry;
pub mod globals;
mod held;
mod init;
mod key;
mod key_import;
mod list;
mod log;
mod log_filter;
mod log_follow;
mod log_tree;
#[cfg(feature = "nats")]
mod outbox;
pub mod output;
pub mod parse;
#[cfg(feature = "nats")]
mod progress;
mod projection;
#[cfg(feature = "nats")]
mod push;
#[cfg(feature = "nats")]
mod recover;
mod resolve;
mod rights;
mod schema;
#[cfg(feature = "nats")]
mod serve;
mod show;
mod status;
#[cfg(feature = "nats")]
mod status_server;
#[cfg(feature = "nats")]
mod stream_times;
#[cfg(feature = "nats")]
mod sync;
#[cfg(feature = "nats")]
mod up;
mod user;
mod verify;
#[cfg(feature = "nats")]
mod watch;
#[cfg(feature = "nats")]
mod watch_said;
mod why;
mod why_when;
mod why_whom;
mod why_words;

use crate::exit::{self, CliError};
use clap::{Parser, Subcommand};
use globals::Globals;
use std::ffi::OsString;
use std::process::ExitCode;

/// NATS identities as events: made anywhere, published exactly once.
///
/// Everything works without a server; `cim-keys sync` publishes later.
#[derive(Debug, Parser)]
#[command(name = "cim-keys", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Found a registry: operator, system account, and the accounts and roles of the pipeline
    Init(init::Args),
    /// Accounts
    #[command(subcommand)]
    Account(account::Verb),
    /// Users: created, given permissions, handed creds, revoked
    #[command(subcommand)]
    User(user::Verb),
    /// Keys: signing keys of an operator or account, curve keys, free keys
    #[command(subcommand)]
    Key(key::Verb),
    /// Creds of the pipeline's own roles
    #[command(subcommand)]
    Access(access::Verb),
    /// Short-lived creds from one role's key, for pipelines: no registry, no server
    #[command(subcommand)]
    Creds(creds::Verb),
    /// List accounts, users, keys or the operator, with what is not confirmed and not enforced
    List(list::Args),
    /// Show one entity by name or public key
    Show(show::Args),
    /// Why a user may publish or subscribe to a subject, or may not: the rule, and where it stands
    Why(why::Args),
    /// The trail of events: those on the stream by sequence, then those not published yet
    Log(log::Args),
    /// What changed between two moments, in words
    Diff(diff::Args),
    /// What ends by itself, and when: tokens on the stream, without those that were revoked
    Expiry(expiry::Args),
    /// How this registry stands: pending, held, not enforced
    Status(status::Args),
    /// Look at store, keys, creds, server and streams one by one, and say what to do
    Doctor(doctor::Args),
    /// Messages on the stream that change nothing: those that were admitted are in `log`
    Anomalies(anomalies::Args),
    /// Walk along the whole trail or stream, judge all of it anew, and compare the store with what comes of it
    Verify(verify::Args),
    /// Commands as a file: from a machine without a network to one that has one
    #[command(subcommand)]
    Bundle(bundle::Verb),
    /// Commands that cannot be published as they were decided
    #[command(subcommand)]
    Held(held::Verb),
    /// The schema level: what every host and page must know to take part
    #[command(subcommand)]
    Schema(schema::Verb),
    /// Read models folded from the trail: how far they are, and made anew
    #[command(subcommand)]
    Projection(projection::Verb),
    /// What a server must be told
    #[command(subcommand)]
    Config(config::Verb),
    /// Publish what is pending, read what others published: once, or with --watch until Ctrl-C
    #[cfg(feature = "nats")]
    Sync(sync::Args),
    /// Take part in a registry that exists: read its whole stream into a new store, without any seeds
    #[cfg(feature = "nats")]
    Clone(clone::Args),
    /// Bring account tokens to every server, and read them back
    #[cfg(feature = "nats")]
    Push(push::Args),
    /// A service's own events (`publish_event`): how they stand in its outbox
    #[cfg(feature = "nats")]
    #[command(subcommand)]
    Outbox(outbox::Verb),
    /// Dead letters: messages that a durable consumer gave up, and what is to become of them
    #[cfg(feature = "nats")]
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// Start a private development system, everything fresh
    #[cfg(feature = "nats")]
    Up(up::Args),
    /// Answer requests over NATS as a micro service, publish what comes of them, and bring it to every server
    #[cfg(feature = "nats")]
    Serve(serve::Args),
}

impl Verb {
    fn run(&self, globals: &Globals) -> Result<(), CliError> {
        match self {
            Self::Init(args) => init::run(args, globals),
            Self::Account(verb) => account::run(verb, globals),
            Self::User(verb) => user::run(verb, globals),
            Self::Key(verb) => key::run(verb, globals),
            Self::Access(verb) => access::run(verb, globals),
            Self::Creds(verb) => creds::run(verb, globals),
            Self::List(args) => list::run(args, globals),
            Self::Show(args) => show::run(args, globals),
            Self::Why(args) => why::run(args, globals),
            Self::Log(args) => log::run(args, globals),
            Self::Diff(args) => diff::run(args, globals),
            Self::Expiry(args) => expiry::run(args, globals),
            Self::Status(args) => status::run(args, globals),
            Self::Doctor(args) => doctor::run(args, globals),
            Self::Anomalies(args) => anomalies::run(args, globals),
            Self::Verify(args) => verify::run(args, globals),
            Self::Bundle(verb) => bundle::run(verb, globals),
            Self::Held(verb) => held::run(verb, globals),
            Self::Schema(verb) => schema::run(verb, globals),
            Self::Projection(verb) => projection::run(verb, globals),
            Self::Config(verb) => config::run(verb, globals),
            #[cfg(feature = "nats")]
            Self::Sync(args) => sync::run(args, globals),
            #[cfg(feature = "nats")]
            Self::Clone(args) => clone::run(args, globals),
            #[cfg(feature = "nats")]
            Self::Push(args) => push::run(args, globals),
            #[cfg(feature = "nats")]
            Self::Outbox(verb) => outbox::run(verb, globals),
            #[cfg(feature = "nats")]
            Self::Dlq(verb) => dlq::run(verb, globals),
            #[cfg(feature = "nats")]
            Self::Up(args) => up::run(args, globals),
            #[cfg(feature = "nats")]
            Self::Serve(args) => serve::run(args, globals),
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs a command line, its first word the program's name, and says how it ended.
#[must_use]
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and no error; everything else is wrong usage.
            let status = if error.use_stderr() { exit::Exit::Usage.into() } else { ExitCode::SUCCESS };
            // It repeats what was typed, also a seed in a wrong place.
            let plain = error.render().to_string();
            if crate::redact::redacted(&plain) == plain {
                let _ = error.print();
            } else {
                output::Output::default().say(plain.trim_end());
            }
            return status;
        }
    };
    // Before anything is made: what stands in every event must be good.
    match cli.globals.actor().and_then(|_| cli.verb.run(&cli.globals)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.told {
                cli.globals.output().error(&error);
            }
            error.exit.into()
        }
    }
}
