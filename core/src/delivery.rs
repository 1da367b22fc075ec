//! Deliveries of a durable consumer as data: what is asked, what comes, how it is acknowledged, and whether the server has
//! heard it. Hosts carry the bytes.

use crate::admission::StoredMessage;
use crate::consumer::ConsumerConfig;
use crate::headers::{self, Headers};
use crate::jetstream::{AnswerError, judged, needed};
use crate::jwt::{DecodeError, Members};
use crate::order;
use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How long one request for messages stays with the server, in milliseconds.
pub const EXPIRES: u64 = 10_000;
/// How often the server says meanwhile that it is there, in milliseconds.
pub const HEARTBEAT: u64 = 2_000;
/// Bytes of messages after which a request has enough: what a consumer holds in memory at most, beside one message.
pub const PULL_BYTES: usize = 4 * 1024 * 1024;

/// Asks for up to `count` messages as they come, and about [`PULL_BYTES`] of them.
#[must_use]
pub fn next(count: u64) -> String {
    let nanos = |millis: u64| millis.saturating_mul(1_000_000);
    format!(
        r#"{{"batch":{count},"max_bytes":{PULL_BYTES},"expires":{},"idle_heartbeat":{}}}"#,
        nanos(EXPIRES),
        nanos(HEARTBEAT)
    )
}

/// What a consumer's owner hears for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// Nothing yet: the server is there.
    Heartbeat,
    /// The request is over, and all is well: its time or its bytes are used up, or the consumer's leader changed.
    Over,
    /// There is no such consumer any more.
    Deleted,
    /// Nobody answers there: no such consumer, or none that is ready.
    Nobody,
    /// The server refuses the request.
    Refused {
        /// The status, as 400 or 409.
        status: u16,
        /// In the server's words, cut after 200 characters.
        description: String,
    },
}

/// What an answer without a message means, by its status and words.
#[must_use]
pub fn heard(status: u16, description: &str) -> Heard {
    let says = |words: &str| description.to_ascii_lowercase().contains(words);
    match status {
        100 => Heard::Heartbeat,
        404 | 408 => Heard::Over,
        409 if says("consumer deleted") => Heard::Deleted,
        409 if ["batch completed", "maxbytes", "leadership change", "server shutdown"]
            .iter()
            .any(|known| says(known)) =>
        {
            Heard::Over
        }
        503 => Heard::Nobody,
        status => Heard::Refused { status, description: description.chars().take(200).collect() },
    }
}

/// A message as a consumer delivered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The message, at its place on the stream.
    pub message: StoredMessage,
    /// The stream.
    pub stream: String,
    /// The consumer.
    pub consumer: String,
    /// The how manieth delivery of this message it is, from 1.
    pub delivered: u64,
    /// When the server stored it.
    pub stored: Timestamp,
    /// Messages that the consumer has not delivered yet.
    pub pending: u64,
    /// Where it is acknowledged.
    pub reply: String,
}

/// Reads one from the subject where it is acknowledged, in both of its forms, and the message itself. None where nothing
/// can be acknowledged there.
#[must_use]
pub fn delivered(
    reply: &str,
    subject: String,
    mut list: Vec<(String, String)>,
    payload: Vec<u8>,
) -> Option<Delivered> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let told = match tokens.len() {
        7 => tokens.as_slice(),
        // With domain and account before them, and perhaps a token behind.
        9 | 10 => tokens.get(2..9)?,
        _ => return None,
    };
    let [stream, consumer, delivered, sequence, _, nanos, pending] = told else { return None };
    let nanos: i64 = nanos.parse().ok()?;
    let stored = Timestamp::from_millis(nanos / 1_000_000).ok()?;
    // As in a batch: our seven first, the others by name.
    let place =
        |name: &str| headers::ALL.iter().position(|known| *known == name).unwrap_or(headers::ALL.len());
    order::sort_by_text(&mut list, |(name, _)| format!("{} {name}", place(name)));
    Some(Delivered {
        message: StoredMessage {
            sequence: sequence.parse().ok()?,
            subject,
            headers: Headers::received(list),
            payload,
            time: Some(stored.to_string()),
        },
        stream: (*stream).to_owned(),
        consumer: (*consumer).to_owned(),
        delivered: delivered.parse().ok()?,
        stored,
        pending: pending.parse().ok()?,
        reply: reply.to_owned(),
    })
}

