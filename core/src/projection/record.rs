//! What is folded.

use crate::envelope::{self, OpenError};
use crate::event::Event;
use crate::headers::Headers;

/// One event of an admitted command, and where it stands on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its stream sequence.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// Reads an admitted message. Whether it was admitted is not asked here.
    ///
    /// # Errors
    /// It is no event.
    pub fn open(sequence: u64, subject: &str, headers: &Headers, payload: &[u8]) -> Result<Self, OpenError> {
        Ok(Self { sequence, event: envelope::decode(subject, headers, payload)?.event })
    }

    /// From which sequence on it is so: a command is admitted whole, so that what its events change changes where the last
    /// one stands.
    #[must_use]
    pub fn since(&self) -> u64 {
        let command = &self.event.command;
        let behind = command.count.saturating_sub(1).saturating_sub(command.index);
        self.sequence.saturating_add(behind.into())
    }
}
