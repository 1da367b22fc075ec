//! The verbs that talk to a server, as a person types them.

use cim_keys_core::creds;
use cim_keys_tests::identities::Login;
use cim_keys_tests::program::{Person, Running, said};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a first `sync` makes on a server.
const CREATED: [&str; 7] = [
    "KEYS_EVENTS",
    "KEYS_ARCHIVE",
    "KEYS_DEAD",
    "keys-projector",
    "keys-service",
    "keys-service-retry",
    "KEYS_ISSUED",
];

/// Starts `up` and gives the line that it prints when it is ready.
fn up(person: &Person) -> (Running, Value) {
    up_in(person, "system")
}

fn up_in(person: &Person, folder: &str) -> (Running, Value) {
    let server = Version::Newest.binary();
    let words = ["up", "--data", folder, "--output", "json", "--nats-server", server.to_str().unwrap()];
    let mut running = person.start(&words);
    let line = running.line();
    if line.is_empty() {
        panic!("{:?}", running.end());
    }
    (running, serde_json::from_str(&line).unwrap())
}

/// A registry with an account and a user, on no stream.
fn offline() -> Person {
    let person = Person::new();
    for words in [
        &["init", "--name", "Example"][..],
        &["account", "create", "APP"],
        &["user", "create", "bob", "--account", "APP", "--allow-pub", "app.>", "--creds", "bob.creds"],
    ] {
        assert_eq!(person.run(words).status, Some(0), "{words:?}");
    }
    person
}

/// Event ids on the stream of a server without accounts, in order.
fn event_ids(client: &mut Client) -> Vec<String> {
    let info = client.request("$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"").unwrap().json();
    let last = info["state"]["last_seq"].as_u64().unwrap();
    (1..=last)
        .map(|sequence| {
            let subject = "$JS.API.DIRECT.GET.KEYS_EVENTS";
            let message = client.request(subject, &[], format!("{{\"seq\":{sequence}}}").as_bytes()).unwrap();
            let lines = message.header_lines();
            lines.into_iter().find(|(name, _)| name == "CIM-Event-Id").unwrap().1
        })
        .collect()
}

#[test]
fn up_stays_until_it_is_told_to_stop_and_others_work_with_it() {
    let person = Person::new();
    let (child, ready) = up(&person);
    let members: BTreeSet<&str> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "creds",
        "data_dir",
        "duplicates",
        "events_published",
        "events_read_back",
        "page_url",
        "server_url",
        "server_version",
        "signing_key",
        "steps",
        "stream",
        "websocket_url",
    ];
    assert_eq!(members, expected.into());
    assert_eq!(
        (&ready["events_published"], &ready["duplicates"]),
        (&ready["events_read_back"], &Value::from(0))
    );
    let roles: Vec<&String> = ready["creds"].as_object().unwrap().keys().collect();
    assert_eq!(
        roles,
        ["app", "auditor", "browser", "client", "host", "resolver", "responder", "service", "steward"]
    );

    let second =
        person.run(&["up", "--data", "system", "--nats-server", Version::Newest.binary().to_str().unwrap()]);
    assert_eq!(second.status, Some(5), "{second:?}");
    assert!(second.stderr.contains("another process is at work here"), "{second:?}");

    // Everything that `up` suggests: no flag names the server.
    let create = [
        "--data",
        "system",
        "user",
        "create",
        "bob",
        "--account",
        "APP",
        "--allow-pub",
        "orders.>",
        "--creds",
        "bob.creds",
    ];
    assert_eq!(person.run(&create).status, Some(0));
    let synced = person.run(&["--data", "system", "sync", "--output", "json"]).json();
    assert_eq!(
        (&synced["published"], &synced["pending"], &synced["held"]),
        (&1.into(), &0.into(), &0.into())
    );
    let again = person.run(&["--data", "system", "sync", "--output", "json"]).json();
    assert_eq!(again["published"], 0);
    assert_eq!(
        person.run(&["--data", "system", "user", "revoke", "bob", "--account", "APP"]).status,
        Some(0)
    );
    let pushed = person.run(&["--data", "system", "push", "--output", "json"]).json();
    let app = pushed["accounts"].as_array().unwrap().iter().find(|account| account["name"] == "APP").unwrap();
    assert_eq!(app["state"], "pushed");
    let listed = person.run(&["--data", "system", "list", "accounts", "--output", "json"]);
    assert!(!listed.stdout.contains("NOT ENFORCED"), "{listed:?}");

    child.signal(Signal::INT);
    let ended = child.end();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let (child, more) = up(&person);
    assert_eq!(more["events_published"], more["events_read_back"]);
    child.signal(Signal::TERM);
    assert_eq!(child.end().status, Some(0));
}

