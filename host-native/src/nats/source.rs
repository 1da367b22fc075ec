//! A server's streams, read across connections, for whoever compares them with a journal.

use super::find;
use super::link::{Link, LinkError, Trouble};
use super::read::Reader;
use super::streams::{self, StreamsError};
use super::target::Target;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::sync::{Failure, Read, StreamInfo};
use std::time::Duration;

/// How often something is asked for that does not come.
const TRIES: u32 = 10;
/// How long between two of these.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks as `sync` does: what breaks a connection off is read again over another one, and carefully.
pub struct Source<'a> {
    target: &'a Target,
    now: i64,
    link: Option<Link>,
    reader: Reader,
}

impl<'a> Source<'a> {
    /// Connects; `now` in Unix seconds.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn connect(target: &'a Target, now: i64) -> Result<Self, LinkError> {
        let link = Some(Link::connect(target, now).await?);
        Ok(Self { target, now, link, reader: Reader::default() })
    }

    /// How a stream stands, by its leader. A connection that was lost since is made anew with the next read.
    ///
    /// # Errors
    /// See [`StreamsError`].
    pub async fn info(&self, stream: &str) -> Result<StreamInfo, StreamsError> {
        match &self.link {
            Some(link) => streams::awaited(link, stream).await,
            None => Err(StreamsError::NoAnswer { subject: stream.to_owned(), trouble: Trouble::Closed }),
        }
    }

    /// The connection, made anew where it was lost.
    async fn link(&mut self) -> Result<&Link, LinkError> {
        let kept = self.link.take().filter(|link| !link.is_closed());
        let link = match kept {
            Some(link) => link,
            None => Link::connect(self.target, self.now).await?,
        };
        Ok(self.link.insert(link))
    }

    /// What a stream has stored behind `after`, at most `limit` messages: fewer where the connection broke off, none only
    /// where there are none, or none is handed out.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read_from(&mut self, stream: &str, after: u64, limit: u32) -> Result<Read, Failure> {
        let mut tries = 0;
        loop {
            let read = self.try_from(stream, after, limit).await;
            let again = match &read {
                // A server is behind its leader.
                Ok(read) => read.messages.is_empty() && after < read.info.last,
                Err(Failure::Unreachable | Failure::NoResponders) => true,
                Err(_) => false,
            };
            tries += 1;
            if !again || tries == TRIES {
                return read;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The same, where messages in between may be missing: then those behind them. None only where there are no more.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read_on(
        &mut self,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, Failure> {
        let read = self.try_from(stream, after, limit).await;
        match read {
            Ok(read) if !read.messages.is_empty() => return Ok(read.messages),
            Ok(_) | Err(Failure::Unreachable | Failure::NoResponders) => {}
            Err(failure) => return Err(failure),
        }
        self.link().await.map_err(|error| Failure::from(&error))?;
        let Some(link) = &self.link else { return Err(Failure::Unreachable) };
        // The leader knows where it goes on; none behind it is the end.
        match find::first_from(link, stream, after.saturating_add(1)).await? {
            Some(message) if message.sequence > after.saturating_add(1) => Ok(vec![message]),
            // It is there, and was not handed out yet.
            Some(_) => Ok(self.read_from(stream, after, limit).await?.messages),
            None => Ok(Vec::new()),
        }
    }

    async fn try_from(&mut self, stream: &str, after: u64, limit: u32) -> Result<Read, Failure> {
        self.link().await.map_err(|error| Failure::from(&error))?;
        let Some(link) = &self.link else { return Err(Failure::Unreachable) };
        let read = self.reader.read_from(link, stream, after, limit).await;
        if read == Err(Failure::Unreachable) {
            self.link = None;
        }
        read
    }
}
