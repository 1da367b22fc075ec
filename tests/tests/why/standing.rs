//! Whether a user is let in at all: the real server's answer and the core's.

use std::fmt::Debug;

use cim_keys_core::jwt::{AccountLimits, PermissionList, Scope, SigningKey, TimeRange, UserRights};
use cim_keys_core::why::{Action, Condition, Parties, Question, Rule, why};
use cim_keys_tests::permits::{Permits, Who, subscribes};
use cim_keys_tests::tools::Version;

#[test]
fn who_is_not_let_in_and_by_which_rule() {
    let mut permits = Permits::found(16);
    let mut cases = Vec::new();
    let one = |permits: &mut Permits, name: &str| {
        let account = permits.identities.account(name);
        let who = permits.user(account, "ann", Some(UserRights::default()), &[]);
        (account, who)
    };
    let (account, who) = one(&mut permits, "REVOKED");
    let issued = permits.user_entity(who).token.claims().issued_at;
    permits.change(account.account, |body| {
        body.revocations.insert(who.1.to_string(), issued);
    });
    cases.push((who, Some("user-revoked")));
    let (account, who) = one(&mut permits, "REVOKED_BEFORE");
    let issued = permits.user_entity(who).token.claims().issued_at;
    permits.change(account.account, |body| {
        body.revocations.insert(who.1.to_string(), issued - 1);
        body.revocations.insert("*".to_owned(), issued - 1);
    });
    cases.push((who, None));
    let (account, who) = one(&mut permits, "ALL_REVOKED");
    let issued = permits.user_entity(who).token.claims().issued_at;
    permits.change(account.account, |body| {
        body.revocations.insert("*".to_owned(), issued);
    });
    cases.push((who, Some("all-revoked")));
    let (account, who) = one(&mut permits, "KEY_ENDED");
    permits.change(account.account, |body| body.signing_keys.clear());
    cases.push((who, Some("signing-key")));
    let (account, who) = one(&mut permits, "NO_CONNECTIONS");
    permits.change(account.account, |body| {
        body.limits = AccountLimits { conn: 0, ..AccountLimits::default() };
    });
    cases.push((who, Some("no-connections")));
    // A plain key of whose users the server knows a role now.
    let (account, who) = one(&mut permits, "ROLES");
    permits.change(account.account, |body| {
        let role = SigningKey::Scoped(Scope { role: "work".into(), ..Scope::default() });
        body.signing_keys.insert(account.signing, role);
    });
    cases.push((who, Some("scope")));
    let (_, who) = one(&mut permits, "GOOD");
    cases.push((who, None));

    agree(&permits, &cases, "");
}

/// Servers of both versions let in whom core does, which names this rule for whom it does not.
fn agree(permits: &Permits, cases: &[(Who, Option<&str>)], with: impl Debug) {
    for version in [Version::Newest, Version::Oldest] {
        let server = permits.serve(version);
        for (who, code) in cases {
            let answer = permits.why(*who, Action::Publish, "a", None).expect("an answer");
            let refused = permits.connect(&server, *who).is_err();
            let found = Some(answer.rule.code()).filter(|_| !answer.rule.allows());
            assert_eq!((refused, found), (code.is_some(), *code), "{version:?} {with:?} {answer:?}");
        }
    }
}

/// Who may have no subscription: the server ends the connection at once. So it does with a user of a role whose key has
/// the role no more: what is left are limits of nothing.
#[test]
fn no_subscriptions_is_no_connection() {
    let mut permits = Permits::found(19);
    let team = permits.identities.account("TEAM");
    let none = permits.user(team, "none", Some(UserRights { subs: 0, ..UserRights::default() }), &[]);
    let role = permits.role(team.account, "work", UserRights::default());
    let former = permits.user(role, "ann", None, &[]);
    permits.change(team.account, |body| {
        body.signing_keys.insert(role.signing, SigningKey::Plain);
    });
    for version in [Version::Newest, Version::Oldest] {
        let server = permits.serve(version);
        for who in [none, former] {
            // It says why before it ends it, sometimes before the first answer.
            if let Ok(mut user) = permits.connect(&server, who) {
                let mut said = Vec::new();
                while let Ok((_, errors)) = user.settle() {
                    said.extend(errors);
                }
                assert!(said.iter().all(|line| line.contains("maximum subscriptions")), "{said:?}");
            }
            assert!(server.log().contains("maximum subscriptions exceeded"));
            for action in [Action::Publish, Action::Subscribe] {
                assert_eq!(
                    permits.why(who, action, "a", None).expect("an answer").rule,
                    Rule::NoSubscriptions
                );
            }
        }
    }
}