#[test]
fn up_notices_when_its_server_dies_and_can_be_killed_itself() {
    let person = Person::new();
    let (child, _) = up(&person);
    let pid = || {
        let text = std::fs::read_to_string(person.home().join("system/server/server.pid")).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    };
    kill_process(pid(), Signal::KILL).unwrap();
    let ended = child.end();
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("nats-server ended"), "{ended:?}");

    let (child, killed) = up(&person);
    child.signal(Signal::KILL);
    child.end();
    // Its server is left over: the next one ends it first, and has its websocket's port.
    let left = pid();
    // Also where the folder is given another name: two servers on the same files would destroy them.
    std::os::unix::fs::symlink("system", person.home().join("another")).unwrap();
    let (child, ready) = up_in(&person, "another");
    assert_eq!(ready["websocket_url"], killed["websocket_url"]);
    assert_ne!(pid(), left);
    assert!(rustix::process::test_kill_process(left).is_err());
    child.signal(Signal::INT);
    assert_eq!(child.end().status, Some(0));
}

#[test]
fn a_server_without_accounts_takes_it_with_a_warning() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    let first = person.run(&["sync", "--server", &url, "--output", "json"]);
    assert!(first.stderr.contains("whoever gets in can append to the stream and delete it"), "{first:?}");
    let first = first.json();
    assert_eq!(first["created"], serde_json::json!(CREATED));
    assert_eq!((&first["published"], &first["pending"]), (&17.into(), &0.into()));
    // By the environment, and by a natscli context.
    let mut command = person.command(&["sync", "--output", "json"]);
    assert_eq!(said(command.env("NATS_URL", &url).output().unwrap()).json()["published"], 0);
    std::fs::create_dir_all(person.home().join(".config/nats/context")).unwrap();
    std::fs::write(person.home().join(".config/nats/context/dev.json"), format!("{{\"url\":\"{url}\"}}"))
        .unwrap();
    assert_eq!(person.run(&["sync", "--context", "dev", "--output", "json"]).json()["published"], 0);
    let status = person.run(&["status", "--server", &url]);
    assert!(
        status.stdout.contains("settings as they must be") && status.stdout.contains("delete it"),
        "{status:?}"
    );
    let mut client = Client::connect(server.address()).unwrap();
    let ids = event_ids(&mut client);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (17, 17));
    let push = person.run(&["push", "--server", &url]);
    assert_eq!(push.status, Some(5), "{push:?}");
    assert!(push.stderr.contains("no accounts"), "{push:?}");
    // Another server, empty: the registry belongs to the first one's stream.
    let other = NatsServer::plain();
    let foreign = person.run(&["sync", "--server", &other.url()]);
    assert_eq!(foreign.status, Some(4), "{foreign:?}");
    let mut client = Client::connect(other.address()).unwrap();
    assert_eq!(
        client.request("$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"").unwrap().json()["error"]["err_code"],
        10059
    );
}

#[test]
fn a_run_killed_before_the_acknowledgement_leaves_each_event_once() {
    let person = offline();
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let url = proxy.url();
    let words = ["sync", "--server", &url, "--duplicate-window", "1", "--output", "json"];
    let eaten = proxy.eat_answers(1, |subject| subject.starts_with("cowboyai."));
    let child = person.start(&words);
    eaten.wait(1);
    child.signal(Signal::KILL);
    child.end();
    let mut client = Client::connect(server.address()).unwrap();
    let stored =
        wait::until("the events are stored", || Some(event_ids(&mut client)).filter(|ids| ids.len() == 17));
    // Until the server forgets their ids.
    let known = Instant::now();
    wait::until("the duplicate window is over", || {
        (known.elapsed() > Duration::from_millis(1500)).then_some(())
    });
    let second = person.run(&words).json();
    assert_eq!(
        (&second["published"], &second["pending"], &second["read"]),
        (&17.into(), &0.into(), &17.into())
    );
    assert_eq!(event_ids(&mut client), stored);
}

