//! Events appended through `sync` and the edge, against acknowledged publishes of async-nats inside `KEYS`.

use std::future::{pending, ready};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{Auth, ConnectOptions, HeaderMap, HeaderName, HeaderValue};
use cim_keys::config::{self, Options, Resolver};
use cim_keys::host::{Host, Request};
use cim_keys::nats::link::Link;
use cim_keys::nats::streams::{self, Wanted};
use cim_keys::nats::{role, target::Target};
use cim_keys::pump::{End, Pump};
use cim_keys::store::Store;
use cim_keys_core::command::Command;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::jwt::{Body, Claims, Grant, PermissionList, Token, Unknown, User, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::roles::{self, KEYS_ACCOUNT, PipelineRole};
use cim_keys_core::stream::KEYS_EVENTS;
use futures::StreamExt as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::registry;
use super::rounds::Pair;
use crate::server::{NatsServer, Setup};
use crate::tools::Version;

/// Publishes that wait for their acknowledgement at the same time.
pub const IN_FLIGHT: usize = 1000;
/// Commands read from a store at once.
const PAGE: u32 = 1000;

/// A registry whose journal waits to be published, and which nobody has open.
pub struct Journal {
    folder: TempDir,
    /// The key that signs the baseline's user: a plain one of `KEYS`.
    signer: PublicKey,
    /// Events in it.
    pub events: usize,
    /// Bytes of one message, headers included: the mean.
    pub bytes: usize,
    /// Bytes of one payload: the mean.
    pub payload: usize,
}

impl Journal {
    /// Makes one of at least so many events, one command and one commit at a time, as a person's machine would.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn prepare(events: usize, mut progress: impl FnMut(usize)) -> Journal {
        let folder = registry::folder();
        let (host, _) = registry::found(folder.path());
        let owner = role::account(&host, KEYS_ACCOUNT).expect("the account of the streams").key;
        let key = Command::GenerateKey { kind: Kind::Account, owner: Some(owner), label: None, role: None };
        let signer = host.run(&Request::new(key)).expect("a signing key").keys[0];
        let before = envelopes(host.store()).len();
        for number in 0..events.saturating_sub(before).max(1) {
            registry::generate_key(&host);
            progress(number);
        }
        let all = envelopes(host.store());
        let bytes = all.iter().map(Envelope::len).sum::<usize>() / all.len();
        let payload = all.iter().map(|envelope| envelope.payload.len()).sum::<usize>() / all.len();
        Journal { folder, signer, events: all.len(), bytes, payload }
    }

    pub(super) fn copy(&self) -> (TempDir, Host) {
        let folder = registry::folder();
        let host = registry::copy(self.folder.path(), folder.path());
        (folder, host)
    }
}

/// Appends the whole journal through `sync`, in turns with publishing the same messages plainly; each to a server and
/// a stream of its own.
///
/// # Panics
/// When anything fails, or the stream does not have all of it in the end.
pub fn measure(journal: &Journal, sync_always: bool, rounds: usize) -> Pair {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    Pair::measure(
        rounds,
        || ours(&runtime, journal, sync_always),
        || baseline(&runtime, journal, sync_always),
    )
}

fn ours(runtime: &Runtime, journal: &Journal, sync_always: bool) -> (Duration, usize) {
    let (folder, host) = journal.copy();
    let server = serve(&host, folder.path(), sync_always);
    runtime.block_on(async {
        let servers = Target::open(&server.url());
        make_streams(&host, &servers).await;
        let target = role::target(&host, PipelineRole::Host, &servers).expect("a user of the host's role");
        let start = Instant::now();
        let mut pump = Pump::new(&host, target);
        let end = pump.drain(Duration::from_secs(60), pending(), |_| {}).await.expect("a sync");
        let time = start.elapsed();
        assert_eq!(end, End::Drained);
        assert_eq!(pump.summary().published, journal.events as u64);
        assert_eq!(stored(&host, &servers).await, journal.events as u64);
        (time, journal.events)
    })
}

fn baseline(runtime: &Runtime, journal: &Journal, sync_always: bool) -> (Duration, usize) {
    let (folder, host) = journal.copy();
    let server = serve(&host, folder.path(), sync_always);
    let messages: Vec<_> = envelopes(host.store()).into_iter().map(plain_message).collect();
    runtime.block_on(async {
        let servers = Target::open(&server.url());
        make_streams(&host, &servers).await;
        let context = jetstream::new(publisher(&host, journal.signer, &server.url()).await);
        let start = Instant::now();
        let published = futures::stream::iter(messages)
            .map(|(subject, headers, payload)| async {
                let sent = context.publish_with_headers(subject, headers, payload.into()).await;
                sent.expect("a connection").await.expect("an acknowledgement");
            })
            .buffer_unordered(IN_FLIGHT)
            .count()
            .await;
        let time = start.elapsed();
        assert_eq!(stored(&host, &servers).await, published as u64);
        (time, published)
    })
}

