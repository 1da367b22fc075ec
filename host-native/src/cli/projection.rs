//! `cim-keys projection`: read models folded from the trail, listed and made anew.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, plain, table};
use crate::error::KeyError;
use crate::store::{Difference, Rebuilt, Store};
use cim_keys_core::projection::{Projection, all};
use clap::Subcommand;
use serde::Serialize;

/// Verbs of `projection`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The projections, and how far each has come
    List,
    /// Fold them from the first event again, say what differs, and put the new rows into the place of the old ones at once
    Rebuild(Rebuild),
}

/// Flags of `projection rebuild`.
#[derive(Debug, clap::Args)]
pub(super) struct Rebuild {
    /// Which one; all where this is left out
    name: Option<String>,
    /// Only compare: what is kept stays, and a difference is a failure (status 8)
    #[arg(long, visible_alias = "dry-run")]
    check: bool,
}

#[derive(Serialize)]
struct List {
    /// The last sequence that was read.
    head: u64,
    projections: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    /// Version of its rows, as this program makes them.
    version: u32,
    /// The last sequence folded.
    sequence: u64,
    rows: u64,
}

#[derive(Serialize)]
struct Report {
    projections: Vec<Done>,
}

#[derive(Serialize)]
struct Done {
    name: &'static str,
    #[serde(flatten)]
    rebuilt: Rebuilt,
    /// Rows that differed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differing: Vec<Difference>,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    match verb {
        Verb::List => list(&store, globals),
        Verb::Rebuild(args) => rebuild(&store, args, globals),
    }
}

fn list(store: &Store, globals: &Globals) -> Result<(), CliError> {
    let kept = store.projections().map_err(KeyError::from)?;
    let line = |projection: &dyn Projection| {
        let (name, version) = (projection.name(), projection.version());
        // One of another version is as good as none.
        let found = kept.iter().find(|kept| kept.name == name && kept.version == version);
        let (sequence, rows) = found.map_or((0, 0), |kept| (kept.sequence, kept.rows));
        Line { name, version, sequence, rows }
    };
    let projections: Vec<Line> = all().into_iter().map(line).collect();
    let list = List { head: store.progress().map_err(KeyError::from)?.head, projections };
    globals.output().list(&list, &list.projections, |list| {
        let row = |line: &Line| {
            let state = if line.sequence < list.head { "is folded when it is needed" } else { "" };
            let (version, sequence) = (line.version.to_string(), line.sequence.to_string());
            vec![line.name.to_owned(), version, sequence, line.rows.to_string(), state.to_owned()]
        };
        let rows = list.projections.iter().map(row).collect();
        table(&["projection", "version", "sequence", "rows", ""], rows)
    })
}

fn rebuild(store: &Store, args: &Rebuild, globals: &Globals) -> Result<(), CliError> {
    let chosen = match &args.name {
        None => all().to_vec(),
        Some(name) => all().into_iter().filter(|one| one.name() == name).collect(),
    };
    if chosen.is_empty() {
        let names: Vec<&str> = all().iter().map(|one| one.name()).collect();
        return Err(CliError::new(
            Exit::NotFound,
            "unknown-projection",
            format!("there is no projection {:?}", args.name.as_deref().unwrap_or_default()),
        )
        .hint(format!("there are {}", names.join(", "))));
    }
    let output = globals.output();
    let mut report = Report { projections: Vec::new() };
    for projection in chosen {
        let (name, mut differing) = (projection.name(), Vec::new());
        let rebuilt = store
            .rebuild(projection, args.check, |difference| {
                if output.is_json() {
                    differing.push(difference);
                } else {
                    output.say(&words(name, &difference));
                }
            })
            .map_err(KeyError::from)?;
        report.projections.push(Done { name, rebuilt, differing });
    }
    output.list(&report, &report.projections, |report| {
        report.projections.iter().map(|done| format!("{}\n", done_words(done))).collect()
    })?;
    let differences: u64 = report.projections.iter().map(|done| done.rebuilt.differences).sum();
    if args.check && differences > 0 {
        return Err(CliError::new(
            Exit::Verification,
            "projection-differs",
            format!("{} not what the stream says", counted(differences, "row")),
        )
        .hint(format!("`cim-keys{} projection rebuild` puts it right", globals.again())));
    }
    Ok(())
}

fn words(name: &str, difference: &Difference) -> String {
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "not there".to_owned(), plain);
    let Difference { key, kept, rebuilt } = difference;
    format!("{name}: {} is {}, and should be {}", plain(key), text(kept), text(rebuilt))
}

fn done_words(done: &Done) -> String {
    let Rebuilt { sequence, rows, differences, swapped } = done.rebuilt;
    let rows = counted(rows, "row");
    let found =
        if differences == 0 { "all as they were".to_owned() } else { format!("{differences} differed") };
    let what = if swapped { "made anew" } else { "compared" };
    format!("{}: {rows} up to sequence {sequence} {what}, {found}", done.name)
}
