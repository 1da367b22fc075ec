//! `doctor` and `anomalies`: what is wrong is named, one by one, with what to do; what is right is not.

use cim_keys::nats::streams::{Wanted, to_json};
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::subjects::Namespace;
use cim_keys_tests::program::Person;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn offline() -> Person {
    let person = Person::new();
    ok(&person, &["init", "--name", "Example"]);
    ok(&person, &["account", "create", "APP"]);
    person
}

fn ok(person: &Person, words: &[&str]) {
    let said = person.run(words);
    assert_eq!(said.status, Some(0), "{words:?}: {said:?}");
}

fn data(person: &Person) -> PathBuf {
    person.home().join(".local/share/cim-keys/registries/default")
}

/// Runs it; gives its exit status and its checks.
fn doctor(person: &Person, words: &[&str]) -> (i32, Vec<Value>) {
    let mut all = vec!["doctor", "--output", "jsonl"];
    all.extend(words);
    let said = person.run(&all);
    let checks = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (said.status.unwrap(), checks)
}

/// Names of the checks that stand so.
fn named<'a>(checks: &'a [Value], state: &str) -> Vec<&'a str> {
    checks
        .iter()
        .filter(|check| check["state"] == state)
        .map(|check| check["check"].as_str().unwrap())
        .collect()
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {checks:?}"))
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn without_a_server_it_looks_at_what_is_here_and_names_what_is_wrong() {
    let person = offline();
    let (status, checks) = doctor(&person, &[]);
    assert_eq!((status, named(&checks, "fail"), named(&checks, "warn")), (0, vec![], vec![]), "{checks:?}");
    assert_eq!(
        named(&checks, "skipped"),
        [
            "creds",
            "connection",
            "tls",
            "server version",
            "clock",
            "permissions",
            "accounts on servers",
            "KEYS_EVENTS",
            "KEYS_ARCHIVE",
            "sync_interval"
        ]
    );
    assert!(check(&checks, "clock")["found"].as_str().unwrap().contains("no server is named"));
    let text = person.run(&["doctor"]);
    assert!(text.stdout.contains("ok       store ") && text.stdout.contains("skipped  clock"), "{text:?}");
    assert!(text.stdout.ends_with("nothing is wrong\n"), "{text:?}");

    let store = data(&person).join("store.db");
    let identity = person.home().join(".config/cim-keys/identity.age");
    let cases: [(&Path, u32, u32, &[&str]); 3] = [
        (&store, 0o644, 0o600, &["data folder"]),
        (&data(&person), 0o755, 0o700, &["data folder"]),
        (&identity, 0o640, 0o600, &["kept keys", "identity"]),
    ];
    for (path, wrong, right, fails) in cases {
        mode(path, wrong);
        let (status, checks) = doctor(&person, &[]);
        assert_eq!((status, named(&checks, "fail")), (8, fails.to_vec()), "{path:?}");
        let advice = check(&checks, fails[fails.len() - 1])["advice"].as_str().unwrap();
        assert!(advice.contains(&format!("chmod {right:o} {}", path.display())), "{advice}");
        mode(path, right);
    }
    let away = person.home().join("identity.away");
    std::fs::rename(&identity, &away).unwrap();
    let (status, checks) = doctor(&person, &[]);
    assert_eq!((status, named(&checks, "fail")), (8, vec!["kept keys"]));
    std::fs::rename(&away, &identity).unwrap();
    std::fs::write(data(&person).join(".x.1.0.tmp"), "").unwrap();
    mode(&data(&person).join(".x.1.0.tmp"), 0o600);
    let (status, checks) = doctor(&person, &[]);
    assert_eq!((status, named(&checks, "warn")), (0, vec!["data folder"]));
}

