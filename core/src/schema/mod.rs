//! JSON Schema (2020-12) of every event's payload, and an AsyncAPI document of the stream, made from the types that read
//! and write them: nothing is said twice.
//!
//! A schema says what a payload looks like. Whether it is genuine, and whether the command it belongs to was admitted, is
//! what [`admission`](crate::admission) says.

mod asyncapi;
mod text;

pub use asyncapi::asyncapi;

use crate::context::Actor;
use crate::digest::Digest;
use crate::envelope::{Members, Parsed, SCHEMA_VERSION, event_type, schema_of};
use crate::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact};
use crate::headers::SOURCE;
use crate::nkey::{Kind, PublicKey};
use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Base64url of a signature of 64 bytes.
const SIGNATURE: &str = "[A-Za-z0-9_-]{85}[AQgw]";

/// The schema of one type of event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSchema {
    /// `keys.<entity>.<operation>`.
    pub event_type: String,
    /// Version that the payload's `dataschema` names.
    pub version: u32,
    /// What happened, in a few words.
    pub summary: &'static str,
    /// The document.
    pub document: Value,
}

/// Of every event that this version writes, in the newest version of its schema.
#[must_use]
pub fn event_schemas() -> Vec<EventSchema> {
    let mut all = Vec::new();
    let mut fact = after(None);
    while let Some(found) = fact {
        all.push(of(&found));
        fact = after(Some(&found));
    }
    all
}

/// Every kind of fact in turn, each with all that it can say.
fn after(fact: Option<&Fact>) -> Option<Fact> {
    let key = PublicKey::new(Kind::Account, [0; 32]);
    Some(match fact {
        None => Fact::OperatorCreated,
        Some(Fact::OperatorCreated) => Fact::OperatorUpdated,
        Some(Fact::OperatorUpdated) => Fact::AccountCreated,
        Some(Fact::AccountCreated) => Fact::AccountUpdated,
        Some(Fact::AccountUpdated) => Fact::UserCreated { credentials: true },
        Some(Fact::UserCreated { .. }) => Fact::UserUpdated,
        Some(Fact::UserUpdated) => Fact::UserRevoked { account: key, revoked_at: 0 },
        Some(Fact::UserRevoked { .. }) => Fact::KeyGenerated { owner: Some(key), label: Some(String::new()) },
        Some(Fact::KeyGenerated { .. }) => Fact::KeyRevoked { revoked_at: 0 },
        Some(Fact::KeyRevoked { .. }) => Fact::CredentialsIssued,
        Some(Fact::CredentialsIssued) => Fact::CommandVoided { command_id: Uuid::nil() },
        Some(Fact::CommandVoided { .. }) => Fact::SchemaRaised { level: 1 },
        Some(Fact::SchemaRaised { .. }) => return None,
    })
}

fn summary(fact: &Fact) -> &'static str {
    match fact {
        Fact::OperatorCreated => "A registry was founded.",
        Fact::OperatorUpdated => "The operator's token was issued anew.",
        Fact::AccountCreated => "An account was created.",
        Fact::AccountUpdated => "The account's token was issued anew.",
        Fact::UserCreated { .. } => "A user was created.",
        Fact::UserUpdated => "The user's token was issued anew, with other permissions.",
        Fact::UserRevoked { .. } => "The user is refused from now on; the account's token says so.",
        Fact::KeyGenerated { .. } => "A signing, curve or free key became known.",
        Fact::KeyRevoked { .. } => "A key was ended.",
        Fact::CredentialsIssued => "Creds were handed out again.",
        Fact::CommandVoided { .. } => "A command that was given up is never admitted any more.",
        Fact::SchemaRaised { .. } => "The schema level of the registry was raised.",
    }
}

/// What the payload's `subject` may be.
fn about(fact: &Fact) -> Value {
    let key = |kind: Kind| json!({ "type": "string", "pattern": text::key_pattern(&[kind]) });
    match fact {
        Fact::OperatorCreated | Fact::OperatorUpdated | Fact::SchemaRaised { .. } => key(Kind::Operator),
        Fact::AccountCreated | Fact::AccountUpdated => key(Kind::Account),
        Fact::UserCreated { .. } | Fact::UserUpdated | Fact::UserRevoked { .. } | Fact::CredentialsIssued => {
            key(Kind::User)
        }
        Fact::KeyGenerated { .. } | Fact::KeyRevoked { .. } => {
            json!({ "type": "string", "pattern": text::key_pattern(&Kind::ALL) })
        }
        Fact::CommandVoided { .. } => json!({ "type": "string", "format": "uuid" }),
    }
}

