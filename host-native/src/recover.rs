//! Recovers a journal whose stream went back: finds where they still agree, and makes the journal anew from there.

use crate::error::KeyError;
use crate::nats::link::LinkError;
use crate::nats::source::Source;
use crate::nats::streams::StreamsError;
use crate::nats::target::Target;
use crate::store::{Store, StoreError};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope;
use cim_keys_core::event::Fact;
use cim_keys_core::headers::CIM_EVENT_ID;
use cim_keys_core::journal::{Progress, StreamIdentity};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::rules::Reason;
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

/// Compares journal and stream, all of both; `now` in Unix seconds, for the creds.
///
/// # Errors
/// See [`RecoverError`].
pub async fn plan(store: &Store, target: &Target, now: i64) -> Result<Plan, RecoverError> {
    let progress = store.progress()?;
    let Some(known) = &progress.stream else { return Err(RecoverError::Unpublished) };
    let mut source = Source::connect(target, now).await?;
    let info = source.info(KEYS_EVENTS).await?;
    if *known != info.identity {
        return Err(RecoverError::Foreign);
    }
    let messages = trail(store, progress.head)?;
    let digests: BTreeMap<u64, Digest> =
        messages.iter().map(|message| (message.sequence, message.content())).collect();
    let (kept, stored) = agreed(&mut source, &info, &digests, progress.head).await?;
    if kept == progress.head && !stored_anew(&mut source, &progress).await? {
        return Err(RecoverError::Agrees { head: kept });
    }
    let before = Progress { stream: Some(known.clone()), ..progress.clone() };
    let behind: Vec<_> = messages.iter().filter(|message| message.sequence > kept).cloned().collect();
    let mut recovery =
        recover(store.registry_id()?.clone(), &before, kept, stored, messages, &store.confirmed_commands()?)
            .map_err(|missing| RecoverError::Journal { what: missing.to_string() })?;
    let again = event_ids(&mut source, kept).await?;
    recovery.lost.retain(|lost| lost.event_id.is_none_or(|id| !again.contains(&id)));
    let archive_diverges = diverges(&mut source, &info, kept).await?;
    Ok(Plan { head: progress.head, recovery, behind, archive_diverges })
}

/// Takes the stream on this server for the journal's, although it has another name or was made at another time: one that
/// was brought back from a backup, say. Only where it is the same registry's, with the same messages as far as this journal
/// has come.
///
/// # Errors
/// See [`RecoverError`]; nothing was changed then.
pub async fn join(store: &Store, target: &Target, now: i64) -> Result<StreamIdentity, RecoverError> {
    let progress = store.progress()?;
    let operator = store.registry_id()?.operator;
    let mut source = Source::connect(target, now).await?;
    let info = source.info(KEYS_EVENTS).await?;
    let head = progress.head;
    if info.last < head {
        let same = progress.stream.as_ref() == Some(&info.identity);
        return Err(RecoverError::Shorter { head, last: info.last, same });
    }
    if head == 0 {
        // The journal knows nothing of any stream yet: this one tells whose it is.
        match first(&mut source, &info).await? {
            None if progress.stream.as_ref().is_none_or(|known| *known == info.identity) => {
                return Err(RecoverError::Unpublished);
            }
            None if store.may_be_elsewhere()? => return Err(RecoverError::Elsewhere),
            None => {}
            Some(message) if founds(&message, operator) => {}
            Some(_) => return Err(RecoverError::Other),
        }
    } else {
        let messages = trail(store, head)?;
        if !messages.iter().any(|message| founds(message, operator)) {
            return Err(RecoverError::Journal {
                what: "the journal lacks its registry's founding".to_owned(),
            });
        }
        let digests = messages.iter().map(|message| (message.sequence, message.content())).collect();
        let (kept, _) = agreed(&mut source, &info, &digests, head).await?;
        if kept < head {
            return Err(RecoverError::Differs { sequence: kept + 1 });
        }
    }
    if !store.join(head, &info.identity)? {
        return Err(RecoverError::Moved);
    }
    Ok(info.identity)
}

