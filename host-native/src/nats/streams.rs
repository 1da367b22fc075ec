//! The streams on a server: their settings in JetStream's JSON, and creating what is missing.

use super::link::{Link, Trouble};
use crate::report::Archive;
use cim_keys_core::consumer::{self, ConsumerConfig};
use cim_keys_core::jetstream::{self, AnswerError};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{
    Difference, KEYS_ARCHIVE, KEYS_EVENTS, SERVER_FLOOR, StreamConfig, keys_archive_stream_config,
    keys_dead_stream_config, keys_events_stream_config, keys_issued_stream_config,
};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::StreamInfo;
use cim_keys_core::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Between two questions to whom nobody answered.
const AGAIN: Duration = Duration::from_millis(100);

/// Streams and consumers as they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `KEYS_EVENTS`.
    pub events: StreamConfig,
    /// `KEYS_ARCHIVE`.
    pub archive: StreamConfig,
    /// `KEYS_DEAD`.
    pub dead: StreamConfig,
    /// `KEYS_ISSUED`.
    pub issued: StreamConfig,
    /// The durable consumers.
    pub consumers: Vec<ConsumerConfig>,
    /// How many servers keep a copy; none for three where the server belongs to a cluster of three or more, else one.
    pub replicas: Option<u32>,
    /// Whether `KEYS_EVENTS` is made where it is missing. Not for a journal that has met one: then another server answers,
    /// or the stream is lost.
    pub create: bool,
}

impl Wanted {
    /// The design's settings for this namespace.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        Self {
            events: keys_events_stream_config(namespace),
            archive: keys_archive_stream_config(namespace),
            dead: keys_dead_stream_config(namespace),
            issued: keys_issued_stream_config(namespace),
            consumers: consumer::declared(namespace),
            replicas: None,
            create: true,
        }
    }

    /// The same with another duplicate window in nanoseconds: events stay exactly once without it.
    #[must_use]
    pub fn duplicate_window(mut self, nanos: u64) -> Self {
        self.events.duplicate_window = nanos;
        self
    }
}

/// What [`ensure`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    /// How `KEYS_EVENTS` stands.
    pub events: StreamInfo,
    /// How `KEYS_ARCHIVE` stands.
    pub archive: StreamInfo,
    /// Names of the streams that were created.
    pub created: Vec<String>,
}

/// Creates the streams where they are missing and compares them where they are there. Never changes one.
///
/// # Errors
/// See [`StreamsError`]. A stream that differs is named with every difference.
pub async fn ensure(link: &Link, wanted: &Wanted) -> Result<Ensured, StreamsError> {
    if link.server_numbers().is_none_or(|found| found < SERVER_FLOOR) {
        return Err(StreamsError::ServerTooOld { found: link.server_version() });
    }
    let mut created = Vec::new();
    if wanted.create {
        alone(link).await?;
    }
    let events = one(link, &wanted.events, wanted, wanted.create, &mut created).await?;
    // A mirror can begin as long as nothing is forgotten.
    let archive =
        one(link, &wanted.archive, wanted, wanted.create || events.first <= 1, &mut created).await?;
    if archive.identity.is_older_than(&events.identity) {
        return Err(StreamsError::ArchiveOfAnother {
            archive: archive.identity.created,
            events: events.identity.created,
        });
    }
    Ok(Ensured { events, archive, created })
}

/// An archive without its stream is what is left of another history: beside it no new stream is made.
async fn alone(link: &Link) -> Result<(), StreamsError> {
    let missing = |error: &StreamsError| error.code() == "stream-missing";
    if !info(link, KEYS_EVENTS).await.is_err_and(|error| missing(&error)) {
        return Ok(());
    }
    let Ok(archive) = info(link, KEYS_ARCHIVE).await else { return Ok(()) };
    // Another process may have made both meanwhile.
    if info(link, KEYS_EVENTS).await.is_err_and(|error| missing(&error)) {
        return Err(StreamsError::ArchiveAlone { archive: archive.identity.created });
    }
    Ok(())
}

/// Makes one stream where it is missing and compares it where it is there, for services with a stream of their own. Never
/// changes one. `replicas` is as in [`Wanted`].
///
/// # Errors
/// See [`StreamsError`]. What differs is named with every difference.
pub async fn ensure_one(
    link: &Link,
    config: &StreamConfig,
    replicas: Option<u32>,
) -> Result<StreamInfo, StreamsError> {
    stream(link, config, replicas, true, &mut Vec::new()).await
}

pub(super) async fn one(
    link: &Link,
    config: &StreamConfig,
    wanted: &Wanted,
    may_create: bool,
    created: &mut Vec<String>,
) -> Result<StreamInfo, StreamsError> {
    stream(link, config, wanted.replicas, may_create, created).await
}

