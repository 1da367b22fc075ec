//! A service's own domain events, from its journal to its stream: exactly once within the stream's duplicate window, at
//! least once beyond it, and exactly once for ever where an event names the last message of its subject.
//!
//! The stream is the service's: its settings are not ours to judge, and others append as they like. So nothing here
//! expects a last sequence of the stream; what came of an attempt is settled by reading.

mod contract;
mod event;
mod machine;
mod settle;

pub use contract::{Found, Input, Output, Persist, Wanted};
pub use event::{Attempt, DomainEvent, EventError, Message, Outcome, Refusal, Waiting, check_place};
pub use machine::Publisher;

#[cfg(test)]
mod tests;
