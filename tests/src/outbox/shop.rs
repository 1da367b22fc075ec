//! A service with a stream of its own.

use crate::desk::{STUCK, block_on};
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wire::Client;
use cim_keys::ambient::Ambient;
use cim_keys::nats::target::Target;
use cim_keys::outbox::{Outbox, OutboxPump};
use cim_keys::pump::End;
use cim_keys_core::headers::{CimEvent, NATS_MSG_ID};
use cim_keys_core::outbox::DomainEvent;
use cim_keys_core::time::Timestamp;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// The stream.
const STREAM: &str = "ORDERS";

/// A service's place: a server with its stream, and a folder for its outbox.
pub struct Shop {
    /// The server.
    pub server: NatsServer,
    folder: TempDir,
}

/// A message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its id.
    pub id: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Shop {
    /// With a stream that remembers ids for so long.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn new(window: Duration) -> Self {
        Self::with(Version::Newest, &json!({ "duplicate_window": window.as_nanos() as u64 }))
    }

    /// With a stream of these settings beside name and subjects.
    ///
    /// # Panics
    /// When the server does not take them.
    pub fn with(version: Version, settings: &Value) -> Self {
        let server = Setup::plain(version).start();
        let shop = Self { server, folder: TempDir::new().expect("a temporary folder") };
        shop.create(STREAM, &json!(["cowboyai.security.orders.>"]), settings);
        shop
    }

    /// Makes a stream.
    ///
    /// # Panics
    /// When the server does not.
    pub fn create(&self, name: &str, subjects: &Value, settings: &Value) {
        let mut body = json!({ "name": name, "subjects": subjects, "storage": "file", "num_replicas": 1 });
        for (name, value) in settings.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let answer = self.api(&format!("STREAM.CREATE.{name}"), &body);
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// Asks the JetStream API.
    ///
    /// # Panics
    /// When nobody answers.
    pub fn api(&self, tail: &str, body: &Value) -> Value {
        let mut client = self.client();
        let body = body.to_string();
        client.request(&format!("$JS.API.{tail}"), &[], body.as_bytes()).expect("an answer").json()
    }

    /// Another client of the server.
    ///
    /// # Panics
    /// When it is not let in.
    pub fn client(&self) -> Client {
        Client::connect(self.server.address()).expect("a connection")
    }

    /// The outbox's file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("orders.outbox")
    }

    /// The outbox.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn outbox(&self) -> Outbox {
        Self::open(&self.file())
    }

    /// The outbox in a file.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(file: &Path) -> Outbox {
        let stream = STREAM.parse().expect("a stream's name");
        Outbox::open(file, stream, "cowboyai.security".parse().expect("a namespace"), Ambient::system())
            .expect("an outbox")
    }

    /// Publishes all there is.
    ///
    /// # Panics
    /// When another one is at it, or the journal fails.
    pub fn drain(&self, target: &Target) -> End {
        block_on(async {
            let mut pump = OutboxPump::new(&self.outbox(), target.clone()).expect("the pump's place");
            pump.drain(STUCK, std::future::pending(), |_| {}).await.expect("a journal that works")
        })
    }

    /// Everything on the stream.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn stored(&self) -> Vec<Stored> {
        stored(self.server.address())
    }

    /// Numbers of the events on the stream, in its order.
    ///
    /// # Panics
    /// When something else is on it.
    pub fn numbers(&self) -> Vec<u64> {
        self.stored().iter().map(Stored::number).collect()
    }
}

impl Stored {
    /// The event's number.
    ///
    /// # Panics
    /// When it is something else.
    pub fn number(&self) -> u64 {
        String::from_utf8_lossy(&self.payload).parse().expect("a number")
    }
}

/// Everything on the stream, as this server has it.
///
/// # Panics
/// When it cannot be read.
pub fn stored(address: SocketAddr) -> Vec<Stored> {
    let mut client = Client::connect(address).expect("a connection");
    let mut api = |tail: &str, body: String| {
        client.request(&format!("$JS.API.STREAM.{tail}.{STREAM}"), &[], body.as_bytes()).expect("an answer")
    };
    let last = api("INFO", String::new()).json()["state"]["last_seq"].as_u64().expect("a last sequence");
    let mut at = |sequence| {
        let answer = api("MSG.GET", cim_keys_core::jetstream::message_get(sequence));
        let message = cim_keys_core::jetstream::message(&answer.payload);
        let message = message.expect("an answer").expect("a message");
        let id = message.headers.only(NATS_MSG_ID).unwrap_or_default().to_owned();
        Stored { sequence, subject: message.subject, id, payload: message.payload }
    };
    (1..=last).map(&mut at).collect()
}

/// The event of this number; its payload is the number.
///
/// # Panics
/// Never.
pub fn event(number: u64) -> DomainEvent {
    let id = Uuid::from_u128(u128::from(number) + 1);
    DomainEvent {
        subject: "cowboyai.security.orders.order.placed".parse().expect("a subject"),
        event: CimEvent {
            correlation_id: id,
            causation_id: id,
            event_type: "orders.order.placed".to_owned(),
            timestamp: Timestamp::from_millis(1_795_423_807_042).expect("a time"),
            message_id: id,
        },
        source: "orders".to_owned(),
        trace: None,
        headers: Vec::new(),
        payload: number.to_string().into_bytes(),
        expected: None,
    }
}

/// A server where answers are not waited for long.
pub fn target(address: SocketAddr) -> Target {
    Target { timeout: crate::desk::SHORT, ..Target::open(&format!("nats://{address}")) }
}
