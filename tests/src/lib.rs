//! Shared test tools: real servers, proxies, the simulator.
