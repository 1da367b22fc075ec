//! A message in hand, and what is said of it.

use crate::nats::link::{Link, Trouble};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::dead::Place;
use cim_keys_core::delivery::{Acknowledgement, Delivered, confirms};
use cim_keys_core::time::Timestamp;
use cim_keys_core::trace::{TraceError, TraceParent};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The connection that a subscription has at the time: what was delivered over one can be acknowledged over the next.
#[derive(Clone, Default)]
pub(super) struct Way(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    link: Option<Arc<Link>>,
    /// How often nobody answered since somebody did.
    silent: u32,
}

impl Way {
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.held().link.clone()
    }

    pub(super) fn set(&self, link: Option<Arc<Link>>) {
        *self.held() = Held { link, silent: 0 };
    }

    /// Somebody answered.
    pub(super) fn heard(&self) {
        self.held().silent = 0;
    }

    /// Nobody answered: for the how manieth time.
    pub(super) fn silent(&self) -> u32 {
        let mut held = self.held();
        held.silent = held.silent.saturating_add(1);
        held.silent
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as a durable consumer delivered it. It comes again, to whoever asks next, unless an acknowledgement is confirmed
/// within the consumer's ack wait; dropping it says nothing.
#[derive(Clone)]
pub struct Delivery {
    delivered: Delivered,
    way: Way,
}

impl Delivery {
    pub(super) fn new(delivered: Delivered, way: Way) -> Self {
        Self { delivered, way }
    }

    /// The same to be acknowledged, about another message: that of the dead letter that this one marks.
    pub(super) fn of(&self, place: &Place, message: StoredMessage) -> Self {
        let (stream, consumer) = (place.stream.clone(), place.consumer.clone());
        let delivered = Delivered { message, stream, consumer, ..self.delivered.clone() };
        Self { delivered, way: self.way.clone() }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &StoredMessage {
        &self.delivered.message
    }

    /// Its sequence on the stream.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.delivered.message.sequence
    }

    /// The trace that it belongs to, for what is done about it and published in turn; none where nobody said so.
    ///
    /// # Errors
    /// Its header `traceparent` is none: see [`TraceError`]. That says nothing of the event.
    pub fn trace(&self) -> Result<Option<TraceParent>, TraceError> {
        TraceParent::of(&self.message().headers)
    }

    /// When the server stored it.
    #[must_use]
    pub fn stored(&self) -> Timestamp {
        self.delivered.stored
    }

    /// The how manieth delivery of this message it is, from 1. A worker that is killed uses one up as well.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.delivered
    }

    /// Messages that the consumer has not delivered yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.delivered.pending
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.delivered.stream
    }

    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.delivered.consumer
    }

    /// It is done. Only where this is `Ok` it does not come again.
    ///
    /// # Errors
    /// See [`AckError`]: it may be acknowledged or not, and comes again where it is not.
    pub async fn ack(&self) -> Result<(), AckError> {
        self.say(Acknowledgement::Ack).await
    }

    /// It shall come again, not before this delay.
    ///
    /// # Errors
    /// See [`ack`](Self::ack).
    pub async fn nak(&self, delay: Duration) -> Result<(), AckError> {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.say(Acknowledgement::Nak { delay }).await
    }

    /// It shall not come again, whatever becomes of it; the server tells why to whoever listens.
    ///
    /// # Errors
    /// See [`ack`](Self::ack).
    pub async fn term(&self, reason: &str) -> Result<(), AckError> {
        self.say(Acknowledgement::Term { reason: reason.to_owned() }).await
    }

    /// It is still worked on: the consumer's ack wait begins anew.
    ///
    /// # Errors
    /// See [`ack`](Self::ack).
    pub async fn in_progress(&self) -> Result<(), AckError> {
        self.say(Acknowledgement::InProgress).await
    }

    async fn say(&self, what: Acknowledgement) -> Result<(), AckError> {
        let link = self.way.link().ok_or(AckError::NoAnswer { trouble: Trouble::Closed })?;
        let answer = link.ask(&self.delivered.reply, None, what.payload().into_bytes(), link.answer()).await;
        let answer = answer.map_err(|trouble| AckError::NoAnswer { trouble })?;
        let status = answer.status.map(|status| status.as_u16());
        if confirms(status, &answer.payload) { Ok(()) } else { Err(AckError::NotConfirmed { status }) }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Delivered { stream, consumer, delivered, message, .. } = &self.delivered;
        write!(f, "Delivery({stream} {consumer} {}, {delivered})", message.sequence)
    }
}

/// An acknowledgement is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// No answer: the consumer may be gone (503), or the connection.
    #[error("not confirmed: {trouble}")]
    NoAnswer {
        /// Why.
        trouble: Trouble,
    },
    /// An answer that confirms nothing.
    #[error("not confirmed: the answer is {}", status.map_or("no confirmation".to_owned(), |status| format!("status {status}")))]
    NotConfirmed {
        /// Its status.
        status: Option<u16>,
    },
}

impl AckError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAnswer { trouble: Trouble::Permission { .. } } => "permission",
            Self::NoAnswer { trouble: Trouble::Authorization { .. } } => "authorization",
            Self::NoAnswer { .. } | Self::NotConfirmed { .. } => "not-confirmed",
        }
    }
}
