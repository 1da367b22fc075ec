//! The `cim-keys` program itself, run as a person runs it.

use crate::tools::workspace_root;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A person with a home folder of their own.
pub struct Person {
    home: TempDir,
}

/// What a run said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Said {
    /// stdout as JSON, if it went well.
    ///
    /// # Panics
    /// When it did not, or it is no JSON.
    pub fn json(self) -> Value {
        assert_eq!(self.status, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Person {
    /// A new one, with an empty home.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Person {
        Person { home: TempDir::new().expect("a temporary folder") }
    }

    /// Their home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The program with these words, in this person's home and with no environment but theirs.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.env_clear().env("HOME", self.home()).env("USER", "tester").env("PATH", "/nowhere");
        command.current_dir(self.home()).args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, words: &[&str]) -> Said {
        said(self.command(words).output().expect("the program runs"))
    }

    /// Starts it, its output to be read.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }
}

/// What a process that has ended said.
pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The program, built once in the profile of the tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(workspace_root());
        build.args(["build", "--quiet", "--locked", "--package", "cim-keys", "--bin", "cim-keys"]);
        build.arg("--message-format=json");
        let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(output.status.success(), "cim-keys does not build");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let executable =
            lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
                (message["target"]["name"] == "cim-keys")
                    .then(|| message["executable"].as_str().map(PathBuf::from))?
            });
        executable.expect("cargo names the program")
    })
}
