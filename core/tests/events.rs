//! Equal inputs give equal bytes: every command, its events, tokens and creds, against a file of our own. The same test
//! runs natively and on `wasm32-wasip1`. `UPDATE_VECTORS=1` writes the file anew, for a person to look at the difference.

mod lab;

use cim_keys_core::command::{Command, Role};
use cim_keys_core::creds;
use cim_keys_core::jwt::{PermissionList, Token, UserRights};
use cim_keys_core::nkey::Kind;
use lab::*;
use std::fmt::Write as _;

const FILE: &str = include_str!("data/events.txt");

fn story() -> Lab {
    let mut lab = Lab::founded();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let app = lab.account("APP");
    let alice = lab.user(app, "alice <&> \u{2028} é").unwrap();
    let publish = PermissionList { allow: vec!["orders.>".into()], ..Default::default() };
    let rights = UserRights { publish, ..Default::default() };
    lab.run(Command::SetPermissions { account: app.0, user: alice, rights: rights.clone() }, app.1).unwrap();
    lab.run(Command::GenerateCredentials { account: app.0, user: alice, expires: 4_102_444_800 }, app.1)
        .unwrap();
    let role = Role { name: "svc".into(), template: rights };
    let scoped = Command::GenerateKey {
        kind: Kind::Account,
        owner: Some(app.0),
        label: Some("ci".into()),
        role: Some(role),
    };
    let scoped = lab.run(scoped, signing).unwrap()[0];
    let user = Command::CreateUser {
        account: app.0,
        name: "ci".into(),
        rights: None,
        expires: 0,
        tags: vec!["team:blue".into()],
        credentials: false,
    };
    lab.run(user, scoped).unwrap();
    let key = Command::GenerateKey { kind: Kind::Operator, owner: Some(operator), label: None, role: None };
    lab.run(key, operator).unwrap();
    let free = Command::GenerateKey { kind: Kind::Curve, owner: None, label: Some("box".into()), role: None };
    let free = lab.run(free, signing).unwrap()[0];
    lab.run(Command::RevokeKey { key: free, owner: None }, signing).unwrap();
    lab.run(Command::RevokeKey { key: scoped, owner: Some(app.0) }, signing).unwrap();
    lab.run(Command::RevokeUser { account: app.0, user: alice }, signing).unwrap();
    lab
}

fn written() -> String {
    let lab = story();
    let mut text = String::new();
    for message in &lab.stream {
        writeln!(text, "message {} {}", message.sequence, message.subject).unwrap();
        for (name, value) in message.headers.iter() {
            writeln!(text, "{name}: {value}").unwrap();
        }
        writeln!(text, "{}", std::str::from_utf8(&message.payload).unwrap()).unwrap();
    }
    for entity in lab.registry.entities() {
        let Some(token) = entity.token().and_then(|token| token.text()) else { continue };
        writeln!(text, "token {} {token}", entity.id()).unwrap();
        let token = Token::parse(&token).unwrap();
        if let (Some(_), Some(key)) = (token.claims().body.as_user(), lab.keys.get(&entity.key())) {
            writeln!(text, "creds {}\n{}", entity.id(), creds::format(&token, key).unwrap().expose())
                .unwrap();
        }
    }
    text
}

// Only a person who asks for it lets the test write.
#[allow(clippy::disallowed_methods)]
#[test]
fn every_byte_is_the_same_everywhere() {
    let text = written();
    #[cfg(not(target_family = "wasm"))]
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events.txt"), &text).unwrap();
        return;
    }
    for (place, (found, expected)) in text.lines().zip(FILE.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", place + 1);
    }
    assert_eq!(text.len(), FILE.len());
}
