//! Durable consumption before real servers.

mod subscription;
