//! Durable consumption before real servers.

mod cluster;
mod dlq;
mod processor;
mod subscription;
