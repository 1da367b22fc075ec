//! What is shown of dead letters.

use super::output::plain;
use base64ct::{Base64, Encoding};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::dead::{Entry, Standing, Word};
use cim_keys_core::stream::KEYS_DEAD;
use serde::Serialize;

/// Where they stand.
pub(super) const STREAM: &str = KEYS_DEAD;

/// One of a list.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) letter: String,
    pub(super) state: Standing,
    pub(super) code: String,
    pub(super) reason: String,
    /// Deliveries until it was given up.
    pub(super) delivered: u64,
    /// When it was given up.
    pub(super) at: String,
    /// Of the message; missing where only the server said something about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
}

impl From<&Entry> for Line {
    fn from(entry: &Entry) -> Self {
        let (code, reason) = entry.why();
        let (letter, advisory) = (entry.letter.as_ref(), entry.advisory.as_ref());
        let delivered = letter.map(|letter| letter.delivered);
        Self {
            letter: entry.place.to_string(),
            state: entry.state,
            code: code.to_owned(),
            reason: reason.to_owned(),
            delivered: delivered.or(advisory.map(|advisory| advisory.delivered)).unwrap_or_default(),
            at: letter
                .map(|letter| letter.at.to_string())
                .or(advisory.map(|advisory| advisory.at.clone()))
                .unwrap_or_default(),
            subject: letter.map(|letter| letter.subject.clone()),
        }
    }
}

/// One, whole.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    line: Line,
    /// What was said about it, in order.
    words: Vec<Spoken>,
    /// What the server said by itself: code and words.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// The message as it stands on its stream; missing where it is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

#[derive(Serialize)]
struct Spoken {
    sequence: u64,
    word: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Message {
    subject: String,
    /// Whether it is the one that was given up; missing where nobody wrote which that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    same: Option<bool>,
    headers: Vec<(String, String)>,
    /// Where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// Where it is not: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Shown {
    pub(super) fn new(entry: &Entry, message: Option<StoredMessage>) -> Self {
        let server = entry.advisory.as_ref().map(|advisory| {
            let words =
                if advisory.reason.is_empty() { String::new() } else { format!(": {}", advisory.reason) };
            format!("{} after {}{words}", advisory.code, advisory.delivered)
        });
        let message = message.map(|message| {
            let same = entry.letter.as_ref().map(|letter| letter.digest == message.content());
            let headers = message.headers.iter();
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let (payload, payload_base64) = match String::from_utf8(message.payload) {
                Ok(text) => (Some(text), None),
                Err(error) => (None, Some(Base64::encode_string(error.as_bytes()))),
            };
            Message { subject: message.subject, same, headers, payload, payload_base64 }
        });
        let words = entry.words.iter().map(|(sequence, word)| spoken(*sequence, word)).collect();
        Self { line: Line::from(entry), words, server, message }
    }
}

fn spoken(sequence: u64, word: &Word) -> Spoken {
    let (name, at, actor, reason) = match word {
        Word::Letter(letter) => {
            ("letter", letter.at, None, Some(format!("{}: {}", letter.code, letter.reason)))
        }
        Word::Retry { actor, at } => ("retry", *at, Some(actor.clone()), None),
        Word::Handled { at } => ("handled", *at, None, None),
        Word::Dropped { actor, at } => ("dropped", *at, Some(actor.clone()), None),
    };
    Spoken { sequence, word: name, at: at.to_string(), actor, reason }
}

pub(super) fn text(shown: &Shown) -> String {
    let line = &shown.line;
    let mut lines = vec![
        format!("letter     {}", line.letter),
        format!("state      {}", line.state.as_str()),
        format!("why        {}: {}", line.code, plain(&line.reason)),
        format!("tries      {}", line.delivered),
    ];
    for Spoken { sequence, word, at, actor, reason } in &shown.words {
        let by = actor.as_ref().map(|actor| format!(" by {}", plain(actor))).unwrap_or_default();
        let why = reason.as_ref().map(|reason| format!(", {}", plain(reason))).unwrap_or_default();
        lines.push(format!("said       {at} {word}{by}{why} ({sequence})"));
    }
    lines.extend(shown.server.iter().map(|server| format!("server     {}", plain(server))));
    let Some(message) = &shown.message else {
        lines.push("message    forgotten by its stream".to_owned());
        return lines.join("\n");
    };
    lines.push(format!("subject    {}", plain(&message.subject)));
    if message.same == Some(false) {
        lines.push("           ANOTHER message than the one that was given up".to_owned());
    }
    let headers = message.headers.iter();
    lines.extend(headers.map(|(name, value)| format!("header     {}: {}", plain(name), plain(value))));
    match (&message.payload, &message.payload_base64) {
        // A line of ours begins at the margin, one of theirs never does.
        (Some(text), _) => lines.extend(text.split('\n').map(|line| format!("           {}", plain(line)))),
        (None, encoded) => {
            lines.push(format!("payload    no text, in base64: {}", encoded.as_deref().unwrap_or_default()));
        }
    }
    lines.join("\n")
}
