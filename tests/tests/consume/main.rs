//! Durable consumption before real servers.

mod dlq;
mod processor;
mod subscription;
