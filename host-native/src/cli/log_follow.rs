//! `cim-keys log --follow`: each event as it gets here.

use super::exit::CliError;
use super::log::{Line, Log, say};
use super::output::Output;
use crate::error::KeyError;
use std::time::Duration;

/// Between two looks at the store: whoever synchronises is another process.
const LOOK: Duration = Duration::from_millis(200);

/// Shows what there is, then what comes, until it is told to end or nobody reads any more.
pub(super) fn run(log: &Log<'_>, output: Output) -> Result<(), CliError> {
    let mut take = |line: Line| say(&line, output);
    let Some(shown) = log.published(&mut take)? else { return Ok(()) };
    let mut after = shown;
    wait(|| {
        let until = log.settled()?;
        // A stream that went back is followed from where it stands; an unfinished command may have been shown.
        if log.store.progress().map_err(KeyError::from)?.head < after {
            after = until;
        }
        let goes_on = until <= after || log.news((after, until), &mut take)?;
        after = after.max(until);
        Ok(goes_on)
    })
}

/// Does something again and again, until it is enough or Ctrl-C comes.
#[cfg(feature = "nats")]
fn wait(mut again: impl FnMut() -> Result<bool, CliError>) -> Result<(), CliError> {
    use super::connection::{block_on, interrupted};
    block_on(async {
        let stop = interrupted();
        tokio::pin!(stop);
        while again()? {
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    })?
}

#[cfg(not(feature = "nats"))]
fn wait(mut again: impl FnMut() -> Result<bool, CliError>) -> Result<(), CliError> {
    while again()? {
        std::thread::sleep(LOOK);
    }
    Ok(())
}
