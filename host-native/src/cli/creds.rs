//! `cim-keys creds issue`: short-lived creds from one role's key, without a registry or a server.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::parse::Nanos;
use super::resolve;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::files;
use cim_keys_core::creds;
use cim_keys_core::issue::{IssueError, ScopedUser, scoped_user};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::secret::SecretText;
use cim_keys_core::time::Timestamp;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;
use zeroize::Zeroize as _;

/// Verbs of `creds`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Issue a short-lived user of a role from the role's key alone: no registry, no server, no event
    Issue(Issue),
}

/// Flags of `creds issue`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("signer").required(true).args(["key_file", "key_env"]))]
pub(super) struct Issue {
    /// Public key of the account: there is no registry here that would know its name
    #[arg(long, short = 'a', value_name = "A…")]
    account: String,
    /// The role that the key has, in the user's name and for people: it cannot be checked here
    #[arg(long, short = 'K', value_name = "ROLE")]
    role: String,
    /// How long it lives: 90s, 15m, 1h30m; a day at most
    #[arg(long, value_name = "DURATION")]
    ttl: Nanos,
    /// The user's name, which the role's template may read; made of role and key where this is left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Tags, as the role's template reads them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// File with the role's seed, mode 0600
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Environment variable that has the role's seed
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Public key that the client made itself: a JWT is issued, and its seed never leaves the client
    #[arg(long, short = 'k', value_name = "U…")]
    public_key: Option<String>,
    /// Where to write it, mode 0600; stdout where this is left out
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say what would be issued, and issue nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Issued {
    account: PublicKey,
    /// The key that signs.
    issuer: PublicKey,
    role: String,
    /// Never: the account's newest token says which role a key has, and it is not here.
    role_checked: bool,
    /// Missing where a dry run made none.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<PublicKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Unix seconds.
    issued_at: i64,
    /// Unix seconds.
    expires: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// For a key that the client made itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    dry_run: bool,
}

/// What is on stdout: that, and the creds where no file takes them.
#[derive(Serialize)]
struct Out<'a> {
    #[serde(flatten)]
    issued: &'a Issued,
    #[serde(skip_serializing_if = "Option::is_none")]
    creds: Option<&'a str>,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Issue(args) = verb;
    issue(args, globals)
}

fn issue(args: &Issue, globals: &Globals) -> Result<(), CliError> {
    let ambient = Ambient::system();
    let account = key_of(&args.account, Kind::Account, "--account")?;
    let given =
        args.public_key.as_deref().map(|text| key_of(text, Kind::User, "--public-key")).transpose()?;
    if let (Some(path), false) = (&args.out, args.dry_run) {
        files::check_new(path).map_err(KeyError::from)?;
    }
    let signer = signer(args)?;
    let made = if given.is_none() { Some(fresh(&ambient)?) } else { None };
    let user = match (&given, &made) {
        (Some(user), _) => *user,
        (None, Some(pair)) => pair.public_key(),
        (None, None) => return Err(CliError::unexpected(&"no user key")),
    };
    let issued_at = ambient.now().seconds();
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.role, user));
    let (issuer, tags, ttl) = (signer.public_key(), args.tag.clone(), args.ttl.0 / 1_000_000_000);
    let wanted = ScopedUser { account, issuer, user, name: name.clone(), tags, issued_at, ttl };
    let token = scoped_user(wanted).map_err(told)?;
    let expires = token.claims().expires;
    let mut issued = Issued {
        account,
        issuer,
        role: args.role.clone(),
        role_checked: false,
        // A key made for a dry run is wiped, and would mislead.
        user: if args.dry_run { given } else { Some(user) },
        name: Some(name).filter(|_| !args.dry_run || args.name.is_some() || given.is_some()),
        issued_at,
        expires,
        file: args.out.clone(),
        jwt: None,
        dry_run: args.dry_run,
    };
    if args.dry_run {
        globals.output().data(&Out { issued: &issued, creds: None }, |out| text(out.issued))?;
        globals.output().say("dry run: nothing was issued");
        return Ok(());
    }
    let token = token.sign(&signer).map_err(|error| CliError::unexpected(&error))?;
    let secret = match &made {
        Some(pair) => creds::format(&token, pair).map_err(KeyError::from)?,
        None => {
            issued.jwt = Some(token.as_str().to_owned());
            SecretText::new(token.as_str().to_owned())
        }
    };
    hand_out(args, &issued, &secret, globals)
}

