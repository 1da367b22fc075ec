//! Held commands on real servers: decided anew, given up, and voided for whoever else has them.

use cim_keys::host::Request;
use cim_keys::nats::link::Link;
use cim_keys::nats::streams::to_json;
use cim_keys::nats::target::Target;
use cim_keys::pump::End;
use cim_keys_core::bundle;
use cim_keys_core::command::Command;
use cim_keys_core::event::Fact;
use cim_keys_core::journal::State;
use cim_keys_core::registry::{EntityId, Lookup};
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::{KEYS_EVENTS, StreamConfig, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use cim_keys_tests::desk::{Desk, STUCK, block_on, make_streams};
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wire::Client;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn ok(said: Said) -> Said {
    assert_eq!(said.status, Some(0), "{said:?}");
    said
}

/// Another host of the same registry: everything of a person's home as it is now.
fn copied(from: &Person) -> Person {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let person = Person::new();
    copy(from.home(), person.home());
    person
}

/// A server by the configuration that a person's program writes.
fn serve(person: &Person) -> NatsServer {
    let words = ["config", "server", "--store-dir", "/own", "--resolver-dir", "/own/accounts"];
    let text = ok(person.run(&words)).stdout;
    Setup::configured(Version::Newest, move |folder| text.replace("/own", &folder.to_string_lossy())).start()
}

/// Whether somebody with these creds gets in.
fn gets_in(creds: &Path, server: &NatsServer) -> bool {
    let text = fs::read_to_string(creds).unwrap();
    block_on(async {
        let options = async_nats::ConnectOptions::with_credentials(&text).unwrap();
        options.connect(server.url()).await.is_ok()
    })
}

fn types(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect()
}

#[test]
fn creds_of_a_command_that_is_given_up_end_with_it() {
    // Given two hosts of one registry, and a user of the first whose creds work before anybody knows of it,
    let one = Person::new();
    ok(one.run(&["init"]));
    ok(one.run(&["account", "create", "APP"]));
    let server = serve(&one);
    ok(one.run(&["access", "renew", "--role", "host", "--server", &server.url(), "--out", "host.creds"]));
    let (sync, push) =
        (["sync", "--context", "./host.json", "--output", "json"], ["push", "--context", "./host.json"]);
    ok(one.run(&sync));
    ok(one.run(&push));
    let two = copied(&one);
    let alice = one.run(&[
        "user",
        "create",
        "alice",
        "--account",
        "APP",
        "--creds",
        "alice.creds",
        "--output",
        "json",
    ]);
    let alice = alice.json();
    let key = alice["user"]["public_key"].as_str().unwrap();
    assert!(ok(one.run(&["show", "alice"])).stdout.contains("creds unpublished"));
    let creds = one.home().join("alice.creds");
    assert!(gets_in(&creds, &server));
    // when the second one is first with the name,
    let other = two.run(&[
        "user",
        "create",
        "alice",
        "--account",
        "APP",
        "--creds",
        "other.creds",
        "--output",
        "json",
    ]);
    let other = other.json();
    ok(two.run(&sync));
    ok(one.run(&sync));
    let list = one.run(&["held", "list", "--output", "json"]).json();
    let held = &list["held"][0];
    let id = held["command_id"].as_str().unwrap();
    assert_eq!(
        (
            &held["code"],
            &held["creds"],
            &held["attempt"],
            &held["sent"],
            list["held"].as_array().unwrap().len()
        ),
        (&"name-taken".into(), &"unpublished".into(), &1.into(), &false.into(), 1)
    );
    let text = ok(one.run(&["held", "list"])).stdout;
    assert!(text.contains(id) && text.contains("unpublished") && text.contains("name-taken"), "{text}");
    // then what giving it up does is said before it is done,
    let expected = ["keys.command.voided", "keys.user.revoked", "keys.account.updated"];
    let shown = one.run(&["held", "show", id, "--output", "json"]).json();
    assert_eq!(
        (types(&shown["events"]), types(&shown["drop_publishes"])),
        (vec!["keys.user.created"], expected.to_vec())
    );
    assert_eq!(shown["drop_revokes"]["user"], key);
    let text = ok(one.run(&["held", "show", id])).stdout;
    for word in ["name-taken", "unpublished", "held retry", "held drop", "keys.command.voided", key] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    let retried = one.run(&["held", "retry", id]);
    assert!(retried.status == Some(5) && retried.stderr.contains("taken"), "{retried:?}");
    let log = || ok(one.run(&["log", "--payload", "--output", "json"])).stdout;
    let before = log();
    let dry = one.run(&["held", "drop", id, "--dry-run", "--output", "json"]).json();
    assert_eq!((types(&dry["voiding"]["events"]), log()), (expected.to_vec(), before));
    // and it is done: recorded, published, enforced.
    let dropped = one.run(&["held", "drop", id, "--output", "json"]);
    assert!(dropped.stderr.contains("NOT ENFORCED") && dropped.stderr.contains("sync"), "{dropped:?}");
    let dropped = dropped.json();
    assert_eq!(
        (types(&dropped["voiding"]["events"]), &dropped["revoked"]["user"]),
        (expected.to_vec(), &key.into())
    );
    assert_eq!(dropped["voiding"]["events"][0]["entity"], id);
    assert!(gets_in(&creds, &server), "recorded is not enforced");
    assert_eq!(one.run(&sync).json()["published"], 3);
    ok(one.run(&push));
    assert!(!gets_in(&creds, &server));
    ok(two.run(&sync));
    assert!(gets_in(&two.home().join("other.creds"), &server), "the other one's are its own");
    for person in [&one, &two] {
        let account = person.run(&["show", "APP", "--output", "json"]).json();
        assert_eq!((&account["confirmed"], &person.run(&sync).json()["pending"]), (&true.into(), &0.into()));
        let user = person.run(&["show", "alice", "--output", "json"]).json();
        assert_eq!(user["public_key"], other["user"]["public_key"]);
    }
    let twice = one.run(&["held", "drop", id]);
    assert!(twice.status == Some(4) && twice.stderr.contains("it is dropped"), "{twice:?}");
    assert_eq!(one.run(&["held", "list", "--output", "json"]).json()["held"], Value::Array(Vec::new()));
}

#[test]
fn a_clone_gives_up_creds_once_the_founder_has_revoked_them() {
    // Given a clone with an account key of its own,
    let one = Person::new();
    ok(one.run(&["init"]));
    ok(one.run(&["account", "create", "APP"]));
    let server = serve(&one);
    let url = server.url();
    ok(one.run(&["access", "renew", "--role", "host", "--server", &url, "--out", "host.creds"]));
    let sync = ["sync", "--server", &url, "--creds", "host.creds", "--output", "json"];
    ok(one.run(&sync));
    let operator = one.run(&["list", "operators", "--output", "json"]).json();
    let operator = operator["operators"][0]["public_key"].as_str().unwrap().to_owned();
    let two = Person::new();
    fs::copy(one.home().join("host.creds"), two.home().join("host.creds")).unwrap();
    ok(two.run(&["clone", &url, "--operator", &operator, "--creds", "host.creds"]));
    let own = two.run(&["key", "generate", "account", "--own", "--output", "json"]).json();
    ok(one.run(&["key", "add", own["public_key"].as_str().unwrap(), "--owner", "APP", "--label", "two"]));
    ok(one.run(&sync));
    ok(two.run(&sync));
    // and a user of it whose creds are out, and whose name somebody else was faster with:
    let create = |person: &Person| {
        let words =
            ["user", "create", "alice", "--account", "APP", "--creds", "alice.creds", "--output", "json"];
        person.run(&words).json()["user"]["public_key"].as_str().unwrap().to_owned()
    };
    let alice = create(&two);
    create(&one);
    ok(one.run(&sync));
    ok(two.run(&sync));
    let list = two.run(&["held", "list", "--output", "json"]).json();
    let id = list["held"][0]["command_id"].as_str().unwrap().to_owned();
    // when it is to be given up, the missing key is named, before and when it is done, with a way that leads on;
    for words in [&["held", "drop", &id, "--dry-run"][..], &["held", "drop", &id]] {
        let said = two.run(words);
        assert_eq!(said.status, Some(6), "{said:?}");
        assert!(said.stderr.contains("the seed of O"), "{said:?}");
        assert!(said.stderr.contains(&format!("user revoke {alice} --account")), "{said:?}");
        assert!(!said.stderr.contains("signing key of this host's own"), "{said:?}");
    }
    let shown = two.run(&["held", "show", &id, "--output", "json"]).json();
    assert!(shown["drop_needs"].as_str().unwrap().starts_with('O'), "{shown}");
    // then that way does: the founder revokes it,
    ok(one.run(&["user", "create", "lost", "--account", "APP", "--key", &alice]));
    ok(one.run(&["user", "revoke", &alice, "--account", "APP"]));
    ok(one.run(&sync));
    ok(two.run(&sync));
    // and the clone voids its command with the key that it has.
    let dropped = two.run(&["held", "drop", &id, "--output", "json"]).json();
    assert_eq!(types(&dropped["voiding"]["events"]), ["keys.command.voided"], "{dropped}");
    let synced = two.run(&sync).json();
    assert_eq!(
        (&synced["published"], &synced["held"], &synced["pending"]),
        (&1.into(), &0.into(), &0.into())
    );
    let read = one.run(&sync).json();
    assert_eq!((&read["admitted"], &read["anomalies"]), (&1.into(), &0.into()));
}

#[test]
fn a_held_command_is_decided_anew_by_whoever_minted_it() {
    let one = Person::new();
    ok(one.run(&["init"]));
    ok(one.run(&["account", "create", "APP"]));
    let server = NatsServer::plain();
    let sync = ["sync", "--server", &server.url(), "--output", "json"];
    ok(one.run(&sync));
    let two = copied(&one);
    let create =
        ["user", "create", "alice", "--account", "APP", "--creds", "alice.creds", "--output", "json"];
    let mine = one.run(&create).json();
    let key = &mine["user"]["public_key"];
    ok(two.run(&create));
    ok(two.run(&sync));
    ok(one.run(&sync));
    let id = mine["command_id"].as_str().unwrap();
    let status = ok(one.run(&["status"])).stdout;
    assert!(status.contains(&format!("held retry {id}")), "{status}");
    ok(two.run(&["user", "revoke", "alice", "--account", "APP"]));
    ok(two.run(&sync));
    ok(one.run(&sync));
    let dry = one.run(&["held", "retry", id, "--dry-run", "--output", "json"]).json();
    assert_eq!((&dry["attempt"], &dry["dry_run"]), (&2.into(), &true.into()));
    assert_eq!(one.run(&["status", "--output", "json"]).json()["held"], 1);
    let retried = one.run(&["held", "retry", id, "--output", "json"]);
    assert!(retried.stderr.contains("superseded") && retried.stderr.contains("sync"), "{retried:?}");
    let retried = retried.json();
    assert_eq!((&retried["attempt"], &retried["command_id"]), (&2.into(), &id.into()));
    assert_eq!(
        (types(&retried["events"]), &retried["events"][0]["entity"]),
        (vec!["keys.user.created"], key)
    );
    assert_ne!(retried["events"][0]["event_id"], mine["events"][0]["event_id"]);
    let done = one.run(&sync).json();
    assert_eq!((&done["published"], &done["held"], &done["pending"]), (&1.into(), &0.into(), &0.into()));
    ok(two.run(&sync));
    let user = two.run(&["show", "alice", "--output", "json"]).json();
    assert_eq!((&user["public_key"], &user["confirmed"]), (key, &true.into()));
    assert!(user["issued_at"].as_i64() > mine["user"]["issued_at"].as_i64());
    let twice = one.run(&["held", "retry", id]);
    assert!(twice.status == Some(4) && twice.stderr.contains("it is confirmed"), "{twice:?}");
}

#[test]
fn a_command_from_a_bundle_is_voided_for_its_minter() {
    // Given a command that was carried to another host, where somebody else was first,
    let (server, minter) = (NatsServer::plain(), Desk::founded());
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    minter.sync(&target).drained();
    let (importer, rival) = (minter.twin(), minter.twin());
    let alice = minter.user("alice");
    let id = *minter.commands().last().unwrap();
    let bytes = bundle::encode(&minter.host().export(false).unwrap()).unwrap();
    importer.host().import(&bundle::decode(&bytes).unwrap().verify().unwrap(), false).unwrap();
    let taken = rival.user("alice");
    rival.sync(&target).drained();
    importer.sync(&target).drained();
    assert_eq!(importer.held_codes(), [("create-user", "name-taken".into())]);
    // when it is given up there for all, then that is published,
    let dropped = importer.host().drop_held(id, true, false).unwrap();
    let voiding = dropped.voiding.unwrap();
    assert_eq!(voiding.events[0].fact, Fact::CommandVoided { command_id: id });
    importer.sync(&target).drained();
    // and its minter, who had not met the stream since, gives it up as what it is, though the name is free again;
    rival.sync(&target).drained();
    rival.revoke(taken);
    rival.sync(&target).drained();
    minter.sync(&target).drained();
    assert_eq!(minter.held_codes(), [("create-user", "voided".into())]);
    assert_eq!(minter.host().retry(id, false).unwrap_err().code(), "used-up");
    assert_eq!(minter.host().drop_held(id, false, false).unwrap().voiding, None);
    // and nobody who still has it publishes it.
    let late = minter.twin();
    let refused = late.host().import(&bundle::decode(&bytes).unwrap().verify().unwrap(), false);
    assert_eq!(refused.unwrap().known, [id], "it is known, and dropped");
    late.sync(&target).drained();
    let ledger = Ledger::of(&server);
    let audit = ledger.audit(&minter.registry());
    assert!(audit.anomalies.is_empty(), "{:?}", audit.anomalies);
    let facts =
        audit.registry.facts(&[Lookup::Command(id), Lookup::Entity(EntityId::Account(minter.app()))], false);
    let promised = minter.store().promised(id).unwrap().unwrap();
    assert_eq!((facts.is_void(id, promised.context.authority), facts.command(id)), (Ok(true), Ok(None)));
    assert!(!audit.registry.entities().any(|entity| entity.key() == alice));
    for desk in [&minter, &importer, &rival, &late] {
        desk.sync(&target).drained();
        assert_eq!(desk.store().facts(&[Lookup::Command(id)], false).unwrap().0.is_void(id, alice), Ok(true));
    }
}

#[test]
fn a_voided_revocation_gets_through_by_itself() {
    let (server, one) = (NatsServer::plain(), Desk::founded());
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let alice = one.user("alice");
    one.sync(&target).drained();
    let two = one.twin();
    let revoked = one.revoke(alice).command_id;
    // Somebody with the operator's key and the id of what is still to be published.
    two.act(Command::VoidCommand { command_id: revoked, account: None, revoke: None });
    two.sync(&target).drained();
    one.sync(&target).drained();
    two.sync(&target).drained();
    assert_eq!((one.held_codes(), one.pending()), (Vec::new(), 0));
    assert_eq!(one.store().promised(revoked).unwrap().unwrap().state, State::Settled);
    let audit = Ledger::of(&server).audit(&one.registry());
    assert!(audit.anomalies.is_empty());
    let id = EntityId::User { account: one.app(), user: alice };
    let user = audit.registry.entities().find(|entity| entity.id() == id).unwrap();
    assert!(user.revoked_at().is_some());
}

/// The stream with room for small messages alone.
fn narrow_stream(server: &NatsServer) -> StreamConfig {
    let config = StreamConfig { max_msg_size: 16 * 1024, ..keys_events_stream_config(&Namespace::default()) };
    let mut client = Client::connect(server.address()).unwrap();
    let subject = format!("{API_PREFIX}.STREAM.CREATE.{KEYS_EVENTS}");
    let answer = client.request(&subject, &[], to_json(&config, 1).to_string().as_bytes()).unwrap().json();
    assert!(answer["error"].is_null(), "{answer}");
    config
}

#[test]
fn what_a_server_was_sent_takes_an_event_and_what_it_never_saw_takes_none() {
    // Given a command that the server refuses, and one that never gets so far,
    let server = NatsServer::plain();
    let settings = narrow_stream(&server);
    let target = Target::open(&server.url());
    let one = Desk::founded();
    let sync = |desk: &Desk| desk.sync_for(&target, Some(settings.clone()), STUCK);
    sync(&one).drained();
    let two = one.twin();
    let tags = (0..400).map(|number| format!("tag-{number}-{}", "x".repeat(40))).collect();
    let mut large = one.new_user("large");
    if let Command::CreateUser { tags: place, .. } = &mut large.command {
        *place = tags;
    }
    let large = one.run(&large).unwrap().command_id;
    assert_eq!(sync(&one).drained().held.len(), 1);
    let early = one.run(&one.new_user("same")).unwrap().command_id;
    two.user("same");
    sync(&two).drained();
    sync(&one).drained();
    let held: Vec<_> = one.held().iter().map(|held| (held.command_id, held.sent)).collect();
    assert_eq!(held, [(large, true), (early, false)]);
    // when both are given up, then only of the first anybody hears.
    let before = Ledger::of(&server).last();
    assert_eq!(one.host().drop_held(early, false, false).unwrap().voiding, None);
    let voiding = one.host().drop_held(large, false, false).unwrap().voiding.unwrap();
    let sent: Vec<_> = voiding.events.iter().map(|event| event.fact.clone()).collect();
    assert_eq!(sent, [Fact::CommandVoided { command_id: large }]);
    sync(&one).drained();
    let ledger = Ledger::of(&server);
    assert_eq!(ledger.last(), before + 1);
    let message = ledger.messages.last().unwrap();
    assert_eq!(message.subject, "cowboyai.security.keys.command.voided");
    let payload: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        (&payload["subject"], &payload["data"]["facts"]),
        (&large.to_string().into(), &serde_json::json!({}))
    );
    sync(&two).drained();
    ledger.audit(&one.registry());
    assert_eq!((one.held_codes(), two.held_codes()), (Vec::new(), Vec::new()));
}

