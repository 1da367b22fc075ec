//! `cim-keys outbox`: how a service's own events stand on their way to the service's stream.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::status::span;
use crate::ambient::Ambient;
use crate::outbox::look::{self, Standing};
use cim_keys_core::time::Timestamp;
use std::path::PathBuf;

/// What is done with an outbox.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// How many events are pending, since when, what was published last, what is refused and why; nothing is changed
    Status(Args),
}

/// Flags of `outbox status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The outbox's file, as the service names it
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Status(Args { file }) = verb;
    if !file.is_file() {
        let text = format!("there is no outbox: {} does not exist", file.display());
        return Err(CliError::new(Exit::NotFound, "outbox-missing", text));
    }
    let standing = look::look(file)?;
    globals.output().data(&standing, |standing| text(standing, Ambient::system().now()))
}

fn text(standing: &Standing, now: Timestamp) -> String {
    let ago = |at: Timestamp| span(now.seconds() - at.seconds());
    let counts = &standing.counts;
    let mut lines = vec![format!("stream     {}, of {}", standing.stream, standing.namespace)];
    let mut pending = format!("pending    {}", counted(counts.pending, "event"));
    if let Some(oldest) = standing.oldest_pending {
        pending.push_str(&format!(", the oldest for {}", ago(oldest)));
    }
    if standing.in_doubt > 0 {
        pending.push_str(&format!(", {} tried and not answered yet", standing.in_doubt));
    }
    lines.push(pending);
    if !standing.publishing {
        let word = if counts.pending > 0 { "NOBODY" } else { "nobody" };
        lines.push(format!("           {word} publishes them now: the service's pump does not run"));
    }
    let mut published = format!("published  {}", counted(counts.published, "event"));
    if let Some(last) = &standing.last_published {
        published.push_str(&format!(
            ", the last at {}: {} {}, journalled {} ago",
            last.sequence,
            printable(&last.subject),
            last.id,
            ago(last.journalled)
        ));
    }
    lines.push(published);
    lines.push(format!("refused    {}", counted(counts.refused, "event")));
    for refused in &standing.refusals {
        lines.push(format!(
            "           {} {}, journalled {} ago: {}",
            printable(&refused.subject),
            refused.id,
            ago(refused.journalled),
            printable(&refused.reason)
        ));
    }
    lines.join("\n")
}
