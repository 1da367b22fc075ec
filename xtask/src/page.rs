//! `cargo xtask page`: the page with its wasm, from www/ into `www/dist`, which the feature `page` takes into `cim-keys`.

use std::env;
use std::io::stderr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{sh, wasm};

/// The oldest Node that the page's tools run on.
const NODE: u64 = 20;

/// Where the page's sources are.
pub fn folder() -> PathBuf {
    sh::root().join("www")
}

/// Builds it: wasm, packages where they are out of date, then the bundle. All talk goes to stderr.
pub fn build() -> Result<(), String> {
    node()?;
    wasm::build()?;
    packages()?;
    sh::run(npm().args(["run", "build"]).stdout(Stdio::from(stderr())))?;
    let index = folder().join("dist").join("index.html");
    if index.is_file() { Ok(()) } else { Err(format!("the page's build made no {}", index.display())) }
}

/// Runs a script of the page's package, with its packages as they must be.
pub fn script(name: &str, variables: &[(&str, PathBuf)]) -> Result<(), String> {
    node()?;
    packages()?;
    sh::run(npm().args(["run", name]).envs(variables.iter().map(|(variable, path)| (variable, path))))
}

/// A browser for the page's tests: `$CHROMIUM`, then `PATH`, else installed from Debian's packages.
pub fn chromium() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("CHROMIUM").filter(|value| !value.is_empty()) {
        // A browser that somebody chose is used or refused, never passed over in silence.
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("CHROMIUM: {} is no file: name the browser's program, or unset it", path.display()))
        };
    }
    if let Some(path) = found() {
        return Ok(path);
    }
    eprintln!("xtask: installing chromium from Debian's packages");
    debian().map_err(|reason| {
        format!(
            "there is no browser for the page's tests, and none could be installed: {reason}\n\
             Install Chromium (on Debian, as root: apt-get install chromium) where PATH finds it, or set CHROMIUM to its program."
        )
    })?;
    found().ok_or_else(|| "Debian's package chromium brought no program of that name onto PATH".to_owned())
}

fn found() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| on_path(name))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn debian() -> Result<(), String> {
    if !Path::new("/etc/debian_version").is_file() || on_path("apt-get").is_none() {
        return Err("this is no Debian".to_owned());
    }
    let (_, user) = sh::output(Command::new("id").arg("-u"))?;
    if user.trim() != "0" {
        return Err("only root installs packages".to_owned());
    }
    for words in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium"]] {
        let mut apt = Command::new("apt-get");
        apt.args(words).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        sh::run(apt.stdout(Stdio::from(stderr())))?;
    }
    Ok(())
}

/// Installs the packages of the lock file where other ones, or none, are there.
fn packages() -> Result<(), String> {
    let mut ask = Command::new("node");
    ask.args(["--input-type=module", "--eval", include_str!("packages.mjs")]).current_dir(folder());
    let (current, _) = sh::output(&mut ask)?;
    if current {
        return Ok(());
    }
    eprintln!("xtask: installing the page's packages into www/node_modules/");
    sh::run(npm().args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).stdout(Stdio::from(stderr())))
}

fn npm() -> Command {
    // On Windows it is a script, which has to be named whole.
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(folder()).stdin(Stdio::null());
    command
}

fn node() -> Result<(), String> {
    let advice = format!(
        "the page needs Node {NODE} or newer with npm on PATH (your package manager, or nodejs.org); \
         without the page: cargo run --package cim-keys -- up"
    );
    let Ok((true, text)) = sh::output(Command::new("node").arg("--version")) else {
        return Err(format!("there is no Node: {advice}"));
    };
    match major(&text) {
        Some(found) if found >= NODE => {}
        _ => return Err(format!("node {} is too old: {advice}", text.trim())),
    }
    match sh::output(npm().arg("--version")) {
        Ok((true, _)) => Ok(()),
        _ => Err(format!("there is no npm: {advice}")),
    }
}

/// The first number of `v20.20.2`.
fn major(text: &str) -> Option<u64> {
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_node_is_read_as_a_number() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v8.17.0"), Some(8));
        assert_eq!(major("20.1.0"), None);
        assert_eq!(major("v.1"), None);
    }
}
