//! Foreign messages change nothing, and each is named.

mod lab;

use cim_keys_core::command::Command;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::Headers;
use cim_keys_core::jwt::UserRights;
use cim_keys_core::registry::Registry;
use lab::*;

fn unchanged(lab: &mut Lab, act: impl FnOnce(&mut Lab) -> Result<(), String>) -> String {
    let before: Registry = lab.registry.clone();
    let code = act(lab).expect_err("it was admitted");
    assert_eq!(lab.registry, before, "{code}");
    // Reading goes on.
    let app = lab.account(&format!("AFTER{}", lab.sequence));
    lab.user(app, "alice").unwrap();
    code
}

fn stored(lab: &Lab, place: usize) -> (String, Headers, Vec<u8>) {
    let message = &lab.stream[place];
    (message.subject.clone(), message.headers.clone(), message.payload.clone())
}

#[test]
fn garbage_is_an_anomaly() {
    let mut lab = Lab::founded();
    for payload in
        [&b""[..], b"{}", b"garbage", b"{\"specversion\":\"1.0\"}", &[0xff; 100], &vec![b'['; 200_000]]
    {
        let subject = "cowboyai.security.keys.user.created";
        let code = unchanged(&mut lab, |lab| lab.read(subject, Headers::default(), payload.to_vec()));
        assert_eq!(code, "event-json");
    }
    let answer = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0}"#;
    unchanged(&mut lab, |lab| {
        lab.read("cowboyai.security.keys.operator.created", Headers::default(), answer.to_vec())
    });
}

#[test]
fn an_old_event_again_is_an_anomaly_under_any_subject() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    lab.user(app, "alice").unwrap();
    let (subject, headers, payload) = stored(&lab, lab.stream.len() - 1);
    let code = unchanged(&mut lab, |lab| lab.read(&subject, headers.clone(), payload.clone()));
    assert_eq!(code, "command-known");
    for other in ["cowboyai.security.keys.user.revoked", "cowboyai.other.keys.user.created", "a.b"] {
        unchanged(&mut lab, |lab| lab.read(other, headers.clone(), payload.clone()));
    }
}

#[test]
fn half_a_command_is_an_anomaly_and_the_next_message_is_judged_alone() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let command = Command::RevokeUser { account: app.0, user };
    let context = lab.context(lab.founding[OPERATOR_SIGNING], Vec::new());
    let decision = lab.decide(&command, &context).unwrap();
    assert_eq!(decision.envelopes.len(), 2);
    let before = lab.registry.clone();
    lab.append(&decision.envelopes[..1]).unwrap();
    assert!(!lab.assembler.is_empty());
    assert_eq!(lab.registry, before);
    // Something else interrupts it: that is judged alone, and good.
    let context = lab.context(app.1, lab.keys.keys().next().map(|_| Vec::new()).unwrap());
    let other = Command::GenerateCredentials { account: app.0, user, expires: 0 };
    let other = lab.decide(&other, &context).unwrap();
    assert_eq!(lab.append(&other.envelopes), Err("incomplete".into()));
    assert_ne!(lab.registry, before);
    // The rest of it comes too late.
    assert_eq!(lab.append(&decision.envelopes[1..]), Err("incomplete".into()));
}

#[test]
fn half_a_command_goes_on_where_nothing_came_between() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let context = lab.context(lab.founding[OPERATOR_SIGNING], Vec::new());
    let decision = lab.decide(&Command::RevokeUser { account: app.0, user }, &context).unwrap();
    lab.append(&decision.envelopes[..1]).unwrap();
    lab.append(&decision.envelopes[1..]).unwrap();
    assert!(lab.assembler.is_empty());
}

#[test]
fn an_event_signed_by_nobody_or_by_a_foreign_key_is_an_anomaly() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
    let context = lab.context(app.1, keys);
    let command = create_user(app.0, "mallory");
    let decision = lab.decide(&command, &context).unwrap();
    let envelope = &decision.envelopes[0];
    // Another signature in the place of each.
    let text = String::from_utf8(envelope.payload.clone()).unwrap();
    let (head, signatures) = text.rsplit_once("\"signatures\":\"").unwrap();
    let parts: Vec<&str> = signatures.trim_end_matches("\"}").split('.').collect();
    let forged = lab.keys[&app.0].sign(b"something else").unwrap().to_string();
    for place in 0..parts.len() {
        let mut parts = parts.clone();
        parts[place] = &forged;
        let payload = format!("{head}\"signatures\":\"{}\"}}", parts.join("."));
        let envelope = Envelope { payload: payload.into_bytes(), ..envelope.clone() };
        assert_eq!(unchanged(&mut lab, |lab| lab.append(&[envelope])), "signature");
    }
    let payload = format!("{head}\"signatures\":\"\"}}").into_bytes();
    let envelope = Envelope { payload, ..envelope.clone() };
    assert_eq!(unchanged(&mut lab, |lab| lab.append(&[envelope])), "event-signatures");
}

