//! `cim-keys log --tree`: what caused what in a conversation.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::log_filter::entry;
use super::output::printable;
use crate::error::KeyError;
use crate::store::{Order, Store};
use cim_keys_core::projection::{Audit, Branch, tree};
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize)]
struct Tree {
    correlation_id: Uuid,
    /// Each behind what caused it.
    commands: Vec<Branch>,
}

pub(super) fn run(store: &Store, correlation: Uuid, globals: &Globals) -> Result<(), CliError> {
    store.project(&Audit).map_err(KeyError::from)?;
    let range = Audit::by("correlation", &correlation.to_string(), 0, u64::MAX);
    let rows = store.rows(&Audit, &range, Order::First, u32::MAX).map_err(KeyError::from)?;
    let entries = rows.iter().map(|(key, _)| entry(store, key)).collect::<Result<Vec<_>, _>>()?;
    if entries.is_empty() {
        return Err(CliError::new(
            Exit::NotFound,
            "unknown-correlation",
            format!("nothing on the stream belongs to {correlation}"),
        )
        .hint("`cim-keys log --output json` shows the correlation of each event; what is pending has no place in the tree yet"));
    }
    let tree = Tree { correlation_id: correlation, commands: tree(entries) };
    globals.output().list(&tree, &tree.commands, |tree| tree.commands.iter().map(words).collect())
}

/// A command and its events below it.
fn words(branch: &Branch) -> String {
    let indent = "  ".repeat(branch.depth.try_into().unwrap_or_default());
    let first = branch.entries.first();
    let (actor, time) =
        first.map_or_else(Default::default, |entry| (entry.actor.clone(), entry.time.to_string()));
    let mut lines = format!("{indent}{} by {} at {time}\n", branch.command_id, printable(&actor));
    for entry in &branch.entries {
        let name = entry.name.as_ref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
        lines.push_str(&format!(
            "{indent}  {} {}{name} ({})\n",
            entry.sequence, entry.event_type, entry.entity
        ));
    }
    lines
}
