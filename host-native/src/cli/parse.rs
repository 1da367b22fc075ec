//! What people type for times, durations and sizes.

use cim_keys_core::time::Timestamp;
use std::str::FromStr;

const SECONDS: [(char, i64); 5] =
    [('m', 60), ('h', 3600), ('d', 86_400), ('w', 7 * 86_400), ('y', 365 * 86_400)];

/// When something ends: `30d`, `12h`, `2w`, `6M`, `1y`, `15m`, a date `2027-01-31`, a time in RFC 3339, or `0` for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// Seconds from now.
    After(i64),
    /// Unix seconds.
    At(i64),
}

impl Expiry {
    /// Unix seconds, 0 for never.
    #[must_use]
    pub fn at(self, now: Timestamp) -> i64 {
        match self {
            Self::Never => 0,
            Self::After(seconds) => now.seconds().saturating_add(seconds),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no time: write 15m, 12h, 30d, 2w, 6M, 1y, 2027-01-31, or 0 for never");
        if matches!(text, "0" | "never") {
            return Ok(Self::Never);
        }
        let unit = text.chars().last().ok_or_else(wrong)?;
        if let Ok(count) = text[..text.len() - unit.len_utf8()].parse::<u32>() {
            // A month counts as 30 days.
            let seconds = if unit == 'M' {
                Some(30 * 86_400)
            } else {
                SECONDS.iter().find(|(letter, _)| *letter == unit).map(|(_, seconds)| *seconds)
            };
            return match (seconds, count) {
                (Some(_), 0) | (None, _) => Err(wrong()),
                (Some(seconds), count) => Ok(Self::After(i64::from(count) * seconds)),
            };
        }
        let date = if text.len() == 10 { format!("{text}T00:00:00.000Z") } else { text.to_owned() };
        let whole = date.strip_suffix('Z').filter(|_| date.len() == 20).map(|date| format!("{date}.000Z"));
        let time: Timestamp = whole.as_deref().unwrap_or(&date).parse().map_err(|_| wrong())?;
        Ok(Self::At(time.seconds()))
    }
}

/// A duration as Go writes it: `500ms`, `2s`, `1m30s`, `1h`. In nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nanos(pub i64);

impl FromStr for Nanos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration: write 500ms, 2s, 1m30s or 1h");
        let mut rest = text;
        let mut total = 0i64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let count: i64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit: i64 = match &rest[..letters] {
                "ns" => 1,
                "us" | "µs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(wrong()),
            };
            total = count.checked_mul(unit).and_then(|nanos| total.checked_add(nanos)).ok_or_else(wrong)?;
            rest = &rest[letters..];
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

/// A number or a number of bytes: `1000`, `64K`, `10M`, `2G` (thousands), `64KiB`, `10MiB`, `2GiB` (1024s), `-1` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub i64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no size: write 1000, 64K, 10M, 2G, 10MiB, 2GiB, or -1 for no limit");
        if text == "-1" {
            return Ok(Self(-1));
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: i64 = text[..digits].parse().map_err(|_| wrong())?;
        let (base, letter) = match text[digits..].strip_suffix('B').unwrap_or(&text[digits..]) {
            "" => {
                return if text.ends_with('B') && digits + 1 != text.len() {
                    Err(wrong())
                } else {
                    Ok(Self(count))
                };
            }
            unit => match unit.strip_suffix('i') {
                Some(letter) => (1024i64, letter),
                None => (1000, unit),
            },
        };
        let power = match letter {
            "K" | "k" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return Err(wrong()),
        };
        base.checked_pow(power).and_then(|unit| count.checked_mul(unit)).map(Self).ok_or_else(wrong)
    }
}

/// A limit: a number, or -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub i64);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(number) if number >= -1 => Ok(Self(number)),
            _ => Err(format!("{text:?} is no limit: write a number, or -1 for none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_nsc_takes_them() {
        let now = Timestamp::from_millis(1_000_000).unwrap();
        for (text, at) in [
            ("0", 0),
            ("never", 0),
            ("15m", 1000 + 900),
            ("12h", 1000 + 43_200),
            ("30d", 1000 + 2_592_000),
            ("2w", 1000 + 1_209_600),
            ("1M", 1000 + 2_592_000),
            ("1y", 1000 + 31_536_000),
            ("2027-01-31", 1_801_353_600),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("2027-01-31T12:00:00.000Z", 1_801_396_800),
        ] {
            assert_eq!(text.parse::<Expiry>().map(|expiry| expiry.at(now)), Ok(at), "{text}");
        }
        for text in ["", "d", "30", "-1d", "30x", "0d", "2027-13-01", "tomorrow", "3é"] {
            assert!(text.parse::<Expiry>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!("1m30s".parse(), Ok(Nanos(90_000_000_000)));
        assert_eq!("500ms".parse(), Ok(Nanos(500_000_000)));
        for text in ["", "5", "s", "1x", "-1s", "99999999999h"] {
            assert!(text.parse::<Nanos>().is_err(), "{text}");
        }
        let sizes = [
            ("-1", -1),
            ("0", 0),
            ("1000", 1000),
            ("64K", 64_000),
            ("1GiB", 1 << 30),
            ("2Mi", 2 << 20),
            ("5MB", 5_000_000),
        ];
        for (text, size) in sizes {
            assert_eq!(text.parse(), Ok(Size(size)), "{text}");
        }
        for text in ["", "-2", "G", "1X", "1.5G", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(("-1".parse(), "7".parse()), (Ok(Limit(-1)), Ok(Limit(7))));
        assert!("-2".parse::<Limit>().is_err());
    }
}
