//! `cargo xtask bench`: ratios against baselines that are measured in the same run.
//!
//! Every ratio is speed against speed: above 1 we are faster than the baseline, below 1 slower.

pub mod append;
pub mod commit;
pub mod latency;
pub mod lookup;
pub mod memory;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which parts of [`PARTS`]; none for all.
    pub only: Vec<String>,
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
    /// Single events, by each way.
    pub singles: usize,
    /// Users minted by the JavaScript packages in a round.
    pub wasm_mints: usize,
    /// Rounds of that.
    pub wasm_rounds: usize,
    /// Users of the large registry that is looked into.
    pub users: u64,
    /// Look-ups in a round, in each registry.
    pub lookups: usize,
    /// Rounds of that.
    pub lookup_rounds: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            only: Vec::new(),
            mints: 2_000,
            commits: 40,
            rounds: 15,
            events: 100_000,
            append_rounds: 3,
            singles: 200,
            wasm_mints: 30,
            wasm_rounds: 7,
            users: 1_000_000,
            lookups: 20,
            lookup_rounds: 9,
        }
    }
}

/// What can be measured by itself. `memory` and `lookup` are measured only where they are named: what they need takes minutes
/// to make.
pub const PARTS: [&str; 9] =
    ["mint", "mint-wasm", "page", "commit", "append", "append-sync-always", "latency", "memory", "lookup"];

/// One ratio and what it comes from.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    name: &'static str,
    pair: Pair,
    /// What is counted, by us and by the baseline: for people, and as names of figures.
    words: (&'static str, &'static str),
    figures: (&'static str, &'static str),
    raw: Value,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    measured: Vec<Measured>,
    /// Bytes of the page's first load, and of the wasm in it, compressed.
    page: Option<(u64, u64)>,
    memory: Option<memory::Outcome>,
    /// Bytes of memory that a look-up took at most.
    lookup_peak: Option<u64>,
}

/// Measures all of it. `progress` hears what is being done, and how far it is where that takes long.
///
/// # Panics
/// When anything of it fails: a figure of something that did not work is none.
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Report {
    let wanted = |part: &str| plan.only.is_empty() || plan.only.iter().any(|name| name == part);
    let mut measured = Vec::new();
    if wanted("mint") {
        progress("minting");
        measured.push(Measured {
            name: "mint_vs_nkeys_crate_1core",
            pair: mint::measure(plan.mints, plan.rounds),
            words: ("users minted", "with the nkeys crate"),
            figures: ("core_per_second", "nkeys_per_second"),
            raw: json!({ "users_a_round": plan.mints }),
        });
    }
    if wanted("mint-wasm") {
        progress("minting in Node");
        measured.push(Measured {
            name: "mint_wasm_vs_nkeys_js",
            pair: wasm::mint(plan.wasm_mints, plan.wasm_rounds),
            words: ("users minted in Node", "with @nats-io/nkeys and jwt"),
            figures: ("wasm_per_second", "nkeys_js_per_second"),
            raw: json!({ "users_a_round": plan.wasm_mints }),
        });
    }
    let page = wanted("page").then(wasm::page_bytes);
    if wanted("commit") {
        progress("committing");
        let commit::Outcome { pair, bytes } = commit::measure(plan.commits, plan.rounds);
        measured.push(Measured {
            name: "commit_vs_fdatasync",
            pair,
            words: ("commits", "fdatasyncs of as many bytes"),
            figures: ("commits_per_second", "fdatasyncs_per_second"),
            raw: json!({ "bytes": bytes, "commits_a_round": plan.commits }),
        });
    }
    let needs_memory = plan.only.iter().any(|name| name == "memory");
    let mut memory = None;
    if wanted("append") || wanted("append-sync-always") || needs_memory {
        let journal = Journal::prepare(plan.events, |done| {
            if done.is_multiple_of(100) {
                progress(&format!("making events, one commit each: {done} of {}", plan.events));
            }
        });
        let mut append = |name: &'static str, sync_always: bool| {
            let pair = append::measure(&journal, sync_always, plan.append_rounds);
            measured.push(Measured {
                name,
                pair,
                words: ("events through sync", "with async-nats inside KEYS"),
                figures: ("sync_per_second", "async_nats_per_second"),
                raw: json!({
                    "events": journal.events,
                    "message_bytes": journal.bytes,
                    "payload_bytes": journal.payload,
                    "in_flight": append::IN_FLIGHT,
                }),
            });
        };
        if wanted("append") {
            progress("appending, default sync_interval");
            append("append_vs_async_nats", false);
        }
        if wanted("append-sync-always") {
            progress("appending, sync_interval always");
            append("append_sync_always_vs_async_nats", true);
        }
        if needs_memory {
            progress("publishing in a process of its own");
            memory = Some(memory::measure(&journal));
        }
    }
    if wanted("latency") {
        progress("single events");
        measured.push(Measured {
            name: "single_latency_vs_floor",
            pair: latency::measure(plan.singles),
            words: ("events one by one", "fdatasyncs with a publish each"),
            figures: ("sync_per_second", "floor_per_second"),
            raw: json!({ "events": plan.singles }),
        });
    }
    let mut lookup_peak = None;
    if plan.only.iter().any(|name| name == "lookup") {
        let lookup::Outcome { now, past, users, peak } =
            lookup::measure(plan.users, plan.lookups, plan.lookup_rounds, |done| {
                progress(&format!("making users: {done} of {}", plan.users));
            });
        lookup_peak = Some(peak);
        for (name, pair) in [("lookup_1m_vs_1k", now), ("lookup_at_1m_vs_1k", past)] {
            measured.push(Measured {
                name,
                pair,
                words: ("users shown in the large registry", "in one of a thousand"),
                figures: ("large_per_second", "small_per_second"),
                raw: json!({ "users": users, "lookups_a_round": plan.lookups }),
            });
        }
    }
    Report { measured, page, memory, lookup_peak }
}

