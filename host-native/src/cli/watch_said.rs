//! What `sync --watch` says: a line for each change, and on a terminal how it stands in between.

use super::output::{Output, counted, printable};
use super::progress::{Bar, STEP};
use super::status::span;
use super::sync;
use crate::host::Host;
use crate::pump::Summary;
use crate::report::{Report, Server, State};
use crate::serve::log::{self, Level};
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::Status;
use cim_keys_core::time::Timestamp;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Where nothing is drawn: how often it is said again that something is still in the way.
const AGAIN: Duration = Duration::from_secs(60);

/// Knows how it stands, and what was said of it.
pub(super) struct Said<'a> {
    host: &'a Host,
    output: Output,
    bar: Bar<'a>,
    /// How it stands.
    report: RefCell<Report>,
    /// What was done, as far as it was said.
    done: RefCell<Summary>,
    /// What is done, while a pump works.
    doing: RefCell<Option<watch::Receiver<Summary>>>,
    /// What was said last: the state, and the code of its reason.
    last: RefCell<Option<(State, Option<String>)>>,
    /// When that was.
    at: Cell<Instant>,
}

impl<'a> Said<'a> {
    pub(super) fn new(host: &'a Host, output: Output) -> Self {
        Self {
            host,
            output,
            bar: Bar::new(host.store(), output),
            report: RefCell::default(),
            done: RefCell::default(),
            doing: RefCell::default(),
            last: RefCell::default(),
            at: Cell::new(Instant::now()),
        }
    }

    /// How it stands.
    pub(super) fn state(&self) -> State {
        self.report.borrow().state
    }

