//! The pipeline on a real server: operator mode, the roles connected, streams and consumers made by the steward.

use std::collections::BTreeMap;

use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::NATS_MSG_ID;
use cim_keys_core::roles::{API_PREFIX, EDGE_API_PREFIX, KEYS_ACCOUNT, PipelineRole};
use cim_keys_core::stream::{
    KEYS_ARCHIVE, KEYS_EVENTS, keys_archive_stream_config, keys_dead_stream_config,
    keys_events_stream_config, keys_issued_stream_config,
};
use serde_json::{Value, json};

use crate::identities::{Identities, Login};
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wire::{Client, Message};
use crate::{streams, wait};

/// The expectation that goes with an append: the last sequence of the stream before it.
pub const EXPECTED_LAST: &str = "Nats-Expected-Last-Sequence";

/// The durable consumers in the tests' own words: stream, name, what they want.
pub const CONSUMERS: [(&str, &str, &str); 3] = [
    ("KEYS_EVENTS", "keys-projector", "cowboyai.security.keys.>"),
    ("KEYS_EVENTS", "keys-service", "cowboyai.security.keys.>"),
    ("KEYS_DEAD", "keys-service-retry", "cowboyai.security.keys-dead.*.keys-service.*"),
];

/// A server with the streams, and a user of each role.
pub struct Pipeline {
    /// Everything that was made for it.
    pub identities: Identities,
    /// The server.
    pub server: NatsServer,
    logins: Vec<(PipelineRole, Login)>,
}

impl Pipeline {
    /// Starts it with a registry of its own.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn start() -> Pipeline {
        Pipeline::of(Identities::found(1))
    }

    /// Starts it with these identities, all of which the server knows from the beginning.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn of(identities: Identities) -> Pipeline {
        let pipeline = Pipeline::bare(identities);
        let mut steward = pipeline.connect(PipelineRole::Steward);
        let namespace = pipeline.identities.namespace();
        let streams = [
            keys_events_stream_config(namespace),
            keys_archive_stream_config(namespace),
            keys_dead_stream_config(namespace),
            keys_issued_stream_config(namespace),
        ];
        for config in streams {
            let subject = format!("{API_PREFIX}.STREAM.CREATE.{}", config.name);
            let body = streams::to_json(&config).to_string();
            let made = ask(&mut steward, &subject, &[], body.as_bytes());
            assert!(made["error"].is_null(), "{made}");
        }
        for (stream, consumer, filter) in CONSUMERS {
            let config = json!({
                "name": consumer, "durable_name": consumer, "filter_subjects": [filter], "ack_policy": "explicit",
                "deliver_policy": "all", "ack_wait": 30_000_000_000_u64,
            });
            let body = json!({ "stream_name": stream, "config": config }).to_string();
            let subject = format!("{API_PREFIX}.CONSUMER.CREATE.{stream}.{consumer}");
            let made = ask(&mut steward, &subject, &[], body.as_bytes());
            assert!(made["error"].is_null(), "{made}");
        }
        pipeline
    }

    /// The same without the streams.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn bare(mut identities: Identities) -> Pipeline {
        let logins = PipelineRole::ALL.map(|role| (role, identities.role(role))).into();
        let server = serve(&identities);
        Pipeline { identities, server, logins }
    }

    /// The user of a role.
    ///
    /// # Panics
    /// Never: there is one for each.
    pub fn login(&self, role: PipelineRole) -> &Login {
        let found = self.logins.iter().find(|(other, _)| *other == role);
        &found.expect("a login for each role").1
    }

    /// A connection of a role: through the websocket for the browser, else by TCP.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn connect(&self, role: PipelineRole) -> Client {
        let login = self.login(role);
        match role {
            PipelineRole::Browser => login.connect_websocket(self.websocket_url()),
            _ => login.connect(self.server.address()),
        }
        .unwrap_or_else(|error| panic!("{role} connects: {error}"))
    }

    /// Where the browser connects.
    ///
    /// # Panics
    /// Never: the configuration has a websocket.
    pub fn websocket_url(&self) -> &str {
        self.server.websocket_url().expect("a websocket")
    }

    /// `STREAM.INFO` of a stream as a role sees it.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn info(&self, client: &mut Client, stream: &str) -> Value {
        ask(client, &format!("{EDGE_API_PREFIX}.STREAM.INFO.{stream}"), &[], b"")
    }

    /// Everything that JetStream holds, as the server's monitoring shows it: `account/stream` to the stream's
    /// settings, state and consumers. Waits until the archive has what the stream has.
    ///
    /// # Panics
    /// When the archive does not get there.
    pub fn holdings(&self) -> BTreeMap<String, Value> {
        wait::until("the archive follows the stream", || {
            let all = self.server.monitor("/jsz?accounts=true&streams=true&config=true&consumers=true");
            let all: Value = serde_json::from_str(&all).ok()?;
            let mut holdings = BTreeMap::new();
            for account in list(&all["account_details"]) {
                for stream in list(&account["stream_detail"]) {
                    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
                    holdings.insert(format!("{}/{}", name(account), name(stream)), settled(stream));
                }
            }
            let last = |stream: &str| {
                let found = holdings.get(&format!("{KEYS_ACCOUNT}/{stream}"));
                found.map(|stream| stream["state"]["last_seq"].clone())
            };
            (last(KEYS_EVENTS) == last(KEYS_ARCHIVE)).then_some(holdings)
        })
    }
}

