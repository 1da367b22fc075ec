//! A host's process ended at once: at any moment, and at each named step. What it had said until then is what must hold.

use super::canary::files;
use super::{NotRun, Run, journal};
use crate::desk::{Desk, make_streams};
use crate::ledger::Ledger;
use crate::program::executable;
use crate::server::NatsServer;
use crate::wire::Client;
use crate::{program, wait};
use cim_keys::crash::Step;
use cim_keys::nats::target::Target;
use cim_keys_core::bundle;
use cim_keys_core::creds;
use cim_keys_core::headers::CIM_EVENT_ID;
use cim_keys_core::roles::API_PREFIX;
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// The signal of a process that ends itself.
const ABORTED: i32 = 6;

/// This program, or where a test plays the row, the one that cargo builds.
pub(super) fn worker(verb: &str, folder: &Path, url: &str) -> Command {
    let here = std::env::current_exe().expect("a program");
    let program = if here.file_stem().is_some_and(|name| name == "faults") {
        here
    } else {
        let mut build = program::cargo();
        build.args(["build", "--quiet", "--locked", "--package", "cim-keys-tests", "--bin", "faults"]);
        executable(&mut build, "faults")
    };
    let mut command = Command::new(program);
    command.args(["worker", verb, "--url", url, "--data"]).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a process had said.
#[derive(Default)]
struct Said {
    created: BTreeSet<Uuid>,
    published: BTreeSet<Uuid>,
    creds: BTreeSet<String>,
    noted: Option<String>,
}

impl Said {
    fn hear(&mut self, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // A line without its end may not be meant.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (what, which) = line.split_once(' ').unwrap_or((line, ""));
            let id = || which.parse::<Uuid>().expect("an id");
            match what {
                "created" => drop(self.created.insert(id())),
                "published" => drop(self.published.insert(id())),
                "creds" => drop(self.creds.insert(which.to_owned())),
                "noted" => self.noted = Some(format!("round {which}")),
                other => panic!("the worker says {other}"),
            }
        }
    }

    /// I1, and I7 for what it had written: looked at before anything is begun again.
    fn check(&self, folder: &Path, ledger: &Ledger) {
        let file = folder.join("store.db");
        if self.created.is_empty() && !file.exists() {
            return;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Connection::open_with_flags(&file, flags).expect("the store's file");
        let mut states =
            file.prepare("SELECT state FROM journal WHERE command_id = ?1").expect("the journal");
        for id in &self.created {
            let state: Result<String, _> = states.query_row([id.as_bytes().as_slice()], |row| row.get(0));
            let state = state.unwrap_or_else(|_| panic!("I1: {id} was reported as created and is lost"));
            assert!(["pending", "confirmed"].contains(&state.as_str()), "I1: {id} is {state}");
        }
        let stored: BTreeSet<Uuid> = ledger.messages.iter().filter_map(command_of).collect();
        for id in &self.published {
            assert!(stored.contains(id), "I1: {id} was reported as published and is not on the stream");
        }
        let waiting: i64 =
            file.query_row("SELECT count(*) FROM hand_outs", [], |row| row.get(0)).expect("the hand-outs");
        assert!(waiting <= 1, "I1: creds of one user at most are not written");
        for path in files(folder).iter().filter(|path| path.extension().is_some_and(|name| name == "creds")) {
            let text = std::fs::read_to_string(path).expect("creds");
            assert!(creds::parse(&text).is_ok(), "I7: {} is neither old nor new", path.display());
        }
        for user in &self.creds {
            let path = folder.join(format!("{user}.creds"));
            assert!(path.exists(), "I1: the creds of {user} were reported as written");
        }
        if let Some(noted) = &self.noted {
            let text = std::fs::read_to_string(folder.join("note")).expect("a note");
            let number =
                |text: &str| text.strip_prefix("round ").and_then(|number| number.parse::<u32>().ok());
            let (found, said) = (number(&text), number(noted));
            assert!(found.is_some() && found >= said, "I7: the note is {text:?}, not {noted:?} or newer");
        }
    }
}

fn command_of(message: &cim_keys_core::admission::StoredMessage) -> Option<Uuid> {
    let body: serde_json::Value = serde_json::from_slice(&message.payload).ok()?;
    body["data"]["command"]["id"].as_str()?.parse().ok()
}

pub(super) fn killed(mut child: Child) -> Output {
    child.kill().expect("it can be ended");
    child.wait_with_output().expect("its output")
}

fn drained(folder: &Path, url: &str, said: &mut Said) {
    let output = worker("drain", folder, url).output().expect("the worker runs");
    assert!(output.status.success(), "I9: {}", String::from_utf8_lossy(&output.stderr));
    said.hear(&output);
}

/// Row 1.
pub(super) fn at_any_moment(run: &mut Run) -> Result<(), NotRun> {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    let desk = Desk::founded();
    let mut client = Client::connect(server.address()).expect("a connection");
    let (mut said, mut ledger) = (Said::default(), Ledger::default());
    let mut moments: BTreeMap<&str, usize> = BTreeMap::new();
    let mut printed = Vec::new();
    for _ in 0..run.tries {
        let before = (said.created.len(), said.published.len());
        let child = worker("bulk", desk.folder(), &server.url()).spawn().expect("the worker starts");
        wait::pass(Duration::from_millis(run.between(0, 500)));
        let output = killed(child);
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        said.hear(&output);
        printed.push(String::from_utf8_lossy(&output.stdout).into_owned());
        ledger.read_on(&mut client, API_PREFIX);
        said.check(desk.folder(), &ledger);
        let moment = match (said.created.len() > before.0, said.published.len() > before.1) {
            (false, _) => "before anything was said",
            (true, false) => "when something was created",
            (true, true) => "when something was published",
        };
        *moments.entry(moment).or_default() += 1;
        run.happened(1);
    }
    run.healed(|| drained(desk.folder(), &server.url(), &mut said));
    said.created.iter().for_each(|id| desk.note(*id));
    // What was committed and not yet reported stands as well.
    journal::read(desk.store().path()).iter().for_each(|line| desk.note(line.command_id));
    ledger.read_on(&mut client, API_PREFIX);
    said.check(desk.folder(), &ledger);
    let told: Vec<String> = moments.iter().map(|(moment, count)| format!("{count} {moment}")).collect();
    run.did(format!(
        "{} processes ended with SIGKILL ({}): {} commands reported as created, {} as published, {} creds as written",
        run.tries,
        told.join(", "),
        said.created.len(),
        said.published.len(),
        said.creds.len()
    ));
    run.judge(&ledger, &BTreeSet::new(), &[&desk]);
    run.search(&[&desk], &[&server], &printed);
    Ok(())
}

/// Row 2: so many tries for all steps, three each.
pub(super) const STEPS: usize = Step::ALL.len() * 3;

/// Row 2.
pub(super) fn at_each_step(run: &mut Run) -> Result<(), NotRun> {
    let bundle = a_bundle();
    let mut reached = Vec::new();
    for step in Step::ALL {
        // A bundle is for what has to do with bundles alone.
        let from = step.name().starts_with("bundle-").then_some(bundle.0.as_path());
        let counts: Vec<u32> = if run.is_quick() {
            vec![run.between(1, 3).try_into().expect("a small number")]
        } else {
            vec![1, 2, 3]
        };
        for count in counts {
            one_step(run, *step, count, from);
            run.happened(1);
        }
        reached.push(step.name());
    }
    run.did(format!("ended at each step: {}", reached.join(", ")));
    Ok(())
}

/// A registry's first commands as a file, and the folder that it is in.
fn a_bundle() -> (PathBuf, TempDir) {
    let desk = Desk::founded();
    desk.user("alice");
    desk.user("bob");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("all.bundle");
    let bytes = bundle::encode(&desk.host().export(false).expect("something pending")).expect("a bundle");
    std::fs::write(&path, bytes).expect("a file");
    (path, folder)
}

fn one_step(run: &mut Run, step: Step, count: u32, from: Option<&Path>) {
    let server = NatsServer::plain();
    make_streams(&Target::open(&server.url()), 120);
    let folder = TempDir::new().expect("a folder");
    let (mut said, mut ledger) = (Said::default(), Ledger::default());
    let mut client = Client::connect(server.address()).expect("a connection");
    let mut command = worker("steps", folder.path(), &server.url());
    command.args(["--crash", &format!("{}:{count}", step.name())]);
    let with_bundle = |command: &mut Command| {
        if let Some(path) = from {
            command.arg("--bundle").arg(path);
        }
    };
    with_bundle(&mut command);
    let output = command.output().expect("the worker runs");
    let place = format!("{} for the {count}. time", step.name());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(ABORTED), "{place} was not reached: {:?} {words}", output.status);
    said.hear(&output);
    ledger.read_on(&mut client, API_PREFIX);
    said.check(folder.path(), &ledger);
    // Begun again, it ends what it had begun, and goes on.
    let again = run.healed(|| {
        let mut command = worker("steps", folder.path(), &server.url());
        with_bundle(&mut command);
        command.output().expect("the worker runs")
    });
    assert!(again.status.success(), "{place}: {}", String::from_utf8_lossy(&again.stderr));
    said.hear(&again);
    ledger.read_on(&mut client, API_PREFIX);
    said.check(folder.path(), &ledger);
    assert!(ledger.messages.iter().all(|message| message.headers.only(CIM_EVENT_ID).is_some()));
    let desk = Desk::of(folder);
    journal::read(desk.store().path()).iter().for_each(|line| desk.note(line.command_id));
    let done = said.created.iter().all(|id| desk.commands().contains(id));
    assert!(done, "I1: {place}");
    run.quietly(|run| {
        run.judge(&ledger, &BTreeSet::new(), &[&desk]);
        // Seeds come with no bundle.
        if from.is_none() {
            run.search(&[&desk], &[&server], &[]);
        }
    });
}