async fn stream(
    link: &Link,
    config: &StreamConfig,
    replicas: Option<u32>,
    may_create: bool,
    created: &mut Vec<String>,
) -> Result<StreamInfo, StreamsError> {
    let found = match info(link, &config.name).await {
        Ok(info) => info,
        Err(StreamsError::Refused { code: 10059, .. }) if may_create => {
            let replicas = replicas.unwrap_or_else(|| link.cluster_replicas());
            create(link, config, replicas).await?;
            created.push(config.name.clone());
            info(link, &config.name).await?
        }
        Err(error) => return Err(error),
    };
    let differences = config.differences(&found.config);
    if differences.is_empty() {
        return Ok(found);
    }
    Err(StreamsError::Differs { stream: config.name.clone(), differences })
}

/// How a stream stands, by its leader.
///
/// # Errors
/// See [`StreamsError`]; code 10059 where it does not exist.
pub async fn info(link: &Link, stream: &str) -> Result<StreamInfo, StreamsError> {
    let answer = api(link, &format!("STREAM.INFO.{stream}"), Vec::new(), stream, link.answer()).await?;
    let mut info = jetstream::stream_info(&answer).map_err(|error| refused(stream, error))?;
    info.server = link.server_numbers();
    Ok(info)
}

/// The same where nobody may answer yet: an account that the server is still loading, a stream without a leader. Asks
/// again for as long as one answer may take.
///
/// # Errors
/// See [`info`].
pub async fn awaited(link: &Link, stream: &str) -> Result<StreamInfo, StreamsError> {
    let start = tokio::time::Instant::now();
    loop {
        match info(link, stream).await {
            Err(StreamsError::NoAnswer { trouble: Trouble::NoResponders, .. })
                if start.elapsed() < link.answer() =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            found => return found,
        }
    }
}

async fn create(link: &Link, config: &StreamConfig, replicas: u32) -> Result<(), StreamsError> {
    let body = to_json(config, replicas).to_string().into_bytes();
    // A cluster places a stream before it answers.
    let patience = link.answer() + Duration::from_secs(10);
    match api(link, &format!("STREAM.CREATE.{}", config.name), body, &config.name, patience).await {
        // Somebody else was first: what is there is compared next.
        Ok(_) | Err(StreamsError::Refused { code: 10058, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks the JetStream API; an error in the answer is an error here.
pub(super) async fn api(
    link: &Link,
    tail: &str,
    body: Vec<u8>,
    stream: &str,
    patience: Duration,
) -> Result<Vec<u8>, StreamsError> {
    let subject = link.api(tail);
    let answer = link
        .ask(&subject, None, body, patience)
        .await
        .map_err(|trouble| StreamsError::NoAnswer { subject, trouble })?;
    jetstream::accepted(&answer.payload).map_err(|error| refused(stream, error))?;
    Ok(answer.payload.to_vec())
}

pub(super) fn refused(stream: &str, error: AnswerError) -> StreamsError {
    let stream = stream.to_owned();
    match error {
        AnswerError::Refused { code, description } => StreamsError::Refused { stream, code, description },
        AnswerError::Unreadable => StreamsError::Unreadable { stream },
    }
}

/// Settings as JetStream's JSON.
#[must_use]
pub fn to_json(config: &StreamConfig, replicas: u32) -> Value {
    let mut json = json!({
        "name": config.name,
        "retention": config.retention,
        "storage": config.storage,
        "discard": config.discard,
        "max_age": config.max_age,
        "max_msg_size": config.max_msg_size,
        "max_msgs": config.max_msgs,
        "max_msgs_per_subject": config.max_msgs_per_subject,
        "max_bytes": -1,
        "max_consumers": -1,
        "num_replicas": replicas,
        "allow_direct": config.allow_direct,
        "deny_delete": config.deny_delete,
        "deny_purge": config.deny_purge,
        "allow_rollup_hdrs": config.allow_rollup,
        "sealed": config.sealed,
        "no_ack": config.no_ack,
    });
    let mut set = |name: &str, value: Value| json[name] = value;
    if config.allow_atomic {
        set("allow_atomic", json!(true));
    }
    if config.persist_async {
        set("persist_mode", json!("async"));
    }
    match &config.mirror {
        Some(origin) => {
            set("mirror", json!({ "name": origin }));
            set("mirror_direct", json!(true));
        }
        None => {
            set("subjects", json!(config.subjects));
            set("duplicate_window", json!(config.duplicate_window));
        }
    }
    if let Some((source, destination)) = &config.republish {
        set("republish", json!({ "src": source, "dest": destination }));
    }
    json
}

/// Whether an archive was made before the stream that it mirrors: then it holds another history.
#[must_use]
pub fn is_older(archive: &StreamInfo, events: &StreamInfo) -> bool {
    archive.identity.is_older_than(&events.identity)
}

/// The archive as it is reported, seen beside the stream at this time.
#[must_use]
pub fn archive(events: &StreamInfo, archive: Result<&StreamInfo, &StreamsError>, seen: Timestamp) -> Archive {
    match archive {
        Ok(archive) => Archive {
            created: Some(archive.identity.created.clone()),
            last: Some(archive.last),
            error: is_older(archive, events).then(|| {
                let error = StreamsError::ArchiveOfAnother {
                    archive: archive.identity.created.clone(),
                    events: events.identity.created.clone(),
                };
                Reason { code: error.code().to_owned(), text: error.to_string() }
            }),
            seen,
        },
        Err(error) => {
            let text = match error.code() {
                "stream-missing" => format!("there is no {KEYS_ARCHIVE}: what {KEYS_EVENTS} forgets is lost"),
                _ => format!("{KEYS_ARCHIVE} is not seen: {error}"),
            };
            let code = error.code().to_owned();
            Archive { created: None, last: None, error: Some(Reason { code, text }), seen }
        }
    }
}

/// Why the streams are not as they must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamsError {
    /// Below the oldest server for writers.
    #[error("the server is {found}, writers need {}.{}.{} or newer", SERVER_FLOOR.0, SERVER_FLOOR.1, SERVER_FLOOR.2)]
    ServerTooOld {
        /// Its version.
        found: String,
    },
    /// A stream of this name has other settings.
    #[error("stream {stream} has other settings: {}", list(differences))]
    Differs {
        /// The stream.
        stream: String,
        /// All of them.
        differences: Vec<Difference>,
    },
    /// A consumer of this name has other settings.
    #[error("the consumer {consumer} of {stream} has other settings: {}", list(differences))]
    ConsumerDiffers {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
        /// All of them.
        differences: Vec<Difference>,
    },
    /// The archive is older than the stream that it mirrors: it would splice two histories.
    #[error(
        "{KEYS_ARCHIVE} was made {archive}, before {KEYS_EVENTS} ({events}): it holds another history; keep it under another name and let a new one be made"
    )]
    ArchiveOfAnother {
        /// Creation time of the archive.
        archive: String,
        /// Creation time of the stream.
        events: String,
    },
    /// There is an archive, and no stream that it could mirror.
    #[error(
        "there is no {KEYS_EVENTS}, but a {KEYS_ARCHIVE} made {archive}: the stream that it mirrored is lost, and nothing was made"
    )]
    ArchiveAlone {
        /// Creation time of the archive.
        archive: String,
    },
    /// The JetStream API refuses.
    #[error("stream {stream}: {description} ({code})")]
    Refused {
        /// The stream.
        stream: String,
        /// The number.
        code: u32,
        /// In its words.
        description: String,
    },
    /// No answer.
    #[error("{subject}: {trouble}")]
    NoAnswer {
        /// Asked there.
        subject: String,
        /// Why.
        trouble: Trouble,
    },
    /// An answer that is no JSON of the JetStream API.
    #[error("stream {stream}: the server's answer cannot be read")]
    Unreadable {
        /// The stream.
        stream: String,
    },
}

