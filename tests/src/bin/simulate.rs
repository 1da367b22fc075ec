//! `simulate --seeds A..B [--bug NAME] [--without FAULT,…] [--trace]`: plays every seed of the range. One line where all
//! hold; otherwise the trace of the lowest seed that fails, as small as it can be made, and a non-zero exit.

use cim_keys_core::sync::Bug;
use cim_keys_tests::simulator::{Fault, Outcome, Scenario, Summary, run, run_range, shrink};
use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
usage: simulate --seeds A..B | --seeds N  [--bug NAME] [--without FAULT,...] [--trace]
  --seeds    the range to play, B left out; one number plays that seed alone
  --bug      plants a mistake; without one that exists, all are named
  --without  one seed alone: leaves kinds of trouble out
  --trace    one seed alone: prints its trace also where all holds";

struct Arguments {
    seeds: Range<u64>,
    bug: Option<Bug>,
    without: Vec<Fault>,
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "simulate: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match play(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Nobody reads any more.
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 0..0, bug: None, without: Vec::new(), trace: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--seeds" => arguments.seeds = range(&value()?)?,
            "--bug" => {
                let name = value()?;
                let bug = Bug::ALL.iter().find(|(_, known)| *known == name).map(|(bug, _)| *bug);
                arguments.bug = Some(bug.ok_or_else(|| {
                    let all: Vec<&str> = Bug::ALL.iter().map(|(_, name)| *name).collect();
                    format!("no such bug: {name}; there are {}", all.join(", "))
                })?);
            }
            "--without" => {
                for name in value()?.split(',') {
                    let fault = Fault::ALL.iter().find(|(_, known)| *known == name).map(|(fault, _)| *fault);
                    arguments.without.push(fault.ok_or(format!("no such trouble: {name}"))?);
                }
            }
            "--trace" => arguments.trace = true,
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    let alone = arguments.seeds.end.saturating_sub(arguments.seeds.start) == 1;
    if arguments.seeds.is_empty() {
        return Err(String::from("--seeds A..B is missing or empty"));
    }
    if !alone && (arguments.trace || !arguments.without.is_empty()) {
        return Err(String::from("--trace and --without want one seed alone"));
    }
    Ok(arguments)
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text:?}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed.saturating_add(1)),
    }
}

fn play(arguments: &Arguments) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let begun = Instant::now();
    let seeds = arguments.seeds.clone();
    if arguments.trace || !arguments.without.is_empty() {
        let mut scenario = Scenario { bug: arguments.bug, ..Scenario::of(seeds.start) };
        for fault in &arguments.without {
            scenario.faults.remove(fault);
        }
        let outcome = run(&scenario, true);
        show(&mut out, &outcome)?;
        return Ok(outcome.broken.is_none());
    }
    let sum = run_range(seeds.clone(), arguments.bug);
    let Some(seed) = sum.failed.first() else {
        let Summary { runs, steps, commands, messages, anomalies, held, crashes, lost, alarms, late, .. } =
            sum;
        let Summary { retried, dropped, voided, .. } = sum;
        let seconds = begun.elapsed().as_secs_f64();
        writeln!(
            out,
            "seeds {}..{}: all invariants hold in {runs} runs ({commands} commands, {messages} messages, {held} held, {retried} retried, {dropped} given up, {voided} void, {anomalies} anomalies, \
             {crashes} crashes, {late} stored in silence, {lost} lost with the power, {alarms} alarms, {steps} steps) in {seconds:.1} s",
            seeds.start, seeds.end
        )?;
        return Ok(true);
    };
    let scenario = Scenario { bug: arguments.bug, ..Scenario::of(*seed) };
    let smallest = shrink(&scenario);
    let outcome = run(&smallest, true);
    show(&mut out, &outcome)?;
    let left_out: Vec<&str> =
        scenario.faults.difference(&smallest.faults).map(|fault| fault.name()).collect();
    writeln!(out, "seed {seed} fails; left out as not needed: {}", left_out.join(","))?;
    let bug = Bug::ALL
        .iter()
        .find(|(bug, _)| Some(*bug) == arguments.bug)
        .map(|(_, name)| format!(" --bug {name}"));
    let bug = bug.unwrap_or_default();
    writeln!(
        out,
        "play it alone: simulate --seeds {seed}{bug}; unshortened: simulate --seeds {seed}{bug} --trace"
    )?;
    Ok(false)
}

fn show(out: &mut impl Write, outcome: &Outcome) -> std::io::Result<()> {
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    let faults: Vec<&str> = outcome.scenario.faults.iter().map(|fault| fault.name()).collect();
    let scenario = &outcome.scenario;
    writeln!(
        out,
        "seed {}: {} commands in {} s, latency {} ms, window {} ms, trouble: {}",
        scenario.seed,
        scenario.commands,
        scenario.calm_at / 1000,
        scenario.latency,
        scenario.window,
        faults.join(",")
    )?;
    match &outcome.broken {
        Some(broken) => writeln!(out, "BROKEN {broken}"),
        None => {
            writeln!(out, "all invariants hold (digest {:016x}, {} steps)", outcome.digest, outcome.steps)
        }
    }
}
