//! The streams as plain data. Hosts turn them into their client's types and what a server reports back into them.

use crate::subjects::Namespace;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Name of the stream of events.
pub const KEYS_EVENTS: &str = "KEYS_EVENTS";
/// Name of its mirror, which forgets nothing.
pub const KEYS_ARCHIVE: &str = "KEYS_ARCHIVE";
/// Name of the stream of dead letters: what was given up, why, and what a person said to it.
pub const KEYS_DEAD: &str = "KEYS_DEAD";
/// Name of the stream of creds that were issued for a short time: facts of a high rate, which nobody folds.
pub const KEYS_ISSUED: &str = "KEYS_ISSUED";
/// Oldest server that a writer needs: atomic batches with message ids inside.
pub const SERVER_FLOOR: (u32, u32, u32) = (2, 12, 1);

/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The settings of a stream that matter to us. Times in nanoseconds, sizes in bytes; 0 or -1 as JetStream writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// Stream name.
    pub name: String,
    /// Captured subjects; none for a mirror.
    pub subjects: Vec<String>,
    /// `limits`, `interest` or `workqueue`.
    pub retention: String,
    /// `file` or `memory`.
    pub storage: String,
    /// `new` or `old`.
    pub discard: String,
    /// Age limit in nanoseconds; 0 is none.
    pub max_age: u64,
    /// Largest message in bytes; -1 is unlimited.
    pub max_msg_size: i64,
    /// Limits that would forget events: messages and messages a subject. -1 is none.
    pub max_msgs: i64,
    /// See [`max_msgs`](Self::max_msgs).
    pub max_msgs_per_subject: i64,
    /// Duplicate window in nanoseconds.
    pub duplicate_window: u64,
    /// Whether batch direct get works.
    pub allow_direct: bool,
    /// Whether atomic batches work.
    pub allow_atomic: bool,
    /// Whether single messages may be deleted: true denies it.
    pub deny_delete: bool,
    /// Whether the stream may be purged: true denies it.
    pub deny_purge: bool,
    /// `source destination` of republished messages.
    pub republish: Option<(String, String)>,
    /// The stream that this one mirrors.
    pub mirror: Option<String>,
    /// Whether nothing can be appended any more.
    pub sealed: bool,
    /// Whether acknowledgements come before the write (`persist_mode: async`): never for us.
    pub persist_async: bool,
    /// Whether a message can roll up older ones.
    pub allow_rollup: bool,
    /// Whether acknowledgements are off.
    pub no_ack: bool,
}

impl StreamConfig {
    /// A stream of a service's own events, which forgets nothing: append only, duplicate window 120 s.
    #[must_use]
    pub fn durable(name: &str, subjects: Vec<String>) -> Self {
        Self {
            name: name.into(),
            subjects,
            retention: "limits".into(),
            storage: "file".into(),
            discard: "new".into(),
            max_age: 0,
            max_msg_size: 1024 * 1024,
            max_msgs: -1,
            max_msgs_per_subject: -1,
            duplicate_window: 120 * SECOND,
            allow_direct: true,
            allow_atomic: false,
            deny_delete: true,
            deny_purge: true,
            republish: None,
            mirror: None,
            sealed: false,
            persist_async: false,
            allow_rollup: false,
            no_ack: false,
        }
    }
}

/// `KEYS_EVENTS`: 90 days, duplicate window 120 s, append only.
#[must_use]
pub fn keys_events_stream_config(namespace: &Namespace) -> StreamConfig {
    StreamConfig {
        max_age: 90 * 24 * 3600 * SECOND,
        allow_atomic: true,
        republish: Some((namespace.events(), namespace.log())),
        ..StreamConfig::durable(KEYS_EVENTS, alloc::vec![namespace.events()])
    }
}

/// `KEYS_ARCHIVE`: the mirror that keeps what 90 days forget, with the same sequence numbers.
#[must_use]
pub fn keys_archive_stream_config(namespace: &Namespace) -> StreamConfig {
    StreamConfig {
        name: KEYS_ARCHIVE.into(),
        subjects: Vec::new(),
        max_age: 0,
        // A mirror has no window of its own, takes no appends and republishes nothing.
        duplicate_window: 0,
        allow_atomic: false,
        republish: None,
        mirror: Some(KEYS_EVENTS.into()),
        ..keys_events_stream_config(namespace)
    }
}

/// What servers say of a message that is given up, on these subjects with stream and consumer behind them.
pub const GIVEN_UP: [&str; 2] =
    ["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED"];