impl StreamsError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ServerTooOld { .. } => "server-too-old",
            Self::Differs { .. } => "stream-settings",
            Self::ConsumerDiffers { .. } => "consumer-settings",
            Self::Refused { code: super::consumers::NO_CONSUMER, .. } => "consumer-missing",
            Self::ArchiveOfAnother { .. } => "stream-archive",
            Self::ArchiveAlone { .. } => "archive-alone",
            Self::Refused { code: 10059, .. } => "stream-missing",
            Self::Refused { .. } => "stream-refused",
            Self::NoAnswer { trouble: Trouble::Permission { .. }, .. } => "permission",
            Self::NoAnswer { trouble: Trouble::Authorization { .. }, .. } => "authorization",
            Self::NoAnswer { .. } => "no-answer",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

fn list(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// Whether a version is too old for writers.
#[must_use]
pub fn too_old(version: &str) -> bool {
    jetstream::server_version(version).is_none_or(|found| found < SERVER_FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json(config: &Value) -> StreamConfig {
        let state = json!({ "first_seq": 0, "last_seq": 0 });
        let answer = json!({ "config": config, "created": "2026-11-23T18:00:05Z", "state": state });
        jetstream::stream_info(answer.to_string().as_bytes()).unwrap().config
    }

    #[test]
    fn settings_survive_the_way_to_json_and_back() {
        let wanted = Wanted::new(&Namespace::default());
        for config in [wanted.events, wanted.archive, wanted.dead] {
            assert_eq!(from_json(&to_json(&config, 1)), config);
        }
    }

    #[test]
    fn what_a_server_leaves_out_is_not_what_we_want() {
        let wanted = Wanted::new(&Namespace::default()).events;
        let bare = from_json(&json!({ "name": "KEYS_EVENTS" }));
        let names: Vec<String> =
            wanted.differences(&bare).into_iter().map(|difference| difference.setting).collect();
        for name in [
            "subjects",
            "discard",
            "max_age",
            "duplicate_window",
            "allow_direct",
            "allow_atomic",
            "deny_delete",
            "deny_purge",
            "republish",
            "max_msg_size",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}");
        }
    }
}