/// What is said of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledgement {
    /// It is done.
    Ack,
    /// It shall come again, not before this many milliseconds: without a delay it would come at once, without end.
    Nak {
        /// Milliseconds; at least 1.
        delay: u64,
    },
    /// It shall not come again.
    Term {
        /// Why, for people; kept in what the server says of it.
        reason: String,
    },
    /// It is still worked on: its time begins anew.
    InProgress,
}

impl Acknowledgement {
    /// The bytes that say so.
    #[must_use]
    pub fn payload(&self) -> String {
        match self {
            Self::Ack => "+ACK".to_owned(),
            Self::Nak { delay } => {
                format!(r#"-NAK {{"delay":{}}}"#, (*delay).max(1).saturating_mul(1_000_000))
            }
            Self::Term { reason } => {
                let line: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
                format!("+TERM {line}").trim_end().to_owned()
            }
            Self::InProgress => "+WPI".to_owned(),
        }
    }
}

/// Whether an answer confirms an acknowledgement: one without status and without payload. A client library may take any
/// answer for one, 503 included.
#[must_use]
pub fn confirms(status: Option<u16>, payload: &[u8]) -> bool {
    status.is_none() && payload.is_empty()
}

/// How a consumer stands, by its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    /// Its settings.
    pub config: ConsumerConfig,
    /// When it was made, as the server writes it.
    pub created: String,
    /// Until when it is paused, as the server writes it; none where it is not.
    pub paused: Option<String>,
    /// Messages that it has not delivered yet.
    pub pending: u64,
    /// Messages that are out.
    pub ack_pending: u64,
    /// Messages of these that were delivered more than once.
    pub redelivered: u64,
    /// Sequence up to which everything is acknowledged or given up.
    pub ack_floor: u64,
}

/// Reads the answer to `CONSUMER.INFO` or `CONSUMER.CREATE`.
///
/// # Errors
/// See [`AnswerError`]; 10014 where there is no such consumer, 10059 where there is no such stream.
pub fn consumer_info(answer: &[u8]) -> Result<ConsumerInfo, AnswerError> {
    stands(judged(answer)?).map_err(|_| AnswerError::Unreadable)
}

fn stands(mut answer: Members) -> Result<ConsumerInfo, Box<DecodeError>> {
    let stream: String = answer.take("stream_name")?;
    let mut config = needed(answer.within("config")?)?;
    let mut floor = needed(answer.within("ack_floor")?)?;
    let until: String = config.take("pause_until")?;
    let paused: bool = answer.take("paused")?;
    Ok(ConsumerInfo {
        config: settings(stream, config)?,
        created: needed(answer.take("created")?)?,
        paused: paused.then_some(until),
        pending: answer.take("num_pending")?,
        ack_pending: answer.take("num_ack_pending")?,
        redelivered: answer.take("num_redelivered")?,
        ack_floor: floor.take("stream_seq")?,
    })
}

