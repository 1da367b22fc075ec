//! The service of the keys, as a process before real servers.

mod identity;
mod requests;
