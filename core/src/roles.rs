//! The pipeline's own accounts and roles as data: exactly the subjects that each needs, and no more.
//!
//! Two accounts, because a server does not check a reply subject against permissions: in one account whoever may read can
//! make an answer land on the stream. `KEYS` holds the streams and nobody but the steward; `KEYS_EDGE` imports the few
//! subjects by which everybody else works with them. For the same reason nobody of the pipeline is in the system account:
//! there an answer can be made to land on what purges an account, and in a cluster it does. `KEYS_EDGE` imports the
//! claims subjects as well.

use crate::consumer::{self, ConsumerConfig};
use crate::jwt::{
    Account, AccountLimits, Export, Import, PermissionList, ResponsePermission, ResponseType, Scope,
    ShareKind, SigningKey, UserRights,
};
use crate::nkey::PublicKey;
use crate::order;
use crate::stream::{KEYS_ARCHIVE, KEYS_DEAD, KEYS_EVENTS, KEYS_ISSUED};
use crate::subjects::Namespace;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Prefix of the JetStream API inside `KEYS_EDGE`. Not `$JS.API`: an account's own API wins over an import of its name.
pub const EDGE_API_PREFIX: &str = "CIMKEYS.API";
/// Prefix of the JetStream API inside `KEYS` and on a server without accounts.
pub const API_PREFIX: &str = "$JS.API";
/// Name of the system account.
pub const SYSTEM_ACCOUNT: &str = "SYS";
/// Name of the account that holds the streams.
pub const KEYS_ACCOUNT: &str = "KEYS";
/// Name of the account that works with them.
pub const EDGE_ACCOUNT: &str = "KEYS_EDGE";
/// Disk that `KEYS` may use, in bytes.
pub const KEYS_DISK: i64 = 4 * 1024 * 1024 * 1024;

/// A long-lived role of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineRole {
    /// In `KEYS_EDGE`: appends every event, reads.
    Host,
    /// In `KEYS`: creates and updates the streams, creates the durable consumers.
    Steward,
    /// In `KEYS_EDGE`: reads.
    Auditor,
    /// In `KEYS_EDGE`, by websocket alone: reads, appends `user.created`.
    Browser,
    /// In `KEYS_EDGE`: pushes account JWTs, by subjects imported from the system account.
    Resolver,
    /// In `KEYS_EDGE`: reads, consumes and acknowledges by the durable consumers, writes dead letters.
    Service,
    /// In `KEYS`: hears what is asked of the service of the keys, and answers. Publishes nothing else: who asks is a header
    /// of the server's, and inside this account anybody who could publish there could write it.
    Responder,
    /// In `KEYS_EDGE`: asks the service of the keys.
    Client,
}

