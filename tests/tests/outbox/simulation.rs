//! The machine against the model, and the model against hosts that lie to it.

use cim_keys_tests::outbox::{Lie, Sum, run};

#[test]
fn nothing_is_lost_and_doubles_are_where_they_may_be() {
    let mut all = Sum::default();
    for seed in 0..1_000 {
        let sum = run(seed, None).unwrap_or_else(|broken| panic!("{broken}"));
        all.events += sum.events;
        all.refused += sum.refused;
        all.doubled += sum.doubled;
        all.doubts += sum.doubts;
        all.crashes += sum.crashes;
    }
    // It must not pass by being empty; and what README says of doubles is so.
    assert!(
        all.events > 30_000 && all.refused > 4_000 && all.doubts > 10_000 && all.crashes > 4_000,
        "{all:?}"
    );
    assert!(all.doubled > 100, "{all:?}");
}

#[test]
fn the_model_bites() {
    for lie in Lie::ALL {
        let found = (0..2_000).find_map(|seed| run(seed, Some(lie)).err());
        assert!(found.is_some(), "{lie:?} is not noticed");
    }
}
