//! `cim-keys held`: commands that cannot be published as they were decided.

use super::entities::{Done, EventLine, HeldView, event_line};
use super::exit::CliError;
use super::globals::Globals;
use super::output::{printable, table};
use super::user;
use crate::error::KeyError;
use crate::host::{Host, Retried};
use crate::keyring::KeyringError;
use crate::store::Held;
use cim_keys_core::command::Command;
use cim_keys_core::context::Context;
use cim_keys_core::envelope;
use cim_keys_core::nkey::{Kind, PublicKey};
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;

/// Verbs of `held`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List what is held, and why
    List,
    /// Show one held command: its events, who has it, what giving it up would do
    Show(Show),
    /// Decide it anew on what the registry is now: same id and keys, next attempt; `sync` publishes it
    Retry(Retry),
    /// Give it up. Where anybody else may have it, its id is voided for all, and creds handed out for it are revoked
    Drop(Drop),
}

/// Flags of `held show`.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Its id, as `cim-keys held list` names it
    #[arg(value_name = "COMMAND_ID", value_parser = command_id)]
    command_id: Uuid,
}

/// Flags of `held retry`.
#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    /// Its id, as `cim-keys held list` names it
    #[arg(value_name = "COMMAND_ID", value_parser = command_id)]
    command_id: Uuid,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `held drop`.
#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    /// Its id, as `cim-keys held list` names it
    #[arg(value_name = "COMMAND_ID", value_parser = command_id)]
    command_id: Uuid,
    /// Void its id for all in any case: also one that came in a bundle, so that nobody publishes it any more
    #[arg(long)]
    void: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

fn command_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "no id of a command: `cim-keys held list` and `cim-keys log` name them")
}

#[derive(Serialize)]
struct List {
    held: Vec<HeldView>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    held: HeldView,
    context: Context,
    events: Vec<EventLine>,
    /// What `held drop` would publish: nothing where it is given up here alone.
    drop_publishes: Vec<EventLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_revokes: Option<Revoked>,
    /// The key that must sign that, where it is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_needs: Option<PublicKey>,
}

#[derive(Serialize)]
struct Again {
    /// Which attempt it is now; missing where what it revokes is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    settled: bool,
    /// Held commands that stand again behind it: pending, as they were decided.
    along: Vec<Uuid>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    done: Option<Done>,
}

#[derive(Serialize)]
struct Dropped {
    command_id: Uuid,
    dry_run: bool,
    /// The command that voids it for all, which `sync` publishes; missing where it was given up here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    voiding: Option<Done>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Revoked>,
}

/// A user whose creds or token were handed out for it.
#[derive(Serialize)]
struct Revoked {
    account: PublicKey,
    user: PublicKey,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::List => list(globals),
        Verb::Show(args) => show(args, globals),
        Verb::Retry(args) => retry(args, globals),
        Verb::Drop(args) => drop_held(args, globals),
    }
}

fn list(globals: &Globals) -> Result<(), CliError> {
    let held = globals.store()?.held().map_err(KeyError::from)?;
    let list = List { held: held.iter().map(HeldView::from).collect() };
    globals.output().list(&list, &list.held, |list| {
        let row = |held: &HeldView| {
            vec![
                held.command_id.to_string(),
                held.command.to_owned(),
                printable(&held.about),
                held.attempt.to_string(),
                held.code.clone(),
                held.creds.unwrap_or_default().to_owned(),
                printable(&held.reason),
            ]
        };
        let head = ["id", "command", "about", "attempt", "code", "creds", "reason"];
        table(&head, list.held.iter().map(row).collect())
    })
}

fn show(args: &Show, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let held = found(&host, args.command_id)?;
    let promised = host.store().promised(args.command_id).map_err(KeyError::from)?;
    let mut events = Vec::new();
    for message in promised.iter().flat_map(|promised| &promised.envelopes) {
        let opened = envelope::decode(message.subject.as_str(), &message.headers, &message.payload);
        events.push(event_line(&opened.map_err(|error| CliError::unexpected(&error))?.event));
    }
    let (dropped, drop_needs) = match host.drop_held(args.command_id, false, true) {
        Err(KeyError::Keyring(KeyringError::Missing { key })) => (None, Some(key)),
        dropped => (Some(dropped?), None),
    };
    let shown = Shown {
        held: HeldView::from(&held),
        context: held.context,
        events,
        drop_publishes: dropped
            .iter()
            .flat_map(|dropped| &dropped.voiding)
            .flat_map(|outcome| outcome.events.iter().map(event_line))
            .collect(),
        drop_revokes: dropped
            .and_then(|dropped| dropped.revoked)
            .map(|out| Revoked { account: out.account, user: out.user }),
        drop_needs,
    };
    globals.output().data(&shown, |shown| text(shown, globals))
}

