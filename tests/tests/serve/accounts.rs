//! New accounts, and users with permissions of their own.

use cim_keys_tests::serve::{APP, Service, ask, command_id, connect_user, user_key};
use serde_json::json;

#[test]
fn a_new_account_is_on_the_server_and_its_users_get_in() {
    let service = Service::start();
    let mut policy = service.all();
    policy["rules"][0]["max_ttl"] = json!(3600);
    let mut client = service.connect();
    let id = command_id();
    let body = json!({ "command_id": id, "name": "NEW", "limits": { "conn": 1 }, "wait_ms": 10_000 });
    let made = ask(&mut client, "account.create", &body);
    assert_eq!((made.status, made.body["state"].as_str()), (200, Some("confirmed")), "{made:?}");
    assert_eq!(made.body["in_force"], true, "{made:?}\n{}", service.log());
    let again = ask(&mut client, "account.create", &body);
    assert_eq!((&again.body["account"], &again.body["repeated"]), (&made.body["account"], &json!(true)));

    let key = user_key();
    let expires = cim_keys::ambient::Ambient::system().now().seconds() + 600;
    let body = json!({ "command_id": command_id(), "account": "NEW", "name": "alice", "user": key.public_key(),
                       "expires": expires,
                       "rights": { "publish": { "allow": ["a.>"] }, "subscribe": { "allow": ["b.>"] } } });
    let user = ask(&mut client, "user.create", &body);
    assert_eq!(user.status, 200, "{user:?}");
    let jwt = user.body["jwt"].as_str().unwrap();
    let mut alice = connect_user(&service.server, jwt, &key).expect("alice gets in");
    alice.publish("a.x", None, &[], b"").unwrap();
    alice.publish("b.x", None, &[], b"").unwrap();
    assert_eq!(alice.settle().unwrap().1.len(), 1);

    let body = json!({ "command_id": command_id(), "account": "NEW", "user": key.public_key(),
                       "rights": { "publish": { "allow": [] }, "subscribe": { "allow": ["b.>"] } } });
    let changed = ask(&mut client, "user.permissions", &body);
    assert_eq!((changed.status, changed.body["state"].as_str()), (200, Some("confirmed")), "{changed:?}");
    drop(alice);
    let jwt = changed.body["jwt"].as_str().unwrap();
    let mut alice = cim_keys_tests::wait::until("the one connection is free", || {
        connect_user(&service.server, jwt, &key).ok()
    });
    alice.publish("a.x", None, &[], b"").unwrap();
    assert_eq!(alice.settle().unwrap().1.len(), 1, "nothing may be published any more");

    // A name is taken once.
    let body = json!({ "command_id": command_id(), "name": "NEW" });
    let taken = ask(&mut client, "account.create", &body);
    assert_eq!((taken.status, taken.body["code"].as_str()), (409, Some("name-taken")), "{taken:?}");
    let scoped = user_key().public_key();
    let body = json!({ "command_id": command_id(), "account": APP, "user": scoped,
                       "rights": { "publish": { "allow": [] }, "subscribe": { "allow": [] } } });
    assert_eq!(ask(&mut client, "user.permissions", &body).status, 404);
}
