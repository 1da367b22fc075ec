//! Reading the stream: what its leader says there is, in order and complete.

use super::link::{Link, Trouble, header_list};
use super::streams::{self, StreamsError};
use async_nats::Message;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::jetstream::{self, READ_BYTES};
use cim_keys_core::sync::{Failure, Read};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long one batch may take.
const BATCH: Duration = Duration::from_secs(30);
/// Messages that are read one by one after a batch went wrong.
const CAREFUL: u64 = 64;

/// Reads a stream, across connections.
///
/// Whoever may append can store a header block that makes a client drop its connection. So after a batch that broke off
/// the next messages are read one by one through the API, which wraps them in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Streams whose last batch broke off.
    careful: BTreeSet<String>,
}

impl Reader {
    /// Asks the stream's leader how it stands, and reads what is stored behind `after`, at most `limit` messages and about
    /// [`READ_BYTES`]. A gap in what the leader has ends the list.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read_from(
        &mut self,
        link: &Link,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> Result<Read, Failure> {
        let info = streams::info(link, stream).await?;
        let last = info.last.min(after.saturating_add(u64::from(limit)));
        let mut messages = Vec::new();
        let mut next = after.saturating_add(1).max(info.first);
        // What the stream has forgotten is for the machine to judge: it sees where the list begins.
        // One message alone costs the same either way, and its header block never breaks the connection so.
        let careful = limit == 1 || self.careful.contains(stream);
        let until = if careful { last.min(next.saturating_add(CAREFUL - 1)) } else { last };
        while next <= until && size(&messages) < READ_BYTES {
            let before = next;
            if !careful {
                match batch(link, stream, next, until - next + 1).await {
                    Ok(found) => take(&mut messages, &mut next, found),
                    Err(trouble) => {
                        if matches!(trouble, Trouble::Closed | Trouble::Timeout) {
                            self.careful.insert(stream.to_owned());
                        }
                        return if messages.is_empty() {
                            Err(trouble.into())
                        } else {
                            Ok(Read { info, messages })
                        };
                    }
                }
            }
            // A mirror that is behind, or a message that only looks like one: the leader knows.
            if next == before {
                match single(link, stream, next).await? {
                    Some(message) => take(&mut messages, &mut next, vec![Piece::Whole(message)]),
                    None => return Ok(Read { info, messages }),
                }
            }
        }
        self.careful.remove(stream);
        Ok(Read { info, messages })
    }
}

fn size(messages: &[StoredMessage]) -> usize {
    messages.iter().map(|message| message.payload.len()).sum()
}

/// One message of a batch.
enum Piece {
    Whole(StoredMessage),
    /// Its headers contradict themselves: read it again through the API.
    Doubtful,
}

/// Takes over what follows without a gap.
fn take(messages: &mut Vec<StoredMessage>, next: &mut u64, found: Vec<Piece>) {
    for piece in found {
        match piece {
            Piece::Whole(message) if message.sequence == *next => {
                *next += 1;
                messages.push(message);
            }
            _ => return,
        }
    }
}

/// Batch direct get: may be answered by a mirror or a follower that is behind, so that its end proves nothing.
async fn batch(link: &Link, stream: &str, first: u64, count: u64) -> Result<Vec<Piece>, Trouble> {
    let mut pieces = Vec::new();
    let body = jetstream::direct_get(first, count).into_bytes();
    let subject = link.api(&format!("DIRECT.GET.{stream}"));
    let gathered = link.gather(&subject, body, BATCH, |answer| {
        let stored = answer.headers.as_ref().is_some_and(|headers| headers.get("Nats-Sequence").is_some());
        if answer.status.is_some() && !stored {
            return true;
        }
        pieces.push(piece(answer));
        false
    });
    match gathered.await {
        Ok(()) => Ok(pieces),
        // What came until then is good.
        Err(Trouble::NoResponders) if !pieces.is_empty() => Ok(pieces),
        Err(trouble) => Err(trouble),
    }
}

fn piece(answer: Message) -> Piece {
    let Some(headers) = answer.headers.filter(|_| answer.status.is_none()) else { return Piece::Doubtful };
    jetstream::stored(header_list(&headers), answer.payload.to_vec()).map_or(Piece::Doubtful, Piece::Whole)
}

/// One message by the API, from the leader; none where there is none of this sequence.
async fn single(link: &Link, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, Failure> {
    let subject = link.api(&format!("STREAM.MSG.GET.{stream}"));
    let body = jetstream::message_get(sequence).into_bytes();
    let answer = link.ask(&subject, None, body, link.answer()).await?;
    Ok(jetstream::message(&answer.payload)?)
}

impl From<StreamsError> for Failure {
    fn from(error: StreamsError) -> Self {
        match error {
            StreamsError::Refused { code: 10059, .. } => Self::StreamMissing,
            StreamsError::Refused { code, .. } => Self::Code { code },
            StreamsError::NoAnswer { trouble, .. } => trouble.into(),
            StreamsError::Unreadable { .. }
            | StreamsError::ServerTooOld { .. }
            | StreamsError::Differs { .. }
            | StreamsError::ConsumerDiffers { .. }
            | StreamsError::ArchiveOfAnother { .. }
            | StreamsError::ArchiveAlone { .. } => Self::Unreachable,
        }
    }
}
