//! Plans as people write them: carried out the same each time, or refused with what to do next and nothing shown.

use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};

struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

fn run(words: &[&str], plan: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cim-keys-sandbox"))
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its words does not read the plan.
    let _ = child.stdin.take().unwrap().write_all(plan.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Pieces that look random, in hex.
fn entropy(pieces: u32) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    (0..pieces * 4).map(|_| word()).collect()
}

/// A founding, an account, two users: 12 + 3 + 4 pieces.
fn plan() -> Value {
    json!({
        "now": "2026-11-24T15:00:00.000Z",
        "actor": "sandbox",
        "entropy": entropy(22),
        "operator": "Example",
        "accounts": [{ "name": "APP", "users": [{ "name": "alice", "publish": ["a.>"] }, { "name": "bob" }] }],
    })
}

#[test]
fn equal_plans_give_equal_bytes_and_each_verb_its_part() {
    let text = plan().to_string();
    let bundle = run(&["bundle"], &text);
    assert_eq!((bundle.status, bundle.stderr.as_str()), (0, ""));
    assert_eq!(run(&["bundle"], &text).stdout, bundle.stdout);
    let read = cim_keys_core::bundle::decode(bundle.stdout.as_bytes()).unwrap();
    assert_eq!((read.commands.len(), read.founds()), (4, true));
    read.verify().unwrap();

    let seeds = run(&["secret-seeds"], &text).stdout;
    assert_eq!(seeds.lines().count(), 18);
    for line in seeds.lines() {
        let (seed, rest) = line.split_once(' ').unwrap();
        let pair = cim_keys_core::nkey::KeyPair::from_seed(seed).unwrap();
        assert_eq!(rest.split_once(' ').unwrap().0, pair.public_key().to_string());
        assert!(!bundle.stdout.contains(seed), "a seed in the bundle");
    }
    let creds = cim_keys_core::creds::parse(&run(&["secret-creds", "APP/alice"], &text).stdout).unwrap();
    assert!(seeds.contains(&format!(" {} # user APP/alice\n", creds.key.public_key())));
    // More entropy than is needed changes nothing.
    let mut more = plan();
    more["entropy"] = entropy(25).into();
    assert_eq!(run(&["bundle"], &more.to_string()).stdout, bundle.stdout);
    // Anything else does.
    let mut later = plan();
    later["now"] = "2026-11-24T15:00:00.001Z".into();
    assert_ne!(run(&["bundle"], &later.to_string()).stdout, bundle.stdout);
}

#[test]
fn bad_plans_make_nothing_and_say_what_to_do() {
    let secret = entropy(22);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut plan = plan();
        change(&mut plan);
        plan.to_string()
    };
    let put = |name: &'static str, value: Value| with(&move |plan| plan[name] = value.clone());
    let pattern = secret[..64 * 3].to_owned() + &"0123456789abcdef".repeat(4) + &secret[64 * 4..];
    let repeated = secret[..64 * 3].to_owned() + &secret[..64] + &secret[64 * 4..];
    let cases: &[(&[&str], String, i32, &str)] = &[
        (&["bundle"], put("entropy", entropy(21).into()), 3, "1408 hex characters"),
        (&["bundle"], put("entropy", "".into()), 3, "brings 0 pieces of entropy and needs 22"),
        (&["bundle"], put("entropy", secret[1..].into()), 3, "64 characters"),
        (&["bundle"], put("entropy", format!("g{}", &secret[1..]).into()), 3, "hex"),
        (&["bundle"], put("entropy", json!([secret])), 3, "another kind of value"),
        (
            &["bundle"],
            put("entropy", pattern.into()),
            3,
            "piece 4 of the entropy: the random source gave a pattern of 8 bytes",
        ),
        (&["secret-seeds"], put("entropy", repeated.into()), 3, "piece 4 of the entropy is a repetition"),
        (&["bundle"], put("now", "2026-11-24".into()), 3, "2026-11-23T18:00:00.000Z"),
        (&["bundle"], put("actor", "".into()), 3, "an actor is"),
        (&["bundle"], put("namespace", "one".into()), 3, "in line 1"),
        (&["bundle"], put("operator", "".into()), 3, "operator \"\""),
        (&["bundle"], put("accounts", secret.clone().into()), 3, "another kind of value"),
        (&["bundle"], put("seed", "x".into()), 3, "unknown field `seed`"),
        (&["bundle"], with(&|plan| plan["accounts"][0]["name"] = "SYS".into()), 3, "\"SYS\" is taken"),
        (
            &["bundle"],
            with(&|plan| plan["accounts"][0]["users"][1]["name"] = "alice".into()),
            3,
            "user \"alice\"",
        ),
        (
            &["bundle"],
            with(&|plan| plan["accounts"][0]["users"][0]["publish"][0] = "a..b".into()),
            3,
            "user \"alice\"",
        ),
        (&["bundle"], with(&|plan| plan["accounts"][0]["users"][0]["expires"] = 7.into()), 3, "expired"),
        (&["bundle"], "{".into(), 3, "in line 1"),
        (&["bundle"], String::new(), 3, "in line 1"),
        (&["secret-creds", "APP/carol"], plan().to_string(), 3, "ACCOUNT/USER"),
        (&["secret-creds", "SYS/alice"], plan().to_string(), 3, "no user \"alice\""),
        (&["secret-creds", "alice"], plan().to_string(), 2, "help"),
        (&["secret-creds"], plan().to_string(), 2, "help"),
        (&[], plan().to_string(), 2, "help"),
        (&["bundle", "more"], plan().to_string(), 2, "help"),
    ];
    for (words, plan, status, word) in cases {
        let ran = run(words, plan);
        assert_eq!(ran.status, *status, "{words:?} {word}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{words:?} does not say {word:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
        assert!(
            (0..22).all(|piece| !ran.stderr.contains(&secret[piece * 64..piece * 64 + 16])),
            "entropy is shown"
        );
    }
    assert!(run(&["help"], "").stdout.contains("secret-creds ACCOUNT/USER"));
}
