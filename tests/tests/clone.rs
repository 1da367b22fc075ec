//! Taking part in a registry that exists: its whole history, from the archive where the stream has forgotten a part; no
//! seeds; a key of its own.

use cim_keys::nats::target::Target;
use cim_keys::store::Store;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_tests::desk::{Desk, make_streams};
use cim_keys_tests::ledger::connect_as;
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::site::serve;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};

fn api(client: &mut Client, tail: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(&format!("$JS.API.STREAM.{tail}"), &[], body.as_bytes()).unwrap().json();
    assert!(answer["error"].is_null(), "{tail}: {answer}");
    answer
}

/// The stream forgets all of its messages, once the archive has them.
fn forget(client: &mut Client) -> u64 {
    let info = api(client, &format!("INFO.{KEYS_EVENTS}"), &Value::Null);
    let last = info["state"]["last_seq"].as_u64().unwrap();
    wait::until("the archive has all", || {
        let archive = api(client, &format!("INFO.{KEYS_ARCHIVE}"), &Value::Null);
        (archive["state"]["last_seq"] == last).then_some(())
    });
    let mut config = info["config"].clone();
    // As after ninety days: by age, only sooner.
    config["max_age"] = json!(100_000_000);
    config["duplicate_window"] = json!(100_000_000);
    api(client, &format!("UPDATE.{KEYS_EVENTS}"), &config);
    wait::until("it is forgotten", || {
        let state = api(client, &format!("INFO.{KEYS_EVENTS}"), &Value::Null)["state"].clone();
        (state["first_seq"] == last + 1 && state["last_seq"] == last).then_some(())
    });
    api(client, &format!("UPDATE.{KEYS_EVENTS}"), &info["config"]);
    last
}

/// What somebody types about the registry in a desk's folder.
fn at(person: &Person, desk: &Desk, words: &[&str]) -> Said {
    let mut all = vec!["--data", desk.folder().to_str().unwrap()];
    all.extend(words);
    person.run(&all)
}

/// A published registry on a server in operator mode, whose stream has forgotten its beginning; and creds of the host role.
fn published(person: &Person) -> (Desk, NatsServer, u64) {
    let desk = Desk::founded();
    let server = serve(desk.host());
    let steward = desk.role(PipelineRole::Steward, &server.url());
    make_streams(&steward, 120);
    desk.sync(&desk.role(PipelineRole::Host, &server.url())).drained();
    let renewed = at(person, &desk, &["access", "renew", "--role", "host", "-o", "host.creds"]);
    assert_eq!(renewed.status, Some(0), "{renewed:?}");
    desk.sync(&desk.role(PipelineRole::Host, &server.url())).drained();
    let last = forget(&mut connect_as(&steward, &server));
    (desk, server, last)
}

