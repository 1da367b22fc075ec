//! Runs the binary in a home folder of its own.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A home folder, and the binary in it.
pub(crate) struct Tool {
    home: TempDir,
}

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// With a registry and the account APP.
    pub(crate) fn founded() -> Self {
        let tool = Self::new();
        tool.ok(&["init", "--name", "TEST"]);
        tool.ok(&["account", "create", "APP"]);
        tool
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// The registry's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.path(".local/share/cim-keys/registries/default")
    }

    /// The command with nothing of the caller's environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cim-keys"));
        command.args(words).env_clear().env("HOME", self.home()).env("USER", "tester");
        command.current_dir(self.home()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::from(self.command(words).output().unwrap())
    }

    /// Runs what must succeed, and gives its stdout.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.status, 0, "{words:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs what must succeed with JSON output, and gives the object.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend(words);
        let stdout = self.ok(&all);
        assert_eq!(stdout.matches('\n').count(), 1, "one line: {stdout}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// All that was recorded, to compare before and after.
    pub(crate) fn trail(&self) -> String {
        self.ok(&["--output", "json", "log", "--payload"])
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A member that is text.
pub(crate) fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} is no text in {value}")).to_owned()
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
