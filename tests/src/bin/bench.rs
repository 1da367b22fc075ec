//! `bench [--output text|json] [--events N] [--rounds N] [--users N] [--only PART,...]`: ratios against baselines of the same run. Progress goes to a terminal alone.

use cim_keys_tests::bench::{self, PARTS, Plan};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

const USAGE: &str = "\
usage: bench [--output text|json] [--events N] [--rounds N] [--users N] [--only PART,...]
  --output  text (default), or one JSON object on one line: `ratios` by name, `raw` figures beside
  --events  how many events a round of appending has; 100000 where nothing is said. Each is committed by itself first
  --rounds  rounds of appending; 3 where nothing is said
  --only    parts: mint, mint-wasm, page, commit, append, append-sync-always, latency, memory, lookup (these two only where they are named)
  --users   users of the registry that `lookup` looks into; 1000000 where nothing is said";

struct Arguments {
    json: bool,
    plan: Plan,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder, url] = &words[..]
        && word == "--drain"
    {
        let outcome = bench::memory::drain(folder.as_ref(), url);
        return print(&format!("{} {}", outcome.events, outcome.peak));
    }
    if let [word, folder, name, at @ ..] = &words[..]
        && word == "--show"
    {
        let (ended, memory) = bench::lookup::show(folder, name, at.first().map(String::as_str));
        let _ = writeln!(std::io::stderr(), "{memory}");
        return ended;
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return print(USAGE),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut talk = std::io::stderr();
    let terminal = talk.is_terminal();
    let report = bench::run(&arguments.plan, |what| {
        if terminal {
            let _ = write!(talk, "\r\x1b[K{what}");
        }
    });
    if terminal {
        let _ = write!(talk, "\r\x1b[K");
    }
    print(&if arguments.json { report.to_json().to_string() } else { report.to_string() })
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { json: false, plan: Plan::default() };
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || inline.clone().or_else(|| words.next()).ok_or(format!("{name} wants a value"));
        match name {
            "--help" | "-h" => return Ok(None),
            "--output" => match value()?.as_str() {
                "json" => arguments.json = true,
                "text" => arguments.json = false,
                other => return Err(format!("--output is text or json, not `{other}`")),
            },
            "--events" => {
                let text = value()?;
                let events = text.parse().ok().filter(|events| *events > 0);
                arguments.plan.events = events.ok_or(format!("--events wants a number, not `{text}`"))?;
            }
            "--users" => {
                let text = value()?;
                let users = text.parse().ok().filter(|users| *users > 0);
                arguments.plan.users = users.ok_or(format!("--users wants a number, not `{text}`"))?;
            }
            "--rounds" => {
                let text = value()?;
                let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
                arguments.plan.append_rounds =
                    rounds.ok_or(format!("--rounds wants a number, not `{text}`"))?;
            }
            "--only" => {
                arguments.plan.only = value()?.split(',').map(str::to_owned).collect();
                if let Some(odd) = arguments.plan.only.iter().find(|part| !PARTS.contains(&part.as_str())) {
                    return Err(format!("`{odd}` is no part: {}", PARTS.join(", ")));
                }
            }
            other => return Err(format!("`{other}` is no option")),
        }
    }
    Ok(Some(arguments))
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more.
        Err(_) => ExitCode::FAILURE,
    }
}
