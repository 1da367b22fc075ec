//! Acknowledgements are lost, connections are cut, the server is killed, while commands go on coming.

use cim_keys::nats::target::Target;
use cim_keys_core::roles::{EDGE_API_PREFIX, PipelineRole};
use cim_keys_tests::desk::{Desk, SHORT, make_streams};
use cim_keys_tests::faults::{head, is_event, meanwhile, more};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::proxy::{Cut, Proxy};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::site::serve;
use cim_keys_tests::wait;

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
        for _ in 0..50 {
            let before = head(&desk);
            let eaten = proxy.eat_answers(1, is_event);
            wait::until("another acknowledgement is lost", || (eaten.met() >= 1).then_some(()));
            // Most answers arrive: a server that answers half of the time is left alone for longer and longer.
            more(&desk, before);
            more(&desk, head(&desk));
            more(&desk, head(&desk));
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
