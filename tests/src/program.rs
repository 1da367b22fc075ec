//! The `cim-keys` program itself, run as a person runs it.

use crate::tools::workspace_root;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
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

    /// A shell in this person's home that finds the program and whatever the system has, and stops at the first failure.
    pub fn shell(&self, script: &str) -> Command {
        let mut path = program().parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.env_clear().env("HOME", self.home()).env("USER", "tester").env("PATH", path);
        command.current_dir(self.home()).args(["-euc", script]).stdin(Stdio::null());
        command
    }

    /// Runs it to its end, with something on stdin.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_with(&self, words: &[&str], stdin: &[u8]) -> Said {
        fed(&mut self.command(words), stdin)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, words: &[&str]) -> Said {
        said(self.command(words).output().expect("the program runs"))
    }

    /// Starts it with stdout in the file `NAME.out` of their home and stderr in `NAME.err`, to be looked at while it runs.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_into(&self, name: &str, words: &[&str]) -> Running {
        let file = |end: &str| File::create(self.home().join(format!("{name}.{end}"))).expect("a file");
        let mut command = self.command(words);
        let child = command.stdout(file("out")).stderr(file("err")).spawn();
        Running(Some(child.expect("the program starts")))
    }

    /// Starts it with stderr on a terminal; gives what it draws there.
    ///
    /// # Panics
    /// When there is no terminal, or it cannot be started.
    pub fn start_on_terminal(&self, words: &[&str]) -> (Running, File) {
        self.start_at(words, false)
    }

    /// The same with stdin there too: what is written to the terminal is what a person types.
    ///
    /// # Panics
    /// When there is no terminal, or it cannot be started.
    pub fn start_in_terminal(&self, words: &[&str]) -> (Running, File) {
        self.start_at(words, true)
    }

    fn start_at(&self, words: &[&str], types: bool) -> (Running, File) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal to be used");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
        let theirs = File::options().read(true).write(true).open(name).expect("its other side");
        let mut command = self.command(words);
        if types {
            command.stdin(theirs.try_clone().expect("the same terminal"));
        }
        let child = command.stdout(Stdio::piped()).stderr(theirs).spawn();
        (Running(Some(child.expect("the program starts"))), File::from(ours))
    }

    /// What the file of this name in their home has.
    pub fn reads(&self, name: &str) -> String {
        std::fs::read(self.home().join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Another one with a copy of everything in their home: the same registry on another host.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn twin(&self) -> Person {
        let twin = Person::new();
        copy(self.home(), twin.home()).expect("a copy of the home");
        twin
    }

    /// Starts it, its output to be read.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running(Some(child.expect("the program starts")))
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?, to.to_owned());
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// A run that goes on. Dropping it ends it in order, so that it ends what it has started.
pub struct Running(Option<Child>);

impl Running {
    /// The first line on stdout; empty when it ends without one.
    ///
    /// # Panics
    /// When stdout cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.as_mut().and_then(|child| child.stdout.as_mut());
        BufReader::new(stdout.expect("its stdout")).read_line(&mut line).expect("text");
        line
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.0 {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When its output cannot be read.
    pub fn end(mut self) -> Said {
        said(self.0.take().expect("it runs").wait_with_output().expect("its output"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.0.take() {
            let _ = child.wait();
        }
    }
}

/// Runs a process to its end, with something on stdin.
///
/// # Panics
/// When it cannot be started.
pub fn fed(command: &mut Command, stdin: &[u8]) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("its stdin");
    std::thread::scope(|scope| {
        // One that refuses its words does not read.
        scope.spawn(move || pipe.write_all(stdin).unwrap_or_default());
        said(child.wait_with_output().expect("its output"))
    })
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
        let mut build = cargo();
        build.args(["build", "--quiet", "--locked", "--package", "cim-keys", "--bin", "cim-keys"]);
        if cfg!(feature = "page") {
            build.args(["--features", "page"]);
        }
        executable(&mut build, "cim-keys")
    })
}

/// An example of the library, built in the profile of the tests.
///
/// # Panics
/// When it does not build.
pub fn example(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let file = built.entry(name.to_owned()).or_insert_with(|| {
        let mut build = cargo();
        build.args(["build", "--quiet", "--locked", "--package", "cim-keys", "--example", name]);
        if cfg!(feature = "page") {
            build.args(["--features", "page"]);
        }
        executable(&mut build, name)
    });
    file.clone()
}

/// Cargo, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root());
    cargo
}

/// Builds, and gives the file of the program that cargo names.
pub(crate) fn executable(build: &mut Command, name: &str) -> PathBuf {
    let output = build.arg("--message-format=json").stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{name} does not build");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable =
        lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
            (message["target"]["name"] == name).then(|| message["executable"].as_str().map(PathBuf::from))?
        });
    executable.expect("cargo names the program")
}
