//! Recovers a journal whose stream went back: finds where they still agree, and makes the journal anew from there.

use crate::error::KeyError;
use crate::nats::link::Link;
use crate::nats::read::Reader;
use crate::nats::streams;
use crate::store::{Store, StoreError};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope;
use cim_keys_core::event::Fact;
use cim_keys_core::headers::CIM_EVENT_ID;
use cim_keys_core::journal::{Progress, StreamIdentity};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::sync::{Failure, Recovery, StreamInfo, last_agreeing, recover};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Messages compared at a time.
const PORTION: u32 = 500;

/// What a recovery would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How far the journal had come.
    pub head: u64,
    /// The journal as it would be.
    pub recovery: Recovery,
    /// What only this journal has, whole, from the point on that agrees: what is lost is in it.
    pub behind: Vec<StoredMessage>,
    /// Whether the archive holds what the stream has lost.
    pub archive_diverges: bool,
}

/// Compares journal and stream, all of both.
///
/// # Errors
/// See [`RecoverError`].
pub async fn plan(store: &Store, link: &Link) -> Result<Plan, RecoverError> {
    let progress = store.progress()?;
    let info = streams::info(link, KEYS_EVENTS).await.map_err(Failure::from)?;
    let Some(known) = progress.stream.as_ref().filter(|known| **known == info.identity) else {
        return Err(RecoverError::Foreign);
    };
    let messages = trail(store, progress.head)?;
    let digests: BTreeMap<u64, Digest> =
        messages.iter().map(|message| (message.sequence, message.digest())).collect();
    let kept = agreed(link, &info, &digests, progress.head).await?;
    if kept == progress.head && !stored_anew(link, &progress).await? {
        return Err(RecoverError::Agrees { head: kept });
    }
    let before = Progress { stream: Some(known.clone()), ..progress.clone() };
    let behind: Vec<_> = messages.iter().filter(|message| message.sequence > kept).cloned().collect();
    let mut recovery =
        recover(store.registry_id()?.clone(), &before, kept, messages, &store.confirmed_commands()?)
            .map_err(|missing| RecoverError::Journal { what: missing.to_string() })?;
    let again = event_ids(link, kept).await?;
    recovery.lost.retain(|lost| lost.event_id.is_none_or(|id| !again.contains(&id)));
    let archive_diverges = diverges(link, &info, kept).await?;
    Ok(Plan { head: progress.head, recovery, behind, archive_diverges })
}

/// Takes the stream on this server for the journal's, although it has another name or was made at another time: one that
/// was brought back from a backup, say. Only where it is the same registry's, with the same messages as far as this journal
/// has come.
///
/// # Errors
/// See [`RecoverError`]; nothing was changed then.
pub async fn join(store: &Store, link: &Link) -> Result<StreamIdentity, RecoverError> {
    let progress = store.progress()?;
    let operator = store.registry_id()?.operator;
    let info = streams::info(link, KEYS_EVENTS).await.map_err(Failure::from)?;
    let head = progress.head;
    if info.last < head {
        return Err(RecoverError::Shorter { head, last: info.last });
    }
    // Before it has read anything, reading tells whose it is.
    if head > 0 {
        let messages = trail(store, head)?;
        if !messages.iter().any(|message| founds(message, operator)) {
            return Err(RecoverError::Journal {
                what: "the journal lacks its registry's founding".to_owned(),
            });
        }
        let digests = messages.iter().map(|message| (message.sequence, message.digest())).collect();
        let kept = agreed(link, &info, &digests, head).await?;
        if kept < head {
            return Err(RecoverError::Differs { sequence: kept + 1 });
        }
    }
    if !store.join(head, &info.identity)? {
        return Err(RecoverError::Moved);
    }
    Ok(info.identity)
}

fn founds(message: &StoredMessage, operator: PublicKey) -> bool {
    let opened = envelope::decode(&message.subject, &message.headers, &message.payload);
    opened.is_ok_and(|opened| opened.event.fact == Fact::OperatorCreated && opened.event.registry == operator)
}

/// Everything that the journal knows of the stream.
fn trail(store: &Store, head: u64) -> Result<Vec<StoredMessage>, RecoverError> {
    let mut messages: Vec<StoredMessage> = Vec::new();
    loop {
        let after = messages.last().map_or(0, |last| last.sequence);
        let portion = store.trail(after, PORTION)?;
        if portion.is_empty() || after >= head {
            break;
        }
        for entry in portion.into_iter().filter(|entry| entry.sequence <= head) {
            messages.push(StoredMessage {
                sequence: entry.sequence,
                subject: entry.subject,
                headers: entry.headers,
                payload: entry.payload,
                time: None,
            });
        }
    }
    match (1..=head).zip(&messages).find(|(due, found)| found.sequence != *due) {
        None if messages.len() as u64 == head => Ok(messages),
        _ => Err(RecoverError::Journal { what: "the journal lacks messages that it has read".to_owned() }),
    }
}