#[test]
fn a_configured_server_trusts_what_was_made_offline() {
    let person = offline();
    let text = person.run(&[
        "config",
        "server",
        "--store-dir",
        "/folder-of-the-server",
        "--resolver-dir",
        "/folder-of-the-server/accounts",
    ]);
    assert_eq!(text.status, Some(0), "{text:?}");
    let server = Setup::configured(Version::Newest, move |folder| {
        text.stdout.replace("/folder-of-the-server", &folder.to_string_lossy())
    })
    .start();
    let url = server.url();
    let without = person.run(&["sync", "--server", &url]);
    assert_eq!(without.status, Some(6), "{without:?}");
    assert!(without.stderr.contains("access renew --role host"), "{without:?}");
    for role in ["host", "auditor"] {
        let file = format!("{role}.creds");
        assert_eq!(
            person.run(&["access", "renew", "--role", role, "--server", &url, "--out", &file]).status,
            Some(0)
        );
    }
    let reader = person.run(&["sync", "--context", "./auditor.json"]);
    assert_eq!(reader.status, Some(6), "{reader:?}");
    assert!(reader.stderr.contains("not permitted: cowboyai.security.keys."), "{reader:?}");
    let synced = person.run(&["sync", "--context", "./host.json", "--output", "json"]).json();
    assert_eq!((&synced["published"], &synced["warnings"]), (&19.into(), &serde_json::json!([])));
    assert_eq!(person.run(&["sync", "--context", "./auditor.json"]).status, Some(0));
    assert_eq!(person.run(&["user", "revoke", "bob", "--account", "APP"]).status, Some(0));
    let status = person.run(&["status", "--context", "./host.json", "--output", "json"]).json();
    assert_eq!(status["server"]["push"]["accounts"][0]["name"], "APP");
    let marked = person.run(&["list", "accounts"]);
    assert!(marked.stdout.contains("NOT ENFORCED: push pending"), "{marked:?}");
    assert_eq!(person.run(&["push", "--context", "./host.json"]).status, Some(0));
    let status = person.run(&["status", "--context", "./host.json", "--output", "json"]).json();
    assert_eq!(status["server"]["push"]["accounts"][0]["state"], "enforced");
}

/// A file of a folder and of those in it, in another place.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn after_a_server_was_restored_nothing_is_said_to_be_in_force_before_a_push() {
    let person = offline();
    let text =
        person.run(&["config", "server", "--store-dir", "/own", "--resolver-dir", "/own/accounts"]).stdout;
    let mut server =
        Setup::configured(Version::Newest, move |folder| text.replace("/own", &folder.to_string_lossy()))
            .start();
    let url = server.url();
    let ok = |words: &[&str]| {
        let said = person.run(words);
        assert_eq!(said.status, Some(0), "{words:?}: {said:?}");
        said
    };
    ok(&["access", "renew", "--role", "host", "--server", &url, "--out", "host.creds"]);
    ok(&["sync", "--context", "./host.json"]);
    ok(&["push", "--context", "./host.json"]);
    let bob = creds::parse(&person.reads("bob.creds")).unwrap();
    let gets_in = |server: &NatsServer| Login::new(&bob.token, &bob.key).connect(server.address()).is_ok();
    assert!(gets_in(&server));
    // An older copy of everything that the server has is put in its place, after bob was revoked.
    let saved = person.home().join("saved");
    server.stop();
    copy(server.folder(), &saved);
    server.restart();
    ok(&["user", "revoke", "bob", "--account", "APP"]);
    ok(&["push", "--context", "./host.json"]);
    assert!(!gets_in(&server));
    assert!(ok(&["list", "accounts"]).stdout.matches("NOT ENFORCED").count() == 0);
    server.stop();
    std::fs::remove_dir_all(server.folder()).unwrap();
    copy(&saved, server.folder());
    server.restart();
    assert!(gets_in(&server));
    // `doctor` sees it, and what recovers the stream forgets what was pushed.
    let doctor = person.run(&["doctor", "--context", "./host.json"]);
    let line = doctor.stdout.lines().find(|line| line.contains("accounts on servers")).unwrap();
    assert!(line.starts_with("FAIL") && line.contains("APP: NOT ENFORCED"), "{doctor:?}");
    let recovered = ok(&["sync", "--context", "./host.json", "--recover", "--yes"]);
    assert!(recovered.stderr.contains("cim-keys push"), "{recovered:?}");
    assert_eq!(ok(&["list", "accounts"]).stdout.matches("NOT ENFORCED: push pending").count(), 4);
    assert!(gets_in(&server));
    ok(&["push", "--context", "./host.json"]);
    assert!(!gets_in(&server));
    let doctor = ok(&["doctor", "--context", "./host.json"]);
    assert!(doctor.stdout.contains("1 server has each account as the stream says"), "{doctor:?}");
    assert_eq!(ok(&["list", "accounts"]).stdout.matches("NOT ENFORCED").count(), 0);
    // The same where the stream is taken for this registry's anew.
    let joined = ok(&["sync", "--context", "./host.json", "--join"]);
    assert!(joined.stderr.contains("cim-keys push"), "{joined:?}");
    assert_eq!(ok(&["list", "accounts"]).stdout.matches("NOT ENFORCED: push pending").count(), 4);
}

