//! Durable consumption before real servers.

mod cluster;
mod dlq;
mod example;
mod processor;
mod subscription;
