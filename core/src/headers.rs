//! The seven headers of every event, as an ordered list of name and value.

use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// UUID of the whole conversation.
pub const CIM_CORRELATION_ID: &str = "CIM-Correlation-Id";
/// UUID of the command or event that caused this one.
pub const CIM_CAUSATION_ID: &str = "CIM-Causation-Id";
/// `<domain>.<entity>.<operation>`.
pub const CIM_EVENT_TYPE: &str = "CIM-Event-Type";
/// UUID of the event, minted once.
pub const CIM_EVENT_ID: &str = "CIM-Event-Id";
/// RFC 3339 in UTC with milliseconds.
pub const CIM_TIMESTAMP: &str = "CIM-Timestamp";
/// Who made the event.
pub const CIM_SOURCE: &str = "CIM-Source";
/// Equal to [`CIM_EVENT_ID`]; JetStream drops a second message with it inside its duplicate window.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";

/// The seven names in the order in which [`build_headers`] writes them.
pub const ALL: [&str; 7] = [
    CIM_CORRELATION_ID,
    CIM_CAUSATION_ID,
    CIM_EVENT_TYPE,
    CIM_EVENT_ID,
    CIM_TIMESTAMP,
    CIM_SOURCE,
    NATS_MSG_ID,
];

/// The source of events that this project makes.
pub const SOURCE: &str = "cim-keys";

/// What the headers of one event say: the identity that any CIM service gives its own events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CimEvent {
    /// UUID of the whole conversation; a root command's own id.
    pub correlation_id: Uuid,
    /// UUID of the command or event that caused this one.
    pub causation_id: Uuid,
    /// `<domain>.<entity>.<operation>`.
    pub event_type: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// UUID of the event: `CIM-Event-Id` and `Nats-Msg-Id`.
    pub message_id: Uuid,
}

/// Builds the seven headers of an event.
///
/// # Errors
/// A value that no header can carry: empty, longer than 256 bytes, or with a control character such as CR or LF.
pub fn build_headers(event: &CimEvent, source: &str) -> Result<Headers, HeaderError> {
    let id = event.message_id.to_string();
    let mut headers = Headers::default();
    headers.push(CIM_CORRELATION_ID, &event.correlation_id.to_string())?;
    headers.push(CIM_CAUSATION_ID, &event.causation_id.to_string())?;
    headers.push(CIM_EVENT_TYPE, &event.event_type)?;
    headers.push(CIM_EVENT_ID, &id)?;
    headers.push(CIM_TIMESTAMP, &event.timestamp.to_string())?;
    headers.push(CIM_SOURCE, source)?;
    headers.push(NATS_MSG_ID, &id)?;
    Ok(headers)
}

/// An ordered list of headers, each name and value checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds one header at the end.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(token) {
            return Err(HeaderError::Name { found: name.chars().take(80).collect() });
        }
        if value.is_empty()
            || value.len() > 256
            || value.trim() != value
            || value.chars().any(char::is_control)
        {
            return Err(HeaderError::Value { name: name.to_owned() });
        }
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// A list as it came from a server, unchecked: for reading only.
    #[must_use]
    pub fn received(list: Vec<(String, String)>) -> Self {
        Self(list)
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The only value of a name, compared without case; none where it is missing or stands twice.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&str> {
        let mut values =
            self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// How often a name stands in the list, compared without case.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// Bytes on the wire: `NATS/1.0`, one line a header, a blank line.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        12 + self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
    }
}

/// Why a header cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Empty, longer than 64 bytes, or more than letters, digits, `-` and `_`.
    #[error("{found:?} is no header name: use letters, digits, '-' and '_'")]
    Name {
        /// The name, cut after 80 characters.
        found: String,
    },
    /// Empty, longer than 256 bytes, with blanks at an end, or with a control character such as CR or LF.
    #[error(
        "the value of header {name} is empty, too long, or has a line break or another control character"
    )]
    Value {
        /// The header.
        name: String,
    },
}

impl HeaderError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "header-name",
            Self::Value { .. } => "header-value",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> CimEvent {
        CimEvent {
            correlation_id: Uuid::from_u128(1),
            causation_id: Uuid::from_u128(2),
            event_type: "keys.user.created".to_owned(),
            timestamp: Timestamp::from_millis(0).unwrap(),
            message_id: Uuid::from_u128(3),
        }
    }

    #[test]
    fn seven_in_order_and_the_message_id_is_the_event_id() {
        let headers = build_headers(&event(), SOURCE).unwrap();
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ALL);
        assert_eq!(headers.only("nats-msg-id"), headers.only("CIM-EVENT-ID"));
        assert_eq!(headers.only(CIM_TIMESTAMP), Some("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn what_a_client_would_panic_on_is_an_error_here() {
        for bad in ["", "a\r\nEvil: 1", "a\n", " a", "a\u{0}", "a\u{7f}"] {
            assert_eq!(
                build_headers(&event(), bad),
                Err(HeaderError::Value { name: CIM_SOURCE.to_owned() }),
                "{bad:?}"
            );
        }
        for bad in ["", "a b", "a:b", "a\r\n", "é"] {
            assert!(Headers::default().push(bad, "x").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_doubled_header_has_no_only_value() {
        let mut headers = build_headers(&event(), SOURCE).unwrap();
        headers.push("cim-event-id", "x").unwrap();
        assert_eq!((headers.only(CIM_EVENT_ID), headers.count(CIM_EVENT_ID)), (None, 2));
    }
}