#[test]
fn a_clone_reads_the_whole_history_and_signs_with_a_key_of_its_own() {
    let person = Person::new();
    let (desk, server, last) = published(&person);
    let operator = desk.registry().operator.to_string();
    let url = server.url();
    // Given the operator's key and creds, everything is read, what is forgotten from the archive.
    let cloned =
        person.run(&["clone", &url, "--operator", &operator, "--creds", "host.creds", "--output", "json"]);
    assert_eq!(cloned.status, Some(0), "{cloned:?}");
    let cloned = cloned.json();
    assert_eq!((&cloned["head"], &cloned["operator"]), (&last.into(), &operator.as_str().into()));
    let listed = |words: &[&str]| {
        let (here, there) = (person.run(words), at(&person, &desk, words));
        assert_eq!((here.status, there.status), (Some(0), Some(0)), "{here:?} {there:?}");
        (here.json(), there.json())
    };
    let (here, there) = listed(&["list", "accounts", "--output", "json"]);
    let names = |list: &Value| -> Vec<Value> {
        list["accounts"].as_array().unwrap().iter().map(|account| account["name"].clone()).collect()
    };
    assert_eq!(names(&here), names(&there));
    assert_eq!(names(&here).len(), 4);
    // It cannot know what the founder pushed, and says so instead of an alarm that nobody there can end.
    let mark = |words: &[&str], json: bool| {
        let said = person.run(words);
        assert_eq!(said.status, Some(0), "{said:?}");
        assert_eq!(said.stdout.matches("not known here whether enforced").count(), 4, "{said:?}");
        assert!(!said.stdout.contains("NOT ENFORCED"), "{said:?}");
        if json { said.json() } else { Value::Null }
    };
    mark(&["status"], false);
    mark(&["list", "accounts"], false);
    let status = mark(&["status", "--output", "json"], true);
    assert_eq!(status["accounts_state"][0]["enforced"], Value::Null, "{status}");
    assert_eq!(there["accounts"][0]["enforced"], false, "{there}");
    let push = person.run(&["push", "--server", &url, "--creds", "host.creds"]);
    assert_eq!(push.status, Some(6), "{push:?}");
    assert!(push.stderr.contains("creds of the role resolver") && !push.stderr.contains("--own"), "{push:?}");
    // A second one there is refused, and `sync` goes on with what is there.
    let again = person.run(&["clone", &url, "--operator", &operator, "--creds", "host.creds"]);
    assert_eq!(again.status, Some(5), "{again:?}");
    let sync = ["sync", "--server", &url, "--creds", "host.creds", "--output", "json"];
    assert_eq!(person.run(&sync).json()["head"], last);
    // Signing names the key that it misses,
    let create = ["user", "create", "carol", "--account", "APP", "--creds", "carol.creds"];
    let refused = person.run(&create);
    assert_eq!(refused.status, Some(6), "{refused:?}");
    assert!(refused.stderr.contains("does not have the seed of A"), "{refused:?}");
    // until a key of its own, whose seed never leaves it, is added by who may.
    let made = person.run(&["key", "generate", "account", "--own", "--output", "json"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let key = made.json()["public_key"].as_str().unwrap().to_owned();
    assert_eq!(person.run(&create).status, Some(6));
    let added = at(&person, &desk, &["key", "add", &key, "--owner", "APP", "--label", "clone"]);
    assert_eq!(added.status, Some(0), "{added:?}");
    desk.sync(&desk.role(PipelineRole::Host, &url)).drained();
    assert_eq!(person.run(&sync).status, Some(0));
    let created = person.run(&create);
    assert_eq!(created.status, Some(0), "{created:?}");
    let synced = person.run(&sync).json();
    assert_eq!((&synced["published"], &synced["held"]), (&1.into(), &0.into()));
    let read = desk.sync(&desk.role(PipelineRole::Host, &url)).drained();
    assert_eq!((read.admitted, read.anomalies), (1, 0));
    let (here, there) = listed(&["list", "users", "--account", "APP", "--output", "json"]);
    assert_eq!(here["users"][0]["public_key"], there["users"][0]["public_key"]);
    // Seeds that are brought work as well.
    let other = at(&person, &desk, &["key", "generate", "--owner", "APP", "-o", "seed.nk"]);
    assert_eq!(other.status, Some(0), "{other:?}");
    desk.sync(&desk.role(PipelineRole::Host, &url)).drained();
    assert_eq!(person.run(&sync).status, Some(0));
    let imported = person.run(&["key", "import", "seed.nk"]);
    assert_eq!(imported.status, Some(0), "{imported:?}");
}

#[test]
fn a_clone_that_was_ended_before_it_had_read_anything_is_repeated() {
    let person = Person::new();
    let (desk, server, last) = published(&person);
    let operator = desk.registry().operator.to_string();
    let proxy = Proxy::start(server.address());
    let (slow, url) = (proxy.url(), server.url());
    // Given one that is ended while it waits for its first messages,
    let eaten = proxy.eat_answers(1, |subject| subject.contains(".GET.KEYS_"));
    let child = person.start(&["clone", &slow, "--operator", &operator, "--creds", "host.creds"]);
    eaten.wait(1);
    child.signal(Signal::KILL);
    child.end();
    assert!(person.home().join(".local/share/cim-keys/registries/default/store.db").exists());
    // when `sync` is tried, it says what to do;
    let sync = ["sync", "--server", &url, "--creds", "host.creds"];
    let refused = person.run(&sync);
    assert_eq!(refused.status, Some(6), "{refused:?}");
    assert!(refused.stderr.contains("cim-keys clone"), "{refused:?}");
    // then it is repeated, whatever the first one was to be of.
    let other = Desk::founded().registry();
    for registry in [None, Some(other)] {
        let clean = person.twin();
        if let Some(registry) = registry {
            let path = clean.home().join(".local/share/cim-keys/registries/default/store.db");
            fs::remove_file(&path).unwrap();
            for end in ["-wal", "-shm"] {
                let _ = fs::remove_file(format!("{}{end}", path.display()));
            }
            assert!(Store::create(&path).unwrap().adopt(&registry).unwrap());
        }
        let clone = ["clone", &url, "--operator", &operator, "--creds", "host.creds", "--output", "json"];
        let cloned = clean.run(&clone).json();
        assert_eq!((&cloned["head"], &cloned["operator"]), (&last.into(), &operator.as_str().into()));
        assert_eq!(clean.run(&sync).status, Some(0));
        assert_eq!(clean.run(&clone).status, Some(5), "one that has read something is not begun anew");
    }
}

#[test]
fn a_clone_that_is_not_meant_leaves_nothing_behind() {
    let person = Person::new();
    let desk = Desk::founded();
    let server = NatsServer::plain();
    let url = server.url();
    make_streams(&Target::open(&url), 120);
    let operator = desk.registry().operator.to_string();
    let clone = |operator: &str| person.run(&["clone", &url, "--operator", operator]);
    let nothing = |what: &str| {
        let folder = person.home().join(".local/share/cim-keys/registries/default");
        let left: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    };
    // An empty stream, and that of another registry.
    let said = clone(&operator);
    assert_eq!(said.status, Some(4), "{said:?}");
    nothing("nothing was published");
    desk.sync(&Target::open(&url)).drained();
    let said = clone(&Desk::founded().registry().operator.to_string());
    assert_eq!(said.status, Some(5), "{said:?}");
    assert!(said.stderr.contains(&operator), "{said:?}");
    assert!(said.stderr.contains("--operator") && !said.stderr.contains("--join"), "{said:?}");
    nothing("another registry");
    // No operator's key, and nobody to be asked.
    assert_eq!(clone(&desk.app().to_string()).status, Some(2));
    let said = person.run(&["clone", &url]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("--operator"), "{said:?}");
    nothing("nobody was asked");
    // Half a history.
    let mut client = Client::connect(server.address()).unwrap();
    forget(&mut client);
    api(&mut client, &format!("DELETE.{KEYS_ARCHIVE}"), &Value::Null);
    let said = clone(&operator);
    assert!(said.stderr.contains("history-missing") || said.stderr.contains("has forgotten"), "{said:?}");
    assert_eq!(said.status, Some(8), "{said:?}");
    nothing("half a history");
    assert!(!person.home().join(".config").exists(), "no identity was made");
}

#[test]
fn a_person_on_a_terminal_confirms_the_operator() {
    let desk = Desk::founded();
    let server = NatsServer::plain();
    let url = server.url();
    make_streams(&Target::open(&url), 120);
    desk.sync(&Target::open(&url)).drained();
    let operator = desk.registry().operator.to_string();
    for (answer, status) in [("no\n", 2), ("yes\n", 0)] {
        let person = Person::new();
        let (clone, mut terminal) = person.start_in_terminal(&["clone", &url, "--output", "json"]);
        let asked = until(&mut terminal, "yes or no: ");
        assert!(asked.contains(&operator) && asked.contains("TEST"), "{asked}");
        terminal.write_all(answer.as_bytes()).unwrap();
        let said = clone.end();
        assert_eq!(said.status, Some(status), "{answer} {said:?}");
        if status == 0 {
            assert_eq!(said.json()["operator"], operator);
        }
    }
}

/// What stands on a terminal, up to a text.
fn until(terminal: &mut File, end: &str) -> String {
    let mut drawn = String::new();
    let mut piece = [0; 4096];
    while !drawn.contains(end) {
        let read = terminal.read(&mut piece).unwrap();
        assert!(read > 0, "{drawn}");
        drawn.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    drawn
}
