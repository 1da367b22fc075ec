//! Brings journal and stream together, exactly once: compare-and-append.

mod contract;

pub use contract::{
    Failure, Input, Moment, Outgoing, Output, Overlay, Persist, Persisted, Read, Reply, Send, Status, StreamInfo,
};
