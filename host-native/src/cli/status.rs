//! `cim-keys status`: how the registry stands, as far as this host knows.

use super::entities::{HeldView, Viewer, enforcement};
use super::exit::CliError;
use super::globals::Globals;
use super::output::{counted, printable};
use super::schema::Level;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::report::{self, Archive, Report, State};
use crate::store::{Counts, Store};
use cim_keys_core::admission::Anomaly;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::stream::KEYS_ARCHIVE;
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
    /// How synchronising stands, or stood when it ran last.
    sync: Syncing,
    /// The stream it knows; missing before it met one.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// When that stream was made, as its server writes it: one of the same name that was made anew is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_created: Option<String>,
    /// Which schema the registry asks for, and which this version knows.
    #[serde(flatten)]
    level: Level,
    /// The last sequence read.
    head: u64,
    #[serde(flatten)]
    counts: Counts,
    /// Commands of this host that are on the stream.
    confirmed: u64,
    /// Milliseconds since the oldest pending command was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_pending_ms: Option<i64>,
    /// Milliseconds since the oldest held command was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_held_ms: Option<i64>,
    held_commands: Vec<HeldView>,
    anomaly_list: Vec<Anomaly>,
    accounts_state: Vec<AccountStanding>,
    creds_not_written: Vec<NotWritten>,
    /// What a server says, where one is named.
    #[cfg(feature = "nats")]
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<super::status_server::ServerStanding>,
    /// Why a server that is named says nothing.
    #[cfg(feature = "nats")]
    #[serde(skip_serializing_if = "Option::is_none")]
    server_error: Option<CliError>,
}

/// What whoever synchronised last left behind.
#[derive(Debug, Serialize)]
struct Syncing {
    /// Whether a process is at it now: without one nothing is tried again.
    running: bool,
    #[serde(flatten)]
    report: Report,
    /// What to do where it is blocked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AccountStanding {
    name: String,
    public_key: PublicKey,
    confirmed: bool,
    /// Null where this host does not know: another one changed it.
    enforced: Option<bool>,
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
    let told = |standing| globals.output().data(standing, |standing| text(standing, now, globals));
    #[cfg(feature = "nats")]
    {
        let standing = standing(&store, now)?;
        // What is known here is said in any case.
        let (server, server_error) = match super::status_server::look(&args.connection, globals) {
            Ok(server) => (server, None),
            Err(error) => (None, Some(error)),
        };
        let standing = Standing { server, server_error, ..standing };
        told(&standing)?;
        standing.server_error.map_or(Ok(()), Err)
    }
    #[cfg(not(feature = "nats"))]
    {
        let Args {} = args;
        told(&standing(&store, now)?)
    }
}

/// What the store alone tells.
pub(super) fn standing(store: &Store, now: Timestamp) -> Result<Standing, CliError> {
    let registry = store.registry_id().map_err(KeyError::from)?;
    let progress = store.progress().map_err(KeyError::from)?;
    let viewer = Viewer::new(store, now);
    let mut accounts = Vec::new();
    for listed in store.accounts().map_err(KeyError::from)? {
        let view = viewer.view(&listed)?;
        accounts.push(AccountStanding {
            public_key: view.public_key,
            confirmed: view.confirmed,
            enforced: view.enforced,
            servers: view.servers,
            mark: enforcement(view.enforced),
            revocation_waits_since: match view.enforced {
                Some(false) => waiting_since(store, &listed.entity)?,
                _ => None,
            },
            name: view.name,
        });
    }
    let hand_outs = store.hand_outs().map_err(KeyError::from)?;
    let report = store.report().map_err(KeyError::from)?.unwrap_or_default();
    let age = |since: Option<Timestamp>| since.map(|since| now.millis() - since.millis());
    Ok(Standing {
        operator: registry.operator,
        operator_name: viewer.name_of(registry.operator)?,
        namespace: registry.namespace.to_string(),
        store: store.path().to_owned(),
        sync: Syncing {
            running: report::is_running(store.path()),
            hints: hints(progress.head, &report),
            report,
        },
        stream_created: progress.stream.as_ref().map(|stream| stream.created.clone()),
        stream: progress.stream.map(|stream| stream.name),
        level: Level::of(store)?,
        head: progress.head,
        counts: store.counts().map_err(KeyError::from)?,
        confirmed: store.confirmed().map_err(KeyError::from)?,
        oldest_pending_ms: age(store.oldest_pending().map_err(KeyError::from)?),
        oldest_held_ms: age(store.oldest_held().map_err(KeyError::from)?),
        held_commands: store.held().map_err(KeyError::from)?.iter().map(HeldView::from).collect(),
        anomaly_list: store.anomalies().map_err(KeyError::from)?,
        accounts_state: accounts,
        creds_not_written: hand_outs
            .iter()
            .map(|h| NotWritten { account: h.account, user: h.key.public_key })
            .collect(),
        #[cfg(feature = "nats")]
        server: None,
        #[cfg(feature = "nats")]
        server_error: None,
    })
}

