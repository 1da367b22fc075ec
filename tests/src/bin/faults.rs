//! `faults [--row A,B] [--quick] [--list] [--output text|json] [--seed N] [--jobs N]`: plays rows of the table of real faults and
//! prints a report. A row that fails gives a non-zero exit. Several rows are played by a process each.

use cim_keys_tests::faults::{Extent, Invariant, ROWS, Report, Row, Verdict, play, work};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

const USAGE: &str = "\
usage: faults [--row A,B,...] [--quick] [--list] [--output text|json] [--seed N] [--jobs N]
  --row     these rows only; each by its number
  --quick   each row on a smaller scale: minutes, not an hour
  --list    names the rows, their counts and the invariants
  --output  text (default), or one JSON object on one line
  --seed    what random choices come from; printed with each report
  --jobs    how many rows are played at once; 2 where nothing is said";

struct Arguments {
    rows: Vec<&'static Row>,
    extent: Extent,
    list: bool,
    json: bool,
    seed: u64,
    jobs: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == "worker"
    {
        return match work(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "worker: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = match parse(words.into_iter()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return print(USAGE, true),
        Err(error) => {
            let _ = writeln!(io::stderr(), "faults: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        return print(&list(), true);
    }
    let reports = match arguments.rows.as_slice() {
        [row] => vec![play(row, arguments.extent, arguments.seed)],
        rows => play_all(rows, &arguments),
    };
    let failed = reports.iter().any(|report| matches!(report.verdict, Verdict::Failed(_)));
    let text = if arguments.json { as_json(&reports) } else { as_text(&reports) };
    print(&text, !failed)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let (rows, extent) = (ROWS.iter().collect(), Extent::Full);
    let mut arguments = Arguments { rows, extent, list: false, json: false, seed: 1, jobs: 2 };
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || inline.clone().or_else(|| words.next()).ok_or(format!("{name} wants a value"));
        let number =
            |text: String| text.parse::<u64>().map_err(|_| format!("{name} wants a number, not `{text}`"));
        match name {
            "--help" | "-h" => return Ok(None),
            "--quick" => arguments.extent = Extent::Quick,
            "--list" => arguments.list = true,
            "--row" | "--rows" => {
                let find = |number: &str| {
                    ROWS.iter().find(|row| row.number == number).ok_or(format!("no row {number}"))
                };
                arguments.rows = value()?.split(',').map(find).collect::<Result<_, _>>()?;
            }
            "--output" => {
                arguments.json = match value()?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => return Err(format!("--output is text or json, not `{other}`")),
                }
            }
            "--seed" => arguments.seed = number(value()?)?,
            "--jobs" => arguments.jobs = usize::try_from(number(value()?)?.clamp(1, 64)).unwrap_or(1),
            other => return Err(format!("`{other}` is no option")),
        }
    }
    Ok(Some(arguments))
}

fn list() -> String {
    let mut lines: Vec<String> = ROWS
        .iter()
        .map(|row| format!("{:<4} {:>5} {:>5}  {}", row.number, row.full, row.quick, row.fault))
        .collect();
    lines.insert(0, "row   full quick  fault".to_owned());
    lines.push(String::new());
    lines.extend(Invariant::ALL.iter().map(|(invariant, what)| format!("{invariant:<4} {what}")));
    lines.join("\n")
}

/// A process for each row: what one does to itself does nothing to the others. Rows that say how long something takes are
/// played when the others are over, one at a time.
fn play_all(rows: &[&'static Row], arguments: &Arguments) -> Vec<Report> {
    let begun = Instant::now();
    let (timed, others): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(_, row)| row.timed);
    let mut reports = play_some(&others, arguments.jobs, arguments, begun);
    reports.extend(play_some(&timed, 1, arguments, begun));
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn play_some(
    rows: &[(usize, &&'static Row)],
    jobs: usize,
    arguments: &Arguments,
    begun: Instant,
) -> Vec<(usize, Report)> {
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<(usize, Report)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..jobs.min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let Some((place, row)) = rows.get(next.fetch_add(1, Ordering::SeqCst)) else { return };
                    let report = play_alone(row, arguments);
                    let line = format!(
                        "{:>6.0} s  row {:<4} {:<8} {}\n",
                        begun.elapsed().as_secs_f64(),
                        row.number,
                        verdict(&report.verdict),
                        row.fault
                    );
                    let _ = io::stderr().write_all(line.as_bytes());
                    if let Ok(mut reports) = reports.lock() {
                        reports.push((*place, report));
                    }
                }
            });
        }
    });
    reports.into_inner().unwrap_or_default()
}

fn play_alone(row: &Row, arguments: &Arguments) -> Report {
    let begun = Instant::now();
    let failed = |why: String| Report {
        row: row.number.to_owned(),
        fault: row.fault.to_owned(),
        tries: 0,
        verdict: Verdict::Failed(why),
        did: Vec::new(),
        checked: Vec::new(),
        seconds: begun.elapsed().as_secs_f64(),
        seed: arguments.seed,
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(error.to_string()),
    };
    let mut command = Command::new(program);
    command.args(["--row", row.number, "--output", "json", "--seed", &arguments.seed.to_string()]);
    if arguments.extent == Extent::Quick {
        command.arg("--quick");
    }
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return failed(error.to_string()),
    };
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let report = said["rows"].get(0).and_then(Report::from_json);
    if !output.status.success() {
        let _ = io::stderr().write_all(&output.stderr);
    }
    report.unwrap_or_else(|| failed(format!("its process ended with {}", output.status)))
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Failed(_) => "FAILED",
        Verdict::NotRun(_) => "not run",
    }
}

fn as_json(reports: &[Report]) -> String {
    let rows: Vec<Value> = reports.iter().map(Report::to_json).collect();
    let invariants: Vec<Value> = Invariant::ALL
        .iter()
        .map(|(invariant, what)| json!({ "invariant": invariant.to_string(), "what": what }))
        .collect();
    json!({ "rows": rows, "invariants": invariants }).to_string()
}

fn as_text(reports: &[Report]) -> String {
    let mut lines = Vec::new();
    for report in reports {
        lines.push(format!("row {}: {}", report.row, report.fault));
        lines.extend(report.did.iter().map(|what| format!("    {what}")));
        match &report.verdict {
            Verdict::Held => lines.push(format!("    checked {}", report.checked.join(" "))),
            Verdict::Failed(why) => lines.push(format!("    FAILED (seed {}): {why}", report.seed)),
            Verdict::NotRun(why) => lines.push(format!("    not run: {why}")),
        }
        lines.push(String::new());
    }
    lines.push("row   tries  result    seconds  invariants".to_owned());
    for report in reports {
        lines.push(format!(
            "{:<4} {:>6}  {:<8} {:>8.1}  {}",
            report.row,
            report.tries,
            verdict(&report.verdict),
            report.seconds,
            report.checked.join(" ")
        ));
    }
    lines.join("\n")
}

fn print(text: &str, good: bool) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) if good => ExitCode::SUCCESS,
        // Failed, or nobody reads any more.
        _ => ExitCode::FAILURE,
    }
}
