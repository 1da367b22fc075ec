//! Each rule by a script: what needs one stream and nothing else.

use super::script::{Script, Step, say};

/// What needs one stream and nothing else.
#[must_use]
pub fn rules() -> Vec<Script> {
    let big = "x".repeat(1001);
    let many = |id: &str, from: u64, to: u64| -> Step {
        (from..=to).map(|place| say().batch(id, place).silent()).collect::<Vec<_>>().into()
    };
    vec![
        Script::new(
            "sequence and id",
            vec![
                say().id("a").behind(0).into(),
                say().id("a").behind(0).into(),
                say().id("a").behind(1).into(),
                say().id("a").behind(9).into(),
                say().id("b").behind(0).into(),
                say().id("b").behind(1).payload("other bytes").into(),
                say().id("b").payload("dropped").into(),
            ],
        ),
        Script::new(
            "a number is digits",
            vec![
                say().behind("x").into(),
                say().behind("").into(),
                say().behind("-1").into(),
                say().behind("01").into(),
                say().behind("+2").into(),
                say().behind("99999999999999999999999").into(),
            ],
        ),
        Script::new(
            "names as they are spelled, the first of two",
            vec![
                say().header("nats-msg-id", "a").into(),
                say().header("NATS-MSG-ID", "a").into(),
                say().id("b").id("a").into(),
                say().id("a").id("c").into(),
                say().behind(2).behind(9).into(),
                say().behind(9).behind(2).into(),
            ],
        ),
        Script::new(
            "another stream, too large",
            vec![
                say().to("OTHER").into(),
                say().to("OTHER").id("a").behind(9).into(),
                say().id("a").into(),
                say().to("OTHER").id("a").into(),
                say().payload(&big).into(),
                say().payload(&big).behind(9).into(),
                say().payload(&big).id("a").into(),
                say().payload(&big).to("OTHER").into(),
            ],
        ),
        Script::new(
            "a pipeline",
            vec![
                (0..50).map(|last| say().behind(last)).collect::<Vec<_>>().into(),
                vec![say().behind(50), say().behind(50), say().behind(51), say().behind(53)].into(),
            ],
        ),
        Script::new(
            "a batch is stored whole",
            vec![
                say().batch("x", 1).behind(0).id("a").into(),
                say().batch("x", 2).id("b").into(),
                say().batch("x", 3).id("c").commit().into(),
                say().id("b").into(),
                say().batch("x", 1).commit().into(),
            ],
        ),
        Script::new(
            "or not at all: 10201",
            vec![
                say().id("a").into(),
                say().batch("x", 1).id("b").into(),
                say().batch("x", 2).id("a").commit().into(),
                say().batch("y", 1).id("c").into(),
                say().batch("y", 2).id("c").commit().into(),
                say().batch("z", 1).id("a").behind(0).into(),
                say().batch("z", 2).commit().into(),
                say().id("b").into(),
            ],
        ),
        Script::new(
            "or not at all: 10071 and 10164",
            vec![
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
            ],
        ),
        Script::new(
            "gaps and ids in use: 10176",
            vec![
                say().batch("x", 2).into(),
                say().batch("x", 1).into(),
                say().batch("x", 3).into(),
                say().batch("x", 2).commit().into(),
                say().batch("y", 1).into(),
                say().batch("y", 1).into(),
                say().batch("y", 2).commit().into(),
            ],
        ),
        Script::new(
            "batch headers that are wrong",
            vec![
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
            ],
        ),
        Script::new(
            "a thousand and one",
            vec![
                many("x", 1, 999),
                say().batch("x", 1000).commit().into(),
                many("y", 1, 1000),
                say().batch("y", 1001).into(),
                say().batch("y", 1002).commit().into(),
                say().batch("y", 1).commit().into(),
            ],
        ),
        Script::new(
            "fifty are open",
            vec![
                (0..50).map(|id| say().batch(&id.to_string(), 1)).collect::<Vec<_>>().into(),
                say().batch("more", 1).into(),
                say().batch("more", 1).commit().into(),
                say().batch("7", 2).commit().into(),
                say().batch("one", 1).commit().into(),
                say().batch("more", 1).into(),
                say().batch("still more", 1).into(),
            ],
        ),
        Script::new(
            "batches are off: 10174",
            vec![
                say().batch("x", 1).into(),
                say().batch("x", 1).commit().into(),
                say().header("Nats-Batch-Id", "x").into(),
                say().header("Nats-Batch-Commit", "1").into(),
            ],
        )
        .without_batches(),
    ]
}
