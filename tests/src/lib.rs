//! Shared test tools: real servers, proxies, the simulator.

pub mod bench;
pub mod cluster;
pub mod consume;
pub mod contract;
pub mod desk;
pub mod faults;
pub mod identities;
pub mod ledger;
pub mod mixed;
pub mod operations;
pub mod outbox;
pub mod permits;
pub mod pipeline;
pub mod program;
pub mod proxy;
pub mod reality;
pub mod sandbox;
pub mod server;
pub mod simulator;
pub mod site;
pub mod stage;
pub mod streams;
pub mod tools;
pub mod wait;
pub mod wasm;
mod websocket;
pub mod wire;
