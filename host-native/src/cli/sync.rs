//! `cim-keys sync`: brings journal and stream together.

use super::connection::{Connection, block_on, interrupted};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::progress::Bar;
use super::push::as_role;
use super::recover;
use crate::error::KeyError;
use crate::exit::nats::{LOST, stuck, stuck_at};
use crate::files;
use crate::host::Host;
use crate::nats::consumers;
use crate::nats::link::{Link, LinkError};
use crate::nats::role;
use crate::nats::streams::{self, Ensured, StreamsError, Wanted};
use crate::nats::target::{Access, Target};
use crate::pump::{End, Lock, Pump, Summary};
use crate::report::{Archive, Server};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::roles::{PipelineRole, SYSTEM_ACCOUNT};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Flags of `sync`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Seconds that it may be stuck before it gives up; nothing is lost then
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Seconds of the stream's duplicate window, where the stream has another one on purpose
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) duplicate_window: Option<u64>,
    /// Where the stream went back: publish again what it has lost of this host's, and name what it has lost of others'
    #[arg(long, conflicts_with_all = ["watch", "join"])]
    recover: bool,
    /// With --recover: do it, instead of saying what would be done
    #[arg(long, requires = "recover")]
    yes: bool,
    /// Take the server's stream for this registry's, although it was made at another time (brought back from a backup,
    /// say): only where it begins with the same founding and has every message that this host has read or confirmed, at the
    /// same place. Its archive is met again, too
    #[arg(long, conflicts_with = "watch")]
    join: bool,
    /// Stay, and publish and read whatever comes, until Ctrl-C (status 0); other verbs, sync and push too, work beside it
    #[arg(long, conflicts_with = "timeout")]
    watch: bool,
}

impl Args {
    /// As `--watch` has them.
    pub(super) fn staying(connection: Connection, duplicate_window: Option<u64>) -> Self {
        Self {
            connection,
            timeout: 30,
            duplicate_window,
            recover: false,
            yes: false,
            join: false,
            watch: true,
        }
    }
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

/// A connection with its streams looked after, and what came of that.
pub(super) struct Session<'a> {
    pub(super) pump: Pump<'a>,
    pub(super) server: Server,
    created: Vec<String>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let target = args.connection.target(globals, &host)?;
    if args.watch {
        return block_on(super::watch::run(&host, args, target, globals))?;
    }
    let _lock = Lock::take(host.store().path())?;
    let has_accounts = !super::status_server::is_plain(&host, &target);
    if args.recover {
        block_on(recover::run(&host, &target, args.yes, globals))??;
    }
    if args.join {
        block_on(recover::join(&host, &target, globals))??;
    }
    let synced =
        block_on(once(&host, target, Duration::from_secs(args.timeout), args.duplicate_window, globals))?;
    let (mut synced, end) = match synced {
        // Its registry is not known yet, and so not which of its accounts the creds are of.
        Err(error) if super::clone::is_bare(host.store())? => {
            return Err(error.hint(format!(
                "a clone was ended here before it had read anything: repeat it (`cim-keys{} clone`)",
                globals.again()
            )));
        }
        synced => synced?,
    };
    // What was published and read stands, whatever becomes of what is made of it.
    if let Err(error) = host.store().project_all() {
        synced.warnings.push(format!("what was read is not in the projections yet: {error}"));
    }
    for warning in &synced.warnings {
        globals.output().warn(warning);
    }
    globals.output().data(&synced, text)?;
    if (args.recover || args.join) && has_accounts {
        globals.output().say(&format!(
            "the servers' accounts may have gone back too, and revoked users get in again: cim-keys{} push, on a host that can",
            globals.again()
        ));
    }
    match end {
        End::Drained => Ok(()),
        End::Blocked(reason) | End::Patience(reason) => Err(stood(&host, &reason)),
        End::Stopped => Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted: nothing is lost")),
    }
}

/// Why it came to a stand.
pub(super) fn stood(host: &Host, reason: &Reason) -> CliError {
    match host.store().progress() {
        Ok(progress) => stuck_at(progress.head, reason),
        Err(_) => stuck(reason),
    }
}

