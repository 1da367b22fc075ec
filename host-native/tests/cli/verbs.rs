//! What each verb does without a server.

use crate::tool::{Tool, mode, text};
use cim_keys_core::creds;
use cim_keys_core::jwt::{Claims, Grant};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

#[test]
fn a_registry_is_founded_with_its_accounts_and_roles() {
    let tool = Tool::new();
    let founded = tool.json(&["init", "--name", "ACME", "--namespace", "acme.keys"]);
    let names: Vec<String> =
        founded["accounts"].as_array().unwrap().iter().map(|a| text(a, "/name")).collect();
    assert_eq!(names, ["SYS", "KEYS", "KEYS_EDGE"]);
    assert!(text(&founded, "/operator").starts_with('O'));
    assert_eq!(founded["events"].as_array().unwrap().len(), 14);
    assert_eq!(mode(&tool.data().join("store.db")), 0o600);
    assert_eq!(mode(&tool.path(".config/cim-keys/identity.age")), 0o600);
    assert_eq!(mode(&tool.data()), 0o700);
    let log = tool.json(&["log"]);
    assert_eq!(text(&log, "/events/0/subject"), "acme.keys.keys.operator.created");
    assert_eq!(
        (text(&log, "/events/0/state"), text(&log, "/events/0/actor")),
        ("pending".into(), "tester".into())
    );
}

#[test]
fn creds_of_a_user_are_what_was_asked_for() {
    let tool = Tool::founded();
    let path = tool.path("alice.creds");
    let words = ["user", "create", "alice", "--account", "APP", "--expiry", "30d", "--creds", "alice.creds"];
    let permissions =
        ["--allow-pub", "a.>,b", "--deny-sub", "c", "--allow-pub-response=3", "--response-ttl", "2s"];
    let made = tool
        .json(&[&words[..], &permissions, &["--tag", "team:x", "--source-network", "10.0.0.0/8"]].concat());
    assert_eq!(mode(&path), 0o600);
    let parsed = creds::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    let claims = parsed.token.claims();
    assert_eq!(
        (claims.name.as_str(), claims.subject.to_string()),
        ("alice", text(&made, "/user/public_key"))
    );
    lives(claims, 30 * 86_400);
    let user = claims.body.as_user().unwrap();
    assert_eq!(user.tags, ["team:x"]);
    let Grant::Own(rights) = &user.grant else { panic!("rights of its own") };
    assert_eq!(rights.publish.allow, ["a.>", "b"]);
    assert_eq!(rights.subscribe.deny, ["c"]);
    assert_eq!(rights.response.as_ref().map(|r| (r.max, r.ttl)), Some((3, 2_000_000_000)));
    assert_eq!(rights.src, ["10.0.0.0/8"]);
    // Nothing is said of the seed anywhere.
    let said = made.to_string() + &tool.ok(&["show", "alice"]) + &tool.trail();
    assert!(!said.contains(parsed.key.seed().expose()));
    assert_eq!(made["published"], Value::Bool(false));
}

/// The end is counted from the clock; the time of issue may be a little later: tokens of one user are a second apart.
fn lives(claims: &Claims, seconds: i64) {
    let life = claims.expires - claims.issued_at;
    assert!((seconds - 60..=seconds).contains(&life), "{life} s");
}

