//! The simulator's model of a stream against real servers: the same scripts on both, answer by answer, and what is stored
//! in the end.
//!
//! [`compare`] plays scripts on a [`Server`] and on the model that follows the rules of that server. Rules that differ
//! between servers stand in the model's own documentation; a difference that is not known there fails the comparison.

mod events;
mod generate;
mod model;
mod real;
mod rules;
mod script;

pub use events::{ends, nodes, time};
pub use generate::generated;
pub use real::Server;
pub use rules::rules;
pub use script::{Barrier, Heard, Kept, Say, Script, Step, say};

use crate::simulator::broker::Rules;
use model::Model;
use std::collections::BTreeMap;

/// Scripts that are played side by side at most, each on its own stream.
const SIDE_BY_SIDE: usize = 50;

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// 2.15.1, one replica.
    Newest,
    /// 2.15.1, three replicas on three nodes.
    Replicated,
    /// 2.12.1, one replica.
    Oldest,
}

impl Flavour {
    pub(crate) fn rules(self) -> Rules {
        match self {
            Flavour::Newest => Rules::NEWEST,
            Flavour::Replicated => Rules::REPLICATED,
            Flavour::Oldest => Rules::OLDEST,
        }
    }
}

/// Plays scripts on both. What differs, in words; nothing where all is equal.
///
/// # Panics
/// When the server does not do what it is for.
#[must_use]
pub fn compare(server: &mut Server, scripts: &[Script]) -> Vec<String> {
    let mut lots: BTreeMap<Vec<Barrier>, Vec<&Script>> = BTreeMap::new();
    for script in scripts {
        lots.entry(script.barriers()).or_default().push(script);
    }
    let mut differences = Vec::new();
    for (barriers, lot) in lots {
        // What happens to the nodes of one stream happens to all others too.
        let most = if barriers.iter().any(|barrier| barrier.is_of_nodes()) { 1 } else { SIDE_BY_SIDE };
        for part in lot.chunks(most) {
            differences.extend(side_by_side(server, &barriers, part));
        }
    }
    differences
}

/// A script on its way through both.
struct Run<'a> {
    script: &'a Script,
    model: Model,
    stream: String,
    place: usize,
    difference: Option<String>,
}

/// Scripts with the same barriers.
fn side_by_side(server: &mut Server, barriers: &[Barrier], scripts: &[&Script]) -> Vec<String> {
    let begin = |script| {
        let stream = server.next_name();
        let model = Model::new(server.judged_as(), script, &stream);
        server.create(model.config());
        Run { script, model, stream, place: 0, difference: None }
    };
    let mut runs: Vec<Run<'_>> = scripts.iter().copied().map(begin).collect();
    for barrier in barriers.iter().copied().map(Some).chain([None]) {
        for run in &mut runs {
            run.advance(server);
        }
        let Some(barrier) = barrier else { break };
        let first = runs.first().map(|run| run.stream.clone()).unwrap_or_default();
        let heard = server.barrier(barrier, &first);
        for run in &mut runs {
            let expected = run.model.barrier(barrier);
            // What was held back is of one stream: then there is one script.
            run.check(&format!("{barrier:?}"), &expected, &heard);
        }
    }
    let mut differences = Vec::new();
    for mut run in runs {
        let (expected, found) = (run.model.stored(), server.stored(&run.stream));
        if expected != found && run.difference.is_none() {
            let first = (0..).find(|place| expected.get(*place) != found.get(*place)).unwrap_or(0);
            let text = format!("stored: model {:?}, server {:?}", expected.get(first), found.get(first));
            run.difference = Some(text);
        }
        server.delete(&run.stream);
        differences.extend(run.difference.map(|text| format!("{}: {text}", run.script.name)));
    }
    differences
}

impl Run<'_> {
    fn advance(&mut self, server: &mut Server) {
        while let Some(step) = self.script.steps.get(self.place) {
            self.place += 1;
            let Step::Say(list) = step else { return };
            let expected = self.model.say(list);
            let found = server.say(&self.stream, list);
            self.check(&format!("{list:?}"), &expected, &found);
        }
    }

    fn check(&mut self, what: &str, expected: &[Heard], found: &[Heard]) {
        if expected != found && self.difference.is_none() {
            let text = format!("step {}: {what}: model {expected:?}, server {found:?}", self.place);
            self.difference = Some(text);
        }
    }
}
