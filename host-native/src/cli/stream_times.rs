//! When the stream stored messages that this host appended itself: an acknowledgement does not say.

use super::connection::{Connection, block_on};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use crate::error::KeyError;
use crate::nats::link::Link;
use crate::nats::read::Reader;
use crate::nats::target::Target;
use crate::store::Store;
use crate::vault::Vault;
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_core::time::ServerTime;

/// Asks the stream for as few times as it takes to know the last sequence stored by `time`, which lies from `by` on and
/// before `later`. None where no server is configured. What was asked is known here from then on.
pub(super) fn find(
    time: ServerTime,
    (mut by, mut later): (u64, u64),
    store: &Store,
    globals: &Globals,
) -> Result<Option<u64>, CliError> {
    let Some(stream) = Stream::open(store, globals)? else { return Ok(None) };
    let found = async {
        let mut asking = stream.asking().await?;
        while by + 1 < later {
            let middle = by + (later - by) / 2;
            if asking.stored(middle).await? <= time {
                by = middle;
            } else {
                later = middle;
            }
        }
        Ok(Some(by))
    };
    block_on(found)?
}

/// Asks the stream when it stored one message. None where no server is configured. It is known here from then on.
pub(super) fn of(sequence: u64, store: &Store, globals: &Globals) -> Result<Option<ServerTime>, CliError> {
    let Some(stream) = Stream::open(store, globals)? else { return Ok(None) };
    block_on(async { stream.asking().await?.stored(sequence).await.map(Some) })?
}

/// The server that is configured.
struct Stream<'a> {
    store: &'a Store,
    target: Target,
    now: i64,
}

/// A connection to it.
struct Asking<'a> {
    store: &'a Store,
    known: Option<StreamIdentity>,
    link: Link,
    reader: Reader,
}

impl<'a> Stream<'a> {
    fn open(store: &'a Store, globals: &Globals) -> Result<Option<Self>, CliError> {
        let beside = Store::open(store.path()).map_err(KeyError::from)?;
        let host = globals.host_over(beside, Vault::new(&globals.identity_path()?))?;
        let target = Connection::default().target_if_any(globals, &host)?;
        Ok(target.map(|target| Self { store, target, now: host.ambient().now().seconds() }))
    }

    async fn asking(&self) -> Result<Asking<'a>, CliError> {
        let known = self.store.progress().map_err(KeyError::from)?.stream;
        let link = Link::connect(&self.target, self.now).await?;
        Ok(Asking { store: self.store, known, link, reader: Reader::default() })
    }
}

impl Asking<'_> {
    /// When a message was stored.
    async fn stored(&mut self, sequence: u64) -> Result<ServerTime, CliError> {
        let mut stored = None;
        // What the stream has forgotten its archive may have.
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
            let read =
                self.reader.read_from(&self.link, stream, sequence - 1, 1).await.map_err(|failure| {
                    CliError::new(Exit::Network, "no-answer", format!("{stream} cannot be read: {failure:?}"))
                })?;
            if stream == KEYS_EVENTS && self.known.as_ref() != Some(&read.info.identity) {
                return Err(CliError::new(
                    Exit::Conflict,
                    "stream-foreign",
                    "the server that is configured has another stream than this registry's",
                )
                .hint("name the right one by NATS_URL or NATS_CONTEXT"));
            }
            stored = read.messages.into_iter().find(|message| message.sequence == sequence);
            if stored.is_some() {
                break;
            }
        }
        let told = stored.as_ref().and_then(|stored| stored.time.as_ref()?.parse::<ServerTime>().ok());
        let (Some(stored), Some(told)) = (stored, told) else {
            return Err(CliError::new(
                Exit::NotFound,
                "times-unknown",
                format!("neither the stream nor its archive says when it stored message {sequence}"),
            ));
        };
        self.store.note_times(&[stored]).map_err(KeyError::from)?;
        Ok(told)
    }
}