#[test]
fn a_store_that_was_changed_behind_its_back_is_found_out() {
    let person = offline();
    let store = data(&person).join("store.db");
    let connection = rusqlite::Connection::open(&store).unwrap();
    let id: Vec<u8> = connection
        .query_row("SELECT command_id FROM journal ORDER BY position DESC LIMIT 1", [], |row| row.get(0))
        .unwrap();
    let id = uuid::Uuid::from_slice(&id).unwrap().to_string();
    let place = "id / 1024 = (SELECT max(position) FROM journal)";
    for change in [
        "UPDATE envelopes SET payload = CAST(replace(CAST(payload AS TEXT), 'account', 'accoumt') AS BLOB) WHERE",
        "UPDATE envelopes SET headers = replace(headers, 'cim-keys', 'cim-kegs') WHERE",
        "DELETE FROM envelopes WHERE",
    ] {
        assert!(connection.execute(&format!("{change} {place}"), []).unwrap() > 0, "{change}");
        let (status, checks) = doctor(&person, &[]);
        assert_eq!((status, named(&checks, "fail")), (8, vec!["journal messages"]), "{change}");
        let found = check(&checks, "journal messages")["found"].as_str().unwrap();
        assert!(found.starts_with("1 commands") && found.ends_with(&id), "{found}");
    }
    // An index that does not have what its table has.
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_master SET sql = 'CREATE INDEX entities_keys ON entities (name) WHERE newest = 1' WHERE name = 'entities_keys';
             PRAGMA writable_schema = RESET;",
        )
        .unwrap();
    drop(connection);
    let (status, checks) = doctor(&person, &[]);
    assert_eq!(status, 8);
    assert!(named(&checks, "fail").contains(&"store file"), "{checks:?}");
    // No database at all: everything that needs it is skipped.
    std::fs::write(&store, [7; 8192]).unwrap();
    let (status, checks) = doctor(&person, &[]);
    assert_eq!((status, named(&checks, "fail")), (8, vec!["store"]));
    assert_eq!(check(&checks, "journal messages")["found"], "the store cannot be used");
}

/// A server in operator mode that trusts a person's registry; `change` may change its configuration.
fn configured(person: &Person, change: fn(&str) -> String) -> NatsServer {
    let place = "/folder-of-the-server";
    let accounts = format!("{place}/accounts");
    let text = person.run(&["config", "server", "--store-dir", place, "--resolver-dir", &accounts]);
    assert_eq!(text.status, Some(0), "{text:?}");
    let text = change(&text.stdout);
    Setup::configured(Version::Newest, move |folder| text.replace(place, &folder.to_string_lossy())).start()
}

#[test]
fn what_each_role_may_do_is_tried_and_nothing_is_stored_by_it() {
    let person = offline();
    let server = configured(&person, str::to_owned);
    let url = server.url();
    for role in ["host", "auditor"] {
        let file = format!("{role}.creds");
        ok(&person, &["access", "renew", "--role", role, "--server", &url, "--out", &file]);
    }
    // Before the streams are there.
    let (status, checks) = doctor(&person, &["--context", "./host.json"]);
    assert_eq!((status, named(&checks, "fail")), (8, vec!["KEYS_EVENTS", "KEYS_ARCHIVE"]), "{checks:?}");
    assert_eq!(check(&checks, "may publish cowboyai.security.keys.user.created")["state"], "skipped");
    ok(&person, &["sync", "--context", "./host.json"]);
    let head =
        || person.run(&["sync", "--context", "./host.json", "--output", "json"]).json()["head"].clone();
    let before = head();

    let monitoring = server.monitoring().to_string();
    let (status, checks) = wait::until("the archive has followed", || {
        let found = doctor(&person, &["--context", "./host.json", "--monitoring", &monitoring]);
        (check(&found.1, "KEYS_ARCHIVE identity")["state"] == "ok").then_some(found)
    });
    let wrong = |checks: &[Value]| -> Vec<String> {
        let wrong = checks.iter().filter(|check| check["state"] != "ok");
        wrong.map(ToString::to_string).collect()
    };
    assert_eq!((status, wrong(&checks)), (0, vec![]));
    assert_eq!(check(&checks, "sync_interval")["found"], "always: an acknowledgement is an fsync");
    let tried =
        |what: &str| checks.iter().filter(|check| check["check"].as_str().unwrap().starts_with(what)).count();
    assert_eq!((tried("may ask"), tried("may hear"), tried("may publish")), (5, 1, 10));
    assert_eq!(check(&checks, "KEYS_EVENTS max_age")["expected"], "7776000s");

    let (status, checks) = doctor(&person, &["--context", "./auditor.json"]);
    assert_eq!((status, wrong(&checks).len()), (0, 1), "{:?}", wrong(&checks));
    let refused = &check(&checks, "may publish cowboyai.security.keys.user.created")["found"];
    assert_eq!(refused, "refused, as it must be for this role");
    assert_eq!(check(&checks, "sync_interval")["state"], "unknown");
    assert_eq!(head(), before, "nothing was stored by looking");

    // Creds of a user that this registry has revoked.
    let users = person.run(&["list", "users", "--output", "json"]).json();
    let auditor = users["users"].as_array().unwrap().iter().find(|user| user["role"] == "auditor").unwrap();
    let key = auditor["public_key"].as_str().unwrap();
    ok(&person, &["user", "revoke", key, "--account", "KEYS_EDGE"]);
    let (status, checks) = doctor(&person, &["--context", "./auditor.json"]);
    assert_eq!((status, named(&checks, "fail")), (8, vec!["creds"]), "{checks:?}");
    // Creds that are about to end, and others may read.
    ok(
        &person,
        &["access", "renew", "--role", "host", "--expiry", "1h", "--server", &url, "--out", "short.creds"],
    );
    mode(&person.home().join("short.creds"), 0o644);
    let (status, checks) = doctor(&person, &["--context", "./short.json"]);
    assert_eq!(status, 8);
    assert!(check(&checks, "creds")["found"].as_str().unwrap().contains("end at "));
    let others = checks.iter().find(|check| check["state"] == "fail").unwrap();
    assert!(others["found"].as_str().unwrap().contains("others may read"), "{others}");
    // Nobody is there.
    let (status, checks) = doctor(&person, &["--server", "nats://127.0.0.1:1"]);
    assert_eq!((status, named(&checks, "fail")), (8, vec!["connection"]));
    assert_eq!(check(&checks, "KEYS_EVENTS")["found"], "there is no connection");
}

