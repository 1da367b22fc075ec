//! A deterministic simulation of hosts, their machines and a model of the stream, in one thread on a virtual clock.
//!
//! A seed decides everything: who takes part, what is wanted, what goes wrong and when. [`run`] plays it and checks
//! the invariants along the way and at the end, when the faults have stopped and everything must drain:
//!
//! * **I1** what was reported as committed is on the stream, or pending, held or settled in its journal;
//! * **I2** at most one message an event id is appended by hosts;
//! * **I3** each command's events are contiguous and in order, and whatever a host appends is admitted;
//! * **I4** a confirmed event is at its sequence with its bytes;
//! * a command that was voided is never admitted afterwards, nor is another attempt at one that was admitted; what a
//!   person gave up is never sent again, and its id is used up where anybody else may have it;
//! * a command is held only if it does not stand where it has its place in the journal;
//! * **I8** steps, retries and time until all is drained are bounded;
//! * **I10** the same seed gives the same trace (its digest is compared by a test);
//! * every host's registry is the fold of the stream, its overlay the fold of what is pending, and every revocation
//!   that was reported as committed is in force.

pub(crate) mod broker;
mod driver;
mod faults;
mod foreign;
mod held;
mod host;
mod invariants;
mod link;
mod majority;
mod network;
mod people;
mod range;
pub(crate) mod rng;
mod scenario;
mod script;
mod scripted;
mod store;
mod trace;
mod workload;
mod world;

pub use invariants::Broken;
pub use range::{Summary, find, run_range, shrink};
pub(crate) use rng::Rng;
pub use scenario::{Fault, Scenario};
pub use scripted::Scripted;

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was played.
    pub scenario: Scenario,
    /// Digest of the trace.
    pub digest: u64,
    /// Things that happened.
    pub steps: u64,
    /// Messages on the stream at the end.
    pub messages: u64,
    /// Messages or groups of them that change nothing.
    pub anomalies: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Commands that were committed.
    pub commands: u64,
    /// Commands that are held at the end.
    pub held: u64,
    /// Messages that went with the power.
    pub lost: u64,
    /// Hosts that say at the end that the stream went back.
    pub alarms: u64,
    /// Messages that a next leader stored, and nobody heard of.
    pub late: u64,
    /// Held commands that people had decided anew.
    pub retried: u64,
    /// Held commands that people gave up.
    pub dropped: u64,
    /// Command ids that are void at the end.
    pub voided: u64,
    /// The first invariant that did not hold.
    pub broken: Option<Broken>,
    /// What happened, line by line, where it was kept.
    pub trace: Vec<String>,
}

/// Plays a scenario. A panic of the core counts as broken.
#[must_use]
pub fn run(scenario: &Scenario, keep_trace: bool) -> Outcome {
    let play = || world::World::new(scenario.clone(), keep_trace).map(world::World::run);
    let failed = |broken| Outcome {
        scenario: scenario.clone(),
        digest: 0,
        steps: 0,
        messages: 0,
        anomalies: 0,
        crashes: 0,
        commands: 0,
        held: 0,
        lost: 0,
        alarms: 0,
        late: 0,
        retried: 0,
        dropped: 0,
        voided: 0,
        broken: Some(broken),
        trace: Vec::new(),
    };
    match std::panic::catch_unwind(play) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(broken)) => failed(broken),
        Err(_) => failed(Broken::new("panic", "see the message above")),
    }
}
