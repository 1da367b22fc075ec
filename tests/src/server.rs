//! A real nats-server: own folder, loopback, free port, stopped by its own handle.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use crate::tools::Version;
use crate::{wait, wire};

/// Makes the text of a server's configuration from the folder that the server may write to.
type Configuration = Box<dyn Fn(&Path) -> String + Send>;

/// How to start a server.
pub struct Setup {
    version: Version,
    configuration: Configuration,
    arguments: Vec<String>,
}

impl Setup {
    /// JetStream, no accounts: what `nats-server -js` is.
    pub fn plain(version: Version) -> Setup {
        Setup::configured(version, |folder| {
            format!("jetstream {{ store_dir: {:?} }}\n", folder.join("store"))
        })
    }

    /// By a configuration text of the caller's. The closure gets the server's own folder (put `store_dir` and
    /// resolver folders inside) and runs at each start. Client and monitoring port are chosen by the harness whatever
    /// the text says; a websocket belongs on `host: "127.0.0.1", port: -1`.
    pub fn configured(version: Version, configuration: impl Fn(&Path) -> String + Send + 'static) -> Setup {
        Setup { version, configuration: Box::new(configuration), arguments: Vec::new() }
    }

    /// One more argument for the command line, such as `-DV`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it; returns when it answers clients.
    ///
    /// # Panics
    /// When it does not get ready, with the end of its log.
    pub fn start(self) -> NatsServer {
        let folder = TempDir::new().expect("a temporary folder");
        let mut server = NatsServer {
            setup: self,
            folder,
            running: None,
            address: None,
            websocket: None,
            monitoring: None,
        };
        server.launch();
        server
    }
}

/// A server, running or not. Dropping it ends the process and removes the folder.
pub struct NatsServer {
    setup: Setup,
    folder: TempDir,
    running: Option<Child>,
    address: Option<SocketAddr>,
    websocket: Option<String>,
    monitoring: Option<SocketAddr>,
}

impl NatsServer {
    /// Starts [`Setup::plain`] of the newest version.
    pub fn plain() -> NatsServer {
        Setup::plain(Version::Newest).start()
    }

    /// Where clients connect; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the server got ready once")
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `ws://127.0.0.1:PORT`, if the configuration has a websocket. Another one after a restart.
    pub fn websocket_url(&self) -> Option<&str> {
        self.websocket.as_deref()
    }

    /// The folder that the configuration was made for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it was started and not ended by us.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Everything that the server said, all starts together.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Where monitoring listens.
    ///
    /// # Panics
    /// When the server never got ready.
    pub fn monitoring(&self) -> SocketAddr {
        self.monitoring.expect("the server got ready once")
    }

    /// The body that the monitoring port serves for a path such as `/varz`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn monitor(&self, path: &str) -> String {
        wire::http_get(self.monitoring.expect("the server got ready once"), path)
            .expect("an answer from monitoring")
    }

    /// Ends it at once (SIGKILL). Nothing happens when it is not running.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it in order (SIGTERM), and waits until it is gone.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        // A frozen process would keep the signal for later.
        self.signal(Signal::CONT);
        self.running.take().and_then(|mut child| child.wait().ok())
    }

    /// Starts it again on the same port and store, after a SIGKILL when it is still running.
    ///
    /// # Panics
    /// When it does not get ready, with the end of its log.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Starts it again as another release, on the same port and store.
    ///
    /// # Panics
    /// When it does not get ready, with the end of its log.
    pub fn replace(&mut self, version: Version) {
        self.setup.version = version;
        self.restart();
    }

    /// Makes it read its configuration again (SIGHUP). The server does so later: wait for the effect.
    pub fn reload(&self) {
        self.write_configuration();
        self.signal(Signal::HUP);
    }

    /// Stops its clock (SIGSTOP): connections stay, nothing is answered. Returns when it stands still.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        if let Some(child) = &self.running {
            // The signal is only on its way until the kernel reports a stop.
            let _ = waitpid(Some(Pid::from_child(child)), WaitOptions::UNTRACED);
        }
    }

    /// Lets it go on after [`freeze`](NatsServer::freeze) (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.running {
            // Not reaped yet, so the number is still its own.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    fn launch(&mut self) {
        let ports = self.folder.path().join("ports");
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir(&ports).expect("a folder for the ports file");
        self.write_configuration();
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let port = self.address.map_or_else(free_port, |address| address.port()).to_string();
        let child = Command::new(self.setup.version.binary())
            .current_dir(self.folder.path())
            .arg("-c")
            .arg(self.configuration_path())
            .args(["-a", "127.0.0.1", "-m", "-1", "-p", &port, "--ports_file_dir"])
            .arg(&ports)
            .args(&self.setup.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let file = ports.join(format!("nats-server_{}.ports", child.id()));
        self.running = Some(child);
        let listening =
            wait::until(&format!("nats-server gets ready\n{}", self.log_path().display()), || {
                if self.address.is_none() && self.log().contains("address already in use") {
                    return Some(None);
                }
                self.assert_running();
                // A file that is still being written is no JSON yet.
                serde_json::from_slice::<serde_json::Value>(&fs::read(&file).ok()?).ok().map(Some)
            });
        let Some(listening) = listening else {
            // Somebody took the port between our look and the server's: another one, for a server that has none yet.
            self.kill();
            fs::remove_file(self.log_path()).expect("the log goes away");
            return self.launch();
        };
        let first = |kind: &str| listening[kind][0].as_str().map(str::to_owned);
        let socket =
            |url: Option<String>| url.and_then(|url| url.rsplit('/').next()?.parse::<SocketAddr>().ok());
        self.address = Some(socket(first("nats")).expect("a client port in the ports file"));
        self.monitoring = socket(first("monitoring"));
        self.websocket = first("websocket");
        for url in ["nats", "monitoring", "websocket", "cluster"].iter().filter_map(|kind| first(kind)) {
            assert!(url.contains("//127.0.0.1:"), "{url} is open to others: tests listen on loopback only");
        }
        wait::until("nats-server greets a client", || {
            self.assert_running();
            wire::greeting(self.address()).ok()
        });
    }

    fn assert_running(&mut self) {
        let ended = self.running.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            let log = self.log();
            let from = log.char_indices().rev().nth(4_000).map_or(0, |(at, _)| at);
            panic!("nats-server {} ended with {status}:\n{}", self.setup.version.number(), &log[from..]);
        }
    }

    fn write_configuration(&self) {
        let text = (self.setup.configuration)(self.folder.path());
        fs::write(self.configuration_path(), text).expect("a configuration file");
    }

    fn configuration_path(&self) -> PathBuf {
        self.folder.path().join("server.conf")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

/// A port that nobody listens on, below those that systems give to outgoing connections: a port of that kind (`-p -1`
/// gives one) may be taken by any client while the server is down, and the restart on the same port then fails.
pub(crate) fn free_port() -> u16 {
    wait::until("a free port", || {
        let draw = RandomState::new().build_hasher().finish();
        let port = u16::try_from(10_000 + draw % 20_000).ok()?;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(25)..];
            // libtest shows it with the failed test only.
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("nats-server said:\n{}\n", end.join("\n")).as_bytes(),
            )
            .unwrap_or_default();
        }
        self.kill();
    }
}
