//! The way to a server: where it is, one connection, the streams, reading and appending, account JWTs.
//!
//! Nothing here decides what an answer means: that is the sync machine's affair in core.

#[cfg(feature = "nats")]
pub mod append;
#[cfg(feature = "nats")]
pub mod consumers;
pub mod context;
#[cfg(feature = "nats")]
mod entry;
#[cfg(feature = "nats")]
pub mod find;
#[cfg(feature = "nats")]
pub mod link;
#[cfg(feature = "nats")]
pub mod origin;
#[cfg(feature = "nats")]
pub(crate) mod pull;
#[cfg(feature = "nats")]
pub mod read;
#[cfg(feature = "nats")]
pub mod resolver;
#[cfg(feature = "nats")]
pub mod role;
#[cfg(feature = "nats")]
pub mod source;
#[cfg(feature = "nats")]
pub mod streams;
#[cfg(feature = "nats")]
pub mod target;
#[cfg(feature = "nats")]
mod trouble;
