//! The sync machine against the model broker: all invariants hold, and the simulator bites.

use cim_keys_core::sync::Bug;
use cim_keys_tests::simulator::{Scenario, find, run, run_range, shrink};

/// `cargo xtask test` plays 0..2000 besides.
const SEEDS: std::ops::Range<u64> = 2000..2250;

#[test]
fn all_invariants_hold() {
    let sum = run_range(SEEDS, None);
    if let Some(seed) = sum.failed.first() {
        let outcome = run(&shrink(&Scenario::of(*seed)), true);
        panic!("seed {seed}: {:?}\n{}", outcome.broken, outcome.trace.join("\n"));
    }
    assert_eq!(sum.runs, 250);
    // It must not pass by being empty.
    assert!(sum.commands > 1_000 && sum.messages > 2_500, "{sum:?}");
    assert!(sum.late > 5 && sum.lost > 20 && sum.alarms > 5, "{sum:?}");
    assert!(sum.retried > 5 && sum.dropped > 25 && sum.voided > 25, "{sum:?}");
    assert!(sum.held > 25 && sum.anomalies > 25 && sum.crashes > 100, "{sum:?}");
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    for seed in 0..12 {
        let scenario = Scenario::of(seed);
        let other = scenario.clone();
        let elsewhere = std::thread::spawn(move || run(&other, true));
        let here = run(&scenario, false);
        let there = elsewhere.join().expect("a run does not panic");
        assert_eq!(here.digest, there.digest, "seed {seed}");
        assert_eq!(here.steps, there.steps, "seed {seed}");
    }
}

/// Each planted mistake shows within 2,000 seeds, and what is left of the scenario still shows it.
#[test]
fn each_planted_mistake_is_found() {
    for (bug, name) in Bug::ALL {
        let outcome = find(bug, 0..2_000).unwrap_or_else(|| panic!("{name} is not found within 2,000 seeds"));
        let broken = outcome.broken.expect("found means broken");
        let smallest = shrink(&outcome.scenario);
        assert!(smallest.faults.is_subset(&outcome.scenario.faults), "{name}");
        let again = run(&smallest, false).broken.expect("the smallest form fails as well");
        assert_eq!(again.invariant, broken.invariant, "{name}");
        // Without the mistake the same run is sound.
        let sound = Scenario { bug: None, ..outcome.scenario.clone() };
        assert_eq!(run(&sound, false).broken, None, "{name}");
    }
}
