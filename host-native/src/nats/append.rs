//! Publishing what the machine wants sent, and what came back.

use super::link::{Link, Trouble};
use crate::crash::{self, Step};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use cim_keys_core::headers::Headers;
use cim_keys_core::jetstream;
use cim_keys_core::sync::{Outgoing, Reply, Send};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Publishes one message plainly, several as an atomic batch of which only the last one wants an answer.
pub async fn send(link: &Link, send: Send) -> Reply {
    let subjects: BTreeSet<String> = send.messages.iter().map(|message| message.subject.clone()).collect();
    let before = link.denials();
    let reply = publish(link, send).await;
    // Of a batch, one message may be denied and another one refused for its absence.
    match link.denied_since(before, &subjects) {
        Some(subject) if !matches!(reply, Reply::Ack { .. }) => Reply::Permission { subject },
        _ => reply,
    }
}

async fn publish(link: &Link, send: Send) -> Reply {
    let mut messages = send.messages.into_iter();
    let Some(last) = messages.next_back() else { return Reply::Unknown };
    for message in messages {
        let Outgoing { subject, headers, payload } = message;
        let Some(headers) = client_headers(&headers) else { return unsendable() };
        if let Err(trouble) = link.queue(&subject, headers, payload).await {
            return trouble.into();
        }
        crash::reach(Step::BatchBegun);
    }
    if send.batch {
        crash::reach(Step::BatchQueued);
    }
    let Some(headers) = client_headers(&last.headers) else { return unsendable() };
    match link.ask(&last.subject, Some(headers), last.payload, link.answer()).await {
        Ok(answer) => jetstream::reply(&answer.payload),
        Err(trouble) => trouble.into(),
    }
}

/// A header that the client could not carry: core lets none pass. As if it were too large, so that the command is held.
fn unsendable() -> Reply {
    Trouble::TooLarge.into()
}

/// Headers for the client, by its constructors that do not panic.
fn client_headers(headers: &Headers) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        // An empty name would pass.
        let parsed = HeaderName::from_str(name).ok().filter(|_| !name.is_empty())?;
        map.append(parsed, HeaderValue::from_str(value).ok()?);
    }
    Some(map)
}
