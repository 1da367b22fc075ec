//! Durable consumption: messages of a stream by a durable consumer, at least once each, acknowledged only where the server
//! says so. It needs no registry and no file.

mod dead;
mod delivery;
mod handler;
mod processor;
mod subscription;

pub use dead::{LetterBox, LetterError, Said};
pub use delivery::{AckError, Delivery};
pub use handler::{Handler, HandlerError, Policy, Tally, Told};
pub use processor::Processor;
pub use subscription::{Next, State, Subscription};

use cim_keys_core::subjects::{SubjectError, Token};

/// Which consumer of which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerName {
    /// The stream.
    pub stream: Token,
    /// The consumer's durable name.
    pub consumer: Token,
}

impl ConsumerName {
    /// From two names.
    ///
    /// # Errors
    /// One of them is no subject token.
    pub fn new(stream: &str, consumer: &str) -> Result<Self, SubjectError> {
        Ok(Self { stream: stream.parse()?, consumer: consumer.parse()? })
    }
}