pub(super) fn plain_message(envelope: Envelope) -> (String, HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    for (name, value) in envelope.headers.iter() {
        let name: HeaderName = name.parse().expect("a header's name");
        headers.insert(name, value.parse::<HeaderValue>().expect("a header's value"));
    }
    (envelope.subject.as_str().to_owned(), headers, envelope.payload)
}

/// Messages of all pending commands.
fn envelopes(store: &Store) -> Vec<Envelope> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let batch = store.load(after, PAGE).expect("pending commands");
        after = batch.commands.last().map_or(after, |command| command.position);
        all.extend(batch.commands.into_iter().flat_map(|command| command.envelopes));
        if !batch.more {
            return all;
        }
    }
}

/// A server that trusts the registry's operator and knows its accounts: as `cim-keys config server` makes it, or with the
/// server's own `sync_interval` (two minutes).
pub(super) fn serve(host: &Host, folder: &Path, sync_always: bool) -> NatsServer {
    let anywhere = ("127.0.0.1".to_owned(), -1);
    let options = Options {
        name: None,
        listen: anywhere,
        websocket: None,
        websocket_origins: Vec::new(),
        monitoring: None,
        store: folder.join("jetstream"),
        resolver: Resolver::Memory,
        ports: None,
        pid: None,
    };
    let mut text = config::text(host.store(), &options).expect("a configuration");
    if !sync_always {
        let line = "  sync_interval: always\n";
        assert!(text.contains(line), "the configuration syncs always");
        text = text.replace(line, "");
    }
    Setup::configured(Version::Newest, move |_| text.clone()).start()
}

async fn link(host: &Host, servers: &Target) -> Link {
    let steward = role::target(host, PipelineRole::Steward, servers).expect("a steward");
    Link::connect(&steward, host.ambient().now().seconds()).await.expect("a connection")
}

pub(super) async fn make_streams(host: &Host, servers: &Target) {
    let namespace = &host.store().registry_id().expect("a registry").namespace;
    let made = streams::ensure(&link(host, servers).await, &Wanted::new(namespace)).await;
    assert_eq!(made.expect("both streams").created.len(), 2);
}

async fn stored(host: &Host, servers: &Target) -> u64 {
    streams::info(&link(host, servers).await, KEYS_EVENTS).await.expect("the stream").last
}

/// The plain client of async-nats, as a user of `KEYS` who may publish events there.
pub(super) async fn publisher(host: &Host, signer: PublicKey, url: &str) -> async_nats::Client {
    let key = KeyPair::from_entropy(Kind::User, host.ambient().entropy().expect("random bytes"));
    let token = publisher_token(host, signer, &key);
    let jwt = token.as_str().to_owned();
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let mut auth = Auth::new();
        auth.jwt = Some(jwt.clone());
        auth.signature = key.sign(&nonce).ok().map(|signature| signature.as_bytes().to_vec());
        ready(Ok(auth))
    });
    let inbox = roles::inbox(&token.claims().subject.to_string());
    options.custom_inbox_prefix(inbox).connect(url).await.expect("a connection")
}

fn publisher_token(host: &Host, signer: PublicKey, key: &KeyPair) -> Token {
    let namespace = &host.store().registry_id().expect("a registry").namespace;
    let list = |subject: String| PermissionList { allow: vec![subject], ..PermissionList::default() };
    let rights = UserRights {
        publish: list(namespace.event_pattern()),
        subscribe: list(roles::inbox(&key.public_key().to_string()) + ".>"),
        ..UserRights::default()
    };
    let account = role::account(host, KEYS_ACCOUNT).expect("the account of the streams").key;
    let body = User {
        issuer_account: Some(account),
        grant: Grant::Own(Box::new(rights)),
        tags: Vec::new(),
        unknown: Unknown::default(),
    };
    let now = host.ambient().now().seconds();
    let claims = Claims {
        audience: String::new(),
        expires: now + role::LIFETIME,
        issued_at: now,
        issuer: signer,
        name: "publisher".to_owned(),
        not_before: 0,
        subject: key.public_key(),
        body: Body::User(body),
        unknown: Unknown::default(),
    };
    let unsigned = encode(&claims).expect("claims that can be written");
    let signer = host.key(signer).expect("a kept key");
    unsigned.sign(&signer).expect("the issuer's key")
}
