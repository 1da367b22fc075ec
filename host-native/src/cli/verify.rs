//! `cim-keys verify`.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{Output, counted, plain, table};
use crate::error::KeyError;
use crate::store::Store;
use crate::verify::{Found, Walk, kept};
use cim_keys_core::verify::Walked;
use serde::Serialize;

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 where nothing is wrong that `anomalies` does not list already, else 8."
)]
pub(super) struct Args {
    /// Read the stream itself, from its server, instead of what this host kept of it; the archive where the stream forgot
    #[cfg(feature = "nats")]
    #[arg(long)]
    stream: bool,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    connection: super::connection::Connection,
}

#[derive(Serialize)]
struct Verified {
    /// `store` or `server`.
    source: &'static str,
    #[serde(flatten)]
    walked: Walked,
    /// Whether the store's entities were compared with what the stream makes.
    compared: bool,
    /// Findings that the store does not tell of.
    new: usize,
    /// Findings that `anomalies` lists.
    known: usize,
    findings: Vec<Found>,
}

/// Findings, listed at the end or written one a line as they come.
struct Findings {
    output: Output,
    list: Vec<Found>,
    new: usize,
    known: usize,
    failed: Option<CliError>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    let mut findings = Findings { output, list: Vec::new(), new: 0, known: 0, failed: None };
    #[cfg(feature = "nats")]
    let (source, walked, compared) = if args.stream || args.connection.is_named() {
        let summary = on_server(args, globals, &mut findings)?;
        ("server", summary.walked, summary.compared)
    } else {
        let (walked, compared) = in_store(&globals.store()?, &mut findings)?;
        ("store", walked, compared)
    };
    #[cfg(not(feature = "nats"))]
    let (source, walked, compared) = {
        let Args {} = args;
        let (walked, compared) = in_store(&globals.store()?, &mut findings)?;
        ("store", walked, compared)
    };
    let Findings { list, new, known, failed, .. } = findings;
    if let Some(error) = failed {
        return Err(error);
    }
    let verified = Verified { source, walked, compared, new, known, findings: list };
    if output.is_lines() {
        // The findings were written as they came.
        output.row(&Verified { findings: Vec::new(), ..verified })?;
    } else {
        output.data(&verified, text)?;
    }
    if let Some(level) = walked.stopped_at_level {
        let text = format!(
            "at {} the stream raises its schema to {level}, which is not known here: what follows was not verified",
            walked.head
        );
        return Err(CliError::new(Exit::Conflict, super::exit::NEWER, text).hint(super::exit::UPGRADE));
    }
    match new {
        0 => Ok(()),
        _ => Err(CliError::new(Exit::Verification, "not-verified", format!("{} that the store does not tell of", counted(new as u64, "finding")))
            .hint("`cim-keys log --after SEQ -n 1 --payload --output json` shows a message; entities that differ are made anew by a clone into another folder")),
    }
}

/// Along what the store kept.
fn in_store(store: &Store, findings: &mut Findings) -> Result<(Walked, bool), CliError> {
    let mut walk = Walk::new(store)?;
    loop {
        let head = store.progress().map_err(KeyError::from)?.head;
        let walked = walk.walked();
        draw(findings.output, walked.head, head);
        let messages = kept(store, walked.head, head)?;
        let ended = messages.is_empty() || walked.stopped_at_level.is_some();
        if ended && (walked.head < head || walked.stopped_at_level.is_some()) {
            // The end of the trail is missing, or not to be read: nothing can be compared.
            findings.take(walk.finish(head));
            clear(findings.output);
            return Ok((walked, false));
        }
        if ended {
            // Another process may have gone on meanwhile.
            if let Some(found) = walk.compare()? {
                findings.take(found);
                findings.take(walk.finish(head));
                clear(findings.output);
                return Ok((walked, true));
            }
            continue;
        }
        findings.take(walk.take(messages)?);
    }
}

#[cfg(feature = "nats")]
fn on_server(
    args: &Args,
    globals: &Globals,
    findings: &mut Findings,
) -> Result<crate::verify::server::Summary, CliError> {
    use crate::verify::server::walk;
    let host = globals.host()?;
    let target = args.connection.target(globals, &host)?;
    let now = host.ambient().now().seconds();
    let output = findings.output;
    let walking =
        walk(host.store(), &target, now, |found| findings.take(found), |at, end| draw(output, at, end));
    let done = super::connection::block_on(walking)?;
    clear(output);
    done.map_err(|error| super::recover::told(error, &host, &target))
}

impl Findings {
    fn take(&mut self, found: Vec<Found>) {
        for found in found {
            if found.known {
                self.known += 1;
            } else {
                self.new += 1;
            }
            if !self.output.is_lines() {
                self.list.push(found);
            } else if let Err(error) = self.output.row(&found) {
                self.failed.get_or_insert(error);
            }
        }
    }
}

fn text(verified: &Verified) -> String {
    let mut text = String::new();
    if !verified.findings.is_empty() {
        let rows = verified.findings.iter().map(|found| {
            let finding = &found.finding;
            let place = match (finding.first, finding.last) {
                (0, _) => "-".to_owned(),
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            };
            let known = if found.known { "known" } else { "NEW" };
            vec![place, finding.code.clone(), known.to_owned(), plain(&finding.text)]
        });
        text = table(&["seq", "code", "state", "what is wrong"], rows.collect());
    }
    let Walked { head, messages, commands, events, .. } = verified.walked;
    let what = if verified.source == "server" { "the stream" } else { "the trail kept here" };
    text.push_str(&format!(
        "verified   {what} up to {head}: {}, {} with {}\n",
        counted(messages, "message"),
        counted(commands, "command"),
        counted(events, "event")
    ));
    let entities = if verified.compared {
        "those of the store were compared with what the stream makes"
    } else {
        "NOT COMPARED: store and stream have not come equally far"
    };
    text.push_str(&format!("entities   {entities}\n"));
    text.push_str(&match (verified.new, verified.known) {
        (0, 0) => "nothing is wrong\n".to_owned(),
        (0, known) => format!(
            "nothing new is wrong; known: {} (`cim-keys anomalies`)\n",
            counted(known as u64, "anomaly").replace("anomalys", "anomalies")
        ),
        (new, known) => format!("NEW: {new}; known already: {known}\n"),
    });
    text
}

/// On a terminal: how far it has come.
fn draw(output: Output, at: u64, end: u64) {
    use std::io::{IsTerminal as _, Write as _};
    let mut stderr = std::io::stderr();
    if !output.is_json() && stderr.is_terminal() && end > u64::from(crate::verify::PORTION) {
        let _ = write!(stderr, "\r\x1b[K{at} of {end} messages verified").and_then(|()| stderr.flush());
    }
}

fn clear(output: Output) {
    use std::io::{IsTerminal as _, Write as _};
    let mut stderr = std::io::stderr();
    if !output.is_json() && stderr.is_terminal() {
        let _ = stderr.write_all(b"\r\x1b[K").and_then(|()| stderr.flush());
    }
}
