//! A revocation that is asked for is in force on the server, and whoever is connected is cut off.

use cim_keys_tests::serve::{APP, Service, ask, command_id, connect_user, new_user, user_key};
use cim_keys_tests::wait::until;
use serde_json::json;
use std::time::{Duration, Instant};

/// What is promised.
const WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_connected_user_is_cut_off_within_five_seconds() {
    let service = Service::start();
    let mut client = service.connect();
    let key = user_key();
    let made = ask(&mut client, "user.create", &new_user(command_id(), "alice", key.public_key()));
    let jwt = made.body["jwt"].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned();
    let mut alice = connect_user(&service.server, &jwt, &key).expect("alice gets in");
    alice.subscribe("app.>").unwrap();
    alice.ping().unwrap();

    let began = Instant::now();
    // Nothing is waited for: that it is in force is seen on the server, and told when it is asked for.
    let id = command_id();
    let revoke = json!({ "command_id": id, "account": APP, "user": key.public_key(), "wait_ms": 0 });
    let revoked = ask(&mut client, "user.revoke", &revoke);
    assert_eq!((revoked.status, revoked.body["in_force"].as_bool()), (200, Some(false)), "{revoked:?}");
    let cut = alice.next(WITHIN).unwrap_err();
    assert!(began.elapsed() < WITHIN, "{:?}: {cut}\n{}", began.elapsed(), service.log());
    assert!(
        cut.kind() != std::io::ErrorKind::WouldBlock && cut.kind() != std::io::ErrorKind::TimedOut,
        "{cut}"
    );
    let refused = connect_user(&service.server, &jwt, &key).map(drop).expect_err("she stays out");
    assert!(refused.to_string().contains("Authorization Violation"), "{refused}");
    until("it is told that it is in force", || {
        let told = ask(&mut client, "command.get", &json!({ "command_id": id, "wait_ms": 0 }));
        (told.body["in_force"] == true).then_some(())
    });
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());

    // Asked for with patience, the answer itself says so.
    let key = user_key();
    ask(&mut client, "user.create", &new_user(command_id(), "bob", key.public_key()));
    let revoke =
        json!({ "command_id": command_id(), "account": APP, "user": key.public_key(), "wait_ms": 5000 });
    let began = Instant::now();
    let revoked = ask(&mut client, "user.revoke", &revoke);
    assert_eq!(
        (revoked.body["state"].as_str(), revoked.body["in_force"].as_bool()),
        (Some("confirmed"), Some(true))
    );
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    assert!(service.metrics().contains("cim_keys_accounts_not_in_force 0"), "{}", service.metrics());
}
