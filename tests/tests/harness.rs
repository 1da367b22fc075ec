//! The harness itself: servers start, die, freeze and come back; the proxy loses exactly what it is told to lose.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use cim_keys_tests::proxy::{Cut, Proxy};
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;

/// Long enough that nothing comes any more on loopback, short enough to wait for.
const SILENCE: Duration = Duration::from_millis(300);

fn stream(client: &mut Client) {
    let made = client.request("$JS.API.STREAM.CREATE.S", &[], br#"{"name":"S","subjects":["s.>"]}"#).unwrap();
    assert!(made.json()["error"].is_null(), "{}", made.json());
}

fn stored(client: &mut Client) -> u64 {
    let info = client.request("$JS.API.STREAM.INFO.S", &[], b"").unwrap().json();
    info["state"]["messages"].as_u64().unwrap()
}

#[test]
fn each_version_starts_and_says_which_it_is() {
    for version in [Version::Newest, Version::Oldest, Version::TooOld] {
        let server = Setup::plain(version).start();
        let client = Client::connect(server.address()).unwrap();
        assert_eq!(client.info()["version"], version.number());
        assert_eq!(client.info()["jetstream"], true);
        assert!(server.monitor("/varz").contains(version.number()));
    }
}

#[test]
fn a_configuration_of_ones_own_is_used() {
    let server = Setup::configured(Version::Newest, |folder| {
        format!(
            "server_name: mine\nwebsocket {{ host: \"127.0.0.1\", port: -1, no_tls: true }}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            folder.join("store")
        )
    })
    .start();
    assert_eq!(Client::connect(server.address()).unwrap().info()["server_name"], "mine");
    assert!(server.websocket_url().unwrap().starts_with("ws://127.0.0.1:"));
    assert!(server.monitor("/varz").contains("\"sync_always\": true"));
    assert!(server.folder().join("store").is_dir());
}

#[test]
fn requests_get_answers_and_nobody_is_a_503() {
    let server = NatsServer::plain();
    let mut one = Client::connect(server.address()).unwrap();
    let mut two = Client::connect(server.address()).unwrap();
    two.subscribe("hello.*").unwrap();
    two.ping().unwrap();
    one.publish("hello.you", Some("back"), &[("A", "1"), ("A", "2")], b"text").unwrap();
    let message = two.next(wait::PATIENCE).unwrap();
    assert_eq!((message.subject.as_str(), message.reply.as_deref()), ("hello.you", Some("back")));
    assert_eq!(message.payload, b"text");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(message.header_lines(), [pair("A", "1"), pair("A", "2")]);
    assert_eq!(one.request("nobody.here", &[], b"").unwrap().status(), Some(503));
}

#[test]
fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let mut server = NatsServer::plain();
    let address = server.address();
    let mut client = Client::connect(address).unwrap();
    stream(&mut client);
    assert_eq!(client.request("s.1", &[], b"x").unwrap().json()["seq"], 1);
    server.kill();
    assert!(client.ping().is_err());
    assert!(Client::connect(address).is_err());
    server.restart();
    assert_eq!(server.address(), address);
    let mut client = Client::connect(address).unwrap();
    assert_eq!(stored(&mut client), 1);
    assert!(server.stop().unwrap().code().is_some());
}

#[test]
fn a_frozen_server_answers_after_the_thaw() {
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).unwrap();
    client.subscribe("a").unwrap();
    server.freeze();
    client.publish("a", None, &[], b"1").unwrap();
    let error = client.next(SILENCE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    server.thaw();
    assert_eq!(client.next(wait::PATIENCE).unwrap().payload, b"1");
}

#[test]
fn an_eaten_answer_is_missing_while_the_message_is_stored() {
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let mut client = Client::connect(proxy.address()).unwrap();
    stream(&mut client);
    client.subscribe("in.>").unwrap();
    let fault = proxy.eat_answers(2, |subject| subject.starts_with("s.a."));
    let sent = [("s.b.1", "in.1"), ("s.a.2", "in.2"), ("s.a.3", "in.3"), ("s.a.4", "in.4")];
    client.publish("s.a.0", None, &[], b"asks for nothing").unwrap();
    for (subject, inbox) in sent {
        client.publish(subject, Some(inbox), &[], b"").unwrap();
    }
    // One answer is for another subject, one came after the two that were ordered.
    assert_eq!(client.next(wait::PATIENCE).unwrap().subject, "in.1");
    assert_eq!(client.next(wait::PATIENCE).unwrap().subject, "in.4");
    fault.wait(2);
    assert_eq!(stored(&mut client), 5);
}

#[test]
fn a_cut_stands_where_it_was_ordered() {
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let mut direct = Client::connect(server.address()).unwrap();
    stream(&mut direct);
    for (place, stays) in [(Cut::Before, 0), (Cut::Inside, 0), (Cut::After, 1)] {
        let before = stored(&mut direct);
        let mut client = Client::connect(proxy.address()).unwrap();
        let fault = proxy.cut(place, 1, |subject| subject == "s.cut");
        assert!(client.request("s.whole", &[], b"").unwrap().json()["seq"].is_u64());
        client.request("s.cut", &[], b"some payload").expect_err("the connection is cut");
        fault.wait(1);
        // The server closes its side once it has read all; what it stores is then on its way.
        wait::until("the proxy closes the connection", || (proxy.open() == 0).then_some(()));
        let count = before + 1 + stays;
        wait::until(&format!("{count} messages are stored"), || (stored(&mut direct) == count).then_some(()));
        // The order is used up.
        let mut again = Client::connect(proxy.address()).unwrap();
        assert!(again.request("s.cut", &[], b"").unwrap().json()["seq"].is_u64());
        assert_eq!(stored(&mut direct), count + 1, "{place:?}");
        drop(again);
        wait::until("the proxy lets go", || (proxy.open() == 0).then_some(()));
    }
}

#[test]
fn a_delay_counts_both_ways() {
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let mut client = Client::connect(proxy.address()).unwrap();
    let each_way = Duration::from_millis(60);
    proxy.delay(each_way);
    let start = Instant::now();
    client.ping().unwrap();
    assert!(start.elapsed() >= 2 * each_way);
}

#[test]
fn connections_are_cut_and_refused_on_order() {
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let mut client = Client::connect(proxy.address()).unwrap();
    proxy.refuse(true);
    client.ping().unwrap();
    assert!(Client::connect(proxy.address()).is_err());
    proxy.cut_all();
    assert!(client.ping().is_err());
    proxy.refuse(false);
    Client::connect(proxy.address()).unwrap();
    assert_eq!(proxy.accepted(), 3);
    let other = NatsServer::plain();
    proxy.retarget(other.address());
    let moved = Client::connect(proxy.address()).unwrap();
    assert_eq!(moved.info()["port"], other.address().port());
}
