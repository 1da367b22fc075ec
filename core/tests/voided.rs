//! Commands that are given up for good: who may, what it does, and what it never does.

mod lab;

use cim_keys_core::command::{Command, HandedOut, Rejection, Role};
use cim_keys_core::context::Context;
use cim_keys_core::draft::Decision;
use cim_keys_core::event::Fact;
use cim_keys_core::jwt::UserRights;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{EntityId, Lookup};
use cim_keys_core::rules::Violation;
use lab::*;
use uuid::Uuid;

/// A command that was decided and is on no stream yet.
struct Waiting {
    command: Command,
    context: Context,
    decision: Decision,
}

fn waiting(lab: &mut Lab, command: Command, authority: PublicKey) -> Waiting {
    let keys = lab.draw(&command.keys());
    let context = lab.context(authority, keys);
    let decision = lab.decide(&command, &context).unwrap();
    Waiting { command, context, decision }
}

fn void(command_id: Uuid) -> Command {
    Command::VoidCommand { command_id, account: None, revoke: None }
}

fn void_in(account: PublicKey, command_id: Uuid) -> Command {
    Command::VoidCommand { command_id, account: Some(account), revoke: None }
}

fn revocations(lab: &Lab, account: PublicKey) -> Vec<(String, i64)> {
    let entity = lab.entity(EntityId::Account(account)).unwrap();
    let body = entity.token().unwrap().claims().body.as_account().unwrap().clone();
    body.revocations.into_iter().collect()
}

#[test]
fn a_voided_id_is_used_up_for_every_attempt() {
    // Given a command that was never published,
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let alice = waiting(&mut lab, create_user(app.0, "alice"), app.1);
    // when its id is voided by the operator's key,
    let id = alice.context.command_id;
    lab.run(void(id), signing).unwrap();
    // then it is not admitted any more, nor is a later attempt by anybody,
    assert_eq!(lab.publish(&alice.decision), Err("voided".into()));
    let again = Context { attempt: 2, ..alice.context.clone() };
    let refused = lab.draft(&alice.command, &again);
    assert_eq!(refused, Err(Rejection::Violation(Violation::Voided { id })));
    let facts = lab.registry.facts(&[Lookup::Command(id)], false);
    assert_eq!(facts.command(id), Ok(None), "it was never admitted");
    for authority in [signing, app.1, app.0] {
        assert_eq!(facts.is_void(id, authority), Ok(true));
    }
    // and the name, the key and everything else are free.
    let anew = Context { command_id: Uuid::from_u128(99), ..alice.context.clone() };
    let decision = lab.decide(&alice.command, &anew).unwrap();
    lab.publish(&decision).unwrap();
}

#[test]
fn the_event_is_about_the_command() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let id = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_abcd);
    for (command, authority, facts) in [
        (void(id), signing, "{}".to_owned()),
        (void_in(app.0, id), app.1, format!("{{\"account\":\"{}\"}}", app.0)),
    ] {
        let waiting = waiting(&mut lab, command, authority);
        let [envelope] = &waiting.decision.envelopes[..] else { panic!("one event") };
        assert_eq!(envelope.subject.as_str(), "cowboyai.security.keys.command.voided");
        let payload = String::from_utf8(envelope.payload.clone()).unwrap();
        for part in [
            format!("\"subject\":\"{id}\""),
            "\"type\":\"keys.command.voided\"".into(),
            format!("\"facts\":{facts}}}"),
        ] {
            assert!(payload.contains(&part), "{part} is not in {payload}");
        }
    }
}

#[test]
fn what_was_admitted_cannot_be_voided() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let alice = waiting(&mut lab, create_user(app.0, "alice"), app.1);
    let id = alice.context.command_id;
    // Given a voiding that was decided before the command was admitted, then it is refused behind it,
    let late = waiting(&mut lab, void(id), signing);
    lab.publish(&alice.decision).unwrap();
    let before = lab.registry.clone();
    assert_eq!(lab.publish(&late.decision), Err("already-admitted".into()));
    assert_eq!(lab.registry, before);
    // and another is not even decided,
    let refused = lab.run(void(id), signing);
    assert_eq!(refused, Err(Rejection::Violation(Violation::Admitted { id })));
    // nor one of itself.
    let mut context = lab.context(signing, Vec::new());
    context.command_id = Uuid::from_u128(5);
    let itself = lab.draft(&void(context.command_id), &context);
    assert_eq!(itself, Err(Rejection::Violation(Violation::Admitted { id: context.command_id })));
}