impl PipelineRole {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Host,
        Self::Steward,
        Self::Auditor,
        Self::Browser,
        Self::Resolver,
        Self::Service,
        Self::Responder,
        Self::Client,
    ];

    /// Its name, also that of its scoped signing key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Steward => "steward",
            Self::Auditor => "auditor",
            Self::Browser => "browser",
            Self::Resolver => "resolver",
            Self::Service => "service",
            Self::Responder => "responder",
            Self::Client => "client",
        }
    }

    /// Name of the account it belongs to.
    #[must_use]
    pub fn account(self) -> &'static str {
        match self {
            Self::Host | Self::Auditor | Self::Browser | Self::Resolver | Self::Service | Self::Client => {
                EDGE_ACCOUNT
            }
            Self::Steward | Self::Responder => KEYS_ACCOUNT,
        }
    }

    /// Prefix of the JetStream API for its clients; none where it does not use it.
    #[must_use]
    pub fn api_prefix(self) -> Option<&'static str> {
        match self {
            Self::Host | Self::Auditor | Self::Browser | Self::Service => Some(EDGE_API_PREFIX),
            Self::Steward => Some(API_PREFIX),
            Self::Resolver | Self::Responder | Self::Client => None,
        }
    }

    /// How long its creds live, in seconds: host, service, responder and client 1 year, auditor 90 days, browser 12 hours;
    /// steward and resolver 1 hour.
    #[must_use]
    pub fn lifetime(self) -> i64 {
        match self {
            Self::Host | Self::Service | Self::Responder | Self::Client => 365 * 86_400,
            Self::Auditor => 90 * 86_400,
            Self::Browser => 12 * 3600,
            Self::Steward | Self::Resolver => 3600,
        }
    }

    /// What its users may do.
    #[must_use]
    pub fn template(self, namespace: &Namespace) -> UserRights {
        let api = |tail: &str| format!("{EDGE_API_PREFIX}.{tail}");
        let reads = || [api("STREAM.INFO.*"), api("DIRECT.GET.*"), api("STREAM.MSG.GET.*")];
        let mut publish: Vec<String> = Vec::new();
        let mut subscribe = alloc::vec![inbox("{{subject()}}") + ".>"];
        match self {
            // Marks on dead letters and short-lived creds beside.
            Self::Host => publish.extend([namespace.event_pattern(), namespace.dead(), namespace.issued()]),
            Self::Browser => publish.push(namespace.subject("user", "created").to_string()),
            Self::Auditor => {}
            Self::Steward => {
                for verb in ["CREATE", "UPDATE", "INFO"] {
                    for stream in STREAMS {
                        publish.push(format!("{API_PREFIX}.STREAM.{verb}.{stream}"));
                    }
                }
                for verb in ["CREATE", "INFO", "DELETE"] {
                    for ConsumerConfig { stream, name, .. } in consumer::declared(namespace) {
                        publish.push(format!("{API_PREFIX}.CONSUMER.{verb}.{stream}.{name}"));
                    }
                }
            }
            Self::Resolver => publish.extend(CLAIMS.map(String::from)),
            Self::Service => {
                publish.push(namespace.dead());
                for consumer in consumer::declared(namespace) {
                    publish.extend(asked(&consumer).map(|tail| api(&tail)));
                    publish.extend(acknowledged(&consumer));
                }
            }
            Self::Responder => subscribe.extend([namespace.api(), DISCOVERY.into()]),
            Self::Client => publish.extend([namespace.api(), DISCOVERY.into()]),
        }
        if matches!(self, Self::Host | Self::Auditor) {
            publish.push(api("CONSUMER.INFO.*.*"));
        }
        if matches!(self, Self::Host | Self::Auditor | Self::Browser | Self::Service) {
            publish.extend(reads());
            subscribe.push(namespace.log());
        }
        UserRights {
            publish: PermissionList { allow: publish, ..PermissionList::default() },
            subscribe: PermissionList { allow: subscribe, ..PermissionList::default() },
            response: (self == Self::Responder).then(|| ResponsePermission {
                max: 1,
                ttl: ANSWER_WITHIN,
                ..ResponsePermission::default()
            }),
            allowed_connection_types: match self {
                Self::Browser => alloc::vec!["WEBSOCKET".to_string()],
                _ => Vec::new(),
            },
            ..UserRights::default()
        }
    }

    fn scope(self, namespace: &Namespace) -> SigningKey {
        SigningKey::Scoped(Scope {
            role: self.as_str().to_string(),
            template: self.template(namespace),
            description: String::new(),
            ..Scope::default()
        })
    }
}

impl fmt::Display for PipelineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such role: host, steward, auditor, browser, resolver, service, responder or client")]
pub struct RoleError;

impl FromStr for PipelineRole {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

/// Inbox prefix of a user, by its public key: each reads its own answers alone.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX_{user}")
}

/// The streams of the pipeline.
const STREAMS: [&str; 4] = [KEYS_EVENTS, KEYS_ARCHIVE, KEYS_DEAD, KEYS_ISSUED];

/// Where micro services say which there are, and how they are.
pub const DISCOVERY: &str = "$SRV.>";
/// How long the service of the keys may take for an answer, in nanoseconds.
const ANSWER_WITHIN: i64 = 60_000_000_000;

/// What is asked of a consumer, behind the API's prefix.
fn asked(consumer: &ConsumerConfig) -> [String; 2] {
    let ConsumerConfig { stream, name, .. } = consumer;
    ["MSG.NEXT", "INFO"].map(|verb| format!("CONSUMER.{verb}.{stream}.{name}"))
}

/// Where its messages are acknowledged: without domain and account, and with them (`js_ack_fc_v2`).
fn acknowledged(consumer: &ConsumerConfig) -> [String; 2] {
    let ConsumerConfig { stream, name, .. } = consumer;
    [format!("$JS.ACK.{stream}.{name}.>"), format!("$JS.ACK.*.*.{stream}.{name}.>")]
}

/// What the resolver asks of servers.
const CLAIMS: [&str; 4] = [
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.CLAIMS.LIST",
    "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
    "$SYS.REQ.SERVER.PING",
];

