//! The `cim-keys` command.
fn main() {}
