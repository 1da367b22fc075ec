//! `cim-keys show`.

use super::at::{At, Moment};
use super::entities::{View, Viewer, day};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::resolve;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::Version;
use cim_keys_core::registry::Entity;

/// Flags of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, label or public key
    name: String,
    /// Where users of several accounts have the name: which account
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
    /// As it was once the message of this sequence was stored, or at this time (of the server's clock, RFC 3339)
    #[arg(long, value_name = "SEQUENCE|TIME")]
    at: Option<Moment>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    if let Some(moment) = args.at {
        return past(args, &store, At::find(moment, &store, globals)?, globals);
    }
    let mut found = match resolve::parsed(&args.name)? {
        Some(key) => store.by_key(key).map_err(KeyError::from)?,
        None => store.by_name(&args.name).map_err(KeyError::from)?,
    };
    if let Some(account) = &args.account {
        let account = resolve::account(&store, account)?.key;
        found.retain(|listed| is_of(&listed.entity, account));
    }
    let listed = &one(found, &args.name, |listed| &listed.entity)?;
    let mut view = Viewer::new(&store, Ambient::system().now()).view(listed)?;
    view.jwt = listed.entity.token().and_then(|token| token.text());
    // Whoever has the user's seed can use it from now on.
    if let (Entity::User(_), Some(position)) = (&listed.entity, listed.pending) {
        store.note_shown(position).map_err(KeyError::from)?;
    }
    globals.output().data(&view, text)
}

/// The entity as it was.
fn past(args: &Args, store: &Store, at: At, globals: &Globals) -> Result<(), CliError> {
    let mut found = at.called(store, &args.name)?;
    if let Some(account) = &args.account {
        let account = at.account(store, account)?.key;
        found.retain(|version| is_of(&version.entity, account));
    }
    let Version { since, entity } = one(found, &args.name, |version| &version.entity).map_err(|error| {
        CliError { message: format!("{} at sequence {}", error.message, at.sequence), ..error }
    })?;
    let listed = Listed { entity, pending: None };
    let mut view = Viewer::at(store, at).view(&listed)?;
    view.since = Some(since);
    view.jwt = listed.entity.token().and_then(|token| token.text());
    if !globals.output().is_json() {
        at.say(globals);
    }
    globals.output().data(&view, text)
}

fn is_of(entity: &Entity, account: PublicKey) -> bool {
    matches!(entity, Entity::User(user) if user.account == account)
}

/// The one that is meant.
fn one<T>(mut found: Vec<T>, name: &str, entity: impl Fn(&T) -> &Entity) -> Result<T, CliError> {
    // A name counts for whoever has it now; who had it before and was revoked is found by key.
    if found.iter().any(|one| entity(one).revoked_at().is_none()) {
        found.retain(|one| entity(one).revoked_at().is_none());
    }
    let all: Vec<String> = found.iter().map(|one| entity(one).id().to_string()).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            Err(CliError::new(Exit::Conflict, "ambiguous", format!("{name:?} is not the name of one"))
                .hint(format!("name one by its public key, with --account for a user: {}", all.join(", "))))
        }
        (None, _) => {
            Err(CliError::new(Exit::NotFound, "unknown", format!("nothing here is called {name:?}"))
                .hint("`cim-keys list accounts|users|keys` shows what there is"))
        }
    }
}

fn text(view: &View) -> String {
    let mut lines = vec![("name", view.name.clone()), (view.entity, view.public_key.to_string())];
    if let Some(parent) = view.parent {
        let name = view.parent_name.clone().unwrap_or_default();
        lines.push(("of", format!("{name} {parent}").trim().to_owned()));
    }
    let state = if view.marks.is_empty() { "published".to_owned() } else { view.marks.join(", ") };
    lines.push(("state", state));
    lines.extend(view.role.clone().map(|role| ("role", role)));
    lines.push(("created", view.created.to_string()));
    lines.push(("changed", view.updated.to_string()));
    lines.extend(view.expires.map(|at| ("ends", day(at))));
    lines.extend(
        view.servers.map(|servers| ("enforced", format!("on {}", counted(servers.into(), "server")))),
    );
    if let Some(since) = view.since {
        lines.push(("since", format!("sequence {since}")));
    } else {
        lines.push(("seed", if view.seed_kept { "kept here, sealed" } else { "not kept here" }.to_owned()));
    }
    for key in &view.signing_keys {
        let role = key.role.as_ref().map(|role| format!(" role {role}")).unwrap_or_default();
        lines.push(("signing", format!("{}{role}", key.public_key)));
    }
    if let Some(rights) = &view.rights {
        for (name, list) in [
            ("pub allow", &rights.publish.allow),
            ("pub deny", &rights.publish.deny),
            ("sub allow", &rights.subscribe.allow),
            ("sub deny", &rights.subscribe.deny),
            ("networks", &rights.src),
            ("by", &rights.allowed_connection_types),
        ] {
            if !list.is_empty() {
                lines.push((name, list.join(", ")));
            }
        }
    }
    if !view.tags.is_empty() {
        lines.push(("tags", view.tags.join(", ")));
    }
    lines.extend(view.jwt.clone().map(|jwt| ("jwt", jwt)));
    lines.iter().map(|(name, value)| format!("{name:<10} {}\n", printable(value))).collect()
}
