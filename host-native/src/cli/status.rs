//! `cim-keys status`: how the registry stands, as far as this host knows.

use super::entities::{HeldView, NOT_ENFORCED, Viewer};
use super::exit::CliError;
use super::globals::Globals;
use super::output::printable;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::{Counts, Store};
use cim_keys_core::admission::Anomaly;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::time::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[cfg(feature = "nats")]
    #[command(flatten)]
    connection: super::connection::Connection,
}

#[derive(Debug, Serialize)]
pub(super) struct Standing {
    operator: PublicKey,
    operator_name: String,
    namespace: String,
    store: PathBuf,
    /// The stream it knows; missing before it met one.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// The last sequence read.
    head: u64,
    #[serde(flatten)]
    counts: Counts,
    /// Milliseconds since the oldest pending command was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_pending_ms: Option<i64>,
    held_commands: Vec<HeldView>,
    anomaly_list: Vec<Anomaly>,
    accounts_state: Vec<AccountStanding>,
    creds_not_written: Vec<NotWritten>,
    /// What a server says, where one is named.
    #[cfg(feature = "nats")]
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<super::status_server::ServerStanding>,
}

#[derive(Debug, Serialize)]
struct AccountStanding {
    name: String,
    public_key: PublicKey,
    confirmed: bool,
    enforced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'static str>,
    /// Unix seconds of the oldest revocation that no server knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_waits_since: Option<i64>,
}

#[derive(Debug, Serialize)]
struct NotWritten {
    account: PublicKey,
    user: PublicKey,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let now = Ambient::system().now();
    #[cfg(feature = "nats")]
    let standing =
        Standing { server: super::status_server::look(&args.connection, globals)?, ..standing(&store, now)? };
    #[cfg(not(feature = "nats"))]
    let (Args {}, standing) = (args, standing(&store, now)?);
    globals.output().data(&standing, |standing| text(standing, now, globals))
}

/// What the store alone tells.
pub(super) fn standing(store: &Store, now: Timestamp) -> Result<Standing, CliError> {
    let registry = store.registry_id().map_err(KeyError::from)?;
    let progress = store.progress().map_err(KeyError::from)?;
    let viewer = Viewer::new(store, now);
    let mut accounts = Vec::new();
    for listed in store.accounts().map_err(KeyError::from)? {
        let view = viewer.view(&listed)?;
        let enforced = view.enforced == Some(true);
        accounts.push(AccountStanding {
            public_key: view.public_key,
            confirmed: view.confirmed,
            enforced,
            servers: view.servers,
            mark: (!enforced).then_some(NOT_ENFORCED),
            revocation_waits_since: if enforced { None } else { waiting_since(store, &listed.entity)? },
            name: view.name,
        });
    }
    let hand_outs = store.hand_outs().map_err(KeyError::from)?;
    Ok(Standing {
        operator: registry.operator,
        operator_name: viewer.name_of(registry.operator)?,
        namespace: registry.namespace.to_string(),
        store: store.path().to_owned(),
        stream: progress.stream.map(|stream| stream.name),
        head: progress.head,
        counts: store.counts().map_err(KeyError::from)?,
        oldest_pending_ms: store
            .oldest_pending()
            .map_err(KeyError::from)?
            .map(|since| now.millis() - since.millis()),
        held_commands: store.held().map_err(KeyError::from)?.iter().map(HeldView::from).collect(),
        anomaly_list: store.anomalies().map_err(KeyError::from)?,
        accounts_state: accounts,
        creds_not_written: hand_outs
            .iter()
            .map(|h| NotWritten { account: h.account, user: h.key.public_key })
            .collect(),
        #[cfg(feature = "nats")]
        server: None,
    })
}

/// The oldest revocation that is younger than what was pushed last.
fn waiting_since(store: &Store, account: &cim_keys_core::registry::Entity) -> Result<Option<i64>, CliError> {
    let pushed = store.pushed(account.key()).map_err(KeyError::from)?.filter(|pushed| pushed.done);
    let known = pushed.map_or(0, |pushed| pushed.at.seconds());
    let body = account.token().and_then(|token| token.claims().body.as_account());
    Ok(body.and_then(|body| body.revocations.values().copied().filter(|at| *at >= known).min()))
}

fn text(standing: &Standing, now: Timestamp, globals: &Globals) -> String {
    let again = globals.again();
    let counts = &standing.counts;
    let stream = standing.stream.as_deref().unwrap_or("none met yet");
    let mut lines = vec![
        format!("operator   {} {}", printable(&standing.operator_name), standing.operator),
        format!("subjects   {}.keys.>", standing.namespace),
        format!("store      {}", standing.store.display()),
        format!("stream     {stream}, read up to {}", standing.head),
        format!("has        {} accounts, {} users, {} keys", counts.accounts, counts.users, counts.keys),
    ];
    lines.push(match (counts.pending, standing.oldest_pending_ms) {
        (0, _) => "pending    nothing".to_owned(),
        (count, age) => {
            let age = age.map_or_else(String::new, |age| format!(", the oldest for {}", span(age / 1000)));
            format!("pending    {count} commands not published{age}: cim-keys{again} sync")
        }
    });
    for held in &standing.held_commands {
        let about = printable(&held.about);
        lines.push(format!(
            "held       {} {about} ({}): {}",
            held.command,
            held.command_id,
            printable(&held.reason)
        ));
        if held.imported {
            lines.push(format!(
                "           it came in a bundle; to give it up: cim-keys{again} held drop {}",
                held.command_id
            ));
        }
    }
    for anomaly in &standing.anomaly_list {
        let sequences: Vec<String> = anomaly.sequences.iter().map(u64::to_string).collect();
        lines.push(format!(
            "anomaly    sequence {}: {}",
            sequences.join(", "),
            printable(&anomaly.reason.text)
        ));
    }
    for account in &standing.accounts_state {
        let published = if account.confirmed { "" } else { ", not published" };
        let state = match (account.mark, account.servers) {
            (Some(mark), _) => mark.to_owned(),
            (None, Some(servers)) => format!("enforced on {servers} servers"),
            (None, None) => "enforced".to_owned(),
        };
        let waits = account
            .revocation_waits_since
            .map(|at| format!(", a revocation waits for {}", span(now.seconds() - at)));
        lines.push(format!(
            "account    {} {state}{published}{}",
            printable(&account.name),
            waits.unwrap_or_default()
        ));
    }
    for creds in &standing.creds_not_written {
        lines.push(format!(
            "creds      of {} are not written: cim-keys{again} user creds {} --account {} --out FILE",
            creds.user, creds.user, creds.account
        ));
    }
    #[cfg(feature = "nats")]
    lines.extend(standing.server.iter().flat_map(super::status_server::text));
    lines.join("\n")
}

/// Seconds in the largest fitting unit.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