#[test]
fn tokens_end() {
    let mut permits = Permits::found(17);
    let team = permits.identities.account("TEAM");
    // Founded an hour ago: these ended since, or have not yet.
    let ends = permits.identities.now() + 600;
    let login = permits.identities.user(team, "ended", Some(UserRights::default()), ends);
    let later = permits.identities.user(team, "later", Some(UserRights::default()), ends + 7200);
    let server = permits.serve(Version::Newest);
    assert!(login.connect(server.address()).is_err());
    assert!(later.connect(server.address()).is_ok());
    let key = |name: &str| {
        let mut entities = permits.identities.registry().entities();
        entities.find(|entity| entity.name() == name).expect("a user of this name").key()
    };
    let ended = (team.account, key("ended"));
    let (operator, account, user) =
        (permits.operator(), permits.account(team.account), permits.user_entity(ended));
    let parties = Parties { operator: &operator, account: &account, user: &user };
    let ask = |at| {
        let question = Question { action: Action::Publish, subject: "a".into(), queue: None, at };
        why(&parties, &question).expect("an answer")
    };
    assert_eq!(ask(ends).rule, Rule::UserTerm { time: ends });
    assert_eq!(ask(ends - 1).rule, Rule::NoPermissions);
    assert!(ask(ends - 1).conditions.contains(&Condition::Until { time: ends }));
    assert!(
        permits.why((team.account, key("later")), Action::Publish, "a", None).expect("an answer").allowed
    );
}

/// Accounts whose token has ended, or not begun, are closed. The operator's own token is read when the server starts, and
/// its time is nothing to a server.
#[test]
fn tokens_of_accounts_end_and_the_operators_does_not() {
    let mut permits = Permits::found(23);
    let mut cases = Vec::new();
    let now = permits.identities.now() + 3600;
    for (name, term, code) in [
        ("ENDED", (0, now - 600), Some("account-term")),
        ("TO_COME", (now + 600, 0), Some("account-term")),
        ("HOLDS", (now - 600, now + 600), None),
        ("FOR_EVER", (0, 0), None),
    ] {
        let account = permits.identities.account(name);
        let who = permits.user(account, "ann", Some(UserRights::default()), &[]);
        permits.change_claims(account.account, |claims| (claims.not_before, claims.expires) = term);
        cases.push((who, code));
    }
    for operator in [(0, 0), (0, now - 600), (now + 600, 0)] {
        permits.change_operator(|claims| (claims.not_before, claims.expires) = operator);
        agree(&permits, &cases, operator);
    }
}

#[test]
fn limits_and_conditions_are_named() {
    let mut permits = Permits::found(18);
    let team = permits.identities.account("TEAM");
    let one = permits.user(team, "one", Some(UserRights { subs: 1, ..UserRights::default() }), &[]);
    let bound = UserRights {
        allowed_connection_types: vec!["WEBSOCKET".into()],
        src: vec!["10.0.0.0/8".into()],
        times: vec![TimeRange { start: "08:00:00".into(), end: "17:00:00".into(), ..TimeRange::default() }],
        payload: 7,
        subscribe: PermissionList { allow: vec!["a".into()], ..PermissionList::default() },
        ..UserRights::default()
    };
    let bound = permits.user(team, "bound", Some(bound), &[]);
    let server = permits.serve(Version::Newest);
    let mut user = permits.connect(&server, one).expect("a user connects");
    assert!(subscribes(&mut user, "a", None).is_some());
    let answer = permits.why(one, Action::Subscribe, "a", None).expect("an answer");
    assert!(answer.allowed && answer.conditions == [Condition::Subscriptions { limit: 1 }], "{answer:?}");
    assert!(permits.connect(&server, bound).is_err(), "not by a websocket");
    let answer = permits.why(bound, Action::Publish, "a", None).expect("an answer");
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(answer.conditions.len(), 4, "{answer:?}");
    assert_eq!(answer.conditions.last(), Some(&Condition::Payload { limit: 7 }));
}
