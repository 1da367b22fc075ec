//! The walk along a server's stream, and along its archive where the stream has forgotten.

use super::{Found, PORTION, WENT_BACK, Walk, compare_messages};
use crate::nats::source::Source;
use crate::nats::target::Target;
use crate::recover::RecoverError;
use crate::store::Store;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::sync::Failure;
use cim_keys_core::verify::{Finding, Walked};

/// What a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How far it went.
    pub walked: Walked,
    /// Whether the store's entities were compared.
    pub compared: bool,
}

/// Reads all that the server has, from the first message on; `now` in Unix seconds. Says each finding as it comes, and how
/// far it is of how many.
///
/// # Errors
/// See [`RecoverError`].
pub async fn walk(
    store: &Store,
    target: &Target,
    now: i64,
    mut say: impl FnMut(Vec<Found>),
    mut at: impl FnMut(u64, u64),
) -> Result<Summary, RecoverError> {
    let known = store.progress()?;
    let mut source = Source::connect(target, now).await?;
    let info = source.info(KEYS_EVENTS).await?;
    if known.stream.as_ref().is_some_and(|stream| *stream != info.identity) {
        return Err(RecoverError::Foreign);
    }
    let mut walk = Walk::new(store)?;
    let mut compared = false;
    // Behind it there may be more by now: that is for the next walk.
    let end = info.last;
    loop {
        let head = walk.walked().head;
        at(head, end);
        // The store is compared where it has come to, and is left behind then.
        let journal = store.progress()?.head;
        if !compared
            && head == journal
            && let Some(found) = walk.compare()?
        {
            say(found);
            compared = true;
        }
        if head >= end || walk.walked().stopped_at_level.is_some() {
            break;
        }
        let until = if head < journal { journal.min(end) } else { end };
        let messages = next(&mut source, info.first, head, until).await?;
        if messages.is_empty() {
            break;
        }
        say(compare_messages(store, &messages)?);
        say(walk.take(messages)?);
    }
    let walked = walk.walked();
    let mut rest = walk.finish(end);
    if !compared && end < known.head {
        let text = format!("the stream ends at {end}, and this host has read it up to {}", known.head);
        let finding = Finding::new(end.saturating_add(1), known.head, WENT_BACK, text);
        rest.push(Found { finding, known: false });
    }
    say(rest);
    Ok(Summary { walked, compared })
}

/// What follows `after`, up to `until`: from the stream, or from the archive where the stream begins behind it. Empty where
/// there is nothing more.
async fn next(
    source: &mut Source<'_>,
    first: u64,
    after: u64,
    until: u64,
) -> Result<Vec<StoredMessage>, RecoverError> {
    let limit = |until: u64| u32::try_from(until - after).unwrap_or(PORTION).min(PORTION);
    let mut messages = Vec::new();
    if after.saturating_add(1) < first {
        let end = until.min(first - 1);
        messages = match source.read_from(KEYS_ARCHIVE, after, limit(end)).await {
            Ok(read) => read.messages,
            Err(Failure::StreamMissing) => Vec::new(),
            Err(failure) => return Err(failure.into()),
        };
        messages.retain(|message| message.sequence <= end);
        if messages.is_empty() && end < until {
            // What neither has is a gap: it goes on where the stream begins.
            return Box::pin(next(source, first, end, until)).await;
        }
    } else {
        messages.extend(source.read_on(KEYS_EVENTS, after, limit(until)).await?);
    }
    messages.retain(|message| message.sequence <= until);
    Ok(messages)
}
