//! How synchronising stands: a small value that whoever synchronises leaves in the store, for whoever asks later.

use crate::ambient::Ambient;
use crate::store::Store;
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::{Output, Status};
use cim_keys_core::time::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What the machine calls it when other writers are always first.
pub const CONTENDED: &str = "contended";
/// Purposes of locks: a pump at work, and a process that stays and works whenever there is something.
pub(crate) const SYNC: &str = "sync";
pub(crate) const WATCH: &str = "watch";
/// Held by whoever asks a process that stays for its place.
#[cfg(feature = "nats")]
pub(crate) const NEXT: &str = "next";
/// Reasons that a person need not do anything about: it is tried again by itself.
const PASSING: [&str; 7] =
    ["unreachable", "no-answer", "no-responders", "resources", "api", "read-behind", CONTENDED];

/// Where synchronising stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It never ran.
    #[default]
    Never,
    /// At work; or its process ended in the middle of it.
    Working,
    /// Everything was published and read.
    Idle,
    /// Something failed that passes: it tries again by itself.
    Waiting,
    /// Other writers are always first.
    Contended,
    /// It cannot go on until somebody changes something.
    Blocked,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never ran",
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Contended => "contended",
            Self::Blocked => "blocked",
        }
    }
}

/// How synchronising stands, or stood when it ran last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Where it stands.
    pub state: State,
    /// Since when, without a break, for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<Timestamp>,
    /// Whether the breaker is open: the server fails too often to be asked more before that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub breaker_open: bool,
    /// Since when other writers have always been first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contended_since: Option<Timestamp>,
    /// The server it was connected to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// When the creds that it used end, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds_expire: Option<i64>,
    /// The stream's archive, as it was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its address, without passwords.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Its version, as it writes it.
    pub version: String,
}

/// The mirror that forgets nothing, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Creation time as the server writes it; none where there is no archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Its last sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Why it was not seen, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Reason>,
    /// When it was looked at.
    pub seen: Timestamp,
}

impl Report {
    /// Takes in what the machine says of itself.
    pub fn stands(&mut self, status: &Status, now: Timestamp) {
        match status {
            Status::Working => self.set(State::Working, None, None, now),
            Status::Idle => self.set(State::Idle, None, None, now),
            Status::Contended { millis } => {
                let text = "other writers were always first".to_owned();
                self.set(State::Contended, Some(Reason { code: CONTENDED.into(), text }), None, now);
                let began = i64::try_from(*millis).ok().and_then(|millis| now.millis().checked_sub(millis));
                self.contended_since = began.and_then(|began| Timestamp::from_millis(began).ok());
            }
            Status::Waiting { reason, open, millis } => {
                self.set(State::Waiting, Some(reason.clone()), after(now, *millis), now);
                self.breaker_open = *open;
            }
            Status::Blocked { reason } => self.set(State::Blocked, Some(reason.clone()), None, now),
        }
    }

    /// Takes in that a run came to a stand. Nobody tries again until the next one.
    pub fn stopped(&mut self, reason: &Reason, now: Timestamp) {
        let state = match reason.code.as_str() {
            CONTENDED => State::Contended,
            passing if PASSING.contains(&passing) => State::Waiting,
            _ => State::Blocked,
        };
        self.set(state, Some(reason.clone()), None, now);
    }

    fn set(&mut self, state: State, reason: Option<Reason>, next_probe: Option<Timestamp>, now: Timestamp) {
        let code = |reason: &Option<Reason>| reason.as_ref().map(|reason| reason.code.clone());
        if self.state != state || code(&self.reason) != code(&reason) || self.since.is_none() {
            self.since = Some(now);
        }
        self.contended_since = match state {
            State::Contended => self.contended_since.or(Some(now)),
            State::Never | State::Working | State::Idle | State::Waiting | State::Blocked => None,
        };
        self.breaker_open = false;
        (self.state, self.reason, self.next_probe) = (state, reason, next_probe);
    }
}

/// Writes one machine's state into the store when it changes: not for each batch.
#[derive(Debug)]
pub struct Reporter {
    last: State,
    server: Option<Server>,
    due: Option<Due>,
}

/// What is to be written.
#[derive(Debug)]
struct Due {
    status: Status,
    at: Timestamp,
    next_probe: Option<Timestamp>,
}

