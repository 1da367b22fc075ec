//! Many seeds on all processors, and the smallest form of one that fails.

use super::scenario::{Fault, Scenario};
use super::{Outcome, run};
use cim_keys_core::sync::Bug;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What came of a range of seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs played.
    pub runs: u64,
    /// Things that happened.
    pub steps: u64,
    /// Commands that were committed.
    pub commands: u64,
    /// Messages on the streams.
    pub messages: u64,
    /// Anomalies on the streams.
    pub anomalies: u64,
    /// Commands that are held at the end.
    pub held: u64,
    /// Processes that died.
    pub crashes: u64,
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
    /// Seeds that failed, ascending. After the first one no further seed is begun.
    pub failed: Vec<u64>,
}

/// Plays every seed of a range, with a planted mistake if one is given, until one fails.
#[must_use]
pub fn run_range(seeds: Range<u64>, bug: Option<Bug>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicU64::new(u64::MAX);
    let work = || {
        let mut sum = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Seeds before a failing one are still played, so that the lowest is found whatever the threads do.
            if seed >= seeds.end || seed > stop.load(Ordering::Relaxed) {
                return sum;
            }
            let outcome = run(&Scenario { bug, ..Scenario::of(seed) }, false);
            if outcome.broken.is_some() {
                stop.fetch_min(seed, Ordering::Relaxed);
            }
            sum.add(seed, &outcome);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Summary::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            if let Ok(sum) = thread.join() {
                all.join(sum);
            }
        }
    });
    all.failed.sort_unstable();
    all
}

/// The first seed of a range in which a planted mistake shows.
#[must_use]
pub fn find(bug: Bug, seeds: Range<u64>) -> Option<Outcome> {
    let seed = *run_range(seeds, Some(bug)).failed.first()?;
    Some(run(&Scenario { bug: Some(bug), ..Scenario::of(seed) }, true))
}

/// Takes away what a failing scenario does not need to break the same invariant: kinds of trouble, then commands and
/// time.
#[must_use]
pub fn shrink(scenario: &Scenario) -> Scenario {
    let Some(broken) = run(scenario, false).broken else { return scenario.clone() };
    let fails =
        |scenario: &Scenario| run(scenario, false).broken.is_some_and(|b| b.invariant == broken.invariant);
    let mut smallest = scenario.clone();
    for (fault, _) in Fault::ALL {
        let mut without = smallest.clone();
        if without.faults.remove(&fault) && fails(&without) {
            smallest = without;
        }
    }
    for commands in 1..smallest.commands {
        let fewer = Scenario { commands, ..smallest.clone() };
        if fails(&fewer) {
            smallest = fewer;
            break;
        }
    }
    let mut shorter = smallest.clone();
    while shorter.calm_at > 2_000 {
        shorter.calm_at = shorter.calm_at * 2 / 3;
        if fails(&shorter) {
            smallest = shorter.clone();
        }
    }
    smallest
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.steps += outcome.steps;
        self.commands += outcome.commands;
        self.messages += outcome.messages;
        self.anomalies += outcome.anomalies;
        self.held += outcome.held;
        self.crashes += outcome.crashes;
        self.lost += outcome.lost;
        self.alarms += outcome.alarms;
        self.late += outcome.late;
        self.retried += outcome.retried;
        self.dropped += outcome.dropped;
        self.voided += outcome.voided;
        if outcome.broken.is_some() {
            self.failed.push(seed);
        }
    }

    fn join(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.commands += other.commands;
        self.messages += other.messages;
        self.anomalies += other.anomalies;
        self.held += other.held;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.alarms += other.alarms;
        self.late += other.late;
        self.retried += other.retried;
        self.dropped += other.dropped;
        self.voided += other.voided;
        self.failed.extend(other.failed);
    }
}
