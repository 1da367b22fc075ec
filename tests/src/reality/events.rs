//! What streams live through, by scripts: time, ends of a node, trouble among three.

use super::script::{Barrier, Script, say};

/// What time does. The pauses are far from every limit.
#[must_use]
pub fn time() -> Vec<Script> {
    vec![
        Script::new(
            "ids are forgotten",
            vec![
                say().id("a").into(),
                say().id("a").into(),
                Barrier::Pause(6_000).into(),
                say().id("a").into(),
                say().id("a").into(),
            ],
        )
        .window(3_000),
        Script::new(
            "an open batch is given up",
            vec![
                say().batch("x", 1).into(),
                say().batch("y", 1).into(),
                Barrier::Pause(6_000).into(),
                say().batch("x", 2).into(),
                Barrier::Pause(7_000).into(),
                say().batch("x", 3).commit().into(),
                say().batch("y", 2).commit().into(),
            ],
        ),
    ]
}

/// What one node may live through.
#[must_use]
pub fn ends() -> Vec<Script> {
    vec![
        Script::new(
            "a restart",
            vec![
                say().id("a").behind(0).into(),
                say().batch("x", 1).behind(1).into(),
                Barrier::Restart.into(),
                say().id("a").into(),
                say().batch("x", 2).commit().into(),
                say().id("b").behind(1).into(),
            ],
        ),
        Script::new(
            "a restart after the window",
            vec![
                say().id("a").into(),
                Barrier::Pause(6_000).into(),
                say().id("b").into(),
                Barrier::Restart.into(),
                say().id("b").into(),
                say().id("a").into(),
            ],
        )
        .window(3_000),
        Script::new(
            "the tail is lost",
            vec![
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
            ],
        ),
    ]
}

/// What three nodes may live through.
#[must_use]
pub fn nodes() -> Vec<Script> {
    vec![
        Script::new(
            "on its way",
            vec![
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
            ],
        ),
        Script::new(
            "another leader",
            vec![
                say().id("a").behind(0).into(),
                say().batch("x", 1).behind(1).into(),
                Barrier::Fall.into(),
                say().id("a").behind(0).into(),
                say().batch("x", 2).commit().into(),
                say().id("b").behind(1).into(),
                Barrier::Back.into(),
                say().id("b").into(),
            ],
        ),
        Script::new(
            "committed by the next leader",
            vec![
                say().id("a").behind(0).into(),
                Barrier::Hold.into(),
                vec![say().id("late").behind(1), say().id("late").behind(1), say().behind(1)].into(),
                Barrier::Topple.into(),
                say().id("late").behind(1).into(),
                say().id("new").behind(1).into(),
                say().id("new").behind(2).into(),
                Barrier::Back.into(),
            ],
        ),
        Script::new(
            "never committed",
            vec![
                say().id("a").behind(0).into(),
                Barrier::Isolate.into(),
                vec![say().id("lost").behind(1), say().id("lost").behind(1)].into(),
                Barrier::Fall.into(),
                say().id("new").behind(1).into(),
                Barrier::Back.into(),
                say().id("lost").behind(2).into(),
            ],
        ),
    ]
}
