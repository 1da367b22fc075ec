//! How far a long run has come: a line on a terminal that is drawn over.

use super::output::Output;
use crate::store::Store;
use std::cell::Cell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;
use tokio::time::Instant;

/// Between two drawings; short runs draw nothing.
pub(super) const STEP: Duration = Duration::from_millis(500);
/// Characters of the bar itself.
const WIDTH: u64 = 24;

/// Draws how many pending commands are published, on stderr, where that is a terminal and data is text.
pub(super) struct Bar<'a> {
    store: &'a Store,
    shown: bool,
    drawn: Cell<bool>,
}

impl<'a> Bar<'a> {
    pub(super) fn new(store: &'a Store, output: Output) -> Self {
        let shown = !output.is_json() && !output.is_log() && io::stderr().is_terminal();
        Self { store, shown, drawn: Cell::new(false) }
    }

    /// Draws beside something that takes its time.
    pub(super) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.shown {
            return work.await;
        }
        let began = Instant::now();
        let total = self.store.pending().unwrap_or_default();
        let mut step = tokio::time::interval_at(began + STEP, STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = step.tick() => self.draw(&self.publishing(total, began.elapsed())),
            }
        };
        self.clear();
        done
    }

    /// Takes the line away, for another one in its place.
    pub(super) fn clear(&self) {
        if self.drawn.replace(false) {
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(b"\r\x1b[K").and_then(|()| stderr.flush());
        }
    }

    /// How far it has come since there were `total` pending commands.
    pub(super) fn publishing(&self, total: u64, took: Duration) -> String {
        let left = self.store.pending().unwrap_or_default();
        let head = || self.store.progress().map(|progress| progress.head).unwrap_or_default();
        if total == 0 { format!("read up to {}", head()) } else { line(total, left, took) }
    }

    /// Whether lines are drawn at all.
    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Draws this line over the one before.
    pub(super) fn draw(&self, line: &str) {
        if !self.shown {
            return;
        }
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
        self.drawn.set(true);
    }
}

/// More may become pending meanwhile: what was there at first is what counts, until there is more than that.
fn line(total: u64, left: u64, took: Duration) -> String {
    let total = total.max(left);
    let done = total - left;
    let full = usize::try_from(done.saturating_mul(WIDTH) / total.max(1)).unwrap_or_default();
    let empty = usize::try_from(WIDTH).unwrap_or_default().saturating_sub(full);
    let (full, empty) = ("#".repeat(full), ".".repeat(empty));
    let rest = match took.as_secs().saturating_mul(left).checked_div(done) {
        Some(seconds) if seconds >= 120 => format!(", {} min left", seconds / 60),
        Some(seconds) if seconds > 0 => format!(", {seconds} s left"),
        _ => String::new(),
    };
    format!("[{full}{empty}] {done} of {total} commands published{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_has_come() {
        let after = |total, left, seconds| line(total, left, Duration::from_secs(seconds));
        assert_eq!(after(4, 4, 1), "[........................] 0 of 4 commands published");
        assert_eq!(after(100, 50, 10), "[############............] 50 of 100 commands published, 10 s left");
        assert_eq!(after(100, 1, 1), "[#######################.] 99 of 100 commands published");
        assert_eq!(
            after(1_000_000, 750_000, 100),
            "[######..................] 250000 of 1000000 commands published, 5 min left"
        );
        assert_eq!(after(2, 6, 1), "[........................] 0 of 6 commands published");
    }
}
