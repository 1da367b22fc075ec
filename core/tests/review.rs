//! Odd and forged sequences of messages, odd commands, odd answers: what a hostile reader tried.

mod lab;

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::command::{Command, Rejection, Role};
use cim_keys_core::context::Context;
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope::{self, Envelope};
use cim_keys_core::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact};
use cim_keys_core::jwt::{Body, Claims, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{EntityId, Issued};
use cim_keys_core::rules::Violation;
use lab::*;

/// Claims of the next token of an entity, and the token replaced.
fn next(lab: &Lab, id: EntityId, issuer: PublicKey) -> (Claims, Option<Issued>) {
    let old = lab.entity(id).unwrap().token().unwrap().clone();
    let issued_at = (lab.now / 1000).max(old.claims().issued_at + 1);
    (Claims { issuer, issued_at, ..old.claims().clone() }, Some(old))
}

#[track_caller]
fn refused(lab: &mut Lab, envelopes: &[Envelope], code: &str) {
    let before = lab.registry.clone();
    assert_eq!(lab.append(envelopes), Err(code.into()));
    assert_eq!(lab.registry, before);
}

#[test]
fn a_command_that_never_ends_is_not_waited_for() {
    let mut lab = Lab::founded();
    let key = lab.draw(&[Kind::User])[0];
    let context = lab.context(key, Vec::new());
    let text = |index: u32, count: u32| {
        let event = Event {
            schema: FOUNDING_SCHEMA,
            id: context.event_id(index),
            time: context.now,
            correlation_id: context.correlation_id,
            causation_id: context.causation_id,
            registry: lab.registry.id().operator,
            entity: key,
            command: CommandRef {
                id: context.command_id,
                attempt: 1,
                hash: Digest::of(b""),
                actor: context.actor.clone(),
                authority: key,
                index,
                count,
            },
            fact: Fact::KeyGenerated { owner: None, label: Some("x".repeat(900_000)) },
            token: None,
        };
        StoredMessage {
            sequence: u64::from(index) + 1,
            subject: envelope::subject_of(&event, lab.registry.id()).as_str().into(),
            headers: envelope::headers_of(&event).unwrap(),
            payload: envelope::complete(&envelope::encode_draft(&event), &[]),
            time: None,
        }
    };
    // Given a count of nothing, when its first event comes, then it is an anomaly at once.
    let mut assembler = Assembler::default();
    assert!(matches!(assembler.push(text(0, 0))[..], [Group::Anomaly(_)]) && assembler.is_empty());
    // Given events that nobody signed, when they grow beyond the limit of a command, then they are given up.
    let mut anomalies = 0;
    for index in 0..12 {
        anomalies += assembler.push(text(index, 1000)).len();
    }
    assert!(anomalies > 0 && assembler.is_empty());
}

#[test]
fn a_role_of_bearer_tokens_puts_no_secret_into_an_event() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let template = UserRights { bearer_token: true, ..UserRights::default() };
    let role = Role { name: "bearer".into(), template };
    let generate =
        Command::GenerateKey { kind: Kind::Account, owner: Some(app.0), label: None, role: Some(role) };
    let refused = lab.run(generate, lab.founding[OPERATOR_SIGNING]);
    assert_eq!(refused, Err(Violation::Token { member: "bearer_token" }.into()));
}

#[test]
fn a_revocation_covers_the_newest_token() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let signing = lab.founding[OPERATOR_SIGNING];
    for revoked_at in [0, lab.now / 1000 - 1] {
        let context = lab.context(signing, Vec::new());
        let (mut claims, old) = next(&lab, EntityId::Account(app.0), signing);
        if let Body::Account(body) = &mut claims.body {
            body.revocations.insert(user.to_string(), revoked_at);
        }
        let revoked = (user, Fact::UserRevoked { account: app.0, revoked_at }, None);
        let events = vec![revoked, (app.0, Fact::AccountUpdated, Some((claims, old)))];
        let envelopes = forge(&lab, &context, events);
        refused(&mut lab, &envelopes, "token");
    }
}

#[test]
fn no_account_token_is_issued_so_late_that_it_cannot_be_replaced() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let signing = lab.founding[OPERATOR_SIGNING];
    for issued_at in [i64::MAX, lab.now / 1000 + 1000] {
        let context = lab.context(signing, Vec::new());
        let (claims, old) = next(&lab, EntityId::Account(app.0), signing);
        let claims = Claims { issued_at, ..claims };
        let events = vec![(app.0, Fact::AccountUpdated, Some((claims, old)))];
        let envelopes = forge(&lab, &context, events);
        refused(&mut lab, &envelopes, "clock-ahead");
    }
    // A clock that was far ahead once stops nobody: the next token follows at once.
    let user = lab.user(app, "alice").unwrap();
    lab.now += 10_000_000;
    lab.run(
        Command::GenerateKey { kind: Kind::Account, owner: Some(app.0), label: None, role: None },
        signing,
    )
    .unwrap();
    lab.now -= 10_000_000;
    lab.run(Command::RevokeUser { account: app.0, user }, signing).unwrap();
}

