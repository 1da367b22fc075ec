//! W3C Trace Context: `traceparent`, by which tools follow one request through many services. Carried beside an event, never a
//! part of it: what is the same event does not hang on who was tracing.
//!
//! <https://www.w3.org/TR/trace-context/>

use crate::headers::Headers;
use core::fmt;
use core::str::FromStr;

/// Name of the header, lower case as the specification writes it. Readers take it in any case.
pub const TRACEPARENT: &str = "traceparent";

/// The version that is written.
const VERSION: u8 = 0;
/// The version that no header may have.
const FORBIDDEN: u8 = 0xff;
/// Length of a header of version 00; later ones may go on behind a dash.
const LENGTH: usize = 55;
/// Somebody upstream may have recorded it.
const SAMPLED: u8 = 1;
/// The trace id was drawn at random (level 2).
const RANDOM: u8 = 2;

/// Which trace, and which step of it caused this: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, neither id all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// From ids that the caller has drawn.
    ///
    /// # Errors
    /// An id that is all zeros.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], sampled: bool) -> Result<Self, TraceError> {
        Self::checked(trace_id, parent_id, if sampled { SAMPLED } else { 0 })
    }

    /// The one of these headers; none where there is none.
    ///
    /// # Errors
    /// It stands twice, or see [`TraceError`]. The specification has whoever reads such a one begin a trace of their own.
    pub fn of(headers: &Headers) -> Result<Option<Self>, TraceError> {
        match (headers.count(TRACEPARENT), headers.only(TRACEPARENT)) {
            (0, _) => Ok(None),
            (_, Some(text)) => text.parse().map(Some),
            (_, None) => Err(TraceError::Twice),
        }
    }

    /// What a service hands on that makes a step (span) of its own in the trace: the same trace, caused by that step. One that
    /// makes none hands on what it was given.
    ///
    /// # Errors
    /// An id that is all zeros.
    pub fn child(&self, parent_id: [u8; 8]) -> Result<Self, TraceError> {
        // What other flags mean nobody knows yet: they are not handed on.
        Self::checked(self.trace_id, parent_id, self.flags & (SAMPLED | RANDOM))
    }

    /// The whole trace's id.
    #[must_use]
    pub fn trace_id(&self) -> &[u8; 16] {
        &self.trace_id
    }

    /// Id of the step that caused this.
    #[must_use]
    pub fn parent_id(&self) -> &[u8; 8] {
        &self.parent_id
    }

    /// Whether somebody upstream may have recorded it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    fn checked(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Result<Self, TraceError> {
        if trace_id == [0; 16] {
            return Err(TraceError::TraceId);
        }
        if parent_id == [0; 8] {
            return Err(TraceError::ParentId);
        }
        Ok(Self { trace_id, parent_id, flags })
    }
}

impl FromStr for TraceParent {
    type Err = TraceError;

    /// A later version than 00 may say more behind a dash, which is left out: what is written again is version 00, and of its
    /// flags the one that every version has.
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let version: [u8; 1] = hex(text.get(..2)).ok_or(TraceError::Form)?;
        if version == [FORBIDDEN] {
            return Err(TraceError::Version);
        }
        let rest = text.get(LENGTH..).ok_or(TraceError::Form)?;
        if !rest.is_empty() && (version == [VERSION] || !rest.starts_with('-')) {
            return Err(TraceError::Form);
        }
        let mut fields = text.get(2..LENGTH).unwrap_or_default().split('-').skip(1);
        let (trace_id, parent_id, flags) = (fields.next(), fields.next(), fields.next());
        let (Some(trace_id), Some(parent_id), Some([flags]), None) =
            (hex(trace_id), hex(parent_id), hex(flags), fields.next())
        else {
            return Err(TraceError::Form);
        };
        let flags = if version == [VERSION] { flags } else { flags & SAMPLED };
        Self::checked(trace_id, parent_id, flags)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION:02x}-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.parent_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// So many bytes of lower-case hex digits.
fn hex<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    let text = text?.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (to, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Not of the form.
    #[error(
        "a traceparent reads 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case: leave it out where there is no trace"
    )]
    Form,
    /// The version that no header may have.
    #[error("a traceparent has no version ff")]
    Version,
    /// A trace id of zeros alone.
    #[error("the trace id of a traceparent is not all zeros: leave it out where there is no trace")]
    TraceId,
    /// A parent id of zeros alone.
    #[error("the parent id of a traceparent is not all zeros")]
    ParentId,
    /// More than one.
    #[error("the header traceparent stands more than once")]
    Twice,
}

