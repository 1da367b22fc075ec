//! The JetStream API as data: what is asked, and what an answer says. Hosts carry the bytes.

use crate::admission::{SERVER_HEADERS, StoredMessage};
use crate::context::RegistryId;
use crate::headers::{self, Headers};
use crate::journal::StreamIdentity;
use crate::json::Json;
use crate::jwt::{DecodeError, Members};
use crate::order;
use crate::roles;
use crate::stream::{KEYS_ARCHIVE, KEYS_EVENTS, StreamConfig};
use crate::subjects::{Namespace, Subject};
use crate::sync::{Failure, Reply, StreamInfo};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

/// What a server adds to each message of a batch, beside [`SERVER_HEADERS`].
const PENDING: &str = "Nats-Num-Pending";
/// There is no message of this sequence.
const NO_MESSAGE: u32 = 10037;

/// Where a reader and writer of `KEYS_EVENTS` asks and listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// How the stream stands; empty request, see [`stream_info`].
    pub stream_info: String,
    /// Many messages; see [`direct_get`] and [`stored`].
    pub direct_get: String,
    /// One message from the leader; see [`message_get`] and [`message`].
    pub message_get: String,
    /// Name of the archive.
    pub archive: String,
    /// The same three for it.
    pub archive_info: String,
    /// See [`direct_get`](Self::direct_get).
    pub archive_direct_get: String,
    /// See [`message_get`](Self::message_get).
    pub archive_message_get: String,
    /// Stored messages as they come, to be listened to.
    pub log: String,
    /// Prefix of the user's own inboxes.
    pub inbox: String,
}

impl Endpoints {
    /// For a registry, through a prefix of the JetStream API, as this user (its public key).
    #[must_use]
    pub fn new(registry: &RegistryId, api_prefix: &str, user: &str) -> Self {
        Self {
            stream_info: format!("{api_prefix}.STREAM.INFO.{KEYS_EVENTS}"),
            direct_get: format!("{api_prefix}.DIRECT.GET.{KEYS_EVENTS}"),
            message_get: format!("{api_prefix}.STREAM.MSG.GET.{KEYS_EVENTS}"),
            archive: KEYS_ARCHIVE.to_owned(),
            archive_info: format!("{api_prefix}.STREAM.INFO.{KEYS_ARCHIVE}"),
            archive_direct_get: format!("{api_prefix}.DIRECT.GET.{KEYS_ARCHIVE}"),
            archive_message_get: format!("{api_prefix}.STREAM.MSG.GET.{KEYS_ARCHIVE}"),
            log: registry.namespace.log(),
            inbox: roles::inbox(user),
        }
    }
}

/// Bytes of messages after which a read has enough, however few they are: about as much as an append may have.
pub const READ_BYTES: usize = 8 * 1024 * 1024;

