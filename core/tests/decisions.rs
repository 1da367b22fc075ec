//! Given / when / then for every command.

mod lab;

use cim_keys_core::command::{Command, Rejection, Role};
use cim_keys_core::jwt::{PermissionList, Token, UserRights};
use cim_keys_core::nkey::Kind;
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::rules::Violation;
use lab::*;

#[test]
fn founding_makes_everything_that_must_exist_before_publishing() {
    let lab = Lab::founded();
    let names: Vec<String> = lab.registry.entities().map(|entity| entity.name().to_string()).collect();
    for name in [
        "Test",
        "SYS",
        "KEYS",
        "KEYS_EDGE",
        "host",
        "steward",
        "auditor",
        "browser",
        "resolver",
        "service",
        "responder",
        "client",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is missing in {names:?}");
    }
    assert_eq!(lab.stream.len(), 14);
    for entity in lab.registry.entities() {
        if let Some(token) = entity.token() {
            Token::parse(&token.text().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_registry_is_founded_once() {
    let mut lab = Lab::founded();
    let command = Command::FoundRegistry { name: "Again".into() };
    let mut keys = lab.draw(&command.keys()[1..]);
    keys.insert(0, lab.founding[OPERATOR]);
    let context = lab.context(lab.founding[OPERATOR], keys);
    assert_eq!(lab.draft(&command, &context), Err(Rejection::Violation(Violation::AlreadyFounded)));
}

#[test]
fn an_account_and_its_user() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let Some(Entity::User(entity)) = lab.entity(EntityId::User { account: app.0, user }) else { panic!() };
    let claims = entity.token.claims();
    assert_eq!((claims.name.as_str(), claims.issuer, claims.subject), ("alice", app.1, user));
    assert!(entity.credentials && entity.revoked_at.is_none());
}

#[test]
fn names_are_taken_until_their_holder_is_revoked() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    assert!(matches!(lab.user(app, "alice"), Err(Rejection::Violation(Violation::NameTaken { .. }))));
    let signing = lab.founding[OPERATOR_SIGNING];
    lab.run(Command::RevokeUser { account: app.0, user }, signing).unwrap();
    lab.user(app, "alice").unwrap();
    let command = Command::CreateAccount { name: "APP".into(), limits: Default::default() };
    assert!(matches!(lab.run(command, signing), Err(Rejection::Violation(Violation::NameTaken { .. }))));
}

#[test]
fn a_revoked_user_is_in_the_account_and_gets_nothing_more() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let signing = lab.founding[OPERATOR_SIGNING];
    lab.run(Command::RevokeUser { account: app.0, user }, signing).unwrap();
    let account = lab.entity(EntityId::Account(app.0)).unwrap();
    let revocations = &account.token().unwrap().claims().body.as_account().unwrap().revocations;
    assert_eq!(revocations[&user.to_string()], lab.now / 1000);
    let again = lab.run(Command::RevokeUser { account: app.0, user }, signing);
    assert!(matches!(again, Err(Rejection::Violation(Violation::AlreadyRevoked { .. }))));
    let creds = lab.run(Command::GenerateCredentials { account: app.0, user, expires: 0 }, app.1);
    assert!(matches!(creds, Err(Rejection::Violation(Violation::AlreadyRevoked { .. }))), "{creds:?}");
    // Not even as a new user.
    let context = lab.context(app.1, vec![user]);
    let reuse = lab.draft(&create_user(app.0, "bob"), &context);
    assert!(matches!(reuse, Err(Rejection::Violation(Violation::KeyRevoked { .. }))), "{reuse:?}");
}

#[test]
fn permissions_of_a_scoped_user_are_its_roles() {
    let mut lab = Lab::founded();
    let (edge, role) = (lab.founding[EDGE], lab.founding[HOST_ROLE]);
    let create = |rights| Command::CreateUser {
        account: edge,
        name: "laptop".into(),
        rights,
        expires: 0,
        tags: Vec::new(),
        credentials: true,
    };
    let with_rights = lab.run(create(Some(UserRights::default())), role);
    assert!(matches!(with_rights, Err(Rejection::ScopedAuthority { role, .. }) if role == "host"));
    let user = lab.run(create(None), role).unwrap()[0];
    let set = Command::SetPermissions { account: edge, user, rights: UserRights::default() };
    let Err(Rejection::ScopedUser { role: found, key, .. }) = lab.run(set, role) else { panic!() };
    assert_eq!((found.as_str(), key), ("host", role));
}

#[test]
fn permissions_are_set_anew_with_a_later_token() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let id = EntityId::User { account: app.0, user };
    let before = lab.entity(id).unwrap().token().unwrap().claims().issued_at;
    lab.now -= 200_000;
    let publish = PermissionList { allow: vec!["orders.>".into()], ..Default::default() };
    let rights = UserRights { publish: publish.clone(), ..Default::default() };
    lab.run(Command::SetPermissions { account: app.0, user, rights }, app.1).unwrap();
    let entity = lab.entity(id).unwrap();
    let claims = entity.token().unwrap().claims();
    assert_eq!(claims.issued_at, before + 1, "a clock that went back");
    assert_eq!(claims.body.as_user().unwrap().grant.rights().unwrap().publish, publish);
}

