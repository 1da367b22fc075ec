//! `cim-keys sync --watch`: stays, publishes whatever is decided here, reads whatever others publish.

use super::connection::interrupted;
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::printable;
use super::progress::Bar;
use super::sync::{self, Args, Session};
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::{Link, Trouble};
use crate::nats::target::Target;
use crate::pump::{End, Lock, Pump, PumpError, Summary};
use crate::report::{self, Report, Server, State};
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::Status;
use cim_keys_core::time::Timestamp;
use serde::Serialize;
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Between two looks at journal and creds file.
const LOOK: Duration = Duration::from_millis(200);
/// The stream is asked again after so long, whatever was heard of it.
const ASK: Duration = Duration::from_secs(5);
/// The shortest time between two connections: refused creds are not tried more often.
const PACE: Duration = Duration::from_secs(1);
/// The longest time until something that is in the way is looked at again.
const PROBE: Duration = Duration::from_secs(30);
/// How long one drain may be stuck before its connection is made anew.
const STUCK: Duration = Duration::from_secs(300);

/// Stays until it is told to end, which is no failure. The caller has made sure that a server is named.
pub(super) async fn run(host: &Host, args: &Args, target: Target, globals: &Globals) -> Result<(), CliError> {
    let _place = Lock::named(host.store().path(), report::WATCH)?;
    let watch = Watch {
        host,
        args,
        globals,
        bar: Bar::new(host.store(), globals.output()),
        report: RefCell::default(),
        said: RefCell::default(),
    };
    tokio::select! {
        biased;
        () = interrupted() => {
            watch.bar.clear();
            globals.output().say("stopping: nothing is lost");
            Ok(())
        }
        failed = watch.stay(target) => Err(failed),
    }
}

struct Watch<'a> {
    host: &'a Host,
    args: &'a Args,
    globals: &'a Globals,
    bar: Bar<'a>,
    /// How it stands.
    report: RefCell<Report>,
    /// What was said last: the state, and the code of its reason.
    said: RefCell<Option<(State, Option<String>)>>,
}

/// Why a connection is given up.
enum Left {
    /// It works no more, or the creds are refused: with the reason.
    Stuck(Reason),
    /// There are other creds.
    Renewed,
}

/// What is in the journal and in the creds file, as far as a change of it is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    revision: u64,
    file: Option<(SystemTime, u64)>,
}

