//! `outbox FILE journal FROM TO` writes events into a service's outbox, `outbox FILE publish URL [STEP COUNT]` publishes them; with
//! a step the process ends when it comes there. For tests of processes.

use cim_keys::crash::{Step, arm};
use cim_keys::nats::target::Target;
use cim_keys::outbox::OutboxPump;
use cim_keys::ports::JetStreamPort;
use cim_keys_tests::desk::{STUCK, block_on};
use cim_keys_tests::outbox::{Shop, event};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [file, "journal", from, to] => journal(Path::new(file), from, to),
        [file, "publish", url] => publish(Path::new(file), url),
        [file, "publish", url, step, count] => {
            armed(step, count).and_then(|()| publish(Path::new(file), url))
        }
        _ => Err("usage: outbox FILE journal FROM TO | outbox FILE publish URL [STEP COUNT]".to_owned()),
    };
    match done {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

fn armed(step: &str, count: &str) -> Result<(), String> {
    let step = Step::ALL.iter().find(|known| known.name() == step).ok_or("no such step")?;
    arm(*step, count.parse().map_err(|_| "no count")?);
    Ok(())
}

fn journal(file: &Path, from: &str, to: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let outbox = Shop::open(file);
    for number in number(from)?..number(to)? {
        outbox.publish_event(&event(number)).map_err(|error| error.to_string())?;
    }
    Ok("journalled".to_owned())
}

fn publish(file: &Path, url: &str) -> Result<String, String> {
    let target = Target { timeout: cim_keys_tests::desk::SHORT, ..Target::open(url) };
    let mut pump = OutboxPump::new(&Shop::open(file), target).map_err(|error| error.code().to_owned())?;
    let end = block_on(pump.drain(STUCK, std::future::pending(), |_| {}));
    end.map(|end| format!("{end:?}")).map_err(|error| error.to_string())
}
