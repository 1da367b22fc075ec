//! `cim-keys held`: commands that cannot be published as they were decided.

use super::exit::CliError;
use super::globals::Globals;
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;

/// Verbs of `held`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Give up a held command that came in a bundle; whoever minted it may still publish it
    Drop(Drop),
}

/// Flags of `held drop`.
#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    /// Its id, as `cim-keys status` names it
    #[arg(value_name = "COMMAND_ID")]
    command_id: Uuid,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Dropped {
    command_id: Uuid,
    dry_run: bool,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Drop(args) = verb;
    globals.host()?.drop_held(args.command_id, args.dry_run)?;
    let dropped = Dropped { command_id: args.command_id, dry_run: args.dry_run };
    globals.output().data(&dropped, |dropped| format!("command {} dropped", dropped.command_id))?;
    if args.dry_run {
        globals.output().say("dry run: nothing was written");
    } else {
        globals.output().say("what is still wanted of it can be made anew here");
    }
    Ok(())
}
