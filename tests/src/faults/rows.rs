//! The table.

use super::{NotRun, Run, servers, wires};

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its number.
    pub number: &'static str,
    /// The fault.
    pub fault: &'static str,
    /// How often it happens.
    pub full: usize,
    /// How often it happens on the smaller scale.
    pub quick: usize,
    /// Makes it happen.
    pub play: fn(&mut Run) -> Result<(), NotRun>,
}

const fn row(
    number: &'static str,
    fault: &'static str,
    full: usize,
    quick: usize,
    play: fn(&mut Run) -> Result<(), NotRun>,
) -> Row {
    Row { number, fault, full, quick, play }
}

/// All rows.
pub const ROWS: &[Row] = &[
    row("3", "acknowledgement eaten by a proxy", 300, 25, wires::answers_eaten),
    row("4", "connection cut before, inside, after a publish", 200, 24, wires::connections_cut),
    row("5", "publish queued in the client, server back after the time-out", 50, 6, wires::publish_queued),
    row("6", "server SIGKILL and restart (R1)", 100, 15, servers::killed),
    row("9", "server frozen 5 and 20 s, slow acknowledgements 0.1 to 10 s", 10, 3, wires::slow_server),
    row("14", "stream missing, deleted and re-created, each setting wrong", 12, 12, servers::wrong_streams),
    row("15", "server's disk full, freed, restarted", 2, 1, servers::full_disk),
];
