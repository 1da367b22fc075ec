//! `cim-keys show`.

use super::entities::{View, Viewer, day};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::resolve;
use crate::ambient::Ambient;
use crate::error::KeyError;
use cim_keys_core::registry::Entity;

/// Flags of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, label or public key
    name: String,
    /// Where users of several accounts have the name: which account
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let mut found = match resolve::parsed(&args.name)? {
        Some(key) => store.by_key(key).map_err(KeyError::from)?,
        None => store.by_name(&args.name).map_err(KeyError::from)?,
    };
    if let Some(account) = &args.account {
        let account = resolve::account(&store, account)?.key;
        found.retain(|listed| matches!(&listed.entity, Entity::User(user) if user.account == account));
    }
    // A name counts for whoever has it now; who had it before and was revoked is found by key.
    if found.iter().any(|listed| listed.entity.revoked_at().is_none()) {
        found.retain(|listed| listed.entity.revoked_at().is_none());
    }
    let listed = match found.as_slice() {
        [] => {
            let error =
                CliError::new(Exit::NotFound, "unknown", format!("nothing here is called {:?}", args.name));
            return Err(error.hint("`cim-keys list accounts|users|keys` shows what there is"));
        }
        [one] => one,
        several => {
            let all: Vec<String> = several.iter().map(|listed| listed.entity.id().to_string()).collect();
            return Err(CliError::new(
                Exit::Conflict,
                "ambiguous",
                format!("{:?} is not the name of one", args.name),
            )
            .hint(format!("name one by its public key, with --account for a user: {}", all.join(", "))));
        }
    };
    let mut view = Viewer::new(&store, Ambient::system().now()).view(listed)?;
    view.jwt = listed.entity.token().and_then(|token| token.text());
    // Whoever has the user's seed can use it from now on.
    if let (Entity::User(_), Some(position)) = (&listed.entity, listed.pending) {
        store.note_shown(position).map_err(KeyError::from)?;
    }
    globals.output().data(&view, text)
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
    lines.push(("seed", if view.seed_kept { "kept here, sealed" } else { "not kept here" }.to_owned()));
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