/// The last sequence up to which both have the same messages, compared from the first one on. What the stream has forgotten
/// the archive has; what the archive has behind that proves nothing.
async fn agreed(
    link: &Link,
    info: &StreamInfo,
    digests: &BTreeMap<u64, Digest>,
    head: u64,
) -> Result<u64, RecoverError> {
    let end = head.min(info.last);
    let (mut after, mut readers) = (0, [Reader::default(), Reader::default()]);
    let [archive, events] = &mut readers;
    while after < end {
        let (stream, reader, until) = if after + 1 >= info.first {
            (KEYS_EVENTS, &mut *events, end)
        } else {
            (KEYS_ARCHIVE, &mut *archive, end.min(info.first - 1))
        };
        let limit = u32::try_from(until - after).unwrap_or(PORTION).min(PORTION);
        let read = reader.read_from(link, stream, after, limit).await?;
        let due = after + u64::from(limit);
        match last_agreeing(&read.messages, |sequence| digests.get(&sequence).copied()) {
            Some(kept) if kept == due => after = kept,
            kept => {
                let kept = kept.unwrap_or(after);
                let differs = read.messages.iter().any(|message| message.sequence == kept + 1);
                return if differs {
                    Ok(kept)
                } else {
                    Err(RecoverError::Behind { sequence: kept + 1, stream })
                };
            }
        }
    }
    Ok(after)
}

/// Whether the stream lost what the journal knows, and got the same again: then the journal need only learn when.
async fn stored_anew(link: &Link, progress: &Progress) -> Result<bool, RecoverError> {
    let Some(mark) = &progress.mark else { return Ok(false) };
    let read = Reader::default().read_from(link, KEYS_EVENTS, mark.sequence.saturating_sub(1), 1).await?;
    let here = read.messages.first().filter(|message| message.sequence == mark.sequence);
    Ok(here.and_then(|message| message.time.as_ref()).is_some_and(|time| *time != mark.time))
}

/// Events that the stream has behind a place: whoever published them has recovered before.
async fn event_ids(link: &Link, kept: u64) -> Result<BTreeSet<Uuid>, RecoverError> {
    let mut ids = BTreeSet::new();
    let (mut after, mut reader) = (kept, Reader::default());
    loop {
        let read = reader.read_from(link, KEYS_EVENTS, after, PORTION).await?;
        let Some(last) = read.messages.last() else { return Ok(ids) };
        after = last.sequence;
        let id = |message: &StoredMessage| message.headers.only(CIM_EVENT_ID)?.parse::<Uuid>().ok();
        ids.extend(read.messages.iter().filter_map(id));
    }
}

/// Whether the archive has something else behind the point that agrees than the stream has.
async fn diverges(link: &Link, info: &StreamInfo, kept: u64) -> Result<bool, RecoverError> {
    let archive = match Reader::default().read_from(link, KEYS_ARCHIVE, kept, 1).await {
        Ok(read) => read.messages,
        Err(Failure::StreamMissing) => return Ok(false),
        Err(failure) => return Err(failure.into()),
    };
    let Some(found) = archive.first().filter(|found| found.sequence == kept + 1) else { return Ok(false) };
    if kept + 1 > info.last {
        return Ok(true);
    }
    let here = Reader::default().read_from(link, KEYS_EVENTS, kept, 1).await?.messages;
    Ok(here.first().is_none_or(|here| here.digest() != found.digest()))
}

/// Why a journal cannot be recovered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The stream has what the journal has.
    #[error("the stream has the message at {head} as it was confirmed there: there is nothing to recover")]
    Agrees {
        /// How far the journal has come.
        head: u64,
    },
    /// Another stream, made at another time.
    #[error("this is not the stream that the journal knows")]
    Foreign,
    /// It ends before the place that the journal has come to.
    #[error(
        "the stream ends at {last}, and this journal has come to {head}: it is not the same, or has lost its end"
    )]
    Shorter {
        /// How far the journal has come.
        head: u64,
        /// Where the stream ends.
        last: u64,
    },
    /// Another message.
    #[error("the message at {sequence} is another one: this is not the stream of this registry")]
    Differs {
        /// Where.
        sequence: u64,
    },
    /// Another process wrote meanwhile.
    #[error("the journal was moved meanwhile: try again")]
    Moved,
    /// Too little can be compared.
    #[error("{stream} does not hand out the message at {sequence}, which must be compared")]
    Behind {
        /// The message.
        sequence: u64,
        /// Of which stream.
        stream: &'static str,
    },
    /// The journal itself is damaged.
    #[error("{what}")]
    Journal {
        /// How.
        what: String,
    },
    /// The server does not answer.
    #[error("the streams cannot be read: {failure:?}")]
    Unread {
        /// Why.
        failure: Failure,
    },
    /// The store.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<Failure> for RecoverError {
    fn from(failure: Failure) -> Self {
        Self::Unread { failure }
    }
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

impl RecoverError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Agrees { .. } => "nothing-to-recover",
            Self::Foreign | Self::Shorter { .. } | Self::Differs { .. } => "stream-foreign",
            Self::Moved => "journal-moved",
            Self::Behind { .. } => "read-behind",
            Self::Journal { .. } => "journal-damaged",
            Self::Unread { .. } => "unreachable",
            Self::Key(error) => error.code(),
        }
    }
}
