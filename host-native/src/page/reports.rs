//! What browsers report that the page's policy refused: kept in memory, for whoever looks after the page.

use serde_json::Value;
use std::collections::VecDeque;

/// Reports that are kept; older ones make room.
const KEPT: usize = 100;

/// The newest reports, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Reports {
    kept: VecDeque<Value>,
    count: u64,
}

impl Reports {
    /// One more.
    pub(super) fn add(&mut self, report: Value) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(report);
        self.count = self.count.saturating_add(1);
    }

    /// How many there were in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Those kept as a list, oldest first.
    pub(super) fn list(&self) -> Value {
        self.kept.iter().cloned().collect()
    }
}
