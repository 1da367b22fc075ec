//! `cargo xtask bench`: ratios against baselines that are measured in the same run.
//!
//! Every ratio is speed against speed: above 1 we are faster than the baseline, below 1 slower.

pub mod append;
pub mod commit;
pub mod mint;
mod registry;
pub mod rounds;
pub mod wasm;

use std::fmt;

use serde_json::{Value, json};

use crate::tools::Version;
use append::Journal;
use rounds::Pair;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Users minted in a round, by each way.
    pub mints: usize,
    /// Commits in a round, and plain writes.
    pub commits: usize,
    /// Rounds of the two.
    pub rounds: usize,
    /// Events appended in a round, by each way.
    pub events: usize,
    /// Rounds of appending.
    pub append_rounds: usize,
    /// Users minted by the JavaScript packages in a round.
    pub wasm_mints: usize,
    /// Rounds of that.
    pub wasm_rounds: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            mints: 2_000,
            commits: 40,
            rounds: 15,
            events: 20_000,
            append_rounds: 3,
            wasm_mints: 30,
            wasm_rounds: 7,
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    plan: Plan,
    mint: Pair,
    mint_wasm: Pair,
    page_gzip_bytes: u64,
    wasm_gzip_bytes: u64,
    commit: commit::Outcome,
    append: Pair,
    append_sync_always: Pair,
    events: usize,
    bytes: usize,
}

/// Measures all of it. `progress` hears what is being done, and how far it is where that takes long.
///
/// # Panics
/// When anything of it fails: a figure of something that did not work is none.
pub fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Report {
    progress("minting");
    let mint = mint::measure(plan.mints, plan.rounds);
    progress("minting in Node");
    let mint_wasm = wasm::mint(plan.wasm_mints, plan.wasm_rounds);
    let (page_gzip_bytes, wasm_gzip_bytes) = wasm::page_bytes();
    progress("committing");
    let commit = commit::measure(plan.commits, plan.rounds);
    let journal = Journal::prepare(plan.events, |done| {
        if done.is_multiple_of(100) {
            progress(&format!("making events, one commit each: {done} of {}", plan.events));
        }
    });
    progress("appending, default sync_interval");
    let append = append::measure(&journal, false, plan.append_rounds);
    progress("appending, sync_interval always");
    let append_sync_always = append::measure(&journal, true, plan.append_rounds);
    let Journal { events, bytes, .. } = journal;
    Report {
        plan,
        mint,
        mint_wasm,
        page_gzip_bytes,
        wasm_gzip_bytes,
        commit,
        append,
        append_sync_always,
        events,
        bytes,
    }
}

impl Report {
    /// The ratios by name, in the order of the report.
    pub fn ratios(&self) -> [(&'static str, f64); 5] {
        [
            ("mint_vs_nkeys_crate_1core", self.mint.ratio()),
            ("mint_wasm_vs_nkeys_js", self.mint_wasm.ratio()),
            ("commit_vs_fdatasync", self.commit.pair.ratio()),
            ("append_vs_async_nats", self.append.ratio()),
            ("append_sync_always_vs_async_nats", self.append_sync_always.ratio()),
        ]
    }

    /// One object: `ratios` by name, and under `raw`, by the same names, what they come from.
    pub fn to_json(&self) -> Value {
        let ratios: serde_json::Map<String, Value> =
            self.ratios().into_iter().map(|(name, ratio)| (name.to_owned(), json!(ratio))).collect();
        let append = |pair: &Pair| {
            let mut raw = figures(pair, "sync_per_second", "async_nats_per_second");
            raw["events"] = json!(self.events);
            raw["message_bytes"] = json!(self.bytes);
            raw["in_flight"] = json!(append::IN_FLIGHT);
            raw
        };
        let mut commit = figures(&self.commit.pair, "commits_per_second", "fdatasyncs_per_second");
        commit["bytes"] = json!(self.commit.bytes);
        commit["commits_a_round"] = json!(self.plan.commits);
        let mut mint = figures(&self.mint, "core_per_second", "nkeys_per_second");
        mint["users_a_round"] = json!(self.plan.mints);
        let mut mint_wasm = figures(&self.mint_wasm, "wasm_per_second", "nkeys_js_per_second");
        mint_wasm["users_a_round"] = json!(self.plan.wasm_mints);
        json!({
            "ratios": ratios,
            "page_gzip_bytes": self.page_gzip_bytes,
            "wasm_gzip_bytes": self.wasm_gzip_bytes,
            "raw": {
                "mint_wasm_vs_nkeys_js": mint_wasm,
                "mint_vs_nkeys_crate_1core": mint,
                "commit_vs_fdatasync": commit,
                "append_vs_async_nats": append(&self.append),
                "append_sync_always_vs_async_nats": append(&self.append_sync_always),
                "nats_server": Version::Newest.number(),
                "cores": std::thread::available_parallelism().map_or(1, usize::from),
            },
        })
    }
}

fn figures(pair: &Pair, ours: &str, baseline: &str) -> Value {
    let rates = |seconds: &[f64]| seconds.iter().map(|one| rounded(1.0 / one)).collect::<Vec<_>>();
    json!({
        ours: rounded(pair.ours_per_second()),
        baseline: rounded(pair.baseline_per_second()),
        "rounds": { "ours": rates(&pair.ours), "baseline": rates(&pair.baseline) },
    })
}

fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [
            (&self.mint, "users minted", "with the nkeys crate"),
            (&self.mint_wasm, "users minted in Node", "with @nats-io/nkeys and jwt"),
            (&self.commit.pair, "commits", "fdatasyncs of as many bytes"),
            (&self.append, "events through sync", "with async-nats inside KEYS"),
            (&self.append_sync_always, "events through sync", "with async-nats inside KEYS"),
        ];
        for ((name, ratio), (pair, ours, baseline)) in self.ratios().into_iter().zip(pairs) {
            let (own, other) = (pair.ours_per_second(), pair.baseline_per_second());
            writeln!(f, "{name:<34} {ratio:>6.3}   {own:>7.0}/s {ours}, {other:>7.0}/s {baseline}")?;
        }
        writeln!(f, "first load {} bytes gzip, wasm {} of them", self.page_gzip_bytes, self.wasm_gzip_bytes)?;
        let Plan { rounds, append_rounds, .. } = self.plan;
        write!(
            f,
            "above 1 is faster; medians of {rounds} rounds ({append_rounds} of appending) in turns; \
             {} events of {} bytes, {} bytes a commit",
            self.events, self.bytes, self.commit.bytes
        )
    }
}
