//! The core's stream configurations as the JSON of the JetStream API, and back: the tests' own reading of that API.

use cim_keys_core::stream::StreamConfig;
use serde_json::{Value, json};

/// The body of a STREAM.CREATE or STREAM.UPDATE, one replica.
pub fn to_json(config: &StreamConfig) -> Value {
    let mut body = json!({
        "name": config.name,
        "retention": config.retention,
        "storage": config.storage,
        "discard": config.discard,
        "max_age": config.max_age,
        "max_bytes": -1,
        "max_msg_size": config.max_msg_size,
        "max_msgs": config.max_msgs,
        "max_msgs_per_subject": config.max_msgs_per_subject,
        "max_consumers": -1,
        "num_replicas": 1,
        "allow_direct": config.allow_direct,
        "deny_delete": config.deny_delete,
        "deny_purge": config.deny_purge,
        "sealed": config.sealed,
        "allow_rollup_hdrs": config.allow_rollup,
        "no_ack": config.no_ack,
    });
    // A mirror may not have these at all.
    if !config.subjects.is_empty() {
        body["subjects"] = json!(config.subjects);
    }
    if config.duplicate_window > 0 {
        body["duplicate_window"] = json!(config.duplicate_window);
    }
    if config.allow_atomic {
        body["allow_atomic"] = json!(true);
    }
    if config.persist_async {
        body["persist_mode"] = json!("async");
    }
    if let Some((source, destination)) = &config.republish {
        body["republish"] = json!({ "src": source, "dest": destination });
    }
    if let Some(origin) = &config.mirror {
        body["mirror"] = json!({ "name": origin });
    }
    body
}

/// What a server reports as a stream's `config`. Absent members have the API's defaults.
pub fn from_json(config: &Value) -> StreamConfig {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let flag = |name: &str| config[name].as_bool().unwrap_or_default();
    let number = |name: &str| config[name].as_i64().unwrap_or_default();
    let nanoseconds = |name: &str| config[name].as_u64().unwrap_or_default();
    let republish = &config["republish"];
    let mirror = &config["mirror"];
    StreamConfig {
        name: text(&config["name"]),
        subjects: config["subjects"].as_array().into_iter().flatten().map(text).collect(),
        retention: text(&config["retention"]),
        storage: text(&config["storage"]),
        discard: text(&config["discard"]),
        max_age: nanoseconds("max_age"),
        max_msg_size: number("max_msg_size"),
        max_msgs: number("max_msgs"),
        max_msgs_per_subject: number("max_msgs_per_subject"),
        duplicate_window: nanoseconds("duplicate_window"),
        allow_direct: flag("allow_direct"),
        allow_atomic: flag("allow_atomic"),
        deny_delete: flag("deny_delete"),
        deny_purge: flag("deny_purge"),
        republish: republish.is_object().then(|| (text(&republish["src"]), text(&republish["dest"]))),
        mirror: mirror.is_object().then(|| text(&mirror["name"])),
        sealed: flag("sealed"),
        persist_async: config["persist_mode"] == "async",
        allow_rollup: flag("allow_rollup_hdrs"),
        no_ack: flag("no_ack"),
    }
}
