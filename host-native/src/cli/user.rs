//! `cim-keys user`.

use super::entities::{Done, View, Viewer};
use super::exit::CliError;
use super::globals::{Globals, shell_word};
use super::parse::Expiry;
use super::resolve;
use super::rights::RightsArgs;
use crate::error::KeyError;
use crate::files;
use crate::host::{Host, Outcome, Request};
use cim_keys_core::command::Command;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Account, EntityId, User};
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Verbs of `user`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a user, and its creds file unless its key was made elsewhere
    Create(Box<Create>),
    /// Set a user's permissions anew: what is not said is unlimited
    Permissions(Box<Permissions>),
    /// Refuse a user from now on
    Revoke(Revoke),
    /// Write creds of a user: those not written yet, else new ones from its kept seed
    Creds(Creds),
}

/// Flags of `user create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its name
    name: String,
    /// Its account, by name or public key
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: String,
    /// Sign with the account's scoped key of this role: its permissions are the user's
    #[arg(long, short = 'K', value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    rights: RightsArgs,
    /// Tags, as templates match them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// When it ends: 30d, 12h, 2027-01-31, or 0 for never
    #[arg(long, value_name = "TIME", default_value = "0")]
    expiry: Expiry,
    /// Public key made elsewhere: no creds are made, the JWT is printed
    #[arg(long, short = 'k', value_name = "U…", conflicts_with_all = ["creds", "keep"])]
    key: Option<String>,
    /// Where to write the creds, mode 0600; a file in the data folder where this is left out
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Keep its seed, sealed, so that creds can be made again; without --creds none are written now
    #[arg(long)]
    keep: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `user permissions`.
#[derive(Debug, clap::Args)]
pub(super) struct Permissions {
    /// Its name or public key
    name: String,
    /// Its account, by name or public key
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: String,
    #[command(flatten)]
    rights: RightsArgs,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `user revoke`.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// Its name or public key
    name: String,
    /// Its account, by name or public key
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `user creds`.
#[derive(Debug, clap::Args)]
pub(super) struct Creds {
    /// Its name or public key
    name: String,
    /// Its account, by name or public key
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: String,
    /// Where to write them, mode 0600
    #[arg(long, short = 'o', value_name = "FILE")]
    out: PathBuf,
    /// When new ones end: 30d, 12h, 2027-01-31, or 0 for never; as those before where this is left out
    #[arg(long, value_name = "TIME")]
    expiry: Option<Expiry>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<View>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creds: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    done: Option<Done>,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::Create(args) => create(args, globals),
        Verb::Permissions(args) => permissions(args, globals),
        Verb::Revoke(args) => revoke(args, globals),
        Verb::Creds(args) => creds(args, globals),
    }
}

fn create(args: &Create, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let account = resolve::account(host.store(), &args.account)?;
    let rights = match (&args.role, args.rights.is_empty()) {
        (Some(role), false) => {
            return Err(CliError::usage(format!(
                "permissions of the role {role:?} come from its key, and more cannot be said"
            ))
            .hint("leave the permissions out, or leave --role out"));
        }
        (Some(_), true) => None,
        (None, _) => Some(args.rights.rights()?),
    };
    let key = match &args.key {
        Some(text) => Some(given(text)?),
        None => None,
    };
    let wanted = key.is_none() && (args.creds.is_some() || !args.keep);
    let path = if wanted {
        Some(creds_path(args.creds.as_deref(), &account, &args.name, globals, args.dry_run)?)
    } else {
        None
    };
    let command = Command::CreateUser {
        account: account.key,
        name: args.name.clone(),
        rights,
        expires: args.expiry.at(host.ambient().now()),
        tags: args.tag.clone(),
        credentials: wanted,
    };
    let request = Request {
        role: args.role.clone(),
        keys: key.map(|key| vec![key]),
        keep: args.keep,
        dry_run: args.dry_run,
        ..Request::new(command)
    };
    let outcome = host.run(&request)?;
    let user = outcome.keys.first().copied().ok_or_else(|| CliError::unexpected(&"no user key"))?;
    if let (Some(path), false) = (&path, args.dry_run) {
        host.hand_out(account.key, user, path)
            .map_err(|error| not_written(error, &args.name, &args.account, globals))?;
    }
    let jwt = if key.is_some() { outcome.token().and_then(|token| token.text()) } else { None };
    let view = if args.dry_run { None } else { view(&host, account.key, user)? };
    let changed = Changed { user: view, creds: path, jwt, done: Some(Done::new(&outcome, &host)?) };
    globals.output().data(&changed, |changed| match (&changed.jwt, &changed.creds) {
        (Some(jwt), _) => jwt.clone(),
        (None, Some(path)) => format!("user {} {user}\ncreds {}", args.name, path.display()),
        (None, None) => format!("user {} {user}", args.name),
    })?;
    finish(&changed, globals);
    Ok(())
}

fn permissions(args: &Permissions, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let (account, user) = found(&host, &args.account, &args.name)?;
    let command =
        Command::SetPermissions { account: account.key, user: user.key, rights: args.rights.rights()? };
    let outcome = host.run(&Request { dry_run: args.dry_run, ..Request::new(command) })?;
    let changed = told(&host, &user, &outcome, args.dry_run)?;
    globals.output().data(&changed, |_| format!("user {} {}", user.token.claims().name, user.key))?;
    if !args.dry_run {
        let until = match user.token.claims().expires {
            0 => "for ever: they do not expire".to_owned(),
            at => format!("until they expire on {}", super::entities::day(at)),
        };
        globals.output().warn(&format!(
            "creds handed out before keep their old rights {until}; only revoking the user ends them"
        ));
        if host.store().is_kept(user.key).map_err(KeyError::from)? {
            let (name, account) = (&user.token.claims().name, &account.token.claims().name);
            let again = globals.again();
            globals
                .output()
                .say(&format!("new creds: cim-keys{again} user creds {name} --account {account} --out FILE"));
        }
    }
    finish(&changed, globals);
    Ok(())
}

