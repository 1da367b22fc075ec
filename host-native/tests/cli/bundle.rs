//! `bundle` and `held` as people type them: taken in once, refused with the right exit status, nothing overwritten.

use crate::tool::{Ran, Tool, text};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

/// A tool whose registry is written to `all.bundle`, and its path.
fn exported() -> (Tool, String) {
    let tool = Tool::founded();
    tool.ok(&["user", "create", "alice", "-a", "APP"]);
    tool.ok(&["bundle", "export", "--out", "all.bundle"]);
    let path = tool.path("all.bundle").to_str().unwrap().to_owned();
    (tool, path)
}

#[test]
fn a_bundle_travels_from_one_store_to_another() {
    let (tool, file) = exported();
    let other = Tool::new();
    let dry = other.json(&["bundle", "import", &file, "--dry-run"]);
    assert_eq!((&dry["founded"], &dry["imported"], &dry["dry_run"]), (&true.into(), &3.into(), &true.into()));
    assert!(!other.data().exists(), "a dry run leaves nothing behind");
    let taken = other.json(&["bundle", "import", &file]);
    assert_eq!(
        (&taken["imported"], &taken["known"], &taken["dry_run"]),
        (&3.into(), &0.into(), &false.into())
    );
    let names: Vec<String> = (0..3).map(|place| text(&taken, &format!("/commands/{place}/about"))).collect();
    assert_eq!(names, ["TEST", "APP", "alice"]);
    assert_eq!(taken["registry"], tool.json(&["status"])["operator"]);
    assert_eq!(other.trail(), tool.trail());
    let again = other.run(&["bundle", "import", &file]);
    assert_eq!(again.status, 0);
    assert!(
        again.stdout.contains("known already") && again.stdout.contains("0 commands"),
        "{}",
        again.stdout
    );
    let missing = other.run(&["account", "create", "MORE"]);
    assert_eq!(missing.status, 6, "{}", missing.stderr);
    assert!(missing.stderr.contains("does not have the seed of O"), "{}", missing.stderr);

    // Through a pipe, under another name.
    let mut command = other.command(&["--registry", "second", "--output", "json", "bundle", "import", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(&file).unwrap()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    // What leaves again are the same bytes.
    other.ok(&["--registry", "second", "bundle", "export", "--out", "again.bundle"]);
    assert_eq!(fs::read(other.path("again.bundle")).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn what_is_wrong_with_a_bundle_is_said_and_nothing_is_written() {
    let (tool, file) = exported();
    let good = fs::read_to_string(&file).unwrap();
    let other = Tool::founded();
    let empty = Tool::new();
    for tool in [&other, &empty] {
        let write = |name: &str, content: &str| fs::write(tool.path(name), content).unwrap();
        write("good", &good);
        write("damaged", &good.replacen("alice", "alicf", 1));
        write("cut", &good[..good.len() - 1]);
        write("newer", &good.replacen("bundle 1", "bundle 2", 1));
        write("nothing", "");
    }
    let cases: &[(&Tool, &[&str], i32, &str)] = &[
        (&other, &["bundle", "import", "good"], 5, "--registry NAME"),
        (&other, &["bundle", "import", "damaged"], 8, "checksum"),
        (&other, &["bundle", "import", "cut"], 8, "checksum"),
        (&other, &["bundle", "import", "newer"], 5, "upgrade"),
        (&other, &["bundle", "import", "nothing"], 3, "no bundle"),
        (&other, &["bundle", "import", "missing"], 4, "does not exist"),
        (&other, &["bundle", "import"], 2, "FILE"),
        (&other, &["bundle", "export"], 2, "--out"),
        (&other, &["bundle", "export", "--out", "good"], 5, "overwritten"),
        (&other, &["bundle", "export", "--out", "no/where"], 4, "folder"),
        (&other, &["held", "drop", "01990000-0000-7000-8000-000000000000"], 4, "held list"),
        (&other, &["held", "retry", "01990000-0000-7000-8000-000000000000"], 4, "held list"),
        (&other, &["held", "show", "01990000-0000-7000-8000-000000000000"], 4, "held list"),
        (&other, &["held", "retry", "nonsense"], 2, "COMMAND_ID"),
        (&other, &["held", "show"], 2, "COMMAND_ID"),
        (&empty, &["held", "list"], 4, "cim-keys init"),
        (&other, &["held", "drop", "nonsense"], 2, "COMMAND_ID"),
        (&empty, &["bundle", "import", "damaged"], 8, "checksum"),
        (&empty, &["bundle", "export", "--out", "x"], 4, "cim-keys init"),
    ];
    let before = other.trail();
    for (tool, words, status, word) in cases {
        let ran = tool.run(words);
        assert_eq!(ran.status, *status, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{words:?} does not say {word:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
    }
    assert_eq!(other.trail(), before);
    assert!(!empty.data().exists());
    let id = tool.json(&["bundle", "export", "--out", "x", "--dry-run"])["commands"][2]["command_id"].clone();
    assert!(!tool.path("x").exists());
    let ran = tool.run(&["held", "drop", id.as_str().unwrap()]);
    assert!(ran.status == 4 && ran.stderr.contains("it is pending"), "{}", ran.stderr);
}

#[test]
fn seeds_that_were_made_elsewhere_are_kept() {
    let tool = Tool::founded();
    let made = tool.json(&["key", "generate", "--owner", "APP", "--out", "app.nk"]);
    let (public, stranger) =
        (text(&made, "/public_key"), tool.json(&["key", "generate", "user", "--plain", "--out", "u.nk"]));
    tool.ok(&["bundle", "export", "--out", "all.bundle"]);
    let other = Tool::new();
    other.ok(&["bundle", "import", tool.path("all.bundle").to_str().unwrap()]);
    let create = ["user", "create", "alice", "-a", "APP", "--creds", "alice.creds"];
    assert_eq!(other.run(&create).status, 6);

    let seed = fs::read_to_string(tool.path("app.nk")).unwrap();
    let strange = fs::read_to_string(tool.path("u.nk")).unwrap();
    let secret = |name: &str, content: &str| {
        fs::write(other.path(name), content).unwrap();
        #[cfg(unix)]
        fs::set_permissions(other.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    secret("good", &format!("# seeds\n\n{seed} {public} # of APP\n"));
    secret("both", &format!("{seed}\n{strange}\n"));
    secret("crossed", &format!("{seed} {}\n", text(&stranger, "/public_key")));
    secret("changed", &seed.replacen("SA", "SB", 1));
    secret("talk", "# nothing\n");
    fs::write(other.path("open"), &seed).unwrap();
    #[cfg(unix)]
    fs::set_permissions(other.path("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for (file, status, word) in [
        ("both", 4, "no entity of this registry"),
        ("crossed", 3, "line 1: the seed is that of"),
        ("changed", 3, "line 1"),
        ("talk", 3, "no seed"),
        ("open", 6, "chmod 600"),
        ("missing", 4, "does not exist"),
    ] {
        let ran = other.run(&["key", "import", file]);
        assert_eq!(ran.status, status, "{file}: {}", ran.stderr);
        assert!(ran.stderr.contains(word) && !ran.stderr.contains(&seed[10..30]), "{file}: {}", ran.stderr);
    }
    let dry = other.json(&["key", "import", "good", "--dry-run"]);
    assert_eq!((&dry["kept"], other.json(&["status"])["kept_keys"].as_u64()), (&1.into(), Some(0)));
    let kept = other.json(&["key", "import", "good"]);
    assert_eq!((&kept["kept"], &kept["keys"][0]["known"]), (&1.into(), &false.into()));
    assert_eq!(other.json(&["key", "import", "good"])["kept"], 0);
    assert!(!kept.to_string().contains(&seed));
    other.ok(&create);
}

#[test]
fn a_store_whose_making_was_ended_takes_a_bundle_in() {
    let (_tool, file) = exported();
    let other = Tool::new();
    fs::create_dir_all(other.data()).unwrap();
    fs::write(other.data().join("store.db"), "").unwrap();
    for words in [&["list", "users"][..], &["status"], &["user", "create", "bob", "-a", "APP"]] {
        let ran = other.run(words);
        assert!(ran.status == 4 && ran.stderr.contains("cim-keys init"), "{words:?}: {}", ran.stderr);
    }
    assert_eq!(other.json(&["bundle", "import", &file, "--dry-run"])["founded"], true);
    assert_eq!(other.json(&["bundle", "import", &file])["founded"], true);
    assert!(other.ok(&["list", "users"]).contains("alice"));
}

#[test]
fn many_take_a_bundle_into_a_new_folder_at_once() {
    let (tool, file) = exported();
    for round in 0..5 {
        let other = Tool::new();
        let start = || {
            let mut command = other.command(&["--output", "json", "bundle", "import", &file]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<_> = (0..6).map(|_| start()).collect();
        let mut imported = 0;
        for child in running {
            let ran = Ran::from(child.wait_with_output().unwrap());
            assert_eq!(ran.status, 0, "round {round}: {}", ran.stderr);
            let taken: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            imported += taken["imported"].as_u64().unwrap();
        }
        assert_eq!(imported, 3, "each command is taken in once");
        assert_eq!(other.trail(), tool.trail());
    }
}
