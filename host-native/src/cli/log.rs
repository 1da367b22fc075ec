//! `cim-keys log`: the local trail.

use super::exit::CliError;
use super::globals::Globals;
use super::output::table;
use crate::error::KeyError;
use crate::store::Store;
use cim_keys_core::headers::{CIM_CORRELATION_ID, CIM_EVENT_ID, CIM_EVENT_TYPE, CIM_TIMESTAMP, Headers};
use cim_keys_core::journal::State;
use serde::Serialize;
use std::collections::BTreeMap;

/// Messages of the stream that are in memory at once.
const PAGE: u64 = 1000;

/// Flags of `log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what stands behind this sequence; the newest where this is left out
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// At most so many of those on the stream, and as many of those not published
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000)]
    limit: u32,
    /// Payloads too (in JSON output)
    #[arg(long)]
    payload: bool,
}

#[derive(Serialize)]
struct Trail {
    events: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    /// Place on the stream; missing for what is not published.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// `confirmed`, `pending`, `held` or `anomaly`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// The command that it is of, as `held` and `show` name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_id: Option<String>,
    /// The entity's public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<serde_json::Value>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let anomalies: BTreeMap<u64, String> = store
        .anomalies()
        .map_err(KeyError::from)?
        .into_iter()
        .flat_map(|anomaly| {
            let text = anomaly.reason.text;
            anomaly.sequences.into_iter().map(move |sequence| (sequence, text.clone()))
        })
        .collect();
    let output = globals.output();
    if output.is_lines() {
        return each(&store, args, &anomalies, |line| output.row(&line));
    }
    let mut events = Vec::new();
    each(&store, args, &anomalies, |line| {
        events.push(line);
        Ok(true)
    })?;
    output.data(&Trail { events }, |trail| {
        let rows = trail.events.iter().map(|line| {
            vec![
                line.sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string()),
                line.time.clone().unwrap_or_default(),
                line.event_type.clone().unwrap_or_else(|| line.subject.clone()),
                line.entity.clone().unwrap_or_default(),
                line.actor.clone().unwrap_or_default(),
                line.command_id.clone().unwrap_or_default(),
                line.reason
                    .as_ref()
                    .map_or_else(|| line.state.to_owned(), |reason| format!("{}: {reason}", line.state)),
            ]
        });
        table(&["seq", "time", "event", "about", "actor", "command", "state"], rows.collect())
    })
}

/// Makes line after line, as long as they are taken.
fn each(
    store: &Store,
    args: &Args,
    anomalies: &BTreeMap<u64, String>,
    mut take: impl FnMut(Line) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let head = || Ok::<u64, CliError>(store.progress().map_err(KeyError::from)?.head);
    let mut after = match args.after {
        Some(after) => after,
        None => head()?.saturating_sub(args.limit.into()),
    };
    let mut left = args.limit;
    while left > 0 {
        // It may grow meanwhile: what was pending is not to be missed.
        let head = head()?;
        if after >= head {
            break;
        }
        // Not all at once: a trail may be long.
        let until = head.min(after.saturating_add(PAGE));
        for entry in store.trail_between(after, until, left).map_err(KeyError::from)? {
            left = left.saturating_sub(1);
            let reason = anomalies.get(&entry.sequence).cloned();
            let state = if reason.is_some() { "anomaly" } else { "confirmed" };
            let line = line(state, entry.subject, &entry.headers, &entry.payload, args.payload);
            if !take(Line { sequence: Some(entry.sequence), reason, ..line })? {
                return Ok(());
            }
        }
        after = until;
    }
    for event in store.pending_events(args.limit).map_err(KeyError::from)? {
        let state = if event.state == State::Held { "held" } else { "pending" };
        if !take(line(state, event.subject, &event.headers, &event.payload, args.payload))? {
            return Ok(());
        }
    }
    Ok(())
}

fn line(state: &'static str, subject: String, headers: &Headers, payload: &[u8], whole: bool) -> Line {
    let header = |name: &str| headers.only(name).map(str::to_owned);
    // A foreign message may be anything.
    let json: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    let text = |path: &str| Some(json.as_ref()?.pointer(path)?.as_str()?.to_owned());
    Line {
        sequence: None,
        state,
        reason: None,
        subject,
        event_id: header(CIM_EVENT_ID),
        event_type: header(CIM_EVENT_TYPE),
        time: header(CIM_TIMESTAMP),
        correlation_id: header(CIM_CORRELATION_ID),
        command_id: text("/data/command/id"),
        entity: text("/subject"),
        actor: text("/data/command/actor"),
        payload: if whole { json } else { None },
    }
}
