//! What durable consumption needs on a server: the stream of dead letters and the durable consumers; the stream of issued
//! creds beside.

use super::link::Link;
use super::streams::{self, StreamsError, Wanted};
use cim_keys_core::consumer::ConsumerConfig;
use cim_keys_core::delivery::{self, ConsumerInfo};
use cim_keys_core::sync::StreamInfo;
use serde_json::{Value, json};
use std::time::Duration;

/// No such consumer.
pub(super) const NO_CONSUMER: u32 = 10014;
/// No such stream.
const NO_STREAM: u32 = 10059;
/// There is one, with other settings.
const EXISTS: u32 = 10148;

/// How it all stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumption {
    /// `KEYS_DEAD`.
    pub dead: StreamInfo,
    /// The consumers, in the order in which they are declared.
    pub consumers: Vec<ConsumerInfo>,
    /// Names of what was made.
    pub created: Vec<String>,
}

impl Consumption {
    /// What looks healthy and is not.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let paused = |consumer: &ConsumerInfo| {
            let until = consumer.paused.as_ref()?;
            let ConsumerConfig { name, stream, .. } = &consumer.config;
            Some(format!(
                "the consumer {name} of {stream} is paused until {until}: nothing is delivered to it"
            ))
        };
        self.consumers.iter().filter_map(paused).collect()
    }
}

/// Makes what is missing and compares what is there. Never changes one.
///
/// # Errors
/// See [`StreamsError`]. What differs is named with every difference.
pub async fn ensure(link: &Link, wanted: &Wanted) -> Result<Consumption, StreamsError> {
    go(link, wanted, true).await
}

/// The same, and makes nothing.
///
/// # Errors
/// See [`StreamsError`].
pub async fn look(link: &Link, wanted: &Wanted) -> Result<Consumption, StreamsError> {
    go(link, wanted, false).await
}

async fn go(link: &Link, wanted: &Wanted, may_create: bool) -> Result<Consumption, StreamsError> {
    let mut created = Vec::new();
    let dead = streams::one(link, &wanted.dead, wanted, may_create, &mut created).await?;
    let mut consumers = Vec::new();
    for config in &wanted.consumers {
        consumers.push(one(link, config, may_create, &mut created).await?);
    }
    // Last: accounts that were founded before know nothing of it, and consume all the same.
    streams::one(link, &wanted.issued, wanted, may_create, &mut created).await?;
    Ok(Consumption { dead, consumers, created })
}

/// Makes one consumer where it is missing and compares it where it is there, for services with a stream of their own. Never
/// changes one.
///
/// # Errors
/// See [`StreamsError`]. What differs is named with every difference.
pub async fn ensure_one(link: &Link, config: &ConsumerConfig) -> Result<ConsumerInfo, StreamsError> {
    one(link, config, true, &mut Vec::new()).await
}

async fn one(
    link: &Link,
    config: &ConsumerConfig,
    may_create: bool,
    created: &mut Vec<String>,
) -> Result<ConsumerInfo, StreamsError> {
    let found = match info(link, &config.stream, &config.name).await {
        Err(StreamsError::Refused { code: NO_CONSUMER, .. }) if may_create => {
            created.push(config.name.clone());
            create(link, config).await?
        }
        found => found?,
    };
    let differences = config.differences(&found.config);
    if differences.is_empty() {
        return Ok(found);
    }
    let (stream, consumer) = (config.stream.clone(), config.name.clone());
    Err(StreamsError::ConsumerDiffers { stream, consumer, differences })
}

/// How a consumer stands, by its leader.
///
/// # Errors
/// See [`StreamsError`]; code 10014 where it does not exist, 10059 where its stream does not.
pub async fn info(link: &Link, stream: &str, consumer: &str) -> Result<ConsumerInfo, StreamsError> {
    info_within(link, stream, consumer, link.answer()).await
}

/// The same, answered within this time.
pub(crate) async fn info_within(
    link: &Link,
    stream: &str,
    consumer: &str,
    patience: Duration,
) -> Result<ConsumerInfo, StreamsError> {
    let tail = format!("CONSUMER.INFO.{stream}.{consumer}");
    let answer = streams::api(link, &tail, Vec::new(), &place(stream, consumer), patience).await;
    read(stream, consumer, &answer.map_err(|error| named(error, stream))?)
}

/// Makes a consumer; one that is there with these settings is left as it is.
///
/// # Errors
/// See [`StreamsError`].
pub async fn create(link: &Link, config: &ConsumerConfig) -> Result<ConsumerInfo, StreamsError> {
    let (stream, consumer) = (config.stream.as_str(), config.name.as_str());
    let body = json!({ "stream_name": stream, "config": to_json(config), "action": "create" }).to_string();
    let tail = format!("CONSUMER.CREATE.{stream}.{consumer}");
    // A cluster places a consumer before it answers.
    let patience = link.answer() + Duration::from_secs(10);
    match streams::api(link, &tail, body.into_bytes(), &place(stream, consumer), patience).await {
        Ok(answer) => read(stream, consumer, &answer),
        // Somebody else was first: what is there is compared next.
        Err(StreamsError::Refused { code: EXISTS, .. }) => info(link, stream, consumer).await,
        Err(error) => Err(named(error, stream)),
    }
}

/// Of a missing stream it is the stream that is named.
fn named(error: StreamsError, stream: &str) -> StreamsError {
    match error {
        StreamsError::Refused { code: NO_STREAM, description, .. } => {
            StreamsError::Refused { stream: stream.to_owned(), code: NO_STREAM, description }
        }
        error => error,
    }
}

fn place(stream: &str, consumer: &str) -> String {
    format!("{stream}, consumer {consumer}")
}

fn read(stream: &str, consumer: &str, answer: &[u8]) -> Result<ConsumerInfo, StreamsError> {
    delivery::consumer_info(answer).map_err(|error| streams::refused(&place(stream, consumer), error))
}

/// Settings as JetStream's JSON.
#[must_use]
pub fn to_json(config: &ConsumerConfig) -> Value {
    let mut json = json!({
        "name": config.name,
        "durable_name": config.name,
        "filter_subjects": config.filter_subjects,
        "ack_policy": config.ack_policy,
        "deliver_policy": config.deliver_policy,
        "replay_policy": config.replay_policy,
        "ack_wait": config.ack_wait,
        "max_deliver": config.max_deliver,
        "max_ack_pending": config.max_ack_pending,
        // As many copies as the stream has.
        "num_replicas": 0,
    });
    let mut set = |name: &str, value: Value| json[name] = value;
    if !config.backoff.is_empty() {
        set("backoff", json!(config.backoff));
    }
    if config.inactive_threshold > 0 {
        set("inactive_threshold", json!(config.inactive_threshold));
    }
    if config.headers_only {
        set("headers_only", json!(true));
    }
    json
}