impl Watch<'_> {
    /// Returns when it cannot go on at all.
    async fn stay(&self, mut target: Target) -> CliError {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let file = target.file.clone();
            let seen = match self.seen(file.as_deref()) {
                Ok(seen) => seen,
                Err(error) => return error,
            };
            let left = match sync::open(self.host, target, self.args.duplicate_window, self.globals).await {
                Ok(session) => {
                    failures = 0;
                    match self.follow(session, seen, file.as_deref()).await {
                        Ok(left) => left,
                        Err(error) => return error,
                    }
                }
                Err(error) if is_final(error.exit) => return error,
                Err(error) => Left::Stuck(Reason { code: error.code, text: error.message }),
            };
            if let Left::Stuck(reason) = left {
                failures += 1;
                let pause = self.pause(failures);
                self.stopped(&reason, pause);
                self.until_renewed(began, pause, file.as_deref(), seen).await;
            } else {
                sleep(PACE.saturating_sub(began.elapsed())).await;
            }
            target = loop {
                match self.args.connection.target(self.globals, self.host) {
                    Ok(target) => break target,
                    // A file that is being written, or is gone for now.
                    Err(error) => {
                        let reason = Reason { code: error.code, text: error.message };
                        self.stopped(&reason, PACE);
                        sleep(PACE).await;
                    }
                }
            };
        }
    }

    /// Over one connection's creds: drains, rests until something moved, drains again.
    async fn follow(
        &self,
        session: Session<'_>,
        mut seen: Seen,
        file: Option<&Path>,
    ) -> Result<Left, CliError> {
        let Session { mut pump, warnings, .. } = session;
        for warning in &warnings {
            self.globals.output().warn(warning);
        }
        let namespace = &self.host.store().registry_id().map_err(KeyError::from)?.namespace;
        let log = namespace.log();
        let mut heard = None;
        let mut again = false;
        let mut before = Summary::default();
        loop {
            if is_deaf(heard.as_ref()) {
                // Before the stream is read, so that nothing falls between.
                heard = match pump.link() {
                    Some(link) => self.listen(link, &log).await,
                    None => None,
                };
            }
            if let Some(heard) = &mut heard {
                heard.borrow_and_update();
            }
            seen = Seen { file: seen.file, ..self.seen(file)? };
            let Some(end) = self.drain(&mut pump).await? else {
                // Another process is at it: it publishes what is here as well.
                sleep(LOOK).await;
                continue;
            };
            let moved = Moved::between(&before, pump.summary());
            before = pump.summary().clone();
            if moved.anomalies > 0 {
                self.globals.output().warn(&sync::anomalies(moved.anomalies));
            }
            let rest = match end {
                End::Drained | End::Stopped => ASK,
                End::Blocked(reason) | End::Patience(reason) if is_access(&reason.code) => {
                    return Ok(Left::Stuck(reason));
                }
                End::Blocked(reason) | End::Patience(reason) => {
                    self.stopped(&reason, PROBE);
                    PROBE
                }
            };
            self.tell(&moved);
            // Connected anew meanwhile: what comes from now on must be heard before the next rest.
            again = is_deaf(heard.as_ref()) && pump.link().is_some() && !again;
            if again {
                continue;
            }
            match self.rest(&pump, heard.as_mut(), rest, &seen, file).await? {
                Some(left) => return Ok(left),
                None => continue,
            }
        }
    }

    /// None where another process has the place.
    async fn drain(&self, pump: &mut Pump<'_>) -> Result<Option<End>, CliError> {
        let _lock = match Lock::take(self.host.store().path()) {
            Ok(lock) => lock,
            Err(PumpError::Locked { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let drained = pump.drain(STUCK, std::future::pending(), |status| self.stands(status));
        Ok(Some(self.bar.beside(drained).await?))
    }

    /// Where the log cannot be heard, the stream is asked from time to time.
    async fn listen(&self, link: &Link, log: &str) -> Option<watch::Receiver<u64>> {
        link.count(log).await.ok()
    }

    /// Waits until there is something to do, at most for `long`; what ends the connection is returned.
    async fn rest(
        &self,
        pump: &Pump<'_>,
        heard: Option<&mut watch::Receiver<u64>>,
        long: Duration,
        seen: &Seen,
        file: Option<&Path>,
    ) -> Result<Option<Left>, CliError> {
        let closed = async {
            match pump.link() {
                Some(link) => link.closed().await,
                None => std::future::pending().await,
            }
        };
        let message = async {
            let told = match heard {
                Some(heard) => heard.changed().await.is_ok(),
                None => false,
            };
            if !told {
                // Closed with its connection, which tells more.
                std::future::pending::<()>().await;
            }
        };
        let changed = async {
            loop {
                sleep(LOOK).await;
                let now = self.seen(file)?;
                if now != *seen {
                    return Ok::<bool, CliError>(now.file != seen.file);
                }
            }
        };
        tokio::select! {
            trouble = closed => Ok(match trouble {
                Trouble::Authorization { reason } => {
                    Some(Left::Stuck(Reason { code: "authorization".into(), text: reason }))
                }
                _ => None,
            }),
            () = message => Ok(None),
            changed = changed => Ok(changed?.then_some(Left::Renewed)),
            () = sleep(long) => Ok(None),
        }
    }

    /// Waits for `pause`, or until the creds file is another one; never less than [`PACE`] since `began`.
    async fn until_renewed(&self, began: Instant, pause: Duration, file: Option<&Path>, seen: Seen) {
        let until = Instant::now() + pause;
        while Instant::now() < until && stamp(file) == seen.file {
            sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
        sleep(PACE.saturating_sub(began.elapsed())).await;
    }

    /// Doubles with each failure in a row, with jitter.
    fn pause(&self, failures: u32) -> Duration {
        let longest = PACE.saturating_mul(1 << failures.saturating_sub(1).min(5)).min(PROBE);
        let random = self.host.ambient().moment().map_or(0, |moment| u32::from(moment.random[0]));
        (longest / 2).saturating_add(longest.saturating_mul(random) / 512).max(PACE)
    }

    fn seen(&self, file: Option<&Path>) -> Result<Seen, CliError> {
        let revision = self.host.store().revision().map_err(KeyError::from)?;
        Ok(Seen { revision, file: stamp(file) })
    }

    /// Takes in how the machine stands. A try is no news.
    fn stands(&self, status: &Status) {
        if *status == Status::Working {
            return;
        }
        let mut report = self.report.borrow_mut();
        report.stands(status, self.host.ambient().now());
        let stuck = matches!(report.state, State::Waiting | State::Contended | State::Blocked);
        drop(report);
        if stuck {
            self.tell(&Moved::default());
        }
    }

    /// Leaves behind that nothing goes on until then, and says so.
    fn stopped(&self, reason: &Reason, pause: Duration) {
        let now = self.host.ambient().now();
        let next = now.millis().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let next = Timestamp::from_millis(next).ok();
        let change = |report: &mut Report| {
            report.stopped(reason, now);
            report.next_probe = next;
        };
        // A report that cannot be written is no reason to end.
        let _ = self.host.store().note_report(change);
        change(&mut self.report.borrow_mut());
        self.tell(&Moved::default());
    }

    /// Says how it stands where that is news, or where something moved.
    fn tell(&self, moved: &Moved) {
        let report = self.report.borrow();
        let state = (report.state, report.reason.as_ref().map(|reason| reason.code.clone()));
        if *moved == Moved::default() && self.said.borrow().as_ref() == Some(&state) {
            return;
        }
        *self.said.borrow_mut() = Some(state);
        let store = self.host.store();
        let stored = store.report().ok().flatten().unwrap_or_default();
        let counts = store.counts().unwrap_or_default();
        let line = Line {
            time: self.host.ambient().now(),
            state: report.state,
            since: stored.since.filter(|_| stored.state == report.state).or(report.since),
            reason: report.reason.clone(),
            next_probe: stored.next_probe.filter(|_| stored.state == report.state),
            server: stored.server,
            head: store.progress().map(|progress| progress.head).unwrap_or_default(),
            pending: counts.pending,
            held: counts.held,
            moved: *moved,
        };
        self.bar.clear();
        let output = self.globals.output();
        if output.is_json() {
            // Whoever reads may have gone away: that ends nothing.
            let _ = output.data(&line, |_| String::new());
        } else {
            output.say(&line.text());
        }
    }
}

/// What came of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Moved {
    published: u64,
    commands: u64,
    read: u64,
    admitted: u64,
    anomalies: u64,
}

impl Moved {
    fn between(before: &Summary, after: &Summary) -> Self {
        Self {
            published: after.published - before.published,
            commands: after.commands - before.commands,
            read: after.read - before.read,
            admitted: after.admitted - before.admitted,
            anomalies: after.anomalies - before.anomalies,
        }
    }
}

/// One line of what is said.
#[derive(Debug, Serialize)]
struct Line {
    time: Timestamp,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    head: u64,
    pending: u64,
    held: u64,
    #[serde(flatten)]
    moved: Moved,
}

impl Line {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.moved.published > 0 {
            parts.push(format!(
                "published {} events of {} commands",
                self.moved.published, self.moved.commands
            ));
        }
        if self.moved.read > 0 {
            parts.push(format!(
                "read {} messages, {} commands of others",
                self.moved.read, self.moved.admitted
            ));
        }
        if let Some(reason) = &self.reason {
            parts.push(printable(&reason.text));
        }
        let server = self.server.as_ref().map(|server| format!(" on {}", printable(&server.name)));
        if self.state == State::Idle {
            parts.push(format!("at {}{}", self.head, server.unwrap_or_default()));
        }
        for (count, what) in [(self.pending, "pending"), (self.held, "held")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        format!("{}  {:9}  {}", self.time, self.state.as_str(), parts.join("; "))
    }
}

fn is_deaf(heard: Option<&watch::Receiver<u64>>) -> bool {
    heard.is_none_or(|heard| heard.has_changed().is_err())
}

/// What there is of a file that changes when somebody writes it anew.
fn stamp(file: Option<&Path>) -> Option<(SystemTime, u64)> {
    let meta = file?.metadata().ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Reasons after which creds are read again.
fn is_access(code: &str) -> bool {
    ["authorization", "creds-expired", "creds-not-yet-valid", "permission"].contains(&code)
}

/// Errors that no waiting mends.
fn is_final(exit: Exit) -> bool {
    matches!(exit, Exit::Unexpected | Exit::Usage | Exit::Validation | Exit::Interrupted)
}