fn of(fact: &Fact) -> EventSchema {
    let kind = event_type(fact);
    let version = if matches!(fact, Fact::SchemaRaised { .. }) { FOUNDING_SCHEMA } else { SCHEMA_VERSION };
    let id = schema_of(&kind, version);
    let mut document =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Parsed>().to_value();
    never_null(&mut document);
    let constants = [
        ("specversion", "1.0"),
        ("source", SOURCE),
        ("type", kind.as_str()),
        ("datacontenttype", "application/json"),
        ("dataschema", id.as_str()),
    ];
    for (member, value) in constants {
        narrow(&mut document, &format!("/properties/{member}"), json!({ "const": value }));
    }
    narrow(&mut document, "/properties/subject", about(fact));
    let operator = json!({ "type": "string", "pattern": text::key_pattern(&[Kind::Operator]) });
    replace(&mut document, "/properties/registryid", operator);
    let parts = if fact.brings_token() {
        format!("^{SIGNATURE}(\\.{SIGNATURE})?$")
    } else {
        format!("^({SIGNATURE})?$")
    };
    narrow(&mut document, "/properties/signatures", json!({ "pattern": parts }));
    facts(&mut document, fact);
    token(&mut document, fact);
    if let Some(root) = document.as_object_mut() {
        root.insert("$id".to_owned(), id.into());
        root.insert("title".to_owned(), kind.clone().into());
        root.insert("description".to_owned(), summary(fact).into());
    }
    EventSchema { event_type: kind, version, summary: summary(fact), document }
}

/// Leaves those members of the facts that this type of event has; what it has in any case is required.
fn facts(document: &mut Value, fact: &Fact) {
    let (most, least) = (members(fact, true), members(&bare(fact), false));
    if let Some(all) = document.pointer_mut("/$defs/Facts").and_then(Value::as_object_mut) {
        if let Some(properties) = all.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| most.contains(name));
        }
        all.insert("required".to_owned(), least.into_iter().collect());
    }
}

/// A fact that says as little as it can.
fn bare(fact: &Fact) -> Fact {
    match fact {
        Fact::KeyGenerated { .. } => Fact::KeyGenerated { owner: None, label: None },
        other => other.clone(),
    }
}

/// Which members a fact writes. Vouched for by an account's key, a voided command says more.
fn members(fact: &Fact, by_account: bool) -> BTreeSet<String> {
    let operator = PublicKey::new(Kind::Operator, [0; 32]);
    let account = PublicKey::new(Kind::Account, [0; 32]);
    let entity = if by_account { account } else { operator };
    let Ok(time) = Timestamp::from_millis(0) else { return BTreeSet::new() };
    let Ok(actor) = "schema".parse::<Actor>() else { return BTreeSet::new() };
    let event = Event {
        schema: SCHEMA_VERSION,
        id: Uuid::nil(),
        time,
        correlation_id: Uuid::nil(),
        causation_id: Uuid::nil(),
        registry: operator,
        entity,
        command: CommandRef {
            id: Uuid::nil(),
            attempt: 1,
            hash: Digest::of(b""),
            actor,
            authority: operator,
            index: 0,
            count: 1,
        },
        fact: fact.clone(),
        token: None,
    };
    match serde_json::to_value(Members::from(&event)) {
        Ok(Value::Object(members)) => members.into_iter().map(|(name, _)| name).collect(),
        _ => BTreeSet::new(),
    }
}

/// A token is there or it is not, by the type of event.
fn token(document: &mut Value, fact: &Fact) {
    let Some(data) = document.pointer_mut("/$defs/Data").and_then(Value::as_object_mut) else { return };
    if fact.brings_token() {
        if let Some(required) = data.get_mut("required").and_then(Value::as_array_mut) {
            required.push("token".into());
        }
    } else if let Some(properties) = data.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("token");
    }
}

/// Adds to what a schema says.
fn narrow(document: &mut Value, place: &str, more: Value) {
    if let (Some(Value::Object(schema)), Value::Object(more)) = (document.pointer_mut(place), more) {
        schema.extend(more);
    }
}

/// The same, without what it said, except for the description.
fn replace(document: &mut Value, place: &str, new: Value) {
    if let Some(Value::Object(schema)) = document.pointer_mut(place) {
        schema.retain(|name, _| name == "description");
    }
    narrow(document, place, new);
}

/// What is not there is left out: nothing of ours is ever null.
fn never_null(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(never_null),
        Value::Object(members) => {
            members.values_mut().for_each(never_null);
            not_null(members);
        }
        _ => {}
    }
}

fn not_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|found| found != "null");
        if let (Some(only), 1) = (types.first().cloned(), types.len()) {
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|found| found.get("type").is_none_or(|kind| kind != "null"));
        if any.len() == 1
            && let Some(Value::Object(only)) = any.pop()
        {
            schema.remove("anyOf");
            schema.extend(only);
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}
