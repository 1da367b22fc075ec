//! A native host at work: a registry of its own in a temporary folder, driven through the library.

use std::fs;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cim_keys::ambient::{Ambient, Fixed};
use cim_keys::error::KeyError;
use cim_keys::host::{Founding, Host, Imported, Outcome, Request};
use cim_keys::nats::link::Link;
use cim_keys::nats::role;
use cim_keys::nats::streams::{self, Wanted};
use cim_keys::nats::target::Target;
use cim_keys::ports::{Access, NatsPort, NewUser};
use cim_keys::pump::{End, Lock, Pump, Summary};
use cim_keys::store::{Held, Store};
use cim_keys::vault::Vault;
use cim_keys_core::bundle::Bundle;
use cim_keys_core::command::Command;
use cim_keys_core::context::RegistryId;
use cim_keys_core::jwt::{AccountLimits, PermissionList, UserRights};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::subjects::Namespace;
use tempfile::TempDir;
use uuid::Uuid;

/// How long a run may be stuck before the test fails. Generous: only a failure ever waits so long.
pub const STUCK: Duration = Duration::from_secs(30);
/// How long an answer may take where answers get lost on purpose.
pub const SHORT: Duration = Duration::from_millis(150);

/// A host with a founded registry and an application account. May be shared between threads.
///
/// Commands and publishing use the store through a connection each, as two processes would.
pub struct Desk {
    folder: Arc<TempDir>,
    host: Host,
    publisher: Host,
    app: PublicKey,
    commands: Arc<Mutex<Vec<Uuid>>>,
}

/// What a run of the pump came to.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What it did.
    pub summary: Summary,
}

impl Run {
    /// The same, if everything was read and appended.
    ///
    /// # Panics
    /// When it was not, with the reason.
    pub fn drained(self) -> Summary {
        assert_eq!(self.end, End::Drained, "{:?}", self.summary);
        self.summary
    }

    /// Why it is blocked.
    ///
    /// # Panics
    /// When it is not.
    pub fn blocked(self) -> Reason {
        match self.end {
            End::Blocked(reason) => reason,
            end => panic!("{end:?}, {:?}", self.summary),
        }
    }
}

