//! The machine under the model broker plays every scenario, and a machine with a mistake in it fails.

use cim_keys_core::sync::Bug;
use cim_keys_tests::contract::{Name, Scenario, play, scenarios_for};
use cim_keys_tests::simulator::Scripted;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long things take is drawn from a seed: one for each latency of the network.
const SEEDS: std::ops::Range<u64> = 0..4;

fn attempt(scenario: &Scenario, seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut driver = Scripted::new(scenario, seed, bug)?;
    play(scenario, &mut driver).map_err(|why| format!("seed {seed}, {why}\n{}", driver.trace().join("\n")))
}

/// What fails, by the scenario's name. A panic of the core counts as well.
fn failures(bug: Option<Bug>) -> BTreeMap<String, String> {
    let scenarios = scenarios_for(Name::Simulator);
    let (left, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(scenario) = scenarios.get(left.fetch_add(1, Ordering::Relaxed)) {
            let each = SEEDS.map(|seed| catch_unwind(AssertUnwindSafe(|| attempt(scenario, seed, bug))));
            let mut each = each.map(|outcome| outcome.unwrap_or_else(|_| Err("the core panics".to_owned())));
            if let Some(why) = each.find_map(Result::err) {
                failed.lock().unwrap().insert(scenario.name.clone(), why);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().unwrap()
}

#[test]
fn every_scenario_is_played() {
    let failed: Vec<String> = failures(None).into_values().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// It must not pass by looking away: each mistake shows in a scenario that is about it. (What `duplicate: true` proves only
/// chance brings about: see `simulation`.)
#[test]
fn planted_mistakes_break_scenarios() {
    let telling = [
        (Bug::NewIdOnRetry, "cut-before-the-publish-arrives"),
        (Bug::RetryWithoutCatchUp, "conflict-over-a-name"),
        (Bug::RecheckSkipped, "conflict-of-two-offline-hosts"),
    ];
    for (bug, name) in telling {
        let scenarios = scenarios_for(Name::Simulator);
        let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
        assert!(SEEDS.into_iter().any(|seed| attempt(scenario, seed, Some(bug)).is_err()), "{bug:?}: {name}");
    }
}
