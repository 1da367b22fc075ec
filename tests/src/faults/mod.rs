//! Real faults, a row for each kind: what it does to real servers, processes and files, and what must hold afterwards.
//!
//! A row fails by panicking, as a test does. What holds is judged by `judge`, which reads the stream and the journals'
//! files by itself and believes no program.

mod canary;
mod disk;
mod invariant;
mod journal;
mod judge;
mod rows;
mod scene;

mod consumers;
mod damage;
mod denied;
mod entropy;
mod entry;
mod foreign;
mod journals;
mod kills;
mod projections;
mod servers;
mod wires;
mod worker;
mod writers;

pub use canary::{Canaries, files};
pub use invariant::Invariant;
pub use rows::{ROWS, Row};
pub use scene::{head, is_event, meanwhile, more};
pub use worker::work;

use crate::simulator::Rng;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of a row is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Full,
    /// The same on a smaller scale.
    Quick,
}

/// Why a row, or a part of it, cannot be played here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRun(pub String);

/// A row at work: how often it shall happen, and what it has to tell.
#[derive(Debug)]
pub struct Run {
    /// How often.
    pub tries: usize,
    extent: Extent,
    rng: Rng,
    done: usize,
    did: Vec<String>,
    checked: BTreeSet<Invariant>,
}

impl Run {
    /// Whether this is the smaller scale.
    pub fn is_quick(&self) -> bool {
        self.extent == Extent::Quick
    }

    /// Says what was done, with figures.
    pub fn did(&mut self, what: impl Into<String>) {
        self.did.push(what.into());
    }

    /// Does something of which the row tells by itself.
    fn quietly<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let told = self.did.len();
        let outcome = work(self);
        self.did.truncate(told);
        outcome
    }

    /// So many of the tries happened.
    pub fn happened(&mut self, tries: usize) {
        self.done += tries;
    }

    /// These invariants were looked at, and hold.
    pub fn holds(&mut self, invariants: &[Invariant]) {
        self.checked.extend(invariants);
    }

    /// At least `from`, at most `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.rng.between(from, to)
    }

    /// The fault is over: does what must be done within a minute, and gives what came of it.
    ///
    /// # Panics
    /// When it takes longer.
    pub fn healed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "I9: drained {took:?} after the fault was over");
        self.holds(&[Invariant::I9]);
        outcome
    }

    /// Something that must not happen without end happened so often.
    ///
    /// # Panics
    /// When that is more than `limit`, or this process has grown beyond what a host may need.
    pub fn bounded(&mut self, what: &str, found: usize, limit: usize) {
        assert!(found <= limit, "I8: {what}: {found} times, more than {limit}");
        let peak = peak_memory();
        assert!(peak.is_none_or(|kilobytes| kilobytes < 400_000), "I8: {peak:?} kB of memory");
        self.did(format!("{what}: {found} of at most {limit}"));
        self.holds(&[Invariant::I8]);
    }
}

/// The most memory that this process had, in kilobytes, where the system says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was looked at holds.
    Held,
    /// Something does not.
    Failed(String),
    /// It could not be played here.
    NotRun(String),
}

/// What a row has to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which row.
    pub row: String,
    /// The fault.
    pub fault: String,
    /// How often it happened.
    pub tries: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// What it did.
    pub did: Vec<String>,
    /// The invariants that were looked at.
    pub checked: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What its random choices came from.
    pub seed: u64,
}