#[test]
fn a_token_far_ahead_of_the_clock_is_refused() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    lab.now += 10_000_000;
    let user = lab.user(app, "alice").unwrap();
    lab.now -= 10_000_000;
    let rights = UserRights::default();
    let refused = lab.run(Command::SetPermissions { account: app.0, user, rights }, app.1);
    assert!(matches!(refused, Err(Rejection::Violation(Violation::ClockAhead { .. }))), "{refused:?}");
    // A revocation never is, and covers the token.
    lab.run(Command::RevokeUser { account: app.0, user }, lab.founding[OPERATOR_SIGNING]).unwrap();
}

#[test]
fn identity_keys_cannot_be_revoked() {
    let mut lab = Lab::founded();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let app = lab.account("APP");
    let revoke = |key, owner| Command::RevokeKey { key, owner };
    assert!(matches!(lab.run(revoke(app.0, None), signing), Err(Rejection::AccountIdentity { .. })));
    assert!(matches!(lab.run(revoke(operator, None), operator), Err(Rejection::OperatorIdentity { .. })));
}

#[test]
fn revoking_a_users_key_is_revoking_the_user() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    lab.run(Command::RevokeKey { key: user, owner: Some(app.0) }, lab.founding[OPERATOR_SIGNING]).unwrap();
    assert!(lab.entity(EntityId::User { account: app.0, user }).unwrap().revoked_at().is_some());
}

#[test]
fn a_signing_key_comes_with_its_role_and_goes() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let signing = lab.founding[OPERATOR_SIGNING];
    let role = Role { name: "svc".into(), template: UserRights::default() };
    let generate = Command::GenerateKey {
        kind: Kind::Account,
        owner: Some(app.0),
        label: Some("ci".into()),
        role: Some(role),
    };
    let key = lab.run(generate, signing).unwrap()[0];
    let create = |name: &str| Command::CreateUser {
        account: app.0,
        name: name.into(),
        rights: None,
        expires: 0,
        tags: Vec::new(),
        credentials: false,
    };
    lab.run(create("one"), key).unwrap();
    lab.run(Command::RevokeKey { key, owner: Some(app.0) }, signing).unwrap();
    assert!(matches!(lab.run(create("two"), key), Err(Rejection::Violation(Violation::NotListed { .. }))));
    let again = lab.run(Command::RevokeKey { key, owner: Some(app.0) }, signing);
    assert!(matches!(again, Err(Rejection::Violation(Violation::AlreadyRevoked { .. }))));
}

#[test]
fn an_operators_signing_key_needs_its_identity() {
    let mut lab = Lab::founded();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let generate =
        || Command::GenerateKey { kind: Kind::Operator, owner: Some(operator), label: None, role: None };
    assert!(matches!(lab.run(generate(), signing), Err(Rejection::Violation(Violation::Authority { .. }))));
    let key = lab.run(generate(), operator).unwrap()[0];
    let command = Command::CreateAccount { name: "NEW".into(), limits: Default::default() };
    lab.run(command, key).unwrap();
}

#[test]
fn free_keys_of_every_kind() {
    let mut lab = Lab::founded();
    for kind in Kind::ALL {
        let generate = Command::GenerateKey { kind, owner: None, label: Some("free".into()), role: None };
        let key = lab.run(generate, lab.founding[OPERATOR_SIGNING]).unwrap()[0];
        lab.run(Command::RevokeKey { key, owner: None }, lab.founding[OPERATOR_SIGNING]).unwrap();
    }
}

#[test]
fn bad_input_is_refused_and_says_why() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let signing = lab.founding[OPERATOR_SIGNING];
    assert!(matches!(lab.user(app, ""), Err(Rejection::Violation(Violation::NoName))));
    for name in ["a/b", "line\nbreak", "\u{0}", &"x".repeat(5000)] {
        let refused = lab.user(app, name);
        assert!(matches!(refused, Err(Rejection::Claims(_))), "{name:?} gave {refused:?}");
        let command = Command::CreateAccount { name: name.into(), limits: Default::default() };
        assert!(matches!(lab.run(command, signing), Err(Rejection::Claims(_))), "{name:?}");
    }
    let bad = UserRights {
        publish: PermissionList { allow: vec!["a..b".into()], ..Default::default() },
        ..Default::default()
    };
    let user = lab.user(app, "alice").unwrap();
    let refused = lab.run(Command::SetPermissions { account: app.0, user, rights: bad }, app.1);
    assert!(matches!(refused, Err(Rejection::Claims(_))), "{refused:?}");
    let nobody = lab.draw(&[Kind::User])[0];
    let refused = lab.run(Command::RevokeUser { account: app.0, user: nobody }, signing);
    assert!(matches!(refused, Err(Rejection::Violation(Violation::Unknown { .. }))));
    // A key of the wrong kind.
    let context = lab.context(app.1, vec![app.0]);
    assert!(matches!(lab.draft(&create_user(app.0, "bob"), &context), Err(Rejection::Keys { .. })));
    let bearer = UserRights { bearer_token: true, ..Default::default() };
    let command = Command::SetPermissions { account: app.0, user, rights: bearer };
    let refused = lab.run(command, app.1);
    assert!(matches!(refused, Err(Rejection::Violation(Violation::Token { member: "bearer_token" }))));
}

#[test]
fn equal_inputs_give_equal_drafts() {
    let (mut a, mut b) = (Lab::founded(), Lab::founded());
    let (app_a, app_b) = (a.account("APP"), b.account("APP"));
    a.user(app_a, "alice").unwrap();
    b.user(app_b, "alice").unwrap();
    assert_eq!(a.stream, b.stream);
}
