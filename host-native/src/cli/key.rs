//! `cim-keys key`.

use super::entities::{Done, View, Viewer, marks};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::table;
use super::resolve;
use super::rights::RightsArgs;
use super::user::tell;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::files;
use crate::host::Request;
use crate::store::Store;
use crate::vault::Vault;
use cim_keys_core::command::{Command, Role};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId};
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;

/// Verbs of `key`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a key. In a registry: known to it, its seed kept, sealed. Without one: a plain tool
    Generate(Box<Generate>),
    /// Make somebody else's key known, by its public half: a signing key of a host that has no others
    Add(Box<Add>),
    /// End a key
    Revoke(Revoke),
    /// Keep seeds of keys that this registry knows, and that were made elsewhere
    Import(super::key_import::Args),
    /// List signing, curve and free keys
    List(List),
}

/// Flags of `key generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Generate {
    /// operator, account, user, server, cluster or curve; that of --owner where it is left out
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// Make it a signing key of `operator`, or of this account
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// With --owner ACCOUNT: users that it signs have this role, with the permissions given beside
    #[arg(long, value_name = "ROLE", requires = "owner")]
    role: Option<String>,
    #[command(flatten)]
    rights: RightsArgs,
    /// What a person calls it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Write its seed to this file, mode 0600
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print its seed: whoever sees the screen has the key
    #[arg(long, conflicts_with = "out")]
    show_seed: bool,
    /// Make a key that no registry knows, although there is one
    #[arg(long, conflicts_with_all = ["owner", "label"])]
    plain: bool,
    /// Keep it here, sealed, and tell nobody: whoever may adds its public half (`key add`)
    #[arg(long, conflicts_with_all = ["owner", "label", "plain", "out", "show_seed"])]
    own: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `key add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The public key
    #[arg(value_name = "KEY")]
    key: PublicKey,
    /// Make it a signing key of `operator`, or of this account
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// With --owner ACCOUNT: users that it signs have this role, with the permissions given beside
    #[arg(long, value_name = "ROLE", requires = "owner")]
    role: Option<String>,
    #[command(flatten)]
    rights: RightsArgs,
    /// What a person calls it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `key revoke`.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The key: public key, or label
    key: String,
    /// For a user's key that several accounts know: which account
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `key list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only signing keys of `operator`, or of this account
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
}

#[derive(Serialize)]
struct Made {
    public_key: PublicKey,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<View>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    done: Option<Done>,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(seed) = &mut self.seed {
            zeroize::Zeroize::zeroize(seed);
        }
    }
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::Generate(args) => generate(args, globals),
        Verb::Add(args) => add(args, globals),
        Verb::Revoke(args) => revoke(args, globals),
        Verb::Import(args) => super::key_import::run(args, globals),
        Verb::List(args) => list(args, globals),
    }
}

fn generate(args: &Generate, globals: &Globals) -> Result<(), CliError> {
    if args.role.is_none() && !args.rights.is_empty() {
        return Err(CliError::usage("permissions belong to a role")
            .hint("give --owner ACCOUNT --role NAME beside them"));
    }
    if let Some(out) = &args.out {
        files::check_new(out).map_err(KeyError::from)?;
    }
    if args.own {
        return own(args, globals);
    }
    let store = if args.plain { None } else { globals.store_if_any()? };
    match store {
        Some(store) => known(args, None, store, globals),
        None if args.owner.is_some() || args.label.is_some() => {
            // Says which registry is missing.
            globals.store()?;
            Ok(())
        }
        None => plain(args, globals),
    }
}

/// Without a registry: as `nsc generate nkey` does, only that the seed goes nowhere by itself.
fn plain(args: &Generate, globals: &Globals) -> Result<(), CliError> {
    let kind = args.kind.ok_or_else(|| {
        CliError::usage("which kind of key?").hint("operator, account, user, server, cluster or curve")
    })?;
    if args.out.is_none() && !args.show_seed && !args.dry_run {
        return Err(CliError::usage("where does the seed go? Nothing keeps it here: there is no registry")
            .hint("--out FILE writes it to a file of mode 0600; --show-seed prints it"));
    }
    let key = KeyPair::from_entropy(kind, Ambient::system().entropy().map_err(KeyError::from)?);
    if args.dry_run {
        globals.output().say(&format!("dry run: a key of kind {kind} would be made"));
        return Ok(());
    }
    deliver(args, globals, &key, None, None)
}