impl Report {
    /// As an object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (result, why) = match &self.verdict {
            Verdict::Held => ("held", None),
            Verdict::Failed(why) => ("failed", Some(why)),
            Verdict::NotRun(why) => ("not run", Some(why)),
        };
        json!({
            "row": self.row, "fault": self.fault, "tries": self.tries, "result": result, "why": why, "did": self.did,
            "checked": self.checked, "seconds": self.seconds, "seed": self.seed,
        })
    }

    /// Back from an object.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Report> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let list = |name: &str| -> Option<Vec<String>> {
            value[name].as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
        };
        let why = text("why").unwrap_or_default();
        Some(Report {
            row: text("row")?,
            fault: text("fault")?,
            tries: value["tries"].as_u64()?,
            verdict: match value["result"].as_str()? {
                "held" => Verdict::Held,
                "failed" => Verdict::Failed(why),
                "not run" => Verdict::NotRun(why),
                _ => return None,
            },
            did: list("did")?,
            checked: list("checked")?,
            seconds: value["seconds"].as_f64()?,
            seed: value["seed"].as_u64()?,
        })
    }
}

/// What the first panic said, and where: threads of a row panic for it.
static SAID: Mutex<Option<String>> = Mutex::new(None);

fn said() -> Option<String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn note(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let words = payload.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    SAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| format!("{words}{place}"));
}

/// Plays a row. One at a time in a process: what panics says is kept in one place.
#[must_use]
pub fn play(row: &Row, extent: Extent, seed: u64) -> Report {
    let begun = Instant::now();
    let mut run = Run {
        tries: if extent == Extent::Full { row.full } else { row.quick },
        extent,
        rng: Rng::new(seed, row.number),
        done: 0,
        did: Vec::new(),
        checked: BTreeSet::new(),
    };
    let _ = said();
    let before = take_hook();
    set_hook(Box::new(move |info| {
        note(info);
        before(info);
    }));
    let outcome = catch_unwind(AssertUnwindSafe(|| (row.play)(&mut run)));
    drop(take_hook());
    let verdict = match outcome {
        Ok(Ok(())) if run.checked.is_empty() => Verdict::Failed("it looked at nothing".to_owned()),
        Ok(Ok(())) if run.done < run.tries => {
            Verdict::Failed(format!("it happened {} times only, not {}", run.done, run.tries))
        }
        Ok(Ok(())) => Verdict::Held,
        Ok(Err(NotRun(why))) => Verdict::NotRun(why),
        Err(_) => Verdict::Failed(said().unwrap_or_else(|| "a panic".to_owned())),
    };
    Report {
        row: row.number.to_owned(),
        fault: row.fault.to_owned(),
        tries: run.done as u64,
        verdict,
        did: run.did,
        checked: run.checked.iter().map(ToString::to_string).collect(),
        seconds: begun.elapsed().as_secs_f64(),
        seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(play: fn(&mut Run) -> Result<(), NotRun>) -> Report {
        super::play(
            &Row { number: "0", fault: "none", full: 2, quick: 1, timed: false, play },
            Extent::Full,
            7,
        )
    }

    #[test]
    fn a_row_that_panics_or_looks_at_nothing_or_does_less_has_failed() {
        let whole = report(|run| {
            run.happened(2);
            run.holds(&[Invariant::I2]);
            Ok(())
        });
        assert_eq!((&whole.verdict, whole.checked.as_slice()), (&Verdict::Held, &["I2".to_owned()][..]));
        assert_eq!(Report::from_json(&whole.to_json()).as_ref(), Some(&whole));
        let less = report(|run| {
            run.happened(1);
            run.holds(&[Invariant::I2]);
            Ok(())
        });
        assert_eq!(less.verdict, Verdict::Failed("it happened 1 times only, not 2".into()));
        let blind = report(|run| {
            run.happened(2);
            Ok(())
        });
        assert_eq!(blind.verdict, Verdict::Failed("it looked at nothing".into()));
        let absent = report(|_| Err(NotRun("no disk".into())));
        assert_eq!(absent.verdict, Verdict::NotRun("no disk".into()));
        assert_eq!(Report::from_json(&absent.to_json()).as_ref(), Some(&absent));
        let panicking = report(|_| {
            std::thread::scope(|scope| scope.spawn(|| panic!("of a thread")).join()).unwrap();
            Ok(())
        });
        assert!(matches!(&panicking.verdict, Verdict::Failed(why) if why.starts_with("of a thread (")));
    }
}
