//! `cim-keys init`: founding a registry.

use super::entities::{Done, NOT_ENFORCED};
use super::exit::CliError;
use super::globals::Globals;
use crate::error::KeyError;
use crate::host::Founding;
use crate::store::Store;
use crate::vault::{Escrow, Vault};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::subjects::Namespace;
use serde::Serialize;
use std::path::PathBuf;

/// Flags of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the operator
    #[arg(long, value_name = "NAME", default_value = "cim")]
    name: String,
    /// First two tokens of every subject
    #[arg(long, value_name = "ORG.UNIT", default_value = "cowboyai.security")]
    namespace: Namespace,
    /// Seal every seed to this age recipient too; may be given several times
    #[arg(long, value_name = "AGE1…")]
    escrow: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Founded {
    operator: PublicKey,
    name: String,
    namespace: String,
    accounts: Vec<AccountLine>,
    data_dir: PathBuf,
    store: PathBuf,
    identity: PathBuf,
    #[serde(flatten)]
    done: Done,
}

#[derive(Serialize)]
struct AccountLine {
    name: String,
    public_key: PublicKey,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    let (data_dir, path, identity) = (globals.data_dir()?, globals.store_path()?, globals.identity_path()?);
    let mut escrow = Vec::new();
    for recipient in &args.escrow {
        escrow.push(recipient.parse::<Escrow>().map_err(KeyError::from)?);
    }
    let founding = Founding { name: args.name.clone(), namespace: args.namespace.clone(), escrow };
    // A dry run must leave nothing behind, so it works in a folder that goes away.
    let scratch = if args.dry_run && !path.exists() { Some(Scratch::new()?) } else { None };
    let store = Store::create(&scratch.as_ref().map_or_else(|| path.clone(), Scratch::store));
    let host = globals.host_over(store.map_err(KeyError::from)?, Vault::or_create(&identity))?;
    let outcome = host.found(&founding, args.dry_run)?;
    let claims = |event: &cim_keys_core::event::Event| Some((event.claims()?.name.clone(), event.entity));
    let accounts =
        outcome.events.iter().filter(|event| event.fact.name() == ("account", "created")).filter_map(claims);
    let founded = Founded {
        operator: outcome.keys.first().copied().ok_or_else(|| CliError::unexpected(&"no operator key"))?,
        name: args.name.clone(),
        namespace: args.namespace.to_string(),
        accounts: accounts.map(|(name, public_key)| AccountLine { name, public_key }).collect(),
        data_dir,
        store: path,
        identity,
        done: Done::new(&outcome, &host)?,
    };
    output.data(&founded, |founded| {
        let mut text = format!("operator {} {}\n", founded.name, founded.operator);
        for account in &founded.accounts {
            text.push_str(&format!("account  {} {}\n", account.name, account.public_key));
        }
        text
    })?;
    if args.dry_run {
        output.say("dry run: nothing was written");
        return Ok(());
    }
    let again = globals.again();
    output.say(&format!("founded in {}", founded.data_dir.display()));
    output.say(&format!(
        "the identity that opens its seeds: {} (keep a copy: without it nothing can be signed)",
        founded.identity.display()
    ));
    output.say(NOT_ENFORCED);
    output.say(&format!(
        "next: cim-keys{again} config server > server.conf    # a server that trusts this operator"
    ));
    output.say(&format!("      cim-keys{again} account create APP"));
    Ok(())
}

/// A folder that goes away again.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, CliError> {
        let id = crate::ambient::Ambient::system().command_id().map_err(KeyError::from)?;
        let path = std::env::temp_dir().join(format!("cim-keys-{id}"));
        crate::files::make_folder(&path).map_err(KeyError::from)?;
        Ok(Self(path))
    }

    /// Where a store goes in it.
    pub(super) fn store(&self) -> PathBuf {
        self.0.join("store.db")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
