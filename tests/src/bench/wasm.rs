//! host-wasm in Node against the JavaScript packages of NATS, and how large the page is.

use super::rounds::Pair;
use crate::tools::workspace_root;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Deserialize)]
struct Rounds {
    ours: Vec<f64>,
    baseline: Vec<f64>,
}

/// Key, user JWT and creds, `users` of the baseline a round (and fifty times as many of ours).
///
/// # Panics
/// When `cargo xtask page` was not run before, or the two do not do the same work.
pub fn mint(users: usize, rounds: usize) -> Pair {
    let mut node = Command::new("node");
    node.arg(workspace_root().join("host-wasm/bench/mint.mjs"))
        .arg(users.to_string())
        .arg(rounds.to_string());
    let output = node.stderr(Stdio::inherit()).output().expect("node runs");
    assert!(output.status.success(), "host-wasm/bench/mint.mjs: run `cargo xtask page` first");
    let Rounds { ours, baseline } = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    Pair { ours, baseline }
}

/// Bytes of what a browser loads first, each file by itself through `gzip -9`: all of it, and the wasm in it.
///
/// # Panics
/// When `cargo xtask page` was not run before.
pub fn page_bytes() -> (u64, u64) {
    let dist = workspace_root().join("www/dist");
    let mut files = vec![dist.join("index.html")];
    files.extend(
        fs::read_dir(dist.join("assets")).expect("cargo xtask page").flatten().map(|entry| entry.path()),
    );
    let sizes: Vec<(bool, u64)> =
        files.iter().map(|file| (file.extension().is_some_and(|end| end == "wasm"), gzip(file))).collect();
    let wasm = sizes.iter().filter(|(is_wasm, _)| *is_wasm).map(|(_, size)| size).sum();
    (sizes.iter().map(|(_, size)| size).sum(), wasm)
}

fn gzip(file: &Path) -> u64 {
    let output = Command::new("gzip").args(["-9", "--stdout"]).arg(file).output().expect("gzip runs");
    assert!(output.status.success(), "gzip {}", file.display());
    output.stdout.len() as u64
}
