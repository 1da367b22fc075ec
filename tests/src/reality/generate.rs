//! Scripts from a seed.

use super::Flavour;
use super::model::Model;
use super::script::{Barrier, Say, Script, Step, say};
use crate::simulator::rng::Rng;

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const BATCHES: [&str; 3] = ["x", "y", "z"];

/// The script of a seed: appends, retries, conflicts, batches, duplicates; a restart in the middle of some, where there is
/// one node. Made while the model plays it, so that most expectations are nearly right.
#[must_use]
pub fn generated(flavour: Flavour, seed: u64) -> Script {
    let mut rng = Rng::new(seed, "script");
    let mut script = Script::new(&format!("seed {seed}"), Vec::new());
    let mut model = Model::new(flavour, &script, "S");
    let mut open: [u64; BATCHES.len()] = [0; BATCHES.len()];
    let restart = (flavour != Flavour::Replicated && rng.chance(300)).then(|| rng.between(2, 8));
    for step in 0..rng.between(8, 20) {
        if Some(step) == restart {
            model.barrier(Barrier::Restart);
            script.steps.push(Step::Barrier(Barrier::Restart));
        }
        let list = match rng.below(10) {
            // A pipeline: each behind the one before it.
            0 => {
                let last = model.last();
                (0..rng.between(2, 5)).map(|place| say().behind(last + place)).collect()
            }
            1..6 => vec![plain(&mut rng, model.last())],
            _ => vec![member(&mut rng, model.last(), &mut open)],
        };
        model.say(&list);
        script.steps.push(Step::Say(list));
    }
    script
}

fn plain(rng: &mut Rng, last: u64) -> Say {
    let mut message = say();
    if rng.chance(600) {
        message = message.id(rng.pick(&IDS).copied().unwrap_or_default());
    }
    if rng.chance(600) {
        message = expectation(rng, message, last);
    }
    rare(rng, message)
}

/// A message of a batch, mostly the next one.
fn member(rng: &mut Rng, last: u64, open: &mut [u64; BATCHES.len()]) -> Say {
    let batch = usize::try_from(rng.below(BATCHES.len() as u64)).unwrap_or(0);
    let place = if rng.chance(60) { rng.below(4) } else { open[batch] + 1 };
    let mut message = say().batch(BATCHES[batch], place);
    if rng.chance(500) {
        message = message.id(rng.pick(&IDS).copied().unwrap_or_default());
    }
    if (place == 1 && rng.chance(600)) || rng.chance(60) {
        message = expectation(rng, message, last + place.saturating_sub(1));
    }
    open[batch] = place;
    if rng.chance(350) {
        message = message.commit();
        open[batch] = 0;
    } else if rng.chance(40) {
        message = message
            .header("Nats-Batch-Commit", rng.pick(&["0", "true", "", "eob"]).copied().unwrap_or_default());
        open[batch] = 0;
    }
    rare(rng, message)
}

fn expectation(rng: &mut Rng, message: Say, last: u64) -> Say {
    match rng.below(20) {
        0..13 => message.behind(last),
        13..16 => message.behind(last.saturating_sub(rng.between(1, 3))),
        16..18 => message.behind(last + rng.between(1, 2)),
        18 => message.behind(rng.pick(&["x", "-1", "007"]).copied().unwrap_or_default()),
        _ => message.behind(""),
    }
}

fn rare(rng: &mut Rng, message: Say) -> Say {
    match rng.below(50) {
        0 => message.to("OTHER"),
        1 => message.payload("x".repeat(1001)),
        2 => message.silent(),
        3 => message.header("nats-msg-id", "lower"),
        4 => message.header("Nats-Msg-Id", "second"),
        _ => message.payload(format!("{}", rng.below(1000))),
    }
}