/// One run: streams, then everything there is. The caller holds the lock.
pub(super) async fn once(
    host: &Host,
    target: Target,
    timeout: Duration,
    duplicate_window: Option<u64>,
    globals: &Globals,
) -> Result<(Synced, End), CliError> {
    let Session { mut pump, server, created, mut warnings } =
        open(host, target, duplicate_window, globals).await?;
    let bar = Bar::new(host.store(), globals.output());
    let end = bar.beside(pump.drain(timeout, interrupted(), |_| {})).await?;
    let summary = pump.summary().clone();
    drop(pump);
    if summary.anomalies > 0 {
        warnings.push(anomalies(summary.anomalies));
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
        End::Blocked(reason) | End::Patience(reason) => {
            stopped(host, reason);
            Some(reason.clone())
        }
        End::Drained | End::Stopped => None,
    };
    let synced = Synced {
        server: server.name,
        server_version: server.version,
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

pub(super) fn anomalies(count: u64) -> String {
    format!("{} on the stream changed nothing: `cim-keys anomalies` names what", counted(count, "message"))
}

/// Leaves behind why nothing goes on. A report that cannot be written is no reason to fail for.
fn stopped(host: &Host, reason: &Reason) {
    let now = host.ambient().now();
    let _ = host.store().note_report(|report| report.stopped(reason, now));
}

/// Connects and looks after the streams. What prevents it is left behind for `status`.
pub(super) async fn open<'a>(
    host: &'a Host,
    target: Target,
    duplicate_window: Option<u64>,
    globals: &Globals,
) -> Result<Session<'a>, CliError> {
    // Of creds that last: a user made in memory for minutes says nothing about those.
    let expire = target.file.as_ref().and_then(|_| target.expires());
    let foreign = matches!(&*target.access, Access::Creds { .. }) && !role::is_ours(host, &target);
    let opened = connect(host, target, duplicate_window, globals).await.map_err(|error| {
        // A clone that knows no account yet cannot tell.
        if foreign && !super::clone::is_bare(host.store()).unwrap_or(true) {
            error.hint(
                "the creds are of an account that this registry does not know: name their own with --registry NAME or --data DIR",
            )
        } else {
            error
        }
    });
    let now = host.ambient().now();
    match &opened {
        Ok((session, archive)) => {
            let _ = host.store().note_report(|report| {
                report.server = Some(session.server.clone());
                report.archive = Some(archive.clone());
                report.creds_expire = expire.or(report.creds_expire);
            });
        }
        Err(error) => {
            let reason = Reason { code: error.code.clone(), text: error.message.clone() };
            let _ = host.store().note_report(|report| {
                report.stopped(&reason, now);
                report.creds_expire = expire.or(report.creds_expire);
            });
        }
    }
    opened.map(|(session, _)| session)
}

async fn connect<'a>(
    host: &'a Host,
    target: Target,
    duplicate_window: Option<u64>,
    globals: &Globals,
) -> Result<(Session<'a>, Archive), CliError> {
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
    let now = || host.ambient().now();
    let link = Link::connect(&target, now().seconds()).await.map_err(|error| unconnected(error, &target))?;
    let mut warnings: Vec<String> = target.file.as_deref().and_then(open_creds).into_iter().collect();
    let (created, archive) = if super::status_server::is_plain(host, &target) {
        let ensured = streams::ensure(&link, &wanted).await.map_err(|error| lost(error, known.as_ref()))?;
        warnings.push(
            "this server has no accounts of this registry: whoever gets in can append to the stream and delete it \
             (`cim-keys config server` makes one that has)"
                .to_owned(),
        );
        take_archive(host, &ensured)?;
        let made = consumption(&link, &wanted, ensured.created, &mut warnings).await;
        (made, streams::archive(&ensured.events, Ok(&ensured.archive), now()))
    } else {
        prepare(host, &link, &target, &wanted, &mut warnings, globals).await?
    };
    if let Some(error) = &archive.error {
        warnings.push(error.text.clone());
    }
    let server = link.server(&target);
    let pump = Pump::new(host, target).expecting(wanted.events).over(link);
    Ok((Session { pump, server, created, warnings }, archive))
}

/// Makes what durable consumption needs, and adds it to what was created. Key events are published without it as well, so
/// what is wrong with it is said and stops nothing.
async fn consumption(
    link: &Link,
    wanted: &Wanted,
    mut created: Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    match consumers::ensure(link, wanted).await {
        Ok(found) => {
            warnings.extend(found.warnings());
            created.extend(found.created);
        }
        Err(error) => warnings.push(format!("nothing can be consumed durably: {error}")),
    }
    created
}

/// Creds that not only their owner may read are no secret any more.
fn open_creds(file: &Path) -> Option<String> {
    let mode = files::open_to_others(file)?;
    let path = file.display();
    file.is_file()
        .then(|| format!("{path} is readable by others (mode {mode:o}): chmod 600 it, or renew the creds"))
}