#[test]
fn a_foreign_operators_founding_is_an_anomaly() {
    let mut lab = Lab::founded();
    let mut foreign = Lab::empty();
    foreign.drawn = 100;
    let operator = foreign.draw(&[cim_keys_core::nkey::Kind::Operator])[0];
    let id = cim_keys_core::context::RegistryId { operator, namespace: Default::default() };
    foreign.registry = Registry::new(id);
    let command = Command::FoundRegistry { name: "Evil".into() };
    let mut keys = foreign.draw(&command.keys()[1..]);
    keys.insert(0, operator);
    let context = foreign.context(operator, keys);
    let decision = foreign.decide(&command, &context).unwrap();
    assert_eq!(unchanged(&mut lab, |lab| lab.append(&decision.envelopes)), "foreign-registry");
}

#[test]
fn a_scoped_key_outside_its_role_is_an_anomaly() {
    let mut lab = Lab::founded();
    let (edge, role) = (lab.founding[EDGE], lab.founding[HOST_ROLE]);
    // A registry in which that key is plain decides what this one must not admit.
    let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
    let context = lab.context(role, keys);
    let mut facts = lab.facts(&create_user(edge, "x"), &context);
    let id = cim_keys_core::registry::EntityId::Account(edge);
    let Some(cim_keys_core::registry::Entity::Account(mut account)) = facts.entity(id).unwrap().cloned()
    else {
        panic!()
    };
    let mut claims = account.token.claims().clone();
    if let cim_keys_core::jwt::Body::Account(body) = &mut claims.body {
        body.signing_keys.insert(role, cim_keys_core::jwt::SigningKey::Plain);
    }
    account.token.jwt = cim_keys_core::jwt::encode(&claims).unwrap();
    facts.put_entity(id, Some(cim_keys_core::registry::Entity::Account(account)));
    let command = Command::CreateUser {
        account: edge,
        name: "x".into(),
        rights: Some(UserRights::default()),
        expires: 0,
        tags: Vec::new(),
        credentials: false,
    };
    let draft = cim_keys_core::command::decide(&facts, &command, &context).unwrap();
    let decision = lab.sign(draft);
    assert_eq!(unchanged(&mut lab, |lab| lab.append(&decision.envelopes)), "scope");
}

#[test]
fn a_key_no_longer_listed_is_no_authority() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
    let context = lab.context(app.1, keys);
    let late = lab.decide(&create_user(app.0, "late"), &context).unwrap();
    lab.run(Command::RevokeKey { key: app.1, owner: Some(app.0) }, lab.founding[OPERATOR_SIGNING]).unwrap();
    let before = lab.registry.clone();
    assert_eq!(lab.publish(&late), Err("not-listed".into()));
    assert_eq!(lab.registry, before);
}

#[test]
fn doubled_and_server_headers_are_anomalies() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    for name in ["CIM-Event-Id", "cim-event-type", "Nats-Msg-Id", "Nats-Sequence", "Nats-Subject"] {
        let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
        let context = lab.context(app.1, keys);
        let decision = lab.decide(&create_user(app.0, &format!("u{name}")), &context).unwrap();
        let mut envelope = decision.envelopes[0].clone();
        envelope.headers.push(name, "1").unwrap();
        assert_eq!(unchanged(&mut lab, |lab| lab.append(&[envelope])), "event-headers");
    }
}

#[test]
fn transport_headers_do_not_count() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
    let context = lab.context(app.1, keys);
    let decision = lab.decide(&create_user(app.0, "alice"), &context).unwrap();
    let mut envelope = decision.envelopes[0].clone();
    envelope.headers.push("Nats-Expected-Last-Sequence", "7").unwrap();
    lab.append(&[envelope]).unwrap();
}

#[test]
fn every_byte_of_a_payload_counts() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let keys = lab.draw(&[cim_keys_core::nkey::Kind::User]);
    let context = lab.context(app.1, keys);
    let decision = lab.decide(&create_user(app.0, "alice"), &context).unwrap();
    let good = &decision.envelopes[0];
    for place in (0..good.payload.len()).step_by(7) {
        let mut envelope = good.clone();
        envelope.payload[place] ^= 0x01;
        let before = lab.registry.clone();
        assert!(lab.append(&[envelope]).is_err(), "byte {place}");
        assert_eq!(lab.registry, before);
    }
    for blank in [good.payload.len() - 1, 1] {
        let mut envelope = good.clone();
        envelope.payload.insert(blank, b' ');
        assert!(lab.append(&[envelope]).is_err());
    }
    lab.append(std::slice::from_ref(good)).unwrap();
}
