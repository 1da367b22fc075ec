//! What every version there will ever be must read: the event that raises the schema level, and what is stored of it.
//! `UPDATE_VECTORS=1` writes the file anew, for a person to look at the difference.

mod lab;

use cim_keys_core::bundle::{Bundle, BundledCommand};
use cim_keys_core::command::{Command, decide};
use cim_keys_core::envelope::{self, Envelope};
use cim_keys_core::event::Fact;
use cim_keys_core::journal::Progress;
use cim_keys_core::nkey::Kind;
use cim_keys_core::registry::{Entity, EntityId};
use lab::*;
use serde_json::{Value, json};

const FILE: &str = include_str!("data/schema.json");

/// Raised to a level that nobody knows yet, by the operator's signing key.
fn raised() -> (Lab, Envelope, Entity) {
    let mut lab = Lab::founded();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let before = lab.entity(EntityId::Operator(operator)).unwrap();
    let context = lab.context(signing, Vec::new());
    let forged = forge(&lab, &context, vec![(operator, Fact::SchemaRaised { level: 2 }, None)]);
    lab.append(&forged).unwrap();
    (lab, forged[0].clone(), before)
}

fn stored() -> Value {
    let (lab, event, before) = raised();
    let after = lab.entity(before.id()).unwrap();
    let read = Progress { head: lab.sequence, ..Progress::default() };
    json!({
        "event": event,
        "payload": String::from_utf8(event.payload.clone()).unwrap(),
        "operator": before,
        "operator_raised": after,
        "progress": read,
        "progress_raised": Progress { schema: 2, ..read.clone() },
    })
}

// Only a person who asks for it lets the test write.
#[allow(clippy::disallowed_methods)]
#[test]
fn its_form_never_changes() {
    let text = serde_json::to_string_pretty(&stored()).unwrap() + "\n";
    #[cfg(not(target_family = "wasm"))]
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema.json"), &text).unwrap();
        return;
    }
    assert_eq!(text, FILE);
    // What is written is read, and what was written before there was a level has the first one.
    let file: Value = serde_json::from_str(FILE).unwrap();
    let event: Envelope = serde_json::from_value(file["event"].clone()).unwrap();
    let opened = envelope::decode(event.subject.as_str(), &event.headers, &event.payload).unwrap();
    assert_eq!((&opened.event.fact, opened.event.schema), (&Fact::SchemaRaised { level: 2 }, 1));
    assert!(file["operator"]["operator"].get("schema").is_none() && file["progress"].get("schema").is_none());
    for (entity, progress, level) in [("operator", "progress", 1), ("operator_raised", "progress_raised", 2)]
    {
        let Ok(Entity::Operator(operator)) = serde_json::from_value(file[entity].clone()) else {
            panic!("an operator")
        };
        let progress: Progress = serde_json::from_value(file[progress].clone()).unwrap();
        assert_eq!((operator.schema, progress.level()), (level, level));
    }
}

#[test]
fn a_registry_that_asks_for_more_is_read_only() {
    // Given a registry whose level this version does not know, when anything is wanted of it, then it is refused.
    let (mut lab, _, _) = raised();
    let (operator, signing) = (lab.founding[OPERATOR], lab.founding[OPERATOR_SIGNING]);
    let (account, user) = (lab.founding[EDGE], lab.draw(&[Kind::User])[0]);
    for command in [
        Command::FoundRegistry { name: "Again".into() },
        Command::CreateAccount { name: "APP".into(), limits: Default::default() },
        create_user(account, "alice"),
        Command::SetPermissions { account, user, rights: Default::default() },
        Command::RevokeUser { account, user },
        Command::GenerateCredentials { account, user, expires: 0 },
        Command::GenerateKey { kind: Kind::Curve, owner: None, label: None, role: None },
        Command::RevokeKey { key: signing, owner: Some(operator) },
        Command::VoidCommand { command_id: uuid::Uuid::from_u128(7), account: None, revoke: None },
        Command::RaiseSchema { level: 3 },
    ] {
        let keys = lab.draw(&command.keys());
        let context = lab.context(operator, keys);
        let refused = decide(&lab.facts(&command, &context), &command, &context).unwrap_err();
        assert_eq!(refused.code(), "newer-schema", "{}", command.name());
        assert!(
            refused.to_string().contains("asks for schema 2, this version knows 1: upgrade"),
            "{refused}"
        );
    }
}

#[test]
fn a_bundle_of_a_newer_version_says_so() {
    let mut lab = Lab::founded();
    let command = Command::GenerateKey { kind: Kind::Curve, owner: None, label: None, role: None };
    let keys = lab.draw(&command.keys());
    let context = lab.context(lab.founding[OPERATOR_SIGNING], keys.clone());
    let decision = lab.decide(&command, &context).unwrap();
    let fact = Fact::KeyGenerated { owner: None, label: None };
    let envelopes = forge_in(2, &lab, &context, vec![(keys[0], fact, None)]);
    let bundled = BundledCommand { command, context, draft_hash: decision.draft_hash, envelopes };
    let bundle = Bundle { registry: lab.registry.id().clone(), commands: vec![bundled] };
    let refused = bundle.verify().unwrap_err();
    assert_eq!(refused.code(), "event-schema");
    assert!(refused.to_string().ends_with("is unknown: a newer cim-keys may know it"), "{refused}");
}
