//! The simulator's model of a stream against real servers: each rule by a script, and scripts from seeds.

use cim_keys_tests::reality::{Flavour, Script, Server, compare, ends, generated, nodes, rules, time};

/// Seeds of generated scripts for one server.
const SEEDS: std::ops::Range<u64> = 0..300;
/// With three nodes each stream takes longer to make than its script to play.
const FEWER: std::ops::Range<u64> = 0..200;

fn check(flavour: Flavour, scripts: &[Script]) {
    let mut server = Server::start(flavour);
    let differences = compare(&mut server, scripts);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn seeds(flavour: Flavour, seeds: std::ops::Range<u64>) -> Vec<Script> {
    seeds.map(|seed| generated(flavour, seed)).collect()
}

#[test]
fn the_newest_with_one_replica() {
    check(Flavour::Newest, &[rules(), time(), ends()].concat());
}

#[test]
fn the_newest_with_one_replica_from_seeds() {
    check(Flavour::Newest, &seeds(Flavour::Newest, SEEDS));
}

#[test]
fn the_oldest_with_one_replica() {
    check(Flavour::Oldest, &[rules(), time(), ends()].concat());
}

#[test]
fn the_oldest_with_one_replica_from_seeds() {
    check(Flavour::Oldest, &seeds(Flavour::Oldest, SEEDS));
}

#[test]
fn three_replicas() {
    check(Flavour::Replicated, &[rules(), time(), nodes()].concat());
}

#[test]
fn three_replicas_from_seeds() {
    check(Flavour::Replicated, &seeds(Flavour::Replicated, FEWER));
}

/// It must be able to fail: a model by the rules of another server differs.
#[test]
fn another_servers_rules_are_noticed() {
    let mut server = Server::start(Flavour::Oldest);
    server.judge_as(Flavour::Replicated);
    let differences = compare(&mut server, &rules());
    let named: Vec<&str> = differences.iter().filter_map(|text| text.split(':').next()).collect();
    for name in ["sequence and id", "fifty are open", "another stream, too large"] {
        assert!(named.contains(&name), "{name} is not among {named:?}");
    }
}
