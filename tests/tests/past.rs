//! What was, as a person looks at it: `--at`, `diff`, `log` with its filters, `expiry`, `projection`.

use cim_keys_core::time::ServerTime;
use cim_keys_tests::program::{Person, Said};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::tools::workspace_root;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

fn ok(said: Said) -> Said {
    assert_eq!(said.status, Some(0), "{said:?}");
    said
}

/// A failure as JSON: exit status and the error.
fn fails(said: Said) -> (i32, Value) {
    let error: Value = serde_json::from_str(said.stderr.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.status.expect("a status"), error["error"].clone())
}

/// Servers leave out zeros at the end.
fn instant(text: &str) -> ServerTime {
    text.parse().expect("a time")
}

/// A registry on a stream: founding up to 14, account app at 15 and 16, user billing at 17, its permissions at 18, the
/// revocation at 19 and 20. One more user is pending.
struct Scene {
    person: Person,
    server: NatsServer,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { person: Person::new(), server: NatsServer::plain() };
        for words in [
            &["init", "--name", "Example"][..],
            &["account", "create", "app", "--actor", "ann"],
            &["user", "create", "billing", "-a", "app", "--allow-pub", "orders.new", "--expiry", "20d"],
        ] {
            ok(scene.person.run(words));
        }
        scene.sync();
        let allow = ["--allow-pub", "orders.new,orders.>", "--actor", "ann"];
        ok(scene.person.run(&[&["user", "permissions", "billing", "-a", "app"][..], &allow].concat()));
        scene.sync();
        ok(scene.person.run(&["user", "revoke", "billing", "-a", "app"]));
        scene.sync();
        ok(scene.person.run(&["user", "create", "late", "-a", "app", "--allow-pub", "x", "--expiry", "40d"]));
        scene
    }

    fn sync(&self) {
        ok(self.person.run(&["sync", "--server", &self.server.url()]));
    }

    fn json(&self, words: &[&str]) -> Value {
        self.person.run(&[words, &["--output", "json"]].concat()).json()
    }

    fn error(&self, words: &[&str]) -> (i32, String) {
        let (status, error) = fails(self.person.run(&[words, &["--output", "json"]].concat()));
        (status, error["code"].as_str().unwrap().to_owned())
    }

    /// When the server stored each message.
    fn times(&self) -> Vec<String> {
        let mut client = Client::connect(self.server.address()).unwrap();
        let time = |sequence: u64| {
            let body = json!({ "seq": sequence }).to_string();
            let answer = client.request("$JS.API.STREAM.MSG.GET.KEYS_EVENTS", &[], body.as_bytes()).unwrap();
            answer.json()["message"]["time"].as_str().unwrap().to_owned()
        };
        (1..=20).map(time).collect()
    }
}

#[test]
fn an_entity_is_shown_as_it_was_and_what_is_pending_is_left_out() {
    let scene = Scene::new();
    let allowed = |sequence: &str| {
        let shown = scene.json(&["show", "billing", "--at", sequence]);
        assert_eq!(shown["at"]["sequence"].to_string(), sequence);
        (
            shown["rights"]["pub"]["allow"].clone(),
            shown["revoked_at"].is_null(),
            shown["since"].as_u64().unwrap(),
        )
    };
    assert_eq!(allowed("17"), (json!(["orders.new"]), true, 17));
    assert_eq!(allowed("18"), (json!(["orders.new", "orders.>"]), true, 18));
    // A command is admitted whole.
    assert_eq!(allowed("19"), (json!(["orders.new", "orders.>"]), true, 18));
    assert_eq!(allowed("20"), (json!(["orders.new", "orders.>"]), false, 20));
    for (words, expected) in [
        (&["show", "billing", "--at", "16"][..], (4, "unknown")),
        (&["show", "late", "--at", "20"], (4, "unknown")),
        (&["show", "billing", "--at", "21"], (4, "beyond-head")),
        (&["show", "billing", "--at", "0"], (4, "before-first")),
        (&["list", "users", "-a", "app", "--at", "14"], (4, "unknown-account")),
    ] {
        let (status, code) = scene.error(words);
        assert_eq!((status, code.as_str()), expected, "{words:?}");
    }
    let users = |sequence: &str| {
        let list = scene.json(&["list", "users", "-a", "app", "--at", sequence]);
        list["users"].as_array().unwrap().len()
    };
    assert_eq!(["16", "17", "20"].map(users), [0, 1, 1]);
    assert_eq!(scene.json(&["list", "users", "-a", "app"])["users"].as_array().unwrap().len(), 2);
    let said = ok(scene.person.run(&["list", "keys", "--at", "16"]));
    assert!(said.stderr.contains("as of sequence 16: what is pending here is left out"), "{said:?}");
    let rows = ok(scene.person.run(&["list", "accounts", "--at", "16", "--output", "jsonl"])).stdout;
    assert_eq!(rows.lines().count(), 4);
    assert_eq!(scene.person.run(&["show", "app", "--at", "yesterday"]).status, Some(2));
}