/// Asks for up to `count` messages from sequence `first` on, and about [`READ_BYTES`] of them. May be answered by a copy that
/// is behind: its end proves nothing.
#[must_use]
pub fn direct_get(first: u64, count: u64) -> String {
    format!(r#"{{"seq":{first},"batch":{count},"max_bytes":{READ_BYTES}}}"#)
}

/// Asks for one message.
#[must_use]
pub fn message_get(sequence: u64) -> String {
    format!(r#"{{"seq":{sequence}}}"#)
}

/// Asks for one message from the leader: the first one of a subject from sequence `first` on; see [`message`].
#[must_use]
pub fn message_get_next(subject: &Subject, first: u64) -> String {
    format!(r#"{{"seq":{first},"next_by_subj":"{subject}"}}"#)
}

/// Asks for one message from the leader: the first one there is from sequence `first` on; see [`message`].
#[must_use]
pub fn message_get_from(first: u64) -> String {
    format!(r#"{{"seq":{first},"next_by_subj":">"}}"#)
}

/// Asks for one message from the leader: the last one of a subject; see [`message`].
#[must_use]
pub fn message_get_last(subject: &Subject) -> String {
    format!(r#"{{"last_by_subj":"{subject}"}}"#)
}

/// The numbers of a server's version, `2.15.1` or `v2.12.0-RC.1`. A pre-release counts as the release it leads to.
#[must_use]
pub fn server_version(text: &str) -> Option<(u32, u32, u32)> {
    let plain = text.trim().trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// Why an answer does not say what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// An error of the API.
    #[error("{description} ({code})")]
    Refused {
        /// Its number.
        code: u32,
        /// In the server's words, cut after 200 characters.
        description: String,
    },
    /// No answer of the API.
    #[error("the server's answer cannot be read")]
    Unreadable,
}

impl AnswerError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "stream-refused",
            Self::Unreadable => "unreadable",
        }
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Refused { code: 10059, .. } => Self::StreamMissing,
            AnswerError::Refused { code, .. } => Self::Code { code },
            AnswerError::Unreadable => Self::Unreachable,
        }
    }
}

/// Whether an answer is one of the API and no error.
///
/// # Errors
/// See [`AnswerError`].
pub fn accepted(answer: &[u8]) -> Result<(), AnswerError> {
    judged(answer).map(drop)
}

/// The members of an answer that is no error. What a server leaves out has Go's zero value, as in a JWT.
pub(crate) fn judged(answer: &[u8]) -> Result<Members, AnswerError> {
    let mut members = members(answer).map_err(|_| AnswerError::Unreadable)?;
    match members.within("error").and_then(|error| error.map(refusal).transpose()) {
        Ok(None) => Ok(members),
        Ok(Some(refusal)) => Err(refusal),
        Err(_) => Err(AnswerError::Unreadable),
    }
}

fn members(answer: &[u8]) -> Result<Members, Box<DecodeError>> {
    let text = core::str::from_utf8(answer).map_err(|_| DecodeError::Encoding)?;
    Members::open(Json::parse(text)?)
}

fn refusal(mut error: Members) -> Result<AnswerError, Box<DecodeError>> {
    let (own, http): (u64, u64) = (error.take("err_code")?, error.take("code")?);
    let code = if own == 0 { http } else { own };
    let code = u32::try_from(code).map_err(|_| DecodeError::expected("a number of 32 bits"))?;
    let description: String = error.take("description")?;
    Ok(AnswerError::Refused { code, description: description.chars().take(200).collect() })
}

/// A member that an answer must have.
pub(crate) fn needed<T>(found: Option<T>) -> Result<T, Box<DecodeError>> {
    found.ok_or_else(|| DecodeError::expected("a member that is there"))
}

fn settings(mut found: Members) -> Result<StreamConfig, Box<DecodeError>> {
    let text = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    // 0 and -1 are both without a limit.
    let limit = |limit: i64| if limit == 0 { -1 } else { limit };
    let republish = match found.within("republish")? {
        Some(mut pair) => Some((pair.take("src")?, needed(pair.take("dest")?)?)),
        None => None,
    };
    let mirror = match found.within("mirror")? {
        Some(mut mirror) => Some(needed(mirror.take("name")?)?),
        None => None,
    };
    Ok(StreamConfig {
        name: found.take("name")?,
        subjects: found.take("subjects")?,
        retention: text(found.take("retention")?, "limits"),
        storage: text(found.take("storage")?, "file"),
        discard: text(found.take("discard")?, "old"),
        max_age: found.take("max_age")?,
        max_msg_size: limit(found.take("max_msg_size")?),
        max_msgs: limit(found.take("max_msgs")?),
        max_msgs_per_subject: limit(found.take("max_msgs_per_subject")?),
        duplicate_window: found.take("duplicate_window")?,
        allow_direct: found.take("allow_direct")?,
        allow_atomic: found.take("allow_atomic")?,
        deny_delete: found.take("deny_delete")?,
        deny_purge: found.take("deny_purge")?,
        republish,
        mirror,
        sealed: found.take("sealed")?,
        persist_async: found.take::<String>("persist_mode")? == "async",
        allow_rollup: found.take("allow_rollup_hdrs")?,
        no_ack: found.take("no_ack")?,
    })
}

/// Reads the answer to `STREAM.INFO`. The server's version is the connection's affair.
///
/// # Errors
/// See [`AnswerError`]; 10059 where there is no such stream.
pub fn stream_info(answer: &[u8]) -> Result<StreamInfo, AnswerError> {
    stands(judged(answer)?).map_err(|_| AnswerError::Unreadable)
}

fn stands(mut answer: Members) -> Result<StreamInfo, Box<DecodeError>> {
    let config = settings(needed(answer.within("config")?)?)?;
    let mut state = needed(answer.within("state")?)?;
    let (first, last) = (needed(state.take("first_seq")?)?, needed(state.take("last_seq")?)?);
    let (stored, now): (String, String) = (state.take("first_ts")?, answer.take("ts")?);
    Ok(StreamInfo {
        identity: StreamIdentity { name: config.name.clone(), created: needed(answer.take("created")?)? },
        config,
        first,
        last,
        // One that is empty says year 1 for the first of its no messages.
        first_age: if last > 0 && first <= last { seconds_between(&stored, &now) } else { None },
        server: None,
    })
}

/// Seconds from one RFC 3339 text to another; none where one cannot be read, or the second is before the first.
fn seconds_between(from: &str, to: &str) -> Option<u64> {
    let seconds = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp());
    u64::try_from(seconds(to)?.checked_sub(seconds(from)?)?).ok()
}

