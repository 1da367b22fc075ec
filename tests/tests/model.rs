//! The simulator's model of a stream against real servers: each rule by a script, and scripts from seeds.

use cim_keys_tests::reality::{Barrier, Flavour, Script, Server, Step, compare, generated, say};

/// Seeds of generated scripts for one server.
const SEEDS: std::ops::Range<u64> = 0..300;
/// With three nodes each stream takes longer to make than its script to play.
const FEWER: std::ops::Range<u64> = 0..200;

fn script(name: &str, steps: Vec<Step>) -> Script {
    Script::new(name, steps)
}

/// What needs one stream and nothing else.
fn rules() -> Vec<Script> {
    let big = "x".repeat(1001);
    let many = |id: &str, from: u64, to: u64| -> Step {
        (from..=to).map(|place| say().batch(id, place).silent()).collect::<Vec<_>>().into()
    };
    vec![
        script("sequence and id", vec![
            say().id("a").behind(0).into(),
            say().id("a").behind(0).into(),
            say().id("a").behind(1).into(),
            say().id("a").behind(9).into(),
            say().id("b").behind(0).into(),
            say().id("b").behind(1).payload("other bytes").into(),
            say().id("b").payload("dropped").into(),
        ]),
        script("a number is digits", vec![
            say().behind("x").into(),
            say().behind("").into(),
            say().behind("-1").into(),
            say().behind("01").into(),
            say().behind("+2").into(),
            say().behind("99999999999999999999999").into(),
        ]),
        script("names as they are spelled, the first of two", vec![
            say().header("nats-msg-id", "a").into(),
            say().header("NATS-MSG-ID", "a").into(),
            say().id("b").id("a").into(),
            say().id("a").id("c").into(),
            say().behind(2).behind(9).into(),
            say().behind(9).behind(2).into(),
        ]),
        script("another stream, too large", vec![
            say().to("OTHER").into(),
            say().to("OTHER").id("a").behind(9).into(),
            say().id("a").into(),
            say().to("OTHER").id("a").into(),
            say().payload(&big).into(),
            say().payload(&big).behind(9).into(),
            say().payload(&big).id("a").into(),
            say().payload(&big).to("OTHER").into(),
        ]),
        script("a pipeline", vec![
            (0..50).map(|last| say().behind(last)).collect::<Vec<_>>().into(),
            vec![say().behind(50), say().behind(50), say().behind(51), say().behind(53)].into(),
        ]),
        script("a batch is stored whole", vec![
            say().batch("x", 1).behind(0).id("a").into(),
            say().batch("x", 2).id("b").into(),
            say().batch("x", 3).id("c").commit().into(),
            say().id("b").into(),
            say().batch("x", 1).commit().into(),
        ]),
        script("or not at all: 10201", vec![
            say().id("a").into(),
            say().batch("x", 1).id("b").into(),
            say().batch("x", 2).id("a").commit().into(),
            say().batch("y", 1).id("c").into(),
            say().batch("y", 2).id("c").commit().into(),
            say().batch("z", 1).id("a").behind(0).into(),
            say().batch("z", 2).commit().into(),
            say().id("b").into(),
        ]),
        script("or not at all: 10071 and 10164", vec![
            say().into(),
            say().batch("x", 1).behind(0).into(),
            say().batch("x", 2).commit().into(),
            say().batch("y", 1).behind(1).into(),
            say().batch("y", 2).behind(2).commit().into(),
            say().batch("z", 1).into(),
            say().batch("z", 2).behind(1).commit().into(),
            say().batch("u", 1).behind(1).into(),
            say().behind(1).into(),
            say().batch("u", 2).commit().into(),
        ]),
        script("gaps and ids in use: 10176", vec![
            say().batch("x", 2).into(),
            say().batch("x", 1).into(),
            say().batch("x", 3).into(),
            say().batch("x", 2).commit().into(),
            say().batch("y", 1).into(),
            say().batch("y", 1).into(),
            say().batch("y", 2).commit().into(),
        ]),
        script("batch headers that are wrong", vec![
            say().header("Nats-Batch-Id", "x").into(),
            say().batch("x", "a").into(),
            say().batch("x", 0).into(),
            say().batch("", 1).into(),
            say().batch(&"i".repeat(65), 1).into(),
            say().batch(&"i".repeat(64), 1).commit().into(),
            say().batch("x", 1).header("Nats-Batch-Commit", "0").into(),
            say().batch("x", 2).commit().into(),
            say().batch("y", 1).into(),
            say().batch("y", 2).header("Nats-Batch-Commit", "eob").into(),
            say().batch("z", 1).to("OTHER").into(),
            say().batch("z", 2).commit().into(),
            say().batch("w", 1).into(),
            say().batch("w", 2).payload(&big).into(),
            say().batch("w", 3).commit().into(),
        ]),
        script("a thousand and one", vec![
            many("x", 1, 999),
            say().batch("x", 1000).commit().into(),
            many("y", 1, 1000),
            say().batch("y", 1001).into(),
            say().batch("y", 1002).commit().into(),
            say().batch("y", 1).commit().into(),
        ]),
        script("fifty are open", vec![
            (0..50).map(|id| say().batch(&id.to_string(), 1)).collect::<Vec<_>>().into(),
            say().batch("more", 1).into(),
            say().batch("more", 1).commit().into(),
            say().batch("7", 2).commit().into(),
            say().batch("one", 1).commit().into(),
            say().batch("more", 1).into(),
            say().batch("still more", 1).into(),
        ]),
        script("batches are off: 10174", vec![
            say().batch("x", 1).into(),
            say().batch("x", 1).commit().into(),
            say().header("Nats-Batch-Id", "x").into(),
            say().header("Nats-Batch-Commit", "1").into(),
        ])
        .without_batches(),
    ]
}