/// The subjects that `KEYS` exports and `KEYS_EDGE` imports: exporter's subject, local subject, type, response type.
fn shared(namespace: &Namespace) -> Vec<(String, String, ShareKind, ResponseType)> {
    let mut rows = Vec::new();
    let mut api = |tail: &str, response: ResponseType| {
        rows.push((
            format!("{API_PREFIX}.{tail}"),
            format!("{EDGE_API_PREFIX}.{tail}"),
            ShareKind::Service,
            response,
        ));
    };
    for stream in STREAMS {
        api(&format!("STREAM.INFO.{stream}"), ResponseType::Singleton);
        api(&format!("DIRECT.GET.{stream}"), ResponseType::Stream);
        api(&format!("STREAM.MSG.GET.{stream}"), ResponseType::Singleton);
    }
    let consumers = consumer::declared(namespace);
    for [next, info] in consumers.iter().map(asked) {
        api(&next, ResponseType::Stream);
        api(&info, ResponseType::Singleton);
    }
    let same = consumers.iter().flat_map(acknowledged);
    let appended = [namespace.event_pattern(), namespace.dead(), namespace.issued(), namespace.api()];
    for subject in same.chain(appended) {
        rows.push((subject.clone(), subject, ShareKind::Service, ResponseType::Singleton));
    }
    // Every one that runs answers.
    rows.push((DISCOVERY.into(), DISCOVERY.into(), ShareKind::Service, ResponseType::Stream));
    rows.push((namespace.log(), namespace.log(), ShareKind::Stream, ResponseType::default()));
    rows
}

/// `KEYS`: JetStream with real limits; its roles are the steward and the responder.
#[must_use]
pub fn keys_account(namespace: &Namespace, steward: PublicKey, responder: PublicKey) -> Account {
    let exports = shared(namespace).into_iter().map(|(subject, _, kind, response)| Export {
        name: subject.clone(),
        response_type: response,
        ..Export::new(kind, subject)
    });
    Account {
        exports: exports.collect(),
        limits: AccountLimits {
            disk_storage: KEYS_DISK,
            streams: 10,
            consumer: 100,
            ..AccountLimits::default()
        },
        signing_keys: order::map([
            (steward, PipelineRole::Steward.scope(namespace)),
            (responder, PipelineRole::Responder.scope(namespace)),
        ]),
        ..Account::default()
    }
}

/// Scoped signing keys of `KEYS_EDGE`, one for each of its roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeKeys {
    /// Grants the resolver.
    pub resolver: PublicKey,
    /// Grants the host.
    pub host: PublicKey,
    /// Grants the auditor.
    pub auditor: PublicKey,
    /// Grants the browser.
    pub browser: PublicKey,
    /// Grants the service.
    pub service: PublicKey,
    /// Grants the client.
    pub client: PublicKey,
}

/// `KEYS_EDGE`: no JetStream; its roles are host, auditor, browser, resolver, service and client. It imports from the
/// accounts `system` and `keys`.
#[must_use]
pub fn edge_account(namespace: &Namespace, system: PublicKey, keys: PublicKey, roles: EdgeKeys) -> Account {
    let imports = shared(namespace).into_iter().map(|(subject, local, kind, _)| Import {
        name: subject.clone(),
        // The service of the keys hears from the server who asks.
        share: subject == namespace.api(),
        // Written only where it differs, as the Go tools do.
        local_subject: if local == subject { String::new() } else { local },
        ..Import::new(kind, keys, subject)
    });
    let claims = CLAIMS
        .map(|subject| Import { name: subject.into(), ..Import::new(ShareKind::Service, system, subject) });
    Account {
        imports: imports.chain(claims).collect(),
        signing_keys: order::map([
            (roles.resolver, PipelineRole::Resolver.scope(namespace)),
            (roles.host, PipelineRole::Host.scope(namespace)),
            (roles.auditor, PipelineRole::Auditor.scope(namespace)),
            (roles.browser, PipelineRole::Browser.scope(namespace)),
            (roles.service, PipelineRole::Service.scope(namespace)),
            (roles.client, PipelineRole::Client.scope(namespace)),
        ]),
        ..Account::default()
    }
}

/// The system account: a plain signing key for people; the claims subjects for the edge.
#[must_use]
pub fn system_account(signing: PublicKey) -> Account {
    let exports = CLAIMS.map(|subject| Export {
        name: subject.into(),
        response_type: ResponseType::Stream,
        ..Export::new(ShareKind::Service, subject)
    });
    Account {
        exports: exports.into(),
        signing_keys: order::map([(signing, SigningKey::Plain)]),
        ..Account::default()
    }
}
