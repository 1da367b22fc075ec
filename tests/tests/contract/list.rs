//! The list itself: every scenario says something, and hardly any is not for everybody.

use cim_keys_tests::contract::{Name, Step, scenarios};
use std::collections::BTreeSet;

#[test]
fn every_scenario_has_a_name_of_its_own_and_looks_at_what_came_of_it() {
    let all = scenarios();
    let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(names.len(), all.len());
    for scenario in &all {
        let name = &scenario.name;
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        assert!(scenario.why.len() > 20, "{name} does not say why");
        assert!(matches!(scenario.steps.last(), Some(Step::Expect(_))), "{name} ends without a look");
    }
}

#[test]
fn what_is_not_for_everybody_is_rare_and_says_why() {
    let narrow: Vec<_> = scenarios().into_iter().filter(|scenario| scenario.only.is_some()).collect();
    assert!(narrow.len() <= 2, "{narrow:?}");
    for scenario in narrow {
        let only = scenario.only.unwrap();
        assert!(only.because.len() > 20, "{} does not say why", scenario.name);
        // Both hosts stand before the same server.
        assert_eq!(only.drivers, [Name::Native, Name::Page], "{}", scenario.name);
    }
}
