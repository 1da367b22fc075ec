//! Settings of the stream, each made wrong in a way that a server lets a steward do to a stream that is there.

use cim_keys_core::stream::{StreamConfig, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;

/// The same configuration with one setting made wrong, or right again.
///
/// # Errors
/// No such setting is known here.
pub fn changed(config: &StreamConfig, setting: &str, is_wrong: bool) -> Result<StreamConfig, String> {
    let right = keys_events_stream_config(&Namespace::default());
    let from = if is_wrong { wrong(right) } else { right };
    let mut config = config.clone();
    match setting {
        "max_age" => config.max_age = from.max_age,
        "max_msg_size" => config.max_msg_size = from.max_msg_size,
        "max_msgs" => config.max_msgs = from.max_msgs,
        "max_msgs_per_subject" => config.max_msgs_per_subject = from.max_msgs_per_subject,
        "duplicate_window" => config.duplicate_window = from.duplicate_window,
        "discard" => config.discard = from.discard,
        "allow_direct" => config.allow_direct = from.allow_direct,
        "allow_atomic" => config.allow_atomic = from.allow_atomic,
        "subjects" => config.subjects = from.subjects,
        other => return Err(format!("nobody knows how to change {other:?}")),
    }
    Ok(config)
}

fn wrong(right: StreamConfig) -> StreamConfig {
    let subjects = right.subjects.iter().cloned().chain(["cowboyai.security.elsewhere.>".to_owned()]);
    StreamConfig {
        subjects: subjects.collect(),
        max_age: 86_400_000_000_000,
        max_msg_size: 4096,
        max_msgs: 100_000,
        max_msgs_per_subject: 100_000,
        duplicate_window: 1_000_000_000,
        discard: "old".into(),
        allow_direct: false,
        allow_atomic: false,
        ..right
    }
}
