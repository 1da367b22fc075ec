//! Brings journal and stream together, exactly once: compare-and-append.

mod contract;
mod machine;
mod patience;
mod recheck;

pub use contract::{
    Failure, Input, Moment, Outgoing, Output, Overlay, Persist, Persisted, Read, Reply, Send, Status,
    StreamInfo,
};
#[cfg(feature = "planted-bugs")]
pub use machine::Bug;
pub use machine::Machine;
