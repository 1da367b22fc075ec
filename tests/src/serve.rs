//! `cim-keys serve` as a process before a real server, and whoever asks it.

use crate::ledger::connect_as;
use crate::program::{Person, Running};
use crate::server::{NatsServer, Setup};
use crate::site::{self, Site, run};
use crate::tools::Version;
use crate::wait::until;
use crate::wire::{Client, Message, http_get};
use cim_keys::nats::target::Target;
use cim_keys_core::command::{Command, Role};
use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::roles::PipelineRole;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use uuid::Uuid;

/// Where requests go.
pub const API: &str = "cowboyai.security.keys-api";
/// The account that is worked in, and its role.
pub const APP: &str = "APP";
/// See [`APP`].
pub const ROLE: &str = "worker";

/// A registry, a server that trusts it, the service, and a policy.
pub struct Service {
    /// The registry.
    pub site: Site,
    /// The server.
    pub server: NatsServer,
    /// Identity key of [`APP`].
    pub app: PublicKey,
    /// A user of the role client.
    pub client: Target,
    person: Person,
    running: Option<Running>,
    starts: u32,
}

/// What a request came to.
#[derive(Debug)]
pub struct Answered {
    /// The number in the header of micro services; 200 where there is none.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Service {
    /// Everything but the service itself.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn prepared(version: Version) -> Service {
        let site = Site::found();
        let app = site.account(APP);
        let list = |subjects: &[&str]| PermissionList {
            allow: subjects.iter().map(ToString::to_string).collect(),
            ..PermissionList::default()
        };
        let template = UserRights {
            publish: list(&["app.>"]),
            subscribe: list(&["app.>", "_INBOX.>"]),
            ..UserRights::default()
        };
        site.run(Command::GenerateKey {
            kind: Kind::Account,
            owner: Some(app),
            label: Some(ROLE.into()),
            role: Some(Role { name: ROLE.into(), template }),
        });
        let (place, text) = site::configuration(&site.host);
        let configured =
            Setup::configured(version, move |folder| text.replace(place, &folder.to_string_lossy()));
        let server = configured.start();
        run(site.streams(&server.url()));
        let client = site.role(PipelineRole::Client, &server.url());
        let person = Person::new();
        let service = Service { site, server, app, client, person, running: None, starts: 0 };
        let renewed = service.person.run(&service.words(&[
            "access",
            "renew",
            "--role",
            "host",
            "--out",
            &service.creds(),
            "--expiry",
            "1d",
        ]));
        assert_eq!(renewed.status, Some(0), "{renewed:?}");
        service
    }

    /// With the service running under a policy that lets the client do everything in [`APP`].
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn start() -> Service {
        let mut service = Service::prepared(Version::Newest);
        let policy = service.all();
        service.policy(&policy);
        service.launch();
        service
    }

    /// A policy with one rule: the client may do everything in [`APP`] and with new accounts of this name.
    pub fn all(&self) -> Value {
        json!({ "version": 1, "rules": [{
            "name": "all",
            "from": { "account": "KEYS_EDGE", "users": [self.client.user()] },
            "operations": [
                "account.create", "user.create", "user.permissions", "user.revoke", "credentials.issue", "command.get"
            ],
            "accounts": [APP, "NEW"],
            "roles": [ROLE],
            "any_rights": true,
            "max_ttl": 3600,
        }]})
    }

    /// Writes the policy's file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn policy(&self, policy: &Value) {
        std::fs::write(self.file("policy.json"), policy.to_string()).expect("a file");
    }

    /// Starts it and waits until it hears requests.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn launch(&mut self) {
        self.starts += 1;
        let (creds, policy) = (self.creds(), self.file("policy.json").display().to_string());
        let url = self.server.url();
        let words = self.words(&[
            "serve",
            "--server",
            &url,
            "--creds",
            &creds,
            "--policy",
            &policy,
            "--listen",
            "127.0.0.1:0",
        ]);
        self.running = Some(self.person.start_into(&self.name(), &words));
        until("requests are heard", || self.logged("requests are heard").pop());
        until("it is healthy", || self.health().filter(|health| health["healthy"] == true));
    }

    /// Lines of its log with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// All that it said on stderr since it was started last.
    pub fn log(&self) -> String {
        self.person.reads(&format!("{}.err", self.name()))
    }

    /// Where health and metrics are.
    ///
    /// # Panics
    /// When it does not say so in time.
    pub fn listens(&self) -> SocketAddr {
        let line = until("it listens", || self.logged("health and metrics").pop());
        line["address"].as_str().expect("an address").parse().expect("an address")
    }

    /// What `/healthz` says where it is well; none where it is not.
    pub fn health(&self) -> Option<Value> {
        serde_json::from_str(&http_get(self.listens(), "/healthz").ok()?).ok()
    }

    /// What `/metrics` says.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn metrics(&self) -> String {
        http_get(self.listens(), "/metrics").expect("an answer")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        self.running.as_ref().expect("it runs").signal(signal);
    }

    /// Waits for its end, and gives its status.
    ///
    /// # Panics
    /// When it does not run.
    pub fn end(&mut self) -> Option<i32> {
        self.running.take().expect("it runs").end().status
    }

    /// A connection as the client.
    pub fn connect(&self) -> Client {
        connect_as(&self.client, &self.server)
    }

    /// The program over this registry, run to its end.
    pub fn program(&self, words: &[&str]) -> crate::program::Said {
        self.person.run(&self.words(words))
    }

    /// A file in the person's home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.person.home().join(name)
    }

    fn name(&self) -> String {
        format!("serve{}", self.starts)
    }

    fn creds(&self) -> String {
        self.file("host.creds").display().to_string()
    }

    /// The same words, over this registry.
    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let folder = self.site.folder().to_str().expect("a path in text");
        [&["--data", folder], words].concat()
    }
}