/// A key of this host's own, which nobody knows of yet.
fn own(args: &Generate, globals: &Globals) -> Result<(), CliError> {
    let kind = args.kind.ok_or_else(|| {
        CliError::usage("which kind of key?").hint("account, for a signing key of an account; or operator")
    })?;
    if !matches!(kind, Kind::Account | Kind::Operator) {
        return Err(CliError::usage(format!(
            "a key of kind {kind} cannot be added to an account or operator"
        ))
        .hint("--own makes signing keys: account, for one of an account; or operator"));
    }
    let host = globals.host_over(globals.store()?, Vault::or_create(&globals.identity_path()?))?;
    if args.dry_run {
        globals.output().say(&format!("dry run: a key of kind {kind} would be made and kept"));
        return Ok(());
    }
    let key = host.make_own(kind)?;
    let made = Made { public_key: key, kind, seed_file: None, seed: None, key: None, done: None };
    globals.output().data(&made, |made| made.public_key.to_string())?;
    globals.output().say("kept here, sealed; it signs once a registry's token lists it:");
    let operator = kind == Kind::Operator;
    globals.output().say(&format!(
        "on the host that may: cim-keys key add {key} --owner {}",
        if operator { "operator" } else { "ACCOUNT" }
    ));
    globals.output().say(if operator {
        "there next: cim-keys sync, and restart the servers with what cim-keys config server writes then"
    } else {
        "there next: cim-keys sync, then cim-keys push: before that, servers refuse the users that it signs"
    });
    globals.output().say(&format!("then here: cim-keys{} sync", globals.again()));
    Ok(())
}

fn add(args: &Add, globals: &Globals) -> Result<(), CliError> {
    if args.role.is_none() && !args.rights.is_empty() {
        return Err(CliError::usage("permissions belong to a role")
            .hint("give --owner ACCOUNT --role NAME beside them"));
    }
    let generate = Generate {
        kind: Some(args.key.kind()),
        owner: args.owner.clone(),
        role: args.role.clone(),
        rights: args.rights.clone(),
        label: args.label.clone(),
        out: None,
        show_seed: false,
        plain: false,
        own: false,
        dry_run: args.dry_run,
    };
    known(&generate, Some(args.key), globals.store()?, globals)
}