fn text(shown: &Shown, globals: &Globals) -> String {
    let (held, again) = (&shown.held, globals.again());
    let id = held.command_id;
    let events = |events: &[EventLine]| {
        events.iter().map(|event| event.event_type.clone()).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![
        ("id", id.to_string()),
        ("command", format!("{} {}", held.command, held.about)),
        ("attempt", format!("{}, decided {}", held.attempt, shown.context.now)),
        ("actor", shown.context.actor.to_string()),
        ("authority", shown.context.authority.to_string()),
        ("events", events(&shown.events)),
        ("reason", format!("{}: {}", held.code, held.reason)),
    ];
    lines.extend(held.creds.map(|label| ("creds", label.to_owned())));
    if held.imported {
        lines.push(("from", "a bundle: whoever minted it may publish or retry it".to_owned()));
    } else {
        lines.push(("retry", format!("cim-keys{again} held retry {id}")));
    }
    lines.push(("give up", format!("cim-keys{again} held drop {id}")));
    let publishes = match shown.drop_publishes.as_slice() {
        [] if shown.drop_needs.is_some() => "what this host has no key for".to_owned(),
        [] => "nothing: it is given up here alone".to_owned(),
        more => events(more),
    };
    lines.push(("publishes", publishes));
    lines.extend(shown.drop_needs.map(|key| ("needs", format!("the seed of {key}, which is not here"))));
    lines.extend(
        shown.drop_revokes.as_ref().map(|out| ("revokes", format!("{} of {}", out.user, out.account))),
    );
    lines.iter().map(|(name, value)| format!("{name:<10} {}\n", printable(value))).collect()
}

fn found(host: &Host, command_id: Uuid) -> Result<Held, CliError> {
    let held = host.store().held().map_err(KeyError::from)?;
    if let Some(held) = held.into_iter().find(|held| held.command_id == command_id) {
        return Ok(held);
    }
    let promised = host.store().promised(command_id).map_err(KeyError::from)?;
    Err(match promised {
        Some(promised) => KeyError::NotHeld { id: command_id, state: promised.state }.into(),
        None => KeyError::NoCommand { id: command_id }.into(),
    })
}

fn retry(args: &Retry, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let creds = HeldView::from(&found(&host, args.command_id)?).creds;
    let again = match host.retry(args.command_id, args.dry_run)? {
        Retried::Decided { outcome, attempt, along } => {
            let done = Some(Done::new(&outcome, &host)?);
            Again { attempt: Some(attempt), settled: false, along, done }
        }
        Retried::Settled => Again { attempt: None, settled: true, along: Vec::new(), done: None },
    };
    globals.output().data(&again, |again| {
        let mut lines = vec![match again.attempt {
            Some(attempt) => format!("command {} decided anew, attempt {attempt}", args.command_id),
            None => format!("command {} settled: what it revokes is revoked", args.command_id),
        }];
        lines.extend(
            again.along.iter().map(|id| format!("command {id} stands again: pending as it was decided")),
        );
        lines.join("\n")
    })?;
    match &again.done {
        Some(done) => {
            user::tell(done, globals);
            if creds.is_some() {
                globals.output().warn(
                    "creds handed out for an earlier attempt carry that attempt's token: they are superseded",
                );
            }
        }
        None if args.dry_run => globals.output().say("dry run: nothing was written"),
        None => globals.output().say("what is to be published goes out with the next sync"),
    }
    Ok(())
}

/// What no key of this host's own can sign: the way over the host that can.
fn over_the_founder(host: &Host, command_id: Uuid, error: KeyError) -> CliError {
    let needs_operator = matches!(
        &error,
        KeyError::Keyring(KeyringError::Missing { key }) if key.kind() == Kind::Operator
    );
    let told = CliError::from(error);
    let promised = host.store().promised(command_id).ok().flatten().filter(|_| needs_operator);
    let Some(promised) = promised else { return told };
    let (account, user, create) = match &promised.command {
        Command::CreateUser { account, .. } => match promised.context.keys.first() {
            Some(user) => (account, user, format!("`user create NAME --account {account} --key {user}`, ")),
            None => return told,
        },
        Command::GenerateCredentials { account, user, .. }
        | Command::SetPermissions { account, user, .. } => (account, user, String::new()),
        _ => return told,
    };
    told.hint(format!(
        "or have it revoked there: {create}`user revoke {user} --account {account}`, `sync`; then `sync` and `held drop {command_id}` here"
    ))
}

fn drop_held(args: &Drop, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let dropped = host
        .drop_held(args.command_id, args.void, args.dry_run)
        .map_err(|error| over_the_founder(&host, args.command_id, error))?;
    let told = Dropped {
        command_id: args.command_id,
        dry_run: args.dry_run,
        voiding: dropped.voiding.as_ref().map(|outcome| Done::new(outcome, &host)).transpose()?,
        revoked: dropped.revoked.map(|out| Revoked { account: out.account, user: out.user }),
    };
    globals.output().data(&told, |told| {
        let would = if told.dry_run { "would be " } else { "" };
        let mut lines = vec![format!("command {} {would}dropped", told.command_id)];
        if let Some(voiding) = &told.voiding {
            let types: Vec<&str> = voiding.events.iter().map(|event| event.event_type.as_str()).collect();
            lines.push(format!("{would}published: {} of command {}", types.join(", "), voiding.command_id));
        }
        if let Some(out) = &told.revoked {
            lines.push(format!("{would}revoked: user {} of account {}", out.user, out.account));
        }
        lines.join("\n")
    })?;
    match &told.voiding {
        Some(voiding) => user::tell(voiding, globals),
        None if args.dry_run => globals.output().say("dry run: nothing was written"),
        None => globals.output().say("given up on this host alone, and nothing is published for it"),
    }
    if !args.dry_run {
        globals.output().say("what is still wanted of it can be made anew here");
    }
    Ok(())
}
