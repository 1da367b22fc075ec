//! The streams as the server reports them.

use cim_keys_core::jwt::UserRights;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{
    Difference, KEYS_ARCHIVE, KEYS_EVENTS, keys_archive_stream_config, keys_events_stream_config,
};
use cim_keys_tests::identities::Identities;
use cim_keys_tests::pipeline::{Pipeline, append, ask};
use cim_keys_tests::streams;
use serde_json::{Value, json};

const NONE: [Difference; 0] = [];

#[test]
fn both_streams_have_exactly_the_settings_of_the_design() {
    let pipeline = Pipeline::start();
    let namespace = pipeline.identities.namespace();
    let mut auditor = pipeline.connect(PipelineRole::Auditor);
    for wanted in [keys_events_stream_config(namespace), keys_archive_stream_config(namespace)] {
        let info = pipeline.info(&mut auditor, &wanted.name);
        assert_eq!(wanted.differences(&streams::from_json(&info["config"])), NONE, "{info}");
    }

    // Once more, without the core's words for it.
    let day = 24 * 3600 * 1_000_000_000_u64;
    let rows = [
        (KEYS_EVENTS, "subjects", json!(["cowboyai.security.keys.>"])),
        (KEYS_EVENTS, "retention", json!("limits")),
        (KEYS_EVENTS, "storage", json!("file")),
        (KEYS_EVENTS, "max_age", json!(90 * day)),
        (KEYS_EVENTS, "duplicate_window", json!(120_000_000_000_u64)),
        (KEYS_EVENTS, "discard", json!("new")),
        (KEYS_EVENTS, "max_msg_size", json!(1_048_576)),
        (KEYS_EVENTS, "allow_direct", json!(true)),
        (KEYS_EVENTS, "allow_atomic", json!(true)),
        (KEYS_EVENTS, "deny_delete", json!(true)),
        (KEYS_EVENTS, "deny_purge", json!(true)),
        (
            KEYS_EVENTS,
            "republish",
            json!({ "src": "cowboyai.security.keys.>", "dest": "cowboyai.security.keys-log.>" }),
        ),
        (KEYS_EVENTS, "num_replicas", json!(1)),
        (KEYS_ARCHIVE, "mirror", json!({ "name": "KEYS_EVENTS" })),
        (KEYS_ARCHIVE, "subjects", Value::Null),
        (KEYS_ARCHIVE, "storage", json!("file")),
        (KEYS_ARCHIVE, "max_age", json!(0)),
        (KEYS_ARCHIVE, "deny_delete", json!(true)),
        (KEYS_ARCHIVE, "deny_purge", json!(true)),
    ];
    for (stream, setting, wanted) in rows {
        let info = pipeline.info(&mut auditor, stream);
        assert_eq!(info["config"][setting], wanted, "{stream} {setting}");
    }
}

#[test]
fn a_stream_that_exists_is_made_again_only_with_the_same_settings() {
    let pipeline = Pipeline::start();
    let mut steward = pipeline.connect(PipelineRole::Steward);
    let config = keys_events_stream_config(pipeline.identities.namespace());
    let create = "$JS.API.STREAM.CREATE.KEYS_EVENTS";
    let same = streams::to_json(&config);
    let again = ask(&mut steward, create, &[], same.to_string().as_bytes());
    assert_eq!(again["error"], Value::Null);
    for (setting, other) in [("deny_purge", json!(false)), ("max_age", json!(1_000_000_000_000_u64))] {
        let mut body = same.clone();
        body[setting] = other;
        let answer = ask(&mut steward, create, &[], body.to_string().as_bytes());
        assert_eq!(answer["error"]["err_code"], 10058, "{setting}: {answer}");
        let found = ask(&mut steward, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
        assert_eq!(config.differences(&streams::from_json(&found["config"])), NONE);
    }
}

#[test]
fn nobody_takes_the_denials_back() {
    let pipeline = Pipeline::start();
    let mut steward = pipeline.connect(PipelineRole::Steward);
    for config in [
        keys_events_stream_config(pipeline.identities.namespace()),
        keys_archive_stream_config(pipeline.identities.namespace()),
    ] {
        for setting in ["deny_delete", "deny_purge"] {
            let mut body = streams::to_json(&config);
            body[setting] = json!(false);
            let subject = format!("$JS.API.STREAM.UPDATE.{}", config.name);
            let answer = ask(&mut steward, &subject, &[], body.to_string().as_bytes());
            assert_eq!(answer["error"]["err_code"], 10052, "{setting}: {answer}");
        }
    }
}

#[test]
fn not_even_an_unrestricted_user_beside_the_streams_takes_a_message_away() {
    let mut identities = Identities::found(1);
    let keys = identities.role_keys(PipelineRole::Steward).account;
    let by = identities.plain_key(keys);
    let insider = identities.user(by, "insider", Some(UserRights::default()), 0);
    let pipeline = Pipeline::of(identities);
    let mut host = pipeline.connect(PipelineRole::Host);
    append(&mut host, pipeline.identities.envelopes(), 0);
    let before = pipeline.holdings();
    let mut insider = insider.connect(pipeline.server.address()).unwrap();
    for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
        for (request, body, code) in [
            ("PURGE", "", 10110),
            ("PURGE", r#"{"seq":3}"#, 10110),
            ("PURGE", r#"{"keep":1}"#, 10110),
            ("MSG.DELETE", r#"{"seq":1}"#, 10057),
            ("MSG.DELETE", r#"{"seq":1,"no_erase":true}"#, 10057),
        ] {
            let subject = format!("$JS.API.STREAM.{request}.{stream}");
            let answer = ask(&mut insider, &subject, &[], body.as_bytes());
            assert_eq!(answer["error"]["err_code"], code, "{subject} {body}: {answer}");
        }
    }
    assert_eq!(pipeline.holdings(), before);
}