#[test]
fn a_scoped_key_voids_what_it_vouches_for_and_nothing_else() {
    // Given a scoped key of an account, and commands that it, another key of the account and the operator vouch for,
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let bob = lab.user(app, "bob").unwrap();
    let role = Role { name: "svc".into(), template: UserRights::default() };
    let generate =
        Command::GenerateKey { kind: Kind::Account, owner: Some(app.0), label: None, role: Some(role) };
    let scoped = lab.run(generate, signing).unwrap()[0];
    let by_role = |name: &str| Command::CreateUser {
        account: app.0,
        name: name.into(),
        rights: None,
        expires: 0,
        tags: Vec::new(),
        credentials: true,
    };
    let own = waiting(&mut lab, by_role("own"), scoped);
    let others = waiting(&mut lab, create_user(app.0, "others"), app.1);
    let revocation = waiting(&mut lab, Command::RevokeUser { account: app.0, user: bob }, signing);
    // when whoever has it voids all of them,
    for waiting in [&own, &others, &revocation] {
        lab.run(void_in(app.0, waiting.context.command_id), scoped).unwrap();
    }
    // then only its own is void: it can stop neither a revocation nor what another key vouches for.
    assert_eq!(lab.publish(&own.decision), Err("voided".into()));
    lab.publish(&others.decision).unwrap();
    lab.publish(&revocation.decision).unwrap();
    assert!(lab.entity(EntityId::User { account: app.0, user: bob }).unwrap().revoked_at().is_some());
    // What it said does not keep the operator from voiding the same id for all.
    let more = waiting(&mut lab, create_user(app.0, "more"), app.1);
    lab.run(void_in(app.0, more.context.command_id), scoped).unwrap();
    lab.run(void(more.context.command_id), signing).unwrap();
    assert_eq!(lab.publish(&more.decision), Err("voided".into()));
}

#[test]
fn nobody_voids_in_the_name_of_others() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let other = lab.account("OTHER");
    let stranger = lab.draw(&[Kind::Account])[0];
    let id = Uuid::from_u128(7);
    for (command, authority) in [
        // An account's key in the operator's name, in another account's, and one that signs for nobody.
        (void(id), app.1),
        (void_in(other.0, id), app.1),
        (void_in(app.0, id), stranger),
        (void_in(app.0, id), app.0),
        // The operator's word always counts for all.
        (void_in(app.0, id), signing),
    ] {
        let refused = lab.run(command.clone(), authority);
        let allowed = matches!(&refused, Err(Rejection::Violation(Violation::Authority { .. })));
        assert!(allowed, "{command:?} by {authority}: {refused:?}");
    }
    // A key that is not listed any more is none.
    lab.run(Command::RevokeKey { key: app.1, owner: Some(app.0) }, signing).unwrap();
    let refused = lab.run(void_in(app.0, id), app.1);
    assert!(matches!(refused, Err(Rejection::Violation(Violation::Authority { .. }))), "{refused:?}");
}

#[test]
fn a_user_whom_the_stream_never_knew_is_revoked_with_its_command() {
    // Given a user that was never published, with creds that are out and whose token is from a clock that was ahead,
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let alice = waiting(&mut lab, create_user(app.0, "alice"), app.1);
    let (id, user) = (alice.context.command_id, alice.context.keys[0]);
    let issued_at = lab.now / 1000 + 200;
    let give_up = Command::VoidCommand {
        command_id: id,
        account: None,
        revoke: Some(HandedOut { account: app.0, user, issued_at }),
    };
    // when it is given up, an account's own key cannot,
    let by_account = lab.run(give_up.clone(), app.1);
    assert!(matches!(by_account, Err(Rejection::Violation(Violation::Authority { .. }))), "{by_account:?}");
    let given_up = waiting(&mut lab, give_up, signing);
    let facts: Vec<&Fact> = given_up.decision.events.iter().map(|event| &event.fact).collect();
    assert_eq!(
        facts,
        [
            &Fact::CommandVoided { command_id: id },
            &Fact::UserRevoked { account: app.0, revoked_at: issued_at },
            &Fact::AccountUpdated
        ]
    );
    lab.publish(&given_up.decision).unwrap();
    // then the account's token revokes the key, as far as the token that is out,
    assert_eq!(revocations(&lab, app.0), [(user.to_string(), issued_at)]);
    assert_eq!(lab.entity(EntityId::User { account: app.0, user }), None, "it never was");
    // the command is void, and nothing is ever issued to the key.
    assert_eq!(lab.publish(&alice.decision), Err("voided".into()));
    let anew = lab.context(app.1, vec![user]);
    let refused = lab.draft(&alice.command, &anew);
    assert_eq!(refused, Err(Rejection::Violation(Violation::KeyRevoked { key: user })));
}

