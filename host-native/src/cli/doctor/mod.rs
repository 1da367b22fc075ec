//! `cim-keys doctor`: looks at everything one by one, and says what to do.

mod local;
#[cfg(feature = "nats")]
mod server;
#[cfg(feature = "nats")]
mod streams;

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::printable;
use serde::Serialize;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[cfg(feature = "nats")]
    #[command(flatten)]
    connection: super::connection::Connection,
    /// Where the server's monitoring listens: it alone tells how soon an acknowledged event is on the disk
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "HOST:PORT")]
    monitoring: Option<String>,
    /// Seconds of the stream's duplicate window, where the stream has another one on purpose
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duplicate_window: Option<u64>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it must be.
    Ok,
    /// It works, and somebody should know or do something.
    Warn,
    /// Wrong.
    Fail,
    /// It cannot be told from here.
    Unknown,
    /// Not looked at.
    Skipped,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Debug, Default)]
struct Findings {
    checks: Vec<Check>,
    /// What the flags are that name the same registry again, for advice.
    again: String,
}

impl Findings {
    fn add(&mut self, check: &str, state: State, found: impl Into<String>, advice: Option<String>) {
        let (check, found) = (check.to_owned(), found.into());
        self.checks.push(Check { check, state, found, expected: None, advice });
    }

    fn ok(&mut self, check: &str, found: impl Into<String>) {
        self.add(check, State::Ok, found, None);
    }

    fn warn(&mut self, check: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, State::Warn, found, Some(advice.into()));
    }

    fn fail(&mut self, check: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, State::Fail, found, Some(advice.into()));
    }

    #[cfg(feature = "nats")]
    fn unknown(&mut self, check: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, State::Unknown, found, Some(advice.into()));
    }

    /// Not looked at, for this reason.
    fn skipped(&mut self, checks: &[&str], why: &str) {
        for check in checks {
            self.add(check, State::Skipped, why, None);
        }
    }

    /// Wrong, in the words that any other verb would have for it.
    fn error(&mut self, check: &str, error: &CliError) {
        let advice = if error.hints.is_empty() { None } else { Some(error.hints.join("; ")) };
        self.add(check, State::Fail, error.message.clone(), advice);
    }

    fn count(&self, state: State) -> usize {
        self.checks.iter().filter(|check| check.state == state).count()
    }
}

#[derive(Serialize)]
struct Diagnosis {
    /// Whether nothing is wrong.
    ok: bool,
    failed: usize,
    warnings: usize,
    unknown: usize,
    skipped: usize,
    checks: Vec<Check>,
}

/// Checks that need a server, in the order in which they are made.
#[cfg(feature = "nats")]
const SERVER: [&str; 10] = [
    "creds",
    "connection",
    "tls",
    "server version",
    "clock",
    "permissions",
    "accounts on servers",
    "KEYS_EVENTS",
    "KEYS_ARCHIVE",
    "sync_interval",
];

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let mut findings = Findings { again: globals.again(), ..Findings::default() };
    let host = local::look(&mut findings, globals)?;
    #[cfg(feature = "nats")]
    match &host {
        Some(host) => server::look(&mut findings, args, globals, host)?,
        None => findings.skipped(&SERVER, "the store cannot be used"),
    }
    #[cfg(not(feature = "nats"))]
    let (Args {}, _) = (args, host);
    let diagnosis = Diagnosis {
        ok: findings.count(State::Fail) == 0,
        failed: findings.count(State::Fail),
        warnings: findings.count(State::Warn),
        unknown: findings.count(State::Unknown),
        skipped: findings.count(State::Skipped),
        checks: findings.checks,
    };
    globals.output().list(&diagnosis, &diagnosis.checks, text)?;
    match diagnosis.failed {
        0 => Ok(()),
        failed => Err(CliError::new(
            Exit::Verification,
            "doctor",
            format!("{failed} of {} checks failed", diagnosis.checks.len()),
        )),
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let width = diagnosis.checks.iter().map(|check| check.check.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in &diagnosis.checks {
        let (state, name) = (check.state.as_str(), &check.check);
        let found = printable(&check.found);
        lines.push(match &check.expected {
            Some(expected) if check.state != State::Ok => {
                format!("{state:7}  {name:width$}  {found}, must be {}", printable(expected))
            }
            _ => format!("{state:7}  {name:width$}  {found}"),
        });
        if let Some(advice) = &check.advice {
            lines.push(format!("{:7}  {:width$}  -> {}", "", "", printable(advice)));
        }
    }
    let (failed, warnings) = (diagnosis.failed, diagnosis.warnings);
    lines.push(match (failed, warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, _) => format!("nothing is wrong, {warnings} warnings"),
        _ => format!("{failed} failed, {warnings} warnings"),
    });
    lines.join("\n")
}