#[test]
fn an_account_does_not_begin_to_expire_unseen() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let signing = lab.founding[OPERATOR_SIGNING];
    let changes: [fn(&mut Claims); 3] = [
        |claims| claims.expires = claims.issued_at + 1,
        |claims| claims.not_before = claims.issued_at + 1_000_000,
        |claims| claims.audience = "somebody".into(),
    ];
    for change in changes {
        let context = lab.context(signing, Vec::new());
        let (mut claims, old) = next(&lab, EntityId::Account(app.0), signing);
        change(&mut claims);
        let envelopes = forge(&lab, &context, vec![(app.0, Fact::AccountUpdated, Some((claims, old)))]);
        refused(&mut lab, &envelopes, "unexplained");
    }
}

#[test]
fn nothing_is_issued_to_a_key_that_was_a_free_key_and_ended() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let signing = lab.founding[OPERATOR_SIGNING];
    let free = Command::GenerateKey { kind: Kind::User, owner: None, label: None, role: None };
    let key = lab.run(free, signing).unwrap()[0];
    let context = lab.context(app.1, vec![key]);
    let decision = lab.decide(&create_user(app.0, "alice"), &context).unwrap();
    lab.publish(&decision).unwrap();
    lab.run(Command::RevokeKey { key, owner: None }, signing).unwrap();
    let set = Command::SetPermissions { account: app.0, user: key, rights: UserRights::default() };
    let creds = Command::GenerateCredentials { account: app.0, user: key, expires: 0 };
    for command in [set, creds] {
        assert_eq!(lab.run(command, app.1), Err(Violation::KeyRevoked { key }.into()));
    }
    lab.run(Command::RevokeUser { account: app.0, user: key }, signing).unwrap();
}

#[test]
fn a_stranger_is_refused_before_its_token_is_judged() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let stranger = lab.draw(&[Kind::Account])[0];
    let context = lab.context(stranger, Vec::new());
    // Its claims would cost much, and are not valid: that is not what is said.
    let (mut claims, old) = next(&lab, EntityId::Account(app.0), stranger);
    claims.name = "x".repeat(1000);
    let envelopes = forge(&lab, &context, vec![(app.0, Fact::AccountUpdated, Some((claims, old)))]);
    refused(&mut lab, &envelopes, "authority");
}

#[test]
fn every_command_has_its_facts_whatever_it_names() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let mut keys = vec![operator, signing, app.0, app.1, user, lab.founding[EDGE], lab.founding[HOST_ROLE]];
    keys.extend(lab.draw(&Kind::ALL));
    let owners: Vec<Option<PublicKey>> = keys.iter().copied().map(Some).chain([None]).collect();
    let role = || Some(Role { name: "r".into(), template: UserRights::default() });
    for authority in [operator, signing, app.1, user, keys[keys.len() - 1]] {
        let mut tries: Vec<(Command, Vec<PublicKey>)> = Vec::new();
        for &key in &keys {
            for &other in &keys {
                let rights = UserRights::default();
                tries.push((create_user(key, "x"), vec![other]));
                tries.push((Command::SetPermissions { account: key, user: other, rights }, vec![]));
                tries.push((Command::RevokeUser { account: key, user: other }, vec![]));
                tries.push((Command::GenerateCredentials { account: key, user: other, expires: 0 }, vec![]));
                let account = Command::CreateAccount { name: "y".into(), limits: Default::default() };
                tries.push((account, vec![key, other]));
            }
            for &owner in &owners {
                tries.push((Command::RevokeKey { key, owner }, vec![]));
                for role in [None, role()] {
                    let kind = key.kind();
                    tries.push((Command::GenerateKey { kind, owner, label: None, role }, vec![key]));
                }
            }
        }
        for (command, keys) in tries {
            let context = lab.context(authority, keys);
            match lab.draft(&command, &context) {
                Err(Rejection::Missing(missing)) => panic!("{command:?} {context:?}: {missing}"),
                Err(_) => {}
                // What is decided is admitted.
                Ok(draft) => {
                    let mut copy = Lab::empty();
                    copy.registry = lab.registry.clone();
                    let decision = lab.sign(draft);
                    assert_eq!(copy.publish(&decision), Ok(()), "{command:?}");
                }
            }
        }
    }
}

#[test]
fn a_revocation_that_another_attempt_brought_is_in_force() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let signing = lab.founding[OPERATOR_SIGNING];
    let command = Command::RevokeUser { account: app.0, user };
    // Given two copies of one journal with one revocation, when the other copy has brought it onto the stream,
    let mut context = lab.context(signing, Vec::new());
    let decision = lab.decide(&command, &context).unwrap();
    lab.publish(&decision).unwrap();
    // then a later attempt here says that it is done, not that the id is used up.
    context = Context { attempt: 2, ..lab.context(signing, Vec::new()) };
    context.command_id = decision.command_id;
    let refused = lab.draft(&command, &context);
    assert!(matches!(refused, Err(Rejection::Violation(Violation::AlreadyRevoked { .. }))), "{refused:?}");
}
