//! A private development system: a server of one's own in operator mode, made from fresh identities, with both streams,
//! every event published and read back.

mod page_key;
mod ports;
pub mod server;
mod verify;

use crate::config::{self, ConfigError, Options as Configuration, Resolver};
use crate::error::KeyError;
use crate::files::{self, FileError};
use crate::host::{Founding, Host, Request};
use crate::nats::consumers;
use crate::nats::context::Context;
use crate::nats::link::{Link, LinkError};
use crate::nats::role;
use crate::nats::streams::{self, StreamsError, Wanted};
use crate::nats::target::{Access as Entrance, Target};
use crate::page::{self, Assets, Listener, PageError, Site};
use crate::ports::{Access, NewUser};
use crate::pump::{End, Lock, Pump, PumpError};
use crate::push::{self, Mode, PushError, State};
use cim_keys_core::command::Command;
use cim_keys_core::creds;
use cim_keys_core::jwt::{AccountLimits, PermissionList, UserRights};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::Lookup;
use cim_keys_core::roles::{self, PipelineRole};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_core::subjects::Namespace;
use ports::Ports;
use serde::Serialize;
use server::{Server, ServerError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long creds of this system are valid, in seconds.
const LIFETIME: i64 = 24 * 3600;
/// How long publishing may be stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// The application account, and its user.
const APP: (&str, &str) = ("APP", "app");

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Data folder: its store is `store.db`, its identity `identity.age`.
    pub data: PathBuf,
    /// The server's program; none looks for one.
    pub program: Option<PathBuf>,
    /// Client port; none takes a free one.
    pub port: Option<u16>,
    /// Websocket port; none takes the one of the last run in this folder where it is free, else a free one.
    pub websocket_port: Option<u16>,
    /// The page's port; none takes the one of the last run in this folder where it is free, else a free one.
    pub page_port: Option<u16>,
    /// The page's files; where there are none, no page is served.
    pub assets: Assets,
}

/// How it stands, once it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// The server's version.
    pub server_version: String,
    /// Where clients connect.
    pub server_url: String,
    /// Where browsers connect.
    pub websocket_url: String,
    /// Where the page is; none where this program was built without it.
    pub page_url: Option<String>,
    /// The stream of events.
    pub stream: String,
    /// Events that this run brought to the stream.
    pub events_published: u64,
    /// Those of them that were read back as they were made.
    pub events_read_back: u64,
    /// Messages on the stream whose event id stands there a second time.
    pub duplicates: u64,
    /// Creds files by role.
    pub creds: BTreeMap<String, PathBuf>,
    /// A secret file: the seed of a plain signing key of the account APP, for the page. None where there is no page.
    pub signing_key: Option<PathBuf>,
    /// Data folder.
    pub data_dir: PathBuf,
    /// Milliseconds that each step took.
    pub steps: BTreeMap<String, u64>,
}

/// A system that runs. Dropping it ends the server.
#[derive(Debug)]
pub struct System {
    /// How it stands.
    pub ready: Ready,
    /// Things that a person should know.
    pub notes: Vec<String>,
    server: Server,
    page: Option<page::Server>,
    _lock: Lock,
}

impl System {
    /// Waits until the server has ended by itself, and says why.
    pub async fn ended(&mut self) -> ServerError {
        self.server.ended().await
    }

    /// Ends the page, then the server, in order, then gives the folder up.
    pub async fn stop(self) -> Option<ExitStatus> {
        if let Some(page) = self.page {
            page.stop().await;
        }
        self.server.stop().await
    }
}

impl Options {
    /// Where the natscli contexts and creds of a data folder are: natscli finds them with `XDG_CONFIG_HOME` set to the data
    /// folder.
    #[must_use]
    pub fn contexts(data: &Path) -> PathBuf {
        data.join("nats").join("context")
    }
}

/// Measures steps.
struct Steps {
    last: Instant,
    done: BTreeMap<String, u64>,
}