/// What time does. The pauses are far from every limit.
fn time() -> Vec<Script> {
    vec![
        script("ids are forgotten", vec![
            say().id("a").into(),
            say().id("a").into(),
            Barrier::Pause(6_000).into(),
            say().id("a").into(),
            say().id("a").into(),
        ])
        .window(3_000),
        script("an open batch is given up", vec![
            say().batch("x", 1).into(),
            say().batch("y", 1).into(),
            Barrier::Pause(6_000).into(),
            say().batch("x", 2).into(),
            Barrier::Pause(7_000).into(),
            say().batch("x", 3).commit().into(),
            say().batch("y", 2).commit().into(),
        ]),
    ]
}

/// What one node may live through.
fn ends() -> Vec<Script> {
    vec![
        script("a restart", vec![
            say().id("a").behind(0).into(),
            say().batch("x", 1).behind(1).into(),
            Barrier::Restart.into(),
            say().id("a").into(),
            say().batch("x", 2).commit().into(),
            say().id("b").behind(1).into(),
        ]),
        script("a restart after the window", vec![
            say().id("a").into(),
            Barrier::Pause(6_000).into(),
            say().id("b").into(),
            Barrier::Restart.into(),
            say().id("b").into(),
            say().id("a").into(),
        ])
        .window(3_000),
        script("the tail is lost", vec![
            say().id("a").behind(0).into(),
            say().id("b").behind(1).into(),
            Barrier::Keep.into(),
            say().id("c").behind(2).into(),
            say().batch("x", 1).behind(3).id("d").into(),
            say().batch("x", 2).commit().into(),
            Barrier::Rewind.into(),
            say().id("b").into(),
            say().id("d").behind(5).into(),
            say().id("d").behind(2).into(),
            say().id("c").into(),
        ]),
    ]
}

/// What three nodes may live through.
fn nodes() -> Vec<Script> {
    vec![
        script("on its way", vec![
            say().id("known").behind(0).into(),
            Barrier::Hold.into(),
            vec![
                say().id("a").behind(1),
                say().id("a").behind(1),
                say().id("a").behind(2),
                say().id("b").behind(1),
                say().id("c").behind(2),
                say().id("known").behind(9),
                say().behind(9),
                say().batch("x", 1).behind(3).id("a"),
                say().batch("x", 2).commit(),
                say().batch("y", 1).behind(1).id("d"),
                say().batch("y", 2).commit(),
                say().batch("z", 1).behind(3).id("d"),
                say().batch("z", 2).id("e").commit(),
                say().id("e").behind(5),
                say().behind(5),
            ]
            .into(),
            Barrier::Release.into(),
            say().id("a").into(),
            say().id("e").behind(0).into(),
            say().behind(6).into(),
        ]),
        script("another leader", vec![
            say().id("a").behind(0).into(),
            say().batch("x", 1).behind(1).into(),
            Barrier::Fall.into(),
            say().id("a").behind(0).into(),
            say().batch("x", 2).commit().into(),
            say().id("b").behind(1).into(),
            Barrier::Back.into(),
            say().id("b").into(),
        ]),
        script("never committed", vec![
            say().id("a").behind(0).into(),
            Barrier::Isolate.into(),
            vec![say().id("lost").behind(1), say().id("lost").behind(1)].into(),
            Barrier::Fall.into(),
            say().id("new").behind(1).into(),
            Barrier::Back.into(),
            say().id("lost").behind(2).into(),
        ]),
    ]
}

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
