//! Acknowledgements are lost, connections are cut, the server is killed, while events go on coming.

use cim_keys::nats::target::Target;
use cim_keys::outbox::{Outbox, OutboxPump, Receipt};
use cim_keys::ports::JetStreamPort;
use cim_keys::pump::End;
use cim_keys_core::sync::Status;
use cim_keys_tests::cluster::{Cluster, NODES};
use cim_keys_tests::desk::block_on;
use cim_keys_tests::outbox::{Shop, Stored, event, stored, target};
use cim_keys_tests::proxy::{Cut, Proxy};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Events that may wait to be published before the service pauses.
const AHEAD: u64 = 20;

/// Says that it is over, also when a test fails in between.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A pump that stays publishes while a service journals events and `trouble` happens; gives the receipts when all are
/// settled.
fn meanwhile(outbox: &Outbox, target: &Target, trouble: impl FnOnce()) -> Vec<Receipt> {
    let over = AtomicBool::new(false);
    let ended = || over.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let guard = Over(&over);
        let service = scope.spawn(|| {
            let mut receipts = Vec::new();
            while !ended() {
                receipts.push(outbox.publish_event(&event(receipts.len() as u64)).unwrap());
                wait::until("the pump keeps up", || {
                    (ended() || outbox.counts().unwrap().pending < AHEAD).then_some(())
                });
            }
            receipts
        });
        scope.spawn(|| {
            let mut pump = OutboxPump::new(outbox, target.clone()).unwrap();
            block_on(async {
                let settled = wait::beside(|| ended() && outbox.counts().unwrap().pending == 0);
                assert_eq!(pump.stay(settled, |_| {}).await, Ok(End::Stopped));
            });
        });
        trouble();
        drop(guard);
        service.join().unwrap()
    })
}

/// Each event stands on the stream once, in the order of the calls, where its receipt says.
fn check(stored: &[Stored], receipts: &[Receipt]) {
    let numbers: Vec<u64> = stored.iter().map(Stored::number).collect();
    assert_eq!(numbers, (0..receipts.len() as u64).collect::<Vec<_>>());
    for (receipt, stored) in receipts.iter().zip(stored) {
        assert_eq!(receipt.look().unwrap().unwrap().sequence, stored.sequence);
        assert_eq!(receipt.id().to_string(), stored.id);
    }
}

fn is_event(subject: &str) -> bool {
    subject.starts_with("cowboyai.security.orders.")
}

fn more(outbox: &Outbox) {
    let before = outbox.counts().unwrap().published;
    wait::until("more is published", || (outbox.counts().unwrap().published > before).then_some(()));
}

#[test]
fn acknowledgements_are_eaten_and_the_server_remembers_nothing_for_long() {
    // Longer than the patience with an answer, or shorter than what a lost one costs.
    for window in [Duration::from_secs(120), Duration::from_millis(100)] {
        let shop = Shop::new(window);
        let proxy = Proxy::start(shop.server.address());
        let outbox = shop.outbox();
        let receipts = meanwhile(&outbox, &target(proxy.address()), || {
            // One in four: a server that answers nothing more often is left alone for longer each time.
            let asked = AtomicU64::new(0);
            let eaten = proxy.eat_answers(20, move |subject| {
                is_event(subject) && asked.fetch_add(1, Ordering::SeqCst) % 4 == 3
            });
            for count in 1..=20 {
                wait::until("another acknowledgement is lost", || (eaten.met() >= count).then_some(()));
            }
        });
        check(&shop.stored(), &receipts);
    }
}

#[test]
fn connections_are_cut_before_inside_and_after_a_publish() {
    let shop = Shop::new(Duration::from_millis(100));
    let proxy = Proxy::start(shop.server.address());
    let outbox = shop.outbox();
    let receipts = meanwhile(&outbox, &target(proxy.address()), || {
        for number in 0..30 {
            let cut = proxy.cut([Cut::Before, Cut::After, Cut::Inside][number % 3], 1, is_event);
            wait::until("a connection is cut", || (cut.met() == 1).then_some(()));
            more(&outbox);
        }
    });
    check(&shop.stored(), &receipts);
}

#[test]
fn the_server_is_killed_and_comes_back() {
    let mut shop = Shop::new(Duration::from_secs(120));
    let (outbox, target) = (shop.outbox(), target(shop.server.address()));
    let server = &mut shop.server;
    let receipts = meanwhile(&outbox, &target, || {
        for _ in 0..12 {
            more(&outbox);
            server.restart();
        }
        more(&outbox);
    });
    check(&shop.stored(), &receipts);
}