type Change = fn(&mut StreamConfig);

#[test]
fn each_setting_that_differs_is_named_with_what_it_must_be() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    let mut client = Client::connect(server.address()).unwrap();
    let wanted = Wanted::new(&Namespace::default());
    let mut ask = |verb: &str, name: &str, body: &str| {
        let subject = format!("$JS.API.STREAM.{verb}.{name}");
        wait::until(&subject, || {
            let answer = client.request(&subject, &[], body.as_bytes()).unwrap().json();
            // A stream of the same name that was deleted a moment ago may still be on its way from the disk.
            (answer["error"]["err_code"] != 10049).then_some(answer)
        })
    };
    let cases: [(&[&str], &str, &str, Change); 15] = [
        (&["subjects"], "cowboyai.security.keys.>,other", "cowboyai.security.keys.>", |c| {
            c.subjects.push("other".into())
        }),
        (&["retention"], "interest", "limits", |c| c.retention = "interest".into()),
        (&["storage"], "memory", "file", |c| c.storage = "memory".into()),
        (&["discard"], "old", "new", |c| c.discard = "old".into()),
        (&["max_age"], "86400s", "7776000s", |c| c.max_age = 86_400_000_000_000),
        (&["max_msg_size"], "1000", "1048576", |c| c.max_msg_size = 1000),
        (&["max_msgs"], "7", "-1", |c| c.max_msgs = 7),
        (&["max_msgs_per_subject"], "7", "-1", |c| c.max_msgs_per_subject = 7),
        (&["duplicate_window"], "1s", "120s", |c| c.duplicate_window = 1_000_000_000),
        (&["allow_direct"], "false", "true", |c| c.allow_direct = false),
        (&["allow_atomic"], "false", "true", |c| c.allow_atomic = false),
        (&["deny_delete"], "false", "true", |c| c.deny_delete = false),
        (&["deny_purge", "allow_rollup_hdrs"], "", "", |c| (c.deny_purge, c.allow_rollup) = (false, true)),
        (&["republish"], "none", "cowboyai.security.keys.> -> cowboyai.security.keys-log.>", |c| {
            c.republish = None
        }),
        (&["allow_atomic", "persist_mode async"], "", "", |c| {
            (c.allow_atomic, c.persist_async) = (false, true)
        }),
    ];
    for (settings, found, expected, change) in cases {
        let mut config = wanted.events.clone();
        change(&mut config);
        let made = ask("CREATE", "KEYS_EVENTS", &to_json(&config, 1).to_string());
        assert!(made["error"].is_null(), "{settings:?}: {made}");
        let (status, checks) = doctor(&person, &["--server", &url]);
        let mut fails: Vec<String> = settings.iter().map(|name| format!("KEYS_EVENTS {name}")).collect();
        fails.push("KEYS_ARCHIVE".into());
        let mut failed = named(&checks, "fail");
        failed.sort_by_key(|name| (*name == "KEYS_ARCHIVE", !name.contains("deny"), *name));
        assert_eq!((status, failed), (8, fails.iter().map(String::as_str).collect()), "{checks:?}");
        if let [name] = settings {
            let check = check(&checks, &format!("KEYS_EVENTS {name}"));
            assert_eq!((&check["found"], &check["expected"]), (&found.into(), &expected.into()), "{check}");
            assert!(!check["advice"].as_str().unwrap().is_empty());
        }
        if settings == ["max_age"] {
            let text = person.run(&["doctor", "--server", &url]).stdout;
            let line = text.lines().find(|line| line.contains("KEYS_EVENTS max_age")).unwrap();
            assert!(line.starts_with("FAIL ") && line.ends_with("86400s, must be 7776000s"), "{line}");
        }
        assert_eq!(ask("DELETE", "KEYS_EVENTS", "")["success"], true);
    }
    // The same for the archive; one that is older than its stream holds another history.
    ask("CREATE", "KEYS_EVENTS", &to_json(&wanted.events, 1).to_string());
    let archive = StreamConfig { max_age: 86_400_000_000_000, ..wanted.archive.clone() };
    ask("CREATE", "KEYS_ARCHIVE", &to_json(&archive, 1).to_string());
    let (_, checks) = doctor(&person, &["--server", &url]);
    assert_eq!(named(&checks, "fail"), ["KEYS_ARCHIVE max_age"]);
    ask("DELETE", "KEYS_EVENTS", "");
    ask("CREATE", "KEYS_EVENTS", &to_json(&wanted.events, 1).to_string());
    let (_, checks) = doctor(&person, &["--server", &url]);
    assert_eq!(named(&checks, "fail"), ["KEYS_ARCHIVE identity", "KEYS_ARCHIVE max_age"]);
    // A window that is so on purpose is said to be.
    let short = wanted.clone().duplicate_window(1_000_000_000);
    ask("DELETE", "KEYS_EVENTS", "");
    ask("DELETE", "KEYS_ARCHIVE", "");
    // They are gone from the disk once they can be made again.
    for config in [&short.events, &short.archive] {
        ask("CREATE", &config.name, &to_json(config, 1).to_string());
    }
    let words = ["sync", "--server", &url, "--duplicate-window", "1"];
    ok(&person, &words);
    assert_eq!(doctor(&person, &["--server", &url]).1.iter().filter(|c| c["state"] == "fail").count(), 1);
    assert_eq!(doctor(&person, &["--server", &url, "--duplicate-window", "1"]).0, 0);
    // Another stream of the same name, and one that went back.
    ask("DELETE", "KEYS_EVENTS", "");
    ask("DELETE", "KEYS_ARCHIVE", "");
    ask("CREATE", "KEYS_EVENTS", &to_json(&short.events, 1).to_string());
    let (_, checks) = doctor(&person, &["--server", &url, "--duplicate-window", "1"]);
    assert_eq!(named(&checks, "fail"), ["KEYS_EVENTS identity", "KEYS_ARCHIVE"]);
    assert!(
        check(&checks, "KEYS_EVENTS identity")["found"].as_str().unwrap().contains("belongs to the one made")
    );
    // Monitoring shows that this server does not wait for the disk.
    let monitoring = server.monitoring().to_string();
    let (_, checks) = doctor(&person, &["--server", &url, "--monitoring", &monitoring]);
    assert_eq!(check(&checks, "sync_interval")["state"], "warn");
}

