//! Streams and servers that are not what they must be: refused with every reason named, and nothing is sent.

use cim_keys::nats::streams::to_json;
use cim_keys::nats::target::Target;
use cim_keys_core::journal::Progress;
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::{KEYS_EVENTS, StreamConfig, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn wanted() -> StreamConfig {
    keys_events_stream_config(&Namespace::default())
}

fn api(client: &mut Client, tail: &str, body: &Value) -> Value {
    let subject = format!("{API_PREFIX}.STREAM.{tail}.{KEYS_EVENTS}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    wait::until(&subject, || {
        let answer = client.request(&subject, &[], body.as_bytes()).unwrap().json();
        // A stream of the same name that was deleted a moment ago may still be on its way from the disk.
        if answer["error"]["err_code"] == 10049 {
            return None;
        }
        assert!(answer["error"].is_null(), "{subject}: {answer}");
        Some(answer)
    })
}

/// Nothing of the journal has moved, and nothing was sent.
fn untouched(desk: &Desk, client: &mut Client, commands: u64) {
    assert_eq!((desk.pending(), desk.held_codes()), (commands, Vec::new()));
    assert_eq!(desk.store().progress().unwrap(), Progress::default());
    assert_eq!(api(client, "INFO", &Value::Null)["state"]["last_seq"], 0);
}

#[test]
fn a_missing_stream_blocks_and_is_named() {
    let server = NatsServer::plain();
    let desk = Desk::founded();
    let reason = desk.sync(&Target::open(&server.url())).blocked();
    assert_eq!(reason.code, "stream-missing", "{}", reason.text);
    assert_eq!((desk.pending(), desk.store().progress().unwrap()), (2, Progress::default()));
    make_streams(&Target::open(&server.url()), 120);
    desk.sync(&Target::open(&server.url())).drained();
    Ledger::of(&server).check(&[&desk]);
}

#[test]
fn each_wrong_setting_is_named() {
    let elsewhere = json!({ "src": "cowboyai.security.keys.>", "dest": "elsewhere.>" });
    let wrong = [
        ("subjects", json!({ "subjects": ["cowboyai.security.keys.*.*"] })),
        ("retention", json!({ "retention": "interest" })),
        ("storage", json!({ "storage": "memory" })),
        ("discard", json!({ "discard": "old" })),
        ("max_age", json!({ "max_age": 3_600_000_000_000_u64 })),
        ("max_msg_size", json!({ "max_msg_size": 512 })),
        ("max_msgs", json!({ "max_msgs": 10 })),
        ("max_msgs_per_subject", json!({ "max_msgs_per_subject": 1 })),
        ("duplicate_window", json!({ "duplicate_window": 1_000_000_000 })),
        ("allow_direct", json!({ "allow_direct": false })),
        ("allow_atomic", json!({ "allow_atomic": false })),
        ("deny_delete", json!({ "deny_delete": false })),
        ("deny_purge", json!({ "deny_purge": false })),
        ("republish", json!({ "republish": elsewhere })),
        ("mirror", json!({ "mirror": { "name": "ANOTHER" } })),
        ("sealed", json!({ "sealed": true })),
        ("persist_mode async", json!({ "persist_mode": "async", "allow_atomic": false })),
        ("allow_rollup_hdrs", json!({ "allow_rollup_hdrs": true, "deny_purge": false })),
        ("no_ack", json!({ "no_ack": true })),
    ];
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    let mut client = Client::connect(server.address()).unwrap();
    let desk = Desk::founded();
    for (setting, change) in wrong {
        let mut config = to_json(&wanted(), 1);
        if setting == "mirror" {
            for member in ["subjects", "duplicate_window", "republish", "allow_atomic"] {
                config.as_object_mut().unwrap().remove(member);
            }
        }
        let change = change.as_object().unwrap().iter();
        change.for_each(|(name, value)| config[name] = value.clone());
        if setting == "sealed" {
            config["sealed"] = json!(false);
            api(&mut client, "CREATE", &config);
            config["sealed"] = json!(true);
            api(&mut client, "UPDATE", &config);
        } else {
            api(&mut client, "CREATE", &config);
        }
        let reason = desk.sync(&target).blocked();
        assert_eq!(reason.code, "stream-settings", "{setting}: {}", reason.text);
        assert!(reason.text.contains(&format!("{setting} is ")), "{setting}: {}", reason.text);
        untouched(&desk, &mut client, 2);
        api(&mut client, "DELETE", &Value::Null);
    }
    // Two at once are both named.
    let config = StreamConfig { deny_delete: false, max_age: 0, ..wanted() };
    api(&mut client, "CREATE", &to_json(&config, 1));
    let text = desk.sync(&target).blocked().text;
    let named = ["deny_delete is false, must be true", "max_age is 0s, must be 7776000s"];
    assert!(named.iter().all(|named| text.contains(named)), "{text}");
    api(&mut client, "DELETE", &Value::Null);
    // What is the operator's own affair is no difference.
    let mut config = to_json(&wanted(), 1);
    config["description"] = json!("ours");
    config["metadata"] = json!({ "team": "ours" });
    config["max_bytes"] = json!(1_000_000_000);
    config["compression"] = json!("s2");
    api(&mut client, "CREATE", &config);
    desk.sync(&target).drained();
    Ledger::of(&server).check(&[&desk]);
}

