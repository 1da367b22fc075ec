//! What of the trail is asked for, found by the look-ups of the projection `audit`.

use super::at::{self, Moment};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::log::Args;
use super::resolve;
use crate::error::KeyError;
use crate::store::{Order, Store};
use cim_keys_core::headers::Headers;
use cim_keys_core::projection::{Audit, Directory, Entry, Key, Range, Record};
use cim_keys_core::registry::EntityId;
use cim_keys_core::subjects::DOMAIN;
use std::collections::BTreeSet;

/// Rows that are looked through at a time.
const PAGE: u32 = 1000;

/// Which events.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// By id, as they stand in entries; none for any.
    entities: Option<Vec<String>>,
    correlation: Option<String>,
    actor: Option<String>,
    kind: Option<String>,
    first: u64,
    last: u64,
}

impl Filter {
    /// None where everything is asked for.
    pub(super) fn of(args: &Args, store: &Store, globals: &Globals) -> Result<Option<Self>, CliError> {
        let Args { entity, correlation, by, kind, since, until, .. } = args;
        let some = entity.is_some() || correlation.is_some() || by.is_some() || kind.is_some();
        if !some && since.is_none() && until.is_none() {
            return Ok(None);
        }
        store.project(&Audit).map_err(KeyError::from)?;
        let bound = |moment: Option<Moment>, first: bool| {
            moment.map(|moment| at::bound(moment, first, store, globals)).transpose()
        };
        let prefix = format!("{DOMAIN}.");
        let behind = args.after.map_or(1, |after| after.saturating_add(1));
        Ok(Some(Self {
            entities: entity.as_deref().map(|entity| entities(entity, store)).transpose()?,
            correlation: correlation.map(|id| id.to_string()),
            actor: by.clone(),
            kind: kind.as_ref().map(|kind| match kind.strip_prefix(&prefix) {
                Some(_) => kind.clone(),
                None => format!("{prefix}{kind}"),
            }),
            first: bound(*since, true)?.unwrap_or(behind),
            last: bound(*until, false)?.unwrap_or(u64::MAX),
        }))
    }

    /// The same from a sequence on.
    pub(super) fn from(&self, first: u64) -> Self {
        Self { first: self.first.max(first), ..self.clone() }
    }

    /// Whether a message that is not published is asked for.
    pub(super) fn fits(&self, subject: &str, headers: &Headers, payload: &[u8]) -> bool {
        let record = Record::open(0, subject, headers, payload);
        record.is_ok_and(|record| self.matches(&Entry::of(&record)))
    }

    fn matches(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|it| it == found);
        self.entities.as_ref().is_none_or(|entities| entities.contains(&entry.entity))
            && is(&self.correlation, &entry.correlation_id.to_string())
            && is(&self.actor, &entry.actor)
            && is(&self.kind, &entry.event_type)
    }

    /// At most `limit` sequences up to `head`, in order: the first ones, or the newest. What came since is folded before.
    pub(super) fn sequences(
        &self,
        store: &Store,
        newest: bool,
        head: u64,
        limit: u32,
    ) -> Result<Vec<u64>, CliError> {
        store.project(&Audit).map_err(KeyError::from)?;
        let last = self.last.min(head);
        if self.first > last {
            return Ok(Vec::new());
        }
        // The look-up that names the fewest, as a rule.
        let by = |look_up, text: &str| vec![Audit::by(look_up, text, self.first, last)];
        let ranges = match self {
            Self { entities: Some(entities), .. } => {
                entities.iter().flat_map(|id| by("entity", id)).collect()
            }
            Self { correlation: Some(id), .. } => by("correlation", id),
            Self { actor: Some(actor), .. } => by("actor", actor),
            Self { kind: Some(kind), .. } => by("type", kind),
            _ => vec![Audit::between(self.first, last)],
        };
        let mut found = BTreeSet::new();
        for range in ranges {
            found.extend(self.along(range, store, newest, limit)?);
            // Of several entities those that are too many are let go of.
            while found.len() > limit as usize {
                if newest {
                    found.pop_first()
                } else {
                    found.pop_last()
                };
            }
        }
        Ok(found.into_iter().collect())
    }

    fn along(&self, mut range: Range, store: &Store, newest: bool, limit: u32) -> Result<Vec<u64>, CliError> {
        let order = if newest { Order::Last } else { Order::First };
        let mut found = Vec::new();
        loop {
            let page = store.rows(&Audit, &range, order, PAGE.min(limit)).map_err(KeyError::from)?;
            let Some((end, _)) = page.last() else { return Ok(found) };
            range = if newest { Range { until: end.clone(), ..range } } else { range.after(end) };
            for (key, _) in &page {
                if found.len() == limit as usize {
                    return Ok(found);
                }
                let entry = entry(store, key)?;
                if self.matches(&entry) {
                    found.push(entry.sequence);
                }
            }
        }
    }
}

/// The entry that a row names.
pub(super) fn entry(store: &Store, key: &Key) -> Result<Entry, CliError> {
    let damaged = || {
        CliError::new(Exit::Verification, "store-damaged", "the projection audit is damaged")
            .hint("`cim-keys projection rebuild audit` makes it anew")
    };
    let sequence = Audit::sequence(key).ok_or_else(damaged)?;
    let text = store.row(&Audit, &Audit::at(sequence)).map_err(KeyError::from)?;
    text.as_deref().and_then(Audit::entry).ok_or_else(damaged)
}

/// Whatever has or had this name, label or key, here or on the stream.
pub(super) fn entities(text: &str, store: &Store) -> Result<Vec<String>, CliError> {
    store.project(&Directory).map_err(KeyError::from)?;
    let key = resolve::parsed(text)?;
    let (past, now) = match key {
        Some(key) => (store.ever_keyed(key), store.by_key(key)),
        None => (store.ever_named(text), store.by_name(text)),
    };
    let now = now.map_err(KeyError::from)?.into_iter().map(|listed| listed.entity.id());
    let all: BTreeSet<EntityId> = past.map_err(KeyError::from)?.into_iter().chain(now).collect();
    if all.is_empty() {
        let error =
            CliError::new(Exit::NotFound, "unknown", format!("nothing here is or was called {text:?}"));
        return Err(error.hint("`cim-keys list accounts|users|keys` shows what there is"));
    }
    Ok(all.iter().map(ToString::to_string).collect())
}