fn settings(stream: String, mut found: Members) -> Result<ConsumerConfig, Box<DecodeError>> {
    let text = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let limit = |limit: i64| if limit == 0 { -1 } else { limit };
    let one: String = found.take("filter_subject")?;
    let mut filter_subjects: Vec<String> = found.take("filter_subjects")?;
    if !one.is_empty() {
        filter_subjects.insert(0, one);
    }
    let durable: String = found.take("durable_name")?;
    Ok(ConsumerConfig {
        name: text(durable, &found.take::<String>("name")?),
        stream,
        filter_subjects,
        ack_policy: text(found.take("ack_policy")?, "none"),
        deliver_policy: text(found.take("deliver_policy")?, "all"),
        replay_policy: text(found.take("replay_policy")?, "instant"),
        ack_wait: found.take("ack_wait")?,
        max_deliver: limit(found.take("max_deliver")?),
        backoff: found.take("backoff")?,
        max_ack_pending: limit(found.take("max_ack_pending")?),
        inactive_threshold: found.take("inactive_threshold")?,
        headers_only: found.take("headers_only")?,
        pull: found.take::<String>("deliver_subject")?.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::declared;
    use crate::subjects::Namespace;

    #[test]
    fn both_forms_of_the_subject_tell_the_same() {
        let told = "KEYS_EVENTS.keys-service.3.17.21.1795613661004773058.9";
        let read = |reply: &str| delivered(reply, "a.b.keys.user.created".into(), Vec::new(), b"{}".to_vec());
        let plain = read(&format!("$JS.ACK.{told}")).unwrap();
        assert_eq!((plain.message.sequence, plain.delivered, plain.pending), (17, 3, 9));
        assert_eq!((plain.stream.as_str(), plain.consumer.as_str()), ("KEYS_EVENTS", "keys-service"));
        assert_eq!(plain.stored.to_string(), "2026-11-25T13:34:21.004Z");
        for before in ["_.AbC", "hub.AbC"] {
            for behind in ["", ".rnd"] {
                let other = read(&format!("$JS.ACK.{before}.{told}{behind}")).unwrap();
                assert_eq!(Delivered { reply: plain.reply.clone(), ..other }, plain);
            }
        }
        for odd in ["", "$JS.ACK.a.b", "$JS.ACK.a.b.c.d.e.f.g", "_INBOX.x", "$JS.ACK.1.2.3.4.5.6.7.8"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn an_answer_confirms_only_what_the_server_has_done() {
        assert!(confirms(None, b""));
        for (status, payload) in [(Some(503), &b""[..]), (None, b"{}"), (Some(408), b""), (Some(200), b"")] {
            assert!(!confirms(status, payload));
        }
    }

    #[test]
    fn a_bare_nak_is_never_said_and_a_reason_is_one_line() {
        assert_eq!(Acknowledgement::Nak { delay: 0 }.payload(), r#"-NAK {"delay":1000000}"#);
        let reason = "no JSON\r\n+ACK".to_owned();
        assert_eq!(Acknowledgement::Term { reason }.payload(), "+TERM no JSON+ACK");
    }

    #[test]
    fn statuses_have_their_meanings() {
        assert_eq!(heard(100, "Idle Heartbeat"), Heard::Heartbeat);
        assert_eq!(heard(408, "Request Timeout"), Heard::Over);
        assert_eq!(heard(409, "Message Size Exceeds MaxBytes"), Heard::Over);
        assert_eq!(heard(409, "Leadership Change"), Heard::Over);
        assert_eq!(heard(409, "Consumer Deleted"), Heard::Deleted);
        assert_eq!(heard(503, ""), Heard::Nobody);
        assert!(matches!(heard(409, "Exceeded MaxRequestBatch of 1"), Heard::Refused { status: 409, .. }));
        assert!(matches!(heard(400, "Bad Request"), Heard::Refused { status: 400, .. }));
    }

    #[test]
    fn what_a_server_says_of_a_consumer_is_read() {
        let answer = br#"{"type":"io.nats.jetstream.api.v1.consumer_info_response","stream_name":"KEYS_EVENTS",
            "name":"keys-service","created":"2026-11-25T13:34:19.648167408Z","config":{"durable_name":"keys-service",
            "name":"keys-service","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":20,
            "filter_subject":"cowboyai.security.keys.>",
            "replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"num_replicas":0,
            "pause_until":"2036-01-01T00:00:00Z"},"delivered":{"consumer_seq":2,"stream_seq":1},
            "ack_floor":{"consumer_seq":2,"stream_seq":1},"num_ack_pending":3,"num_redelivered":1,"num_waiting":0,
            "num_pending":7,"paused":true,"pause_remaining":287144732843512919}"#;
        let info = consumer_info(answer).unwrap();
        let [_, wanted, _] = declared(&Namespace::default()).try_into().unwrap();
        assert_eq!(wanted.differences(&info.config), []);
        assert_eq!((info.pending, info.ack_pending, info.redelivered, info.ack_floor), (7, 3, 1, 1));
        assert_eq!(info.paused.as_deref(), Some("2036-01-01T00:00:00Z"));
        let missing = br#"{"error":{"code":404,"err_code":10014,"description":"consumer not found"}}"#;
        assert!(matches!(consumer_info(missing), Err(AnswerError::Refused { code: 10014, .. })));
    }
}
