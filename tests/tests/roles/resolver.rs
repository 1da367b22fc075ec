//! The resolver, at the edge of the system account as the hosts are at that of the streams: account JWTs go to the server and come back, and nothing else of `$SYS` moves.

use std::collections::BTreeSet;

use cim_keys_core::command::Command;
use cim_keys_core::jwt::UserRights;
use cim_keys_core::registry::EntityId;
use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::identities::Identities;
use cim_keys_tests::pipeline::{Pipeline, ask};
use cim_keys_tests::wait::PATIENCE;
use cim_keys_tests::wire::Client;
use serde_json::json;

#[test]
fn it_pushes_lists_looks_up_and_counts_servers() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let alice = identities.user(app, "alice", Some(UserRights::default()), 0);
    let mut pipeline = Pipeline::of(identities);
    let mut resolver = pipeline.connect(PipelineRole::Resolver);
    let mut connected = alice.connect(pipeline.server.address()).unwrap();

    let listed = ask(&mut resolver, "$SYS.REQ.CLAIMS.LIST", &[], b"");
    let wanted: BTreeSet<String> = [
        pipeline.identities.system().account,
        pipeline.identities.role_keys(PipelineRole::Steward).account,
        pipeline.identities.role_keys(PipelineRole::Host).account,
        app.account,
    ]
    .map(|key| key.to_string())
    .into();
    let found = listed["data"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
    assert_eq!(found.collect::<BTreeSet<_>>(), wanted, "{listed}");
    let ping = ask(&mut resolver, "$SYS.REQ.SERVER.PING", &[], b"");
    assert_eq!(ping["server"]["id"], resolver.info()["server_id"]);

    let lookup = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", app.account);
    let before = pipeline.identities.token(EntityId::Account(app.account));
    assert_eq!(resolver.request(&lookup, &[], b"").unwrap().payload, before.as_str().as_bytes());

    // A revocation counts once it is pushed.
    let revoke = Command::RevokeUser { account: app.account, user: alice.user() };
    let signing = pipeline.identities.operator_signing();
    pipeline.identities.run(&revoke, signing).unwrap();
    connected.ping().unwrap();
    let after = pipeline.identities.token(EntityId::Account(app.account));
    let pushed = ask(&mut resolver, "$SYS.REQ.CLAIMS.UPDATE", &[], after.as_str().as_bytes());
    assert_eq!((&pushed["data"]["code"], &pushed["data"]["message"]), (&json!(200), &json!("jwt updated")));
    assert_eq!(resolver.request(&lookup, &[], b"").unwrap().payload, after.as_str().as_bytes());
    assert_eq!(ended(&mut connected), "-ERR 'User Authentication Revoked'");
    let refused = alice.connect(pipeline.server.address()).unwrap_err();
    assert!(refused.to_string().contains("Authorization Violation"), "{refused}");

    // Also after a restart: the store keeps what was pushed, against what the configuration preloads.
    pipeline.server.restart();
    let refused = alice.connect(pipeline.server.address()).unwrap_err();
    assert!(refused.to_string().contains("Authorization Violation"), "{refused}");
    let mut resolver = pipeline.connect(PipelineRole::Resolver);
    assert_eq!(resolver.request(&lookup, &[], b"").unwrap().payload, after.as_str().as_bytes());
}

#[test]
fn no_answer_to_it_moves_the_system() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let pipeline = Pipeline::of(identities);
    let mut resolver = pipeline.connect(PipelineRole::Resolver);
    let server = resolver.info()["server_id"].as_str().unwrap().to_owned();
    let keys = pipeline.identities.role_keys(PipelineRole::Steward).account;
    let before = pipeline.holdings();
    let stored = |resolver: &mut Client, account: String| {
        resolver.request(&format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP"), &[], b"").unwrap().payload
    };
    let accounts = [keys.to_string(), app.account.to_string()];
    let tokens = accounts.clone().map(|account| stored(&mut resolver, account));

    let requests = [
        ("$SYS.REQ.SERVER.PING".to_owned(), Vec::new()),
        ("$SYS.REQ.CLAIMS.LIST".to_owned(), Vec::new()),
        ("$SYS.REQ.CLAIMS.UPDATE".to_owned(), tokens[1].clone()),
        ("$SYS.REQ.CLAIMS.UPDATE".to_owned(), b"no token".to_vec()),
        (format!("$SYS.REQ.ACCOUNT.{keys}.CLAIMS.LOOKUP"), Vec::new()),
        (format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", app.account), Vec::new()),
    ];
    let mut replies: Vec<String> = [
        "$SYS.REQ.CLAIMS.DELETE",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.CLAIMS.PACK",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.STREAM.DELETE.KEYS_EVENTS",
        "$JS.API.STREAM.UPDATE.KEYS_EVENTS",
        "$JS.API.META.LEADER.STEPDOWN",
        "$JS.API.SERVER.REMOVE",
        "cowboyai.security.keys.operator.created",
    ]
    .map(String::from)
    .into();
    replies.push(format!("$JS.API.ACCOUNT.PURGE.{keys}"));
    replies.push(format!("$SYS.REQ.ACCOUNT.{keys}.CLAIMS.UPDATE"));
    replies.push(format!("$SYS.ACCOUNT.{keys}.CLAIMS.UPDATE"));
    for verb in ["RELOAD", "LDM", "KICK", "SHUTDOWN"] {
        replies.push(format!("$SYS.REQ.SERVER.{server}.{verb}"));
    }
    for (subject, body) in &requests {
        for reply in &replies {
            resolver.publish(subject, Some(reply), &[], body).unwrap();
        }
        assert_eq!(resolver.settle().unwrap().1, [""; 0]);
        // The server answers each kind in order: this answer comes after those that went elsewhere.
        resolver.request(subject, &[], body).unwrap();
    }

    assert_eq!(pipeline.holdings(), before);
    assert_eq!(accounts.map(|account| stored(&mut resolver, account)), tokens);
    let log = pipeline.server.log();
    for word in ["Purge request", "Reload", "lame duck", "Deleted"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    // The connection that asked was not kicked, and new ones are welcome.
    resolver.ping().unwrap();
    pipeline.connect(PipelineRole::Host);
}

/// What the server says last before it closes the connection.
fn ended(client: &mut Client) -> String {
    client.next(PATIENCE).unwrap_err().to_string()
}
