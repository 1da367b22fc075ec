//! What is on this machine: store, files, keys, journal.

use super::super::exit::CliError;
use super::super::globals::{Globals, shell_word};
use super::super::output::counted;
use super::super::schema::Level;
use super::super::status::{hints, span};
use super::Findings;
use crate::error::KeyError;
use crate::files::open_to_others;
use crate::host::Host;
use crate::report::{self, State};
use crate::store::Store;
use std::path::{Path, PathBuf};

/// Checks that need the store.
const STORE: [&str; 4] = ["store file", "journal messages", "kept keys", "journal"];
/// Seconds after which something that waits to be published is worth a word.
const LONG: i64 = 3600;

/// Looks at what is here; gives the host where its store can be used.
pub(super) fn look(findings: &mut Findings, globals: &Globals) -> Result<Option<Host>, CliError> {
    let data = globals.data_dir()?;
    let host = match globals.host() {
        Ok(host) => host,
        Err(error) => {
            findings.error("store", &error);
            findings.skipped(&STORE, "the store cannot be used");
            return Ok(None);
        }
    };
    findings.ok("store", host.store().path().display().to_string());
    private(findings, "data folder", &folder_files(&data), &data);
    integrity(findings, host.store());
    keys(findings, globals, &host);
    journal(findings, &host)?;
    synced(findings, &host);
    Ok(Some(host))
}

/// Files of ours in the data folder: the store with its companions, locks, an identity of its own.
fn folder_files(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data).into_iter().flatten().filter_map(Result::ok);
    let ours = |name: &str| {
        name.starts_with("store.db")
            || name == "identity.age"
            || name.ends_with(".creds")
            || name.ends_with(".tmp")
    };
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| ours(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether others may look into a folder or into one of these files.
fn private(findings: &mut Findings, check: &str, paths: &[PathBuf], folder: &Path) {
    let mut open: Vec<String> = Vec::new();
    let mut advice = Vec::new();
    for path in std::iter::once(folder).chain(paths.iter().map(PathBuf::as_path)) {
        if let Some(mode) = open_to_others(path) {
            open.push(format!("{} (mode {mode:o})", path.display()));
            let close = if path.is_dir() { "700" } else { "600" };
            advice.push(format!("chmod {close} {}", shell_word(path)));
        }
    }
    match open.as_slice() {
        [] => findings
            .ok(check, format!("{} and {} files are this user's alone", folder.display(), paths.len())),
        open => findings.fail(check, format!("others may use {}", open.join(", ")), advice.join("; ")),
    }
    let left: Vec<String> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "tmp"))
        .map(|path| path.display().to_string())
        .collect();
    if !left.is_empty() {
        findings.warn(
            check,
            format!("left over by a run that was ended: {}", left.join(", ")),
            "remove them",
        );
    }
}

fn integrity(findings: &mut Findings, store: &Store) {
    const RESTORE: &str = "restore the data folder from a copy, or begin again from the stream";
    let found = match store.integrity() {
        Ok(found) => found,
        Err(error) => {
            findings.error("store file", &KeyError::from(error).into());
            findings.skipped(&["journal messages"], "the store cannot be read");
            return;
        }
    };
    // What every other verb reads: SQLite looks at pages, not at what they mean.
    let readable = store.operators().and_then(|_| store.accounts()).and_then(|_| store.users(None));
    if let Err(error) = readable.and_then(|_| store.keys(None)) {
        findings.error("store file", &KeyError::from(error).into());
        findings.skipped(&["journal messages"], "the store cannot be read");
        return;
    }
    match found.file.first() {
        None => findings.ok("store file", "every page is as SQLite wrote it"),
        Some(first) => {
            findings.fail("store file", format!("{} faults, the first: {first}", found.file.len()), RESTORE);
        }
    }
    match found.altered.as_slice() {
        [] => findings.ok(
            "journal messages",
            format!("the messages of {} commands are those that were signed", found.commands),
        ),
        altered => {
            let ids: Vec<String> = altered.iter().take(10).map(ToString::to_string).collect();
            let text = format!(
                "{} commands have other messages than were signed: {}",
                altered.len(),
                ids.join(", ")
            );
            findings.fail("journal messages", text, RESTORE);
        }
    }
}