#[test]
fn an_old_server_is_named_and_gets_nothing() {
    let server = Setup::plain(Version::TooOld).start();
    let target = Target::open(&server.url());
    let mut client = Client::connect(server.address()).unwrap();
    // As good as that server can have it.
    let mut config = to_json(&wanted(), 1);
    config.as_object_mut().unwrap().remove("allow_atomic");
    api(&mut client, "CREATE", &config);
    let desk = Desk::founded();
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "server-too-old", "{}", reason.text);
    assert!(reason.text.contains("2.11.11") && reason.text.contains("2.12.1"), "{}", reason.text);
    assert_eq!(desk.pending(), 2);
    assert_eq!(api(&mut client, "INFO", &Value::Null)["state"]["last_seq"], 0);
}

#[test]
fn an_old_server_can_be_read() {
    let (old, new) = (Setup::plain(Version::TooOld).start(), NatsServer::plain());
    let target = Target::open(&new.url());
    make_streams(&target, 120);
    let writer = Desk::founded();
    let reader = writer.twin();
    writer.user("alice");
    writer.sync(&target).drained();
    let ledger = Ledger::of(&new);
    // The same messages on a stream of the old server, as a restored backup would have them.
    let mut client = Client::connect(old.address()).unwrap();
    let mut config = to_json(&wanted(), 1);
    config.as_object_mut().unwrap().remove("allow_atomic");
    api(&mut client, "CREATE", &config);
    for message in &ledger.messages {
        let headers: Vec<(&str, &str)> =
            message.headers.iter().filter(|(name, _)| !name.starts_with("Nats-")).collect();
        let id = message.headers.only("Nats-Msg-Id").unwrap();
        let headers: Vec<(&str, &str)> = headers.into_iter().chain([("Nats-Msg-Id", id)]).collect();
        let ack = client.request(&message.subject, &headers, &message.payload).unwrap().json();
        assert_eq!(ack["seq"], message.sequence, "{ack}");
    }
    let read = reader.sync(&Target::open(&old.url())).drained();
    assert_eq!((read.published, read.admitted, read.anomalies), (16, 1, 0));
    reader.user("bob");
    assert_eq!(reader.sync(&Target::open(&old.url())).blocked().code, "server-too-old");
}

#[test]
fn a_stream_that_was_made_anew_is_another_stream() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let desk = Desk::founded();
    desk.sync(&target).drained();
    let mut client = Client::connect(server.address()).unwrap();
    let before = desk.store().progress().unwrap();
    api(&mut client, "DELETE", &Value::Null);
    assert_eq!(desk.sync(&target).blocked().code, "stream-missing");
    api(&mut client, "CREATE", &to_json(&wanted(), 1));
    desk.user("alice");
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "stream-foreign", "{}", reason.text);
    assert!(reason.text.contains(&before.stream.clone().unwrap().created), "{}", reason.text);
    assert_eq!((desk.pending(), desk.store().progress().unwrap()), (1, before));
    assert_eq!(api(&mut client, "INFO", &Value::Null)["state"]["last_seq"], 0);
}

#[test]
fn a_stream_of_another_registry_is_refused() {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let (owner, stranger) = (Desk::founded(), Desk::founded());
    owner.sync(&target).drained();
    let reason = stranger.sync(&target).blocked();
    assert_eq!(reason.code, "stream-foreign", "{}", reason.text);
    assert!(reason.text.contains(&owner.registry().operator.to_string()), "{}", reason.text);
    assert_eq!((stranger.pending(), stranger.store().progress().unwrap()), (2, Progress::default()));
    Ledger::of(&server).check(&[&owner]);
    // It is free to go elsewhere.
    let elsewhere = NatsServer::plain();
    let target = Target::open(&elsewhere.url());
    make_streams(&target, 120);
    stranger.sync(&target).drained();
    Ledger::of(&elsewhere).check(&[&stranger]);
}

#[test]
fn a_stream_that_went_back_is_an_alarm() {
    let mut server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let desk = Desk::founded();
    desk.sync(&target).drained();
    let folder = server.folder().to_owned();
    server.stop();
    copy(&folder.join("store"), &folder.join("backup"));
    server.restart();
    let twin = desk.twin();
    desk.user("alice");
    let head = desk.sync(&target).drained().head;
    // Acknowledged and lost: the server comes back with what it had before.
    server.stop();
    fs::remove_dir_all(folder.join("store")).unwrap();
    copy(&folder.join("backup"), &folder.join("store"));
    server.restart();
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "stream-regressed", "{}", reason.text);
    // Somebody else writes on: as long as before, and not the same.
    twin.user("bob");
    assert_eq!(twin.sync(&target).drained().head, head);
    desk.user("carol");
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "stream-regressed", "{}", reason.text);
    assert_eq!((desk.pending(), Ledger::of(&server).last()), (1, head));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