#[test]
fn roles_give_their_permissions_and_no_others() {
    let tool = Tool::founded();
    tool.ok(&["key", "generate", "--owner", "APP", "--role", "svc", "--allow-pub", "svc.{{name()}}.>"]);
    tool.ok(&["user", "create", "one", "-a", "APP", "--role", "svc"]);
    let path = tool.data().join("creds/APP/one.creds");
    let parsed = creds::parse(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(parsed.token.claims().body.as_user().unwrap().grant, Grant::Scoped);
    assert_eq!(text(&tool.json(&["show", "one"]), "/role"), "svc");
    let both = tool.run(&["user", "create", "two", "-a", "APP", "--role", "svc", "--allow-pub", "x"]);
    assert_eq!(both.status, 2);
    let scoped = tool.run(&["user", "permissions", "one", "-a", "APP", "--allow-pub", "x"]);
    assert_eq!(scoped.status, 5, "{}", scoped.stderr);
    assert!(scoped.stderr.contains("svc"), "{}", scoped.stderr);
    let none = tool.run(&["user", "create", "two", "-a", "APP", "--role", "cook"]);
    assert_eq!(none.status, 4);
    assert!(none.stderr.contains("svc"), "its roles are named: {}", none.stderr);
}

#[test]
fn a_key_made_elsewhere_gives_a_token_and_no_creds() {
    let tool = Tool::founded();
    let key = text(&tool.json(&["key", "generate", "user", "--plain", "--out", "mine.nk"]), "/public_key");
    let made = tool.json(&["user", "create", "ext", "-a", "APP", "--key", &key]);
    assert_eq!(text(&made, "/user/public_key"), key);
    assert!(text(&made, "/jwt").starts_with("eyJ"));
    assert!(made.get("creds").is_none());
    assert_eq!(
        tool.ok(&["user", "create", "ext2", "-a", "SYS", "--key", &key]).matches('.').count(),
        2,
        "stdout is the token"
    );
    let error = tool.run(&["user", "creds", "ext", "-a", "APP", "--out", "x.creds"]);
    assert_eq!(error.status, 6);
    assert!(!tool.path("x.creds").exists());
}

#[test]
fn kept_seeds_give_creds_again() {
    let tool = Tool::founded();
    let made = tool.json(&["user", "create", "bob", "-a", "APP", "--keep"]);
    assert!(made.get("creds").is_none());
    tool.ok(&["user", "permissions", "bob", "-a", "APP", "--allow-sub", "only.this"]);
    tool.ok(&["user", "creds", "bob", "-a", "APP", "--out", "bob.creds", "--expiry", "12h"]);
    let parsed = creds::parse(&fs::read_to_string(tool.path("bob.creds")).unwrap()).unwrap();
    let rights = parsed.token.claims().body.as_user().unwrap().grant.rights().unwrap().clone();
    assert_eq!(rights.subscribe.allow, ["only.this"]);
    lives(parsed.token.claims(), 12 * 3600);
    let types: Vec<String> =
        tool.json(&["log"])["events"].as_array().unwrap().iter().map(|e| text(e, "/event_type")).collect();
    assert_eq!(
        types[types.len() - 3..],
        ["keys.user.created", "keys.user.updated", "keys.credentials.issued"]
    );
}

#[test]
fn what_changes_an_account_says_that_it_is_not_enforced() {
    let tool = Tool::founded();
    let create = tool.run(&["account", "create", "B"]);
    assert!(create.stderr.contains("NOT ENFORCED: push pending"), "{}", create.stderr);
    tool.ok(&["user", "create", "alice", "-a", "APP"]);
    let revoke = tool.run(&["user", "revoke", "alice", "-a", "APP"]);
    assert!(revoke.stderr.contains("NOT ENFORCED: push pending (account APP)"), "{}", revoke.stderr);
    assert!(revoke.stderr.contains("not published yet"));
    let permissions = tool.ok(&["user", "create", "carol", "-a", "APP", "--expiry", "2d"]);
    assert!(!permissions.contains("NOT ENFORCED"));
    let set = tool.run(&["user", "permissions", "carol", "-a", "APP", "--allow-pub", "x"]);
    assert!(set.stderr.contains("keep their old rights"), "{}", set.stderr);
    for words in [&["list"][..], &["show", "APP"], &["status"]] {
        let stdout = tool.ok(words);
        assert!(stdout.contains("NOT ENFORCED: push pending, pending"), "{words:?}: {stdout}");
    }
    let json = tool.json(&["list", "users", "--account", "APP"]);
    let alice = json["users"].as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap();
    assert!(alice["revoked_at"].is_i64() && alice["confirmed"] == Value::Bool(false));
    let status = tool.json(&["status"]);
    assert_eq!((&status["pending"], &status["held"]), (&Value::from(7), &Value::from(0)));
    let app = status["accounts_state"].as_array().unwrap().iter().find(|a| a["name"] == "APP").unwrap();
    assert!(app["revocation_waits_since"].is_i64() && app["enforced"] == Value::Bool(false));
}

#[test]
fn roles_of_the_pipeline_get_creds_and_a_context() {
    let tool = Tool::founded();
    for (role, prefix, hours) in [
        ("host", Some("CIMKEYS.API"), 365 * 24),
        ("auditor", Some("CIMKEYS.API"), 90 * 24),
        ("browser", Some("CIMKEYS.API"), 12),
        ("steward", Some("$JS.API"), 1),
        ("resolver", None, 1),
    ] {
        let made = tool.json(&["access", "renew", "--role", role, "--server", "nats://127.0.0.1:1"]);
        let parsed = creds::parse(&fs::read_to_string(text(&made, "/creds")).unwrap()).unwrap();
        let claims = parsed.token.claims();
        lives(claims, hours * 3600);
        let path = text(&made, "/context");
        assert_eq!(mode(path.as_ref()), 0o600);
        let context: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(text(&context, "/inbox_prefix"), format!("_INBOX_{}", claims.subject));
        assert_eq!(context.get("jetstream_api_prefix").and_then(Value::as_str), prefix, "{role}");
        assert_eq!(
            (text(&context, "/creds"), text(&context, "/url")),
            (text(&made, "/creds"), "nats://127.0.0.1:1".into())
        );
    }
    // Each renewal has a name of its own.
    tool.ok(&["access", "renew", "--role", "host", "--expiry", "1h", "--out", "h.creds"]);
    assert!(tool.path("h.json").is_file());
    // What is said about natscli works as it stands, also where its folder is elsewhere and not made yet.
    for (name, variable) in [("h2", None), ("h3", Some(tool.path("my config")))] {
        let mut renew =
            tool.command(&["access", "renew", "--role", "host", "--out", &format!("{name}.creds")]);
        if let Some(folder) = &variable {
            renew.env("XDG_CONFIG_HOME", folder);
            renew.env("CIM_KEYS_IDENTITY", tool.path(".config/cim-keys/identity.age"));
        }
        let said = String::from_utf8(renew.output().unwrap().stderr).unwrap();
        let line = said.lines().find_map(|line| line.strip_prefix("by name, for natscli too: ")).unwrap();
        let (install, natscli) = line.rsplit_once(" && ").unwrap();
        assert_eq!(natscli, format!("nats --context {name} …"));
        let shell = std::process::Command::new("sh").args(["-c", install]).current_dir(tool.home()).status();
        assert!(shell.unwrap().success(), "{line}");
        let folder = variable.unwrap_or_else(|| tool.path(".config")).join("nats/context");
        assert!(folder.join(format!("{name}.json")).is_file(), "{line}");
    }
}

#[test]
fn the_id_of_a_command_is_shown_and_what_is_pending_is_not_taken_back() {
    let tool = Tool::founded();
    let id = text(&tool.json(&["user", "create", "bob", "-a", "APP", "--keep"]), "/command_id");
    let events = tool.json(&["log"])["events"].as_array().unwrap().clone();
    assert_eq!(text(events.last().unwrap(), "/command_id"), id);
    assert!(tool.ok(&["log"]).lines().last().unwrap().contains(&id));
    let lines = tool.ok(&["log", "--output", "jsonl"]);
    assert!(lines.lines().last().unwrap().contains(&format!("\"command_id\":\"{id}\"")), "{lines}");
    let drop = tool.run(&["held", "drop", &id]);
    assert_eq!(drop.status, 4, "{}", drop.stderr);
    assert!(drop.stderr.contains("what is pending is not taken back"), "{}", drop.stderr);
    let word = tool.run(&["held", "show", "bob"]);
    assert_eq!(word.status, 2, "{}", word.stderr);
    assert!(word.stderr.contains("cim-keys held list"), "{}", word.stderr);
}

#[test]
fn a_dry_run_changes_nothing() {
    let tool = Tool::new();
    let dry = tool.run(&["init", "--dry-run"]);
    assert_eq!(dry.status, 0, "{}", dry.stderr);
    assert!(dry.stderr.contains("nothing was written"));
    assert_eq!(fs::read_dir(tool.home()).unwrap().count(), 0);
    let tool = Tool::founded();
    tool.ok(&["user", "create", "alice", "-a", "APP", "--keep"]);
    let before = (tool.trail(), tree(&tool));
    for words in [
        &["account", "create", "B"][..],
        &["user", "create", "bob", "-a", "APP"],
        &["user", "permissions", "alice", "-a", "APP", "--allow-pub", "x"],
        &["user", "revoke", "alice", "-a", "APP"],
        &["user", "creds", "alice", "-a", "APP", "--out", "x"],
        &["key", "generate", "--owner", "APP"],
        &["access", "renew", "--role", "host"],
    ] {
        let ran = tool.run(&[words, &["--dry-run"]].concat());
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("nothing was written"), "{words:?}: {}", ran.stderr);
    }
    assert_eq!((tool.trail(), tree(&tool)), before);
}