/// A message of a batch, from its headers and payload. None where what the server says of it is missing or stands twice:
/// then [`message`] tells.
#[must_use]
pub fn stored(mut list: Vec<(String, String)>, payload: Vec<u8>) -> Option<StoredMessage> {
    let value = |name: &str| {
        let mut values = list.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(Some(value.clone())),
            (None, _) => Ok(None),
            _ => Err(()),
        }
    };
    for name in SERVER_HEADERS.iter().chain([&PENDING]) {
        value(name).ok()?;
    }
    let sequence = value("Nats-Sequence").ok()??.parse().ok()?;
    let subject = value("Nats-Subject").ok()??;
    let time = value("Nats-Time-Stamp").ok()?;
    list.retain(|(name, _)| {
        !SERVER_HEADERS.iter().chain([&PENDING]).any(|added| added.eq_ignore_ascii_case(name))
    });
    // Clients keep no order between names: our seven first, the others by name; the values of one name keep theirs.
    let place =
        |name: &str| headers::ALL.iter().position(|known| *known == name).unwrap_or(headers::ALL.len());
    order::sort_by_text(&mut list, |(name, _)| format!("{} {name}", place(name)));
    Some(StoredMessage { sequence, subject, headers: Headers::received(list), payload, time })
}

/// One answer to [`direct_get`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batched {
    /// A message.
    Stored(StoredMessage),
    /// A message whose headers contradict what the server says of it: [`message`] tells.
    Doubtful,
    /// None follows.
    End {
        /// 204 at the end, 404 where there is no such message, 503 where nobody answers; 0 where none is given.
        status: u16,
    },
}

/// Reads one from its header block as it came over the connection, and its payload. Clients drop from a block what they
/// do not expect, each something else; this does not depend on them.
#[must_use]
pub fn batched(block: &[u8], payload: Vec<u8>) -> Batched {
    let list = header_lines(block);
    if list.iter().any(|(name, _)| name.eq_ignore_ascii_case("Nats-Sequence")) {
        return stored(list, payload).map_or(Batched::Doubtful, Batched::Stored);
    }
    let first = String::from_utf8_lossy(block);
    let words = first.lines().next().unwrap_or_default().split_whitespace();
    Batched::End { status: words.skip(1).find_map(|word| word.parse().ok()).unwrap_or_default() }
}

/// Reads a message of the log, which came on `subject`. None where it is not what the stream stored just now: anybody who
/// may ask for a stored message can have the answer sent to a subject of the log.
#[must_use]
pub fn logged(
    namespace: &Namespace,
    subject: &str,
    list: Vec<(String, String)>,
    payload: Vec<u8>,
) -> Option<StoredMessage> {
    let mut streams = list.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Nats-Stream"));
    if !matches!((streams.next(), streams.next()), (Some((_, name)), None) if name == KEYS_EVENTS) {
        return None;
    }
    let message = stored(list, payload)?;
    // Behind the prefix both patterns have wildcards alone.
    let tail = |pattern: String, subject: &str| -> Option<String> {
        subject.strip_prefix(pattern.trim_end_matches(['>', '*', '.'])).map(ToOwned::to_owned)
    };
    let shown = tail(namespace.log(), subject)?;
    (tail(namespace.events(), &message.subject)? == shown).then_some(message)
}