impl TraceError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Form => "traceparent-form",
            Self::Version => "traceparent-version",
            Self::TraceId => "traceparent-trace-id",
            Self::ParentId => "traceparent-parent-id",
            Self::Twice => "traceparent-twice",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use std::format;

    /// The specification's own.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written() {
        for text in [EXAMPLE, "00-00000000000000000000000000000001-0000000000000001-00"] {
            assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), text);
        }
        let example: TraceParent = EXAMPLE.parse().unwrap();
        assert!(example.is_sampled());
        assert_eq!((example.trace_id()[0], example.parent_id()[7]), (0x4b, 0xb7));
        assert_eq!(TraceParent::new(*example.trace_id(), *example.parent_id(), true), Ok(example));
    }

    #[test]
    fn what_is_none_says_why() {
        let zeros = ("0".repeat(32), "0".repeat(16));
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for (text, error) in [
            (String::new(), TraceError::Form),
            (EXAMPLE[..54].into(), TraceError::Form),
            (format!("{EXAMPLE}0"), TraceError::Form),
            (format!("{EXAMPLE}-"), TraceError::Form),
            (format!("{EXAMPLE}-00"), TraceError::Form),
            (EXAMPLE.to_uppercase(), TraceError::Form),
            (EXAMPLE.replace('-', "_"), TraceError::Form),
            (EXAMPLE.replace("4b", "zz"), TraceError::Form),
            (EXAMPLE.replace("b7-01", "b-701"), TraceError::Form),
            (EXAMPLE.replacen("00-4", "0-04", 1), TraceError::Form),
            (format!(" {EXAMPLE}"), TraceError::Form),
            ("é".repeat(28), TraceError::Form),
            (format!("00-{trace}-00f067aa0ba902é-01"), TraceError::Form),
            (format!("ff-{trace}-{parent}-01"), TraceError::Version),
            (format!("FF-{trace}-{parent}-01"), TraceError::Form),
            (format!("00-{}-{parent}-01", zeros.0), TraceError::TraceId),
            (format!("00-{trace}-{}-01", zeros.1), TraceError::ParentId),
            (format!("cc-{}-{parent}-01", zeros.0), TraceError::TraceId),
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for more in ["", "-", "-what-the-future-will-be-like", "-é"] {
            let later = EXAMPLE.replacen("00", "cc", 1).replace("-01", "-ff") + more;
            assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), EXAMPLE, "{later}");
        }
        for wrong in [".what", "0", "é"] {
            let later = EXAMPLE.replacen("00", "cc", 1) + wrong;
            assert_eq!(later.parse::<TraceParent>(), Err(TraceError::Form), "{later}");
        }
    }

    #[test]
    fn a_step_of_ones_own_hands_on_the_trace() {
        let given: TraceParent = EXAMPLE.replace("-01", "-fb").parse().unwrap();
        let child = given.child([7; 8]).unwrap();
        assert_eq!(child.to_string(), format!("{}-{}-03", &EXAMPLE[..35], "07".repeat(8)));
        assert_eq!(given.child([0; 8]), Err(TraceError::ParentId));
        assert_eq!(TraceParent::new([0; 16], [1; 8], false), Err(TraceError::TraceId));
    }

    #[test]
    fn of_headers_it_is_the_only_one() {
        let mut headers = Headers::default();
        assert_eq!(TraceParent::of(&headers), Ok(None));
        headers.push("Traceparent", EXAMPLE).unwrap();
        assert_eq!(TraceParent::of(&headers), EXAMPLE.parse().map(Some));
        headers.push(TRACEPARENT, EXAMPLE).unwrap();
        assert_eq!(TraceParent::of(&headers), Err(TraceError::Twice));
        let mut headers = Headers::default();
        headers.push(TRACEPARENT, "none").unwrap();
        assert_eq!(TraceParent::of(&headers), Err(TraceError::Form));
    }

    proptest::proptest! {
        #[test]
        fn any_two_ids_survive(trace: [u8; 16], parent: [u8; 8], sampled: bool) {
            if let Ok(made) = TraceParent::new(trace, parent, sampled) {
                proptest::prop_assert_eq!(made.to_string().parse(), Ok(made));
            }
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,70}") {
            if let Ok(read) = text.parse::<TraceParent>() {
                proptest::prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
