//! Several writers, several servers.

use super::scene::{Stay, is_event};
use super::{Invariant, NotRun, Run};
use crate::cluster::{Cluster, NODES};
use crate::desk::{Desk, STUCK, make_streams};
use crate::ledger::Ledger;
use crate::proxy::Proxy;
use crate::server::NatsServer;
use crate::tools::Version;
use crate::wait;
use crate::wire::Client;
use cim_keys::nats::target::Target;
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::KEYS_EVENTS;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a host may be stuck while servers come and go.
const PATIENCE: Duration = Duration::from_secs(120);

/// Any node of a cluster.
fn everywhere(cluster: &Cluster) -> Target {
    let urls = (0..NODES).map(|node| cluster.node(node).url()).collect();
    Target { urls, ..Target::open("") }
}

fn ledger(cluster: &Cluster) -> Ledger {
    let leader = cluster.whole(KEYS_EVENTS);
    let mut client = Client::connect(cluster.node(leader).address()).expect("a connection");
    Ledger::read(&mut client, API_PREFIX)
}

/// Row 7.
pub(super) fn leaders_killed(run: &mut Run) -> Result<(), NotRun> {
    let mut cluster = Cluster::start(Version::Newest);
    let target = everywhere(&cluster);
    make_streams(&target, 120);
    let one = Desk::founded();
    one.sync_for(&target, None, PATIENCE).drained();
    let two = one.twin();
    two.sync_for(&target, None, PATIENCE).drained();
    let over = AtomicBool::new(false);
    let write = |desk: &Desk, name: &str| {
        for number in 0.. {
            let user = desk.user(&format!("{name}-{number}"));
            if number % 3 == 0 {
                desk.revoke(user);
            }
            desk.sync_for(&target, None, PATIENCE).drained();
            if over.load(Ordering::SeqCst) {
                return;
            }
        }
    };
    let mut longest = Duration::ZERO;
    thread::scope(|scope| {
        scope.spawn(|| write(&one, "one"));
        scope.spawn(|| write(&two, "two"));
        let done = Over(&over);
        for _ in 0..run.tries {
            wait::pass(Duration::from_millis(run.between(4_000, 8_000)));
            let leader = cluster.whole(KEYS_EVENTS);
            cluster.kill(leader);
            let begun = Instant::now();
            cluster.leader(KEYS_EVENTS);
            longest = longest.max(begun.elapsed());
            cluster.restart(leader);
            run.happened(1);
        }
        drop(done);
    });
    run.healed(|| {
        cluster.whole(KEYS_EVENTS);
        for desk in [&one, &two, &one] {
            desk.sync_for(&target, None, PATIENCE).drained();
        }
    });
    let ledger = ledger(&cluster);
    run.did(format!(
        "the leader killed {} times, at most {} ms without one, while two hosts published {} events",
        run.tries,
        longest.as_millis(),
        ledger.last()
    ));
    run.judge(&ledger, &BTreeSet::new(), &[&one, &two]);
    let nodes: Vec<&NatsServer> = (0..NODES).map(|node| cluster.node(node)).collect();
    run.search(&[&one, &two], &nodes, &[]);
    Ok(())
}

/// Says that it is over, also when a row fails in between.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Row 8.
pub(super) fn quorum_lost(run: &mut Run) -> Result<(), NotRun> {
    let mut cluster = Cluster::start(Version::Newest);
    make_streams(&everywhere(&cluster), 120);
    let desk = Desk::founded();
    desk.sync_for(&everywhere(&cluster), None, PATIENCE).drained();
    for number in 0..run.tries {
        let leader = cluster.whole(KEYS_EVENTS);
        let proxy = Proxy::start(cluster.node(leader).address());
        let target = Target::open(&proxy.url());
        let user = desk.user(&format!("user-{number}"));
        desk.revoke(user);
        let others: Vec<usize> = (0..NODES).filter(|node| *node != leader).collect();
        let killed = number % 2 == 1;
        thread::scope(|scope| {
            let held = proxy.hold(1, is_event);
            let work = scope.spawn(|| desk.sync_for(&target, None, PATIENCE).drained());
            wait::until("a publish is on its way", || (held.met() == 1).then_some(()));
            for node in &others {
                if killed { cluster.kill(*node) } else { cluster.freeze(*node) }
            }
            held.let_go();
            wait::pass(Duration::from_secs(20));
            assert!(desk.pending() > 0, "I1: visibly pending, nothing was stored by two of three");
            for node in &others {
                if killed { cluster.restart(*node) } else { cluster.thaw(*node) }
            }
            let summary = run.healed(|| work.join().expect("a run that does not panic"));
            assert_eq!(summary.published, 3, "{summary:?}");
        });
        run.did(format!(
            "two of three nodes {} for 20 s in the middle of a publish",
            if killed { "killed" } else { "frozen" }
        ));
        run.happened(1);
    }
    run.judge(&ledger(&cluster), &BTreeSet::new(), &[&desk]);
    let nodes: Vec<&NatsServer> = (0..NODES).map(|node| cluster.node(node)).collect();
    run.search(&[&desk], &nodes, &[]);
    Ok(())
}

