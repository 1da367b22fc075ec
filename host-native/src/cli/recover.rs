//! `cim-keys sync --recover`: a stream that went back.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::sync::{lost, unconnected};
use crate::error::KeyError;
use crate::exit::nats::stuck;
use crate::files;
use crate::host::Host;
use crate::nats::target::Target;
use crate::recover::{Plan, RecoverError, join as join_stream, plan};
use std::path::PathBuf;

/// Recovers the journal, where `yes` says so. The caller holds the lock, and synchronises next.
pub(super) async fn run(host: &Host, target: &Target, yes: bool, globals: &Globals) -> Result<(), CliError> {
    let now = host.ambient().now().seconds();
    let plan = plan(host.store(), target, now).await.map_err(|error| told(error, host, target))?;
    let output = globals.output();
    let kept = plan.recovery.progress.head;
    output.say(&format!(
        "the stream agrees up to {kept}, and this journal had come to {}: to be published again: {} of its own",
        plan.head,
        counted(plan.recovery.pending.len() as u64, "command")
    ));
    for lost in &plan.recovery.lost {
        let of = |what: &str, value: Option<String>| {
            value.map_or_else(String::new, |value| format!(" {what} {value}"))
        };
        output.warn(&format!(
            "lost from the stream, and not of this host: {} {}{}{}{}",
            lost.sequence,
            printable(&lost.subject),
            of("event", lost.event_id.map(|id| id.to_string())),
            of("command", lost.command_id.map(|id| id.to_string())),
            of("by", lost.actor.as_deref().map(printable)),
        ));
    }
    if !yes {
        return Err(CliError::new(Exit::Usage, "not-confirmed", "nothing was done")
            .hint("look at what was lost first: a server restored from a backup, or another server?")
            .hint(format!("`cim-keys{} sync --recover --yes` does it", globals.again())));
    }
    if !plan.recovery.lost.is_empty() {
        let path = keep(host, &plan, globals)?;
        output.say(&format!(
            "what this host knows of it is kept in {}: whoever published it recovers on their side",
            path.display()
        ));
    }
    if !host.store().recover(plan.head, &plan.recovery).map_err(KeyError::from)? {
        return Err(CliError::new(
            Exit::Conflict,
            "journal-moved",
            "the journal was moved meanwhile: try again",
        ));
    }
    if plan.archive_diverges {
        archive(globals);
    }
    Ok(())
}

/// Takes the stream that is there for the journal's, where it is the same registry's.
pub(super) async fn join(host: &Host, target: &Target, globals: &Globals) -> Result<(), CliError> {
    let now = host.ambient().now().seconds();
    let stream = join_stream(host.store(), target, now).await.map_err(|error| told(error, host, target))?;
    globals.output().say(&format!("this registry's stream is {} made {} now", stream.name, stream.created));
    Ok(())
}

/// The messages behind the point that agrees, one a line: they stand nowhere else any more.
fn keep(host: &Host, plan: &Plan, globals: &Globals) -> Result<PathBuf, CliError> {
    let name = format!("lost-{}-{}.jsonl", plan.recovery.progress.head, host.ambient().now().seconds());
    let path = globals.data_dir()?.join(name);
    let mut text = String::new();
    for message in &plan.behind {
        text.push_str(&serde_json::to_string(message).map_err(|error| CliError::unexpected(&error))?);
        text.push('\n');
    }
    files::write_new(&path, text.as_bytes()).map_err(KeyError::from)?;
    Ok(path)
}

/// The archive kept what the stream lost, and would splice two histories. Nobody of the pipeline may delete it.
fn archive(globals: &Globals) {
    let (output, again) = (globals.output(), globals.again());
    output.warn(
        "KEYS_ARCHIVE holds what the stream has lost: it must be deleted, and made anew by `sync` on the host that keeps \
         the steward's key. What KEYS_EVENTS has forgotten is lost with it: back it up before (nats stream backup)",
    );
    output.say("on a server without accounts: nats req '$JS.API.STREAM.DELETE.KEYS_ARCHIVE' ''");
    output.say("in this registry's accounts, by a user made for it:");
    for line in [
        "key generate --owner KEYS --label janitor",
        "user create janitor --account KEYS --allow-pub '$JS.API.STREAM.DELETE.KEYS_ARCHIVE' --allow-sub '_INBOX.>' --expiry 1h --creds janitor.creds",
        "sync",
        "push",
    ] {
        output.say(&format!("  cim-keys{again} {line}"));
    }
    output.say("  nats --creds janitor.creds req '$JS.API.STREAM.DELETE.KEYS_ARCHIVE' ''");
    output.say(&format!("then: cim-keys{again} sync --join    # makes the new one, and takes it"));
}

/// The same words as where `sync` alone meets it, and what to do next.
pub(super) fn told(error: RecoverError, host: &Host, target: &Target) -> CliError {
    let (exit, hint) = match error {
        RecoverError::Key(error) => return error.into(),
        RecoverError::Link(error) => return unconnected(error, target),
        RecoverError::Streams(error) => {
            return match host.store().progress() {
                Ok(progress) => lost(error, progress.stream.as_ref()),
                Err(error) => KeyError::from(error).into(),
            };
        }
        RecoverError::Unread { reason } => return stuck(&reason),
        RecoverError::Agrees { .. } | RecoverError::Moved => (Exit::Conflict, None),
        RecoverError::Unpublished => {
            (Exit::Conflict, Some("`cim-keys sync` publishes it, to a stream that is empty or its own"))
        }
        RecoverError::Foreign => (
            Exit::Conflict,
            Some(
                "check the server's address; a stream that was brought back from a backup is taken by `cim-keys sync --join` first",
            ),
        ),
        RecoverError::Elsewhere | RecoverError::Other | RecoverError::Differs { .. } => (
            Exit::Conflict,
            Some(
                "check the server's address: only a stream that has all that this registry confirmed is taken",
            ),
        ),
        RecoverError::Shorter { same: true, .. } => (
            Exit::Conflict,
            Some("`cim-keys sync --recover` says what was lost, and publishes this host's part of it again"),
        ),
        RecoverError::Shorter { same: false, .. } => (
            Exit::Conflict,
            Some(
                "check the server's address; if it was brought back from a backup, bring a newer one back: only a stream that has all that this registry confirmed is taken",
            ),
        ),
        RecoverError::Behind { .. } => {
            (Exit::Network, Some("a server may be behind its leader, or the message was deleted: try again"))
        }
        RecoverError::Journal { .. } => (
            Exit::Verification,
            Some("`cim-keys doctor` looks at the store; a backup of the data folder helps"),
        ),
    };
    let told = CliError::new(exit, error.code(), error.to_string());
    hint.into_iter().fold(told, CliError::hint)
}