/// Every kept seed is opened, and wiped again.
fn keys(findings: &mut Findings, globals: &Globals, host: &Host) {
    const CHECK: &str = "kept keys";
    let store = host.store();
    let opened = store.kept_keys().and_then(|keys| Ok((keys, store.hand_outs()?)));
    let (kept, hand_outs) = match opened {
        Ok(found) => found,
        Err(error) => return findings.error(CHECK, &KeyError::from(error).into()),
    };
    let mut faults: Vec<CliError> = Vec::new();
    let count = kept.len() + hand_outs.len();
    for key in kept {
        let opened = match store.sealed_key(key) {
            Ok(Some(sealed)) => host.vault().open(&sealed).map(drop).map_err(KeyError::from),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        faults.extend(opened.err().map(CliError::from));
    }
    for hand_out in hand_outs {
        faults.extend(
            host.vault().open(&hand_out.key).err().map(|error| CliError::from(KeyError::from(error))),
        );
    }
    match faults.first() {
        _ if count == 0 => findings.ok(CHECK, "no seeds are kept here"),
        None => findings.ok(CHECK, format!("{count} sealed seeds can be opened")),
        Some(first) => {
            let text = format!("{} of {count} cannot be opened: {}", faults.len(), first.message);
            findings.fail(CHECK, text, first.hints.join("; "));
        }
    }
    // Where one is needed: a registry that was read from a stream has no seeds.
    if let Ok(identity) = globals.identity_path()
        && identity.is_file()
    {
        match open_to_others(&identity) {
            None => findings.ok("identity", format!("{} is this user's alone", identity.display())),
            Some(mode) => findings.fail(
                "identity",
                format!(
                    "{} opens every kept seed, and others may read it (mode {mode:o})",
                    identity.display()
                ),
                format!("chmod 600 {}", shell_word(&identity)),
            ),
        }
    }
}

fn journal(findings: &mut Findings, host: &Host) -> Result<(), CliError> {
    const CHECK: &str = "journal";
    let store = host.store();
    let again = findings.again.clone();
    let counts = store.counts().map_err(KeyError::from)?;
    let now = host.ambient().now();
    if let Some(words) = Level::of(store)?.words(&again) {
        findings.warn("schema", words, format!("cim-keys{again} schema show"));
    }
    let age = store.oldest_pending().map_err(KeyError::from)?.map(|at| now.seconds() - at.seconds());
    match age {
        Some(age) if age > LONG => findings.warn(
            CHECK,
            format!("{} to publish, the oldest for {}", counted(counts.pending, "command"), span(age)),
            format!("cim-keys{again} sync"),
        ),
        _ => findings.ok(CHECK, format!("{} to publish", counted(counts.pending, "command"))),
    }
    if counts.held > 0 {
        findings.warn(
            CHECK,
            format!("{} held", counted(counts.held, "command")),
            format!("cim-keys{again} status names them and says why"),
        );
    }
    if counts.hand_outs > 0 {
        findings.warn(
            CHECK,
            format!("{} creds are made and not written", counts.hand_outs),
            format!("cim-keys{again} status names them: cim-keys{again} user creds"),
        );
    }
    if counts.anomalies > 0 {
        findings.warn(
            CHECK,
            format!("{} times messages on the stream changed nothing", counts.anomalies),
            format!("cim-keys{again} anomalies"),
        );
    }
    Ok(())
}

/// What the last run left behind.
fn synced(findings: &mut Findings, host: &Host) {
    const CHECK: &str = "sync";
    let store = host.store();
    let again = findings.again.clone();
    let found = match store.report() {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return findings.error(CHECK, &KeyError::from(error).into()),
    };
    let running = report::is_running(store.path());
    let since = found.since.map_or_else(String::new, |since| format!(" since {since}"));
    let text = format!("{}{since}{}", found.state.as_str(), if running { ", running now" } else { "" });
    let reason = found.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.text));
    match found.state {
        State::Never => findings.ok(CHECK, text),
        State::Working if !running => findings.warn(
            CHECK,
            format!("it ended{since} before it was done"),
            format!("cim-keys{again} sync: nothing is lost or published twice"),
        ),
        State::Idle | State::Working => findings.ok(CHECK, text),
        State::Waiting | State::Contended | State::Blocked => {
            let head = store.progress().map_or(0, |progress| progress.head);
            let advice = match hints(head, &found).as_slice() {
                [] => format!("cim-keys{again} sync, or see below"),
                hints => hints.join("; "),
            };
            findings.warn(CHECK, format!("{text}{reason}"), advice);
        }
    }
}
