//! The service of the keys: answers what is asked of it over NATS, and brings what came of it to every server.
//!
//! Who asks is what the server says, never what stands in a request; whether they may is the policy's affair; whether it
//! can be done is the core's.

pub mod answer;
pub mod caller;
mod discovery;
pub mod http;
mod issue;
pub mod log;
pub mod metrics;
mod operate;
pub mod policy;
mod projector;
mod pusher;
pub mod request;
mod responder;

pub use issue::Issuer;
pub use projector::Projector;
pub use pusher::Pusher;
pub use responder::{LIFETIME, Responder, Setup};

/// Name of the micro service.
pub const NAME: &str = "cim-keys";
