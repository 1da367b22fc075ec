//! Who does something about a message, how often it is tried, and what is told of it.

use super::{AckError, Delivery, LetterError, State};
use cim_keys_core::dead::Place;
use std::future::Future;
use std::time::Duration;

/// Who does something about each message. It may be given one more than once: after a failure, after a crash, and when a
/// person says so. So doing it twice must be the same as doing it once.
pub trait Handler {
    /// Does what is to be done about a message. `Ok` says that it is done for good.
    ///
    /// # Errors
    /// It is not done; see [`HandlerError`].
    fn handle(&mut self, delivery: &Delivery) -> impl Future<Output = Result<(), HandlerError>>;
}

impl<F: AsyncFnMut(&Delivery) -> Result<(), HandlerError>> Handler for F {
    async fn handle(&mut self, delivery: &Delivery) -> Result<(), HandlerError> {
        self(delivery).await
    }
}

/// Why nothing was done about a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// Another try may help.
    #[error("{reason}")]
    Retry {
        /// Why, for people; no secrets.
        reason: String,
        /// Not before then; where none is given, longer after each try.
        after: Option<Duration>,
    },
    /// No try can help: it becomes a dead letter at once.
    #[error("{reason}")]
    Poison {
        /// Why, for people; no secrets.
        reason: String,
    },
}

impl HandlerError {
    /// Another try may help.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// No try can help.
    #[must_use]
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison { reason: reason.into() }
    }
}

/// How often and for how long something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Deliveries after which a failure makes a dead letter. Fewer than the consumer's `max_deliver`, after which the server
    /// gives the message up without a letter.
    pub tries: u64,
    /// Pause after the first failure; it doubles with each one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long one try may take. Meanwhile the server is told that it is worked on.
    pub at_most: Duration,
    /// Messages that are asked for at once, at most. It begins with one, and begins again after each failure: so a message
    /// that ends its worker takes no other along.
    pub batch: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tries: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            at_most: Duration::from_secs(600),
            batch: 64,
        }
    }
}

impl Policy {
    /// The pause after this delivery, from 1.
    #[must_use]
    pub fn pause(&self, delivered: u64) -> Duration {
        let doubled = u32::try_from(delivered.saturating_sub(1).min(20)).unwrap_or(20);
        self.first_pause.saturating_mul(1 << doubled).min(self.longest_pause).max(Duration::from_millis(1))
    }
}

/// What a processor did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Handled, and acknowledged where the server said so.
    pub handled: u64,
    /// Handled, but the server did not say that it heard so: they come again.
    pub not_confirmed: u64,
    /// Given back, to come again.
    pub failed: u64,
    /// Dead letters that this run wrote or found written.
    pub dead: u64,
    /// Dead letters that were tried again, and are done.
    pub retried: u64,
}

/// What a processor tells while it works.
#[derive(Debug)]
pub enum Told<'a> {
    /// How its consumer stands, where that has changed.
    State(&'a State),
    /// The same of the consumer of those to be tried again.
    Retries(&'a State),
    /// Handled and acknowledged.
    Handled(&'a Delivery),
    /// Not handled: it comes again.
    Failed {
        /// The message.
        delivery: &'a Delivery,
        /// Why.
        reason: &'a str,
        /// After this time.
        again: Duration,
    },
    /// Given up: its letter stands there.
    Dead {
        /// Which.
        place: &'a Place,
        /// `poison`, `exhausted` or `gone`.
        code: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Its letter cannot be written: it is not given up, and nothing else is done until it can.
    Stuck {
        /// Which.
        place: &'a Place,
        /// Why.
        error: &'a LetterError,
    },
    /// Done, but the server did not say that it heard so: it comes again.
    NotConfirmed {
        /// The message.
        delivery: &'a Delivery,
        /// What it said.
        error: &'a AckError,
    },
    /// A dead letter was tried again, and is done.
    Retried(&'a Place),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Policy::default();
        let seconds = |delivered| policy.pause(delivered).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 8, u64::MAX].map(seconds), [1, 2, 4, 32, 60, 60, 60]);
        let none = Policy { first_pause: Duration::ZERO, ..policy };
        assert_eq!(none.pause(1), Duration::from_millis(1), "never a bare NAK");
    }
}
