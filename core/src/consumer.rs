//! The durable consumers as plain data. Hosts turn them into JetStream's JSON and what a server reports back into them.

use crate::stream::{Difference, KEYS_DEAD, KEYS_EVENTS, SECOND, nanos};
use crate::subjects::Namespace;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The consumer of whoever folds events into projections: it never gives a message up.
pub const KEYS_PROJECTOR: &str = "keys-projector";
/// The consumer of whoever does something about an event.
pub const KEYS_SERVICE: &str = "keys-service";
/// What that one's dead letters are marked with, to be tried again.
pub const KEYS_SERVICE_RETRY: &str = "keys-service-retry";

/// How long a message may be worked on without a word, in nanoseconds.
pub const ACK_WAIT: u64 = 30 * SECOND;
/// Deliveries after which the server gives a message up. More than a handler gets: the rest is for workers that are killed
/// before they can say anything.
pub const MAX_DELIVER: i64 = 20;
/// Messages that may be out at a time.
pub const MAX_ACK_PENDING: i64 = 1000;

/// The settings of a durable consumer that matter to us. Times in nanoseconds; 0 or -1 as JetStream writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerConfig {
    /// Consumer name; it is durable under it.
    pub name: String,
    /// The stream that it reads.
    pub stream: String,
    /// Subjects of the messages that it wants.
    pub filter_subjects: Vec<String>,
    /// `explicit`: each message is acknowledged by itself.
    pub ack_policy: String,
    /// `all`: from the stream's first message on.
    pub deliver_policy: String,
    /// `instant`, or `original` for the pace of the past.
    pub replay_policy: String,
    /// How long a delivered message may stay without an acknowledgement, in nanoseconds.
    pub ack_wait: u64,
    /// Deliveries of one message; -1 is without end.
    pub max_deliver: i64,
    /// Instead of `ack_wait`: after the first delivery, the second, … in nanoseconds.
    pub backoff: Vec<u64>,
    /// Messages that may be out at a time.
    pub max_ack_pending: i64,
    /// Without use for so long, the server removes it; 0 is never.
    pub inactive_threshold: u64,
    /// Whether payloads are left out.
    pub headers_only: bool,
    /// Whether clients ask for messages: nothing is pushed to a subject.
    pub pull: bool,
}

impl ConsumerConfig {
    /// A durable pull consumer of a stream, from its first message on: each message is acknowledged by itself within 30 s,
    /// and redelivered without end.
    #[must_use]
    pub fn durable(stream: &str, name: &str, filter: String) -> Self {
        Self {
            name: name.into(),
            stream: stream.into(),
            filter_subjects: alloc::vec![filter],
            ack_policy: "explicit".into(),
            deliver_policy: "all".into(),
            replay_policy: "instant".into(),
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            backoff: Vec::new(),
            max_ack_pending: MAX_ACK_PENDING,
            inactive_threshold: 0,
            headers_only: false,
            pull: true,
        }
    }

    /// The same with an end: [`MAX_DELIVER`] deliveries.
    ///
    /// Without the server's own backoff: a server counts the delay of a NAK from `ack_wait` on, but waits for the backoff's
    /// step. Where the steps grow, a message that is given back for 40 ms comes after 30 s (measured on 2.15.1). So whoever
    /// handles messages gives them back with delays that grow.
    #[must_use]
    pub fn giving_up(mut self) -> Self {
        self.max_deliver = MAX_DELIVER;
        self
    }

    /// The same with one message out at a time, for whoever must have them in the stream's order, as a projection must. With
    /// more than one out, those of a worker that was killed come again behind later ones, which another has folded meanwhile:
    /// what is not newer than the sequence reached would be left out, and lost.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.max_ack_pending = 1;
        self
    }

    /// Every setting in which `found` differs. What is the operator's own affair (replicas, limits of one request,
    /// description, metadata, a pause) is no part of this type.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let times = |list: &[u64]| list.iter().map(|time| nanos(*time)).collect::<Vec<_>>().join(",");
        let rows = [
            ("stream_name", self.stream.clone(), found.stream.clone()),
            ("filter_subjects", self.filter_subjects.join(","), found.filter_subjects.join(",")),
            ("ack_policy", self.ack_policy.clone(), found.ack_policy.clone()),
            ("deliver_policy", self.deliver_policy.clone(), found.deliver_policy.clone()),
            ("replay_policy", self.replay_policy.clone(), found.replay_policy.clone()),
            ("ack_wait", nanos(self.ack_wait), nanos(found.ack_wait)),
            ("max_deliver", self.max_deliver.to_string(), found.max_deliver.to_string()),
            ("backoff", times(&self.backoff), times(&found.backoff)),
            ("max_ack_pending", self.max_ack_pending.to_string(), found.max_ack_pending.to_string()),
            ("inactive_threshold", nanos(self.inactive_threshold), nanos(found.inactive_threshold)),
            ("headers_only", self.headers_only.to_string(), found.headers_only.to_string()),
            ("pull", self.pull.to_string(), found.pull.to_string()),
        ];
        let differs = rows.into_iter().filter(|(_, expected, found)| expected != found);
        differs
            .map(|(setting, expected, found)| Difference { setting: setting.into(), expected, found })
            .collect()
    }
}

/// The durable consumers of the pipeline.
#[must_use]
pub fn declared(namespace: &Namespace) -> Vec<ConsumerConfig> {
    let events = |name| ConsumerConfig::durable(KEYS_EVENTS, name, namespace.events());
    alloc::vec![
        events(KEYS_PROJECTOR),
        events(KEYS_SERVICE).giving_up(),
        // A person's word is not given up.
        ConsumerConfig::durable(KEYS_DEAD, KEYS_SERVICE_RETRY, namespace.dead_of(KEYS_SERVICE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let namespace = Namespace::default();
        let [projector, service, retry] = declared(&namespace).try_into().unwrap();
        assert!(service.differences(&service).is_empty());
        let names = |found: &ConsumerConfig| -> Vec<String> {
            service.differences(found).into_iter().map(|difference| difference.setting).collect()
        };
        assert_eq!(names(&projector), ["max_deliver"]);
        assert_eq!(names(&retry), ["stream_name", "filter_subjects", "max_deliver"]);
        let found = ConsumerConfig {
            ack_policy: "none".into(),
            ack_wait: 1,
            backoff: alloc::vec![SECOND, 2 * SECOND],
            pull: false,
            headers_only: true,
            inactive_threshold: 5 * SECOND,
            ..service.clone()
        };
        assert_eq!(
            names(&found),
            ["ack_policy", "ack_wait", "backoff", "inactive_threshold", "headers_only", "pull"]
        );
        assert_eq!(service.differences(&found)[1].to_string(), "ack_wait is 1ns, must be 30s");
    }
}