#[test]
fn a_deleted_message_is_named() {
    let person = offline();
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).unwrap();
    let wanted = Wanted::new(&Namespace::default());
    let open = StreamConfig { deny_delete: false, ..wanted.events };
    let mut ask = |subject: &str, body: &str| {
        let answer = client.request(subject, &[], body.as_bytes()).unwrap().json();
        assert!(answer["error"].is_null(), "{subject}: {answer}");
    };
    ask("$JS.API.STREAM.CREATE.KEYS_EVENTS", &to_json(&open, 1).to_string());
    for count in 1..=3 {
        ask(&format!("cowboyai.security.keys.test.{count}"), "{}");
    }
    let words = ["--server", &server.url()];
    assert_eq!(check(&doctor(&person, &words).1, "KEYS_EVENTS messages")["state"], "ok");
    ask("$JS.API.STREAM.MSG.DELETE.KEYS_EVENTS", "{\"seq\":2}");
    let (status, checks) = doctor(&person, &words);
    assert_ne!(status, 0);
    let found = check(&checks, "KEYS_EVENTS messages");
    assert_eq!(
        (&found["state"], found["found"].as_str()),
        (&"fail".into(), Some("2 of 3 from 1 to 3: 1 were deleted"))
    );
}

#[test]
fn an_old_server_is_no_writers() {
    let person = offline();
    let server = Setup::plain(Version::TooOld).start();
    let (status, checks) = doctor(&person, &["--server", &server.url()]);
    assert_eq!(status, 8);
    let version = check(&checks, "server version");
    assert_eq!(
        (&version["state"], &version["advice"]),
        (&"fail".into(), &"run nats-server 2.12.1 or newer".into())
    );
}

