//! The benchmark runs to its end with tiny counts and says what it promises. How fast anything is does not count here.
// What a page loads first is measured on a built page.
#![cfg(feature = "page")]

use cim_keys_tests::bench::{Plan, run};

const RATIOS: [&str; 6] = [
    "mint_wasm_vs_nkeys_js",
    "mint_vs_nkeys_crate_1core",
    "commit_vs_fdatasync",
    "append_vs_async_nats",
    "append_sync_always_vs_async_nats",
    "single_latency_vs_floor",
];

#[test]
fn the_report_has_every_ratio_and_what_it_comes_from() {
    let plan = Plan {
        only: Vec::new(),
        mints: 2,
        commits: 2,
        rounds: 2,
        events: 20,
        append_rounds: 1,
        singles: 3,
        wasm_mints: 1,
        wasm_rounds: 1,
        ..Plan::default()
    };
    let mut told = Vec::new();
    let report = run(&plan, |what| told.push(what.to_owned()));
    assert!(told.len() >= 4, "{told:?}");
    let json = report.to_json();
    assert_eq!(json["ratios"].as_object().unwrap().len(), RATIOS.len());
    for name in RATIOS {
        assert!(json["ratios"][name].as_f64().unwrap() > 0.0, "{json}");
        let raw = json["raw"][name].as_object().unwrap();
        let rates: Vec<f64> = raw
            .iter()
            .filter(|(key, _)| key.ends_with("_per_second"))
            .filter_map(|(_, v)| v.as_f64())
            .collect();
        assert!(rates.len() == 2 && rates.iter().all(|rate| *rate > 0.0), "{json}");
        assert!(report.to_string().contains(name));
    }
    let bytes = |name: &str| json[name].as_u64().unwrap();
    assert!(bytes("page_gzip_bytes") > bytes("wasm_gzip_bytes") && bytes("wasm_gzip_bytes") > 10_000);
    assert!(json["raw"]["append_vs_async_nats"]["events"].as_u64().unwrap() >= 20);
    assert!(json["raw"]["commit_vs_fdatasync"]["bytes"].as_u64().unwrap() > 1000);
}

#[test]
fn users_are_looked_up_in_registries_of_two_sizes() {
    let plan =
        Plan { only: vec!["lookup".into()], users: 3_000, lookups: 2, lookup_rounds: 1, ..Plan::default() };
    let json = run(&plan, |_| {}).to_json();
    for name in ["lookup_1m_vs_1k", "lookup_at_1m_vs_1k"] {
        assert!(json["ratios"][name].as_f64().unwrap() > 0.0, "{json}");
        assert_eq!(json["raw"][name]["users"], 3_000);
    }
    let peak = json["lookup_peak_bytes"].as_u64().unwrap();
    assert!((1_000_000..100_000_000).contains(&peak), "{peak} bytes");
}