impl Report {
    /// The ratios by name, in the order of the report.
    pub fn ratios(&self) -> Vec<(&'static str, f64)> {
        self.measured.iter().map(|one| (one.name, one.pair.ratio())).collect()
    }

    /// One object: `ratios` by name, and under `raw`, by the same names, what they come from.
    pub fn to_json(&self) -> Value {
        let ratios: serde_json::Map<String, Value> =
            self.ratios().into_iter().map(|(name, ratio)| (name.to_owned(), json!(ratio))).collect();
        let mut raw = serde_json::Map::new();
        for one in &self.measured {
            let mut figures = figures(&one.pair, one.figures.0, one.figures.1);
            for (name, value) in one.raw.as_object().into_iter().flatten() {
                figures[name] = value.clone();
            }
            raw.insert(one.name.to_owned(), figures);
        }
        raw.insert("nats_server".into(), json!(Version::Newest.number()));
        raw.insert("cores".into(), json!(std::thread::available_parallelism().map_or(1, usize::from)));
        let mut all = json!({ "ratios": ratios, "raw": raw });
        if let Some((page, wasm)) = self.page {
            all["page_gzip_bytes"] = json!(page);
            all["wasm_gzip_bytes"] = json!(wasm);
        }
        if let Some(memory) = &self.memory {
            all["drain_peak_bytes"] = json!(memory.peak);
            all["drain_events"] = json!(memory.events);
        }
        if let Some(peak) = self.lookup_peak {
            all["lookup_peak_bytes"] = json!(peak);
        }
        all
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
        for one in &self.measured {
            let (own, other) = (one.pair.ours_per_second(), one.pair.baseline_per_second());
            let (ratio, (ours, baseline)) = (one.pair.ratio(), one.words);
            writeln!(f, "{:<34} {ratio:>6.3}   {own:>7.0}/s {ours}, {other:>7.0}/s {baseline}", one.name)?;
        }
        if let Some((page, wasm)) = self.page {
            writeln!(f, "first load {page} bytes gzip, wasm {wasm} of them")?;
        }
        if let Some(memory::Outcome { events, peak }) = &self.memory {
            writeln!(f, "publishing {events} events took {} MB of memory at most", peak / 1_000_000)?;
        }
        if let Some(peak) = self.lookup_peak {
            writeln!(f, "showing a user took {} MB of memory at most", peak / 1_000_000)?;
        }
        write!(f, "above 1 is faster; medians of rounds in turns")
    }
}