/// Every file below the home folder.
fn tree(tool: &Tool) -> Vec<String> {
    let mut folders = vec![tool.home().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.display().to_string());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn registries_have_names_and_folders_of_their_own() {
    let tool = Tool::new();
    tool.ok(&["init", "--registry", "one"]);
    tool.ok(&["init", "--data", "two", "--identity", "id.age", "--name", "TWO"]);
    assert!(tool.path("two/store.db").is_file() && tool.path("id.age").is_file());
    let ran = tool.run(&["account", "create", "X", "--data", "two", "--identity", "id.age"]);
    assert!(ran.stderr.contains("cim-keys --data two --identity id.age sync"), "{}", ran.stderr);
    let accounts = |words: &[&str]| tool.json(words)["accounts"].as_array().unwrap().len();
    assert_eq!((accounts(&["list", "--registry", "one"]), accounts(&["list", "--data", "two"])), (3, 4));
    let one = tool.json(&["status", "--registry", "one"]);
    let two = tool.json(&["status", "--data", "two"]);
    assert_ne!(text(&one, "/operator"), text(&two, "/operator"));
    // Looking needs no identity, signing names it.
    fs::remove_file(tool.path("id.age")).unwrap();
    tool.ok(&["list", "--data", "two"]);
    let ran = tool.run(&["account", "create", "Y", "--data", "two", "--identity", "id.age"]);
    assert_eq!(ran.status, 6);
    assert!(ran.stderr.contains("id.age") && ran.stderr.contains("--identity"), "{}", ran.stderr);
    assert!(!tool.path("id.age").exists(), "a lost identity is never made anew");
}

#[test]
fn several_processes_write_at_once() {
    let tool = Tool::founded();
    let names: Vec<String> = (0..8).map(|number| format!("u{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            tool.command(&["user", "create", name, "-a", "APP"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    let users = tool.json(&["list", "users", "-a", "APP"]);
    let listed: Vec<String> =
        users["users"].as_array().unwrap().iter().map(|user| text(user, "/name")).collect();
    assert_eq!(listed, names);
}

/// Rows of a list as JSON has them, and as lines have them.
fn both(tool: &Tool, words: &[&str], rows: &str) -> (Vec<Value>, Vec<Value>) {
    let whole = tool.json(words)[rows].as_array().unwrap().clone();
    let said = tool.ok(&[words, &["--output", "jsonl"]].concat());
    assert!(said.is_empty() || said.ends_with('\n'), "{said}");
    (whole, said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn lists_as_lines_are_one_object_a_row() {
    let tool = Tool::founded();
    for name in ["alice", "bob"] {
        tool.ok(&["user", "create", name, "-a", "APP"]);
    }
    let lists: [(&[&str], &str, bool); 7] = [
        (&["list"], "accounts", true),
        (&["list", "operators"], "operators", true),
        (&["list", "users", "-a", "APP"], "users", true),
        (&["list", "keys"], "keys", true),
        (&["key", "list"], "keys", true),
        (&["log"], "events", true),
        (&["held", "list"], "held", false),
    ];
    for (words, rows, some) in lists {
        let (whole, lines) = both(&tool, words, rows);
        assert_eq!(whole, lines, "{words:?}");
        assert_eq!(whole.is_empty(), !some, "{words:?}");
    }
    let (some, lines) = both(&tool, &["log", "-n", "3", "--payload"], "events");
    assert_eq!((some.len(), &some), (3, &lines));
    assert!(lines.iter().all(|line| line["payload"]["data"].is_object()), "{lines:?}");
    // Whoever reads may have had enough.
    let mut command = tool.command(&["log", "--output", "jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
