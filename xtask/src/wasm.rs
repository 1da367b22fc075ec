//! `cargo xtask wasm`: host-wasm with its bindings for browsers (`target/wasm-pkg/web`) and Node (`target/wasm-pkg/node`).

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{sh, tools};

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds both. Equal sources give equal bytes, wherever they lie: no path of this machine gets into them.
pub fn build() -> Result<(), String> {
    tools::wasm_targets()?;
    let mut module = sh::cargo();
    module.args(["build", "--locked", "--profile", "wasm", "--package", "cim-keys-wasm", "--target", TARGET]);
    module.env("CARGO_ENCODED_RUSTFLAGS", remap()?.join("\u{1f}"));
    sh::run(&mut module)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| sh::root().join("target"), PathBuf::from);
    sh::build(&["--package", "xtask-bindgen"])?;
    let mut bindgen = sh::built("xtask-bindgen")?;
    bindgen.arg(target.join(TARGET).join("wasm").join("cim_keys_wasm.wasm")).arg(target.join("wasm-pkg"));
    sh::run(&mut bindgen)
}

/// Flags that name the folders of sources by what they are.
fn remap() -> Result<Vec<String>, String> {
    let ask = |arguments: &[&str]| {
        let (ok, text) = sh::output(Command::new(sh::cargo_path().with_file_name("rustc")).args(arguments))?;
        if ok { Ok(text.trim().to_owned()) } else { Err(format!("rustc does not answer {arguments:?}")) }
    };
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .ok_or("there is no home folder: set CARGO_HOME")?;
    let sysroot = ask(&["--print", "sysroot"])?;
    let folders = [
        (home.display().to_string(), "/cargo"),
        (sysroot, "/rust"),
        (sh::root().display().to_string(), "/cim-keys"),
    ];
    Ok(folders.iter().map(|(folder, name)| format!("--remap-path-prefix={folder}={name}")).collect())
}