fn known(args: &Generate, given: Option<PublicKey>, store: Store, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host_over(store, Vault::new(&globals.identity_path()?))?;
    let owner = args.owner.as_deref().map(|owner| resolve::owner(host.store(), owner)).transpose()?;
    let kind = match (args.kind, owner) {
        (Some(kind), Some(owner)) if kind != owner.kind() => {
            return Err(CliError::usage(format!(
                "a signing key of {owner} is of kind {}, not {kind}",
                owner.kind()
            ))
            .hint("leave the kind out"));
        }
        (Some(kind), _) => kind,
        (None, Some(owner)) => owner.kind(),
        (None, None) => {
            return Err(CliError::usage("which kind of key?").hint(
                "operator, account, user, server, cluster or curve; or --owner operator, or --owner ACCOUNT",
            ));
        }
    };
    let role = match &args.role {
        Some(name) => Some(Role { name: name.clone(), template: args.rights.rights()? }),
        None => None,
    };
    let command = Command::GenerateKey { kind, owner, label: args.label.clone(), role };
    let keys = given.map(|key| vec![key]);
    let outcome = host.run(&Request { dry_run: args.dry_run, keys, ..Request::new(command) })?;
    let public = outcome.keys.first().copied().ok_or_else(|| CliError::unexpected(&"no key"))?;
    let done = Done::new(&outcome, &host)?;
    if args.dry_run {
        let made =
            Made { public_key: public, kind, seed_file: None, seed: None, key: None, done: Some(done) };
        globals.output().data(&made, |_| match given {
            Some(key) => format!("{key} would be added"),
            None => format!("a key of kind {kind} would be made"),
        })?;
        made.done.iter().for_each(|done| tell(done, globals));
        return Ok(());
    }
    if outcome.operator_changed() {
        globals.output().warn(
            "the operator's token has changed: servers take it only when restarted with a new configuration",
        );
    }
    let viewer = Viewer::new(host.store(), host.ambient().now());
    let listed = host.store().by_key(public).map_err(KeyError::from)?;
    let view =
        listed.iter().find(|l| l.entity.id() == EntityId::Key(public)).map(|l| viewer.view(l)).transpose()?;
    if args.out.is_some() || args.show_seed {
        return deliver(args, globals, &*host.key(public)?, view, Some(done));
    }
    let made = Made { public_key: public, kind, seed_file: None, seed: None, key: view, done: Some(done) };
    globals.output().data(&made, |made| made.public_key.to_string())?;
    made.done.iter().for_each(|done| tell(done, globals));
    if given.is_some() && owner.is_some_and(|owner| owner.kind() == Kind::Account) {
        globals.output().say(
            "in this order: sync, push (before that, servers refuse the users that it signs), then sync on the host that has the key",
        );
    }
    Ok(())
}

fn deliver(
    args: &Generate,
    globals: &Globals,
    key: &KeyPair,
    view: Option<View>,
    done: Option<Done>,
) -> Result<(), CliError> {
    let seed = key.seed();
    if let Some(out) = &args.out {
        // No newline, as nsc writes its key files.
        files::write_new(out, seed.expose().as_bytes()).map_err(KeyError::from)?;
    }
    let made = Made {
        public_key: key.public_key(),
        kind: key.kind(),
        seed_file: args.out.clone(),
        seed: args.show_seed.then(|| seed.expose().to_owned()),
        key: view,
        done,
    };
    globals.output().data(&made, |made| match &made.seed {
        Some(seed) => format!("{seed}\n{}", made.public_key),
        None => made.public_key.to_string(),
    })?;
    made.done.iter().for_each(|done| tell(done, globals));
    Ok(())
}

#[derive(Serialize)]
struct Revoked {
    public_key: PublicKey,
    #[serde(flatten)]
    done: Done,
}

fn revoke(args: &Revoke, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let store = host.store();
    let (key, owner) = match resolve::parsed(&args.key)? {
        Some(key) if key.kind() == Kind::User => user_of(store, key, args.account.as_deref())?,
        Some(key) => {
            let listed = store.by_key(key).map_err(KeyError::from)?;
            match listed.first().map(|listed| &listed.entity) {
                Some(Entity::Key(found)) => (key, found.owner),
                // The core says why an identity cannot be revoked.
                Some(_) => (key, None),
                None => {
                    let found = resolve::key(store, &args.key)?;
                    (found.key, found.owner)
                }
            }
        }
        None => match resolve::key(store, &args.key) {
            Ok(found) => (found.key, found.owner),
            // An account's name is its identity's: the core says why that cannot be revoked.
            Err(error) => match resolve::account(store, &args.key) {
                Ok(account) => (account.key, None),
                Err(_) => return Err(error),
            },
        },
    };
    let outcome =
        host.run(&Request { dry_run: args.dry_run, ..Request::new(Command::RevokeKey { key, owner }) })?;
    let revoked = Revoked { public_key: key, done: Done::new(&outcome, &host)? };
    globals.output().data(&revoked, |revoked| format!("key {} revoked", revoked.public_key))?;
    if outcome.operator_changed() && !args.dry_run {
        globals.output().warn(
            "the operator's token has changed: servers take it only when restarted with a new configuration",
        );
    }
    tell(&revoked.done, globals);
    Ok(())
}