#[test]
fn messages_that_change_nothing_are_listed_and_shown_without_harm() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    ok(&person, &["sync", "--server", &url]);
    assert!(person.run(&["anomalies"]).stdout.starts_with("none"));
    let mut client = Client::connect(server.address()).unwrap();
    let mut put = |headers: &[(&str, &str)], payload: &[u8]| {
        let subject = "cowboyai.security.keys.user.created";
        client.request(subject, headers, payload).unwrap().json()["seq"].as_u64().unwrap()
    };
    let evil = "{\"a\": \"\u{1b}[2J\u{202e}x\"}\nsequence   1\n";
    let text = put(&[("X-Note", "a\u{1b}]0;title\u{7}b")], evil.as_bytes());
    let binary = put(&[], &[0, 159, 146, 150]);
    let synced = person.run(&["sync", "--server", &url]);
    assert!(synced.status == Some(0) && synced.stderr.contains("cim-keys anomalies"), "{synced:?}");

    let list = person.run(&["anomalies", "--output", "json"]).json();
    let list = list["anomalies"].as_array().unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(
        (&list[0]["sequences"], &list[0]["subject"]),
        (&serde_json::json!([text]), &"cowboyai.security.keys.user.created".into())
    );
    let lines = person.run(&["anomalies", "list", "--output", "jsonl"]).stdout;
    assert_eq!(lines.lines().count(), 2);
    let table = person.run(&["anomalies"]).stdout;
    assert!(table.contains(list[0]["reason"]["code"].as_str().unwrap()), "{table}");

    let shown = person.run(&["anomalies", "show", &text.to_string()]).stdout;
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{shown:?}");
    assert!(shown.contains(r"header     X-Note: a\u{1b}]0;title\u{7}b"), "{shown}");
    assert!(shown.contains(r#"           {"a": "\u{1b}[2J\u{202e}x"}"#), "{shown}");
    assert!(shown.lines().filter(|line| line.starts_with("sequence")).count() == 1, "{shown}");
    let json = person.run(&["anomalies", "show", &text.to_string(), "--output", "json"]).json();
    assert_eq!((&json["payload"], &json["headers"][0]["name"]), (&evil.into(), &"X-Note".into()));
    let json = person.run(&["anomalies", "show", &binary.to_string(), "--output", "json"]).json();
    assert_eq!((&json["payload_base64"], &json["payload_bytes"]), (&"AJ+Slg==".into(), &4.into()));
    assert!(json["payload"].is_null());
    for sequence in ["1", "99"] {
        let none = person.run(&["anomalies", "show", sequence]);
        assert_eq!(none.status, Some(4), "{none:?}");
    }
    let (status, checks) = doctor(&person, &[]);
    assert_eq!((status, named(&checks, "warn")), (0, vec!["journal"]));
}

#[test]
fn users_with_many_subjects_get_in() {
    let person = offline();
    let subjects: Vec<String> = (0..1000).map(|n| format!("orders.region-{n:04}.created")).collect();
    for (count, file) in [(200, "big.creds"), (1000, "huge.creds")] {
        let allow = subjects[..count].join(",");
        ok(&person, &["user", "create", file, "--account", "APP", "--allow-pub", &allow, "--creds", file]);
    }
    let connection = |server: &NatsServer, file: &str| {
        let (_, checks) = doctor(&person, &["--server", &server.url(), "--creds", file]);
        check(&checks, "connection").clone()
    };
    let server = configured(&person, str::to_owned);
    for file in ["big.creds", "huge.creds"] {
        let found = connection(&server, file);
        assert_eq!(found["state"], "ok", "{file}: {found}");
    }
    // What it is there for: by its own limit of 4 KB the server closes the connection.
    let bare = configured(&person, |text| text.replace("max_control_line: 1MB\n", ""));
    assert_eq!(connection(&bare, "big.creds")["state"], "fail");
    wait::until("the server says why", || bare.log().contains("maximum control line exceeded").then_some(()));
}
