//! NATS identities as events: the native host. Carries the core's data to the world.
#![forbid(unsafe_code)]

// Facts from outside, and what must not be seen.
pub mod ambient;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
pub mod files;
pub mod redact;
pub mod vault;

// What is kept, and who signs.
pub mod keyring;
pub mod report;
pub mod store;

// The operations.
pub mod config;
pub mod error;
pub mod exit;
pub mod host;
pub mod ports;
pub mod verify;

// The way to a server.
#[cfg(feature = "nats")]
pub mod consume;
#[cfg(feature = "nats")]
pub mod dev;
pub mod nats;
#[cfg(feature = "nats")]
pub mod outbox;
#[cfg(feature = "nats")]
pub mod page;
#[cfg(feature = "nats")]
pub mod pump;
#[cfg(feature = "nats")]
pub mod push;
#[cfg(feature = "nats")]
pub mod recover;
#[cfg(feature = "nats")]
pub mod serve;

// What people type.
pub mod cli;