impl Desk {
    /// Founds a registry and creates the account `APP` in it.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn founded() -> Desk {
        Desk::founded_in(Namespace::default())
    }

    /// The same under other subjects.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn founded_in(namespace: Namespace) -> Desk {
        Desk::founded_with(namespace, Ambient::system())
    }

    /// The same by a host whose clock is behind: its commands are as old as that.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn founded_ago(ago: Duration) -> Desk {
        let ago = i64::try_from(ago.as_millis()).expect("a time");
        let now = Ambient::system().now().millis() - ago;
        // Its keys are no secret, but no two registries have the same.
        let seed = RandomState::new().build_hasher().finish() >> 32;
        Desk::founded_with(Namespace::default(), Ambient::new(Box::new(Fixed::new(now, 1, seed))))
    }

    fn founded_with(namespace: Namespace, ambient: Ambient) -> Desk {
        let folder = TempDir::new().expect("a temporary folder");
        let host = open(folder.path(), "one", ambient);
        let founding = Founding { name: "TEST".into(), namespace, escrow: Vec::new() };
        let founded = host.create_operator(&founding).expect("a registry is founded");
        let account = host.create_account("APP", AccountLimits::default()).expect("an account is created");
        let commands = Arc::new(Mutex::new(vec![founded.command_id, account.command_id]));
        let publisher = open(folder.path(), "one", Ambient::system());
        Desk { folder: Arc::new(folder), host, publisher, app: account.keys[0], commands }
    }

    /// A host whose registry another process founded in this folder, with the account `APP`. It knows of no command yet.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(folder: TempDir) -> Desk {
        let open = || open(folder.path(), "one", Ambient::system());
        let (host, publisher) = (open(), open());
        let accounts = host.store().accounts().expect("a store that works");
        let app = accounts.iter().find(|listed| listed.entity.name() == "APP").expect("the account APP");
        let app = app.entity.key();
        Desk { folder: Arc::new(folder), host, publisher, app, commands: Arc::default() }
    }

    /// Another host of the same registry: store and identity as they are now, copied to a folder of its own.
    ///
    /// # Panics
    /// When the files cannot be copied.
    pub fn twin(&self) -> Desk {
        self.twin_with(Ambient::system())
    }

    /// A [`twin`](Desk::twin) whose clock is ahead. Its keys are no secret, and the same each time.
    ///
    /// # Panics
    /// When the files cannot be copied.
    pub fn twin_ahead(&self, ahead: Duration) -> Desk {
        let ahead = i64::try_from(ahead.as_millis()).expect("a small time");
        let now = self.host.ambient().now().millis() + ahead;
        self.twin_with(Ambient::new(Box::new(Fixed::new(now, 1, 1))))
    }

    fn twin_with(&self, ambient: Ambient) -> Desk {
        let folder = TempDir::new().expect("a temporary folder");
        for name in ["store.db", "store.db-wal", "identity.age"] {
            let from = self.folder.path().join(name);
            if from.exists() {
                fs::copy(&from, folder.path().join(name)).expect("a file is copied");
            }
        }
        let host = open(folder.path(), "two", ambient);
        let publisher = open(folder.path(), "two", Ambient::system());
        let commands = Arc::new(Mutex::new(self.commands()));
        Desk { folder: Arc::new(folder), host, publisher, app: self.app, commands }
    }

    /// The same host as another process sees it: the same files, opened once more.
    ///
    /// # Panics
    /// When they cannot be opened.
    #[must_use]
    pub fn beside(&self) -> Desk {
        let open = || open(self.folder.path(), "one", Ambient::system());
        let (folder, commands) = (Arc::clone(&self.folder), Arc::clone(&self.commands));
        Desk { folder, host: open(), publisher: open(), app: self.app, commands }
    }

    /// A target as [`role`](Desk::role) gives it whose creds ended an hour ago.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub fn ended(&self, role: PipelineRole, url: &str) -> Target {
        let then = self.host.ambient().now().millis() - 3_600_000 - role::LIFETIME * 1000;
        self.twin_with(Ambient::new(Box::new(Fixed::new(then, 1, 1)))).role(role, url)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        self.host.store()
    }

    /// Its folder: `store.db` and `identity.age`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its identity file.
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.age")
    }

    /// A target: a user of this role on a server that trusts the registry, made in memory.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub fn role(&self, role: PipelineRole, url: &str) -> Target {
        role::target(&self.host, role, &Target::open(url)).expect("a user of the role")
    }

    /// Makes every write of the sync machine fail from now on, or work again.
    ///
    /// # Panics
    /// When the file cannot be opened.
    pub fn refuse_writes(&self, refuse: bool) {
        let file = rusqlite::Connection::open(self.store().path()).expect("the store's file");
        let text = if refuse {
            "CREATE TRIGGER no_room BEFORE UPDATE OF head ON state BEGIN SELECT RAISE(ABORT, 'no room'); END"
        } else {
            "DROP TRIGGER no_room"
        };
        file.execute_batch(text).expect("a trigger");
    }

    /// Which registry.
    ///
    /// # Panics
    /// Never: it is founded.
    pub fn registry(&self) -> RegistryId {
        self.store().registry_id().expect("a founded registry").clone()
    }

    /// The application account.
    pub fn app(&self) -> PublicKey {
        self.app
    }

    /// Every command that was carried out here (or before it became a twin), in order.
    pub fn commands(&self) -> Vec<Uuid> {
        self.noted().clone()
    }

    /// A command was carried out by another process in this host's folder.
    pub fn note(&self, command: Uuid) {
        let mut noted = self.noted();
        if !noted.contains(&command) {
            noted.push(command);
        }
    }

    /// Takes a bundle in.
    ///
    /// # Errors
    /// What the host says against it.
    ///
    /// # Panics
    /// When a command of the bundle is not what it says.
    pub fn import(&self, bundle: &Bundle) -> Result<Imported, KeyError> {
        let imported = self.host.import(&bundle.verify().expect("a bundle that holds"), false)?;
        imported.new.iter().for_each(|command| self.note(*command));
        Ok(imported)
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// What the host says against it.
    pub fn run(&self, request: &Request) -> Result<Outcome, KeyError> {
        let outcome = self.host.run(request)?;
        self.noted().push(outcome.command_id);
        Ok(outcome)
    }

    /// The same for one that must succeed.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn act(&self, command: Command) -> Outcome {
        let name = command.name();
        self.run(&Request::new(command)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An account with a plain signing key.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn account(&self, name: &str) -> PublicKey {
        self.act(Command::CreateAccount { name: name.into(), limits: AccountLimits::default() }).keys[0]
    }

    /// A user of the application account whose seed is kept.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn user(&self, name: &str) -> PublicKey {
        self.run(&self.new_user(name)).unwrap_or_else(|error| panic!("{name}: {error}")).keys[0]
    }

    /// The request for one.
    pub fn new_user(&self, name: &str) -> Request {
        Request::from(NewUser {
            account: self.app,
            name: name.into(),
            access: Access::Own(Box::default()),
            expires: 0,
            tags: Vec::new(),
            key: None,
            credentials: false,
            keep: true,
        })
    }

    /// Revokes a user of the application account.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn revoke(&self, user: PublicKey) -> Outcome {
        self.act(Command::RevokeUser { account: self.app, user })
    }

    /// Lets a user of the application account publish to this subject alone.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn permit(&self, user: PublicKey, subject: &str) -> Outcome {
        let publish = PermissionList { allow: vec![subject.into()], ..PermissionList::default() };
        let rights = UserRights { publish, ..UserRights::default() };
        self.act(Command::SetPermissions { account: self.app, user, rights })
    }

    /// Works until nothing is left to do, something blocks, or it is stuck for [`STUCK`].
    ///
    /// # Panics
    /// When the store fails or another run has it.
    pub fn sync(&self, target: &Target) -> Run {
        self.sync_for(target, None, STUCK)
    }

    /// The same for a stream with settings of its own, and another patience.
    ///
    /// # Panics
    /// When the store fails or another run has it.
    pub fn sync_for(&self, target: &Target, settings: Option<StreamConfig>, patience: Duration) -> Run {
        let _lock = Lock::take(self.store().path()).expect("nobody else syncs this store");
        self.drain(target, settings, patience, std::future::pending())
    }

    /// The same for a caller that has the lock, until it is told to stop.
    ///
    /// # Panics
    /// When the store fails.
    pub fn drain(
        &self,
        target: &Target,
        settings: Option<StreamConfig>,
        patience: Duration,
        stop: impl Future<Output = ()>,
    ) -> Run {
        let mut pump = Pump::new(&self.publisher, target.clone());
        if let Some(settings) = settings {
            pump = pump.expecting(settings);
        }
        let end = block_on(pump.drain(patience, stop, |_| {})).expect("a store that works");
        Run { end, summary: pump.summary().clone() }
    }

    /// Commands held, in journal order.
    ///
    /// # Panics
    /// When the store fails.
    pub fn held(&self) -> Vec<Held> {
        self.store().held().expect("a store that works")
    }

    /// Codes of what is held, with the commands' names, in journal order.
    pub fn held_codes(&self) -> Vec<(&'static str, String)> {
        self.held().into_iter().map(|held| (held.command.name(), held.reason.code)).collect()
    }

    /// Commands that are still to be appended.
    ///
    /// # Panics
    /// When the store fails.
    pub fn pending(&self) -> u64 {
        self.store().counts().expect("a store that works").pending
    }
}

fn open(folder: &Path, actor: &str, ambient: Ambient) -> Host {
    let store = Store::create(&folder.join("store.db")).expect("a store");
    let vault = Vault::or_create(&folder.join("identity.age"));
    Host::new(store, vault, ambient, actor.parse().expect("an actor"))
}

/// The design's streams on a server, made by whoever this target lets in; the duplicate window in seconds.
///
/// # Panics
/// When the server refuses. Gives the settings of the stream of events.
pub fn make_streams(target: &Target, window: u64) -> StreamConfig {
    make_streams_in(&Namespace::default(), target, window)
}

/// The same for other subjects.
///
/// # Panics
/// When the server refuses.
pub fn make_streams_in(namespace: &Namespace, target: &Target, window: u64) -> StreamConfig {
    let wanted = Wanted::new(namespace).duplicate_window(window * 1_000_000_000);
    block_on(async {
        let link = Link::connect(target, 0).await.expect("a connection");
        streams::ensure(&link, &wanted).await.expect("both streams");
    });
    wanted.events
}

/// Waits for the end of asynchronous work.
///
/// # Panics
/// When no runtime can be made.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
