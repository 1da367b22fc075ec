//! What must hold whatever happens.

use std::fmt;

/// One of the ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// What was reported as done is on the stream, or visibly pending, held or blocked.
    I1,
    /// At most one message per event id.
    I2,
    /// Each command's events are contiguous and in order.
    I3,
    /// A confirmed event is at its sequence with its bytes.
    I4,
    /// A projection equals the reference fold.
    I5,
    /// No secret outside its sealed place.
    I6,
    /// Files are old or new, mode 0600, no temporary one left.
    I7,
    /// Bounded time, memory, retries.
    I8,
    /// Drained within 60 s after healing.
    I9,
    /// Core output is deterministic.
    I10,
}

impl Invariant {
    /// All, with what they say.
    pub const ALL: [(Invariant, &'static str); 10] = [
        (Invariant::I1, "what was reported as done is on the stream, or visibly pending, held or blocked"),
        (Invariant::I2, "at most one message per event id"),
        (Invariant::I3, "each command's events are contiguous and in order"),
        (Invariant::I4, "a confirmed event is at its sequence with its bytes"),
        (Invariant::I5, "a projection equals the reference fold"),
        (Invariant::I6, "no secret outside its sealed place"),
        (Invariant::I7, "files are old or new, mode 0600, no temporary one left"),
        (Invariant::I8, "bounded time, memory, retries"),
        (Invariant::I9, "drained within 60 s after healing"),
        (Invariant::I10, "core output is deterministic"),
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
