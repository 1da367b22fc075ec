//! Creds for minutes, for a key that never leaves whoever made it.

use cim_keys_core::jwt::Token;
use cim_keys_tests::serve::{
    APP, ROLE, Service, ask, ask_with, command_id, connect_user, new_user, stored, user_key,
};
use serde_json::json;

#[test]
fn they_let_in_and_are_recorded_once_on_a_stream_of_their_own() {
    let service = Service::start();
    let mut client = service.connect();
    let known = user_key();
    let made = ask(&mut client, "user.create", &new_user(command_id(), "alice", known.public_key()));
    assert_eq!(made.status, 200);
    let events = stored(&service, "KEYS_EVENTS").len();
    let (id, key) = (command_id(), user_key());
    let body =
        json!({ "command_id": id, "account": APP, "role": ROLE, "user": key.public_key(), "ttl": 120 });
    let issued = ask(&mut client, "credentials.issue", &body);
    assert_eq!(
        (issued.status, issued.body["state"].as_str()),
        (200, Some("confirmed")),
        "{issued:?}\n{}",
        service.log()
    );
    let jwt = issued.body["jwt"].as_str().unwrap().to_owned();
    let claims = Token::parse(&jwt).unwrap().claims().clone();
    assert_eq!((claims.subject, claims.expires - claims.issued_at), (key.public_key(), 120));
    assert_eq!(issued.body["expires"], claims.expires);

    // They do what the role does, and no more.
    let mut user = connect_user(&service.server, &jwt, &key).expect("they let in");
    user.subscribe("app.>").unwrap();
    user.publish("app.new", None, &[], b"inside").unwrap();
    user.publish("orders.new", None, &[], b"outside").unwrap();
    let (inside, refused) = user.settle().unwrap();
    assert_eq!((inside.len(), refused.len()), (1, 1), "{refused:?}");

    // The same request again is the same creds; another with its id is an error.
    let again = ask(&mut client, "credentials.issue", &body);
    assert_eq!((&again.body["jwt"], &again.body["repeated"]), (&json!(jwt), &json!(true)), "{again:?}");
    let mut other = body.clone();
    other["ttl"] = json!(121);
    assert_eq!(ask(&mut client, "credentials.issue", &other).body["code"], "id-taken");
    let records = stored(&service, "KEYS_ISSUED");
    assert_eq!(records.len(), 1);
    let record = records[0].json();
    assert_eq!((&record["user"], &record["jwt"]), (&json!(key.public_key()), &json!(jwt)));
    assert!(record["caller"].as_str().unwrap().starts_with(&service.client.user().unwrap().to_string()));
    assert_eq!(stored(&service, "KEYS_EVENTS").len(), events, "none of it is the registry's");

    // A key that was revoked in the account gets none; a time far away is refused.
    let revoke = json!({ "command_id": command_id(), "account": APP, "user": key.public_key() });
    assert_eq!(ask(&mut client, "user.revoke", &revoke).status, 404, "the registry does not know it");
    let old = json!({ "command_id": "01890a5d-ac96-774b-bcce-b302099a8057", "account": APP, "role": ROLE,
                      "user": key.public_key(), "ttl": 120 });
    assert_eq!(ask(&mut client, "credentials.issue", &old).body["code"], "command-id-time");
    let revoke = json!({ "command_id": command_id(), "account": APP, "user": known.public_key() });
    assert_eq!(ask(&mut client, "user.revoke", &revoke).status, 200);
    let body = json!({ "command_id": command_id(), "account": APP, "role": ROLE, "user": known.public_key(), "ttl": 120 });
    assert_eq!(ask(&mut client, "credentials.issue", &body).body["code"], "key-revoked");
}

/// The trace of a request stands in the log, and on what is recorded of it; events of the keys have their seven headers alone.
#[test]
fn a_trace_is_logged_and_carried_and_is_no_part_of_the_request() {
    let service = Service::start();
    let mut client = service.connect();
    let (id, key) = (command_id(), user_key());
    let body =
        json!({ "command_id": id, "account": APP, "role": ROLE, "user": key.public_key(), "ttl": 120 });
    let trace = |step: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{step}-01");
    let traces = [trace("00f067aa0ba902b7"), trace("00f067aa0ba902b8"), trace("0000000000000000")];
    for trace in &traces {
        let bytes = body.to_string();
        let issued = ask_with(&mut client, "credentials.issue", &[("traceparent", trace)], bytes.as_bytes());
        assert_eq!(issued.status, 200, "{issued:?}");
    }
    let alice = new_user(command_id(), "alice", user_key().public_key()).to_string();
    let made = ask_with(&mut client, "user.create", &[("traceparent", &traces[0])], alice.as_bytes());
    assert_eq!(made.status, 200, "{made:?}");
    let logged: Vec<_> = service.logged("request").iter().map(|line| line["traceparent"].clone()).collect();
    // One that is none is as if there were none.
    assert_eq!(json!(logged), json!([traces[0], traces[1], null, traces[0]]));
    let carried = |stream: &str| -> Vec<String> {
        let lines = stored(&service, stream).into_iter().flat_map(|message| message.header_lines());
        lines.filter(|(name, _)| name == "traceparent").map(|(_, value)| value).collect()
    };
    // A repeated request is the first one, whoever traces it.
    assert_eq!(carried("KEYS_ISSUED"), [traces[0].clone()]);
    assert!(carried("KEYS_EVENTS").is_empty());
}
