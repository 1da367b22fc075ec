//! Running other programs: cargo without our own build's variables, built binaries, time limits.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs us.
pub fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// A cargo to be run in the workspace's root. The variables that `cargo run` set for us are taken away: build scripts
/// watch some of them, and would run again for nothing.
pub fn cargo() -> Command {
    let mut command = Command::new(cargo_path());
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Runs `cargo build` in the dev profile, whose dependencies the tests share. All talk goes to stderr.
pub fn build(what: &[&str]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["build", "--locked"]).args(what).stdout(Stdio::null());
    run(&mut command)
}

/// The binary `name` of the dev profile. It lies beside our own.
pub fn built(name: &str) -> Result<Command, String> {
    let own = env::current_exe().map_err(|error| format!("cannot find the build folder: {error}"))?;
    Ok(Command::new(own.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX))))
}

/// Runs to the end; anything but success is an error naming the program.
pub fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", shown(command))),
        Err(error) => Err(format!("cannot run {}: {error}", shown(command))),
    }
}

/// What a program says: stdout and stderr together, and whether it succeeded.
pub fn output(command: &mut Command) -> Result<(bool, String), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// Replaces this process, so that signals, streams and exit status need no forwarding.
#[cfg(unix)]
pub fn become_it(command: &mut Command) -> Result<ExitCode, String> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(format!("cannot run {}: {error}", shown(command)))
}

/// Runs to the end and ends as it did. (Ctrl-C reaches both: they share the console.)
#[cfg(not(unix))]
pub fn become_it(command: &mut Command) -> Result<ExitCode, String> {
    match command.status() {
        Ok(status) => Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from)),
        Err(error) => Err(format!("cannot run {}: {error}", shown(command))),
    }
}

/// A command as a person would type it, without folders in front of the program.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
