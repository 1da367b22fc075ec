//! A service's own domain events on their way to the service's own stream: a journal of their own, and what drives it.
//!
//! It is no part of a registry's store: a service that publishes needs no registry, its events come and go by its own
//! measure, and whoever publishes them need not wait for whoever synchronises keys.

mod journal;
pub mod look;
mod pump;
mod receipt;

pub use pump::OutboxPump;
pub use receipt::{Published, Receipt};

use crate::ambient::Ambient;
use crate::consume::{ConsumerName, Subscription};
use crate::error::KeyError;
use crate::nats::target::Target;
use crate::ports::JetStreamPort;
use cim_keys_core::outbox::{DomainEvent, check_place};
use cim_keys_core::subjects::{Namespace, Token};
use cim_keys_core::time::Timestamp;
use journal::Journal;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What the lock of who publishes is for.
const PURPOSE: &str = "publish";

/// What a service publishes through: one file, one stream, one namespace. Cheap to clone; threads and processes may
/// journal events into one file together, and one of them publishes at a time ([`OutboxPump`]).
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    stream: Token,
    namespace: Namespace,
    ambient: Arc<Ambient>,
}

/// How many events stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Not settled.
    pub pending: u64,
    /// On the stream.
    pub published: u64,
    /// Refused for good.
    pub refused: u64,
}

impl Outbox {
    /// Makes the file (mode 0600, and its folder), or opens it where it is there. `stream` is the service's stream, which
    /// must be there when events are published; `namespace` the first two tokens of its subjects.
    ///
    /// # Errors
    /// [`KeyError::OutboxOf`] where the file is another stream's; a stream of the keys; see [`KeyError`].
    pub fn open(
        path: &Path,
        stream: Token,
        namespace: Namespace,
        ambient: Ambient,
    ) -> Result<Self, KeyError> {
        check_place(&stream)?;
        let journal = Journal::open(path, &stream, &namespace)?;
        Ok(Self { inner: Arc::new(Inner { journal, stream, namespace, ambient: Arc::new(ambient) }) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.journal.path()
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Token {
        &self.inner.stream
    }

    /// How many events stand where.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn counts(&self) -> Result<Counts, KeyError> {
        Ok(self.inner.journal.counts()?)
    }

    /// Forgets settled events that were journalled before this time, and gives how many. Until then a repeated call of
    /// [`publish_event`](JetStreamPort::publish_event) is known by its id, and published events keep all but their payload.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn forget_settled(&self, before: Timestamp) -> Result<u64, KeyError> {
        Ok(self.inner.journal.forget_settled(before)?)
    }
}

impl JetStreamPort for Outbox {
    fn publish_event(&self, event: &DomainEvent) -> Result<Receipt, KeyError> {
        let message = event.check(&self.inner.namespace)?;
        let position = self.inner.journal.add(&message, self.inner.ambient.now())?;
        Ok(Receipt::new(Arc::clone(&self.inner), message.id, position))
    }

    fn subscribe(&self, consumer: ConsumerName, target: Target) -> Subscription<'static> {
        Subscription::new(consumer, target, Arc::clone(&self.inner.ambient))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({}, {})", self.path().display(), self.inner.stream.as_str())
    }
}
