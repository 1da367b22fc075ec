//! What no rule allows is refused, and a policy is taken whole or not at all.

use cim_keys_tests::serve::{APP, Service, ask, command_id, new_user, user_key};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait::until;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn nothing_is_allowed_by_itself() {
    let mut service = Service::prepared(Version::Newest);
    service.policy(&json!({ "version": 1, "rules": [] }));
    service.launch();
    let mut client = service.connect();
    let user = user_key().public_key();
    let revoke = json!({ "command_id": command_id(), "account": APP, "user": user });
    let issue =
        json!({ "command_id": command_id(), "account": APP, "user": user, "role": "worker", "ttl": 60 });
    for (operation, body) in [
        ("user.create", new_user(command_id(), "alice", user)),
        ("user.revoke", revoke.clone()),
        ("credentials.issue", issue.clone()),
        ("account.create", json!({ "command_id": command_id(), "name": "NEW" })),
        ("command.get", json!({ "command_id": command_id() })),
    ] {
        let answer = ask(&mut client, operation, &body);
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (403, Some("denied")),
            "{operation}: {answer:?}"
        );
    }
    let nobody = json!({ "command_id": command_id(), "account": "NOBODY", "user": user });
    assert_eq!(
        ask(&mut client, "user.revoke", &nobody).body["code"],
        "denied",
        "which accounts there are is not said"
    );

    // Another one is taken on SIGHUP; one with a fault leaves it in force.
    let all = service.all();
    service.policy(&all);
    service.signal(Signal::HUP);
    until("it is read again", || service.logged("the policy is read again").pop());
    assert_eq!(ask(&mut client, "user.create", &new_user(command_id(), "alice", user)).status, 200);
    let mut faulty = all.clone();
    faulty["rules"][0]["operations"] = json!(["user.create", "user.delete"]);
    service.policy(&faulty);
    service.signal(Signal::HUP);
    let said = until("its fault is told", || {
        service.logged("the policy has a fault: the one before stays in force").pop()
    });
    assert_eq!(said["code"], "policy-form", "{said}");
    assert_eq!(
        ask(&mut client, "user.create", &new_user(command_id(), "bob", user_key().public_key())).status,
        200
    );

    // Within what is allowed: roles, accounts, time.
    let refused = |client: &mut _, operation: &str, body: serde_json::Value| {
        let answer = ask(client, operation, &body);
        assert_eq!(answer.body["code"], "denied", "{body}: {answer:?}");
    };
    let with = |name: &str, value: serde_json::Value| {
        let mut body = issue.clone();
        body[name] = value;
        body["command_id"] = command_id().to_string().into();
        body
    };
    refused(&mut client, "credentials.issue", with("ttl", json!(3601)));
    refused(&mut client, "credentials.issue", with("role", json!("other")));
    for account in ["KEYS", "KEYS_EDGE", "SYS", "NOBODY"] {
        refused(&mut client, "credentials.issue", with("account", json!(account)));
    }
    let mut for_ever = new_user(command_id(), "carol", user_key().public_key());
    for_ever["expires"] = json!(0);
    refused(&mut client, "user.create", for_ever);
}

#[test]
fn a_policy_is_said_in_words_before_it_is_used() {
    let service = Service::prepared(Version::Newest);
    let mut policy = service.all();
    policy["rules"][0]["accounts"] = json!([APP, "NOBODY"]);
    service.policy(&policy);
    let file = service.file("policy.json").display().to_string();
    let said = service.program(&["serve", "--policy", &file, "--check"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.starts_with("all: user U") && said.stdout.contains("for 3600 s at most"), "{said:?}");
    assert!(said.stderr.contains("no account \"NOBODY\" yet"), "{said:?}");
    let json = service.program(&["serve", "--policy", &file, "--check", "--output", "json"]).json();
    assert_eq!(json["rules"][0]["name"], "all", "{json}");
    policy["rules"][0]["max_ttl"] = json!(-1);
    service.policy(&policy);
    let said = service.program(&["serve", "--policy", &file, "--check"]);
    assert_eq!(said.status, Some(3), "{said:?}");
    assert!(said.stderr.contains("max_ttl is a number of seconds"), "{said:?}");
}
