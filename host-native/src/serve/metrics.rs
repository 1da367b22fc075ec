//! What is counted, in the text form that Prometheus reads.

use super::request::Operation;
use crate::report::State;
use crate::store::Store;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of answers, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// By operation, and code where it failed.
    requests: BTreeMap<(&'static str, String), u64>,
    took: BTreeMap<&'static str, Took>,
    under_way: u64,
    pushes: BTreeMap<&'static str, u64>,
    not_in_force: u64,
    drift: u64,
    connections: u64,
    connected: bool,
    issued: u64,
    /// The sequence that each projection has reached.
    projected: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Took {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Metrics {
    fn with<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request is under way.
    pub fn begun(&self) {
        self.with(|counted| counted.under_way += 1);
    }

    /// It was answered: with nothing, or the code of what is wrong.
    pub fn answered(&self, operation: Option<Operation>, code: Option<&str>, took: Duration) {
        let operation = operation.map_or("unknown", Operation::as_str);
        self.with(|counted| {
            counted.under_way = counted.under_way.saturating_sub(1);
            *counted.requests.entry((operation, code.unwrap_or("ok").to_owned())).or_default() += 1;
            let seconds = took.as_secs_f64();
            let took = counted.took.entry(operation).or_default();
            took.count += 1;
            took.seconds += seconds;
            for (count, _) in took.buckets.iter_mut().zip(BUCKETS).filter(|(_, end)| seconds <= *end) {
                *count += 1;
            }
        });
    }

    /// An account was looked at on the servers.
    pub fn pushed(&self, state: &'static str) {
        self.with(|counted| *counted.pushes.entry(state).or_default() += 1);
    }

    /// How many accounts are not as the registry says, and of how many a server has something that it does not know.
    pub fn accounts(&self, not_in_force: usize, drift: usize) {
        self.with(|counted| {
            counted.not_in_force = not_in_force as u64;
            counted.drift = drift as u64;
        });
    }

    /// The responder's connection is there, or is not.
    pub fn connected(&self, connected: bool) {
        self.with(|counted| {
            counted.connections += u64::from(connected);
            counted.connected = connected;
        });
    }

    /// Creds were issued.
    pub fn issued(&self) {
        self.with(|counted| counted.issued += 1);
    }

    /// How far the projections are.
    pub fn projected(&self, reached: &[(&'static str, u64)]) {
        self.with(|counted| counted.projected = reached.iter().copied().collect());
    }

    /// Whether the responder hears anything.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.with(|counted| counted.connected)
    }

    /// All of it, with how the store stands.
    #[must_use]
    pub fn text(&self, store: &Store) -> String {
        let mut text = String::new();
        let counts = store.counts().unwrap_or_default();
        let report = store.report().ok().flatten().unwrap_or_default();
        let head = store.progress().map(|progress| progress.head).unwrap_or_default();
        let states =
            [State::Never, State::Working, State::Idle, State::Waiting, State::Contended, State::Blocked];
        head_of(&mut text, "cim_keys_sync_state", "gauge", "Where synchronising stands");
        for state in states {
            let name = state.as_str().replace(' ', "_");
            let here = u8::from(state == report.state);
            let _ = writeln!(text, "cim_keys_sync_state{{state=\"{name}\"}} {here}");
        }
        self.with(|counted| {
            let mut one = |name: &str, kind: &str, help: &str, value: u64| {
                head_of(&mut text, name, kind, help);
                let _ = writeln!(text, "{name} {value}");
            };
            one("cim_keys_stream_head", "gauge", "Last sequence read or written", head);
            one("cim_keys_commands_pending", "gauge", "Commands to be published", counts.pending);
            one("cim_keys_commands_held", "gauge", "Commands that a person must look at", counts.held);
            one("cim_keys_anomalies", "gauge", "Messages that change nothing", counts.anomalies);
            one(
                "cim_keys_requests_under_way",
                "gauge",
                "Requests that are being answered",
                counted.under_way,
            );
            one(
                "cim_keys_responder_connected",
                "gauge",
                "Whether requests are heard",
                counted.connected.into(),
            );
            one("cim_keys_responder_connections_total", "counter", "Connections made", counted.connections);
            one("cim_keys_credentials_issued_total", "counter", "Short-lived creds issued", counted.issued);
            one(
                "cim_keys_accounts_not_in_force",
                "gauge",
                "Accounts whose newest token is not on every server",
                counted.not_in_force,
            );
            one(
                "cim_keys_accounts_drift",
                "gauge",
                "Accounts of which a server has a token that the registry does not know",
                counted.drift,
            );
            head_of(&mut text, "cim_keys_projection_sequence", "gauge", "Last sequence folded");
            for (name, sequence) in &counted.projected {
                let _ = writeln!(text, "cim_keys_projection_sequence{{projection=\"{name}\"}} {sequence}");
            }
            head_of(&mut text, "cim_keys_pushes_total", "counter", "Accounts looked at on the servers");
            for (state, count) in &counted.pushes {
                let _ = writeln!(text, "cim_keys_pushes_total{{state=\"{state}\"}} {count}");
            }
            head_of(
                &mut text,
                "cim_keys_requests_total",
                "counter",
                "Requests answered, by what came of them",
            );
            for ((operation, code), count) in &counted.requests {
                let _ = writeln!(
                    text,
                    "cim_keys_requests_total{{operation=\"{operation}\",code=\"{code}\"}} {count}"
                );
            }
            let name = "cim_keys_request_seconds";
            head_of(&mut text, name, "histogram", "How long answers took");
            for (operation, took) in &counted.took {
                for (end, count) in BUCKETS.iter().zip(took.buckets) {
                    let _ = writeln!(text, "{name}_bucket{{operation=\"{operation}\",le=\"{end}\"}} {count}");
                }
                let Took { count, seconds, .. } = took;
                let _ = writeln!(text, "{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}");
                let _ = writeln!(text, "{name}_sum{{operation=\"{operation}\"}} {seconds}");
                let _ = writeln!(text, "{name}_count{{operation=\"{operation}\"}} {count}");
            }
        });
        text
    }
}

fn head_of(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