#[test]
fn a_held_voiding_is_retried_like_anything_else() {
    // Given a host whose voiding of a command is about a token that another host has replaced by then,
    let (server, one) = (NatsServer::plain(), Desk::founded());
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let bob = one.user("bob");
    one.sync(&target).drained();
    let two = one.twin();
    let create = Request { keep: false, ..one.new_user("alice") };
    let id = one.run(&create).unwrap().command_id;
    two.user("alice");
    two.sync(&target).drained();
    one.sync(&target).drained();
    let dropped = one.host().drop_held(id, false, false).unwrap();
    let alice = dropped.revoked.unwrap().user;
    two.revoke(bob);
    two.sync(&target).drained();
    // when both publish, then both revocations hold, and nothing waits for a person.
    let run = one.sync(&target);
    assert_eq!((run.end, one.held_codes(), one.pending()), (End::Drained, Vec::new(), 0));
    let voiding = one.store().promised(dropped.voiding.unwrap().command_id).unwrap().unwrap();
    assert_eq!((voiding.state, voiding.context.attempt), (State::Confirmed, 2));
    let audit = Ledger::of(&server).audit(&one.registry());
    assert!(audit.anomalies.is_empty());
    let account = audit.registry.entities().find(|entity| entity.key() == one.app()).unwrap();
    let body = account.token().unwrap().claims().body.as_account().unwrap();
    assert!([alice, bob].iter().all(|user| body.revocations.contains_key(&user.to_string())));
    block_on(async { Link::connect(&target, 0).await.map(drop).unwrap() });
}
