//! `sync --watch`, and what `status` says of whoever synchronises: as a person sees it.

use cim_keys_tests::program::{Person, Running};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use rustix::process::Signal;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// A registry with an account, on no stream.
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

fn user(person: &Person, name: &str) {
    ok(person, &["user", "create", name, "--account", "APP", "--allow-pub", "app.>", "--keep"]);
}

fn status(person: &Person) -> Value {
    person.run(&["status", "--output", "json"]).json()
}

fn watch(person: &Person, words: &[&str]) -> Running {
    let mut all = vec!["sync", "--watch", "--output", "jsonl"];
    all.extend(words);
    person.start_into("watch", &all)
}

/// Lines that the watch has said so far.
fn lines(person: &Person) -> Vec<Value> {
    // The last one may be half written.
    person.reads("watch.out").lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for a line behind the first `after` ones.
fn until(person: &Person, after: usize, what: &str, is: impl Fn(&Value) -> bool) -> usize {
    wait::until(what, || lines(person).iter().skip(after).position(&is).map(|place| after + place + 1))
}

/// Event ids on the stream, each once.
fn stored(server: &NatsServer) -> usize {
    let mut client = Client::connect(server.address()).unwrap();
    let info = client.request("$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"").unwrap().json();
    let last = info["state"]["last_seq"].as_u64().unwrap();
    let ids: std::collections::BTreeSet<String> = (1..=last)
        .map(|sequence| {
            let body = format!("{{\"seq\":{sequence}}}");
            let message = client.request("$JS.API.DIRECT.GET.KEYS_EVENTS", &[], body.as_bytes()).unwrap();
            message.header_lines().into_iter().find(|(name, _)| name == "CIM-Event-Id").unwrap().1
        })
        .collect();
    assert_eq!(ids.len() as u64, last, "an event stands twice");
    ids.len()
}

fn is_idle(line: &Value) -> bool {
    line["state"] == "idle"
}

#[test]
fn it_publishes_what_other_processes_decide_and_reads_what_other_hosts_publish() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    ok(&person, &["sync", "--server", &url]);
    let other = person.twin();
    let watch = watch(&person, &["--server", &url]);
    let after = until(&person, 0, "it is idle", is_idle);
    let seen = status(&person)["sync"].clone();
    assert_eq!((&seen["state"], &seen["running"]), (&"idle".into(), &true.into()), "{seen}");
    assert_eq!((&seen["server"]["version"], &seen["server"]["url"]), (&"2.15.1".into(), &url.clone().into()));

    user(&person, "bob");
    let after = until(&person, after, "bob is published", |line| line["published"] == 1);
    user(&other, "carol");
    ok(&other, &["sync", "--server", &url]);
    let after = until(&person, after, "carol is read", |line| line["admitted"] == 1);
    let users = person.run(&["list", "users", "--output", "json"]).stdout;
    assert!(users.contains("carol"), "{users}");
    // A run of its own is given the place.
    user(&person, "dave");
    until(&person, after, "dave is published", |line| line["published"] == 1);
    ok(&person, &["sync", "--server", &url]);
    let second = person.run(&["sync", "--watch", "--server", &url]);
    assert_eq!(second.status, Some(5), "{second:?}");
    assert!(
        second.stderr.contains("a `sync --watch` or `serve` runs on this registry already"),
        "{second:?}"
    );

    watch.signal(Signal::INT);
    assert_eq!(watch.end().status, Some(0));
    assert!(person.reads("watch.err").contains("stopping"), "{}", person.reads("watch.err"));
    let seen = status(&person);
    assert_eq!((&seen["sync"]["state"], &seen["sync"]["running"]), (&"idle".into(), &false.into()));
    assert_eq!((&seen["confirmed"], &seen["pending"]), (&4.into(), &0.into()));
    let text = person.run(&["status"]).stdout;
    for word in [
        "sync       idle, since ",
        "not running now",
        "last on    ",
        "archive    KEYS_ARCHIVE, made ",
        "confirmed  4 commands",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(stored(&server), 19);
}

#[test]
fn it_survives_the_loss_of_its_server_and_says_so() {
    let person = offline();
    let mut server = NatsServer::plain();
    let url = server.url();
    // As text: state changes are talk, stdout has nothing.
    let watch = person.start_into("watch", &["sync", "--watch", "--server", &url]);
    let said = |word: &str| {
        wait::until(word, || person.reads("watch.err").contains(word).then_some(()));
    };
    said("idle");
    server.kill();
    said("waiting");
    said("looks again in ");
    let gone = wait::until("status knows", || {
        let sync = status(&person)["sync"].clone();
        (sync["state"] == "waiting").then_some(sync)
    });
    assert_eq!((&gone["running"], &gone["reason"]["code"]), (&true.into(), &"unreachable".into()), "{gone}");
    assert!(gone["next_probe"].is_string() && gone["since"].is_string(), "{gone}");
    let text = person.run(&["status"]).stdout;
    assert!(text.contains("unreachable: "), "{text}");
    user(&person, "bob");
    server.restart();
    wait::until("bob is published", || (status(&person)["pending"] == 0).then_some(()));
    said("published 1 event of 1 command");
    watch.signal(Signal::TERM);
    assert_eq!(watch.end().status, Some(0));
    assert_eq!(person.reads("watch.out"), "");
    assert_eq!(stored(&server), 17);
}

#[test]
fn it_waits_for_a_server_that_is_not_there_yet() {
    let person = offline();
    let mut server = NatsServer::plain();
    let url = server.url();
    server.kill();
    let watch = watch(&person, &["--server", &url]);
    until(&person, 0, "it waits", |line| {
        line["state"] == "waiting" && line["reason"]["code"] == "unreachable"
    });
    server.restart();
    until(&person, 0, "it is idle", is_idle);
    watch.signal(Signal::INT);
    assert_eq!(watch.end().status, Some(0));
    assert_eq!(stored(&server), 16);
}

#[test]
fn others_are_given_its_place_in_the_middle_of_its_work_and_it_goes_on_afterwards() {
    let person = offline();
    let server = NatsServer::plain();
    let url = server.url();
    ok(&person, &["sync", "--server", &url]);
    let proxy = Proxy::start(server.address());
    let watch = watch(&person, &["--server", &proxy.url()]);
    until(&person, 0, "it is idle", is_idle);
    // What it publishes does not arrive,
    let held = proxy.hold(1, |subject| subject.starts_with("cowboyai."));
    user(&person, "bob");
    wait::until("a publish is held", || (held.met() > 0).then_some(()));
    // and whoever else comes publishes it, several at once as well.
    let others: Vec<_> =
        (0..3).map(|_| person.start(&["sync", "--server", &url, "--output", "json"])).collect();
    let mut published = 0;
    for other in others {
        let said = other.end().json();
        assert_eq!(said["pending"], 0, "{said}");
        published += said["published"].as_u64().unwrap();
    }
    assert_eq!(published, 1);
    held.let_go();
    user(&person, "carol");
    until(&person, 0, "carol is published", |line| line["published"] == 1 && line["state"] == "idle");
    watch.signal(Signal::INT);
    assert_eq!(watch.end().status, Some(0));
    let seen = status(&person);
    assert_eq!(
        (&seen["sync"]["state"], &seen["pending"], &seen["held"]),
        (&"idle".into(), &0.into(), &0.into())
    );
    assert_eq!(stored(&server), 18);
}

/// The folders in a folder, with all that is in them, in place of those of another one.
fn put(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if to.exists() {
                std::fs::remove_dir_all(&to).unwrap();
            }
            std::fs::create_dir(&to).unwrap();
            put(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_a_person_is_told_to_do_is_done_beside_it() {
    let person = offline();
    let mut server = NatsServer::plain();
    let url = server.url();
    ok(&person, &["sync", "--server", &url]);
    let saved = person.home().join("saved");
    std::fs::create_dir(&saved).unwrap();
    server.stop();
    put(server.folder(), &saved);
    server.restart();
    let watch = watch(&person, &["--server", &url]);
    until(&person, 0, "it is idle", is_idle);
    user(&person, "bob");
    until(&person, 0, "bob is published", |line| line["published"] == 1);
    // The stream goes back: it says what to do,
    server.stop();
    put(&saved, server.folder());
    server.restart();
    let after = until(&person, 0, "it is blocked", |line| line["state"] == "blocked");
    let blocked = lines(&person)[after - 1].clone();
    assert_eq!(blocked["reason"]["code"], "stream-regressed", "{blocked}");
    assert!(blocked["hints"][0].as_str().unwrap().contains("cim-keys sync --recover"), "{blocked}");
    // as do others that are asked,
    let seen = status(&person);
    assert!(seen["sync"]["hints"][0].as_str().unwrap().contains("cim-keys sync --recover"), "{seen}");
    for verb in ["status", "doctor"] {
        let said = person.run(&[verb]);
        assert!(said.stdout.contains("-> `cim-keys sync --recover`"), "{said:?}");
        assert!(!said.stdout.contains("tries again in"), "{said:?}");
    }
    // and goes on once that is done.
    ok(&person, &["sync", "--recover", "--yes", "--server", &url]);
    let after = until(&person, after, "it is idle again", is_idle);
    user(&person, "carol");
    until(&person, after, "carol is published", |line| line["published"] == 1);
    watch.signal(Signal::INT);
    assert_eq!(watch.end().status, Some(0));
    assert_eq!(stored(&server), 18);
}

#[test]
fn a_terminal_shows_how_long_it_waits_and_is_wiped() {
    let person = offline();
    let mut server = NatsServer::plain();
    let url = server.url();
    server.kill();
    let (watch, mut terminal) = person.start_on_terminal(&["sync", "--watch", "--server", &url]);
    let mut drawn = Vec::new();
    let mut shows = |what: &str, drawn: &mut Vec<u8>| {
        let begun = Instant::now();
        while !String::from_utf8_lossy(drawn).contains(what) {
            // It is drawn anew as long as it runs.
            let shown = String::from_utf8_lossy(drawn);
            assert!(begun.elapsed() < wait::PATIENCE, "{what}: {shown:?}");
            let mut piece = [0; 4096];
            let read = terminal.read(&mut piece).unwrap_or(0);
            assert!(read > 0, "{what}: {:?}", String::from_utf8_lossy(drawn));
            drawn.extend(&piece[..read]);
        }
    };
    // Which second is drawn is chance.
    shows("\u{1b}[Kwaiting for ", &mut drawn);
    shows(" s, looks again in ", &mut drawn);
    server.restart();
    shows("  idle       ", &mut drawn);
    watch.signal(Signal::INT);
    shows("stopping: nothing is lost", &mut drawn);
    let said = watch.end();
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), ""), "{said:?}");
}

/// A server in operator mode that trusts a person's registry, and creds of the host.
fn configured(person: &Person) -> NatsServer {
    let place = "/folder-of-the-server";
    let accounts = format!("{place}/accounts");
    let text = person.run(&["config", "server", "--store-dir", place, "--resolver-dir", &accounts]);
    assert_eq!(text.status, Some(0), "{text:?}");
    Setup::configured(Version::Newest, move |folder| text.stdout.replace(place, &folder.to_string_lossy()))
        .start()
}

#[test]
fn refused_creds_are_read_again_at_most_once_a_second_and_new_ones_are_taken() {
    let person = offline();
    let stranger = offline();
    let server = configured(&person);
    let proxy = Proxy::start(server.address());
    let url = proxy.url();
    for (owner, name) in [(&person, "good"), (&stranger, "foreign")] {
        let file = format!("{name}.creds");
        ok(owner, &["access", "renew", "--role", "host", "--server", &url, "--out", &file]);
    }
    let used = person.home().join("used.creds");
    let put = |from: &Person, name: &str| {
        let beside = person.home().join("used.new");
        std::fs::copy(from.home().join(name), &beside).unwrap();
        std::fs::rename(&beside, &used).unwrap();
    };
    put(&stranger, "foreign.creds");
    let began = Instant::now();
    let watch =
        watch(&person, &["--server", &url, "--creds", "used.creds", "--js-api-prefix", "CIMKEYS.API"]);
    until(&person, 0, "it is blocked", |line| {
        line["state"] == "blocked" && line["reason"]["code"] == "authorization"
    });
    wait::until("it tried again", || (proxy.accepted() >= 3).then_some(()));
    let (tries, seconds) = (proxy.accepted(), began.elapsed().as_secs() as usize);
    assert!(tries <= seconds + 1, "{tries} connections in {seconds} s");
    let seen = status(&person)["sync"].clone();
    assert_eq!((&seen["state"], &seen["running"]), (&"blocked".into(), &true.into()), "{seen}");
    put(&person, "good.creds");
    until(&person, 0, "it is idle", is_idle);
    assert!(status(&person)["sync"]["creds_expire"].is_i64());
    // Creds that are written anew are taken though the old ones work.
    let connections = proxy.accepted();
    put(&person, "good.creds");
    wait::until("it connects anew", || (proxy.accepted() > connections).then_some(()));
    user(&person, "bob");
    wait::until("bob is published", || (status(&person)["pending"] == 0).then_some(()));
    watch.signal(Signal::INT);
    assert_eq!(watch.end().status, Some(0));
    assert_eq!(status(&person)["pending"], 0);
}

#[test]
fn a_user_that_is_revoked_blocks_it_until_there_are_other_creds() {
    let person = offline();
    let server = configured(&person);
    let url = server.url();
    for file in ["first.creds", "second.creds"] {
        ok(&person, &["access", "renew", "--role", "host", "--server", &url, "--out", file]);
    }
    std::fs::copy(person.home().join("first.creds"), person.home().join("used.creds")).unwrap();
    let watch = watch(&person, &["--server", &url, "--creds", "used.creds"]);
    let after = until(&person, 0, "it is idle", is_idle);
    let users = person.run(&["list", "users", "--output", "json"]).json();
    let first = person.reads("first.creds");
    let key = users["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|user| user["public_key"].as_str())
        .find(|key| token_of(&first).contains(key))
        .unwrap()
        .to_owned();
    ok(&person, &["user", "revoke", &key, "--account", "KEYS_EDGE"]);
    ok(&person, &["push", "--server", &url]);
    until(&person, after, "it is blocked", |line| line["state"] == "blocked");
    let seen = wait::until("status knows", || {
        let sync = status(&person)["sync"].clone();
        (sync["state"] == "blocked").then_some(sync)
    });
    assert_eq!(seen["reason"]["code"], "authorization", "{seen}");
    let after = lines(&person).len();
    std::fs::copy(person.home().join("second.creds"), person.home().join("used.creds")).unwrap();
    until(&person, after, "it is idle again", is_idle);
    watch.signal(Signal::TERM);
    assert_eq!(watch.end().status, Some(0));
}

/// The claims of a creds file, as text.
fn token_of(creds: &str) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let token = creds.lines().nth(1).unwrap();
    String::from_utf8(Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn one_that_was_killed_leaves_working_and_status_says_that_nobody_is() {
    let person = offline();
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let never = status(&person)["sync"].clone();
    assert_eq!(never, serde_json::json!({ "running": false, "state": "never" }));
    let held = proxy.hold(1, |subject| subject.starts_with("cowboyai."));
    let sync = person.start(&["sync", "--server", &proxy.url()]);
    wait::until("a publish is held", || (held.met() > 0).then_some(()));
    let working = wait::until("it is at work", || {
        let sync = status(&person)["sync"].clone();
        (sync["state"] == "working").then_some(sync)
    });
    assert_eq!(working["running"], true);
    sync.signal(Signal::KILL);
    sync.end();
    let dead = status(&person)["sync"].clone();
    assert_eq!((&dead["state"], &dead["running"]), (&"working".into(), &false.into()));
    let text = person.run(&["status"]).stdout;
    assert!(text.contains("NOT RUNNING: it ended before it was done, cim-keys sync"), "{text}");
    held.let_go();
    ok(&person, &["sync", "--server", &server.url()]);
    assert_eq!(status(&person)["sync"]["state"], "idle");
}

#[test]
fn what_a_run_failed_for_stays_in_the_store() {
    let person = offline();
    let server = configured(&person);
    let url = server.url();
    let cases: [(&[&str], i32, &str, &str); 2] = [
        (&["sync", "--server", "nats://127.0.0.1:1"], 7, "waiting", "unreachable"),
        (&["sync", "--server", &url], 6, "blocked", "authorization"),
    ];
    for (words, exit, state, code) in cases {
        assert_eq!(person.run(words).status, Some(exit), "{words:?}");
        let sync = status(&person)["sync"].clone();
        assert_eq!((&sync["state"], &sync["reason"]["code"]), (&state.into(), &code.into()), "{sync}");
        assert_eq!((&sync["running"], &sync["next_probe"]), (&false.into(), &Value::Null));
        let text = person.run(&["status"]).stdout;
        assert!(text.contains("NOT RUNNING: nothing tries again by itself"), "{text}");
    }
}

#[test]
fn a_long_run_draws_on_a_terminal_how_far_it_has_come_and_wipes_it() {
    let person = offline();
    let server = NatsServer::plain();
    let proxy = Proxy::start(server.address());
    let held = proxy.hold(1, |subject| subject.starts_with("cowboyai."));
    let (sync, mut terminal) = person.start_on_terminal(&["sync", "--server", &proxy.url()]);
    let mut drawn = Vec::new();
    let mut more = |drawn: &mut Vec<u8>| {
        let mut piece = [0; 4096];
        // A terminal whose other side is closed is an error to who reads it.
        let read = terminal.read(&mut piece).unwrap_or(0);
        drawn.extend(&piece[..read]);
        read > 0
    };
    const BAR: &str = "[........................] 0 of 2 commands published";
    while !String::from_utf8_lossy(&drawn).contains(BAR) {
        assert!(more(&mut drawn), "{:?}", String::from_utf8_lossy(&drawn));
    }
    held.let_go();
    while more(&mut drawn) {}
    let said = sync.end();
    assert_eq!(said.status, Some(0), "{said:?}");
    let drawn = String::from_utf8_lossy(&drawn).into_owned();
    let (_, behind) = drawn.rsplit_once(BAR).unwrap();
    assert!(behind.starts_with("\r\u{1b}[K"), "{drawn:?}");
    // Without a terminal nothing is drawn, however long it takes.
    user(&person, "bob");
    let held = proxy.hold(1, |subject| subject.starts_with("cowboyai."));
    let sync = person.start(&["sync", "--server", &proxy.url()]);
    wait::until("a publish is held", || (held.met() > 0).then_some(()));
    let seen = Instant::now();
    wait::until("longer than a terminal would wait", || {
        (seen.elapsed() > Duration::from_secs(1)).then_some(())
    });
    held.let_go();
    let said = sync.end();
    assert!(said.status == Some(0) && !said.stderr.contains('['), "{said:?}");
}
