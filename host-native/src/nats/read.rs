//! Reading the stream: what its leader says there is, in order and complete.

use super::link::{Link, Trouble};
use super::streams::{self, StreamsError};
use async_nats::{HeaderMap, Message};
use base64ct::{Base64, Encoding};
use cim_keys_core::admission::{SERVER_HEADERS, StoredMessage};
use cim_keys_core::headers::{self, Headers};
use cim_keys_core::sync::{Failure, Read};
use serde_json::{Value, json};
use std::time::Duration;

/// How long one batch may take.
const BATCH: Duration = Duration::from_secs(30);
/// Messages that are read one by one after a batch went wrong.
const CAREFUL: u64 = 64;
/// What a server adds to a message that it hands out, beside [`SERVER_HEADERS`].
const PENDING: &str = "Nats-Num-Pending";

/// Reads a stream, across connections.
///
/// Whoever may append can store a header block that makes a client drop its connection. So after a batch that broke off
/// the next messages are read one by one through the API, which wraps them in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    careful: bool,
}

impl Reader {
    /// Asks the stream's leader how it stands, and reads what is stored behind `after`, at most `limit` messages. A gap
    /// in what the leader has ends the list.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read_from(
        &mut self,
        link: &Link,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> Result<Read, Failure> {
        let info = streams::info(link, stream).await?;
        let last = info.last.min(after.saturating_add(u64::from(limit)));
        let mut messages = Vec::new();
        let mut next = after.saturating_add(1).max(info.first);
        // What the stream has forgotten is for the machine to judge: it sees where the list begins.
        let until = if self.careful { last.min(next.saturating_add(CAREFUL - 1)) } else { last };
        while next <= until {
            let before = next;
            if !self.careful {
                match batch(link, stream, next, until - next + 1).await {
                    Ok(found) => take(&mut messages, &mut next, found),
                    Err(trouble) => {
                        self.careful = matches!(trouble, Trouble::Closed | Trouble::Timeout);
                        return if messages.is_empty() {
                            Err(trouble.into())
                        } else {
                            Ok(Read { info, messages })
                        };
                    }
                }
            }
            // A mirror that is behind, or a message that only looks like one: the leader knows.
            if next == before {
                match single(link, stream, next).await? {
                    Some(message) => take(&mut messages, &mut next, vec![Piece::Whole(message)]),
                    None => return Ok(Read { info, messages }),
                }
            }
        }
        self.careful = false;
        Ok(Read { info, messages })
    }
}

/// One message of a batch.
enum Piece {
    Whole(StoredMessage),
    /// Its headers contradict themselves: read it again through the API.
    Doubtful,
}

/// Takes over what follows without a gap.
fn take(messages: &mut Vec<StoredMessage>, next: &mut u64, found: Vec<Piece>) {
    for piece in found {
        match piece {
            Piece::Whole(message) if message.sequence == *next => {
                *next += 1;
                messages.push(message);
            }
            _ => return,
        }
    }
}

/// Batch direct get: may be answered by a mirror or a follower that is behind, so that its end proves nothing.
async fn batch(link: &Link, stream: &str, first: u64, count: u64) -> Result<Vec<Piece>, Trouble> {
    let mut pieces = Vec::new();
    let body = json!({ "seq": first, "batch": count }).to_string().into_bytes();
    let subject = link.api(&format!("DIRECT.GET.{stream}"));
    let gathered = link.gather(&subject, body, BATCH, |answer| {
        let stored = answer.headers.as_ref().is_some_and(|headers| headers.get("Nats-Sequence").is_some());
        if answer.status.is_some() && !stored {
            return true;
        }
        pieces.push(piece(answer));
        false
    });
    match gathered.await {
        Ok(()) => Ok(pieces),
        // What came until then is good.
        Err(Trouble::NoResponders) if !pieces.is_empty() => Ok(pieces),
        Err(trouble) => Err(trouble),
    }
}

