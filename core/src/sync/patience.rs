//! What each answer decides: how long to wait, and whether a person is needed. Never correctness.

use super::contract::{Failure, Moment, Reply};
use crate::rules::Reason;
use alloc::format;
use alloc::string::{String, ToString};

/// What follows from an answer that confirms nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Catch up at once: another writer was first.
    Conflict,
    /// Catch up after a short pause. The number of the answer, where it was an error.
    CatchUp(Option<u32>),
    /// The server cannot do it now: wait longer each time, then catch up. The breaker counts it.
    Wait(Reason),
    /// Wait longer each time, then catch up.
    Pause(Reason),
    /// Drop the connection, then wait and catch up: what was sent may be stored now, later or never.
    Reconnect(Reason),
    /// Stop until somebody changes something.
    Block(Reason),
    /// Hold this command; the others go on.
    Hold(Reason),
    /// An answer that nobody expected: catch up; after five, hold.
    Odd(u32),
}

/// First pause in milliseconds; it doubles with each failure in a row.
const BASE: u64 = 100;
/// Longest pause in milliseconds.
const CAP: u64 = 30_000;
/// How often a blocked machine looks again, in milliseconds.
pub(crate) const PROBE: u64 = 30_000;
/// Odd answers in a row before a command is held.
pub(crate) const ODD_LIMIT: u32 = 5;
/// Milliseconds of them before it is: what is odd for a moment only holds nothing.
pub(crate) const ODD_TIME: u64 = 10_000;

/// Milliseconds of appending in bulk before others get room, where others append too.
const BULK_AMONG_OTHERS: u64 = 1_000;
/// The same where nobody else was seen: who never gets in is not seen either.
const BULK_ALONE: u64 = 3_000;
/// Milliseconds without an append that are room enough.
const ROOM: u64 = 300;
/// Milliseconds for which another writer is remembered.
const OTHERS: u64 = 60_000;
/// Milliseconds after which losing to other writers is worth saying.
pub(super) const CONTENDED: u64 = 2_000;
/// Milliseconds after which a stream that is only followed is looked at.
pub(super) const LOOK: u64 = 30_000;

/// Whether a writer in bulk should let others in. `others` is when another writer was seen last.
pub(super) fn bulk_is_over(since: u64, others: Option<u64>, moment: &Moment) -> bool {
    let longest = if are_seen(others, moment) { BULK_AMONG_OTHERS } else { BULK_ALONE };
    moment.millis.saturating_sub(since) >= longest
}

/// Whether another writer was seen lately.
pub(super) fn are_seen(others: Option<u64>, moment: &Moment) -> bool {
    others.is_some_and(|at| moment.millis.saturating_sub(at) < OTHERS)
}

/// Whether so much time went by since the last append that others could get in.
pub(super) fn is_pause(sent_at: u64, moment: &Moment) -> bool {
    moment.millis.saturating_sub(sent_at) >= ROOM
}

/// How long it lets them: about half a second, twice as long with each rest in vain, up to four. Whoever reads and judges
/// more slowly than this one appends comes to the end in no shorter one.
pub(super) fn bulk_rest(in_vain: u32, moment: &Moment) -> u64 {
    (400 + seed(moment) % 200) << in_vain.min(3)
}

/// Full jitter: a random pause up to `BASE * 2^failures`, at most `CAP` milliseconds.
pub(crate) fn backoff(failures: u32, moment: &Moment) -> u64 {
    let ceiling = BASE.saturating_mul(1 << failures.min(10)).min(CAP);
    1 + seed(moment) % ceiling
}

/// A short pause with jitter, in milliseconds: up to 50 the first time, twice as long with each further append in vain.
pub(crate) fn pause(unsent: u32, moment: &Moment) -> u64 {
    let ceiling = (45_u64 << unsent.saturating_sub(1).min(10)).min(CAP);
    5 + seed(moment) % ceiling
}