#[test]
fn three_nodes_lose_their_leader() {
    let mut cluster = Cluster::start(Version::Newest);
    let mut client = Client::connect(cluster.node(0).address()).unwrap();
    let stream = json!({ "name": "ORDERS", "subjects": ["cowboyai.security.orders.>"], "num_replicas": 3,
        "duplicate_window": 100_000_000 });
    let made = client.request("$JS.API.STREAM.CREATE.ORDERS", &[], stream.to_string().as_bytes()).unwrap();
    assert!(made.json()["error"].is_null(), "{made:?}");
    let folder = TempDir::new().unwrap();
    let outbox = Shop::open(&folder.path().join("orders.outbox"));
    let urls = (0..NODES).map(|node| cluster.node(node).url()).collect();
    let target = Target { urls, ..target(cluster.node(0).address()) };
    let receipts = meanwhile(&outbox, &target, || {
        for _ in 0..2 {
            more(&outbox);
            let leader = cluster.leader("ORDERS");
            cluster.kill(leader);
            more(&outbox);
            cluster.restart(leader);
            cluster.whole("ORDERS");
        }
        more(&outbox);
    });
    let leader = cluster.whole("ORDERS");
    check(&stored(cluster.node(leader).address()), &receipts);
}

#[test]
fn an_attempt_that_arrives_after_the_window_is_there_twice_unless_it_names_what_it_follows() {
    for expected in [None, Some(0)] {
        let shop = Shop::new(Duration::from_millis(100));
        let proxy = Proxy::start(shop.server.address());
        let outbox = shop.outbox();
        let event = cim_keys_core::outbox::DomainEvent { expected, ..event(0) };
        let receipt = outbox.publish_event(&event).unwrap();
        // It is kept on its way, with all that the connection says behind it, while the host tries again on another one.
        let held = proxy.hold(1, is_event);
        assert_eq!(shop.drain(&target(proxy.address())), End::Drained);
        assert_eq!(receipt.look().unwrap().unwrap().sequence, 1);
        let mut probes = 0;
        // The server forgets ids in their order: what was stored later is forgotten later.
        let mut client = shop.client();
        wait::until("the duplicate window passes", || {
            let probe = &[("Nats-Msg-Id", "probe")];
            let answer = client.request("cowboyai.security.orders.probe.sent", probe, b"0").unwrap().json();
            probes += u64::from(answer["duplicate"].is_null());
            (probes > 1).then_some(())
        });
        held.let_go();
        // What came on the old connection is worked off: a message behind it arrives.
        let ours =
            || shop.stored().into_iter().filter(|stored| stored.subject == event.subject.as_str()).count();
        match expected {
            None => wait::until("the late attempt is stored", || (ours() == 2).then_some(())),
            Some(_) => {
                wait::until("the late connection is closed", || (proxy.open() == 0).then_some(()));
                assert_eq!(ours(), 1);
            }
        }
    }
}

#[test]
fn an_event_whose_message_was_deleted_within_the_window_waits_for_no_longer_than_it_may() {
    let shop = Shop::new(Duration::from_secs(120));
    let outbox = shop.outbox();
    // Given an event that the server has stored, and whose message somebody deleted;
    let receipt = outbox.publish_event(&event(0)).unwrap();
    let id = event(0).event.message_id.to_string();
    let mut client = shop.client();
    let stored = client.request(event(0).subject.as_str(), &[("Nats-Msg-Id", &id)], b"0").unwrap().json();
    let deleted = shop.api("STREAM.MSG.DELETE.ORDERS", &json!({ "seq": stored["seq"] }));
    assert_eq!(deleted["success"], true, "{deleted}");
    // when it is published for so long, then that ends, and says why.
    let mut said = Vec::new();
    let end = block_on(async {
        let mut pump = OutboxPump::new(&outbox, target(shop.server.address())).unwrap();
        let report = |status: &Status| said.push(status.clone());
        pump.drain(Duration::from_secs(3), std::future::pending(), report).await.unwrap()
    });
    assert!(matches!(&end, End::Patience(reason) if reason.code == "event-gone"), "{end:?}");
    assert!(said.iter().any(|status| matches!(status, Status::Waiting { .. })), "{said:?}");
    assert_eq!(receipt.look().unwrap(), None);
}