/// In a registry's own accounts the streams are the steward's affair: made by a user of that role, in memory, where this
/// host keeps its key.
async fn prepare(
    host: &Host,
    link: &Link,
    target: &Target,
    wanted: &Wanted,
    warnings: &mut Vec<String>,
    globals: &Globals,
) -> Result<(Vec<String>, Archive), CliError> {
    let now = || host.ambient().now();
    let is_missing = |error: &StreamsError| error.code() == "stream-missing";
    let events = match streams::awaited(link, KEYS_EVENTS).await {
        Ok(events) => Some(events),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let archive = streams::info(link, KEYS_ARCHIVE).await;
    let known = host.store().progress().map_err(KeyError::from)?.stream;
    match (&events, &archive) {
        // Creds that do not see the archive can publish all the same.
        (Some(events), archive) if !archive.as_ref().is_err_and(is_missing) => {
            let made = complete(host, link, target, wanted, warnings, globals).await;
            return Ok((made, streams::archive(events, archive.as_ref(), now())));
        }
        (None, _) if known.is_some() => {
            return Err(lost(streams::info(link, KEYS_EVENTS).await.err(), known.as_ref()));
        }
        _ => {}
    }
    let steward = as_role(host, PipelineRole::Steward, target)?;
    if let Some(user) = steward.user() {
        let minutes = role::LIFETIME / 60;
        globals
            .output()
            .say(&format!("made a steward in memory for {minutes} minutes to create the streams: {user}"));
    }
    let link = Link::connect(&steward, now().seconds()).await?;
    let ensured = streams::ensure(&link, wanted).await?;
    take_archive(host, &ensured)?;
    let made = consumption(&link, wanted, ensured.created, warnings).await;
    Ok((made, streams::archive(&ensured.events, Ok(&ensured.archive), now())))
}

/// Beside streams that are there: what durable consumption needs is made by the steward where it is missing, and looked at
/// by whoever may. What it misses stops no event, so it is said alone.
async fn complete(
    host: &Host,
    link: &Link,
    target: &Target,
    wanted: &Wanted,
    warnings: &mut Vec<String>,
    globals: &Globals,
) -> Vec<String> {
    let missing = |error: &StreamsError| ["stream-missing", "consumer-missing"].contains(&error.code());
    match consumers::look(link, wanted).await {
        Ok(found) => warnings.extend(found.warnings()),
        Err(error) if missing(&error) => {
            // A host without the steward's key cannot make them.
            if let Ok(steward) = as_role(host, PipelineRole::Steward, target) {
                globals.output().say("made a steward in memory to create the durable consumers");
                return match Link::connect(&steward, host.ambient().now().seconds()).await {
                    Ok(link) => consumption(&link, wanted, Vec::new(), warnings).await,
                    Err(error) => {
                        warnings.push(format!("nothing can be consumed durably: {error}"));
                        Vec::new()
                    }
                };
            }
            warnings.push(format!("nothing can be consumed durably: {error}"));
        }
        // Creds that do not see them can publish all the same.
        Err(StreamsError::NoAnswer { .. }) => {}
        Err(error) => warnings.push(format!("nothing can be consumed durably: {error}")),
    }
    Vec::new()
}

/// Why there is no connection.
pub(super) fn unconnected(error: LinkError, target: &Target) -> CliError {
    match error {
        LinkError::Refused { .. } if target.is_open() => {
            CliError::new(Exit::Permission, error.code(), "the server asks for creds")
                .hint("give --creds FILE or --context NAME; `cim-keys access renew --role host` makes both")
        }
        error => error.into(),
    }
}

/// The archive that was made just now is this stream's, from its first message on: nobody has to say so. Other hosts know
/// the one that was there before, and are asked.
fn take_archive(host: &Host, ensured: &Ensured) -> Result<(), CliError> {
    let made = |name: &str| ensured.created.iter().any(|created| created == name);
    if made(KEYS_ARCHIVE) && !made(KEYS_EVENTS) && ensured.events.first <= 1 {
        let (events, archive) = (&ensured.events.identity, &ensured.archive.identity);
        host.store().take_archive(events, archive).map_err(KeyError::from)?;
    }
    Ok(())
}

/// A stream that is missing although this registry was on one: it is not made anew.
pub(super) fn lost(error: impl Into<Option<StreamsError>>, known: Option<&StreamIdentity>) -> CliError {
    match (error.into(), known) {
        (Some(error), Some(known)) if error.code() == "stream-missing" => CliError::new(
            Exit::NotFound,
            error.code(),
            format!(
                "this registry was published to the {} made {}, and the server has none",
                known.name, known.created
            ),
        )
        .hint(LOST),
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
    lines.push(format!(
        "published  {} of {}",
        counted(summary.published, "event"),
        counted(summary.commands, "command")
    ));
    lines.push(format!(
        "read       {}, {} of others",
        counted(summary.read, "message"),
        counted(summary.admitted, "command")
    ));
    lines.push(format!(
        "stream     {} at {} on {} ({})",
        synced.stream,
        summary.head,
        printable(&synced.server),
        printable(&synced.server_version)
    ));
    if summary.redecided > 0 {
        lines.push(format!("revoked    {} decided anew", counted(summary.redecided, "revocation")));
    }
    if synced.pending > 0 {
        lines.push(format!("pending    {}", counted(synced.pending, "command")));
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
