//! `key`, with and without a registry.

use crate::tool::{Tool, mode, text};
use cim_keys_core::nkey::KeyPair;
use std::fs;

#[test]
fn without_a_registry_it_is_a_plain_tool() {
    let tool = Tool::new();
    for (kind, letter) in [
        ("operator", 'O'),
        ("account", 'A'),
        ("user", 'U'),
        ("server", 'N'),
        ("cluster", 'C'),
        ("curve", 'X'),
    ] {
        let file = format!("{kind}.nk");
        let public = tool.ok(&["key", "generate", kind, "--out", &file]);
        assert!(public.starts_with(letter) && public.trim_end().len() == 56, "{public}");
        let seed = fs::read_to_string(tool.path(&file)).unwrap();
        assert_eq!(KeyPair::from_seed(&seed).unwrap().public_key().to_string(), public.trim_end());
        assert_eq!((seed.len(), mode(&tool.path(&file))), (58, 0o600));
    }
    let shown = tool.ok(&["key", "generate", "user", "--show-seed"]);
    let (seed, public) = shown.trim_end().split_once('\n').unwrap();
    assert_eq!(KeyPair::from_seed(seed).unwrap().public_key().to_string(), public);
    let nowhere = tool.run(&["key", "generate", "user"]);
    assert_eq!((nowhere.status, nowhere.stdout.as_str()), (2, ""));
    assert!(nowhere.stderr.contains("--out"), "{}", nowhere.stderr);
    assert!(!tool.path(".local").exists() && !tool.path(".config").exists());
    // Nor does it need a home folder.
    let homeless =
        tool.command(&["key", "generate", "user", "--show-seed"]).env_remove("HOME").output().unwrap();
    assert!(homeless.status.success());
}

#[test]
fn signing_keys_are_listed_and_revoked() {
    let tool = Tool::founded();
    let made = tool.json(&["key", "generate", "--owner", "APP", "--label", "second"]);
    let key = text(&made, "/public_key");
    assert!(key.starts_with('A') && made["not_enforced"][0] == "APP");
    let listed = tool.json(&["key", "list", "--owner", "APP"]);
    let row =
        listed["keys"].as_array().unwrap().iter().find(|row| row["public_key"] == key.as_str()).unwrap();
    assert!(row["seed_kept"] == true && row["name"] == "second" && row["parent_name"] == "APP");
    tool.ok(&["key", "revoke", "second"]);
    let again = tool.run(&["key", "revoke", &key]);
    assert_eq!(again.status, 5, "{}", again.stderr);
    let account = tool.json(&["show", "APP"]);
    assert!(!account["signing_keys"].to_string().contains(&key));
    // The operator's own.
    let operator = tool.run(&["key", "generate", "--owner", "operator"]);
    assert!(operator.status == 0 && operator.stderr.contains("restarted"), "{}", operator.stderr);
    assert!(operator.stdout.starts_with('O'));
}

#[test]
fn free_keys_are_known_and_kept() {
    let tool = Tool::founded();
    let made = tool.json(&["key", "generate", "curve", "--label", "seal", "--out", "seal.nk"]);
    let key = text(&made, "/public_key");
    assert!(fs::read_to_string(tool.path("seal.nk")).unwrap().starts_with("SX"));
    assert_eq!(text(&tool.json(&["show", "seal"]), "/public_key"), key);
    tool.ok(&["key", "revoke", &key]);
    assert!(tool.json(&["show", &key])["revoked_at"].is_i64());
}

#[test]
fn identities_cannot_be_revoked_and_users_keys_are_users() {
    let tool = Tool::founded();
    let account = text(&tool.json(&["show", "APP"]), "/public_key");
    let operator = text(&tool.json(&["status"]), "/operator");
    for (key, word) in [(account.as_str(), "account"), ("APP", "account"), (operator.as_str(), "operator")] {
        let ran = tool.run(&["key", "revoke", key]);
        assert_eq!(ran.status, 5, "{}", ran.stderr);
        assert!(ran.stderr.contains(word) && ran.stderr.contains("identity"), "{}", ran.stderr);
    }
    let user = text(&tool.json(&["user", "create", "alice", "-a", "APP"]), "/user/public_key");
    tool.ok(&["key", "revoke", &user]);
    assert!(tool.json(&["show", "alice"])["revoked_at"].is_i64());
}

#[test]
fn escrow_gets_every_seed_too() {
    let tool = Tool::new();
    // Any identity's public half serves; another registry's is at hand.
    tool.ok(&["init", "--registry", "other", "--identity", "escrow.age"]);
    let text = fs::read_to_string(tool.path("escrow.age")).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    tool.ok(&["init", "--escrow", &recipient]);
    tool.ok(&["account", "create", "APP"]);
    // The host's own identity is lost: whoever holds the escrow signs.
    fs::remove_file(tool.path(".config/cim-keys/identity.age")).unwrap();
    assert_eq!(tool.run(&["account", "create", "B"]).status, 6);
    tool.ok(&["account", "create", "B", "--identity", "escrow.age"]);
}

#[test]
fn a_key_of_its_own_is_listed_and_what_comes_next_is_said_in_order() {
    let tool = Tool::founded();
    let made = tool.run(&["key", "generate", "account", "--own"]);
    let key = made.stdout.trim_end().to_owned();
    let places: Vec<usize> = ["key add", "cim-keys sync, then cim-keys push", "then here: cim-keys sync"]
        .iter()
        .map(|words| made.stderr.find(words).unwrap())
        .collect();
    assert!(places.is_sorted(), "{}", made.stderr);
    // Nobody knows it yet: it is shown beside those that the registry has,
    for words in [&["list", "keys"][..], &["key", "list"]] {
        let text = tool.ok(words);
        let row = text.lines().find(|line| line.contains(&key)).unwrap();
        assert!(row.contains("account") && row.ends_with("own, not added"), "{row}");
        let json = tool.json(words);
        assert_eq!(json["own_keys"][0]["public_key"], key.as_str(), "{json}");
        let lines = tool.ok(&[words, &["--output", "jsonl"]].concat());
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert!(last["public_key"] == key.as_str() && last["marks"][0] == "own, not added", "{last}");
    }
    // until it is added.
    let added = tool.run(&["key", "add", &key, "--owner", "APP"]);
    assert!(added.stderr.contains("in this order: sync, push"), "{}", added.stderr);
    assert!(!tool.ok(&["list", "keys"]).contains("not added"));
    assert!(tool.json(&["key", "list"]).get("own_keys").is_none());
}