fn revoke(args: &Revoke, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let (account, user) = found(&host, &args.account, &args.name)?;
    let command = Command::RevokeUser { account: account.key, user: user.key };
    let outcome = host.run(&Request { dry_run: args.dry_run, ..Request::new(command) })?;
    let changed = told(&host, &user, &outcome, args.dry_run)?;
    globals.output().data(&changed, |_| format!("user {} {} revoked", user.token.claims().name, user.key))?;
    finish(&changed, globals);
    Ok(())
}

fn creds(args: &Creds, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let (account, user) = found(&host, &args.account, &args.name)?;
    let name = user.token.claims().name.clone();
    if host.store().hand_out(account.key, user.key).map_err(KeyError::from)?.is_some() {
        files::check_new(&args.out).map_err(KeyError::from)?;
        if !args.dry_run {
            host.hand_out(account.key, user.key, &args.out)?;
        }
        if args.expiry.is_some() {
            globals.output().warn("these were made with the user: --expiry counts for new ones alone");
        }
        let view = view(&host, account.key, user.key)?;
        let changed = Changed { user: view, creds: Some(args.out.clone()), jwt: None, done: None };
        globals.output().data(&changed, |_| format!("creds {}", args.out.display()))?;
        return Ok(());
    }
    let now = host.ambient().now();
    let before = user.token.claims().expires;
    let expires = match args.expiry {
        Some(expiry) => expiry.at(now),
        None if before != 0 && before <= now.seconds() => {
            let day = super::entities::day(before);
            return Err(CliError::usage(format!("the creds of user {name} ended on {day}"))
                .hint("say when new ones end: --expiry 30d"));
        }
        None => before,
    };
    let outcome = host.issue_creds(account.key, user.key, expires, args.dry_run, &args.out)?;
    let changed = Changed { creds: Some(args.out.clone()), ..told(&host, &user, &outcome, args.dry_run)? };
    globals.output().data(&changed, |_| format!("creds {}", args.out.display()))?;
    finish(&changed, globals);
    Ok(())
}

fn found(host: &Host, account: &str, user: &str) -> Result<(Account, User), CliError> {
    let account = resolve::account(host.store(), account)?;
    let user = resolve::user(host.store(), &account, user)?;
    Ok((account, user))
}

fn given(text: &str) -> Result<PublicKey, CliError> {
    let wrong = |code: &str, message: String| {
        CliError::new(super::exit::Exit::Validation, code, message).hint("give a user's public key: U…")
    };
    let key = match resolve::parsed(text)? {
        Some(key) => key,
        None => text.parse::<PublicKey>().map_err(|error| wrong(error.code(), error.to_string()))?,
    };
    key.of_kind(Kind::User).map_err(|error| wrong(error.code(), error.to_string()))
}

fn told(host: &Host, user: &User, outcome: &Outcome, dry_run: bool) -> Result<Changed, CliError> {
    let view = if dry_run { None } else { view(host, user.account, user.key)? };
    Ok(Changed { user: view, creds: None, jwt: None, done: Some(Done::new(outcome, host)?) })
}

pub(super) fn view(host: &Host, account: PublicKey, user: PublicKey) -> Result<Option<View>, CliError> {
    let id = EntityId::User { account, user };
    let listed = host
        .store()
        .by_key(user)
        .map_err(KeyError::from)?
        .into_iter()
        .find(|listed| listed.entity.id() == id);
    let viewer = Viewer::new(host.store(), host.ambient().now());
    listed.map(|listed| viewer.view(&listed)).transpose()
}

/// Where creds go; checked before anything is written. The data folder's `creds` where nothing is said.
pub(super) fn creds_path(
    typed: Option<&Path>,
    account: &Account,
    user: &str,
    globals: &Globals,
    dry_run: bool,
) -> Result<PathBuf, CliError> {
    let path = match typed {
        Some(path) => path.to_owned(),
        None => {
            let folder =
                globals.data_dir()?.join("creds").join(files::own_name(&account.token.claims().name));
            if !dry_run {
                files::make_folder(&folder).map_err(KeyError::from)?;
            }
            folder.join(format!("{}.creds", files::own_name(user)))
        }
    };
    if !dry_run || typed.is_some() {
        files::check_new(&path).map_err(KeyError::from)?;
    }
    Ok(path)
}

/// The user is made; only its file could not be written.
pub(super) fn not_written(error: KeyError, user: &str, account: &str, globals: &Globals) -> CliError {
    let again = globals.again();
    let (user, account) = (shell_word(Path::new(user)), shell_word(Path::new(account)));
    CliError { exit: super::exit::Exit::Partial, ..CliError::from(error) }
        .hint(format!("the user is made and its creds are kept, sealed: cim-keys{again} user creds {user} --account {account} --out FILE"))
}

fn finish(changed: &Changed, globals: &Globals) {
    if let Some(done) = &changed.done {
        tell(done, globals);
    }
}

/// Says on stderr what is not done yet.
pub(super) fn tell(done: &Done, globals: &Globals) {
    let (output, again) = (globals.output(), globals.again());
    if done.dry_run {
        output.say("dry run: nothing was written");
        return;
    }
    if !done.published {
        output.say(&format!("recorded, not published yet: cim-keys{again} sync"));
    }
    if let Some(mark) = done.enforcement {
        output.say(&format!("{mark} (account {}): cim-keys{again} push", done.not_enforced.join(", ")));
    }
}
