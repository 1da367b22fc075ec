//! What a stream says of itself before anything of it is believed: whose registry it is, under which subjects.

use super::link::{Link, LinkError, Trouble};
use super::read::Reader;
use super::streams::{self, StreamsError};
use super::target::{Access, Target};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::envelope;
use cim_keys_core::event::Fact;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::roles;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, StreamInfo};

/// Messages at the beginning among which a founding is looked for.
const BEGINNING: u32 = 500;

/// Who says to have founded the registry of a stream. Nothing was verified: a person decides whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// The operator's key.
    pub operator: PublicKey,
    /// Its name.
    pub name: String,
}

/// Connects to whatever has the stream. Creds of the pipeline's own accounts reach it by another prefix than all others,
/// and which ones these are only the registry would tell: so the server is asked.
///
/// # Errors
/// There is no connection, or no such stream.
pub async fn reach(target: &mut Target, now: i64) -> Result<(Link, StreamInfo), ReachError> {
    let guesses = matches!(&*target.access, Access::Creds { .. }) && target.api_prefix.is_empty();
    if guesses {
        let mut edge = target.clone();
        edge.suit(|_| Some(roles::EDGE_ACCOUNT.to_owned()));
        let link = Link::connect(&edge, now).await?;
        match streams::info(&link, KEYS_EVENTS).await {
            Ok(info) => {
                *target = edge;
                return Ok((link, info));
            }
            Err(StreamsError::NoAnswer {
                trouble: Trouble::NoResponders | Trouble::Permission { .. },
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    target.suit(|_| None);
    let link = Link::connect(target, now).await?;
    let info = streams::info(&link, KEYS_EVENTS).await?;
    Ok((link, info))
}

/// The subjects of a stream: those of exactly one namespace.
#[must_use]
pub fn namespace(info: &StreamInfo) -> Option<Namespace> {
    let [subjects] = info.config.subjects.as_slice() else { return None };
    let named: Namespace = subjects.strip_suffix(".keys.>")?.parse().ok()?;
    (named.events() == *subjects).then_some(named)
}

/// Who says to have founded it, by the first message that says so.
///
/// # Errors
/// The beginning cannot be read.
pub async fn founder(link: &Link, info: &StreamInfo) -> Result<Option<Founder>, Failure> {
    let stream = if info.first <= 1 { KEYS_EVENTS } else { KEYS_ARCHIVE };
    let read = Reader::default().read_from(link, stream, 0, BEGINNING).await?;
    Ok(read.messages.iter().find_map(founded))
}

fn founded(message: &StoredMessage) -> Option<Founder> {
    let opened = envelope::decode(&message.subject, &message.headers, &message.payload).ok()?;
    let event = opened.event;
    let name = event.claims().map(|claims| claims.name.clone())?;
    (event.fact == Fact::OperatorCreated).then_some(Founder { operator: event.registry, name })
}

/// Why a stream cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// No connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No stream.
    #[error(transparent)]
    Streams(#[from] StreamsError),
}