    /// Says what comes of something while it goes on, and to its end: of a pump with its summaries, or of a pause.
    pub(super) async fn beside<T>(
        &self,
        summaries: Option<watch::Receiver<Summary>>,
        work: impl Future<Output = T>,
    ) -> T {
        // What was done before was said before.
        *self.done.borrow_mut() = summaries.as_ref().map(|doing| doing.borrow().clone()).unwrap_or_default();
        *self.doing.borrow_mut() = summaries;
        let began = Instant::now();
        let total = self.host.store().pending().unwrap_or_default();
        let mut step = tokio::time::interval_at(began + STEP, STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut busy = (total, None);
        tokio::pin!(work);
        let value = loop {
            tokio::select! {
                biased;
                value = &mut work => break value,
                _ = step.tick() => self.look(&mut busy),
            }
        };
        self.tell(self.moved());
        *self.doing.borrow_mut() = None;
        self.bar.clear();
        value
    }

    /// From time to time. `busy` is what was pending when it began to work, and when that was.
    fn look(&self, busy: &mut (u64, Option<Instant>)) {
        self.tell(self.moved());
        let (state, next) = {
            let report = self.report.borrow();
            (report.state, report.next_probe)
        };
        if matches!(state, State::Waiting | State::Contended | State::Blocked) {
            *busy = (0, None);
            if self.bar.is_shown() {
                self.bar.draw(&self.stuck(state, next));
            } else if self.at.get().elapsed() >= AGAIN {
                self.say(Moved::default());
            }
        } else if state == State::Working {
            let (total, since) = *busy;
            let since = since.unwrap_or_else(Instant::now);
            let total = if total == 0 { self.host.store().pending().unwrap_or_default() } else { total };
            *busy = (total, Some(since));
            self.bar.draw(&self.bar.publishing(total, since.elapsed()));
        } else {
            *busy = (0, None);
            self.bar.clear();
        }
    }

    /// How long something has been in the way, and until when.
    fn stuck(&self, state: State, next: Option<Timestamp>) -> String {
        let now = self.host.ambient().now();
        let stored = self.host.store().report().ok().flatten().unwrap_or_default();
        let stored = Some(stored).filter(|stored| stored.state == state);
        let since = stored.as_ref().and_then(|stored| stored.since).or(self.report.borrow().since);
        let next = next.or(stored.and_then(|stored| stored.next_probe));
        let mut text = state.as_str().to_owned();
        if let Some(since) = since {
            text.push_str(&format!(" for {}", span(now.seconds() - since.seconds())));
        }
        if let Some(next) = next {
            text.push_str(&format!(", looks again in {}", span(next.seconds() - now.seconds())));
        }
        text
    }

    /// What was done and not said yet.
    fn moved(&self) -> Moved {
        let doing = self.doing.borrow();
        let Some(doing) = doing.as_ref() else { return Moved::default() };
        let now = doing.borrow().clone();
        Moved::between(&self.done.replace(now.clone()), &now)
    }

    /// Takes in how the machine stands. A try is no news.
    pub(super) fn stands(&self, status: &Status) {
        self.report.borrow_mut().stands(status, self.host.ambient().now());
        if *status != Status::Working && self.is_news() {
            self.tell(self.moved());
        }
    }

    /// Leaves behind that nothing goes on until then, and says so.
    pub(super) fn stopped(&self, reason: &Reason, pause: Duration) {
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
        self.tell(Moved::default());
    }

    /// Says that it ends.
    pub(super) fn end(&self) {
        self.bar.clear();
        self.output.say("stopping: nothing is lost");
    }

    fn is_news(&self) -> bool {
        let report = self.report.borrow();
        let state = (report.state, report.reason.as_ref().map(|reason| reason.code.clone()));
        report.state != State::Working && self.last.borrow().as_ref() != Some(&state)
    }

    /// Says how it stands where that is news, or where something moved.
    fn tell(&self, moved: Moved) {
        if self.is_news() || moved != Moved::default() {
            self.say(moved);
        }
    }

    fn say(&self, moved: Moved) {
        let report = self.report.borrow();
        if report.state != State::Working {
            *self.last.borrow_mut() =
                Some((report.state, report.reason.as_ref().map(|reason| reason.code.clone())));
        }
        self.at.set(Instant::now());
        let store = self.host.store();
        let stored = store.report().ok().flatten().unwrap_or_default();
        let counts = store.counts().unwrap_or_default();
        let blocked = report.reason.as_ref().filter(|_| report.state == State::Blocked);
        let same = stored.state == report.state;
        let line = Line {
            time: self.host.ambient().now(),
            state: report.state,
            since: stored.since.filter(|_| same).or(report.since),
            reason: report.reason.clone(),
            hints: blocked.map(|reason| sync::stood(self.host, reason).hints).unwrap_or_default(),
            next_probe: report.next_probe.or(stored.next_probe.filter(|_| same)),
            server: stored.server,
            head: store.progress().map(|progress| progress.head).unwrap_or_default(),
            pending: counts.pending,
            held: counts.held,
            moved,
        };
        self.bar.clear();
        if moved.anomalies > 0 {
            self.output.warn(&sync::anomalies(moved.anomalies));
        }
        if self.output.is_log() {
            line.log();
        } else if self.output.is_json() {
            // Whoever reads may have gone away: that ends nothing.
            let _ = self.output.data(&line, |_| String::new());
        } else {
            self.output.say(&line.text());
        }
    }
}

/// What was done.
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
            published: after.published.saturating_sub(before.published),
            commands: after.commands.saturating_sub(before.commands),
            read: after.read.saturating_sub(before.read),
            admitted: after.admitted.saturating_sub(before.admitted),
            anomalies: after.anomalies.saturating_sub(before.anomalies),
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
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
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
    /// As a line of a log: the same members.
    fn log(&self) {
        let level = if self.state == State::Blocked { Level::Error } else { Level::Info };
        let members = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(members)) => members,
            _ => serde_json::Map::new(),
        };
        let own = |name: &str| name == "time";
        let members: Vec<(&str, serde_json::Value)> = members
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        log::line(level, "synchronising", &members);
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.moved.published > 0 {
            parts.push(format!(
                "published {} of {}",
                counted(self.moved.published, "event"),
                counted(self.moved.commands, "command")
            ));
        }
        if self.moved.read > 0 {
            parts.push(format!(
                "read {}, {} of others",
                counted(self.moved.read, "message"),
                counted(self.moved.admitted, "command")
            ));
        }
        if let Some(reason) = &self.reason {
            parts.push(printable(&reason.text));
            let seconds = self.since.map_or(0, |since| self.time.seconds() - since.seconds());
            if seconds > 0 {
                parts.push(format!("for {}", span(seconds)));
            }
            if let Some(next) = self.next_probe {
                parts.push(format!("looks again in {}", span(next.seconds() - self.time.seconds())));
            }
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
        let mut text = format!("{}  {:9}  {}", self.time, self.state.as_str(), parts.join("; "));
        for hint in &self.hints {
            text.push_str(&format!("\n  hint: {}", printable(hint)));
        }
        text
    }
}
