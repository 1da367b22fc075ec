//! `cim-keys anomalies`: messages on the stream that change nothing.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{plain, table};
use crate::error::KeyError;
use crate::store::{Store, TrailEntry};
use base64ct::{Base64, Encoding};
use cim_keys_core::admission::Anomaly;
use cim_keys_core::rules::Reason;
use clap::Subcommand;
use serde::Serialize;

/// Flags of `anomalies`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Verbs of `anomalies`.
#[derive(Debug, Subcommand)]
enum Verb {
    /// All of them, by sequence; what is done where no verb is given
    List,
    /// One message whole, whatever is in it
    Show(Show),
}

/// Flags of `anomalies show`.
#[derive(Debug, clap::Args)]
struct Show {
    /// Its sequence on the stream
    #[arg(value_name = "SEQ")]
    sequence: u64,
}

#[derive(Serialize)]
struct List {
    anomalies: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    /// Their stream sequences: those of one command belong together.
    sequences: Vec<u64>,
    reason: Reason,
    /// Of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

#[derive(Serialize)]
struct Message {
    sequence: u64,
    /// Those that are an anomaly together with it, itself included.
    sequences: Vec<u64>,
    reason: Reason,
    subject: String,
    headers: Vec<Header>,
    /// Where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// Where it is not: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    payload_bytes: usize,
}

#[derive(Serialize)]
struct Header {
    name: String,
    value: String,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    match &args.verb {
        None | Some(Verb::List) => list(&store, globals),
        Some(Verb::Show(args)) => show(&store, args.sequence, globals),
    }
}

fn list(store: &Store, globals: &Globals) -> Result<(), CliError> {
    let mut lines = Vec::new();
    for anomaly in store.anomalies().map_err(KeyError::from)? {
        let first = anomaly.sequences.first().copied();
        let message = first.map(|sequence| message(store, sequence)).transpose()?.flatten();
        lines.push(Line {
            sequences: anomaly.sequences,
            reason: anomaly.reason,
            subject: message.map(|message| message.subject),
        });
    }
    let whole = List { anomalies: lines };
    globals.output().list(&whole, &whole.anomalies, |list| {
        if list.anomalies.is_empty() {
            return "none: every message that was read is part of the registry".to_owned();
        }
        let rows = list.anomalies.iter().map(|line| {
            vec![
                spans(&line.sequences),
                plain(line.subject.as_deref().unwrap_or_default()),
                line.reason.code.clone(),
                plain(&line.reason.text),
            ]
        });
        table(&["seq", "subject", "code", "why it changes nothing"], rows.collect())
    })
}

fn show(store: &Store, sequence: u64, globals: &Globals) -> Result<(), CliError> {
    let has = |anomaly: &Anomaly| anomaly.sequences.contains(&sequence);
    let found = store.anomalies().map_err(KeyError::from)?.into_iter().find(has);
    let missing = |code: &str, text: &str| {
        CliError::new(Exit::NotFound, code, format!("the message at {sequence} {text}"))
            .hint("`cim-keys anomalies` lists them, `cim-keys log` what is part of the registry")
    };
    let anomaly = found.ok_or_else(|| missing("no-anomaly", "is no anomaly, or was not read yet"))?;
    let stored = message(store, sequence)?;
    let stored = stored.ok_or_else(|| missing("no-message", "is an anomaly, but not kept here"))?;
    let headers = stored.headers.iter();
    let shown = Message {
        sequence,
        sequences: anomaly.sequences,
        reason: anomaly.reason,
        subject: stored.subject,
        headers: headers
            .map(|(name, value)| Header { name: name.to_owned(), value: value.to_owned() })
            .collect(),
        payload_bytes: stored.payload.len(),
        payload_base64: None,
        payload: None,
    };
    let shown = match String::from_utf8(stored.payload) {
        Ok(text) => Message { payload: Some(text), ..shown },
        Err(error) => Message { payload_base64: Some(Base64::encode_string(error.as_bytes())), ..shown },
    };
    globals.output().data(&shown, text)
}

fn text(message: &Message) -> String {
    let mut lines = vec![
        format!("sequence   {}", message.sequence),
        format!("together   {}", spans(&message.sequences)),
        format!("reason     {}: {}", plain(&message.reason.code), plain(&message.reason.text)),
        format!("subject    {}", plain(&message.subject)),
    ];
    lines.extend(
        message
            .headers
            .iter()
            .map(|header| format!("header     {}: {}", plain(&header.name), plain(&header.value))),
    );
    let bytes = message.payload_bytes;
    match (&message.payload, &message.payload_base64) {
        (Some(text), _) => {
            lines.push(format!("payload    {bytes} bytes"));
            // A line of ours begins at the margin, one of theirs never does.
            lines.extend(text.split('\n').map(|line| format!("           {}", plain(line))));
        }
        (None, encoded) => lines.push(format!(
            "payload    {bytes} bytes that are no text, in base64: {}",
            encoded.as_deref().unwrap_or_default()
        )),
    }
    lines.join("\n")
}

fn message(store: &Store, sequence: u64) -> Result<Option<TrailEntry>, CliError> {
    let entry = store.trail(sequence.saturating_sub(1), 1).map_err(KeyError::from)?.pop();
    Ok(entry.filter(|entry| entry.sequence == sequence))
}

/// `7`, `7, 9`, or `7-12`.
fn spans(sequences: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match spans.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*sequence) => *last = *sequence,
            _ => spans.push((*sequence, *sequence)),
        }
    }
    let text = |(first, last): (u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    spans.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_sequences_are_short() {
        assert_eq!(spans(&[7]), "7");
        assert_eq!(spans(&[1, 2, 3, 9, 11, 12]), "1-3, 9, 11-12");
        assert_eq!(spans(&[u64::MAX]), u64::MAX.to_string());
    }

    #[test]
    fn what_others_wrote_cannot_move_a_cursor_or_pass_for_our_lines() {
        let message = Message {
            sequence: 3,
            sequences: vec![3],
            reason: Reason { code: "forged".into(), text: "no".into() },
            subject: "a.b".into(),
            headers: vec![Header { name: "X".into(), value: "\u{1b}[2J\u{202e}x\u{200b}".into() }],
            payload: Some("{\"a\": 'b'}\nsubject    other\r\u{7}".into()),
            payload_base64: None,
            payload_bytes: 30,
        };
        let shown = text(&message);
        assert!(shown.contains(r#"header     X: \u{1b}[2J\u{202e}x\u{200b}"#), "{shown}");
        assert!(shown.ends_with("           {\"a\": 'b'}\n           subject    other\\r\\u{7}"), "{shown}");
    }
}
