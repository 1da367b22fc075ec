//! A service's own events on a service's own stream: whatever happens to process, connection and server.

mod faults;
mod processes;
mod refusals;
mod seen;
mod simulation;