#[test]
fn what_was_handed_out_is_revoked_though_the_command_was_admitted() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let user = lab.user(app, "alice").unwrap();
    let admitted = lab.registry.commands().last().unwrap().command_id;
    let give_up = |issued_at| Command::VoidCommand {
        command_id: admitted,
        account: None,
        revoke: Some(HandedOut { account: app.0, user, issued_at }),
    };
    lab.run(give_up(1), signing).unwrap();
    let voided = lab.registry.voided().count();
    assert_eq!((voided, revocations(&lab, app.0).len()), (0, 1));
    assert!(lab.entity(EntityId::User { account: app.0, user }).unwrap().revoked_at().is_some());
    // Once is enough.
    let again = lab.run(give_up(1), signing);
    assert!(matches!(again, Err(Rejection::Violation(Violation::AlreadyRevoked { .. }))), "{again:?}");
}

#[test]
fn a_revocation_that_is_in_force_is_not_made_again() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let user = lab.draw(&[Kind::User])[0];
    let give_up = |id, issued_at| Command::VoidCommand {
        command_id: Uuid::from_u128(id),
        account: None,
        revoke: Some(HandedOut { account: app.0, user, issued_at }),
    };
    lab.run(give_up(1, 5), signing).unwrap();
    let (first, messages) = (revocations(&lab, app.0), lab.stream.len());
    lab.run(give_up(2, 5), signing).unwrap();
    assert_eq!((revocations(&lab, app.0), lab.stream.len()), (first, messages + 1), "only the id was voided");
    // A token that is younger needs a later one.
    let ahead = lab.now / 1000 + 500;
    lab.run(give_up(3, ahead), signing).unwrap();
    assert_eq!(revocations(&lab, app.0), [(user.to_string(), ahead)]);
}

#[test]
fn a_revocation_without_the_accounts_token_is_not_admitted() {
    // Given the events of a whole voiding, when the operator's tool leaves the account's token out,
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let user = lab.draw(&[Kind::User])[0];
    let give_up = Command::VoidCommand {
        command_id: Uuid::from_u128(1),
        account: None,
        revoke: Some(HandedOut { account: app.0, user, issued_at: 5 }),
    };
    let context = lab.context(signing, Vec::new());
    let draft = lab.draft(&give_up, &context).unwrap();
    let mut events = draft.events().to_vec();
    events.pop();
    events.iter_mut().for_each(|event| event.command.count = 2);
    // then it is refused, whoever signs it.
    let lookups: Vec<Lookup> = events.iter().flat_map(cim_keys_core::rules::scope_of).collect();
    let mut facts = lab.registry.facts(&lookups, false);
    let fault = cim_keys_core::rules::judge(&mut facts, &events).unwrap_err();
    let expected = Violation::Unexplained { member: "revocations" };
    assert_eq!(fault, cim_keys_core::rules::Fault::Violation(expected));
}

#[test]
fn what_is_kept_of_it_is_read_back() {
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let id = Uuid::from_u128(7);
    lab.run(void_in(app.0, id), app.1).unwrap();
    lab.run(void(id), signing).unwrap();
    let kept: Vec<_> = lab.registry.voided().cloned().collect();
    assert_eq!((kept.len(), kept[0].command_id, kept[0].first), (1, id, lab.sequence));
    assert_eq!(kept[0].voided, [app.1, lab.founding[OPERATOR]]);
    let text = serde_json::to_string(&kept[0]).unwrap();
    assert_eq!(serde_json::from_str::<cim_keys_core::registry::Recorded>(&text).unwrap(), kept[0]);
    let facts = lab.registry.facts(&[Lookup::Command(id)], false);
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<cim_keys_core::registry::Facts>(&text).unwrap(), facts);
}

#[test]
fn nobody_is_revoked_in_advance_but_with_a_command() {
    // Given the revocation of a user, decided where it is known, when it comes to a stream that does not know the user,
    let mut lab = Lab::founded();
    let (app, signing) = (lab.account("APP"), lab.founding[OPERATOR_SIGNING]);
    let before = lab.registry.clone();
    let alice = waiting(&mut lab, create_user(app.0, "alice"), app.1);
    lab.publish(&alice.decision).unwrap();
    let user = alice.context.keys[0];
    let revocation = waiting(&mut lab, Command::RevokeUser { account: app.0, user }, signing);
    lab.registry = before.clone();
    // then it is an anomaly, and what it is about may still be created.
    assert_eq!(lab.publish(&revocation.decision), Err("unknown".into()));
    assert_eq!(lab.registry, before);
    lab.publish(&alice.decision).unwrap();
    lab.publish(&revocation.decision).unwrap();
}
