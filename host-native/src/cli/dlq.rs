//! `cim-keys dlq`: messages that a durable consumer gave up, and what is to become of them.

use super::connection::{Connection, block_on};
use super::dlq_shown::{self, Line, Shown};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, plain, table};
use crate::consume::{LetterBox, Said};
use crate::error::KeyError;
use crate::nats::link::Link;
use cim_keys_core::dead::{Entry, Place, Standing, Word};
use clap::Subcommand;
use serde::Serialize;

/// How often a word is said anew where somebody else was first.
const TRIES: usize = 5;

/// Verbs of `dlq`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List those that are dead or to be tried again, and why
    List(List),
    /// Show one: why, what was said about it, and the message itself
    Show(Show),
    /// Have them tried again: the worker of their consumer takes them up
    Retry(Mark),
    /// Say that nothing is to be done about them; they stay where they are
    Drop(Mark),
}

/// Flags of `dlq list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// All of them, also those that were handled later or dropped
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Flags of `dlq show`.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Which, as `cim-keys dlq list` names it
    #[arg(value_name = "STREAM.CONSUMER.SEQ")]
    letter: Place,
    #[command(flatten)]
    connection: Connection,
}

/// Flags of `dlq retry` and `dlq drop`.
#[derive(Debug, clap::Args)]
pub(super) struct Mark {
    /// Which, as `cim-keys dlq list` names them
    #[arg(value_name = "STREAM.CONSUMER.SEQ", required = true)]
    letters: Vec<Place>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Listed {
    letters: Vec<Line>,
    /// Sequences of messages on the stream of dead letters that say nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<u64>,
    /// Those that are not listed, for they are done with.
    done: usize,
}

#[derive(Serialize)]
struct Marked {
    letters: Vec<Outcome>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Outcome {
    letter: String,
    /// Where it stands now.
    state: Standing,
    /// Whether that is new.
    changed: bool,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::List(args) => list(args, globals),
        Verb::Show(args) => show(args, globals),
        Verb::Retry(args) => mark(args, true, globals),
        Verb::Drop(args) => mark(args, false, globals),
    }
}

/// Where the dead letters of this registry are, and the way there.
async fn open(connection: &Connection, globals: &Globals) -> Result<(Link, LetterBox), CliError> {
    let host = globals.host()?;
    let target = connection.target(globals, &host)?;
    let namespace = host.store().registry_id().map_err(KeyError::from)?.namespace.clone();
    let link = Link::connect(&target, host.ambient().now().seconds()).await;
    let link = link.map_err(|error| super::sync::unconnected(error, &target))?;
    Ok((link, LetterBox::new(namespace)))
}

fn list(args: &List, globals: &Globals) -> Result<(), CliError> {
    let letters = block_on(async {
        let (link, letters) = open(&args.connection, globals).await?;
        Ok::<_, CliError>(letters.read(&link).await?)
    })??;
    let wanted = |entry: &&Entry| args.all || matches!(entry.state, Standing::Dead | Standing::Retrying);
    let listed = Listed {
        letters: letters.entries().filter(wanted).map(Line::from).collect(),
        unreadable: letters.unreadable().to_vec(),
        done: letters.entries().filter(|entry| !wanted(entry)).count(),
    };
    globals.output().list(&listed, &listed.letters, |listed| {
        let done = match listed.done {
            0 => String::new(),
            count => format!("{} handled or dropped: --all shows them\n", counted(count as u64, "letter")),
        };
        if listed.letters.is_empty() {
            return format!("none: no message is given up\n{done}");
        }
        let rows = listed.letters.iter().map(|line| {
            let times = line.delivered.to_string();
            vec![
                line.letter.clone(),
                line.state.as_str().to_owned(),
                line.code.clone(),
                times,
                line.at.clone(),
                plain(&line.reason),
            ]
        });
        table(&["letter", "state", "code", "tries", "since", "why"], rows.collect()) + &done
    })?;
    if !letters.unreadable().is_empty() {
        let count = counted(letters.unreadable().len() as u64, "message");
        globals.output().warn(&format!("{count} of {} are no dead letters", dlq_shown::STREAM));
    }
    Ok(())
}

fn show(args: &Show, globals: &Globals) -> Result<(), CliError> {
    let (entry, message) = block_on(async {
        let (link, letters) = open(&args.connection, globals).await?;
        // What servers say by themselves stands elsewhere on the stream: so all of it is read.
        let all = letters.read(&link).await?;
        let entry = all.get(&args.letter).cloned().ok_or_else(|| missing(&args.letter))?;
        let message = letters.original(&link, &args.letter).await?;
        Ok::<_, CliError>((entry, message))
    })??;
    let shown = Shown::new(&entry, message);
    globals.output().data(&shown, dlq_shown::text)
}

fn mark(args: &Mark, retry: bool, globals: &Globals) -> Result<(), CliError> {
    let actor = globals.actor()?.to_string();
    let at = globals.host()?.ambient().now();
    let word = if retry { Word::Retry { actor, at } } else { Word::Dropped { actor, at } };
    let marked = block_on(async {
        let (link, letters) = open(&args.connection, globals).await?;
        let mut outcomes = Vec::new();
        // All of them are there before anything is said about one.
        let all = letters.read(&link).await?;
        for place in &args.letters {
            all.get(place).ok_or_else(|| missing(place))?;
        }
        for place in &args.letters {
            outcomes.push(say(&link, &letters, place, &word, args.dry_run).await?);
        }
        Ok::<_, CliError>(Marked { letters: outcomes, dry_run: args.dry_run })
    })??;
    globals.output().list(&marked, &marked.letters, |marked| {
        let line = |outcome: &Outcome| {
            let word = match (outcome.changed, marked.dry_run) {
                (true, true) => "would be ",
                (true, false) => "",
                (false, _) => "unchanged: ",
            };
            format!("{} {word}{}", outcome.letter, outcome.state.as_str())
        };
        marked.letters.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    if args.dry_run {
        globals.output().say("dry run: nothing was written");
    } else if retry && marked.letters.iter().any(|outcome| outcome.changed) {
        globals
            .output()
            .say("the worker of the consumer takes it up; `cim-keys dlq list --all` shows what came of it");
    }
    Ok(())
}

/// Says a word about one, where it changes anything.
async fn say(
    link: &Link,
    letters: &LetterBox,
    place: &Place,
    word: &Word,
    dry_run: bool,
) -> Result<Outcome, CliError> {
    let outcome = |state, changed| Outcome { letter: place.to_string(), state, changed };
    let then = if matches!(word, Word::Retry { .. }) { Standing::Retrying } else { Standing::Dropped };
    for _ in 0..TRIES {
        // None where only the server said something about it: then it is dead.
        let entry = letters.entry(link, place).await?;
        if let Some(entry) = entry.as_ref().filter(|entry| !entry.takes(word)) {
            return Ok(outcome(entry.state, false));
        }
        let after = entry.as_ref().map_or(0, Entry::last);
        if dry_run || matches!(letters.say(link, place, word, after).await?, Said::Stored(_)) {
            return Ok(outcome(then, true));
        }
    }
    Err(CliError::new(
        Exit::Conflict,
        "contended",
        format!("others say something about {place} all the time"),
    )
    .hint("try again"))
}

fn missing(place: &Place) -> CliError {
    CliError::new(Exit::NotFound, "no-letter", format!("there is no dead letter {place}"))
        .hint("`cim-keys dlq list --all` names them")
}
