//! Build and test orchestration: `cargo xtask up`, `cargo xtask test`. No dependencies, so that it builds at once.

mod checks;
mod page;
mod sh;
mod tools;
mod wasm;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <VERB> [ARGUMENTS]

  up [ARGS…]              build it and the page, find or install nats-server, start a private development system
                          (`cargo xtask up --help` lists ARGS; --once exits when it is ready)
  test [--full]           all checks, as CI runs them; --full takes more seeds and longer fault runs
       [--only A,B] [--list]
  simulate --seeds A..B   the sync machine against the model broker
  faults [--row A,B]      real faults before real servers, a report as a table (`--help` lists more)
  bench [--output json]   ratios against baselines of the same run
  page                    the page with its wasm, into www/dist/ (needs Node 20 or newer with npm)
  wasm                    host-wasm for browsers and Node, into target/wasm-pkg/
  install                 put the tools that `up` and `test` need into .tools/";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let outcome = match verb.as_str() {
        "up" => up(&rest),
        "test" => checks::run(&rest),
        "simulate" => binary("simulate", &rest),
        "faults" => binary("faults", &rest),
        "bench" => binary("bench", &rest),
        "wasm" if rest.is_empty() => wasm::build().map(|()| ExitCode::SUCCESS),
        "page" if rest.is_empty() => page::build().map(|()| ExitCode::SUCCESS),
        "install" if rest.is_empty() => install(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            let what = match verb.as_str() {
                "" => "a verb is missing".to_owned(),
                "install" | "wasm" | "page" => format!("{verb} takes no `{}`", rest.join(" ")),
                other => format!("`{other}` is no verb"),
            };
            eprintln!("error: {what}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Builds the page and `cim-keys` with it, sees to a nats-server, and becomes `cim-keys up`: its stdout, exit status and Ctrl-C are ours.
fn up(arguments: &[String]) -> Result<ExitCode, String> {
    let mut command = sh::built("cim-keys")?;
    command.arg("up");
    // Asking for help, or naming a server of one's own, needs no nats-server from us.
    let own =
        |a: &String| a == "--help" || a == "-h" || a == "--nats-server" || a.starts_with("--nats-server=");
    if !arguments.iter().any(own) {
        command.arg("--nats-server").arg(tools::nats_server()?);
    }
    // Last, because it takes longest: what is missing is said at once.
    page::build()?;
    sh::build(&["--package", "cim-keys", "--bin", "cim-keys", "--features", "page"])?;
    sh::become_it(command.args(arguments))
}

/// Builds a binary of cim-keys-tests with optimisation and becomes it.
fn binary(name: &str, arguments: &[String]) -> Result<ExitCode, String> {
    let mut command = sh::cargo();
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "cim-keys-tests",
        "--bin",
        name,
        "--",
    ]);
    if name == "bench" {
        page::build()?;
    }
    let with_servers = ["bench", "faults"].contains(&name);
    for (variable, path) in if with_servers { tools::test_servers()? } else { Vec::new() } {
        command.env(variable, path);
    }
    sh::become_it(command.args(arguments))
}

fn install() -> Result<ExitCode, String> {
    for (_, path) in tools::test_servers()? {
        println!("{}", path.display());
    }
    println!("{}", tools::cargo_deny()?.display());
    tools::wasm_targets()?;
    Ok(ExitCode::SUCCESS)
}
