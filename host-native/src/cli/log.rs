//! `cim-keys log`: the local trail.

use super::at::Moment;
use super::exit::CliError;
use super::globals::Globals;
use super::log_filter::Filter;
use super::output::{Output, printable, table};
use super::{log_follow, log_tree};
use crate::error::KeyError;
use crate::store::{Store, TrailEntry};
use cim_keys_core::headers::{
    CIM_CAUSATION_ID, CIM_CORRELATION_ID, CIM_EVENT_ID, CIM_EVENT_TYPE, CIM_TIMESTAMP, Headers,
};
use cim_keys_core::journal::State;
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Messages of the stream that are in memory at once.
const PAGE: u64 = 1000;

/// Flags of `log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what stands behind this sequence; the newest where this is left out
    #[arg(long, value_name = "SEQUENCE")]
    pub(super) after: Option<u64>,
    /// At most so many of those on the stream, and as many of those not published
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000)]
    pub(super) limit: u32,
    /// Payloads too (in JSON output)
    #[arg(long)]
    pub(super) payload: bool,
    /// Only events about whatever has, or had, this name, label or public key
    #[arg(long, value_name = "NAME|KEY")]
    pub(super) entity: Option<String>,
    /// Only events of this conversation
    #[arg(long, value_name = "ID")]
    pub(super) correlation: Option<Uuid>,
    /// Only what this person or service wanted
    #[arg(long, value_name = "ACTOR")]
    pub(super) by: Option<String>,
    /// Only events of this type, such as user.revoked
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// Only from this sequence on, or what was stored from this time on (of the server's clock, RFC 3339)
    #[arg(long, value_name = "SEQUENCE|TIME", conflicts_with = "after")]
    pub(super) since: Option<Moment>,
    /// Only up to this sequence, or what was stored by this time; nothing that is not published
    #[arg(long, value_name = "SEQUENCE|TIME")]
    pub(super) until: Option<Moment>,
    /// Go on until Ctrl-C (status 0), with each event as it is published from here or read by a sync of this registry
    #[arg(long, short = 'f', conflicts_with_all = ["until", "tree"])]
    follow: bool,
    /// What caused what in this conversation, as a tree of its commands
    #[arg(long, value_name = "CORRELATION", conflicts_with_all = ["entity", "correlation", "by", "kind", "since", "until", "after", "payload"])]
    tree: Option<Uuid>,
}

#[derive(Serialize)]
struct Trail {
    events: Vec<Line>,
}

#[derive(Serialize)]
pub(super) struct Line {
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
    /// When the server stored it, where that is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
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

impl Line {
    fn cells(&self) -> Vec<String> {
        vec![
            self.sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string()),
            self.time.clone().unwrap_or_default(),
            self.event_type.clone().unwrap_or_else(|| self.subject.clone()),
            self.entity.clone().unwrap_or_default(),
            self.actor.clone().unwrap_or_default(),
            self.command_id.clone().unwrap_or_default(),
            self.reason
                .as_ref()
                .map_or_else(|| self.state.to_owned(), |reason| format!("{}: {reason}", self.state)),
        ]
    }
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    if let Some(correlation) = args.tree {
        return log_tree::run(&store, correlation, globals);
    }
    let filter = Filter::of(args, &store, globals)?;
    let log = Log { store: &store, args, filter };
    let output = globals.output();
    if args.follow {
        return log_follow::run(&log, output);
    }
    if output.is_lines() {
        return log.each(|line| output.row(&line));
    }
    let mut events = Vec::new();
    log.each(|line| {
        events.push(line);
        Ok(true)
    })?;
    output.data(&Trail { events }, |trail| {
        let rows = trail.events.iter().map(Line::cells);
        table(&["seq", "time", "event", "about", "actor", "command", "state"], rows.collect())
    })
}

/// The trail with what is asked of it.
pub(super) struct Log<'a> {
    pub(super) store: &'a Store,
    args: &'a Args,
    filter: Option<Filter>,
}

