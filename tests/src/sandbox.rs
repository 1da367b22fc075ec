//! The program `cim-keys-sandbox`, natively and under WASI in Node.

use crate::program::{Said, cargo, executable, fed};
use crate::tools::workspace_root;
use cim_keys::ambient::Ambient;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A plan with fresh entropy, as long as it needs: the account APP, in it alice and bob who may use `orders.>`.
///
/// # Panics
/// When the system has no entropy.
pub fn plan() -> Value {
    let ambient = Ambient::system();
    let piece = || ambient.entropy().expect("entropy").map(|byte| format!("{byte:02x}")).concat();
    let user = |name: &str| json!({ "name": name, "publish": ["orders.>"], "subscribe": ["orders.>", "_INBOX.>"], "expires": 0 });
    json!({
        "now": ambient.now(),
        "actor": "sandbox",
        "entropy": (0..15 + 3 + 4).map(|_| piece()).collect::<String>(),
        "operator": "Example",
        "accounts": [{ "name": "APP", "users": [user("alice"), user("bob")] }],
    })
}

/// Runs it natively.
///
/// # Panics
/// When it cannot be built or started.
pub fn native(words: &[&str], plan: &Value) -> Said {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| build(&[]));
    fed(Command::new(program).args(words).env_clear(), plan.to_string().as_bytes())
}

/// Runs it as a person does under WASI: with `sandbox/run.mjs`, in Node.
///
/// # Panics
/// When it cannot be built or started.
pub fn wasi(words: &[&str], plan: &Value) -> Said {
    let mut node = Command::new("node");
    node.arg("--no-warnings").arg(workspace_root().join("sandbox/run.mjs")).arg(module()).args(words);
    fed(&mut node, plan.to_string().as_bytes())
}

/// Does the same with host-wasm in plain Node.
///
/// # Panics
/// When it cannot be built or started.
pub fn javascript(words: &[&str], plan: &Value) -> Said {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = cargo().args(["xtask", "wasm"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cargo xtask wasm");
    });
    let mut node = Command::new("node");
    node.arg(workspace_root().join("host-wasm/tests/offline.mjs")).args(words);
    fed(&mut node, plan.to_string().as_bytes())
}

/// The module for WASI.
///
/// # Panics
/// When it cannot be built.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| build(&["--target", "wasm32-wasip1"]))
}

fn build(more: &[&str]) -> PathBuf {
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--package", "cim-keys-sandbox"]).args(more);
    executable(&mut build, "cim-keys-sandbox")
}