/// A user's key, and the account that knows it; a free key of kind user has none.
fn user_of(
    store: &Store,
    key: PublicKey,
    account: Option<&str>,
) -> Result<(PublicKey, Option<PublicKey>), CliError> {
    if let Some(account) = account {
        return Ok((key, Some(resolve::account(store, account)?.key)));
    }
    let listed = store.by_key(key).map_err(KeyError::from)?;
    let accounts: Vec<PublicKey> = listed
        .iter()
        .filter_map(|listed| match &listed.entity {
            Entity::User(user) => Some(user.account),
            _ => None,
        })
        .collect();
    match accounts.as_slice() {
        [] if listed.is_empty() => {
            Err(CliError::new(Exit::NotFound, "unknown-key", format!("there is no key {key}"))
                .hint("`cim-keys list users` shows them"))
        }
        [] => Ok((key, None)),
        [one] => Ok((key, Some(*one))),
        several => {
            let names: Vec<String> = several.iter().map(PublicKey::to_string).collect();
            Err(CliError::new(Exit::Conflict, "ambiguous", format!("several accounts know the user {key}"))
                .hint(format!("name one: --account {}", names.join(" or "))))
        }
    }
}

#[derive(Serialize)]
struct KeyList {
    keys: Vec<View>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    own_keys: Vec<OwnKey>,
}

/// A key of this host's own that no registry knows yet.
#[derive(Debug, Serialize)]
pub(super) struct OwnKey {
    entity: &'static str,
    public_key: PublicKey,
    key_kind: Kind,
    seed_kept: bool,
    marks: [&'static str; 1],
}

fn list(args: &List, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let owner = args.owner.as_deref().map(|owner| resolve::owner(&store, owner)).transpose()?;
    let keys = views(&store, owner)?;
    let list = KeyList { keys, own_keys: own_keys(&store, owner)? };
    let output = globals.output();
    if output.is_lines() {
        let mut goes_on = true;
        for view in &list.keys {
            goes_on = goes_on && output.row(view)?;
        }
        for own in &list.own_keys {
            goes_on = goes_on && output.row(own)?;
        }
        return Ok(());
    }
    output.data(&list, |list| key_table(&list.keys, &list.own_keys))
}

/// Keys that were made with `--own` and that nobody has added; none of them is any owner's.
pub(super) fn own_keys(store: &Store, owner: Option<PublicKey>) -> Result<Vec<OwnKey>, CliError> {
    if owner.is_some() {
        return Ok(Vec::new());
    }
    let own = |public_key: PublicKey| OwnKey {
        entity: "key",
        public_key,
        key_kind: public_key.kind(),
        seed_kept: true,
        marks: ["own, not added"],
    };
    Ok(store.own_keys().map_err(KeyError::from)?.into_iter().map(own).collect())
}

pub(super) fn views(store: &Store, owner: Option<PublicKey>) -> Result<Vec<View>, CliError> {
    let viewer = Viewer::new(store, Ambient::system().now());
    store.keys(owner).map_err(KeyError::from)?.iter().map(|listed| viewer.view(listed)).collect()
}

pub(super) fn key_table(keys: &[View], own: &[OwnKey]) -> String {
    let rows = keys.iter().map(|view| {
        vec![
            view.public_key.to_string(),
            view.key_kind.map_or_else(String::new, |kind| kind.to_string()),
            view.parent_name
                .clone()
                .or_else(|| view.parent.map(|p| p.to_string()))
                .unwrap_or_else(|| "-".to_owned()),
            view.role.clone().unwrap_or_else(|| "-".to_owned()),
            if view.name.is_empty() { "-".to_owned() } else { view.name.clone() },
            if view.seed_kept { "kept" } else { "-" }.to_owned(),
            marks(view),
        ]
    });
    let none = || "-".to_owned();
    let own = own.iter().map(|own| {
        let state = own.marks.join(", ");
        let (key, kind) = (own.public_key.to_string(), own.key_kind.to_string());
        vec![key, kind, none(), none(), none(), "kept".to_owned(), state]
    });
    table(&["key", "kind", "owner", "role", "label", "seed", "state"], rows.chain(own).collect())
}
