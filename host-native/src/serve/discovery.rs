//! What a micro service says of itself: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, to all, to its name, to its id.

use super::NAME;
use super::request::Operation;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The queue that all services of one name are in.
pub(super) const QUEUE: &str = "q";

/// One running service.
#[derive(Debug)]
pub(super) struct Discovery {
    id: String,
    namespace: Namespace,
    started: Timestamp,
    stats: Mutex<BTreeMap<Operation, Stats>>,
}

#[derive(Clone, Debug, Default)]
struct Stats {
    requests: u64,
    errors: u64,
    last: String,
    took: Duration,
}

impl Discovery {
    pub(super) fn new(id: String, namespace: Namespace, started: Timestamp) -> Self {
        Self { id, namespace, started, stats: Mutex::default() }
    }

    /// Subjects that it hears.
    pub(super) fn subjects(&self) -> Vec<String> {
        ["PING", "INFO", "STATS"]
            .iter()
            .flat_map(|verb| {
                [
                    format!("$SRV.{verb}"),
                    format!("$SRV.{verb}.{NAME}"),
                    format!("$SRV.{verb}.{NAME}.{}", self.id),
                ]
            })
            .collect()
    }

    pub(super) fn count(&self, operation: Operation, failed: Option<String>, took: Duration) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = stats.entry(operation).or_default();
        stats.requests += 1;
        stats.took += took;
        if let Some(failed) = failed {
            stats.errors += 1;
            stats.last = failed;
        }
    }

    /// The answer to what came on one of its subjects.
    pub(super) fn answer(&self, subject: &str) -> Option<Value> {
        let (kind, mut answer) = match subject.split('.').nth(1)? {
            "PING" => ("ping", json!({})),
            "INFO" => (
                "info",
                json!({
                    "description": "NATS identities: accounts, users and short-lived creds",
                    "endpoints": self.endpoints(|_| json!({ "metadata": {} })),
                }),
            ),
            "STATS" => (
                "stats",
                json!({
                    "started": self.started.to_string(),
                    "endpoints": self.endpoints(|stats| {
                        let nanos = u64::try_from(stats.took.as_nanos()).unwrap_or(u64::MAX);
                        json!({
                            "num_requests": stats.requests,
                            "num_errors": stats.errors,
                            "last_error": stats.last,
                            "processing_time": nanos,
                            "average_processing_time": nanos.checked_div(stats.requests).unwrap_or_default(),
                        })
                    }),
                }),
            ),
            _ => return None,
        };
        for (name, value) in [
            ("type", format!("io.nats.micro.v1.{kind}_response")),
            ("name", NAME.to_owned()),
            ("id", self.id.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ] {
            answer[name] = value.into();
        }
        answer["metadata"] = json!({});
        Some(answer)
    }

    fn endpoints(&self, more: impl Fn(&Stats) -> Value) -> Vec<Value> {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |operation: Operation| {
            let mut endpoint = more(&stats.get(&operation).cloned().unwrap_or_default());
            endpoint["name"] = operation.as_str().replace('.', "-").into();
            endpoint["subject"] = format!("{}.keys-api.{operation}", self.namespace).into();
            endpoint["queue_group"] = QUEUE.into();
            endpoint
        };
        Operation::ALL.map(one).into()
    }
}