/// `KEYS_DEAD`: dead letters, the marks that people put on them, and what servers say by themselves of messages that are
/// given up, which nobody would hear otherwise. Forgets nothing.
#[must_use]
pub fn keys_dead_stream_config(namespace: &Namespace) -> StreamConfig {
    let advisories = GIVEN_UP.map(|subject| format!("{subject}.{KEYS_EVENTS}.*"));
    StreamConfig {
        name: KEYS_DEAD.into(),
        subjects: core::iter::once(namespace.dead()).chain(advisories).collect(),
        max_age: 0,
        max_msg_size: 64 * 1024,
        allow_atomic: false,
        republish: None,
        ..keys_events_stream_config(namespace)
    }
}

/// `KEYS_ISSUED`: creds that were issued for a short time, for 90 days.
#[must_use]
pub fn keys_issued_stream_config(namespace: &Namespace) -> StreamConfig {
    StreamConfig {
        name: KEYS_ISSUED.into(),
        subjects: alloc::vec![namespace.issued()],
        max_msg_size: 64 * 1024,
        allow_atomic: false,
        republish: None,
        ..keys_events_stream_config(namespace)
    }
}

/// A setting that differs from what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{setting} is {found}, must be {expected}")]
pub struct Difference {
    /// The setting's name as JetStream writes it.
    pub setting: String,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl StreamConfig {
    /// Every setting in which `found` differs. What is the operator's own affair (replicas, placement, …) is no part of
    /// this type. The duplicate window is left out for a mirror, which has none of its own.
    #[must_use]
    pub fn differences(&self, found: &StreamConfig) -> Vec<Difference> {
        let pair = |p: &Option<(String, String)>| {
            p.as_ref().map_or("none".to_string(), |(a, b)| format!("{a} -> {b}"))
        };
        let text = |o: &Option<String>| o.clone().unwrap_or_else(|| "none".to_string());
        let rows = [
            ("subjects", self.subjects.join(","), found.subjects.join(",")),
            ("retention", self.retention.clone(), found.retention.clone()),
            ("storage", self.storage.clone(), found.storage.clone()),
            ("discard", self.discard.clone(), found.discard.clone()),
            ("max_age", nanos(self.max_age), nanos(found.max_age)),
            ("max_msg_size", self.max_msg_size.to_string(), found.max_msg_size.to_string()),
            ("max_msgs", self.max_msgs.to_string(), found.max_msgs.to_string()),
            (
                "max_msgs_per_subject",
                self.max_msgs_per_subject.to_string(),
                found.max_msgs_per_subject.to_string(),
            ),
            ("duplicate_window", nanos(self.duplicate_window), nanos(found.duplicate_window)),
            ("allow_direct", self.allow_direct.to_string(), found.allow_direct.to_string()),
            ("allow_atomic", self.allow_atomic.to_string(), found.allow_atomic.to_string()),
            ("deny_delete", self.deny_delete.to_string(), found.deny_delete.to_string()),
            ("deny_purge", self.deny_purge.to_string(), found.deny_purge.to_string()),
            ("republish", pair(&self.republish), pair(&found.republish)),
            ("mirror", text(&self.mirror), text(&found.mirror)),
            ("sealed", self.sealed.to_string(), found.sealed.to_string()),
            ("persist_mode async", self.persist_async.to_string(), found.persist_async.to_string()),
            ("allow_rollup_hdrs", self.allow_rollup.to_string(), found.allow_rollup.to_string()),
            ("no_ack", self.no_ack.to_string(), found.no_ack.to_string()),
        ];
        let mirror = self.mirror.is_some();
        rows.into_iter()
            .filter(|(setting, expected, found)| {
                expected != found && !(mirror && *setting == "duplicate_window")
            })
            .map(|(setting, expected, found)| Difference { setting: setting.into(), expected, found })
            .collect()
    }
}

pub(crate) fn nanos(value: u64) -> String {
    if value.is_multiple_of(SECOND) { format!("{}s", value / SECOND) } else { format!("{value}ns") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let namespace = Namespace::default();
        let wanted = keys_events_stream_config(&namespace);
        assert!(wanted.differences(&wanted).is_empty());
        let found = StreamConfig { deny_purge: false, max_age: 1, republish: None, ..wanted.clone() };
        let names: Vec<_> = wanted.differences(&found).into_iter().map(|d| d.setting).collect();
        assert_eq!(names, ["max_age", "deny_purge", "republish"]);
    }
}
