//! The core for hosts that speak JavaScript: a browser tab, Node, a sandbox.
//!
//! Thin, synchronous, typed. No network, no clock, no storage, no randomness: bytes, time and entropy come in with each
//! call. Data crosses as plain objects, in the JSON that the core's types have everywhere else; `types.ts` declares them.
//! Errors are real `Error`s with a stable `code`. Seeds stay in this module's memory: every export that hands a secret
//! out says so in its name. What has a `free` must be freed by whoever made it.

mod bundle;
mod command;
mod convert;
mod error;
mod jetstream;
mod keyring;
mod machine;
mod views;

use serde::Serialize;
use wasm_bindgen::prelude::*;

/// The shapes of all plain objects.
#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.ts");

#[derive(Serialize)]
struct Version {
    version: &'static str,
    schema: u32,
}

/// Which release this is, and the schema of the events that it writes.
#[wasm_bindgen(unchecked_return_type = "Version")]
pub fn version() -> Result<JsValue, error::Fault> {
    let schema = cim_keys_core::envelope::SCHEMA_VERSION;
    convert::to_js(&Version { version: env!("CARGO_PKG_VERSION"), schema })
}
