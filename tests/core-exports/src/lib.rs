//! Every public operation of the core as a wasm export.