#[test]
fn a_certificate_that_is_named_is_used_or_it_is_an_error() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    let web = url.replace("nats://", "ws://");
    for name in ["ca.pem", "cert.pem"] {
        std::fs::write(
            person.home().join(name),
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
    }
    std::fs::write(
        person.home().join("key.pem"),
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        // No TLS there: nothing is said in clear instead.
        (&["sync", "-s", &url, "--tlsca", "ca.pem"], 7, "TLS is asked for"),
        (&["sync", "-s", &url, "--tlscert", "cert.pem", "--tlskey", "key.pem"], 7, "TLS is asked for"),
        (&["sync", "-s", &web, "--tlsca", "ca.pem"], 2, "without TLS"),
        (&["sync", "-s", &url, "--tlsca", "none.pem"], 4, "none.pem does not exist"),
        (&["sync", "-s", &url, "--tlsca", "."], 3, "no text file"),
        (&["sync", "-s", &url, "--tlsca", "key.pem"], 3, "no certificate"),
        (&["sync", "-s", &url, "--tlscert", "cert.pem"], 2, "--tlskey"),
        (&["sync", "-s", &url, "--tlscert", "cert.pem", "--tlskey", "cert.pem"], 3, "no private key"),
        (&["sync", "-s", &url, "--tlscert", "none.pem", "--tlskey", "key.pem"], 4, "none.pem"),
    ];
    for (words, status, says) in cases {
        let said = person.run(words);
        assert_eq!(said.status, Some(status), "{words:?}: {said:?}");
        assert!(said.stderr.contains(says), "{words:?}: {said:?}");
    }
    let mut client = Client::connect(server.address()).unwrap();
    let info = client.request("$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"").unwrap().json();
    assert_eq!(info["error"]["err_code"], 10059);
}

#[test]
fn status_tells_what_it_knows_although_the_server_is_down() {
    let person = offline();
    let said = person.run(&["status", "--server", "nats://127.0.0.1:1"]);
    assert_eq!(said.status, Some(7), "{said:?}");
    assert!(said.stdout.contains("pending    3 commands"), "{said:?}");
    assert!(said.stderr.contains("no server can be reached"), "{said:?}");
    let said = person.run(&["status", "--server", "nats://127.0.0.1:1", "--output", "json"]);
    let standing: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&standing["pending"], &standing["server_error"]["exit"]), (&3.into(), &7.into()));
}

