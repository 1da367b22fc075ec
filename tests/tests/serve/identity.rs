//! Who asks is what the server says.

use cim_keys::nats::role;
use cim_keys_tests::serve::{APP, Service, ask_with, command_id, user_key};
use cim_keys_tests::tools::Version;
use serde_json::json;

#[test]
fn a_caller_cannot_say_who_it_is() {
    for version in [Version::Newest, Version::Oldest] {
        let mut service = Service::prepared(version);
        // Only somebody else may.
        let admin = user_key().public_key();
        let mut policy = service.all();
        policy["rules"][0]["from"]["users"] = json!([admin]);
        service.policy(&policy);
        service.launch();
        let mut client = service.connect();
        let edge = role::account(&service.site.host, "KEYS_EDGE").unwrap().key;
        let forged = json!({ "acc": edge, "user": admin }).to_string();
        let body = json!({ "command_id": command_id(), "account": APP, "user": user_key().public_key() });
        let body = body.to_string();
        for (headers, codes) in [
            (vec![], &["denied"][..]),
            (vec![("Nats-Request-Info", forged.as_str())], &["denied"]),
            (
                vec![("Nats-Request-Info", &forged), ("Nats-Request-Info", &forged)],
                &["denied", "caller-twice"],
            ),
            (vec![("nats-request-info", &forged)], &["caller-twice"]),
            (vec![("NATS-REQUEST-INFO", &forged)], &["caller-twice"]),
            (vec![("X-A", "b\r\n Nats-Request-Info: x")], &["denied"]),
        ] {
            let answer = ask_with(&mut client, "user.revoke", &headers, body.as_bytes());
            assert_eq!(answer.status, 403, "{headers:?}: {answer:?}");
            let code = answer.body["code"].as_str().unwrap();
            assert!(codes.contains(&code), "{version:?} {headers:?}: {answer:?}");
        }
    }
}
