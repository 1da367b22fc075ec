//! `cim-keys sync --watch`: stays, publishes whatever is decided here, reads whatever others publish.

use super::connection::{Connection, interrupted};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::sync::{self, Args, Session};
use super::watch_said::Said;
use crate::host::Host;
use crate::nats::target::Target;
use crate::pump::{End, Lock, PumpError, Renew, Summary};
use crate::report::{self, State};
use crate::store::{Store, StoreError};
use cim_keys_core::projection::all;
use cim_keys_core::rules::Reason;
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Shared};
use std::cell::Cell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// Between two looks at the creds file.
const LOOK: Duration = Duration::from_millis(200);
/// The shortest time between two connections: refused creds are not tried more often.
const PACE: Duration = Duration::from_secs(1);
/// The longest time until something that is in the way is looked at again.
const PROBE: Duration = Duration::from_secs(30);
/// How long another process may have the place before that is said.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Stays until it is told to end, which is no failure. The caller has made sure that a server is named.
pub(super) async fn run(host: &Host, args: &Args, target: Target, globals: &Globals) -> Result<(), CliError> {
    let place = place(host, globals)?;
    stay(host, args, target, globals, interrupted().boxed_local(), place).await
}

/// The place of whoever stays.
pub(super) fn place(host: &Host, globals: &Globals) -> Result<Lock, CliError> {
    Lock::named(host.store().path(), report::WATCH).map_err(|error| match error {
        PumpError::Locked { .. } => {
            let text = "a `sync --watch` or `serve` runs on this registry already";
            CliError::new(Exit::Conflict, "locked", text)
                .hint(format!("it publishes what is decided here: `cim-keys{} status`", globals.again()))
        }
        error => error.into(),
    })
}

/// The same until `stop`.
pub(super) async fn stay(
    host: &Host,
    args: &Args,
    target: Target,
    globals: &Globals,
    stop: LocalBoxFuture<'static, ()>,
    _place: Lock,
) -> Result<(), CliError> {
    let stop = stop.shared();
    let watch = Watch { host, args, globals, said: Said::new(host, globals.output()), stop: stop.clone() };
    // What is at work is asked first: it ends in order when it is told to.
    let ended = tokio::select! {
        biased;
        ended = watch.stay(target) => ended,
        () = stop => Ok(()),
    };
    watch.said.end();
    ended
}

struct Watch<'a> {
    host: &'a Host,
    args: &'a Args,
    globals: &'a Globals,
    said: Said<'a>,
    /// Ctrl-C.
    stop: Shared<LocalBoxFuture<'static, ()>>,
}

/// Why a connection is given up.
enum Left {
    /// It works no more, or the creds are refused: with the reason.
    Stuck(Reason),
    /// There are other creds.
    Renewed,
    /// It was told to end.
    Ended,
}

/// Why a pump is stopped.
#[derive(Clone, Copy)]
enum Turn {
    /// Somebody else wants the place for a while.
    Wanted,
    Renewed,
    Ended,
}

/// What there is of a creds file that changes when somebody writes it anew.
type Stamp = Option<(SystemTime, u64)>;

/// A creds file, and what it was when it was read last.
#[derive(Clone)]
struct Creds {
    file: Option<PathBuf>,
    read: Arc<Mutex<Stamp>>,
}

impl Creds {
    fn new(file: Option<PathBuf>) -> Self {
        let read = Arc::new(Mutex::new(stamp(file.as_deref())));
        Self { file, read }
    }

    /// What it is now, where that is something else.
    fn changed(&self) -> Option<Stamp> {
        let now = stamp(self.file.as_deref());
        (now != *self.read.lock().unwrap_or_else(PoisonError::into_inner)).then_some(now)
    }

    fn was_read(&self, stamp: Stamp) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }
}