/// Starts a server that trusts these identities.
///
/// # Panics
/// When it does not get ready.
pub fn serve(identities: &Identities) -> NatsServer {
    // The text for an empty folder name; the server's own is put in at each start.
    let place = "/folder-of-the-server";
    let text = identities.configuration(std::path::Path::new(place));
    Setup::configured(Version::Newest, move |folder| text.replace(place, &folder.to_string_lossy())).start()
}

/// A request and its answer as JSON.
///
/// # Panics
/// When the server refuses, nobody answers, or what comes is no JSON.
pub fn ask(client: &mut Client, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Value {
    let answer =
        client.request(subject, headers, payload).unwrap_or_else(|error| panic!("{subject}: {error}"));
    assert_eq!(answer.status(), None, "{subject}: {:?}", String::from_utf8_lossy(&answer.headers));
    serde_json::from_slice(&answer.payload).unwrap_or_else(|error| panic!("{subject}: {error}"))
}

/// The headers of an envelope, and the expectation with it where one is given.
pub fn headers<'a>(envelope: &'a Envelope, expected: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let expected = expected.map(|last| (EXPECTED_LAST, last));
    envelope.headers.iter().chain(expected).collect()
}

/// Appends envelopes, as one atomic batch when there are several; gives the answer.
///
/// # Panics
/// When the server refuses the publish or nobody answers.
pub fn append(client: &mut Client, envelopes: &[Envelope], expected: u64) -> Value {
    let last = expected.to_string();
    let Some((end, start)) = envelopes.split_last() else { panic!("something to append") };
    let subject = end.subject.as_str();
    if start.is_empty() {
        return ask(client, subject, &headers(end, Some(&last)), &end.payload);
    }
    // Event ids are new with each batch, so they make a batch id as well.
    let id = envelopes[0].headers.only(NATS_MSG_ID).expect("an event id");
    for (index, envelope) in start.iter().enumerate() {
        let number = (index + 1).to_string();
        let mut lines = headers(envelope, (index == 0).then_some(&last));
        lines.extend([("Nats-Batch-Id", id), ("Nats-Batch-Sequence", &number)]);
        client.publish(envelope.subject.as_str(), None, &lines, &envelope.payload).expect("a connection");
    }
    let number = envelopes.len().to_string();
    let mut lines = headers(end, None);
    lines.extend([("Nats-Batch-Id", id), ("Nats-Batch-Sequence", &number), ("Nats-Batch-Commit", "1")]);
    ask(client, subject, &lines, &end.payload)
}

/// A batch direct get: every message from a sequence on, up to the answer that ends it.
///
/// # Panics
/// When the server refuses or stops in between.
pub fn read_from(client: &mut Client, subject: &str, sequence: u64) -> Vec<Message> {
    let inbox = format!("{}.batch", client.inbox_prefix());
    let sid = client.subscribe(&inbox).expect("a connection");
    let body = json!({ "seq": sequence, "batch": 1000 }).to_string();
    client.publish(subject, Some(&inbox), &[], body.as_bytes()).expect("a connection");
    let mut messages = Vec::new();
    loop {
        let message = client.next(wait::PATIENCE).unwrap_or_else(|error| panic!("{subject}: {error}"));
        match message.status() {
            None => messages.push(message),
            Some(204) => break,
            Some(other) => panic!("{subject}: status {other}"),
        }
    }
    client.send(format!("UNSUB {sid}\r\n").as_bytes()).expect("a connection");
    messages
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Leaves out what changes by itself: times of reports, and what a mirror says about its link.
fn settled(value: &Value) -> Value {
    const MOVING: [&str; 4] = ["active", "lag", "cluster", "ts"];
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !MOVING.contains(&name.as_str()))
            .map(|(name, member)| (name.clone(), settled(member)))
            .collect(),
        Value::Array(items) => items.iter().map(settled).collect(),
        other => other.clone(),
    }
}
