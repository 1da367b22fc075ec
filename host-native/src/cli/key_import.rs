//! `cim-keys key import`: seeds that were made elsewhere.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use crate::error::KeyError;
use crate::files;
use crate::vault::Vault;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Flags of `key import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seeds, one a line, its public key beside it or not; mode 0600. `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Imported {
    /// Seeds that were not kept here before.
    kept: usize,
    keys: Vec<Line>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Line {
    public_key: PublicKey,
    kind: Kind,
    /// Whether its seed had been kept before.
    known: bool,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let pairs = read(&args.file)?;
    // A store that came in a bundle may be the first thing that needs an identity here.
    let host = globals.host_over(store, Vault::or_create(&globals.identity_path()?))?;
    let new = host.keep(&pairs, args.dry_run)?;
    let line = |pair: &KeyPair| Line {
        public_key: pair.public_key(),
        kind: pair.kind(),
        known: !new.contains(&pair.public_key()),
    };
    let keys = pairs.iter().map(line).collect();
    let imported = Imported { kept: new.len(), keys, dry_run: args.dry_run };
    globals.output().data(&imported, |imported| {
        let line = |line: &Line| {
            format!("{} {}\n", line.public_key, if line.known { "kept already" } else { "kept" })
        };
        imported.keys.iter().map(line).collect()
    })?;
    if args.dry_run {
        globals.output().say("dry run: nothing was written");
    } else if args.file != Path::new("-") {
        globals.output().say(&format!("they are sealed here now: remove {}", args.file.display()));
    }
    Ok(())
}

/// Reads `SEED [PUBLIC KEY] [# words]` from each line. Blank lines and those that begin with `#` are talk.
fn read(file: &Path) -> Result<Vec<KeyPair>, CliError> {
    let text = if file == Path::new("-") { files::read_secret_stdin() } else { files::read_secret(file) };
    let text = text.map_err(KeyError::from)?;
    let mut pairs = Vec::new();
    for (number, line) in (1..).zip(text.expose().lines()) {
        let mut words = line.split_whitespace();
        let Some(seed) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let wrong = |what: String| {
            CliError::new(Exit::Validation, "seed-line", format!("line {number}: {what}"))
                .hint("a line is a seed, and its public key behind it where you like; nothing was kept")
        };
        let pair = KeyPair::from_seed(seed).map_err(|error| wrong(error.to_string()))?;
        if let Some(said) = words.next().filter(|word| !word.starts_with('#'))
            && said.parse() != Ok(pair.public_key())
        {
            return Err(wrong(format!(
                "the seed is that of {}, and the line says another",
                pair.public_key()
            )));
        }
        pairs.push(pair);
    }
    if pairs.is_empty() {
        return Err(CliError::new(
            Exit::Validation,
            "no-seed",
            format!("there is no seed in {}", file.display()),
        ));
    }
    Ok(pairs)
}
