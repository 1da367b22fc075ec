//! Bad input: a clear error, what to do next, the right exit status, and nothing has changed.

use crate::tool::Tool;
use cim_keys_core::nkey::{KeyPair, Kind};
use serde_json::Value;
use std::fs;

#[test]
fn bad_input_changes_nothing_and_says_what_to_do() {
    let tool = Tool::founded();
    tool.ok(&["user", "create", "alice", "-a", "APP"]);
    tool.ok(&["user", "create", "gone", "-a", "APP"]);
    let gone = tool.json(&["show", "gone"])["public_key"].as_str().unwrap().to_owned();
    tool.ok(&["user", "revoke", "gone", "-a", "APP"]);
    fs::write(tool.path("taken"), "mine").unwrap();
    let account_key = tool.json(&["show", "APP"])["public_key"].as_str().unwrap().to_owned();
    let mut wrong_sum = account_key.clone();
    wrong_sum.replace_range(20..21, if &account_key[20..21] == "A" { "B" } else { "A" });
    let seed = KeyPair::from_entropy(Kind::User, [7; 32]).seed();
    let long = "x".repeat(129);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["account", "create", "APP"], 5, "taken"),
        (&["account", "create", "a/b"], 3, "name"),
        (&["account", "create", "a\r\nb"], 3, "name"),
        (&["account", "create", &long], 3, "name"),
        (&["account", "create", ""], 3, "name"),
        (&["account", "create", "B", "--conns", "-2"], 2, "limit"),
        (&["user", "create", "alice", "-a", "APP", "--creds", "new"], 5, "taken"),
        (&["user", "create", "bob", "-a", "AP"], 4, "did you mean APP"),
        (&["user", "create", "bob", "-a", &wrong_sum], 3, "checksum"),
        (&["user", "create", "bob", "-a", &gone], 3, "account"),
        (&["user", "create", "bob", "-a", "KEYS_EDGE"], 4, "--role"),
        (&["user", "create", "bob", "-a", "APP", "--allow-pub", "a..b"], 3, "subject"),
        (&["user", "create", "bob", "-a", "APP", "--allow-sub", "a b c"], 3, "sub.allow"),
        (&["user", "create", "bob", "-a", "APP", "--conn-type", "PIGEON"], 3, "connection"),
        (&["user", "create", "bob", "-a", "APP", "--source-network", "10.0.0.0/99"], 3, "CIDR"),
        (&["user", "create", "bob", "-a", "APP", "--expiry", "2001-01-01"], 3, "--expiry"),
        (&["user", "create", "bob", "-a", "APP", "--expiry", "soon"], 2, "30d"),
        (&["user", "create", "bob", "-a", "APP", "--bearer"], 2, "bearer"),
        (&["user", "create", "bob", "-a", "APP", "--key", &account_key], 3, "user"),
        (&["user", "create", "bob", "-a", "APP", "--key", "UABC"], 3, "56"),
        (&["user", "create", "bob", "-a", "APP", "--key", seed.expose()], 3, "secret"),
        (&["user", "create", "bob", "-a", "APP", "--key", &gone], 5, "revoked"),
        (&["user", "create", "bob", "-a", "APP", "--creds", "taken"], 5, "overwritten"),
        (&["user", "create", "bob", "-a", "APP", "--creds", "no/where"], 4, "folder"),
        (&["user", "permissions", "gone", "-a", "APP", "--allow-pub", "x"], 4, &gone),
        (&["user", "permissions", &gone, "-a", "APP", "--allow-pub", "x"], 5, "revoked"),
        (&["user", "revoke", "nobody", "-a", "APP"], 4, "list users"),
        (&["user", "revoke", &gone, "-a", "APP"], 5, "revoked"),
        (&["user", "creds", "alice", "-a", "APP", "--out", "a.creds"], 6, "--keep"),
        (&["key", "generate", "user", "--owner", "APP"], 2, "account"),
        (&["key", "generate", "nonsense"], 2, "kind"),
        (&["key", "generate", "--owner", "APP", "--allow-pub", "x"], 2, "--role"),
        (&["key", "generate", "--owner", "operator", "--role", "r"], 3, "role"),
        (&["key", "revoke", "nothing"], 4, "key list"),
        (&["access", "renew", "--role", "king"], 2, "steward"),
        (&["show", "nothing"], 4, "list"),
        (&["init"], 5, "--registry"),
        (&["list", "--registry", "../x"], 2, "registry"),
        (&["list", "--registry", "other"], 4, "cim-keys init"),
        (&["account", "create", "B", "--actor", "a\nb"], 2, "control"),
    ];
    let before = tool.trail();
    for (words, status, word) in cases {
        let ran = tool.run(words);
        assert_eq!(ran.status, *status, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{words:?} does not say {word:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
        assert!(!ran.stderr.contains(seed.expose()) && !ran.stderr.contains('\u{1b}'), "{words:?}");
    }
    assert_eq!(tool.trail(), before);
    assert_eq!(fs::read_to_string(tool.path("taken")).unwrap(), "mine");
}

#[test]
fn errors_are_json_where_data_is() {
    let tool = Tool::founded();
    let ran = tool.run(&["--output", "json", "user", "create", "bob", "-a", "APPP"]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(
        (&error["error"]["exit"], &error["error"]["code"]),
        (&Value::from(4), &Value::from("unknown-account"))
    );
    assert!(error["error"]["hints"][0].as_str().unwrap().contains("APP"));
}

#[test]
fn without_a_home_folder_the_flags_are_named() {
    let tool = Tool::new();
    let homeless = |words: &[&str]| {
        let output = tool.command(words).env_remove("HOME").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, stderr) = homeless(&["init"]);
    assert!(status == 2 && stderr.contains("--data DIR"), "{stderr}");
    let (status, stderr) = homeless(&["init", "--data", "d"]);
    assert!(status == 2 && stderr.contains("--identity FILE"), "{stderr}");
    assert!(!tool.path("d").exists());
    let (status, stderr) = homeless(&["init", "--data", "d", "--identity", "id.age"]);
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let tool = Tool::founded();
    let identity = tool.path(".config/cim-keys/identity.age");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = tool.run(&["account", "create", "B"]);
    assert_eq!(ran.status, 6);
    assert!(ran.stderr.contains("chmod 600"), "{}", ran.stderr);
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&identity, "nonsense").unwrap();
    assert_eq!(tool.run(&["account", "create", "B"]).status, 3);
}

#[test]
fn a_store_of_a_newer_version_or_another_program_is_refused() {
    let tool = Tool::new();
    fs::create_dir_all(tool.data()).unwrap();
    fs::write(
        tool.data().join("store.db"),
        "not a database, although it has the name of one and is long enough to be read as one; it is not.",
    )
    .unwrap();
    for words in [&["list"][..], &["init"], &["status"]] {
        let ran = tool.run(words);
        assert_eq!(ran.status, 5, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("--data"), "{}", ran.stderr);
    }
}

#[test]
fn a_damaged_store_is_no_matter_of_permissions() {
    let table = "ALTER TABLE journal RENAME COLUMN context TO other";
    let text = "UPDATE entities SET body = CAST(x'fffe' AS TEXT)";
    let bytes = "";
    for (damage, words) in [
        ("DROP TABLE entities", &["list"][..]),
        (table, &["status"]),
        (text, &["list", "accounts"]),
        (bytes, &["list", "accounts"]),
        (bytes, &["account", "create", "B"]),
    ] {
        let tool = Tool::founded();
        let path = tool.data().join("store.db");
        let store = rusqlite::Connection::open(&path).unwrap();
        if damage.is_empty() {
            // Every page but the first one, which says what the file is.
            store.pragma_update(None, "journal_mode", "DELETE").unwrap();
            drop(store);
            let mut file = fs::read(&path).unwrap();
            file[4096..].fill(0xee);
            fs::write(&path, file).unwrap();
        } else {
            store.execute_batch(damage).unwrap();
            drop(store);
        }
        let ran = tool.run(words);
        assert_eq!(ran.status, 8, "{damage} {words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("restore the data folder from a copy"), "{damage}: {}", ran.stderr);
        assert!(ran.stderr.contains("is damaged"), "{damage}: {}", ran.stderr);
        let doctor = tool.run(&["doctor"]);
        assert!(doctor.status != 0, "{damage}");
        let said = doctor.stdout + &doctor.stderr;
        assert!(
            said.contains("restore the data folder") && !said.contains("permissions of"),
            "{damage}: {said}"
        );
    }
}

#[test]
fn what_would_be_of_no_use_is_not_made() {
    let tool = Tool::founded();
    for (words, says) in [
        (&["key", "generate", "user", "--own"][..], "signing keys"),
        (&["key", "generate", "curve", "--own"], "signing keys"),
        (&["bundle", "export", "--out", "-"], "--out FILE"),
    ] {
        let ran = tool.run(words);
        assert_eq!(ran.status, 2, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{words:?}: {}", ran.stderr);
    }
    assert!(!tool.path("-").exists());
    // Names that differ only in what a path cannot have get files of their own.
    for name in ["日本", "中国"] {
        tool.ok(&["user", "create", name, "-a", "APP"]);
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tool.command(&["status"]).stdout(full).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("stdout cannot be written"));
    let output = tool.command(&["init"]).env("HOME", "relative").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("absolute path"));
}

#[test]
fn what_is_in_a_stores_place_is_said() {
    let tool = Tool::new();
    fs::create_dir_all(tool.data()).unwrap();
    let path = tool.data().join("store.db");
    fs::write(&path, "").unwrap();
    let ran = tool.run(&["list"]);
    assert!(ran.status == 4 && ran.stderr.contains("has nothing in it"), "{}", ran.stderr);
    assert!(ran.stderr.contains("from a copy") && !ran.stderr.contains("not exist"), "{}", ran.stderr);
    // The making of one was ended there: it is made.
    assert_eq!(tool.run(&["init"]).status, 0);
    let tool = Tool::new();
    fs::create_dir_all(tool.data().join("store.db")).unwrap();
    for words in [&["list"][..], &["init"], &["status"]] {
        let ran = tool.run(words);
        assert!(ran.status != 0 && !ran.stderr.contains("does not exist"), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("no file"), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn no_words_show_help_and_a_wrong_word_is_named() {
    let tool = Tool::new();
    assert_eq!(tool.run(&[]).status, 2);
    let help = tool.run(&["--help"]);
    assert!(help.status == 0 && help.stdout.contains("access") && help.stderr.is_empty());
    assert!(tool.run(&["--version"]).stdout.starts_with("cim-keys "));
    let wrong = tool.run(&["acount"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("account"), "{}", wrong.stderr);
}

#[cfg(all(unix, feature = "nats"))]
#[test]
fn a_file_without_an_end_is_read_no_further_than_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let tool = Tool::founded();
    // Whoever reads on anyway gets no memory for it.
    let bounded = |words: &str| {
        let script = format!("ulimit -v 4000000 && exec {} {words}", env!("CARGO_BIN_EXE_cim-keys"));
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env_clear().env("HOME", tool.home()).env("PATH", "/usr/bin:/bin");
        let output = shell.current_dir(tool.home()).stdin(std::process::Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for flag in ["--creds", "--nkey", "--context"] {
        let server = if flag == "--context" { "" } else { "--server nats://127.0.0.1:1" };
        for (file, status) in [("/dev/zero", 3), (".", 3), ("none/where.json", 4)] {
            let file = if file == "." { "./" } else { file };
            let (ended, stderr) = bounded(&format!("sync {server} {flag} {file}"));
            assert_eq!(ended, Some(status), "{flag} {file}: {stderr}");
            assert!(stderr.contains(file), "{flag} {file}: {stderr}");
        }
    }
    // A selected context is read no further either; it is as if there were none.
    let folder = tool.path(".config/nats");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("context.txt")).unwrap();
    let (ended, stderr) = bounded("sync");
    assert_eq!(ended, Some(2), "{stderr}");
    // What may not be read is no missing file; who may read everything does not see the difference.
    fs::write(tool.path("closed.creds"), "").unwrap();
    fs::set_permissions(tool.path("closed.creds"), fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read(tool.path("closed.creds")).is_err() {
        assert_eq!(bounded("sync --server nats://127.0.0.1:1 --creds closed.creds").0, Some(6));
    }
}

#[test]
fn a_seed_where_another_word_belongs_is_never_repeated() {
    let tool = Tool::founded();
    for kind in [Kind::User, Kind::Account, Kind::Operator, Kind::Curve] {
        let seed = KeyPair::from_entropy(kind, [9; 32]).seed();
        let seed = seed.expose();
        let inline = format!("--operator={seed}");
        let flag = format!("--{seed}");
        for words in [
            &["key", "add", seed, "--owner", "APP"][..],
            &["clone", "nats://127.0.0.1:1", "--operator", seed],
            &["clone", "nats://127.0.0.1:1", &inline],
            &["held", "show", seed],
            &["log", "--after", seed],
            &["key", "import", seed],
            &["bundle", "import", seed],
            &["sync", "--server", "nats://127.0.0.1:1", "--creds", seed],
            &["sync", "--server", seed],
            &["sync", "--context", seed],
            &["show", seed],
            &["user", "revoke", seed, "-a", "APP"],
            &["list", seed],
            &[seed],
            &["list", &flag],
            &["--registry", seed, "list"],
            &["--data", seed, "list"],
            &["--identity", seed, "account", "create", "B"],
            &["--output", "json", "show", seed],
            &["--output", "json", "key", "import", seed],
        ] {
            let ran = tool.run(words);
            let shown = |text: &str| text.replace(seed, "SEED");
            assert!(ran.status != 0, "{}", shown(&format!("{words:?}")));
            assert!(!ran.stderr.contains(&seed[..20]), "{}", shown(&format!("{words:?}: {}", ran.stderr)));
            assert!(!ran.stdout.contains(&seed[..20]), "{}", shown(&format!("{words:?}: {}", ran.stdout)));
        }
    }
}

#[test]
fn a_seed_in_the_wrong_place_is_refused_and_never_repeated() {
    let tool = Tool::founded();
    let seeds = [Kind::User, Kind::Account, Kind::Operator, Kind::Curve]
        .map(|kind| KeyPair::from_entropy(kind, [7; 32]).seed());
    let before = tool.trail();
    for seed in &seeds {
        let seed = seed.expose();
        let within = format!("key {seed}");
        let actor = ["--actor", seed, "account", "create", "B"];
        for (words, status) in [
            (&["account", "create", seed][..], 3),
            (&["account", "create", &within], 3),
            (&["user", "create", seed, "-a", "APP", "--creds", "x.creds"], 3),
            (&["user", "create", "bob", "-a", "APP", "--tag", seed, "--creds", "x.creds"], 3),
            (&["user", "create", "bob", "-a", "APP", "--tag", &within, "--creds", "x.creds"], 3),
            (&["key", "generate", "curve", "--label", seed], 3),
            (&["key", "generate", "--owner", "APP", "--role", seed, "--allow-pub", "x"], 3),
            (&actor, 2),
        ] {
            let ran = tool.run(words);
            assert_eq!(ran.status, status, "{}", ran.stderr.replace(seed, "SEED"));
            assert!(!ran.stderr.contains(&seed[..20]) && ran.stdout.is_empty(), "it is repeated");
            assert!(ran.stderr.contains("seed"), "{}", ran.stderr);
        }
        let by_environment =
            tool.command(&["account", "create", "B"]).env("CIM_KEYS_ACTOR", seed).output().unwrap();
        assert_eq!(by_environment.status.code(), Some(2));
        assert!(!String::from_utf8(by_environment.stderr).unwrap().contains(&seed[..20]));
        let empty = Tool::new();
        assert_eq!(empty.run(&["init", "--name", seed]).status, 3);
        assert_eq!(empty.run(&["--actor", seed, "init"]).status, 2);
        assert!(!empty.data().join("store.db").exists() || empty.run(&["list"]).status == 4);
    }
    for name in [" bob", "bob ", "b\u{200b}ob", "\u{202e}bob", "bob\u{2066}", "b\u{ad}ob"] {
        assert_eq!(tool.run(&["account", "create", name]).status, 3, "{name:?}");
        assert_eq!(
            tool.run(&["user", "create", name, "-a", "APP", "--creds", "x.creds"]).status,
            3,
            "{name:?}"
        );
        assert_eq!(tool.run(&["--actor", name, "account", "create", "B"]).status, 2, "{name:?}");
    }
    assert_eq!(tool.trail(), before);
    assert!(!tool.path("x.creds").exists());
}
