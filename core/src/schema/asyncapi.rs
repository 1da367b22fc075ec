//! The stream as an AsyncAPI 3 document: a channel for each subject, its message with headers and payload.

use super::{EventSchema, event_schemas};
use crate::headers::{self, SOURCE};
use crate::subjects::Namespace;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use serde_json::{Map, Value, json};

/// Every event of a namespace: its channel, headers and payload, once as it is appended and once as the log repeats it.
#[must_use]
pub fn asyncapi(namespace: &Namespace) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    for schema in event_schemas() {
        let name = camel(&schema.event_type);
        let channel = |domain: &str, description: String| {
            let tail = schema.event_type.split_once('.').map_or("", |(_, tail)| tail);
            json!({
                "address": format!("{namespace}.{domain}.{tail}"),
                "description": description,
                "messages": { (name.as_str()): { "$ref": format!("#/components/messages/{name}") } },
            })
        };
        let log = format!("{name}Log");
        channels.insert(name.clone(), channel("keys", schema.summary.to_owned()));
        let repeated = "The same, republished by the server once it is stored, with `Nats-Stream`, `Nats-Subject` and `Nats-Sequence`.";
        channels.insert(log.clone(), channel("keys-log", repeated.to_owned()));
        for (action, channel) in [("send", &name), ("receive", &log)] {
            let channel_reference = format!("#/channels/{channel}");
            let operation = json!({
                "action": action,
                "channel": { "$ref": channel_reference.as_str() },
                "messages": [{ "$ref": format!("{channel_reference}/messages/{name}") }],
            });
            operations.insert(format!("{action}_{name}"), operation);
        }
        messages.insert(name.clone(), message(&schema, &name));
        schemas.insert(name, schema.document);
    }
    schemas.insert("headers".to_owned(), headers_schema());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "cim-keys",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "NATS identities as events. Appended to the stream KEYS_EVENTS with the sequence that its writer expects; the order of the stream is the truth.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

fn message(schema: &EventSchema, name: &str) -> Value {
    json!({
        "name": schema.event_type,
        "title": schema.event_type,
        "summary": schema.summary,
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/headers" },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": { "$ref": format!("#/components/schemas/{name}") },
        },
    })
}

/// The seven headers. Transport headers may stand beside them.
fn headers_schema() -> Value {
    let properties: Map<String, Value> = headers::ALL
        .into_iter()
        .map(|name| {
            let value = match name {
                headers::CIM_TIMESTAMP => json!({ "type": "string", "format": "date-time" }),
                headers::CIM_EVENT_TYPE => json!({ "type": "string", "pattern": "^keys\\.[a-z]+\\.[a-z]+$" }),
                headers::CIM_SOURCE => json!({ "type": "string", "const": SOURCE }),
                _ => json!({ "type": "string", "format": "uuid" }),
            };
            (name.to_string(), value)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "required": headers::ALL })
}

/// `keys.user.created` → `keysUserCreated`: what a member may be named everywhere.
fn camel(event_type: &str) -> String {
    let mut name = String::new();
    for (place, part) in event_type.split('.').enumerate() {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if place > 0 => name.extend(first.to_uppercase()),
            Some(first) => name.push(first),
            None => {}
        }
        name.extend(letters);
    }
    name
}