#[test]
fn a_context_of_other_creds_and_creds_of_another_role_say_so() {
    let person = offline();
    let text =
        person.run(&["config", "server", "--store-dir", "/own", "--resolver-dir", "/own/accounts"]).stdout;
    let server =
        Setup::configured(Version::Newest, move |folder| text.replace("/own", &folder.to_string_lossy()))
            .start();
    let url = server.url();
    for role in ["host", "resolver"] {
        let file = format!("{role}.creds");
        let renewed = person.run(&["access", "renew", "--role", role, "--server", &url, "--out", &file]);
        assert_eq!(renewed.status, Some(0), "{renewed:?}");
    }
    assert_eq!(person.run(&["sync", "--context", "./host.json"]).status, Some(0));
    // Others may read them: that is said.
    let creds = person.home().join("host.creds");
    let mode =
        |mode| std::fs::set_permissions(&creds, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    let said = person.run(&["sync", "--context", "./host.json"]);
    assert!(said.status == Some(0) && said.stderr.contains("readable by others (mode 644)"), "{said:?}");
    mode(0o600);
    assert!(!person.run(&["sync", "--context", "./host.json"]).stderr.contains("readable"));
    // The creds of another user in the place of those that the context was made for.
    let again = person.run(&["access", "renew", "--role", "host", "--server", &url, "--out", "new.creds"]);
    assert_eq!(again.status, Some(0), "{again:?}");
    std::fs::copy(person.home().join("new.creds"), person.home().join("host.creds")).unwrap();
    let said = person.run(&["sync", "--context", "./host.json"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("do not belong together") && said.stderr.contains("--inbox-prefix"),
        "{said:?}"
    );
    for creds in ["resolver.creds", "bob.creds"] {
        let said = person.run(&["sync", "--server", &url, "--creds", creds]);
        assert_ne!(said.status, Some(0), "{said:?}");
        assert!(said.stderr.contains("access renew --role host"), "{creds}: {said:?}");
    }
    // Creds of another registry than the one that is named.
    let stranger = offline();
    let creds = person.home().join("new.creds");
    let said = stranger.run(&["sync", "--server", &url, "--creds", creds.to_str().unwrap()]);
    assert_eq!(said.status, Some(6), "{said:?}");
    assert!(said.stderr.contains("an account that this registry does not know"), "{said:?}");
}

#[test]
fn an_archive_without_its_stream_is_left_alone_and_one_made_anew_is_taken() {
    let (person, other) = (offline(), offline());
    let server = NatsServer::plain();
    let url = server.url();
    let mut client = Client::connect(server.address()).unwrap();
    let mut ask = |verb: &str, stream: &str| {
        let answer = client.request(&format!("$JS.API.STREAM.{verb}.{stream}"), &[], b"").unwrap().json();
        if answer["error"].is_null() { 0 } else { answer["error"]["err_code"].as_u64().unwrap() }
    };
    let sync = ["sync", "--server", &url];
    assert_eq!(person.run(&sync).status, Some(0));
    let twin = person.twin();
    // The archive is lost on a stream that has everything: whoever makes it anew takes it,
    assert_eq!(ask("DELETE", "KEYS_ARCHIVE"), 0);
    for made in [true, false] {
        let said = person.run(&sync);
        assert_eq!(said.status, Some(0), "{said:?}");
        assert_eq!(said.stdout.contains("created    KEYS_ARCHIVE"), made, "{said:?}");
    }
    // and others are told how.
    let doctor = twin.run(&["doctor", "--server", &url]);
    assert!(doctor.stdout.contains("this registry knows the one made"), "{doctor:?}");
    let said = twin.run(&sync);
    assert_eq!(said.status, Some(8), "{said:?}");
    assert!(said.stderr.contains("sync --join"), "{said:?}");
    assert_eq!(twin.run(&["sync", "--server", &url, "--join"]).status, Some(0));
    assert_eq!(twin.run(&sync).status, Some(0));
    // The stream is lost: another registry does not begin where only its archive is left.
    assert_eq!(ask("DELETE", "KEYS_EVENTS"), 0);
    let said = other.run(&sync);
    assert_eq!(said.status, Some(5), "{said:?}");
    assert!(said.stderr.contains("KEYS_ARCHIVE") && said.stderr.contains("nothing was made"), "{said:?}");
    assert_eq!(ask("INFO", "KEYS_EVENTS"), 10059);
    // Its own registry is not told that `sync` makes a new one.
    let doctor = person.run(&["doctor", "--server", &url]);
    assert!(doctor.stdout.contains("no other is made"), "{doctor:?}");
}

#[test]
fn what_cannot_work_says_why_and_changes_nothing() {
    let person = offline();
    let old = Setup::plain(Version::TooOld).start();
    let old_url = old.url();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["sync"], 2, "no server is named"),
        (&["sync", "--server", "nats://127.0.0.1:1"], 7, "no server can be reached"),
        (&["sync", "--server", "a:b:c"], 2, "no server address"),
        (&["sync", "--server", &old_url], 5, "2.11.11, writers need 2.12.1 or newer"),
        (&["sync", "--server", &old_url, "--creds", "none.creds"], 4, "none.creds"),
        (&["up", "--once"], 4, "no nats-server is found"),
    ];
    for (words, status, says) in cases {
        let said = person.run(words);
        assert_eq!(said.status, Some(status), "{words:?}: {said:?}");
        assert!(said.stderr.contains(says), "{words:?}: {said:?}");
    }
    let status = person.run(&["status", "--output", "json"]).json();
    assert_eq!((&status["pending"], &status["head"]), (&3.into(), &0.into()));
    // Without a home folder: the flag that helps is named.
    let mut homeless =
        person.command(&["up", "--once", "--nats-server", Version::Newest.binary().to_str().unwrap()]);
    let homeless = said(homeless.env_remove("HOME").output().unwrap());
    assert_eq!(homeless.status, Some(2));
    assert!(homeless.stderr.contains("--data DIR"), "{homeless:?}");
}
