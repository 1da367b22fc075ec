//! `verify` finds what was planted, says what is known, and does not believe the store.

mod place;
mod planted;
mod store;
mod streams;
