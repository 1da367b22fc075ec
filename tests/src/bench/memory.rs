//! The most memory that a process needs to publish a long journal.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use cim_keys::nats::role;
use cim_keys::nats::target::Target;
use cim_keys::pump::{End, Pump};
use cim_keys_core::roles::PipelineRole;

use super::append::{Journal, make_streams, serve};
use super::registry;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Events published.
    pub events: usize,
    /// Bytes of memory that the process had at most (its high-water mark).
    pub peak: u64,
}

/// Lets a process of its own, this program's `--drain`, publish a journal to a server.
///
/// # Panics
/// When anything fails, or the system does not tell what a process needs.
pub fn measure(journal: &Journal) -> Outcome {
    let (folder, host) = journal.copy();
    let server = serve(&host, folder.path(), true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(make_streams(&host, &Target::open(&server.url())));
    drop(host);
    let mut child = Process::new(std::env::current_exe().expect("this program"))
        .arg("--drain")
        .arg(folder.path())
        .arg(server.url())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program once more");
    let mut told = String::new();
    child.stdout.take().expect("its output").read_to_string(&mut told).expect("its output");
    assert!(child.wait().expect("its end").success(), "{told}");
    let (events, peak) = told.trim().split_once(' ').expect("two numbers");
    Outcome { events: events.parse().expect("a number"), peak: peak.parse().expect("a number") }
}

/// Publishes the journal in a folder, and says how many events that were and how much memory it took at most.
///
/// # Panics
/// When anything fails.
#[must_use]
pub fn drain(folder: &Path, url: &str) -> Outcome {
    let host = registry::open(folder);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let servers = Target::open(url);
    let target = role::target(&host, PipelineRole::Host, &servers).expect("a user of the host's role");
    let mut pump = Pump::new(&host, target);
    let end = runtime
        .block_on(pump.drain(Duration::from_secs(60), std::future::pending(), |_| {}))
        .expect("a store that works");
    assert_eq!(end, End::Drained);
    let events = usize::try_from(pump.summary().published).expect("a number");
    Outcome { events, peak: peak().expect("a system that tells what a process needs") }
}

pub(super) fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