/// [`logged`] from the header block as it came over the connection.
#[must_use]
pub fn logged_block(
    namespace: &Namespace,
    subject: &str,
    block: &[u8],
    payload: Vec<u8>,
) -> Option<StoredMessage> {
    logged(namespace, subject, header_lines(block), payload)
}

/// Reads the answer to `STREAM.MSG.GET`; none where there is no message of this sequence.
///
/// # Errors
/// See [`AnswerError`].
pub fn message(answer: &[u8]) -> Result<Option<StoredMessage>, AnswerError> {
    match judged(answer) {
        Err(AnswerError::Refused { code: NO_MESSAGE, .. }) => Ok(None),
        other => unwrapped(other?).map(Some).map_err(|_| AnswerError::Unreadable),
    }
}

fn unwrapped(mut answer: Members) -> Result<StoredMessage, Box<DecodeError>> {
    let mut found = needed(answer.within("message")?)?;
    let bytes = |text: String| Base64::decode_vec(&text).map_err(|_| DecodeError::Encoding);
    Ok(StoredMessage {
        sequence: needed(found.take("seq")?)?,
        subject: needed(found.take("subject")?)?,
        headers: Headers::received(header_lines(&bytes(found.take("hdrs")?)?)),
        payload: bytes(found.take("data")?)?,
        time: found.take("time")?,
    })
}

/// Headers as they are stored, read as async-nats reads them: whoever reads a message by whichever way must judge it
/// alike. A line that begins with white space goes on with the value before it; one that is none keeps its text as a name.
fn header_lines(block: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(block);
    let mut lines = text.lines().skip(1).filter(|line| !line.is_empty()).peekable();
    let mut list = Vec::new();
    while let Some(line) = lines.next() {
        let Some((name, value)) = line.split_once(':') else {
            list.push((line.to_owned(), String::new()));
            continue;
        };
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        value.truncate(value.trim_end().len());
        list.push((name.to_owned(), value));
    }
    list
}

/// Reads the answer to a publish, plain or the last of a batch.
#[must_use]
pub fn reply(answer: &[u8]) -> Reply {
    match judged(answer) {
        Ok(answer) => acknowledged(answer).unwrap_or(Reply::Unknown),
        Err(AnswerError::Refused { code: 0, .. } | AnswerError::Unreadable) => Reply::Unknown,
        Err(AnswerError::Refused { code, .. }) => Reply::Error { code },
    }
}

