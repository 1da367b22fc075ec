//! The program itself, ended by SIGKILL while it publishes, and begun again.

use cim_keys::nats::target::Target;
use cim_keys_core::headers::NATS_MSG_ID;
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::program::{Person, said};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::Value;
use std::process::{Child, Stdio};

/// `cim-keys sync` over a desk's own folder.
fn sync(desk: &Desk, url: &str, window: u64) -> Child {
    let (folder, identity) = (desk.folder().to_str().unwrap(), desk.identity());
    let window = window.to_string();
    let words = ["sync", "--output", "json", "--server", url, "--duplicate-window", &window];
    let place = ["--data", folder, "--identity", identity.to_str().unwrap()];
    let mut command = Person::new().command(&[words.as_slice(), &place].concat());
    // Its home is gone: it needs none.
    command.current_dir(folder).env("HOME", folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cim-keys starts")
}

/// Waits for its end and gives what it says.
fn finished(child: Child) -> Value {
    said(child.wait_with_output().unwrap()).json()
}

/// Ends it at once, and waits until it is gone.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn last(client: &mut Client) -> u64 {
    let subject = format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}");
    client.request(&subject, &[], b"").unwrap().json()["state"]["last_seq"].as_u64().unwrap()
}

/// A few commands: a batch, or every third time a single event.
fn work(desk: &Desk, trial: usize) -> u64 {
    let user = desk.user(&format!("user-{trial}"));
    if trial % 3 == 2 {
        return 1;
    }
    desk.revoke(user);
    3
}

#[test]
fn killed_between_append_and_acknowledgement() {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    let proxy = Proxy::start(server.address());
    let mut client = Client::connect(server.address()).unwrap();
    let desk = Desk::founded();
    finished(sync(&desk, &server.url(), 120));
    for trial in 0..12 {
        let (before, events) = (last(&mut client), work(&desk, trial));
        let pending = desk.pending();
        let eaten = proxy.eat_answers(1, |subject| subject.starts_with("cowboyai.security.keys."));
        let child = sync(&desk, &proxy.url(), 120);
        eaten.wait(1);
        kill(child);
        assert_eq!((last(&mut client), desk.pending()), (before + events, pending), "trial {trial}");
        let again = finished(sync(&desk, &proxy.url(), 120));
        assert_eq!((&again["published"], &again["pending"]), (&events.into(), &0.into()), "{again}");
        assert_eq!(last(&mut client), before + events, "trial {trial}");
        assert_eq!(finished(sync(&desk, &proxy.url(), 120))["published"], 0);
    }
    Ledger::of(&server).check(&[&desk]);
}

#[test]
fn killed_and_begun_again_after_the_duplicate_window() {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 1);
    let proxy = Proxy::start(server.address());
    let mut client = Client::connect(server.address()).unwrap();
    let desk = Desk::founded();
    finished(sync(&desk, &server.url(), 1));
    for trial in 0..3 {
        let events = work(&desk, trial);
        let eaten = proxy.eat_answers(1, |subject| subject.starts_with("cowboyai.security.keys."));
        let child = sync(&desk, &proxy.url(), 1);
        eaten.wait(1);
        kill(child);
        // As long as the server remembers the event's id it takes a message with it for a duplicate. The one that is
        // stored at last proves that it does not any more, and is garbage to every reader.
        let ledger = Ledger::of(&server);
        let event = ledger.at(ledger.last());
        let id = event.headers.only(NATS_MSG_ID).unwrap();
        wait::until("the duplicate window passes", || {
            let answer = client.request(&event.subject, &[(NATS_MSG_ID, id)], b"probe").unwrap().json();
            assert!(answer["error"].is_null(), "{answer}");
            answer["duplicate"].is_null().then_some(())
        });
        let again = finished(sync(&desk, &proxy.url(), 1));
        assert_eq!((&again["published"], &again["pending"]), (&events.into(), &0.into()), "{again}");
        assert_eq!(last(&mut client), ledger.last() + 1, "trial {trial}");
    }
    let audit = Ledger::of(&server).check_with(&[&desk]);
    let codes: Vec<&str> = audit.anomalies.iter().map(|anomaly| anomaly.reason.code.as_str()).collect();
    assert_eq!(codes, ["event-json"; 3]);
}

#[test]
fn killed_at_any_moment() {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    let mut client = Client::connect(server.address()).unwrap();
    let desk = Desk::founded();
    for trial in 0..16 {
        let before = last(&mut client);
        for number in 0..4 {
            work(&desk, trial * 4 + number);
        }
        let child = sync(&desk, &server.url(), 120);
        // Early, when it has connected, or once it has begun to append.
        match trial % 4 {
            0 => {}
            1 => wait::until("a connection", || server.monitor("/connz").contains("cim-keys").then_some(())),
            _ => wait::until("an event", || (last(&mut client) > before).then_some(())),
        }
        kill(child);
    }
    assert_eq!(finished(sync(&desk, &server.url(), 120))["pending"], 0);
    Ledger::of(&server).check(&[&desk]);
}
