//! What a service gets for an event: it is journalled, and what comes of it can be waited for.

use super::Inner;
use crate::error::KeyError;
use cim_keys_core::outbox::Outcome;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often it is looked whether another process has published the event.
const LOOK: Duration = Duration::from_millis(200);

/// Where an event is on the service's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
}

/// An event that is on the disk. It is published however this is treated; dropping it gives nothing up.
#[derive(Clone)]
pub struct Receipt {
    outbox: Arc<Inner>,
    id: Uuid,
    position: u64,
}

impl Receipt {
    pub(super) fn new(outbox: Arc<Inner>, id: Uuid, position: u64) -> Self {
        Self { outbox, id, position }
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Where it is on the stream; none while it is not settled.
    ///
    /// # Errors
    /// [`KeyError::NotPublished`] where it is refused for good; see [`KeyError`].
    pub fn look(&self) -> Result<Option<Published>, KeyError> {
        match self.outbox.journal.outcome(self.id, self.position)? {
            None => Ok(None),
            Some(Outcome::Published { sequence }) => {
                Ok(Some(Published { stream: self.outbox.stream.as_str().to_owned(), sequence }))
            }
            Some(Outcome::Refused(refusal)) => Err(KeyError::NotPublished { id: self.id, refusal }),
        }
    }

    /// Waits until it is settled, by whichever process publishes: for ever where none does.
    ///
    /// # Errors
    /// See [`look`](Self::look).
    pub async fn published(&self) -> Result<Published, KeyError> {
        let mut written = self.outbox.journal.written();
        loop {
            if let Some(published) = self.look()? {
                return Ok(published);
            }
            tokio::select! {
                _ = written.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({})", self.id)
    }
}
