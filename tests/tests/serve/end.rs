//! How it ends, in order and otherwise: what was answered is there, once.

use cim_keys_core::nkey::KeyPair;
use cim_keys_tests::serve::{API, Answered, Service, answered, ask, command_id, new_user, stored, user_key};
use cim_keys_tests::wait::{PATIENCE, until};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A wish: name, command, key.
struct Wish(String, Uuid, KeyPair);

fn wishes(prefix: &str, count: usize) -> Vec<Wish> {
    (0..count).map(|number| Wish(format!("{prefix}{number}"), command_id(), user_key())).collect()
}

#[test]
fn it_stops_in_order_under_load() {
    let mut service = Service::start();
    let mut client = service.connect();
    let inbox = client.inbox_prefix().to_owned() + ".load";
    client.subscribe(&format!("{inbox}.*")).unwrap();
    let wishes = wishes("a", 60);
    for (number, Wish(name, id, key)) in wishes.iter().enumerate() {
        let body = new_user(*id, name, key.public_key()).to_string();
        client
            .publish(&format!("{API}.user.create"), Some(&format!("{inbox}.{number}")), &[], body.as_bytes())
            .unwrap();
    }
    // Some are answered; then it is told to end.
    let mut done = Vec::new();
    for _ in 0..3 {
        done.push(client.next(PATIENCE).unwrap());
    }
    let began = Instant::now();
    service.signal(Signal::TERM);
    let status = service.end();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status, Some(0), "{}", service.log());
    let (more, _) = client.settle().unwrap();
    done.extend(more);
    let mut accepted = 0;
    for message in &done {
        // Nobody is there any more.
        if message.status() == Some(503) {
            continue;
        }
        let Answered { status, body } = answered(message);
        match status {
            200 => accepted += 1,
            503 => assert_eq!(body["code"], "stopping"),
            other => panic!("{other}: {body}"),
        }
    }
    assert!(accepted >= 3, "{done:?}");
    // Whoever heard nothing, or that it was ending, asks again.
    service.launch();
    let mut client = service.connect();
    for Wish(name, id, key) in &wishes {
        let answer = ask(&mut client, "user.create", &new_user(*id, name, key.public_key()));
        assert_eq!((answer.status, answer.body["state"].as_str()), (200, Some("confirmed")), "{answer:?}");
    }
    assert!(created_once(&service, &wishes));
}

#[test]
fn a_request_repeated_after_a_kill_is_done_once() {
    let mut service = Service::start();
    let wishes = wishes("b", 40);
    let mut client = service.connect();
    for round in 0..4 {
        let inbox = format!("{}.kill{round}", client.inbox_prefix());
        client.subscribe(&format!("{inbox}.*")).unwrap();
        for (number, Wish(name, id, key)) in wishes.iter().enumerate() {
            let body = new_user(*id, name, key.public_key()).to_string();
            let reply = format!("{inbox}.{number}");
            client.publish(&format!("{API}.user.create"), Some(&reply), &[], body.as_bytes()).unwrap();
        }
        // In the middle of it: when so many are answered.
        for _ in 0..=round * 3 {
            client.next(PATIENCE).unwrap();
        }
        service.signal(Signal::KILL);
        assert_eq!(service.end(), None);
        service.launch();
        client = service.connect();
    }
    for Wish(name, id, key) in &wishes {
        let answer = ask(&mut client, "user.create", &new_user(*id, name, key.public_key()));
        assert_eq!((answer.status, answer.body["state"].as_str()), (200, Some("confirmed")), "{answer:?}");
    }
    assert!(created_once(&service, &wishes));
}

fn created_once(service: &Service, wishes: &[Wish]) -> bool {
    let ids: Vec<String> = stored(service, "KEYS_EVENTS")
        .iter()
        .filter_map(|message| {
            let lines = message.header_lines();
            let value =
                |wanted: &str| lines.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            (value("CIM-Event-Type")? == "keys.user.created").then(|| value("CIM-Correlation-Id"))?
        })
        .collect();
    wishes.iter().all(|Wish(name, id, _)| {
        let count = ids.iter().filter(|found| **found == id.to_string()).count();
        assert_eq!(count, 1, "{name} {id}");
        count == 1
    })
}

#[test]
fn a_second_one_on_the_same_registry_is_refused() {
    let service = Service::start();
    let url = service.server.url();
    let creds = service.file("host.creds").display().to_string();
    let second = service.program(&["serve", "--server", &url, "--creds", &creds]);
    assert_eq!(second.status, Some(5), "{second:?}");
    assert!(second.stderr.contains("runs on this registry already"), "{second:?}");
    // What others do beside it: it gives its place and takes it again.
    let synced = service.program(&["sync", "--server", &url, "--creds", &creds, "--output", "json"]);
    assert_eq!(synced.status, Some(0), "{synced:?}");
    let mut client = service.connect();
    let answer = ask(&mut client, "user.create", &new_user(command_id(), "after", user_key().public_key()));
    assert_eq!(answer.body["state"], "confirmed", "{answer:?}");
}

#[test]
fn it_says_how_it_is() {
    let service = Service::start();
    let mut client = service.connect();
    let id = command_id();
    let correlation = command_id();
    let mut body = new_user(id, "alice", user_key().public_key());
    body["correlation_id"] = correlation.to_string().into();
    assert_eq!(ask(&mut client, "user.create", &body).status, 200);
    assert_eq!(ask(&mut client, "user.create", &serde_json::json!({})).status, 400);
    let metrics = service.metrics();
    for line in [
        "cim_keys_requests_total{operation=\"user.create\",code=\"ok\"} 1",
        "cim_keys_requests_total{operation=\"user.create\",code=\"invalid-request\"} 1",
        "cim_keys_responder_connected 1",
        "cim_keys_request_seconds_count{operation=\"user.create\"} 2",
        "cim_keys_commands_pending 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let logged = service.logged("request");
    let line = logged.iter().find(|line| line["command_id"] == id.to_string()).unwrap();
    assert_eq!(line["correlation_id"], correlation.to_string(), "{line}");
    assert_eq!(line["caller_user"], service.client.user().unwrap().to_string(), "{line}");
    // Every line is JSON, and none has a secret.
    let log = service.log();
    for line in log.lines() {
        let parsed: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed["time"].is_string() && parsed["level"].is_string(), "{line}");
    }
    assert_eq!(cim_keys::redact::redacted(&log), log);
}

#[test]
fn it_comes_back_when_the_server_does() {
    let mut service = Service::start();
    let mut client = service.connect();
    let (id, key) = (command_id(), user_key());
    let asked = new_user(id, "before", key.public_key());
    assert_eq!(ask(&mut client, "user.create", &asked).status, 200);
    service.server.kill();
    until("it is not healthy", || service.health().is_none().then_some(()));
    service.server.restart();
    until("it is healthy again", || service.health().filter(|health| health["healthy"] == true));
    let mut client = service.connect();
    let again = ask(&mut client, "user.create", &asked);
    assert_eq!((again.status, again.body["repeated"].as_bool()), (200, Some(true)), "{again:?}");
    let key = user_key().public_key();
    let after = ask(&mut client, "user.create", &new_user(command_id(), "after", key));
    assert_eq!(after.body["state"], "confirmed", "{after:?}");
}
