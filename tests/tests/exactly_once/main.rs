//! Exactly once, on real servers: whatever happens to process, connection and server, each event stands on the stream
//! once, each command whole and in order, and every host has the registry that an auditor reads from the beginning.

mod archive;
mod faults;
mod foreign;
mod kills;
mod offline;
mod recover;
mod schema;
mod streams;
mod twins;
