//! Durable consumption before real servers.

mod processor;
mod subscription;