impl Log<'_> {
    /// Makes line after line, as long as they are taken.
    fn each(&self, mut take: impl FnMut(Line) -> Result<bool, CliError>) -> Result<(), CliError> {
        if self.published(&mut take)?.is_some() && self.args.until.is_none() {
            self.unpublished(&mut take)?;
        }
        Ok(())
    }

    /// Lines of what is on the stream. Gives the last sequence that was looked at; none where nobody takes any more.
    pub(super) fn published(
        &self,
        take: &mut impl FnMut(Line) -> Result<bool, CliError>,
    ) -> Result<Option<u64>, CliError> {
        let head = || Ok::<u64, CliError>(self.store.progress().map_err(KeyError::from)?.head);
        if let Some(filter) = &self.filter {
            let reached = self.settled()?;
            let newest = self.args.after.is_none() && self.args.since.is_none();
            let found = filter.sequences(self.store, newest, reached, self.args.limit)?;
            return Ok(self.some(&found, take)?.then_some(reached));
        }
        let mut after = match self.args.after {
            Some(after) => after,
            None => head()?.saturating_sub(self.args.limit.into()),
        };
        let mut left = self.args.limit;
        while left > 0 {
            // It may grow meanwhile: what was pending is not to be missed.
            let head = head()?;
            if after >= head {
                break;
            }
            // Not all at once: a trail may be long.
            let until = head.min(after.saturating_add(PAGE));
            let (taken, goes_on) = self.between(after, until, left, take)?;
            if !goes_on {
                return Ok(None);
            }
            left = left.saturating_sub(taken);
            after = until;
        }
        Ok(Some(after))
    }

    /// The last sequence of which it is known what becomes of it: what is unfinished may become a command or an anomaly.
    pub(super) fn settled(&self) -> Result<u64, CliError> {
        let progress = self.store.progress().map_err(KeyError::from)?;
        let unfinished = u64::try_from(progress.assembler.unfinished()).unwrap_or(u64::MAX);
        Ok(progress.head.saturating_sub(unfinished))
    }

    /// Lines of what came behind a sequence, up to another one. False where nobody takes any more.
    pub(super) fn news(
        &self,
        (mut after, until): (u64, u64),
        take: &mut impl FnMut(Line) -> Result<bool, CliError>,
    ) -> Result<bool, CliError> {
        if let Some(filter) = &self.filter {
            let found = filter.from(after.saturating_add(1)).sequences(self.store, false, until, u32::MAX)?;
            return self.some(&found, take);
        }
        while after < until {
            let end = until.min(after.saturating_add(PAGE));
            if !self.between(after, end, u32::MAX, take)?.1 {
                return Ok(false);
            }
            after = end;
        }
        Ok(true)
    }

    fn some(
        &self,
        sequences: &[u64],
        take: &mut impl FnMut(Line) -> Result<bool, CliError>,
    ) -> Result<bool, CliError> {
        for sequence in sequences {
            if !self.between(sequence.saturating_sub(1), *sequence, 1, take)?.1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lines between two sequences: how many, and whether more are taken.
    fn between(
        &self,
        after: u64,
        until: u64,
        limit: u32,
        take: &mut impl FnMut(Line) -> Result<bool, CliError>,
    ) -> Result<(u32, bool), CliError> {
        let anomalies: BTreeMap<u64, String> = self
            .store
            .anomalies_between(after, until)
            .map_err(KeyError::from)?
            .into_iter()
            .flat_map(|anomaly| {
                let text = anomaly.reason.text;
                anomaly.sequences.into_iter().map(move |sequence| (sequence, text.clone()))
            })
            .collect();
        let mut taken = 0;
        for entry in self.store.trail_between(after, until, limit).map_err(KeyError::from)? {
            taken += 1;
            let TrailEntry { sequence, subject, headers, payload } = entry;
            let reason = anomalies.get(&sequence).cloned();
            let state = if reason.is_some() { "anomaly" } else { "confirmed" };
            let stored = self.store.stored_at(sequence).map_err(KeyError::from)?;
            let line = line(state, subject, &headers, &payload, self.args.payload);
            let stored = stored.map(|time| time.to_string());
            if !take(Line { sequence: Some(sequence), reason, stored, ..line })? {
                return Ok((taken, false));
            }
        }
        Ok((taken, true))
    }

    /// Lines of what is not published.
    fn unpublished(&self, take: &mut impl FnMut(Line) -> Result<bool, CliError>) -> Result<(), CliError> {
        let mut left = self.args.limit;
        let mut outcome = Ok(true);
        let each = self.store.each_pending(|event| {
            let fits = |filter: &Filter| filter.fits(&event.subject, &event.headers, &event.payload);
            if left > 0 && self.filter.as_ref().is_none_or(fits) {
                left -= 1;
                let state = if event.state == State::Held { "held" } else { "pending" };
                outcome = take(line(state, event.subject, &event.headers, &event.payload, self.args.payload));
            }
            left > 0 && matches!(outcome, Ok(true))
        });
        each.map_err(KeyError::from)?;
        outcome.map(|_| ())
    }
}

/// One line by itself, as it comes.
pub(super) fn say(line: &Line, output: Output) -> Result<bool, CliError> {
    if output.is_json() {
        return output.row(line);
    }
    output.data(line, |line| printable(&line.cells().join("  "))).map(|()| true)
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
        stored: None,
        correlation_id: header(CIM_CORRELATION_ID),
        causation_id: header(CIM_CAUSATION_ID),
        command_id: text("/data/command/id"),
        entity: text("/subject"),
        actor: text("/data/command/actor"),
        payload: if whole { json } else { None },
    }
}
