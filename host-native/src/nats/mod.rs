//! The way to a server: where it is, one connection, the streams, reading and appending, account JWTs.
//!
//! Nothing here decides what an answer means: that is the sync machine's affair in core.

pub mod append;
pub mod context;
pub mod link;
pub mod read;
pub mod role;
pub mod streams;
pub mod target;
