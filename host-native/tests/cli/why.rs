//! `why`: the verdict, the rule and where it stands.

use crate::tool::{Tool, text};
use serde_json::json;

/// The registry of the README's example, and a user with permissions of its own.
fn registry() -> Tool {
    let tool = Tool::founded();
    tool.ok(&[
        "key",
        "generate",
        "--owner",
        "APP",
        "--role",
        "worker",
        "--allow-pub",
        "orders.{{name()}}.>",
        "--deny-pub",
        "orders.*.void",
    ]);
    tool.ok(&["user", "create", "billing", "--account", "APP", "--role", "worker"]);
    let own = ["--allow-sub", "orders.>", "--deny-sub", "orders.secret"];
    tool.ok(&[&["user", "create", "ann", "--account", "APP"], &own[..]].concat());
    tool
}

#[test]
fn the_rule_and_where_it_stands() {
    let tool = registry();
    let said = tool.ok(&["why", "orders.billing.created", "--user", "billing", "--publish"]);
    let first = said.lines().next().unwrap();
    assert_eq!(
        first,
        "ALLOWED    billing of APP may publish to orders.billing.created: allow \"orders.billing.>\" in the role worker of the account APP"
    );
    let denied = tool.run(&["why", "orders.billing.void", "-u", "billing", "-a", "APP", "--publish"]);
    assert_eq!((denied.status, denied.stderr.as_str()), (10, ""));
    assert!(denied.stdout.starts_with("DENIED     billing of APP may not publish to orders.billing.void: deny \"orders.*.void\" in the role worker"), "{}", denied.stdout);
    let denied = tool.run(&["--output", "json", "why", "orders.ann.x", "-u", "billing", "--publish"]);
    assert_eq!((denied.status, denied.stderr.as_str()), (10, ""));
    let said: serde_json::Value = serde_json::from_str(&denied.stdout).unwrap();
    assert_eq!((&said["allowed"], &said["rule"]), (&json!(false), &json!({"code": "not-allowed"})));
    assert_eq!((text(&said, "/source/kind"), text(&said, "/source/role")), ("role".into(), "worker".into()));
    assert_eq!(said["confirmed"], json!(false));
    let said = tool.json(&["why", "orders.*", "--user", "ann", "--subscribe"]);
    assert_eq!(said["rule"], json!({"code": "allow", "entry": "orders.>"}));
    assert_eq!((&said["withheld"], text(&said, "/source/kind")), (&json!(["orders.secret"]), "own".into()));
    let looked = said["looked"].as_array().unwrap();
    assert_eq!(looked.last().unwrap()["check"], json!("deny"));
    // What a revoked user had counts no more.
    tool.ok(&["user", "revoke", "ann", "--account", "APP"]);
    let denied = tool.run(&["why", "orders.*", "--user", "ann", "--subscribe"]);
    assert_eq!(denied.status, 10);
    assert!(denied.stdout.contains("the user is revoked"), "{}", denied.stdout);
}

#[test]
fn who_may() {
    let tool = registry();
    let who = tool.json(&["why", "orders.billing.created", "--who", "--publish"]);
    let names: Vec<String> =
        who["users"].as_array().unwrap().iter().map(|user| text(user, "/user")).collect();
    // Who has a list of subscriptions alone publishes what it likes.
    assert_eq!((names, &who["asked"]), (vec!["ann".to_owned(), "billing".to_owned()], &json!(2)));
    let said = tool.ok(&["why", "orders.x", "--who", "--subscribe", "--queue", "q", "--account", "APP"]);
    assert!(said.ends_with("2 of 2 users may subscribe to orders.x\n"), "{said}");
    let rows = tool.ok(&["--output", "jsonl", "why", "orders.billing.x", "--who", "--publish"]);
    assert_eq!(rows.lines().count(), 2, "{rows}");
    assert!(
        tool.json(&["why", "orders.secret", "--who", "--subscribe"])["users"].as_array().unwrap().len() == 1
    );
}

#[test]
fn an_import_is_named() {
    let tool = registry();
    tool.ok(&["access", "renew", "--role", "host"]);
    let users = tool.json(&["list", "users", "--account", "KEYS_EDGE"]);
    let host = text(&users, "/users/0/public_key");
    let subject = "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS";
    let said = tool.json(&["why", subject, "--user", &host, "--publish"]);
    assert_eq!(said["allowed"], json!(true));
    assert_eq!(
        (text(&said, "/imports/0/local"), text(&said, "/imports/0/subject"), text(&said, "/imports/0/kind")),
        (subject.into(), "$JS.API.STREAM.INFO.KEYS_EVENTS".into(), "service".into())
    );
    let said = tool.ok(&["why", subject, "--user", &host, "--publish"]);
    assert!(said.contains("import     CIMKEYS.API.STREAM.INFO.KEYS_EVENTS goes to the account A"), "{said}");
    let log = "cowboyai.security.keys-log.>";
    let said = tool.json(&["why", log, "--user", &host, "--subscribe"]);
    assert_eq!(
        (text(&said, "/imports/0/local"), text(&said, "/imports/0/kind")),
        (log.into(), "stream".into())
    );
}

#[test]
fn what_was_not_published_is_not_verified_and_is_no_fault() {
    let tool = registry();
    let said = tool.json(&["verify"]);
    assert_eq!((&said["messages"], &said["new"], &said["compared"]), (&json!(0), &json!(0), &json!(true)));
    let said = tool.ok(&["verify"]);
    assert!(said.ends_with("nothing is wrong\n"), "{said}");
}

#[test]
fn tokens_end_in_time() {
    let tool = registry();
    tool.ok(&["user", "create", "late", "--account", "APP", "--expiry", "1d"]);
    let said = tool.ok(&["why", "a", "--user", "late", "--publish"]);
    assert!(said.contains("only       until "), "{said}");
    let denied = tool.run(&["why", "a", "--user", "late", "--publish", "--when", "2d"]);
    assert_eq!(denied.status, 10);
    assert!(denied.stdout.contains("the user's token does not hold"), "{}", denied.stdout);
}

#[test]
fn questions_without_an_answer() {
    let tool = registry();
    for (words, status, needle) in [
        (&["why", "a.*", "--user", "ann", "--publish"][..], 3, "no wildcards"),
        (&["why", "a..b", "--user", "ann", "--publish"], 3, "not a subject"),
        (&["why", "a", "--user", "ann"], 2, "--publish"),
        (&["why", "a", "--publish"], 2, "--user"),
        (&["why", "a", "--user", "bob", "--publish"], 4, "there is no user"),
        (&["why", "a", "--user", "ann", "--account", "APPP", "--publish"], 4, "no account"),
        (&["why", "a", "--user", "ann", "--publish", "--queue", "q"], 2, "--queue"),
        (&["why", "a", "--user", "ann", "--publish", "--when", "0"], 2, "--when"),
    ] {
        let ran = tool.run(words);
        assert_eq!(ran.status, status, "{words:?} {}", ran.stderr);
        assert!(ran.stderr.contains(needle), "{words:?} {}", ran.stderr);
    }
    tool.ok(&["account", "create", "OTHER"]);
    tool.ok(&["user", "create", "ann", "--account", "OTHER"]);
    let ran = tool.run(&["why", "a", "--user", "ann", "--publish"]);
    assert_eq!(ran.status, 5);
    assert!(ran.stderr.contains("--account"), "{}", ran.stderr);
}