fn acknowledged(mut answer: Members) -> Result<Reply, Box<DecodeError>> {
    Ok(Reply::Ack {
        stream: needed(answer.take("stream")?)?,
        sequence: needed(answer.take("seq")?)?,
        duplicate: answer.take("duplicate")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn publishes_are_answered_by_numbers() {
        let read = |text: &str| reply(text.as_bytes());
        let ack = |sequence, duplicate| Reply::Ack { stream: "KEYS_EVENTS".into(), sequence, duplicate };
        assert_eq!(read(r#"{"stream":"KEYS_EVENTS","seq":7}"#), ack(7, false));
        assert_eq!(read(r#"{"stream":"KEYS_EVENTS","seq":7,"batch":"b","count":2}"#), ack(7, false));
        assert_eq!(read(r#"{"stream":"KEYS_EVENTS","seq":7,"duplicate":true}"#), ack(7, true));
        let conflict = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}"#;
        assert_eq!(read(conflict), Reply::Error { code: 10071 });
        assert_eq!(read(r#"{"error":{"code":429}}"#), Reply::Error { code: 429 });
        for odd in
            ["", "{}", "[]", r#"{"stream":"KEYS_EVENTS"}"#, r#"{"error":{}}"#, r#"{"error":7}"#, "\u{fffd}"]
        {
            assert_eq!(read(odd), Reply::Unknown, "{odd}");
        }
    }

    #[test]
    fn the_age_of_the_first_message_is_told_by_the_servers_clock() {
        let read = |state: &str| {
            let text = alloc::format!(
                r#"{{"config":{{"name":"KEYS_EVENTS"}},"created":"2026-01-01T00:00:00Z","ts":"2026-03-02T00:00:01.5Z","state":{{{state}}}}}"#
            );
            stream_info(text.as_bytes()).unwrap().first_age
        };
        let stored = r#""first_ts":"2026-03-01T00:00:00.123456789Z""#;
        assert_eq!(read(&alloc::format!(r#""first_seq":3,"last_seq":7,{stored}"#)), Some(86_401));
        assert_eq!(read(&alloc::format!(r#""first_seq":8,"last_seq":7,{stored}"#)), None);
        assert_eq!(read(r#""first_seq":0,"last_seq":0,"first_ts":"0001-01-01T00:00:00Z""#), None);
        assert_eq!(read(r#""first_seq":1,"last_seq":1"#), None);
        assert_eq!(read(r#""first_seq":1,"last_seq":1,"first_ts":"2026-04-01T00:00:00Z""#), None);
    }

    #[test]
    fn stored_header_blocks_of_any_kind_are_read() {
        let block = b"NATS/1.0\r\nCIM-Source: cim-keys\r\nA:1\r\nA: 2\r\nno colon\r\n\r\n";
        assert_eq!(
            header_lines(block),
            [pair("CIM-Source", "cim-keys"), pair("A", "1"), pair("A", "2"), pair("no colon", "")]
        );
        let folded = b"NATS/1.0\r\nCIM-Source: cim\r\n -keys \r\n\t\r\n B: 1\r\nC:\x0b2\nD: 3\r\n";
        assert_eq!(
            header_lines(folded),
            [pair("CIM-Source", "cim -keys \t B: 1"), pair("C", "2"), pair("D", "3")]
        );
        assert_eq!(header_lines(b""), []);
        assert_eq!(header_lines(&[0xff, 0xfe]), []);
        assert_eq!(header_lines(b"NATS/1.0 503\r\n\r\n"), []);
    }

    #[test]
    fn a_message_of_the_log_counts_where_its_subjects_fit() {
        let namespace = Namespace::default();
        let list = |subject: &str| {
            [("Nats-Stream", KEYS_EVENTS), ("Nats-Sequence", "7"), ("Nats-Subject", subject)]
                .map(|(name, value)| pair(name, value))
                .to_vec()
        };
        let event = "cowboyai.security.keys.user.created";
        let heard = |subject: &str, list| logged(&namespace, subject, list, b"x".to_vec());
        let found = heard("cowboyai.security.keys-log.user.created", list(event)).unwrap();
        assert_eq!((found.sequence, found.subject.as_str()), (7, event));
        for (subject, list) in [
            ("cowboyai.security.keys-log.user.revoked", list(event)),
            ("cowboyai.security.keys-log.user", list(event)),
            (event, list(event)),
            ("cowboyai.security.keys-log.user.created", list("cowboyai.security.keyring.user.created")),
            ("cowboyai.security.keys-log.user.created", list("cowboyai.security.keys-log.user.created")),
            ("cowboyai.security.keys-log.user.created", list(event)[1..].to_vec()),
            ("cowboyai.security.keys-log.user.created", [list(event), list(event)].concat()),
        ] {
            assert_eq!(heard(subject, list), None, "{subject}");
        }
    }

    #[test]
    fn a_message_of_the_api_is_unwrapped() {
        let answer =
            br#"{"message":{"subject":"a.b","seq":7,"hdrs":"TkFUUy8xLjANCkE6IDENCg0K","data":"eA=="}}"#;
        let found = message(answer).unwrap().unwrap();
        assert_eq!((found.sequence, found.subject.as_str(), found.payload.as_slice()), (7, "a.b", &b"x"[..]));
        assert_eq!(found.headers.only("a"), Some("1"));
        assert_eq!(message(br#"{"message":{"seq":7}}"#), Err(AnswerError::Unreadable));
        assert_eq!(message(br#"{"error":{"code":404,"err_code":10037}}"#), Ok(None));
        let refused = message(br#"{"error":{"code":404,"err_code":10059,"description":"x"}}"#);
        assert_eq!(refused.map_err(Failure::from), Err(Failure::StreamMissing));
    }

    #[test]
    fn what_the_server_says_of_a_message_must_stand_once() {
        let plain =
            [pair("Nats-Sequence", "3"), pair("B", "1"), pair("Nats-Subject", "a"), pair("CIM-Source", "s")];
        let found = stored(plain.to_vec(), b"x".to_vec()).unwrap();
        assert_eq!((found.sequence, found.subject.as_str()), (3, "a"));
        assert_eq!(found.headers, Headers::received([pair("CIM-Source", "s"), pair("B", "1")].to_vec()));
        let mut doubled = plain.to_vec();
        doubled.push(pair("nats-sequence", "4"));
        assert_eq!(stored(doubled, Vec::new()), None);
        assert_eq!(stored([pair("Nats-Sequence", "3")].to_vec(), Vec::new()), None);
    }

    #[test]
    fn answers_to_a_batch_are_read_from_their_blocks() {
        let read = |block: &str| batched(block.as_bytes(), b"x".to_vec());
        let Batched::Stored(found) =
            read("NATS/1.0 503\r\nA b: 1\r\nNats-Sequence: 3\r\nNats-Subject: a\r\n\r\n")
        else {
            panic!("a message, whatever its own block says")
        };
        assert_eq!((found.sequence, found.subject.as_str()), (3, "a"));
        assert_eq!(found.headers.only("A b"), Some("1"));
        assert_eq!(
            read("NATS/1.0\r\nNats-Sequence: x\r\nNats-Sequence: 3\r\nNats-Subject: a\r\n"),
            Batched::Doubtful
        );
        assert_eq!(read("NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n"), Batched::End { status: 204 });
        assert_eq!(read("NATS/1.0 503\r\n\r\n"), Batched::End { status: 503 });
        assert_eq!(read(""), Batched::End { status: 0 });
    }

    #[test]
    fn a_message_of_the_log_is_what_was_stored_just_now() {
        let namespace: Namespace = "a.b".parse().unwrap();
        let read = |subject: &str, block: &str| {
            let block = format!("NATS/1.0\r\n{block}\r\n\r\n");
            logged_block(&namespace, subject, block.as_bytes(), b"x".to_vec())
        };
        let head = "CIM-Source: s\r\nNats-Stream: KEYS_EVENTS\r\nNats-Subject: a.b.keys.user.created\r\nNats-Sequence: 3\r\nNats-Time-Stamp: t\r\nNats-Last-Sequence: 0";
        let found = read("a.b.keys-log.user.created", head).unwrap();
        assert_eq!((found.sequence, found.subject.as_str()), (3, "a.b.keys.user.created"));
        assert_eq!(found.headers, Headers::received([pair("CIM-Source", "s")].to_vec()));
        assert_eq!(read("a.b.keys-log.user.revoked", head), None, "an answer that was sent here");
        assert_eq!(read("a.c.keys-log.user.created", head), None);
        assert_eq!(read("a.b.keys-log.user.created", &head.replace("KEYS_EVENTS", "OTHER")), None);
        assert_eq!(read("a.b.keys-log.user.created", &head.replace("a.b.keys.", "a.c.keys.")), None);
        assert_eq!(read("a.b.keys-log.user.created", &format!("{head}\r\nnats-stream: KEYS_EVENTS")), None);
        assert_eq!(read("a.b.keys-log.user.created", ""), None);
    }

    #[test]
    fn requests_and_versions() {
        assert_eq!(direct_get(7, 500), r#"{"seq":7,"batch":500,"max_bytes":8388608}"#);
        assert_eq!(message_get(7), r#"{"seq":7}"#);
        assert_eq!(server_version("v2.12.0-RC.1"), Some((2, 12, 0)));
        assert_eq!(server_version("2.15.1+x"), Some((2, 15, 1)));
        assert_eq!(server_version("x"), None);
        assert_eq!(accepted(b"{}"), Ok(()));
        assert_eq!(stream_info(b"{}"), Err(AnswerError::Unreadable));
        assert!(stream_info(b"").unwrap_err().to_string().contains("cannot be read"));
    }
}
