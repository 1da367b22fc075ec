//! A host with its store and keys in a folder of its own, and a server that trusts it.

use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use cim_keys::ambient::Ambient;
use cim_keys::config::{self, Options, Resolver};
use cim_keys::host::{Founding, Host, Outcome, Request};
use cim_keys::nats::consumers::{self, Consumption};
use cim_keys::nats::link::Link;
use cim_keys::nats::role;
use cim_keys::nats::streams::{self, Wanted};
use cim_keys::nats::target::Target;
use cim_keys::ports::{Access, NewUser};
use cim_keys::pump::{End, Pump, Summary};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::command::Command;
use cim_keys_core::creds::{self, Creds};
use cim_keys_core::jwt::{AccountLimits, PermissionList, UserRights};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::subjects::Namespace;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any of it takes on loopback.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs something that waits.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// A server in operator mode that trusts the registry of a host, with the accounts as they are now.
///
/// # Panics
/// When it does not get ready.
pub fn serve(host: &Host) -> NatsServer {
    let (place, text) = configuration(host);
    Setup::configured(Version::Newest, move |folder| text.replace(place, &folder.to_string_lossy())).start()
}

/// The text of its configuration, and what stands in it for the server's own folder.
///
/// # Panics
/// When there is none.
pub fn configuration(host: &Host) -> (&'static str, String) {
    let place = "/folder-of-the-server";
    let options = Options {
        name: None,
        listen: ("127.0.0.1".into(), -1),
        websocket: Some(("127.0.0.1".into(), -1)),
        websocket_origins: Vec::new(),
        monitoring: None,
        store: place.into(),
        resolver: Resolver::Full { dir: format!("{place}/accounts").into() },
        ports: None,
        pid: None,
    };
    (place, config::text(host.store(), &options).expect("a configuration"))
}

/// A host in a folder of its own.
pub struct Site {
    /// Store, identity and keys.
    pub host: Host,
    folder: TempDir,
}

impl Site {
    /// With a new registry.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn found() -> Site {
        let folder = TempDir::new().expect("a temporary folder");
        let host = open(folder.path());
        let founding =
            Founding { name: "Example".into(), namespace: Namespace::default(), escrow: Vec::new() };
        host.found(&founding, false).expect("a registry");
        Site { host, folder }
    }

    /// Another host of the same registry: a copy of store and keys as they are now.
    ///
    /// # Panics
    /// When they cannot be copied.
    pub fn copy(&self) -> Site {
        let folder = TempDir::new().expect("a temporary folder");
        for entry in std::fs::read_dir(self.folder.path()).expect("the folder") {
            let from = entry.expect("an entry").path();
            if let Some(name) = from.file_name() {
                std::fs::copy(&from, folder.path().join(name)).expect("a copy");
            }
        }
        Site { host: open(folder.path()), folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A server that trusts this registry: see [`serve`].
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn server(&self) -> NatsServer {
        serve(&self.host)
    }

    /// A user of this role, made in memory.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub fn role(&self, role: PipelineRole, url: &str) -> Target {
        role::target(&self.host, role, &Target::open(url)).expect("a user of the role")
    }

    /// A connection as this role.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn link(&self, role: PipelineRole, url: &str) -> Link {
        let now = self.host.ambient().now().seconds();
        Link::connect(&self.role(role, url), now).await.expect("a connection")
    }

    /// Both streams, made by the steward.
    ///
    /// # Panics
    /// When they cannot be made.
    pub async fn streams(&self, url: &str) {
        let wanted = Wanted::new(&self.host.store().registry_id().expect("a registry").namespace);
        streams::ensure(&self.link(PipelineRole::Steward, url).await, &wanted).await.expect("the streams");
    }

    /// The durable consumers and the stream of dead letters, made by the steward.
    ///
    /// # Panics
    /// When they cannot be made.
    pub async fn consumers(&self, url: &str) -> Consumption {
        let wanted = Wanted::new(&self.host.store().registry_id().expect("a registry").namespace);
        let link = self.link(PipelineRole::Steward, url).await;
        consumers::ensure(&link, &wanted).await.expect("the consumers")
    }

    /// Synchronises as the host role until nothing is left.
    ///
    /// # Panics
    /// When it comes to a stand.
    pub async fn sync(&self, url: &str) -> Summary {
        self.sync_over(self.role(PipelineRole::Host, url)).await
    }

    /// Synchronises over this target until nothing is left.
    ///
    /// # Panics
    /// When it comes to a stand.
    pub async fn sync_over(&self, target: Target) -> Summary {
        let mut pump = Pump::new(&self.host, target);
        let end = pump.drain(PATIENCE, std::future::pending(), |_| {}).await.expect("a store");
        assert_eq!(end, End::Drained, "{:?}", pump.summary());
        pump.summary().clone()
    }

    /// Does a command.
    ///
    /// # Panics
    /// When it is refused.
    pub fn run(&self, command: Command) -> Outcome {
        self.host.run(&Request::new(command)).expect("a command")
    }

    /// A new account.
    ///
    /// # Panics
    /// When it is refused.
    pub fn account(&self, name: &str) -> PublicKey {
        let outcome =
            self.run(Command::CreateAccount { name: name.into(), limits: AccountLimits::default() });
        outcome.keys[0]
    }

    /// A new user that may publish and subscribe to `app.>`, its key and its creds.
    ///
    /// # Panics
    /// When it is refused.
    pub fn user(&self, account: PublicKey, name: &str) -> (PublicKey, Creds) {
        let list = |subjects: &[&str]| PermissionList {
            allow: subjects.iter().map(ToString::to_string).collect(),
            ..PermissionList::default()
        };
        let rights = UserRights {
            publish: list(&["app.>"]),
            subscribe: list(&["app.>", "_INBOX.>"]),
            ..UserRights::default()
        };
        let outcome = self
            .host
            .run(&Request::from(NewUser {
                account,
                name: name.into(),
                access: Access::Own(Box::new(rights)),
                expires: 0,
                tags: Vec::new(),
                key: None,
                credentials: true,
                keep: false,
            }))
            .expect("a user");
        let key = outcome.keys[0];
        let mut found = None;
        let deliver = |text: &cim_keys_core::secret::SecretText| {
            found = creds::parse(text.expose()).ok();
            Ok(())
        };
        self.host.hand_out_with(account, key, deliver).expect("creds");
        (key, found.expect("creds that can be read"))
    }
}

fn open(folder: &Path) -> Host {
    let store = Store::create(&folder.join("store.db")).expect("a store");
    let vault = Vault::or_create(&folder.join("identity.age"));
    Host::new(store, vault, Ambient::system(), "test".parse().expect("an actor"))
}
