//! Searching a stream for messages of one subject, by its leader alone.
//!
//! Direct get would bring many at once, but a follower that is behind or a mirror that forgot something may answer it,
//! and of one subject nobody sees a gap. A message that is taken for missing is published again.

use super::link::Link;
use super::streams;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::jetstream;
use cim_keys_core::outbox::{Found, Wanted};
use cim_keys_core::subjects::Subject;
use cim_keys_core::sync::Failure;

/// Bytes of payload after which a search is handed in as it is.
const ENOUGH: usize = 8 * 1024 * 1024;

/// Messages of a subject behind `after`, at most `limit`.
///
/// # Errors
/// See [`Failure`].
pub async fn find(
    link: &Link,
    stream: &str,
    subject: &Subject,
    after: u64,
    limit: u32,
) -> Result<Found, Failure> {
    let info = streams::info(link, stream).await?;
    let (mut messages, mut next, mut bytes) = (Vec::new(), after.saturating_add(1), 0);
    while messages.len() < limit as usize && bytes < ENOUGH {
        let Some(message) = ask(link, stream, jetstream::message_get_next(subject, next)).await? else {
            return Ok(Found { info, messages, complete: true });
        };
        next = message.sequence.saturating_add(1);
        bytes += message.payload.len();
        messages.push(message);
    }
    Ok(Found { info, messages, complete: false })
}

/// One message; none where there is no such message.
///
/// # Errors
/// See [`Failure`].
pub async fn get(link: &Link, stream: &str, wanted: &Wanted) -> Result<Option<StoredMessage>, Failure> {
    let body = match wanted {
        Wanted::Sequence(sequence) => jetstream::message_get(*sequence),
        Wanted::LastOf(subject) => jetstream::message_get_last(subject),
    };
    ask(link, stream, body).await
}

/// The first message that there is from a sequence on; none where there is none.
///
/// # Errors
/// See [`Failure`].
pub async fn first_from(link: &Link, stream: &str, first: u64) -> Result<Option<StoredMessage>, Failure> {
    ask(link, stream, jetstream::message_get_from(first)).await
}

async fn ask(link: &Link, stream: &str, body: String) -> Result<Option<StoredMessage>, Failure> {
    let subject = link.api(&format!("STREAM.MSG.GET.{stream}"));
    let answer = link.ask(&subject, None, body.into_bytes(), link.answer()).await?;
    Ok(jetstream::message(&answer.payload)?)
}