fn piece(answer: Message) -> Piece {
    let Some(found) = answer.headers else { return Piece::Doubtful };
    let list = listed(&found);
    let count = |name: &str| list.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
    let value = |name: &str| list.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let doubled = SERVER_HEADERS.iter().chain([&PENDING]).any(|name| count(name) > 1);
    let sequence = value("Nats-Sequence").and_then(|text| text.parse().ok());
    match (sequence, value("Nats-Subject")) {
        (Some(sequence), Some(subject)) if !doubled && answer.status.is_none() => {
            let added = |name: &str| SERVER_HEADERS.contains(&name) || name == PENDING;
            let headers = list.into_iter().filter(|(name, _)| !added(name)).collect();
            Piece::Whole(StoredMessage {
                sequence,
                subject,
                headers: Headers::received(headers),
                payload: answer.payload.to_vec(),
            })
        }
        _ => Piece::Doubtful,
    }
}

/// The client keeps no order between names: our seven first, the others by name.
fn listed(map: &HeaderMap) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = map
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string())))
        .collect();
    let place =
        |name: &str| headers::ALL.iter().position(|known| *known == name).unwrap_or(headers::ALL.len());
    // Stable, so that the values of one name keep their order.
    list.sort_by(|(a, _), (b, _)| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    list
}

/// One message by the API, from the leader; none where there is none of this sequence.
async fn single(link: &Link, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, Failure> {
    let body = json!({ "seq": sequence }).to_string().into_bytes();
    match streams::api(link, &format!("STREAM.MSG.GET.{stream}"), body, stream, link.answer()).await {
        Ok(answer) => wrapped(&answer["message"]).map(Some).ok_or(Failure::Unreachable),
        Err(StreamsError::Refused { code: 10037, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn wrapped(message: &Value) -> Option<StoredMessage> {
    let bytes = |name: &str| match message[name].as_str() {
        Some(text) => Base64::decode_vec(text).ok(),
        None => Some(Vec::new()),
    };
    Some(StoredMessage {
        sequence: message["seq"].as_u64()?,
        subject: message["subject"].as_str()?.to_owned(),
        headers: Headers::received(raw_headers(&bytes("hdrs")?)),
        payload: bytes("data")?,
    })
}

/// Headers as they are stored, line by line; a line that is none keeps its text as a name.
fn raw_headers(block: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(block);
    let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
            None => (line.to_owned(), String::new()),
        })
        .collect()
}

impl From<StreamsError> for Failure {
    fn from(error: StreamsError) -> Self {
        match error {
            StreamsError::Refused { code: 10059, .. } => Self::StreamMissing,
            StreamsError::Refused { code, .. } => Self::Code { code },
            StreamsError::NoAnswer { trouble, .. } => trouble.into(),
            StreamsError::Unreadable { .. }
            | StreamsError::ServerTooOld { .. }
            | StreamsError::Differs { .. }
            | StreamsError::ArchiveOfAnother { .. } => Self::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_header_blocks_of_any_kind_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let block = b"NATS/1.0\r\nCIM-Source: cim-keys\r\nA:1\r\nA: 2\r\nno colon\r\n\r\n";
        assert_eq!(
            raw_headers(block),
            [pair("CIM-Source", "cim-keys"), pair("A", "1"), pair("A", "2"), pair("no colon", "")]
        );
        assert_eq!(raw_headers(b""), []);
        assert_eq!(raw_headers(&[0xff, 0xfe]), []);
        assert_eq!(raw_headers(b"NATS/1.0 503\r\n\r\n"), []);
    }

    #[test]
    fn a_message_of_the_api_is_unwrapped() {
        let answer =
            json!({ "subject": "a.b", "seq": 7, "hdrs": "TkFUUy8xLjANCkE6IDENCg0K", "data": "eA==" });
        let message = wrapped(&answer).unwrap();
        assert_eq!(
            (message.sequence, message.subject.as_str(), message.payload.as_slice()),
            (7, "a.b", &b"x"[..])
        );
        assert_eq!(message.headers.only("a"), Some("1"));
        assert!(wrapped(&json!({ "seq": 7 })).is_none());
    }
}
