//! What happens to servers and their streams.

use super::disk::Disk;
use super::scene::{Scene, head, meanwhile, more};
use super::{Invariant, NotRun, Run};
use crate::desk::{Desk, SHORT, make_streams};
use crate::ledger::Ledger;
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wait;
use crate::wire::Client;
use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::journal::Progress;
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::{KEYS_EVENTS, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Row 6.
pub(super) fn killed(run: &mut Run) -> Result<(), NotRun> {
    let mut scene = Scene::new();
    let mut published = 0;
    for begun in (0..run.tries).step_by(20) {
        let target = scene.hasty();
        let Scene { desk, server, .. } = &mut scene;
        let times = 20.min(run.tries - begun);
        published += meanwhile(desk, &target, || {
            for _ in 0..times {
                let before = head(desk);
                more(desk, before);
                // Somewhere in its work.
                wait::pass(Duration::from_millis(run.between(0, 30)));
                server.restart();
            }
        });
        run.happened(times);
    }
    run.did(format!(
        "server ended with SIGKILL and begun again {} times while {published} events were published",
        run.tries
    ));
    let target = scene.target(cim_keys::nats::link::ANSWER);
    run.healed(|| scene.desk.sync(&target).drained());
    let ledger = scene.ledger();
    assert_eq!(ledger.last(), published, "I2: as many messages as events");
    run.judge(&ledger, &BTreeSet::new(), &[&scene.desk]);
    run.search(&[&scene.desk], &[&scene.server], &[]);
    Ok(())
}

/// Settings that a stream may have and must not: the name that is said, and what is different.
fn wrong_settings() -> Vec<(&'static str, Value)> {
    let elsewhere = json!({ "src": "cowboyai.security.keys.>", "dest": "elsewhere.>" });
    vec![
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
        ("sealed", json!({ "sealed": true })),
        ("persist_mode async", json!({ "persist_mode": "async", "allow_atomic": false })),
        ("allow_rollup_hdrs", json!({ "allow_rollup_hdrs": true, "deny_purge": false })),
        ("no_ack", json!({ "no_ack": true })),
    ]
}

fn api(client: &mut Client, tail: &str, body: &Value) -> Value {
    let subject = format!("{API_PREFIX}.STREAM.{tail}.{KEYS_EVENTS}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    wait::until(&subject, || {
        let answer = client.request(&subject, &[], body.as_bytes()).expect("an answer").json();
        // A stream of the same name that was deleted a moment ago may still be on its way from the disk.
        if answer["error"]["err_code"] == 10049 {
            return None;
        }
        assert!(answer["error"].is_null(), "{subject}: {answer}");
        Some(answer)
    })
}

/// Row 14.
pub(super) fn wrong_streams(run: &mut Run) -> Result<(), NotRun> {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    let mut client = Client::connect(server.address()).expect("a connection");
    let desk = Desk::founded();
    let untouched = |client: &mut Client| {
        assert_eq!((desk.pending(), desk.held_codes()), (2, Vec::new()), "I1: visibly pending");
        assert_eq!(desk.store().progress().expect("a store that works"), Progress::default());
        assert_eq!(api(client, "INFO", &Value::Null)["state"]["last_seq"], 0, "nothing was sent");
    };
    // Missing.
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "stream-missing", "{}", reason.text);
    run.happened(1);
    // Each setting wrong.
    let right = crate::streams::to_json(&keys_events_stream_config(&Namespace::default()));
    let mut named = Vec::new();
    for (setting, change) in wrong_settings() {
        let mut config = right.clone();
        for (name, value) in change.as_object().expect("an object") {
            config[name] = value.clone();
        }
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
        untouched(&mut client);
        api(&mut client, "DELETE", &Value::Null);
        named.push(setting);
        run.happened(1);
    }
    run.did(format!("refused with the setting named, nothing sent: {}", named.join(", ")));
    // As it must be, then deleted, then made anew.
    make_streams(&target, 120);
    run.healed(|| desk.sync(&target).drained());
    run.judge(&Ledger::of(&server), &BTreeSet::new(), &[&desk]);
    let before = desk.store().progress().expect("a store that works");
    desk.user("alice");
    api(&mut client, "DELETE", &Value::Null);
    assert_eq!(desk.sync(&target).blocked().code, "stream-missing");
    api(&mut client, "CREATE", &right);
    let reason = desk.sync(&target).blocked();
    assert_eq!(reason.code, "stream-foreign", "{}", reason.text);
    let created = before.stream.clone().expect("the stream that it knew").created;
    assert!(reason.text.contains(&created), "{}", reason.text);
    assert_eq!((desk.pending(), desk.store().progress().expect("a store that works")), (1, before));
    assert_eq!(api(&mut client, "INFO", &Value::Null)["state"]["last_seq"], 0, "nothing was sent");
    run.did("refused, nothing sent, the command pending: stream missing; deleted; made anew");
    run.happened(1);
    run.holds(&[Invariant::I1]);
    run.search(&[&desk], &[&server], &[]);
    Ok(())
}

/// Row 15.
pub(super) fn full_disk(run: &mut Run) -> Result<(), NotRun> {
    for _ in 0..run.tries {
        let disk = Disk::small(24)?;
        let store = disk.path().to_owned();
        // Without a limit of its own the server stays away from the disk's end.
        let mut server = Setup::configured(Version::Newest, move |_| {
            format!("jetstream {{ store_dir: {store:?}, max_file_store: 1GB, sync_interval: always }}\n")
        })
        .start();
        let target = Target { timeout: SHORT, ..Target::open(&server.url()) };
        make_streams(&target, 120);
        let desk = Desk::founded();
        desk.user("before");
        desk.sync(&target).drained();
        let filled = disk.fill();
        let mut made = 0;
        // There is some room left in what the server has reserved.
        let reason = wait::until("the server cannot store", || {
            for _ in 0..20 {
                desk.user(&format!("user-{made}"));
                made += 1;
            }
            match desk.sync_for(&target, None, Duration::from_secs(3)).end {
                End::Drained => None,
                End::Patience(reason) | End::Blocked(reason) => Some(reason),
                End::Stopped => panic!("nobody has stopped it"),
            }
        });
        let pending = desk.pending();
        assert!(pending > 0, "I1: visibly pending");
        run.did(format!(
            "{filled} bytes fill the disk: after {made} commands more the host says `{}`, {pending} are pending",
            reason.code
        ));
        disk.free();
        server.restart();
        let summary = run.healed(|| desk.sync(&target).drained());
        run.did(format!("freed and restarted: {} events published", summary.published));
        run.judge(&Ledger::of(&server), &BTreeSet::new(), &[&desk]);
        run.search(&[&desk], &[&server], &[]);
        server.stop();
        run.happened(1);
    }
    Ok(())
}
