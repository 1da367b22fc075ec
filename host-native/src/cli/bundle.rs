//! `cim-keys bundle`: commands as a file.

use super::entities::about;
use super::exit::CliError;
use super::globals::Globals;
use super::init::Scratch;
use super::output::{counted, printable, table};
use crate::error::KeyError;
use crate::files;
use crate::host::Host;
use crate::store::{Store, StoreError};
use crate::vault::Vault;
use cim_keys_core::bundle::{self, Bundle, BundledCommand, Verified};
use cim_keys_core::nkey::PublicKey;
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Bundles larger than this are taken for something else.
const LIMIT: u64 = 256 * 1024 * 1024;

/// Verbs of `bundle`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Take the commands of a bundle in, all or none; `sync` publishes them
    Import(Import),
    /// Write what is pending into a new bundle; it stays pending here too, and is published once
    Export(Export),
}

/// Flags of `bundle import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The bundle; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `bundle export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// A new file for it
    #[arg(long, short = 'o', value_name = "FILE")]
    out: PathBuf,
    /// Held commands too; a registry where they do not stand refuses such a bundle
    #[arg(long)]
    held: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Taken {
    registry: PublicKey,
    namespace: String,
    /// Whether the store was empty and has become this registry's.
    founded: bool,
    /// Commands that are new here.
    imported: usize,
    /// Their events.
    events: usize,
    /// Commands that were known here: nothing was done about them.
    known: usize,
    commands: Vec<Line>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Written {
    registry: PublicKey,
    namespace: String,
    file: PathBuf,
    events: usize,
    commands: Vec<Line>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Line {
    command_id: Uuid,
    command: &'static str,
    about: String,
    events: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<bool>,
}

impl Line {
    fn new(bundled: &BundledCommand, known: Option<bool>) -> Self {
        Self {
            command_id: bundled.context.command_id,
            command: bundled.command.name(),
            about: about(&bundled.command),
            events: bundled.envelopes.len(),
            known,
        }
    }
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::Import(args) => import(args, globals),
        Verb::Export(args) => export(args, globals),
    }
}

fn import(args: &Import, globals: &Globals) -> Result<(), CliError> {
    let bytes = files::read(&args.file, LIMIT).map_err(KeyError::from)?;
    let bundle = bundle::decode(&bytes).map_err(KeyError::from)?;
    drop(bytes);
    // Before anything is made: a forged bundle leaves not even an empty store behind.
    let verified = bundle.verify().map_err(KeyError::from)?;
    let (host, _scratch) = host_for(&verified, args.dry_run, globals)?;
    let imported = host.import(&verified, args.dry_run)?;
    let line = |bundled: &BundledCommand| {
        Line::new(bundled, Some(imported.known.contains(&bundled.context.command_id)))
    };
    let commands: Vec<Line> = bundle.commands.iter().map(line).collect();
    let taken = Taken {
        registry: bundle.registry.operator,
        namespace: bundle.registry.namespace.to_string(),
        founded: imported.founded,
        imported: imported.new.len(),
        events: commands.iter().filter(|line| line.known != Some(true)).map(|line| line.events).sum(),
        known: imported.known.len(),
        commands,
        dry_run: args.dry_run,
    };
    globals.output().data(&taken, |taken| {
        let state = |line: &Line| if line.known == Some(true) { "known already" } else { "taken in" };
        lines(&taken.commands, &state)
            + &format!(
                "{}, {}",
                counted(taken.imported as u64, "command"),
                counted(taken.events as u64, "event")
            )
    })?;
    if args.dry_run {
        globals.output().say("dry run: nothing was written");
    } else if taken.imported > 0 {
        let again = globals.again();
        if taken.founded {
            globals.output().say(&format!(
                "this store is the registry {} now, and has none of its seeds: `cim-keys{again} key import FILE` keeps some here",
                taken.registry
            ));
        }
        globals.output().say(&format!("next: cim-keys{again} sync"));
    }
    Ok(())
}

/// A host over the store that the bundle goes to. A dry run without a store works in a folder that goes away.
fn host_for(
    bundle: &Verified<'_>,
    dry_run: bool,
    globals: &Globals,
) -> Result<(Host, Option<Scratch>), CliError> {
    let path = globals.store_path()?;
    let vault = Vault::new(&globals.identity_path()?);
    let store = match Store::open(&path) {
        Err(StoreError::Missing { .. } | StoreError::Empty { .. }) if !bundle.bundle().founds() => {
            return Err(KeyError::NotFounding { registry: bundle.bundle().registry.operator }.into());
        }
        Err(StoreError::Missing { .. } | StoreError::Empty { .. }) if dry_run => {
            let scratch = Scratch::new()?;
            let store = Store::create(&scratch.store()).map_err(KeyError::from)?;
            return Ok((globals.host_over(store, vault)?, Some(scratch)));
        }
        Err(StoreError::Missing { .. } | StoreError::Empty { .. }) => Store::create(&path),
        opened => opened,
    };
    Ok((globals.host_over(store.map_err(KeyError::from)?, vault)?, None))
}

fn export(args: &Export, globals: &Globals) -> Result<(), CliError> {
    if args.out == Path::new("-") {
        return Err(
            CliError::usage("a bundle is written into a file: `-` is none").hint("name it: --out FILE")
        );
    }
    let host = globals.host()?;
    let bundle: Bundle = host.exported(args.held)?;
    let bytes = bundle::encode(&bundle).map_err(KeyError::from)?;
    files::check_new(&args.out).map_err(KeyError::from)?;
    if !args.dry_run {
        // Before the first byte of it is anywhere else.
        host.note_exported(&bundle)?;
        files::write_new(&args.out, &bytes).map_err(KeyError::from)?;
    }
    let commands: Vec<Line> = bundle.commands.iter().map(|bundled| Line::new(bundled, None)).collect();
    let written = Written {
        registry: bundle.registry.operator,
        namespace: bundle.registry.namespace.to_string(),
        file: args.out.clone(),
        events: commands.iter().map(|line| line.events).sum(),
        commands,
        dry_run: args.dry_run,
    };
    globals.output().data(&written, |written| {
        lines(&written.commands, &|_| "pending")
            + &format!(
                "{}, {}: {}",
                counted(written.commands.len() as u64, "command"),
                counted(written.events as u64, "event"),
                written.file.display()
            )
    })?;
    let held = host.store().counts().map_err(KeyError::from)?.held;
    if held > 0 && !args.held {
        globals.output().warn(&format!("{held} held commands were left out: --held takes them along"));
    }
    if args.dry_run {
        globals.output().say("dry run: nothing was written");
    }
    Ok(())
}

fn lines(commands: &[Line], state: &dyn Fn(&Line) -> &'static str) -> String {
    let row = |line: &Line| {
        vec![
            line.command.to_owned(),
            printable(&line.about),
            line.command_id.to_string(),
            line.events.to_string(),
            state(line).to_owned(),
        ]
    };
    table(&["command", "about", "id", "events", "state"], commands.iter().map(row).collect())
}