/// The first message of all, wherever it is kept; none where nothing was ever stored.
async fn first(source: &mut Source<'_>, info: &StreamInfo) -> Result<Option<StoredMessage>, RecoverError> {
    if info.last == 0 {
        return Ok(None);
    }
    let stream = if info.first <= 1 { KEYS_EVENTS } else { KEYS_ARCHIVE };
    let read = source.read_from(stream, 0, 1).await?;
    let found = read.messages.into_iter().find(|message| message.sequence == 1);
    found.map(Some).ok_or(RecoverError::Behind { sequence: 1, stream })
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

/// The last sequence up to which both have the same messages, compared from the first one on, and when it was stored. What the stream has forgotten
/// the archive has; what the archive has behind that proves nothing.
async fn agreed(
    source: &mut Source<'_>,
    info: &StreamInfo,
    digests: &BTreeMap<u64, Digest>,
    head: u64,
) -> Result<(u64, Option<String>), RecoverError> {
    let end = head.min(info.last);
    let (mut after, mut stored) = (0, None);
    while after < end {
        let due = after + 1;
        let (stream, until) =
            if due >= info.first { (KEYS_EVENTS, end) } else { (KEYS_ARCHIVE, end.min(info.first - 1)) };
        let limit = u32::try_from(until - after).unwrap_or(PORTION).min(PORTION);
        let messages = source.read_from(stream, after, limit).await?.messages;
        if messages.first().is_none_or(|message| message.sequence != due) {
            return Err(RecoverError::Behind { sequence: due, stream });
        }
        let kept = last_agreeing(&messages, |sequence| digests.get(&sequence).copied()).unwrap_or(after);
        if let Some(last) = messages.iter().find(|message| message.sequence == kept) {
            stored.clone_from(&last.time);
        }
        if messages.iter().any(|message| message.sequence == kept + 1) {
            return Ok((kept, stored));
        }
        // Fewer than were asked for: the connection broke off, and what follows is read next.
        after = kept;
    }
    Ok((after, stored))
}

/// Whether the stream lost what the journal knows, and got the same again: then the journal need only learn when.
async fn stored_anew(source: &mut Source<'_>, progress: &Progress) -> Result<bool, RecoverError> {
    let Some(mark) = &progress.mark else { return Ok(false) };
    let read = source.read_from(KEYS_EVENTS, mark.sequence.saturating_sub(1), 1).await?;
    let here = read.messages.first().filter(|message| message.sequence == mark.sequence);
    Ok(here.and_then(|message| message.time.as_ref()).is_some_and(|time| *time != mark.time))
}

/// Events that the stream has behind a place: whoever published them has recovered before.
async fn event_ids(source: &mut Source<'_>, kept: u64) -> Result<BTreeSet<Uuid>, RecoverError> {
    let mut ids = BTreeSet::new();
    let mut after = kept;
    loop {
        let read = source.read_from(KEYS_EVENTS, after, PORTION).await?;
        let id = |message: &StoredMessage| message.headers.only(CIM_EVENT_ID)?.parse::<Uuid>().ok();
        ids.extend(read.messages.iter().filter_map(id));
        match read.messages.last() {
            Some(last) => after = last.sequence,
            None if after < read.info.last => {
                return Err(RecoverError::Behind { sequence: after + 1, stream: KEYS_EVENTS });
            }
            None => return Ok(ids),
        }
    }
}

/// Whether the archive has something else behind the point that agrees than the stream has.
async fn diverges(source: &mut Source<'_>, info: &StreamInfo, kept: u64) -> Result<bool, RecoverError> {
    let archive = match source.read_from(KEYS_ARCHIVE, kept, 1).await {
        Ok(read) => read.messages,
        Err(Failure::StreamMissing) => return Ok(false),
        Err(failure) => return Err(failure.into()),
    };
    let Some(found) = archive.first().filter(|found| found.sequence == kept + 1) else { return Ok(false) };
    if kept + 1 > info.last {
        return Ok(true);
    }
    let here = source.read_from(KEYS_EVENTS, kept, 1).await?.messages;
    Ok(here.first().is_none_or(|here| here.content() != found.content()))
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
    /// Nothing of this registry is on any stream that is known.
    #[error("this registry was published to no stream yet: there is nothing to recover or to join")]
    Unpublished,
    /// An empty stream, and not the one that may have taken what was sent.
    #[error("this stream is empty, and what this host has sent may stand on the one that it knows")]
    Elsewhere,
    /// A stream that begins with something else.
    #[error("this stream does not begin with the founding of this registry: it is another one's")]
    Other,
    /// It ends before the place that the journal has come to.
    #[error(
        "the stream ends at {last}, and this journal has come to {head}: it is not the same, or has lost its end"
    )]
    Shorter {
        /// How far the journal has come.
        head: u64,
        /// Where the stream ends.
        last: u64,
        /// Whether it is the stream that the journal knows.
        same: bool,
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
    /// There is no connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server does not say how the stream stands.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The streams cannot be read.
    #[error("{}", .reason.text)]
    Unread {
        /// Why, as `sync` would say it.
        reason: Reason,
    },
    /// The store.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<Failure> for RecoverError {
    fn from(failure: Failure) -> Self {
        Self::Unread { reason: failure.reason() }
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
    pub fn code(&self) -> &str {
        match self {
            Self::Agrees { .. } => "nothing-to-recover",
            Self::Unpublished => "not-published",
            Self::Foreign | Self::Elsewhere | Self::Other | Self::Shorter { .. } | Self::Differs { .. } => {
                "stream-foreign"
            }
            Self::Moved => "journal-moved",
            Self::Behind { .. } => "read-behind",
            Self::Journal { .. } => "journal-damaged",
            Self::Link(error) => error.code(),
            Self::Streams(error) => error.code(),
            Self::Unread { reason } => &reason.code,
            Self::Key(error) => error.code(),
        }
    }
}