#[test]
fn times_are_the_servers_and_asked_for_where_they_are_not_known() {
    let scene = Scene::new();
    let times = scene.times();
    let at = |person: &Person, url: Option<&str>, time: &str| {
        let mut command = person.command(&["show", "billing", "--at", time, "--output", "json"]);
        cim_keys_tests::program::said(
            command.envs(url.map(|url| ("NATS_URL", url))).output().expect("the program runs"),
        )
    };
    // All of it was appended from here: nobody told when.
    let (status, error) = fails(at(&scene.person, None, &times[17]));
    assert_eq!((status, &error["code"]), (4, &json!("times-unknown")));
    assert!(error["hints"][0].as_str().unwrap().contains("NATS_URL"), "{error}");
    let url = scene.server.url();
    for (place, time) in times.iter().enumerate().skip(16) {
        let shown = at(&scene.person, Some(&url), time).json();
        // Messages of one batch may have one time.
        let last = times.iter().rposition(|other| other == time).unwrap();
        assert_eq!(shown["at"]["sequence"], last + 1, "{place}");
        assert_eq!(instant(shown["at"]["time"].as_str().unwrap()), instant(time));
    }
    // What was asked is known from then on.
    assert_eq!(at(&scene.person, None, &times[17]).json()["at"]["sequence"], 18);
    // Who read it from the stream knows all of it.
    let reader = Person::new();
    let operator =
        scene.json(&["list", "operators"])["operators"][0]["public_key"].as_str().unwrap().to_owned();
    ok(reader.run(&["clone", "--server", &url, "--operator", &operator]));
    assert_eq!(at(&reader, None, &times[17]).json()["at"]["sequence"], 18);
    let since = reader.run(&["log", "--since", &times[17], "--until", &times[17], "--output", "json"]).json();
    assert_eq!(since["events"].as_array().unwrap().len(), 1);
    assert_eq!(instant(since["events"][0]["stored"].as_str().unwrap()), instant(&times[17]));
    for (time, expected) in [("2020-01-01T00:00:00Z", "before-first"), ("2200-01-01T00:00:00Z", "beyond-now")]
    {
        let (_, error) = fails(at(&reader, None, time));
        assert_eq!(error["code"], expected);
    }
}