/// What to do about why it is blocked, as `sync` says it.
pub(super) fn hints(head: u64, report: &Report) -> Vec<String> {
    #[cfg(feature = "nats")]
    {
        let blocked = report.reason.as_ref().filter(|_| report.state == State::Blocked);
        blocked.map(|reason| crate::exit::nats::stuck_at(head, reason).hints).unwrap_or_default()
    }
    #[cfg(not(feature = "nats"))]
    {
        let _ = (head, report);
        Vec::new()
    }
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
    let stream = match (&standing.stream, &standing.stream_created) {
        (Some(name), Some(created)) => {
            format!("{}, made {}, read up to {}", printable(name), printable(created), standing.head)
        }
        _ => "none met yet".to_owned(),
    };
    let mut lines = vec![
        format!("operator   {} {}", printable(&standing.operator_name), standing.operator),
        format!("subjects   {}.keys.>", standing.namespace),
        format!("store      {}", standing.store.display()),
        format!("stream     {stream}"),
        format!(
            "has        {}, {}, {}",
            counted(counts.accounts, "account"),
            counted(counts.users, "user"),
            counted(counts.keys, "key")
        ),
    ];
    lines.extend(standing.level.words(&again).map(|words| format!("schema     {words}")));
    lines.extend(standing.sync.text(now, &again));
    lines.push(format!("confirmed  {} of this host", counted(standing.confirmed, "command")));
    lines.push(match (counts.pending, standing.oldest_pending_ms) {
        (0, _) => "pending    nothing".to_owned(),
        (count, age) => {
            let age = age.map_or_else(String::new, |age| format!(", the oldest for {}", span(age / 1000)));
            format!("pending    {}{age}: cim-keys{again} sync", counted(count, "command"))
        }
    });
    if let Some(age) = standing.oldest_held_ms {
        lines.push(format!(
            "held       {}, the oldest for {}",
            counted(counts.held, "command"),
            span(age / 1000)
        ));
    }
    for held in &standing.held_commands {
        let about = printable(&held.about);
        lines.push(format!(
            "held       {} {about} ({}): {}",
            held.command,
            held.command_id,
            printable(&held.reason)
        ));
        let id = held.command_id;
        lines.push(if held.imported {
            format!("           it came in a bundle; to give it up: cim-keys{again} held drop {id}")
        } else {
            format!(
                "           to decide it anew: cim-keys{again} held retry {id}; to give it up: held drop {id}"
            )
        });
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
        let published = if account.confirmed { "" } else { ", pending" };
        let state = match (account.mark, account.servers) {
            (Some(mark), _) => mark.to_owned(),
            (None, Some(servers)) => format!("enforced on {}", counted(servers.into(), "server")),
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
    lines.extend(standing.server.iter().flat_map(|server| super::status_server::text(server, now.seconds())));
    lines.join("\n")
}

impl Syncing {
    /// One line says how it stands, more what it knows of the server.
    fn text(&self, now: Timestamp, again: &str) -> Vec<String> {
        let report = &self.report;
        let since = |at: Timestamp| format!("{at} ({} ago)", span(now.seconds() - at.seconds()));
        let mut parts = vec![report.state.as_str().to_owned()];
        parts.extend(report.since.map(|at| format!("since {}", since(at))));
        parts.extend(report.breaker_open.then(|| "the server fails too often".to_owned()));
        let next = report.next_probe.filter(|_| self.running);
        parts.extend(next.map(|at| match at.seconds() - now.seconds() {
            // What blocks it does not pass by itself.
            soon if soon > 0 && report.state == State::Blocked => format!("looks again in {}", span(soon)),
            soon if soon > 0 => format!("tries again in {}", span(soon)),
            _ => "trying again".to_owned(),
        }));
        parts.extend(match (self.running, report.state) {
            (true, _) => None,
            (false, State::Never) => Some(format!("cim-keys{again} sync")),
            (false, State::Idle) => Some("not running now".to_owned()),
            (false, State::Working) => {
                Some(format!("NOT RUNNING: it ended before it was done, cim-keys{again} sync"))
            }
            // What must be done first stands below.
            (false, State::Blocked) if !self.hints.is_empty() => {
                Some("NOT RUNNING: nothing tries again by itself".to_owned())
            }
            (false, State::Waiting | State::Contended | State::Blocked) => {
                Some(format!("NOT RUNNING: nothing tries again by itself, cim-keys{again} sync"))
            }
        });
        let mut lines = vec![format!("sync       {}", parts.join(", "))];
        if let Some(reason) = &report.reason {
            lines.push(format!("           {}: {}", printable(&reason.code), printable(&reason.text)));
        }
        lines.extend(self.hints.iter().map(|hint| format!("           -> {}", printable(hint))));
        if let Some(at) = report.contended_since {
            lines.push(format!("contended  since {}", since(at)));
        }
        if let Some(server) = &report.server {
            lines.push(format!(
                "last on    {} {} at {}",
                printable(&server.name),
                printable(&server.version),
                printable(&server.url)
            ));
        }
        if let Some(at) = report.creds_expire {
            lines.push(format!("creds      {}", expiry(at, now.seconds())));
        }
        match &report.archive {
            Some(Archive { created: Some(created), error: None, last, .. }) => {
                let last = last.map_or_else(String::new, |last| format!(", at {last} when it was seen last"));
                lines.push(format!("archive    {KEYS_ARCHIVE}, made {}{last}", printable(created)));
            }
            Some(Archive { error: Some(error), .. }) => {
                lines.push(format!("archive    WARNING: {}", printable(&error.text)));
            }
            Some(Archive { created: None, error: None, .. }) | None => {}
        }
        lines
    }
}

/// When creds end, in words.
pub(super) fn expiry(at: i64, now: i64) -> String {
    let time = Timestamp::from_millis(at.saturating_mul(1000));
    let time = time.map_or_else(|_| at.to_string(), |time| time.to_string());
    match at - now {
        left if left <= 0 => format!("EXPIRED at {time}: cim-keys access renew --role host"),
        left => format!("end at {time}, in {}", span(left)),
    }
}

/// Seconds in the largest fitting unit.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::rules::Reason;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn what_a_run_left_behind_is_said_in_words() {
        let text = |running, report: Report| {
            Syncing { running, report, hints: Vec::new() }.text(at(100_000_000), "").join("\n")
        };
        assert_eq!(text(false, Report::default()), "sync       never ran, cim-keys sync");
        let reason = |code: &str| Reason { code: code.into(), text: "because".into() };
        let waiting = Report {
            state: State::Waiting,
            since: Some(at(99_940_000)),
            reason: Some(reason("unreachable")),
            next_probe: Some(at(100_007_000)),
            breaker_open: true,
            ..Report::default()
        };
        let shown = text(true, waiting.clone());
        assert!(shown.contains("(60 s ago), the server fails too often, tries again in 7 s\n"), "{shown}");
        assert!(shown.ends_with("unreachable: because"), "{shown}");
        assert!(text(false, waiting).contains("NOT RUNNING: nothing tries again by itself"));
        let contended = Report {
            state: State::Contended,
            contended_since: Some(at(99_990_000)),
            creds_expire: Some(99_000),
            archive: Some(Archive {
                created: None,
                last: None,
                error: Some(reason("stream-missing")),
                seen: at(99_000_000),
            }),
            ..Report::default()
        };
        let shown = text(true, contended);
        for line in [
            "contended  since 1970-01-02T03:46:30.000Z (10 s ago)",
            "creds      EXPIRED at 1970-01-02T03:30:00.000Z: cim-keys access renew --role host",
            "archive    WARNING: because",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
        }
    }
}
