//! `cim-keys sync`: brings journal and stream together.

use super::connection::{Connection, block_on, interrupted};
use super::exit::{CliError, Exit};
use super::exit_nats::stuck;
use super::globals::Globals;
use super::output::printable;
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::{Link, LinkError};
use crate::nats::role;
use crate::nats::streams::{self, StreamsError, Wanted};
use crate::nats::target::Target;
use crate::pump::{End, Lock, Pump, Summary};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::roles::{API_PREFIX, PipelineRole, SYSTEM_ACCOUNT};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

/// Flags of `sync`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Seconds that it may be stuck before it gives up; nothing is lost then
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Seconds of the stream's duplicate window, where the stream has another one on purpose
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duplicate_window: Option<u64>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Synced {
    server: String,
    server_version: String,
    stream: &'static str,
    /// Streams that were made.
    created: Vec<String>,
    #[serde(flatten)]
    summary: Summary,
    /// Commands that are still to be published.
    pending: u64,
    /// Commands that cannot be published as they were decided.
    held: u64,
    held_commands: Vec<HeldCommand>,
    /// Why it came to a stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<Reason>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeldCommand {
    command_id: Uuid,
    command: &'static str,
    reason: Reason,
}

/// What a run over one connection may need to know.
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) timeout: Duration,
    pub(super) duplicate_window: Option<u64>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let target = args.connection.target(globals, &host)?;
    let plan =
        Plan { target, timeout: Duration::from_secs(args.timeout), duplicate_window: args.duplicate_window };
    let _lock = Lock::take(host.store().path())?;
    let (synced, end) = block_on(once(&host, plan, globals))??;
    for warning in &synced.warnings {
        globals.output().warn(warning);
    }
    globals.output().data(&synced, text)?;
    match end {
        End::Drained => Ok(()),
        End::Blocked(reason) | End::Patience(reason) => Err(stuck(&reason)),
        End::Stopped => Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted: nothing is lost")),
    }
}

/// One run: streams, then everything there is. The caller holds the lock.
pub(super) async fn once(host: &Host, plan: Plan, globals: &Globals) -> Result<(Synced, End), CliError> {
    let Plan { target, timeout, duplicate_window } = plan;
    let mut wanted = Wanted::new(&host.store().registry_id().map_err(KeyError::from)?.namespace);
    if let Some(seconds) = duplicate_window {
        wanted = wanted.duplicate_window(seconds.saturating_mul(1_000_000_000));
    }
    // Nobody works with streams there.
    if role::account_of(host, &target).as_deref() == Some(SYSTEM_ACCOUNT) {
        return Err(CliError::new(
            Exit::Permission,
            "creds",
            "these creds are of the system account, which has no streams",
        )
        .hint("take creds of the role host: `cim-keys access renew --role host`"));
    }
    let known = host.store().progress().map_err(KeyError::from)?.stream;
    wanted.create = known.is_none();
    let now = || host.ambient().now().seconds();
    let link = Link::connect(&target, now()).await.map_err(|error| match error {
        LinkError::Refused { .. } if target.is_open() => {
            CliError::new(Exit::Permission, error.code(), "the server asks for creds")
                .hint("give --creds FILE or --context NAME; `cim-keys access renew --role host` makes both")
        }
        error => error.into(),
    })?;
    let mut warnings = Vec::new();
    let (server, server_version) = (link.server_name(), link.server_version());
    let created = if !role::is_ours(host, &target) && target.api_prefix == API_PREFIX {
        let ensured = streams::ensure(&link, &wanted).await.map_err(|error| lost(error, known.as_ref()))?;
        warnings.push(
            "this server has no accounts of this registry: whoever gets in can append to the stream and delete it \
             (`cim-keys config server` makes one that has)"
                .to_owned(),
        );
        ensured.created
    } else {
        prepare(host, &link, &target, &wanted, globals, &mut warnings).await?
    };
    let mut pump = Pump::new(host, target).expecting(wanted.events).over(link);
    let end = pump.drain(timeout, interrupted(), |_| {}).await?;
    let summary = pump.summary().clone();
    drop(pump);
    if summary.anomalies > 0 {
        warnings.push(format!(
            "{} messages on the stream are anomalies and change nothing: `cim-keys status` names them",
            summary.anomalies
        ));
    }
    let store = host.store();
    let counts = store.counts().map_err(KeyError::from)?;
    let held = store.held().map_err(KeyError::from)?;
    let held_commands = held.into_iter().map(|held| HeldCommand {
        command_id: held.command_id,
        command: held.command.name(),
        reason: held.reason,
    });
    let blocked = match &end {
        End::Blocked(reason) | End::Patience(reason) => Some(reason.clone()),
        End::Drained | End::Stopped => None,
    };
    let synced = Synced {
        server,
        server_version,
        stream: KEYS_EVENTS,
        created,
        pending: counts.pending,
        held: counts.held,
        held_commands: held_commands.collect(),
        summary: Summary { head: store.progress().map_err(KeyError::from)?.head, ..summary },
        blocked,
        warnings,
    };
    Ok((synced, end))
}

