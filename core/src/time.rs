//! Instants as plain data. Nothing here reads a clock: a host puts the time into the [`Context`](crate::context::Context).

use alloc::string::String;
use chrono::{DateTime, SecondsFormat, Utc};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// 9999-12-31T23:59:59.999Z, the last instant RFC 3339 can write.
const LAST: i64 = 253_402_300_799_999;

/// An instant in UTC, in milliseconds since 1970-01-01. Written as RFC 3339 with three decimals and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970. Refuses instants before 1970 and after the year 9999.
    pub fn from_millis(millis: i64) -> Result<Self, TimeError> {
        if (0..=LAST).contains(&millis) { Ok(Self(millis)) } else { Err(TimeError::Range { found: millis }) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as JWTs count (RFC 7519 `NumericDate`).
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0 / 1000
    }
}

/// Why a text or number is no [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Outside 1970 to 9999.
    #[error("{found} ms since 1970 is outside the years 1970 to 9999")]
    Range {
        /// Milliseconds since 1970.
        found: i64,
    },
    /// Not RFC 3339 in UTC with exactly three decimals.
    #[error("not a time such as 2026-11-23T18:00:00.000Z")]
    Format,
}

impl TimeError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Range { .. } => "time-range",
            Self::Format => "time-format",
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Accepts only the form that [`Display`](fmt::Display) writes, so that text and value are one.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::Format)?;
        let time = Self::from_millis(parsed.timestamp_millis())?;
        if alloc::string::ToString::to_string(&time) == text { Ok(time) } else { Err(TimeError::Format) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// When a server stored a message, as precisely as it says: in nanoseconds since 1970-01-01, until the year 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTime(i64);

impl ServerTime {
    /// From nanoseconds since 1970.
    ///
    /// # Errors
    /// Before 1970.
    pub fn from_nanos(nanos: i64) -> Result<Self, TimeError> {
        if nanos >= 0 { Ok(Self(nanos)) } else { Err(TimeError::Range { found: nanos / 1_000_000 }) }
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0 / 1_000_000_000
    }
}

impl From<Timestamp> for ServerTime {
    fn from(time: Timestamp) -> Self {
        Self(time.millis().saturating_mul(1_000_000))
    }
}

impl fmt::Display for ServerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_nanos(self.0);
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl fmt::Debug for ServerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ServerTime {
    type Err = TimeError;

    /// Any RFC 3339 time, of any zone and precision: servers and people write it in more than one way.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::Format)?;
        let nanos = parsed.timestamp_nanos_opt();
        Self::from_nanos(nanos.ok_or(TimeError::Range { found: parsed.timestamp_millis() })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn servers_times_are_read_as_they_are_written() {
        let time: ServerTime = "2026-11-23T08:50:07.042123456Z".parse().unwrap();
        assert_eq!(
            (time.to_string().as_str(), time.seconds()),
            ("2026-11-23T08:50:07.042123456Z", 1_795_423_807)
        );
        let whole: ServerTime = "2026-11-23T09:50:07+01:00".parse().unwrap();
        assert_eq!(whole.to_string(), "2026-11-23T08:50:07Z");
        assert!(whole < time && ServerTime::from(Timestamp::from_millis(1_795_423_807_042).unwrap()) < time);
        for other in ["yesterday", "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", "2026-11-23", ""] {
            assert!(other.parse::<ServerTime>().is_err(), "{other}");
        }
    }

    #[test]
    fn one_text_per_instant() {
        let time = Timestamp::from_millis(1_795_423_807_042).unwrap();
        assert_eq!(time.to_string(), "2026-11-23T08:50:07.042Z");
        assert_eq!("2026-11-23T08:50:07.042Z".parse(), Ok(time));
        for other in ["2026-11-23T08:50:07Z", "2026-11-23T08:50:07.042+00:00", "2026-11-23 08:50:07.042Z", ""]
        {
            assert_eq!(other.parse::<Timestamp>(), Err(TimeError::Format), "{other}");
        }
        assert!(Timestamp::from_millis(-1).is_err() && Timestamp::from_millis(LAST + 1).is_err());
    }
}
