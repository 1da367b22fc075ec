//! Reads the stream back raw, and compares it with what was published.

use super::UpError;
use crate::nats::link::Link;
use crate::nats::read::Reader;
use crate::store::Store;
use cim_keys_core::envelope;
use cim_keys_core::headers;
use cim_keys_core::stream::KEYS_EVENTS;
use std::collections::BTreeSet;

/// Messages in one read.
const PORTION: u32 = 500;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Own events behind the place where this run began, each as it was made.
    pub(super) read_back: u64,
    /// Messages whose event id stands on the stream a second time.
    pub(super) duplicates: u64,
}

/// Reads everything from the first message to the store's head. Own ones behind `before` must be whole events: the seven headers once each, in
/// agreement with a payload in canonical form, and the bytes that the store has. Others may append at the same time: a page
/// that was open before goes on as soon as the server is there.
pub(super) async fn read_back(link: &Link, store: &Store, before: u64) -> Result<Found, UpError> {
    let mut reader = Reader::default();
    let mut found = Found::default();
    let mut ids = BTreeSet::new();
    let mut after = 0;
    let head = store.progress().map_err(crate::error::KeyError::from)?.head;
    loop {
        let read = reader.read_from(link, KEYS_EVENTS, after, PORTION).await;
        let read = read.map_err(|failure| UpError::Unreadable { reason: format!("{failure:?}") })?;
        let Some(last) = read.messages.last().map(|message| message.sequence) else { return Ok(found) };
        let trail = store.trail(after, PORTION).map_err(crate::error::KeyError::from)?;
        after = last;
        for message in &read.messages {
            let id = message.headers.only(headers::CIM_EVENT_ID).map(str::to_owned);
            if id.is_some_and(|id| !ids.insert(id)) {
                found.duplicates += 1;
            }
            if message.sequence <= before || message.sequence > head {
                continue;
            }
            // What is no event, or another host's, is not ours to judge here: ours are counted.
            let opened = envelope::decode(&message.subject, &message.headers, &message.payload);
            let Ok(opened) = opened else { continue };
            let own = store.promised(opened.event.command.id).map_err(crate::error::KeyError::from)?;
            if own.is_none() {
                continue;
            }
            let wrong = |reason: String| UpError::Message { sequence: message.sequence, reason };
            for name in headers::ALL {
                if message.headers.count(name) != 1 {
                    return Err(wrong(format!("header {name} stands {} times", message.headers.count(name))));
                }
            }
            let same = |entry: &&crate::store::TrailEntry| entry.sequence == message.sequence;
            let made = trail.iter().find(same).is_some_and(|entry| {
                entry.subject == message.subject
                    && entry.payload == message.payload
                    && entry.headers.iter().all(|(name, value)| message.headers.only(name) == Some(value))
            });
            if !made {
                return Err(wrong("its bytes are not those in the store".into()));
            }
            found.read_back += 1;
        }
    }
}