/// In a registry's own accounts the streams are the steward's affair: made by a user of that role, in memory, where this
/// host keeps its key.
async fn prepare(
    host: &Host,
    link: &Link,
    target: &Target,
    wanted: &Wanted,
    globals: &Globals,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, CliError> {
    let missing = |found: Result<_, StreamsError>| match found {
        Ok(_) => Ok(false),
        Err(error) if error.code() == "stream-missing" => Ok(true),
        Err(error) => Err(error),
    };
    let events = missing(streams::awaited(link, KEYS_EVENTS).await)?;
    let archive = match missing(streams::info(link, KEYS_ARCHIVE).await) {
        Ok(missing) => missing,
        // Creds that do not see the archive can publish all the same.
        Err(error) => {
            warnings.push(format!("{KEYS_ARCHIVE} is not seen: {error}"));
            false
        }
    };
    if !events && !archive {
        return Ok(Vec::new());
    }
    let known = host.store().progress().map_err(KeyError::from)?.stream;
    if events && known.is_some() {
        return Err(lost(streams::info(link, KEYS_EVENTS).await.err(), known.as_ref()));
    }
    let steward = role::target(host, PipelineRole::Steward, target)?;
    if let Some(user) = steward.user() {
        let minutes = role::LIFETIME / 60;
        globals
            .output()
            .say(&format!("made a steward in memory for {minutes} minutes to create the streams: {user}"));
    }
    let link = Link::connect(&steward, host.ambient().now().seconds()).await?;
    Ok(streams::ensure(&link, wanted).await?.created)
}

/// A stream that is missing although this registry was on one: it is not made anew.
fn lost(error: impl Into<Option<StreamsError>>, known: Option<&StreamIdentity>) -> CliError {
    match (error.into(), known) {
        (Some(error), Some(known)) if error.code() == "stream-missing" => CliError::new(
            Exit::NotFound,
            error.code(),
            format!(
                "this registry was published to the {} made {}, and the server has none",
                known.name, known.created
            ),
        )
        .hint("check the server's address; if the stream is lost, bring it back from the server's backup"),
        (Some(error), _) => error.into(),
        (None, _) => {
            CliError::new(Exit::Conflict, "stream-appeared", "the stream was made meanwhile: try again")
        }
    }
}

fn text(synced: &Synced) -> String {
    let summary = &synced.summary;
    let mut lines = Vec::new();
    if !synced.created.is_empty() {
        lines.push(format!("created    {}", synced.created.join(", ")));
    }
    lines.push(format!("published  {} events of {} commands", summary.published, summary.commands));
    lines.push(format!("read       {} messages, {} commands of others", summary.read, summary.admitted));
    lines.push(format!(
        "stream     {} at {} on {} ({})",
        synced.stream,
        summary.head,
        printable(&synced.server),
        printable(&synced.server_version)
    ));
    if summary.redecided > 0 {
        lines.push(format!("revoked    {} revocations were decided anew", summary.redecided));
    }
    if synced.pending > 0 {
        lines.push(format!("pending    {} commands", synced.pending));
    }
    for held in &synced.held_commands {
        lines.push(format!(
            "held       {} {}: {}",
            held.command,
            held.command_id,
            printable(&held.reason.text)
        ));
    }
    lines.join("\n")
}
