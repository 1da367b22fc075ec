//! Shared test tools: real servers, proxies, the simulator.

pub mod operations;
pub mod proxy;
pub mod server;
pub mod tools;
pub mod wait;
pub mod wasm;
mod websocket;
pub mod wire;