impl Steps {
    fn done(&mut self, name: &str) {
        let took = u64::try_from(self.last.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.done.insert(name.to_owned(), took);
        self.last = Instant::now();
    }
}

/// Takes the folder for one system, before a host is opened in it.
///
/// # Errors
/// Another process has it; see [`UpError`].
pub fn take(data: &Path) -> Result<Lock, UpError> {
    files::make_folder(data)?;
    Ok(Lock::named(&data.join("store.db"), "up")?)
}

/// Brings the system up. `host` is over the folder's store, founded or not.
///
/// # Errors
/// See [`UpError`]; the server is ended then.
pub async fn up(host: &Host, lock: Lock, options: &Options) -> Result<System, UpError> {
    let mut steps = Steps { last: Instant::now(), done: BTreeMap::new() };
    let data = std::fs::canonicalize(&options.data)
        .map_err(|error| UpError::Folder { reason: error.to_string() })?;
    // First, because the server must know the page's address, and because a port in use is said at once.
    let mut notes = Vec::new();
    let had = Ports::read(&data, &mut notes);
    let page = listen(host, options, had, &mut notes).await?;
    let program = server::find(options.program.as_deref()).await?;
    steps.done("nats_server");

    let contexts = Options::contexts(&data);
    files::make_folder(&contexts)?;
    let users = identities(host, &contexts)?;
    let signing_key = match &page {
        Some(_) => Some(page_key::secret_file(host, role::account(host, APP.0)?.key, &contexts)?),
        None => None,
    };
    steps.done("identities");

    // Before the websocket's port is looked at: what an earlier run left over may still have it.
    server::end_left_over(&data.join("server")).await?;
    let websocket_port = had.websocket(host.ambient(), options, &mut notes);
    let server = launch(host, &program, &data, (options.port, websocket_port), page.as_ref()).await?;
    steps.done("server");

    if page.is_none() {
        notes.push(
            "no page: this program was built without it; in a checkout, `cargo xtask up` has it".to_owned(),
        );
    }
    let servers = Target::open(&server.url);
    let now = || host.ambient().now().seconds();
    let steward = role::target(host, PipelineRole::Steward, &servers)?;
    notes.push(format!("made a steward in memory for {} minutes: {}", role::LIFETIME / 60, shown(&steward)));
    let store = host.store();
    let known = store.progress().map_err(KeyError::from)?.stream;
    let registry = store.registry_id().map_err(KeyError::from)?;
    let mut wanted = Wanted::new(&registry.namespace);
    wanted.create = known.is_none();
    let link = Link::connect(&steward, now()).await?;
    let ensured = streams::ensure(&link, &wanted).await?;
    match consumers::ensure(&link, &wanted).await {
        Ok(found) => notes.extend(found.warnings()),
        // A registry that was founded before there were consumers: its accounts know nothing of them.
        Err(error @ StreamsError::NoAnswer { .. }) => {
            notes.push(format!("nothing can be consumed durably: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    let server_version = link.server_version();
    drop(link);
    steps.done("streams");

    let before = ensured.events.last;
    let target = entrance(&servers, &users, PipelineRole::Host)?;
    let archive = streams::archive(&ensured.events, Ok(&ensured.archive), host.ambient().now());
    store
        .note_report(|report| {
            report.archive = Some(archive);
            report.creds_expire = target.expires();
        })
        .map_err(KeyError::from)?;
    let sync_lock = Lock::take(host.store().path())?;
    let mut pump = Pump::new(host, target.clone());
    let end = pump.drain(PATIENCE, std::future::pending(), |_| {}).await?;
    let summary = pump.summary().clone();
    drop(pump);
    drop(sync_lock);
    match end {
        End::Drained => {}
        End::Blocked(reason) | End::Patience(reason) => return Err(UpError::Stuck { reason }),
        End::Stopped => {
            return Err(UpError::Stuck { reason: Reason { code: "stopped".into(), text: "stopped".into() } });
        }
    }
    if let Some(hold) = summary.held.first() {
        notes.push(format!("command {} is held: {}", hold.command_id, hold.reason.text));
    }
    steps.done("publish");

    let link = Link::connect(&target, now()).await?;
    let found = verify::read_back(&link, host.store(), before).await?;
    drop(link);
    if found.read_back != summary.published {
        return Err(UpError::ReadBack { published: summary.published, found: found.read_back });
    }
    steps.done("read_back");

    let resolver = role::target(host, PipelineRole::Resolver, &servers)?;
    notes.push(format!(
        "made a resolver in memory for {} minutes: {}",
        role::LIFETIME / 60,
        shown(&resolver)
    ));
    let link = Link::connect(&resolver, now()).await?;
    let report = push::round(host, &link, Mode::default()).await?;
    for account in &report.accounts {
        match &account.state {
            State::Enforced | State::Pushed => {}
            state => notes.push(format!("account {}: {state:?}", account.name)),
        }
    }
    steps.done("push");

    for (name, (path, user)) in &users {
        let role: Option<PipelineRole> = name.parse().ok();
        let context = Context {
            description: format!("cim-keys up: {name}"),
            url: if role == Some(PipelineRole::Browser) {
                server.websocket_url.clone()
            } else {
                server.url.clone()
            },
            creds: path.clone(),
            inbox_prefix: role.map(|_| roles::inbox(&user.to_string())).unwrap_or_default(),
            jetstream_api_prefix: role.and_then(PipelineRole::api_prefix).unwrap_or_default().to_owned(),
        };
        files::replace(&contexts.join(format!("{name}.json")), context.text().as_bytes())?;
    }
    let creds = users.into_iter().map(|(name, (path, _))| (name, path)).collect();
    steps.done("contexts");
    // Last, as notes are only seen where all went well: no address is forgotten without a word.
    had.keep(&data, page.as_ref().map(Listener::port), &server.websocket_url, &mut notes);
    let page_url = page.as_ref().map(|page| format!("http://127.0.0.1:{}/", page.port()));
    let page = page.map(|page| {
        let site = Site {
            registry: registry.clone(),
            websocket_url: server.websocket_url.clone(),
            api_prefix: PipelineRole::Browser.api_prefix().unwrap_or_default().to_owned(),
        };
        page.serve(options.assets.clone(), &site)
    });
    let ready = Ready {
        server_version,
        server_url: server.url.clone(),
        websocket_url: server.websocket_url.clone(),
        page_url,
        stream: KEYS_EVENTS.to_owned(),
        events_published: summary.published,
        events_read_back: found.read_back,
        duplicates: found.duplicates,
        creds,
        signing_key,
        data_dir: data,
        steps: steps.done,
    };
    Ok(System { ready, notes, server, page, _lock: lock })
}

type Users = BTreeMap<String, (PathBuf, PublicKey)>;

/// Founds what is missing, and makes a user of each role with creds for a day.
fn identities(host: &Host, contexts: &Path) -> Result<Users, UpError> {
    let store = host.store();
    if !store.is_founded().map_err(KeyError::from)? {
        let founding =
            Founding { name: "development".to_owned(), namespace: Namespace::default(), escrow: Vec::new() };
        host.found(&founding, false)?;
    }
    let operator = store.registry_id().map_err(KeyError::from)?.operator;
    let lookup = Lookup::Name { parent: operator, name: APP.0.to_owned() };
    let (facts, _) = store.facts(&[lookup], true).map_err(KeyError::from)?;
    if facts.name(operator, APP.0).ok().flatten().is_none() {
        host.run(&Request::new(Command::CreateAccount {
            name: APP.0.to_owned(),
            limits: AccountLimits::default(),
        }))?;
    }
    let mut users = Users::new();
    for role in PipelineRole::ALL {
        let access = Access::Role(role.to_string());
        let made = user(host, role.account(), role.as_str(), access, contexts)?;
        users.insert(role.to_string(), made);
    }
    let list = |subjects: &[&str]| PermissionList {
        allow: subjects.iter().map(ToString::to_string).collect(),
        ..PermissionList::default()
    };
    let rights = UserRights {
        publish: list(&["app.>"]),
        subscribe: list(&["app.>", "_INBOX.>"]),
        ..UserRights::default()
    };
    let made = user(host, APP.0, APP.1, Access::Own(Box::new(rights)), contexts)?;
    users.insert(APP.1.to_owned(), made);
    Ok(users)
}

fn user(
    host: &Host,
    account: &str,
    name: &str,
    access: Access,
    contexts: &Path,
) -> Result<(PathBuf, PublicKey), UpError> {
    let account = role::account(host, account)?.key;
    let lookup = Lookup::Name { parent: account, name: name.to_owned() };
    let (facts, _) = host.store().facts(&[lookup], true).map_err(KeyError::from)?;
    let now = host.ambient().now();
    // An earlier run's user keeps its name until it is revoked.
    let name_now = match facts.name(account, name).ok().flatten() {
        Some(_) => format!("{name}-{}", now.millis()),
        None => name.to_owned(),
    };
    let new = NewUser {
        account,
        name: name_now,
        access,
        expires: now.seconds() + LIFETIME,
        tags: Vec::new(),
        key: None,
        credentials: true,
        keep: false,
    };
    let outcome = host.run(&Request::from(new))?;
    let key =
        outcome.keys.first().copied().ok_or(KeyError::Internal { what: "a new user has no key".into() })?;
    let path = contexts.join(format!("{name}.creds"));
    host.hand_out_with(account, key, |text| Ok(files::replace(&path, text.expose().as_bytes())?))?;
    Ok((path, key))
}

/// Takes the page's port, where there is a page. Somebody who names a port wants one.
async fn listen(
    host: &Host,
    options: &Options,
    had: Ports,
    notes: &mut Vec<String>,
) -> Result<Option<Listener>, UpError> {
    match (options.assets.is_empty(), options.page_port) {
        (true, None) => Ok(None),
        (true, Some(_)) => Err(PageError::NotBuilt.into()),
        (false, _) => Ok(Some(had.page(host.ambient(), options, notes).await?)),
    }
}

async fn launch(
    host: &Host,
    program: &Path,
    data: &Path,
    (client_port, websocket_port): (Option<u16>, Option<u16>),
    page: Option<&Listener>,
) -> Result<Server, UpError> {
    let folder = data.join("server");
    let ports = folder.join("ports");
    files::make_folder(&ports)?;
    let port = |port: Option<u16>| ("127.0.0.1".to_owned(), port.map_or(-1, i32::from));
    let configuration = Configuration {
        name: Some("cim-keys-up".to_owned()),
        listen: port(client_port),
        websocket: Some(port(websocket_port)),
        websocket_origins: page.map_or_else(Vec::new, |page| {
            ["127.0.0.1", "localhost"].map(|name| format!("http://{name}:{}", page.port())).to_vec()
        }),
        monitoring: Some(port(None)),
        store: folder.clone(),
        resolver: Resolver::Full { dir: folder.join("resolver") },
        ports: Some(ports.clone()),
        pid: Some(folder.join(server::PID)),
    };
    let text = config::text(host.store(), &configuration)?;
    let path = folder.join(server::CONFIGURATION);
    files::replace(&path, text.as_bytes())?;
    Ok(Server::start(program, &path, &ports, &folder.join("server.log")).await?)
}

fn entrance(servers: &Target, users: &Users, role: PipelineRole) -> Result<Target, UpError> {
    let path = users.get(role.as_str()).map(|(path, _)| path.as_path()).unwrap_or(Path::new(""));
    let text = files::read_secret(path)?;
    let creds = creds::parse(text.expose()).map_err(KeyError::from)?;
    Ok(Target { urls: servers.urls.clone(), ..Target::of_role("", role, creds.token, creds.key) })
}

fn shown(target: &Target) -> String {
    match &*Arc::clone(&target.access) {
        Entrance::Creds { key, .. } => key.public_key().to_string(),
        _ => String::new(),
    }
}

/// Why the system is not up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpError {
    /// Identities.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data folder.
    #[error("the data folder: {reason}")]
    Folder {
        /// Why.
        reason: String,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The streams.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// Publishing.
    #[error(transparent)]
    Pump(#[from] PumpError),
    /// Pushing.
    #[error(transparent)]
    Push(#[from] PushError),
    /// Publishing came to a stand.
    #[error("publishing stands still: {}", reason.text)]
    Stuck {
        /// Why.
        reason: Reason,
    },
    /// The stream could not be read back.
    #[error("the stream cannot be read back: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
    /// A message that is not what was published.
    #[error("message {sequence} on the stream is not what was published: {reason}")]
    Message {
        /// Its sequence.
        sequence: u64,
        /// Why.
        reason: String,
    },
    /// Another number of events.
    #[error("{published} events were published, {found} were read back")]
    ReadBack {
        /// Published.
        published: u64,
        /// Read back.
        found: u64,
    },
}

impl UpError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Folder { .. } => "folder",
            Self::Config(error) => error.code(),
            Self::Server(error) => error.code(),
            Self::Page(error) => error.code(),
            Self::Link(error) => error.code(),
            Self::Streams(error) => error.code(),
            Self::Pump(error) => error.code(),
            Self::Push(error) => error.code(),
            Self::Stuck { .. } => "stuck",
            Self::Unreadable { .. } => "read-back",
            Self::Message { .. } => "read-back-message",
            Self::ReadBack { .. } => "read-back-count",
        }
    }
}
