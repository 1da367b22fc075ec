//! `cim-keys diff`: what changed between two moments, in words.

use super::at::{self, At, Moment};
use super::exit::CliError;
use super::globals::Globals;
use super::log_filter::entities;
use super::output::printable;
use super::resolve;
use crate::error::KeyError;
use crate::store::{Order, Store};
use cim_keys_core::changes::{Change, changes};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::projection::{Audit, Directory, Version};
use cim_keys_core::registry::EntityId;
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows that are looked through at a time.
const PAGE: u32 = 1000;
/// Events of a command before its last one, at which it changes things: a moment may lie in between.
const COMMAND: u64 = 999;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what changed about whatever has, or had, this name, label or public key
    entity: Option<String>,
    /// The earlier moment: once the message of this sequence was stored (0: before the first), or a time (of the server's clock, RFC 3339)
    #[arg(long, value_name = "SEQUENCE|TIME")]
    from: Moment,
    /// The later one; what was read last where this is left out
    #[arg(long, value_name = "SEQUENCE|TIME")]
    to: Option<Moment>,
}

#[derive(Serialize)]
struct Diff {
    from: At,
    to: At,
    changes: Vec<Change>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let (from, to) = moments(args, &store, globals)?;
    if from.sequence > to.sequence {
        return Err(CliError::usage(format!("--from {} lies behind --to {}", from.sequence, to.sequence))
            .hint("name the earlier moment by --from"));
    }
    for projection in [&Directory as &dyn cim_keys_core::projection::Projection, &Audit] {
        store.project(projection).map_err(KeyError::from)?;
    }
    let ids = match &args.entity {
        Some(entity) => entities(entity, &store)?.iter().filter_map(|id| id.parse().ok()).collect(),
        None => touched(&store, from.sequence, to.sequence)?,
    };
    let mut owners = BTreeMap::new();
    let output = globals.output();
    let mut diff = Diff { from, to, changes: Vec::new() };
    for id in ids {
        let state = |sequence| store.entity_at(id, sequence).map_err(KeyError::from);
        let (before, after) = (state(from.sequence)?, state(to.sequence)?);
        let owner = owner(&store, before.as_ref().or(after.as_ref()), to.sequence, &mut owners)?;
        let entity = |version: Option<Version>| version.map(|version| version.entity);
        let found = changes(entity(before).as_ref(), entity(after).as_ref(), owner.as_deref());
        if !output.is_lines() {
            diff.changes.extend(found);
            continue;
        }
        for change in &found {
            if !output.row(change)? {
                return Ok(());
            }
        }
    }
    if output.is_lines() {
        return Ok(());
    }
    output.data(&diff, |diff| {
        if diff.changes.is_empty() {
            return format!("nothing changed between sequence {} and {}", from.sequence, to.sequence);
        }
        diff.changes.iter().map(|change| format!("{}\n", printable(&change.words))).collect()
    })
}

fn moments(args: &Args, store: &Store, globals: &Globals) -> Result<(At, At), CliError> {
    let head = store.progress().map_err(KeyError::from)?.head;
    let to = match args.to {
        // Nothing is on a stream yet: the error says so.
        Some(to) => at::sequence_of(to, store, globals)?,
        None => at::sequence_of(Moment::Sequence(head.max(1)), store, globals)?,
    };
    let from = match args.from {
        Moment::Sequence(0) => 0,
        from => at::sequence_of(from, store, globals)?,
    };
    let time = |sequence| store.stored_at(sequence).map_err(KeyError::from);
    Ok((At { sequence: from, time: time(from)? }, At { sequence: to, time: time(to)? }))
}

/// Entities that events between two sequences are about, in the order of each one's last event.
fn touched(store: &Store, from: u64, to: u64) -> Result<Vec<EntityId>, CliError> {
    let mut range = Audit::between(from.saturating_sub(COMMAND), to);
    let mut last: BTreeMap<EntityId, u64> = BTreeMap::new();
    loop {
        let page = store.rows(&Audit, &range, Order::First, PAGE).map_err(KeyError::from)?;
        let Some((end, _)) = page.last() else { break };
        range = range.after(end);
        for entry in page.iter().filter_map(|(_, text)| Audit::entry(text)) {
            // Commands that were voided are no entities.
            if let Ok(id) = entry.entity.parse() {
                last.insert(id, entry.sequence);
            }
        }
    }
    let mut ids: Vec<EntityId> = last.keys().copied().collect();
    ids.sort_by_key(|id| last.get(id).copied());
    Ok(ids)
}

/// What a person calls whatever an entity belongs to.
fn owner(
    store: &Store,
    version: Option<&Version>,
    sequence: u64,
    known: &mut BTreeMap<PublicKey, Option<String>>,
) -> Result<Option<String>, CliError> {
    let operator = resolve::operator(store)?;
    let Some(parent) = version.and_then(|version| version.entity.parent(operator)) else { return Ok(None) };
    if let Some(name) = known.get(&parent) {
        return Ok(name.clone());
    }
    let id =
        if parent.kind() == Kind::Operator { EntityId::Operator(parent) } else { EntityId::Account(parent) };
    let found = store.entity_at(id, sequence).map_err(KeyError::from)?;
    let name = found.map(|version| version.entity.name().to_owned());
    known.insert(parent, name.clone());
    Ok(name)
}
