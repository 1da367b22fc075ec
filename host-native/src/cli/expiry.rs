//! `cim-keys expiry`: what ends by itself, and when.

use super::entities::Viewer;
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::table;
use super::parse::Expiry as Span;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::Order;
use cim_keys_core::projection::{Expiring, Expiry};
use cim_keys_core::registry::EntityId;
use cim_keys_core::time::Timestamp;
use serde::Serialize;

/// Rows that are looked through at a time.
const PAGE: u32 = 1000;

/// Flags of `expiry`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Until when: 30d, 12h, 2027-01-31, or 0 for whatever ends at all
    #[arg(long, value_name = "TIME", default_value = "30d")]
    within: Span,
    /// What has ended already, too
    #[arg(long)]
    ended: bool,
}

#[derive(Serialize)]
struct List {
    /// Unix seconds.
    from: i64,
    until: i64,
    expiring: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    expiring: Expiring,
    /// What a person calls a user's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// Whether it has ended.
    ended: bool,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let now = Ambient::system().now();
    let until = match args.within.at(now) {
        0 => i64::MAX,
        until => until,
    };
    let from = if args.ended { 0 } else { now.seconds() };
    store.project(&Expiry).map_err(KeyError::from)?;
    let viewer = Viewer::new(&store, now);
    let line = |text: &str| -> Result<Line, CliError> {
        let expiring = Expiry::expiring(text).ok_or_else(|| {
            CliError::new(Exit::Verification, "store-damaged", "the projection expiry is damaged")
                .hint("`cim-keys projection rebuild expiry` makes it anew")
        })?;
        let account = match expiring.entity {
            EntityId::User { account, .. } => Some(viewer.name_of(account)?),
            _ => None,
        };
        Ok(Line { ended: expiring.expires <= now.seconds(), expiring, account })
    };
    let output = globals.output();
    let mut list = List { from, until, expiring: Vec::new() };
    let mut range = Expiry::between(from, until);
    loop {
        let page = store.rows(&Expiry, &range, Order::First, PAGE).map_err(KeyError::from)?;
        let Some((last, _)) = page.last() else { break };
        range = range.after(last);
        for (_, text) in &page {
            let line = line(text)?;
            if !output.is_lines() {
                list.expiring.push(line);
            } else if !output.row(&line)? {
                return Ok(());
            }
        }
    }
    if output.is_lines() {
        return Ok(());
    }
    output.data(&list, |list| {
        let row = |line: &Line| {
            let Expiring { entity, name, expires, .. } = &line.expiring;
            let time = Timestamp::from_millis(expires.saturating_mul(1000));
            let time = time.map_or_else(|_| expires.to_string(), |time| time.to_string());
            let state = if line.ended { "ended" } else { "" };
            vec![
                time,
                name.clone(),
                line.account.clone().unwrap_or_default(),
                entity.to_string(),
                state.to_owned(),
            ]
        };
        table(&["ends", "name", "account", "what", ""], list.expiring.iter().map(row).collect())
    })
}