#[test]
fn what_changed_is_said_in_words() {
    let scene = Scene::new();
    let words = |words: &[&str]| -> Vec<String> {
        let diff = scene.json(&[&["diff"][..], words].concat());
        let changes = diff["changes"].as_array().unwrap().iter();
        changes.map(|change| change["words"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        words(&["--from", "17", "--to", "18"]),
        ["user billing of account app gained publish on orders.>"]
    );
    // The revocation is in force from its last message on.
    assert!(words(&["--from", "18", "--to", "19"]).is_empty());
    let revoked = words(&["--from", "19"]);
    assert_eq!(revoked.len(), 2, "{revoked:?}");
    assert!(revoked[0].starts_with("user billing of account app was revoked: what was issued until "));
    assert!(revoked[1].starts_with("account app revokes user U"), "{revoked:?}");
    assert_eq!(words(&["--from", "17", "--to", "20", "app"]), [revoked[1].clone()]);
    let new = words(&["--from", "0", "--to", "17"]);
    assert!(new.contains(&"account app was created".to_owned()), "{new:?}");
    assert!(new.iter().any(|words| words == "operator Example was created"), "{new:?}");
    let said = ok(scene.person.run(&["diff", "--from", "18", "--to", "18"]));
    assert_eq!(said.stdout, "nothing changed between sequence 18 and 18\n");
    assert_eq!(scene.error(&["diff", "--from", "18", "--to", "17"]), (2, "usage".into()));
    let rows = ok(scene.person.run(&["diff", "--from", "17", "--output", "jsonl"])).stdout;
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(
        (rows.len(), &rows[0]["member"], &rows[0]["after"]),
        (3, &json!("pub.allow"), &json!("orders.>"))
    );
}

#[test]
fn the_trail_is_found_by_what_it_says() {
    let scene = Scene::new();
    let found = |words: &[&str]| -> Vec<String> {
        let log = scene.json(&[&["log"][..], words].concat());
        let sequence = |event: &Value| event["sequence"].as_u64().map_or("-".to_owned(), |n| n.to_string());
        log["events"].as_array().unwrap().iter().map(sequence).collect()
    };
    assert_eq!(found(&["--entity", "billing"]), ["17", "18", "19"]);
    assert_eq!(found(&["--entity", "late"]), ["-"]);
    assert_eq!(found(&["--by", "ann"]), ["15", "16", "18"]);
    assert_eq!(found(&["--by", "ann", "-n", "2"]), ["16", "18"]);
    assert_eq!(found(&["--by", "ann", "--after", "0", "-n", "1"]), ["15"]);
    assert_eq!(found(&["--by", "ann", "--type", "user.updated"]), ["18"]);
    assert_eq!(found(&["--type", "keys.user.created"]), ["17", "-"]);
    assert_eq!(found(&["--type", "user.created", "--until", "20"]), ["17"]);
    assert_eq!(found(&["--since", "18", "--until", "19"]), ["18", "19"]);
    let key = scene.json(&["show", "app"])["public_key"].as_str().unwrap().to_owned();
    assert_eq!(found(&["--entity", &key]), ["15", "20"]);
    let all = scene.json(&["log"]);
    let correlation = all["events"][14]["correlation_id"].as_str().unwrap();
    assert_eq!(found(&["--correlation", correlation]), ["15", "16"]);
    let tree = scene.json(&["log", "--tree", correlation]);
    assert_eq!(tree["commands"][0]["entries"].as_array().unwrap().len(), 2);
    let text = ok(scene.person.run(&["log", "--tree", correlation])).stdout;
    assert!(
        text.contains(" by ann at ") && text.contains("  15 keys.account.created app (account:"),
        "{text}"
    );
    assert_eq!(scene.error(&["log", "--entity", "nobody"]), (4, "unknown".into()));
    let unknown = "01a212fa-f2c0-7b75-a7aa-a508c0000000";
    assert_eq!(scene.error(&["log", "--tree", unknown]), (4, "unknown-correlation".into()));
}

#[test]
fn the_trail_is_followed_until_ctrl_c() {
    let scene = Scene::new();
    let all = scene.person.start_into("all", &["log", "--follow", "--after", "18", "--output", "jsonl"]);
    let late = scene.person.start_into("late", &["log", "-f", "--entity", "late"]);
    let lines = |name: &str| scene.person.reads(name).lines().count();
    wait::until("what there is", || (lines("all.out") == 2).then_some(()));
    scene.sync();
    wait::until("the new one", || (lines("all.out") == 3 && lines("late.out") == 1).then_some(()));
    assert!(scene.person.reads("late.out").starts_with("21  "), "{}", scene.person.reads("late.out"));
    for running in [all, late] {
        running.signal(Signal::INT);
        assert_eq!(running.end().status, Some(0));
    }
    let last: Value = serde_json::from_str(scene.person.reads("all.out").lines().last().unwrap()).unwrap();
    assert_eq!((&last["sequence"], &last["state"]), (&json!(21), &json!("confirmed")));
}

#[test]
fn projections_are_listed_and_made_anew_and_what_ends_is_told() {
    let scene = Scene::new();
    let list = scene.json(&["projection", "list"]);
    let reached: Vec<(String, u64)> = list["projections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["sequence"].as_u64().unwrap()))
        .collect();
    // `sync` has folded what it read and published.
    assert_eq!(reached, [("directory".into(), 20), ("audit".into(), 20), ("expiry".into(), 20)]);
    let rebuilt = scene.json(&["projection", "rebuild"]);
    for one in rebuilt["projections"].as_array().unwrap() {
        assert_eq!((&one["differences"], &one["swapped"]), (&json!(0), &json!(true)), "{one}");
    }
    let path = scene.person.home().join(".local/share/cim-keys/registries/default/store.db");
    let store = rusqlite::Connection::open(path).unwrap();
    let spoilt = "UPDATE projection_rows SET value = '{}' WHERE key LIKE 'at%' AND id = (SELECT max(id) FROM projection_rows WHERE key LIKE 'at%')";
    assert_eq!(store.execute(spoilt, []).unwrap(), 1);
    let said = scene.person.run(&["projection", "rebuild", "audit", "--check"]);
    assert_eq!(said.status, Some(8), "{said:?}");
    assert!(said.stderr.contains("audit: at 00000000000000"), "{said:?}");
    let said = ok(scene.person.run(&["projection", "rebuild", "audit"]));
    assert!(said.stdout.contains("1 differed"), "{said:?}");
    ok(scene.person.run(&["projection", "rebuild", "audit", "--check"]));
    assert_eq!(scene.error(&["projection", "rebuild", "nothing"]), (4, "unknown-projection".into()));
    // Who is revoked ends no more by itself.
    scene.sync();
    let names = |words: &[&str]| -> Vec<String> {
        let list = scene.json(&[&["expiry"][..], words].concat());
        let names = list["expiring"].as_array().unwrap().iter();
        names.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&[]).is_empty());
    assert_eq!(names(&["--within", "50d"]), ["late"]);
    assert_eq!(names(&["--within", "0", "--ended"]), ["late"]);
}

#[test]
fn the_lines_of_the_readme_do_what_they_say() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("### Looking back\n").unwrap();
    let section = section.split("\n#").next().unwrap();
    let blocks: Vec<&str> = section.split("```\n").skip(1).step_by(2).collect();
    let [look, shown, more] = blocks.as_slice() else { panic!("three blocks: {section}") };
    let scene = Scene::new();
    let url = scene.server.url();
    // A day that is not over yet when this runs lies in the past of nobody.
    let look = look.replace("2026-11-25T14:00:00Z", &scene.times()[17]);
    let mut command = scene.person.shell(&look);
    let said = ok(cim_keys_tests::program::said(command.env("NATS_URL", &url).output().unwrap()));
    let first = shown.lines().next().unwrap();
    assert!(said.stdout.contains(&format!("{first}\n")), "{said:?}");
    assert!(said.stdout.contains("billing of app may publish to orders.eu: allow \"orders.>\""), "{said:?}");
    for line in shown.lines().skip(1) {
        let words = line.split(" U").next().unwrap().split(" until").next().unwrap();
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
    let id = scene.json(&["log"])["events"][14]["correlation_id"].as_str().unwrap().to_owned();
    let (follow, others) = more.split_once('\n').unwrap();
    assert!(follow.starts_with("cim-keys log --follow "));
    let mut command = scene.person.shell(&others.replace("CORRELATION", &id));
    let said = ok(cim_keys_tests::program::said(command.output().unwrap()));
    assert!(
        said.stdout.contains("keys.account.created app") && said.stdout.contains("all as they were"),
        "{said:?}"
    );
}