impl Reporter {
    /// Goes on from what whoever was here last left behind.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let Report { state, server, .. } = store.report().ok().flatten().unwrap_or_default();
        Self { last: state, server, due: None }
    }

    /// Looks at what the machine wants done; [`leave`](Self::leave) writes what is new. A try is no change: what was idle,
    /// waiting or blocked is so until something is sent, read or published.
    pub fn note(&mut self, ambient: &Ambient, outputs: &[Output], server: impl FnOnce() -> Option<Server>) {
        let last = self.last;
        let mut status = None;
        for output in outputs {
            let begun = match output {
                Output::Report(Status::Working) => last == State::Never,
                Output::Report(found) => {
                    status = Some(found.clone());
                    false
                }
                // Reading may work where appending does not.
                Output::Send(_) => matches!(last, State::Never | State::Idle),
                Output::Persist(persist) => !persist.messages.is_empty() || !persist.confirmed.is_empty(),
                _ => false,
            };
            if begun && last != State::Working {
                status = status.or(Some(Status::Working));
            }
        }
        let Some(status) = status else { return };
        let (mut report, at) = (Report::default(), ambient.now());
        report.stands(&status, at);
        let server = server();
        let moved = server.is_some() && server != self.server;
        let waits = matches!(report.state, State::Waiting | State::Contended | State::Blocked);
        if last == report.state && !waits && !moved {
            return;
        }
        self.last = report.state;
        self.server = server.or(self.server.take());
        let pause = outputs.iter().find_map(|output| match output {
            Output::Wait { millis } => after(at, *millis),
            _ => None,
        });
        self.due = Some(Due { status, at, next_probe: pause.filter(|_| report.state == State::Blocked) });
    }

    /// Writes what is new, once what was to be sent is on its way. A report that cannot be written stops nothing.
    pub fn leave(&mut self, store: &Store) {
        let Some(Due { status, at, next_probe }) = self.due.take() else { return };
        let server = self.server.clone();
        let _ = store.note_report(|report| {
            report.stands(&status, at);
            report.next_probe = report.next_probe.or(next_probe);
            report.server = server.or(report.server.take());
        });
    }
}

/// The file whose lock says that somebody works on a store for this purpose.
#[must_use]
pub fn lock_file(store: &Path, purpose: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(format!(".{purpose}.lock"));
    path.into()
}

/// Whether a process synchronises this store now. Its lock goes with it, however it ends.
#[must_use]
pub fn is_running(store: &Path) -> bool {
    [SYNC, WATCH].iter().any(|purpose| is_taken(store, purpose))
}

/// Whether a process holds the lock of this purpose.
pub(crate) fn is_taken(store: &Path, purpose: &str) -> bool {
    let Ok(file) = File::open(lock_file(store, purpose)) else { return false };
    // Given back at once; whoever takes the place asks again before it gives up.
    let taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    taken == Err(rustix::io::Errno::WOULDBLOCK)
}

fn after(now: Timestamp, millis: u64) -> Option<Timestamp> {
    Timestamp::from_millis(now.millis().checked_add(i64::try_from(millis).ok()?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn reason(code: &str) -> Reason {
        Reason { code: code.into(), text: code.into() }
    }

    #[test]
    fn since_counts_from_when_it_began_for_this_reason() {
        let mut report = Report::default();
        assert_eq!((report.state, report.since), (State::Never, None));
        let waiting = |code, millis| Status::Waiting { reason: reason(code), open: millis > 100, millis };
        report.stands(&waiting("unreachable", 100), at(1000));
        assert!(!report.breaker_open);
        report.stands(&waiting("unreachable", 200), at(2000));
        assert_eq!((report.since, report.next_probe), (Some(at(1000)), Some(at(2200))));
        assert!(report.breaker_open);
        report.stands(&waiting("no-answer", 50), at(3000));
        assert_eq!((report.state, report.since), (State::Waiting, Some(at(3000))));
        report.stands(&Status::Contended { millis: 2500 }, at(6500));
        report.stopped(&reason(CONTENDED), at(7000));
        assert_eq!((report.state, report.contended_since), (State::Contended, Some(at(4000))));
        report.stopped(&reason("authorization"), at(8000));
        assert_eq!((report.state, report.contended_since), (State::Blocked, None));
        report.stands(&Status::Idle, at(9000));
        assert_eq!((report.state, report.reason.as_ref(), report.next_probe), (State::Idle, None, None));
    }

    #[test]
    fn only_a_held_lock_means_that_somebody_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        assert!(!is_running(&store));
        for purpose in [SYNC, WATCH] {
            let file = File::create(lock_file(&store, purpose)).unwrap();
            assert!(!is_running(&store));
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert!(is_running(&store));
            drop(file);
            assert!(!is_running(&store));
        }
    }
}