impl<'a> Watch<'a> {
    /// Returns when it is told to end, or cannot go on at all.
    async fn stay(&self, mut target: Target) -> Result<(), CliError> {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            // First what it is, then what it says: one that is written in between is read again.
            let creds = Creds::new(target.file.clone());
            target = self.target().await;
            let left =
                match sync::open(self.host, target.clone(), self.args.duplicate_window, self.globals).await {
                    Ok(session) => {
                        failures = 0;
                        self.follow(session, &creds).await?
                    }
                    Err(error) if is_final(error.exit) => return Err(error),
                    Err(error) => Left::Stuck(Reason { code: error.code, text: error.message }),
                };
            match left {
                Left::Ended => return Ok(()),
                Left::Renewed => {}
                Left::Stuck(reason) => {
                    failures += 1;
                    let pause = self.pause(failures);
                    self.said.stopped(&reason, pause);
                    self.said.beside(None, self.until_renewed(pause, &creds)).await;
                }
            }
            sleep(PACE.saturating_sub(began.elapsed())).await;
        }
    }

    /// Where it leads, now. A file that is being written, or is gone for now, is waited for.
    async fn target(&self) -> Target {
        loop {
            match self.args.connection.target(self.globals, self.host) {
                Ok(target) => return target,
                Err(error) => {
                    self.said.stopped(&Reason { code: error.code, text: error.message }, PACE);
                    sleep(PACE).await;
                }
            }
        }
    }

    /// Keeps journal and stream together, as long as nobody else wants the place and the creds are the same.
    async fn follow(&self, session: Session<'a>, creds: &Creds) -> Result<Left, CliError> {
        for warning in &session.warnings {
            self.globals.output().warn(warning);
        }
        let mut pump =
            session.pump.renewing(renewing(self.host, &self.args.connection, self.globals, creds.clone()));
        loop {
            let lock = self.place().await?;
            let turn = Cell::new(Turn::Ended);
            let stop = async {
                turn.set(tokio::select! {
                    biased;
                    () = self.stop.clone() => Turn::Ended,
                    () = Lock::is_wanted(self.host.store().path()) => Turn::Wanted,
                    () = self.replaced(creds) => Turn::Renewed,
                });
            };
            let summaries = pump.summaries();
            let folding = projecting(self.host.store().path(), pump.summaries());
            let stayed = pump.stay(stop, |status| self.said.stands(status));
            let stayed = async {
                tokio::select! {
                    biased;
                    end = stayed => end,
                    never = folding => match never {},
                }
            };
            let end = self.said.beside(Some(summaries), stayed).await?;
            drop(lock);
            match (end, turn.get()) {
                (End::Blocked(reason) | End::Patience(reason), _) => return Ok(Left::Stuck(reason)),
                (End::Drained, _) | (End::Stopped, Turn::Wanted) => {}
                (End::Stopped, Turn::Renewed) => return Ok(Left::Renewed),
                (End::Stopped, Turn::Ended) => return Ok(Left::Ended),
            }
        }
    }

    /// The place of the one pump at work.
    async fn place(&self) -> Result<Lock, CliError> {
        let place = Lock::stay(self.host.store().path());
        tokio::pin!(place);
        tokio::select! {
            biased;
            lock = &mut place => return Ok(lock?),
            () = sleep(ELSEWHERE) => self.globals.output().say("another process synchronises here: waiting for its end"),
        }
        Ok(place.await?)
    }

    /// Waits until there are other creds while those in use work: a pump that is refused asks for them by itself.
    async fn replaced(&self, creds: &Creds) {
        loop {
            sleep(LOOK).await;
            let works = matches!(self.said.state(), State::Working | State::Idle | State::Contended);
            if works
                && creds.changed().is_some()
                && self.args.connection.target(self.globals, self.host).is_ok()
            {
                return;
            }
        }
    }

    /// Waits for `pause`, or until the creds file is another one.
    async fn until_renewed(&self, pause: Duration, creds: &Creds) {
        let until = Instant::now() + pause;
        while Instant::now() < until && creds.changed().is_none() {
            sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Doubles with each failure in a row, with jitter.
    fn pause(&self, failures: u32) -> Duration {
        let longest = PACE.saturating_mul(1 << failures.saturating_sub(1).min(5)).min(PROBE);
        let random = self.host.ambient().moment().map_or(0, |moment| u32::from(moment.random[0]));
        (longest / 2).saturating_add(longest.saturating_mul(random) / 512).max(PACE)
    }
}

/// Folds what was read into the projections, beside the pump: over a connection to the store of its own, in portions that
/// keep nobody waiting. What cannot be folded now is folded by whoever needs it.
async fn projecting(store: &Path, mut summaries: tokio::sync::watch::Receiver<Summary>) -> Infallible {
    let mut kept = None;
    loop {
        let path = store.to_owned();
        // One portion after another: whoever ends this does not wait for all of them.
        let folded = tokio::task::spawn_blocking(move || {
            let store = kept.map_or_else(|| Store::open(&path), Ok)?;
            for projection in all() {
                if store.project_portion(projection)? {
                    return Ok((store, true));
                }
            }
            Ok::<_, StoreError>((store, false))
        });
        let more;
        (kept, more) = match folded.await {
            Ok(Ok((store, more))) => (Some(store), more),
            _ => (None, false),
        };
        if more {
            continue;
        }
        sleep(LOOK).await;
        if summaries.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Reads creds again where their file is another one, and leaves behind when those end.
fn renewing<'a>(host: &'a Host, connection: &'a Connection, globals: &'a Globals, creds: Creds) -> Renew<'a> {
    Box::new(move || {
        let now = creds.changed()?;
        let target = connection.target(globals, host).ok()?;
        creds.was_read(now);
        let expire = target.file.as_ref().and_then(|_| target.expires());
        let _ = host.store().note_report(|report| report.creds_expire = expire.or(report.creds_expire));
        Some(target)
    })
}

fn stamp(file: Option<&Path>) -> Stamp {
    let meta = file?.metadata().ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Errors that no waiting mends.
fn is_final(exit: Exit) -> bool {
    matches!(exit, Exit::Unexpected | Exit::Usage | Exit::Validation | Exit::Interrupted)
}
