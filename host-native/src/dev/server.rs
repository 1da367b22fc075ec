//! The server's process: found, started, watched, ended.

use cim_keys_core::jetstream::server_version;
use cim_keys_core::stream::SERVER_FLOOR;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long it may take to get ready.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end in order.
const END: Duration = Duration::from_secs(10);
/// In the server's folder: its configuration, and the number of its process.
pub(super) const CONFIGURATION: &str = "server.conf";
pub(super) const PID: &str = "server.pid";
/// Between two looks at whether it is ready.
const LOOK: Duration = Duration::from_millis(5);

/// A server of ours. Dropping it ends the process at once; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    /// Where clients connect.
    pub url: String,
    /// Where browsers connect; empty where it has none.
    pub websocket_url: String,
    /// Where monitoring listens; empty where it does not.
    pub monitoring_url: String,
}

/// The program: the one named, else `$NATS_SERVER_BIN`, else the first on `PATH` that is new enough.
///
/// # Errors
/// None is found or it is too old: the error says how to get one.
pub async fn find(named: Option<&Path>) -> Result<PathBuf, ServerError> {
    let variable = std::env::var_os("NATS_SERVER_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = named.map(Path::to_owned).or(variable) {
        let found = version(&path).await?;
        return match server_version(&found) {
            Some(numbers) if numbers >= SERVER_FLOOR => Ok(path),
            _ => Err(ServerError::TooOld { path, found }),
        };
    }
    let mut old = None;
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let path = folder.join(format!("nats-server{}", std::env::consts::EXE_SUFFIX));
        if !path.is_file() {
            continue;
        }
        match version(&path).await {
            Ok(found) if server_version(&found).is_some_and(|numbers| numbers >= SERVER_FLOOR) => {
                return Ok(path);
            }
            Ok(found) => old = old.or(Some(ServerError::TooOld { path, found })),
            Err(_) => {}
        }
    }
    Err(old.unwrap_or(ServerError::Missing))
}

/// What it says its version is.
async fn version(path: &Path) -> Result<String, ServerError> {
    let failed = |reason: String| ServerError::Start { path: path.to_owned(), reason };
    let asked = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    let output = tokio::time::timeout(END, asked)
        .await
        .map_err(|_| failed("it does not say its version".into()))?
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match text.rsplit(' ').next().filter(|word| server_version(word).is_some()) {
        Some(word) => Ok(word.trim_start_matches('v').to_owned()),
        None => Err(failed("it does not say its version".into())),
    }
}

impl Server {
    /// Starts it with this configuration, which names `ports` as the folder of its ports file; returns when it listens.
    ///
    /// # Errors
    /// It does not get ready: with the end of its log.
    pub async fn start(
        program: &Path,
        configuration: &Path,
        ports: &Path,
        log: &Path,
    ) -> Result<Self, ServerError> {
        let failed = |reason: String| ServerError::Start { path: program.to_owned(), reason };
        let file = std::fs::File::create(log).map_err(|error| failed(error.to_string()))?;
        let copy = file.try_clone().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(file)
            .kill_on_drop(true);
        // Ctrl-C in a terminal is for us; we end the server in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let number = child.id().unwrap_or_default();
        // The server names the file after the program.
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = ports.join(format!("{name}_{number}.ports"));
        let until = Instant::now() + START;
        loop {
            // A file that is still being written is no JSON yet.
            let text = std::fs::read(&file).unwrap_or_default();
            if let Ok(listening) = serde_json::from_slice::<Value>(&text) {
                let first = |kind: &str| listening[kind][0].as_str().unwrap_or_default().to_owned();
                return Ok(Self {
                    child,
                    log: log.to_owned(),
                    url: first("nats"),
                    websocket_url: first("websocket"),
                    monitoring_url: first("monitoring"),
                });
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(ServerError::Ended { status: status.to_string(), log: tail(log) });
            }
            if Instant::now() > until {
                return Err(ServerError::NotReady { log: tail(log) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the process has ended, and says why.
    pub async fn ended(&mut self) -> ServerError {
        let status = self.child.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        ServerError::Ended { status, log: tail(&self.log) }
    }

    /// Ends it in order, or at once where that takes too long.
    pub async fn stop(mut self) -> Option<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(END, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.child.kill().await;
                None
            }
        }
    }

    /// The process number, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Ends the server that an earlier run, killed, has left over in this folder: the one whose number is in its own file and
/// that runs with this very configuration.
pub(super) async fn end_left_over(folder: &Path) -> Result<(), ServerError> {
    let configuration = folder.join(CONFIGURATION);
    let Some(number) =
        std::fs::read_to_string(folder.join(PID)).ok().and_then(|text| text.trim().parse::<i32>().ok())
    else {
        return Ok(());
    };
    let arguments = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let ours = arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == configuration.as_os_str().as_encoded_bytes());
    let Some(pid) = Pid::from_raw(number).filter(|_| ours) else { return Ok(()) };
    let _ = kill_process(pid, Signal::TERM);
    let until = Instant::now() + END;
    while test_kill_process(pid).is_ok() {
        if Instant::now() > until {
            return Err(ServerError::LeftOver { number });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Why there is no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// No program.
    #[error("no nats-server is found")]
    Missing,
    /// Below the oldest for writers.
    #[error("{} is nats-server {found}; {}.{}.{} or newer is needed", path.display(), SERVER_FLOOR.0, SERVER_FLOOR.1, SERVER_FLOOR.2)]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// It cannot be started.
    #[error("{}: {reason}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It ended.
    #[error("nats-server ended ({status}):\n{log}")]
    Ended {
        /// Exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It runs and does not listen.
    #[error("nats-server does not get ready:\n{log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// An earlier run's server does not end.
    #[error("a server of an earlier run is still there (process {number}): end it")]
    LeftOver {
        /// Its process number.
        number: i32,
    },
}

impl ServerError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "no-server",
            Self::TooOld { .. } => "server-too-old",
            Self::Start { .. } => "server-start",
            Self::Ended { .. } => "server-ended",
            Self::NotReady { .. } => "server-not-ready",
            Self::LeftOver { .. } => "server-left-over",
        }
    }
}