/// A new command id: as a client makes one.
///
/// # Panics
/// Without a random source.
pub fn command_id() -> Uuid {
    cim_keys::ambient::Ambient::system().command_id().expect("a random source")
}

/// A user's key that was made where it is used.
pub fn user_key() -> KeyPair {
    let entropy = cim_keys::ambient::Ambient::system().entropy().expect("a random source");
    KeyPair::from_entropy(Kind::User, entropy)
}

/// Asks.
///
/// # Panics
/// When nobody answers.
pub fn ask(client: &mut Client, operation: &str, body: &Value) -> Answered {
    ask_with(client, operation, &[], body.to_string().as_bytes())
}

/// Asks with these headers and bytes.
///
/// # Panics
/// When nobody answers.
pub fn ask_with(client: &mut Client, operation: &str, headers: &[(&str, &str)], body: &[u8]) -> Answered {
    let answer = client.request(&format!("{API}.{operation}"), headers, body);
    answered(&answer.unwrap_or_else(|error| panic!("{operation}: {error}")))
}

/// Reads an answer.
///
/// # Panics
/// When it is none of the service's: header and body must agree.
pub fn answered(message: &Message) -> Answered {
    let header = |name: &str| {
        let lines = message.header_lines();
        lines.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    };
    assert_eq!(message.status(), None, "{message:?}");
    let body = message.json();
    let status = header("Nats-Service-Error-Code").map_or(200, |code| code.parse().expect("a number"));
    if status != 200 {
        let code = body["code"].as_str().unwrap_or_else(|| panic!("no code: {message:?}"));
        assert!(header("Nats-Service-Error").is_some_and(|line| line.starts_with(code)), "{message:?}");
    }
    Answered { status, body }
}

/// Connects as the user of this token.
///
/// # Errors
/// As [`Client::connect_with`].
pub fn connect_user(server: &NatsServer, jwt: &str, key: &KeyPair) -> std::io::Result<Client> {
    let mut client = Client::connect_with(server.address(), |info| {
        let nonce = info["nonce"].as_str().unwrap_or_default();
        let signature = key.sign(nonce.as_bytes()).expect("a user's key signs");
        json!({ "jwt": jwt, "sig": signature.to_string() })
    })?;
    client.set_inbox_prefix(&format!("_INBOX.{}", key.public_key()));
    Ok(client)
}

/// A request for a user with the role, for ten minutes from the first such request of this process on.
pub fn new_user(id: Uuid, name: &str, user: PublicKey) -> Value {
    static END: std::sync::LazyLock<i64> =
        std::sync::LazyLock::new(|| cim_keys::ambient::Ambient::system().now().seconds() + 600);
    json!({ "command_id": id, "account": APP, "name": name, "user": user, "role": ROLE, "expires": *END })
}

/// Every message of a stream, as somebody reads it who may only read.
///
/// # Panics
/// When it cannot be read.
pub fn stored(service: &Service, stream: &str) -> Vec<Message> {
    let auditor = service.site.role(PipelineRole::Auditor, &service.server.url());
    let mut auditor = connect_as(&auditor, &service.server);
    let info = crate::pipeline::ask(&mut auditor, &format!("CIMKEYS.API.STREAM.INFO.{stream}"), &[], b"");
    if info["state"]["messages"] == 0 {
        return Vec::new();
    }
    crate::pipeline::read_from(&mut auditor, &format!("CIMKEYS.API.DIRECT.GET.{stream}"), 1)
}