/// Into the file, or to stdout.
fn hand_out(args: &Issue, issued: &Issued, secret: &SecretText, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    match &args.out {
        Some(path) => {
            files::write_new(path, secret.expose().as_bytes()).map_err(KeyError::from)?;
            output.data(&Out { issued, creds: None }, |out| text(out.issued))?;
        }
        None => {
            let creds = Some(secret.expose()).filter(|_| issued.jwt.is_none());
            output.data(&Out { issued, creds }, |_| secret.expose().to_owned())?;
            // Data has stdout for itself: a pipe takes the creds as they are.
            if !output.is_json() {
                output.say(text(issued).trim_end());
            }
        }
    }
    if !output.is_json() {
        output.say(&format!(
            "that {} has the role {:?} in {} was not checked: a server that has the account's newest token gives it that \
             key's role, or refuses it",
            issued.issuer, issued.role, issued.account
        ));
    }
    Ok(())
}

fn text(issued: &Issued) -> String {
    let mut lines = Vec::new();
    lines.extend(issued.user.map(|user| ("user", user.to_string())));
    lines.extend(issued.name.clone().map(|name| ("name", name)));
    lines.push(("signed by", issued.issuer.to_string()));
    let ends = Timestamp::from_millis(issued.expires.saturating_mul(1000));
    lines.push(("ends", ends.map_or_else(|_| issued.expires.to_string(), |ends| ends.to_string())));
    lines.extend(issued.file.as_ref().map(|file| ("file", file.display().to_string())));
    lines.iter().map(|(name, value)| format!("{name:<10} {}\n", super::output::printable(value))).collect()
}

/// A public key of this kind; a name is not known here.
fn key_of(text: &str, kind: Kind, flag: &str) -> Result<PublicKey, CliError> {
    let Some(key) = resolve::parsed(text)? else {
        return Err(CliError::usage(format!(
            "{flag} takes a public key: there is no registry here that knows names"
        ))
        .hint("`cim-keys show NAME` says it, where the registry is"));
    };
    key.of_kind(kind).map_err(|error| CliError::new(Exit::Validation, error.code(), error.to_string()))
}

/// The role's key pair, from where a person put its seed.
fn signer(args: &Issue) -> Result<KeyPair, CliError> {
    let (text, place) = match (&args.key_file, &args.key_env) {
        (Some(file), _) => (files::read_secret(file).map_err(KeyError::from)?, "the key file".to_owned()),
        (None, Some(name)) => (from_environment(name)?, format!("the variable {name}")),
        (None, None) => {
            return Err(CliError::usage("name the role's key: --key-file FILE or --key-env NAME"));
        }
    };
    // As `key import` reads it: talk, then a seed, and nothing behind it.
    let mut words =
        text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let wrong = |code: &str, what: String| {
        CliError::new(Exit::Validation, code, format!("{place} {what}"))
            .hint("it must have the seed of one scoped signing key (SA…), and nothing else")
    };
    let line = words.next().ok_or_else(|| wrong("no-seed", "has no seed".to_owned()))?;
    if words.next().is_some() {
        return Err(wrong("no-seed", "has more than one line".to_owned()));
    }
    let seed = line.split_whitespace().next().unwrap_or_default();
    KeyPair::from_seed(seed).map_err(|error| wrong("no-seed", format!("has no seed: {error}")))
}

/// What a variable has. Its name is never repeated where it might be the seed itself.
fn from_environment(name: &str) -> Result<SecretText, CliError> {
    resolve::parsed(name)?;
    match std::env::var(name) {
        Ok(text) if !text.trim().is_empty() => Ok(SecretText::new(text)),
        _ => Err(CliError::new(
            Exit::NotFound,
            "no-variable",
            format!("the variable {name} is not set, or no text"),
        )
        .hint("--key-env takes a variable's name, whose value is the seed")),
    }
}

fn fresh(ambient: &Ambient) -> Result<KeyPair, CliError> {
    let mut entropy = ambient.entropy().map_err(KeyError::from)?;
    let pair = KeyPair::from_entropy(Kind::User, entropy);
    entropy.zeroize();
    Ok(pair)
}

/// The role, and the beginning of the key: one token, for a template may set it into subjects.
fn name_of(role: &str, user: PublicKey) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let role: String = role.chars().map(plain).take(64).collect();
    format!("{role}-{}", user.to_string().chars().take(9).collect::<String>())
}

fn told(error: IssueError) -> CliError {
    let told = CliError::new(Exit::Validation, error.code(), error.to_string());
    match error {
        IssueError::Ttl { .. } => told.hint("give --ttl a duration from 1s to 24h, such as 15m"),
        IssueError::Identity { .. } => told
            .hint("`cim-keys key generate --owner ACCOUNT --role NAME …` makes one, where the registry is"),
        IssueError::Kind { .. } => told.hint("the key that signs is an account's: its seed begins with SA"),
        IssueError::Claims(_) => told,
    }
}
