//! Durable consumption before real servers.

mod cluster;
mod dlq;
mod example;
mod orders;
mod processor;
mod subscription;
