//! Build and test orchestration: `cargo xtask up`, `cargo xtask test`.
fn main() {}
