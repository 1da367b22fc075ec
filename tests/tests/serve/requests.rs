//! What can be asked, and what comes of it.

use cim_keys_core::jwt::Token;
use cim_keys_tests::serve::{APP, Service, ask, ask_with, command_id, new_user, user_key};
use serde_json::json;

#[test]
fn a_user_is_created_shown_and_revoked() {
    let service = Service::start();
    let mut client = service.connect();
    let (id, key) = (command_id(), user_key());

    let made = ask(&mut client, "user.create", &new_user(id, "alice", key.public_key()));
    assert_eq!((made.status, made.body["state"].as_str()), (200, Some("confirmed")), "{made:?}");
    let token = Token::parse(made.body["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(token.claims().subject, key.public_key());
    assert_eq!(made.body["account"], service.app.to_string());
    assert_eq!(made.body["repeated"], false);

    // Again: the same answer. With other content: an error with a name.
    let again = ask(&mut client, "user.create", &new_user(id, "alice", key.public_key()));
    assert_eq!(
        (again.body["jwt"].clone(), again.body["repeated"].clone()),
        (made.body["jwt"].clone(), json!(true))
    );
    assert_eq!(again.body["sequence"], made.body["sequence"]);
    let other = ask(&mut client, "user.create", &new_user(id, "bob", key.public_key()));
    assert_eq!((other.status, other.body["code"].as_str()), (409, Some("id-taken")), "{other:?}");

    let shown = ask(&mut client, "command.get", &json!({ "command_id": id }));
    assert_eq!(
        (shown.body["state"].as_str(), shown.body["operation"].as_str()),
        (Some("confirmed"), Some("user.create"))
    );
    let nothing = ask(&mut client, "command.get", &json!({ "command_id": command_id() }));
    assert_eq!((nothing.status, nothing.body["code"].as_str()), (404, Some("unknown-command")));

    let revoke = json!({ "command_id": command_id(), "account": APP, "user": key.public_key() });
    let revoked = ask(&mut client, "user.revoke", &revoke);
    assert_eq!(revoked.body["state"], "confirmed", "{revoked:?}\n{}", service.log());
    assert_eq!(revoked.body["in_force"], true, "{revoked:?}\n{}", service.log());
}

#[test]
fn nonsense_gets_an_error_with_a_name() {
    let service = Service::start();
    let mut client = service.connect();
    for (operation, body, status, code) in [
        ("user.create", &b""[..], 400, "invalid-json"),
        ("user.create", b"[]", 400, "invalid-json"),
        ("user.create", b"\xff\xfe", 400, "invalid-json"),
        ("user.create", b"{}", 400, "invalid-request"),
        ("user.delete", b"{}", 404, "unknown-operation"),
        ("user", b"{}", 404, "unknown-operation"),
        ("user.create.twice", b"{}", 404, "unknown-operation"),
    ] {
        let answer = ask_with(&mut client, operation, &[], body);
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (status, Some(code)),
            "{operation}: {answer:?}"
        );
    }
    let huge = vec![b' '; 900_000];
    assert_eq!(ask_with(&mut client, "user.create", &[], &huge).status, 413);
    let deep = [b"{\"command_id\":".to_vec(), vec![b'['; 60_000]].concat();
    assert_eq!(ask_with(&mut client, "user.create", &[], &deep).status, 400);
    // And it still answers.
    let answer = ask(&mut client, "command.get", &json!({ "command_id": command_id() }));
    assert_eq!(answer.body["code"], "unknown-command");
}