/// Row 11b.
pub(super) fn far_and_near(run: &mut Run) -> Result<(), NotRun> {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let near = Desk::founded();
    near.sync(&target).drained();
    let far = near.twin();
    let proxy = Proxy::start(server.address());
    proxy.delay(Duration::from_millis(25));
    let distant = Target::open(&proxy.url());
    let bulk = if run.is_quick() { 3_000 } else { 100_000 };

    // One event of ours while the other one appends fifty a second.
    let mut waited = Vec::new();
    let (over, mut appended) = (AtomicBool::new(false), 0);
    Stay::with(&far, distant.clone(), |_| {
        Stay::with(&near, target.clone(), |_| {
            thread::scope(|scope| {
                let writing = scope.spawn(|| {
                    let begun = Instant::now();
                    let mut written = 0_u32;
                    while !over.load(Ordering::SeqCst) {
                        near.user(&format!("near-{written}"));
                        written += 1;
                        let due = begun + written * Duration::from_millis(20);
                        wait::pass(due.saturating_duration_since(Instant::now()));
                    }
                    f64::from(written) / begun.elapsed().as_secs_f64()
                });
                let done = Over(&over);
                for number in 0..run.tries {
                    waited.push(got_in(&far, &format!("far-{number}")));
                    run.happened(1);
                }
                drop(done);
                let rate = writing.join().expect("a writer that does not panic");
                run.did(format!(
                    "the near host commits {rate:.0} commands a second, the far one is 50 ms away"
                ));
            });
        });
    });
    waited.sort();
    let at = |part: usize| waited[(waited.len() * part / 100).min(waited.len() - 1)];
    run.did(format!("one event of the far host is in after {:?} (median), {:?} (p99)", at(50), at(99)));
    assert!(at(99) <= Duration::from_secs(5), "I8: one event takes {:?} at p99", at(99));

    // And while it appends in bulk: it has everything ready, and the far host comes in between.
    while appended < bulk {
        near.user(&format!("bulk-{appended}"));
        appended += 1;
    }
    let (mut tries, mut worst) = (0, Duration::ZERO);
    Stay::with(&far, distant, |_| {
        Stay::with(&near, target.clone(), |_| {
            while near.pending() > 0 {
                worst = worst.max(got_in(&far, &format!("between-{tries}")));
                tries += 1;
            }
        });
    });
    run.did(format!(
        "while the near one appends {bulk} in bulk, {tries} of the far one get in, the last after {worst:?}"
    ));
    assert!(
        tries > 0 && worst <= Duration::from_secs(10),
        "I8: {tries} in {worst:?} while another appends in bulk"
    );
    run.holds(&[Invariant::I8]);
    for desk in [&near, &far, &near] {
        desk.sync_for(&target, None, STUCK).drained();
    }
    run.judge(&Ledger::of(&server), &BTreeSet::new(), &[&near, &far]);
    Ok(())
}

/// Commits one event and waits until it is confirmed.
fn got_in(desk: &Desk, name: &str) -> Duration {
    let begun = Instant::now();
    desk.user(name);
    wait::until("one event gets in", || (desk.pending() == 0).then_some(()));
    begun.elapsed()
}
