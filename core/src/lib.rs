//! NATS identities as events, made anywhere: pure functions over plain data, no IO of any kind.
//!
//! Rooms from top to bottom; each uses only those above it (the registry and the rules that guard it are neighbours).
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;
// What the integration tests use to set things up.
#[cfg(test)]
extern crate self as cim_keys_core;
#[cfg(test)]
#[path = "../tests/lab/mod.rs"]
mod lab;

// What a NATS identity is made of.
pub mod creds;
pub mod digest;
pub mod entropy;
pub mod json;
pub mod jwt;
pub mod nkey;
mod order;
pub mod secret;
mod text;
pub mod time;

// What an event looks like on NATS, as plain data.
pub mod consumer;
pub mod headers;
pub mod roles;
pub mod stream;
pub mod subjects;
pub mod trace;

// Facts about entities, and the state folded from them.
pub mod context;
pub mod envelope;
pub mod event;
pub mod issue;
pub mod registry;
pub mod rules;
pub mod why;

// What somebody wants.
pub mod command;
pub mod draft;

// What is confirmed and pending, and the machine that brings it to the stream.
pub mod admission;
pub mod bundle;
pub mod dead;
pub mod delivery;
pub mod jetstream;
pub mod journal;
pub mod outbox;
pub mod sync;
pub mod verify;

// What is made of what the stream says.
pub mod changes;
pub mod projection;

// The same, told to others.
#[cfg(feature = "schema")]
pub mod schema;
