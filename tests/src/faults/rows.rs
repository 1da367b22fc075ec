//! The table.

use super::{
    NotRun, Run, consumers, damage, denied, entropy, entry, foreign, journals, kills, projections, servers,
    wires, writers,
};

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
    /// Whether it says how long something takes: then nothing else runs beside it.
    pub timed: bool,
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
    Row { number, fault, full, quick, timed: false, play }
}

impl Row {
    const fn timed(self) -> Row {
        Row { timed: true, ..self }
    }
}

/// All rows.
pub const ROWS: &[Row] = &[
    row(
        "1",
        "SIGKILL of the host at random instants while it creates and publishes",
        200,
        30,
        kills::at_any_moment,
    ),
    row(
        "1b",
        "SIGKILL while projections are folded and made anew",
        200,
        8,
        projections::killed_while_folding,
    ),
    row(
        "2",
        "abort at each named step of sync and store, three times",
        kills::STEPS,
        kills::STEPS / 3,
        kills::at_each_step,
    ),
    row("3", "acknowledgement eaten by a proxy", 300, 25, wires::answers_eaten),
    row("4", "connection cut before, inside, after a publish", 200, 24, wires::connections_cut),
    row("5", "publish queued in the client, server back after the time-out", 50, 6, wires::publish_queued),
    row("6", "server SIGKILL and restart (R1)", 100, 15, servers::killed),
    row("7", "three nodes, leader killed every 4 to 8 s, two writers", 15, 2, writers::leaders_killed),
    row("8", "quorum lost for 20 s in the middle of a publish, then healed", 3, 1, writers::quorum_lost),
    row("9", "server frozen 5 and 20 s, slow acknowledgements 0.1 to 10 s", 10, 3, wires::slow_server),
    row(
        "10",
        "a day-old journal again after the duplicate window; bundles twice, in parts, in another order, by two hosts",
        100,
        20,
        journals::published_again,
    ),
    row("11", "two hosts without a network contradict each other", 200, 24, journals::contradictions),
    row(
        "11b",
        "a far host against a near one that appends 50 a second, then in bulk",
        200,
        40,
        writers::far_and_near,
    )
    .timed(),
    row("12", "journal truncated, bit-flipped, foreign, of a newer schema", 300, 40, damage::journals),
    row("13", "creds, JWT, nkey: every byte changed once", 1, 1, damage::secrets),
    row("14", "stream missing, deleted and re-created, each setting wrong", 12, 12, servers::wrong_streams),
    row("15", "server's disk full, freed, restarted", 2, 1, servers::full_disk),
    row(
        "16",
        "creds expired, not yet valid, user revoked, account deleted while connected",
        10,
        5,
        entry::creds_that_end,
    ),
    row("17", "permission denied on publish, JetStream API, inbox, acknowledgement", 6, 6, denied::denied),
    row(
        "18",
        "consumer's worker killed before and after it handled and acknowledged; consumer paused, deleted, far behind",
        200,
        20,
        consumers::workers_killed,
    ),
    row(
        "19",
        "poison message, handler that always fails, no stream of dead letters, message that kills its worker",
        10,
        4,
        consumers::not_handled,
    ),
    row(
        "20",
        "entropy source fails, is short, zero, constant, repeating",
        entropy::WAYS,
        entropy::WAYS,
        entropy::broken,
    ),
    row("22", "foreign messages on the stream", 40, 16, foreign::messages),
];
