//! Acknowledgements are lost, connections are cut, the server is killed, while commands go on coming.

use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::roles::{EDGE_API_PREFIX, PipelineRole};
use cim_keys_tests::desk::{Desk, SHORT, STUCK, make_streams};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::proxy::{Cut, Proxy};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::site::serve;
use cim_keys_tests::wait;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Commands that may wait to be published before the writer pauses.
const AHEAD: u64 = 12;

/// Says that it is over, also when a test fails in between.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets one thread write commands and another publish them while `trouble` happens. Gives how many events were
/// published, when all are.
fn meanwhile(desk: &Desk, target: &Target, trouble: impl FnOnce()) -> u64 {
    let (over, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended = || over.load(Ordering::SeqCst);
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
                    None => last = Some(desk.user(&format!("user-{number}"))),
                }
            }
        });
        scope.spawn(|| {
            loop {
                let finished = ended();
                let run = desk.sync_for(target, None, STUCK);
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

fn is_event(subject: &str) -> bool {
    subject.starts_with("cowboyai.security.keys.")
}

/// How far the host has come on the stream.
fn head(desk: &Desk) -> u64 {
    desk.store().progress().unwrap().head
}

/// Waits until more is read or published than there was.
fn more(desk: &Desk, before: u64) {
    wait::until("more is published", || (head(desk) > before).then_some(()));
}

/// A server with the streams, a proxy before it, and a host that waits a short time for what the proxy loses.
fn scene() -> (NatsServer, Proxy, Target, Desk) {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    let proxy = Proxy::start(server.address());
    let target = Target { timeout: SHORT, ..Target::open(&proxy.url()) };
    (server, proxy, target, Desk::founded())
}

#[test]
fn acknowledgements_are_eaten_fifty_times() {
    let (server, proxy, target, desk) = scene();
    let published = meanwhile(&desk, &target, || {
        let eaten = proxy.eat_answers(50, is_event);
        for count in 1..=50 {
            wait::until("another acknowledgement is lost", || (eaten.met() >= count).then_some(()));
        }
    });
    let ledger = Ledger::of(&server);
    assert_eq!(ledger.last(), published);
    ledger.check(&[&desk]);
}

#[test]
fn connections_are_cut_fifty_times_before_and_after_a_publish() {
    let (server, proxy, target, desk) = scene();
    let published = meanwhile(&desk, &target, || {
        for number in 0..55 {
            let before = head(&desk);
            // In a batch it is the first message that is cut off: the rest of it never comes.
            let place = [Cut::Before, Cut::After, Cut::Inside][if number < 50 { number % 2 } else { 2 }];
            let cut = proxy.cut(place, 1, is_event);
            wait::until("a connection is cut", || (cut.met() == 1).then_some(()));
            // Cuts without end would only make the publisher more patient each time.
            more(&desk, before);
        }
    });
    let ledger = Ledger::of(&server);
    assert_eq!(ledger.last(), published);
    ledger.check(&[&desk]);
}

#[test]
fn the_server_is_killed_twenty_times() {
    let mut server = NatsServer::plain();
    let target = Target { timeout: SHORT, ..Target::open(&server.url()) };
    make_streams(&target, 120);
    let desk = Desk::founded();
    let published = meanwhile(&desk, &target, || {
        for _ in 0..20 {
            more(&desk, head(&desk));
            server.restart();
        }
    });
    let ledger = Ledger::of(&server);
    assert_eq!(ledger.last(), published);
    ledger.check(&[&desk]);
}

#[test]
fn the_same_through_the_edge_of_a_server_that_trusts_the_registry() {
    let desk = Desk::founded();
    let mut server = serve(desk.host());
    make_streams(&desk.role(PipelineRole::Steward, &server.url()), 120);
    let proxy = Proxy::start(server.address());
    let target = Target { timeout: SHORT, ..desk.role(PipelineRole::Host, &proxy.url()) };
    let published = meanwhile(&desk, &target, || {
        for place in [Cut::Before, Cut::After, Cut::Inside] {
            let eaten = proxy.eat_answers(5, is_event);
            for count in 1..=5 {
                wait::until("another acknowledgement is lost", || (eaten.met() >= count).then_some(()));
            }
            for _ in 0..5 {
                let (before, cut) = (head(&desk), proxy.cut(place, 1, is_event));
                wait::until("a connection is cut", || (cut.met() == 1).then_some(()));
                more(&desk, before);
            }
            server.restart();
            more(&desk, head(&desk));
        }
    });
    let ledger = Ledger::read_as(&desk.role(PipelineRole::Auditor, &server.url()), &server, EDGE_API_PREFIX);
    assert_eq!(ledger.last(), published);
    ledger.check(&[&desk]);
}
