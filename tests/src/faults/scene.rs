//! What a row stands before: a server that trusts a registry, its streams, a proxy, and hosts that work.

use crate::desk::{Desk, SHORT, STUCK, block_on, make_streams};
use crate::ledger::Ledger;
use crate::proxy::Proxy;
use crate::server::NatsServer;
use crate::site::serve;
use crate::wait;
use cim_keys::nats::target::Target;
use cim_keys::pump::{End, Lock, Pump};
use cim_keys_core::roles::{EDGE_API_PREFIX, PipelineRole};
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::Status;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Commands that may wait to be published before the writer pauses.
const AHEAD: u64 = 12;

/// A server in operator mode, with a host that comes in through the proxy as its role.
pub(super) struct Scene {
    /// The host.
    pub(super) desk: Desk,
    /// The server.
    pub(super) server: NatsServer,
    /// Between them.
    pub(super) proxy: Proxy,
}

impl Scene {
    /// With the streams, and nothing on them.
    ///
    /// # Panics
    /// When anything of it fails.
    pub(super) fn new() -> Scene {
        let desk = Desk::founded();
        let server = serve(desk.host());
        make_streams(&desk.role(PipelineRole::Steward, &server.url()), 120);
        let proxy = Proxy::start(server.address());
        Scene { desk, server, proxy }
    }

    /// How the host gets in, through the proxy, made now; an answer may take this long.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub(super) fn target(&self, timeout: Duration) -> Target {
        Target { timeout, ..self.desk.role(PipelineRole::Host, &self.proxy.url()) }
    }

    /// The same where answers get lost on purpose.
    pub(super) fn hasty(&self) -> Target {
        self.target(SHORT)
    }

    /// What the stream holds, read past the proxy.
    ///
    /// # Panics
    /// When it cannot be read.
    pub(super) fn ledger(&self) -> Ledger {
        let auditor = self.desk.role(PipelineRole::Auditor, &self.server.url());
        Ledger::read_as(&auditor, &self.server, EDGE_API_PREFIX)
    }
}

/// Whether a subject is one of the default namespace's events.
pub fn is_event(subject: &str) -> bool {
    subject.starts_with("cowboyai.security.keys.")
}

/// How far the host has come on the stream.
///
/// # Panics
/// When its store fails.
pub fn head(desk: &Desk) -> u64 {
    desk.store().progress().expect("a store that works").head
}

/// Waits until more is read or published than there was.
///
/// # Panics
/// When nothing comes.
pub fn more(desk: &Desk, before: u64) {
    wait::until("more is published", || (head(desk) > before).then_some(()));
}

/// Says that it is over, also when a row fails in between.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets one thread write commands and another publish them while `trouble` happens. Gives how many events were published,
/// when all are.
///
/// # Panics
/// When the publisher comes to a stand.
pub fn meanwhile(desk: &Desk, target: &Target, trouble: impl FnOnce()) -> u64 {
    let (over, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended = || over.load(Ordering::SeqCst);
    let first = desk.commands().len();
    thread::scope(|scope| {
        let over = Over(&over);
        scope.spawn(|| {
            let mut last = None;
            for number in 0.. {
                wait::until("the publisher keeps up", || (ended() || desk.pending() < AHEAD).then_some(()));
                if ended() {
                    return;
                }
                // Commands of one event, and of two.
                match last.take().filter(|_| number % 4 == 3) {
                    Some(user) => drop(desk.revoke(user)),
                    None => last = Some(desk.user(&format!("user-{first}-{number}"))),
                }
            }
        });
        scope.spawn(|| {
            loop {
                let finished = ended();
                let run = desk.sync_for(target, None, 3 * STUCK);
                assert_eq!(run.end, End::Drained, "{:?}", run.summary);
                published.fetch_add(run.summary.published, Ordering::SeqCst);
                if finished && desk.pending() == 0 {
                    return;
                }
                wait::until("something to publish", || (ended() || desk.pending() > 0).then_some(()));
            }
        });
        trouble();
        drop(over);
    });
    published.into_inner()
}

/// A host that stays, as a service does, and what it says of itself.
#[derive(Default)]
pub(super) struct Stay {
    said: Mutex<Vec<(Instant, Status)>>,
    renewed: Mutex<Option<Target>>,
}

impl Stay {
    /// Runs one while something is done.
    pub(super) fn with<T>(desk: &Desk, first: Target, work: impl FnOnce(&Stay) -> T) -> T {
        let service = Stay::default();
        thread::scope(|scope| {
            let (stop, stopped) = oneshot::channel::<()>();
            let (service, store) = (&service, desk.store().path());
            let staying = scope.spawn(move || {
                let _lock = Lock::take(store).expect("nobody else syncs this store");
                let renew = || service.renewed.lock().expect("no panic").take();
                let mut pump = Pump::new(desk.host(), first).renewing(Box::new(renew));
                let note = |status: &Status| {
                    service.said.lock().expect("no panic").push((Instant::now(), status.clone()));
                };
                let end = pump.stay(async { drop(stopped.await) }, note);
                block_on(end).expect("a store that works")
            });
            let outcome = work(service);
            drop(stop);
            staying.join().expect("a run that does not panic");
            outcome
        })
    }

    /// Other creds are to be had from now on.
    pub(super) fn renew(&self, target: Target) {
        *self.renewed.lock().expect("no panic") = Some(target);
    }

    fn look<T>(&self, since: Instant, mut of: impl FnMut(&Status) -> Option<T>) -> Option<(Instant, T)> {
        let said = self.said.lock().expect("no panic");
        said.iter().filter(|(at, _)| *at >= since).find_map(|(at, status)| Some((*at, of(status)?)))
    }

    /// Waits until it says that it is blocked.
    pub(super) fn blocked(&self, since: Instant) -> (Instant, Reason) {
        wait::until("the host says that it is blocked", || {
            self.look(since, |status| match status {
                Status::Blocked { reason } => Some(reason.clone()),
                _ => None,
            })
        })
    }

    /// Waits until it has nothing left to do.
    pub(super) fn idle(&self, since: Instant) {
        wait::until("the host has nothing left to do", || {
            self.look(since, |status| (*status == Status::Idle).then_some(()))
        });
    }
}
