//! When the stream stored messages that this host appended itself: an acknowledgement does not say.

use super::connection::{Connection, block_on};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use crate::error::KeyError;
use crate::nats::link::Link;
use crate::nats::read::Reader;
use crate::store::Store;
use crate::vault::Vault;
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
    let beside = Store::open(store.path()).map_err(KeyError::from)?;
    let host = globals.host_over(beside, Vault::new(&globals.identity_path()?))?;
    let Some(target) = Connection::default().target_if_any(globals, &host)? else { return Ok(None) };
    let known = store.progress().map_err(KeyError::from)?.stream;
    let found = async {
        let link = Link::connect(&target, host.ambient().now().seconds()).await?;
        let mut reader = Reader::default();
        while by + 1 < later {
            let middle = by + (later - by) / 2;
            let mut stored = None;
            // What the stream has forgotten its archive may have.
            for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
                let read = reader.read_from(&link, stream, middle - 1, 1).await.map_err(|failure| {
                    CliError::new(Exit::Network, "no-answer", format!("{stream} cannot be read: {failure:?}"))
                })?;
                if stream == KEYS_EVENTS && known.as_ref() != Some(&read.info.identity) {
                    return Err(CliError::new(
                        Exit::Conflict,
                        "stream-foreign",
                        "the server that is configured has another stream than this registry's",
                    )
                    .hint("name the right one by NATS_URL or NATS_CONTEXT"));
                }
                stored = read.messages.into_iter().find(|message| message.sequence == middle);
                if stored.is_some() {
                    break;
                }
            }
            let told = stored.as_ref().and_then(|stored| stored.time.as_ref()?.parse::<ServerTime>().ok());
            let (Some(stored), Some(told)) = (stored, told) else {
                return Err(CliError::new(
                    Exit::NotFound,
                    "times-unknown",
                    format!("neither the stream nor its archive says when it stored message {middle}"),
                ));
            };
            store.note_times(&[stored]).map_err(KeyError::from)?;
            if told <= time {
                by = middle;
            } else {
                later = middle;
            }
        }
        Ok(Some(by))
    };
    block_on(found)?
}
