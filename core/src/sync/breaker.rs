//! The circuit breaker: a server that fails too often is asked less. Only failures of availability and resources count.

use super::contract::Moment;
use super::patience::seed;
use alloc::collections::VecDeque;

/// Failures in a row that open it.
const ROW: u32 = 5;
/// So many of the last answers are looked at.
const WINDOW: usize = 20;
/// Milliseconds: older answers do not count.
const AGE: u64 = 30_000;
/// Milliseconds that it stays open the first time; twice as long each further time.
const OPEN: u64 = 2_000;
/// Milliseconds that it stays open at most: once the server is well again, everything is to be drained within a minute, and
/// the attempt that opened it may have taken a part of that.
const CAP: u64 = 40_000;
/// Successes in a row that close it.
const CLOSE: u32 = 3;

/// Whether the server may be asked as usual.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// When, and whether it went well; oldest first.
    answers: VecDeque<(u64, bool)>,
    row: u32,
    phase: Phase,
    /// Times it opened since it was closed.
    opened: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    Half {
        successes: u32,
    },
}

impl Breaker {
    /// Whether the server is tried out: one command at a time.
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::Half { .. })
    }

    /// Whether the server is left alone.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The time that it was open for is over.
    pub(crate) fn try_out(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Half { successes: 0 };
        }
    }

    /// An answer came that says nothing against the server.
    pub(crate) fn success(&mut self, moment: &Moment) {
        self.row = 0;
        self.note(moment, true);
        if let Phase::Half { successes } = self.phase {
            let successes = successes + 1;
            self.phase = Phase::Half { successes };
            if successes >= CLOSE {
                *self = Self::default();
            }
        }
    }

    /// The server failed. How long to leave it alone, in milliseconds, where it opens.
    pub(crate) fn failure(&mut self, moment: &Moment) -> Option<u64> {
        self.row = self.row.saturating_add(1);
        self.note(moment, false);
        let bad = self.answers.iter().filter(|(_, good)| !good).count();
        let often = self.answers.len() == WINDOW && bad * 2 >= WINDOW;
        let opens = match self.phase {
            Phase::Closed => self.row >= ROW || often,
            Phase::Half { .. } => true,
            Phase::Open => false,
        };
        if !opens {
            return None;
        }
        let longest = OPEN.saturating_mul(1 << self.opened.min(10)).min(CAP);
        self.opened = self.opened.saturating_add(1);
        self.phase = Phase::Open;
        Some(longest / 2 + seed(moment) % (longest / 2))
    }

    fn note(&mut self, moment: &Moment, good: bool) {
        self.answers.push_back((moment.millis, good));
        let since = moment.millis.saturating_sub(AGE);
        while self.answers.len() > WINDOW || self.answers.front().is_some_and(|(at, _)| *at < since) {
            self.answers.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment { millis, random: [7; 16] }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_three_successes_close_it() {
        let mut breaker = Breaker::default();
        for millis in 0..4 {
            assert_eq!(breaker.failure(&at(millis)), None);
        }
        let first = breaker.failure(&at(4)).unwrap_or_default();
        assert!((1_000..=2_000).contains(&first), "{first}");
        breaker.try_out();
        assert!(breaker.is_half_open());
        let second = breaker.failure(&at(3_000)).unwrap_or_default();
        assert!((2_000..=4_000).contains(&second), "{second}");
        breaker.try_out();
        for millis in 0..3 {
            assert!(breaker.is_half_open());
            breaker.success(&at(8_000 + millis));
        }
        assert!(!breaker.is_half_open());
        assert_eq!(breaker.failure(&at(9_000)), None);
    }

    #[test]
    fn half_of_the_last_twenty_open_it_and_old_ones_do_not_count() {
        let mut breaker = Breaker::default();
        for turn in 0..9 {
            assert_eq!(breaker.failure(&at(turn * 10)), None);
            breaker.success(&at(turn * 10 + 5));
        }
        breaker.success(&at(95));
        assert!(breaker.failure(&at(96)).is_some());
        let mut breaker = Breaker::default();
        for turn in 0..100 {
            assert_eq!(breaker.failure(&at(turn * 4_000)), None);
            breaker.success(&at(turn * 4_000 + 1));
        }
    }

    #[test]
    fn it_is_never_open_for_so_long_that_a_minute_is_over_before_all_is_drained() {
        let mut breaker = Breaker::default();
        for turn in 0..40 {
            if let Some(millis) = breaker.failure(&at(turn * 100_000)) {
                assert!(millis <= 40_000, "{millis}");
            }
            breaker.try_out();
        }
    }
}
