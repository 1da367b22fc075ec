//! `cargo xtask test`: every check, one after the other, with its time; all failures are named at the end.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::{page, sh, tools, wasm};

/// What one check found. `Passed` may say what was left out.
enum Outcome {
    Passed(String),
    Failed(String),
}

/// What the checks share.
struct Bench {
    full: bool,
    /// Variables that tell the tests where the real servers are; filled by the first check.
    servers: Vec<(&'static str, PathBuf)>,
}

/// What the checks of the whole workspace are built with: always the same, so that nothing is compiled twice.
const FEATURES: [&str; 2] = ["--features", "cim-keys-tests/page"];

type Check = fn(&mut Bench) -> Result<String, String>;

/// In this order: what fails fast first, what compiles the same things side by side.
const CHECKS: &[(&str, &str, Check)] = &[
    ("tools", "nats-server of three versions, wasm targets", install_tools),
    ("fmt", "rustfmt", |_| cargo(&["fmt", "--all", "--", "--check"])),
    ("deny", "licences, sources, bans, advisories", deny),
    ("page", "the page, built", |_| page::build().map(|()| String::new())),
    ("clippy", "clippy, no warning", clippy),
    ("doc", "rustdoc, no warning", doc),
    ("core", "core by itself", |_| cargo_test(&["--package", "cim-keys-core"])),
    ("core-wasm", "core on wasm32-wasip1", |_| {
        cargo_test(&["--package", "cim-keys-core", "--target", "wasm32-wasip1"])
    }),
    ("wasm", "host-wasm: built, and tried in plain Node", |_| {
        wasm::build()?;
        sh::run(Command::new("node").args(["--test", "host-wasm/tests/"]).current_dir(sh::root()))
            .map(|()| String::new())
    }),
    ("plain", "cim-keys as plain cargo builds it, without the page", |_| {
        cargo(&["check", "--locked", "--package", "cim-keys"])
    }),
    ("offline", "cim-keys without the feature nats", |_| {
        cargo_test(&["--package", "cim-keys", "--no-default-features"])
    }),
    ("imports", "core as wasm: imports nothing, exports everything", |bench| {
        workspace_tests(bench, &["--test", "core_exports"])
    }),
    ("workspace", "all other tests, with real servers", |bench| workspace_tests(bench, &[])),
    ("www", "the page: types and lint", |_| {
        ["check", "lint"].iter().try_for_each(|name| page::script(name, &[])).map(|()| String::new())
    }),
    ("browser", "the page in Chromium, with real servers", browser),
    ("simulate", "the sync machine against the model broker", simulate),
    ("faults", "real faults, each row on a smaller scale", faults),
];

/// Runs the checks that the arguments choose.
pub fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let mut bench = Bench { full: false, servers: Vec::new() };
    let mut only: Option<Vec<&str>> = None;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--full" => bench.full = true,
            "--list" => {
                CHECKS.iter().for_each(|(name, what, _)| println!("{name:<10} {what}"));
                return Ok(ExitCode::SUCCESS);
            }
            "--only" => only = words.next().map(|list| list.split(',').collect()),
            other => {
                eprintln!("error: test takes --full, --only A,B and --list, not `{other}`");
                return Ok(ExitCode::from(2));
            }
        }
    }
    if let Some(strange) = only.iter().flatten().find(|name| CHECKS.iter().all(|check| check.0 != **name)) {
        eprintln!("error: no check is called `{strange}`: see `cargo xtask test --list`");
        return Ok(ExitCode::from(2));
    }
    let chosen = |name: &str| only.as_ref().is_none_or(|names| name == "tools" || names.contains(&name));
    let started = Instant::now();
    let mut results = Vec::new();
    for (name, what, check) in CHECKS.iter().filter(|check| chosen(check.0)) {
        println!("\n==> {name}: {what}");
        // The header stands before what the check's own processes write to the same stream.
        let _ = std::io::stdout().flush();
        let start = Instant::now();
        let outcome = check(&mut bench).map_or_else(Outcome::Failed, Outcome::Passed);
        if let Outcome::Failed(reason) = &outcome {
            eprintln!("xtask: {name} failed: {reason}");
        }
        results.push((*name, outcome, start.elapsed()));
    }
    Ok(summary(&results, started.elapsed()))
}