/// A random number.
pub(super) fn seed(moment: &Moment) -> u64 {
    moment.random.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn reason(code: &str, text: String) -> Reason {
    Reason { code: code.to_string(), text }
}

/// A message that the server finds too large.
const TOO_LARGE: &str = "too-large";
/// A message that the server refuses again and again with a number that nobody knows.
pub(super) const REFUSES: &str = "server-refuses";

impl Reason {
    /// Whether it was a server that refused a held command. What the registry says changes nothing about that.
    #[must_use]
    pub fn is_by_server(&self) -> bool {
        [TOO_LARGE, REFUSES].contains(&self.code.as_str())
    }
}

fn old_or_wrong(code: u32) -> Reason {
    reason(
        "stream-settings",
        format!(
            "the server refuses to append ({code}): the stream lacks a setting or is another one; compare its settings"
        ),
    )
}

/// Judges the answer to a publish by its number.
pub(crate) fn after_reply(reply: &Reply) -> Next {
    match reply {
        Reply::Ack { .. } => Next::CatchUp(None),
        Reply::Error { code } => match code {
            10071 | 10164 => Next::Conflict,
            10158 | 10201 | 10176 | 10210 => Next::CatchUp(Some(*code)),
            10060 | 10174 => Next::Block(old_or_wrong(*code)),
            10059 => Next::Block(missing()),
            10054 | 10097 => {
                Next::Hold(reason(TOO_LARGE, format!("the server refuses a message of this size ({code})")))
            }
            // 10167 is the number of a 429.
            10002 | 10008 | 10023 | 10028 | 10047 | 10077 | 10167 | 429 => Next::Wait(reason(
                "resources",
                format!("the server is out of resources ({code}): see its disk and the account's limits"),
            )),
            other => Next::Odd(*other),
        },
        Reply::NoResponders => Next::Wait(unavailable()),
        Reply::Unknown => Next::Reconnect(reason("no-answer", "no answer in time".to_string())),
        Reply::Permission { subject } => Next::Block(permission(subject)),
        Reply::Authorization { reason: text } => Next::Block(authorization(text)),
    }
}

/// Judges why a read could not be done.
pub(crate) fn after_failure(failure: &Failure) -> Next {
    let reason = failure.reason();
    match failure {
        Failure::Unreachable => Next::Reconnect(reason),
        Failure::NoResponders => Next::Wait(reason),
        Failure::StreamMissing
        | Failure::Code { code: 10059 }
        | Failure::Permission { .. }
        | Failure::Authorization { .. } => Next::Block(reason),
        Failure::Code { .. } => Next::Pause(reason),
    }
}

impl Failure {
    /// What a person is told of it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable => {
                reason("unreachable", "the server cannot be reached or does not answer".to_string())
            }
            Self::NoResponders => unavailable(),
            Self::StreamMissing | Self::Code { code: 10059 } => missing(),
            Self::Permission { subject } => permission(subject),
            Self::Authorization { reason: text } => authorization(text),
            Self::Code { code } => reason("api", format!("the JetStream API answers with error {code}")),
        }
    }
}

/// What waits for several of these in a row is told. A server whose disk is full gives batches up as if they were
/// incomplete.
pub(super) const UNSETTLED: u32 = 3;

/// The server takes nothing, and does not say why.
pub(super) fn unsettled(code: Option<u32>) -> Reason {
    match code {
        Some(code) => reason(
            "resources",
            format!(
                "the server gives up what is appended ({code}): see its log, its disk and the account's limits"
            ),
        ),
        None => reason("no-answer", "the server did not say what came of it".to_string()),
    }
}

fn unavailable() -> Reason {
    reason(
        "no-responders",
        "nobody answers: the stream has no leader, or JetStream is off for this account".to_string(),
    )
}

fn missing() -> Reason {
    reason(
        "stream-missing",
        "the stream does not exist: the steward creates it (cim-keys up, or sync with the steward's creds)"
            .to_string(),
    )
}

fn permission(subject: &str) -> Reason {
    reason(
        "permission",
        format!("not permitted: {subject}; use creds whose role allows it (cim-keys access renew)"),
    )
}

fn authorization(text: &str) -> Reason {
    reason(
        "authorization",
        format!(
            "the server refuses the creds ({text}): renew them (cim-keys access renew), or push the account"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_in_vain_is_followed_by_a_longer_one() {
        for random in [[0; 16], [7; 16], [255; 16]] {
            let moment = Moment { millis: 0, random };
            let base = bulk_rest(0, &moment);
            assert!((400..600).contains(&base));
            let rests: alloc::vec::Vec<u64> =
                (1..6).map(|in_vain| bulk_rest(in_vain, &moment) / base).collect();
            assert_eq!(rests, [2, 4, 8, 8, 8]);
        }
    }
}
