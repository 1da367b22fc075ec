//! Brings journal and stream together, exactly once: compare-and-append.

mod append;
mod archive;
pub(crate) mod breaker;
mod catchup;
mod contract;
mod known;
mod machine;
pub(crate) mod patience;
mod planted;
mod reasons;
mod recheck;
mod recover;
#[cfg(test)]
mod schema_tests;
mod tail;

pub use append::BATCH_BYTES;
pub use contract::{
    Failure, Input, Landed, Moment, Outgoing, Output, Overlay, Persist, Persisted, Read, Reply, Send, Status,
    StreamInfo,
};
pub use machine::Machine;
#[cfg(feature = "planted-bugs")]
pub use planted::Bug;
pub use recover::{Confirmed, Lost, Recovery, last_agreeing, recover};