fn summary(results: &[(&str, Outcome, Duration)], total: Duration) -> ExitCode {
    println!("\n==> summary");
    for (name, outcome, time) in results {
        let (word, note) = match outcome {
            Outcome::Passed(note) => ("ok", note.as_str()),
            Outcome::Failed(reason) => ("FAILED", reason.lines().next().unwrap_or_default()),
        };
        println!("{}", format!("{name:<10} {word:<6} {:>7.1} s  {note}", time.as_secs_f64()).trim_end());
    }
    let failed: Vec<&str> =
        results.iter().filter(|r| matches!(r.1, Outcome::Failed(_))).map(|result| result.0).collect();
    println!(
        "{:<10} {:<6} {:>7.1} s",
        "all",
        if failed.is_empty() { "ok" } else { "FAILED" },
        total.as_secs_f64()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

fn install_tools(bench: &mut Bench) -> Result<String, String> {
    // Both are tried: one that is missing must not hide the other.
    let targets = tools::wasm_targets();
    bench.servers = tools::test_servers()?;
    targets.map(|()| String::new())
}

fn cargo(arguments: &[&str]) -> Result<String, String> {
    sh::run(sh::cargo().args(arguments)).map(|()| String::new())
}

fn cargo_test(arguments: &[&str]) -> Result<String, String> {
    let mut command = sh::cargo();
    sh::run(command.args(["test", "--locked", "--no-fail-fast"]).args(arguments)).map(|()| String::new())
}

fn clippy(_: &mut Bench) -> Result<String, String> {
    let mut command = sh::cargo();
    command.args(["clippy", "--locked", "--keep-going", "--workspace", "--all-targets"]).args(FEATURES);
    sh::run(command.args(["--", "-D", "warnings"])).map(|()| String::new())
}

fn doc(_: &mut Bench) -> Result<String, String> {
    let mut command = sh::cargo();
    command
        .args(["doc", "--locked", "--keep-going", "--workspace", "--no-deps"])
        .args(FEATURES)
        .env("RUSTDOCFLAGS", "-D warnings");
    sh::run(&mut command).map(|()| String::new())
}

/// All packages but core, which has a check of its own; always the same set, so that nothing is compiled twice.
fn workspace_tests(bench: &mut Bench, arguments: &[&str]) -> Result<String, String> {
    let mut command = sh::cargo();
    command
        .args(["test", "--locked", "--no-fail-fast", "--workspace", "--exclude", "cim-keys-core"])
        .args(FEATURES)
        .args(arguments);
    command.envs(bench.servers.iter().map(|(variable, path)| (variable, path)));
    if bench.full {
        command.env("CIM_KEYS_TEST_FULL", "1");
    }
    sh::run(&mut command).map(|()| String::new())
}

/// Runs the binary that `workspace` built, or builds it in the same way.
fn simulate(bench: &mut Bench) -> Result<String, String> {
    build("simulate")?;
    let seeds = if bench.full { "0..20000" } else { "0..2000" };
    sh::run(sh::built("simulate")?.args(["--seeds", seeds])).map(|()| format!("seeds {seeds}"))
}

/// The same for real faults; all of them take longer than a check may (`cargo xtask faults`).
fn faults(bench: &mut Bench) -> Result<String, String> {
    build("faults")?;
    let mut command = sh::built("faults")?;
    command.envs(bench.servers.iter().map(|(variable, path)| (variable, path)));
    if !bench.full {
        command.arg("--quick");
    }
    sh::run(&mut command).map(|()| String::new())
}

/// A binary as `workspace` builds it.
fn build(name: &str) -> Result<(), String> {
    sh::build(&[&["--workspace", "--exclude", "cim-keys-core", "--bin", name], &FEATURES[..]].concat())
}

/// The page's own tests, with the binary that has the page.
fn browser(bench: &mut Bench) -> Result<String, String> {
    let chromium = page::chromium()?;
    build("cim-keys")?;
    build("converse")?;
    build("stage")?;
    let mut variables = bench.servers.clone();
    variables.push(("CONVERSE_BIN", sh::built("converse")?.get_program().into()));
    variables.push(("STAGE_BIN", sh::built("stage")?.get_program().into()));
    variables.push(("CIM_KEYS_BIN", sh::built("cim-keys")?.get_program().into()));
    variables.push(("CHROMIUM", chromium));
    page::script("test:e2e", &variables).map(|()| String::new())
}

/// Licences, sources and bans always; advisories only where their database can be fetched.
fn deny(_: &mut Bench) -> Result<String, String> {
    let program = tools::cargo_deny()?;
    // This release knows Unicode-3.0 only by its older name, and refuses names it does not know.
    let rules =
        std::fs::read_to_string(sh::root().join("deny.toml")).map_err(|e| format!("deny.toml: {e}"))?;
    let config = program.with_file_name("deny.toml");
    std::fs::write(&config, rules.replace("Unicode-3.0", "Unicode-DFS-2016"))
        .map_err(|error| format!("{}: {error}", config.display()))?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(sh::root()).env("REAL_CARGO", sh::cargo_path());
        command.env("CARGO", sh::root().join("xtask/src/metadata.py"));
        sh::output(
            command
                .args(["--log-level", "error", "check", "--hide-inclusion-graph", "--config"])
                .arg(&config)
                .args(what),
        )
    };
    let (ok, text) = check(&["bans", "licenses", "sources"])?;
    print!("{}", if ok { text.lines().last().unwrap_or_default() } else { &text });
    println!();
    if !ok {
        return Err("cargo-deny found what deny.toml forbids".to_owned());
    }
    let (ok, text) = check(&["advisories"])?;
    if ok {
        return Ok(String::new());
    }
    // Only a found advisory is a failure; a database that cannot be had, or that this release cannot read, is not.
    if text.contains("advisories FAILED") {
        println!("{text}");
        return Err("cargo-deny found advisories".to_owned());
    }
    let reason = text.lines().find(|line| line.contains("[ERROR]")).unwrap_or_default();
    println!("advisories left out: {}", reason.split("[ERROR]").last().unwrap_or_default().trim());
    Ok("advisories left out: their database could not be used".to_owned())
}
