//! Core's `why` against real servers.

mod generated;
mod measured;
mod past;
mod standing;
