//! A crash at any moment loses nothing.

use crate::tool::{Tool, text};
use cim_keys_core::creds;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Where files can be named and never made.
#[cfg(target_os = "linux")]
const NO_FILES: &str = "/proc/cim-keys.creds";

#[cfg(target_os = "linux")]
#[test]
fn creds_that_could_not_be_written_are_kept() {
    let tool = Tool::founded();
    let ran = tool.run(&["user", "create", "alice", "-a", "APP", "--creds", NO_FILES]);
    assert_eq!(ran.status, 9, "{}", ran.stderr);
    assert!(ran.stderr.contains("user creds alice --account APP --out FILE"), "{}", ran.stderr);
    let status = tool.ok(&["status"]);
    assert!(status.contains("are not written"), "{status}");
    assert!(tool.ok(&["list", "users"]).contains("creds not written"));
    tool.ok(&["user", "creds", "alice", "-a", "APP", "--out", "alice.creds"]);
    is_whole(&tool.path("alice.creds"));
    let again = tool.run(&["user", "creds", "alice", "-a", "APP", "--out", "again.creds"]);
    assert_eq!(again.status, 6, "handed out once: {}", again.stderr);
}

/// Kills the program at one point after another of its way: whenever a look at its files gives something new.
#[cfg(unix)]
#[test]
fn killed_anywhere_a_user_has_its_creds_or_they_wait() {
    let tool = Tool::founded();
    let mut killed = 0;
    for round in 0..30u32 {
        let (name, file) = (format!("u{round}"), format!("u{round}.creds"));
        let mut child = tool
            .command(&["user", "create", &name, "-a", "APP", "--creds", &file])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The later the round, the more changes are let by.
        let mut changes = 0;
        let mut last = look(&tool, &file);
        while child.try_wait().unwrap().is_none() && changes <= round % 10 {
            let now = look(&tool, &file);
            if now != last {
                changes += 1;
                last = now;
            }
        }
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let users = tool.json(&["list", "users", "-a", "APP"]);
        let user = users["users"].as_array().unwrap().iter().find(|user| user["name"] == name.as_str());
        let path = tool.path(&file);
        match user {
            Some(user) if user["marks"].to_string().contains("creds not written") => {
                let late = format!("late-{round}.creds");
                tool.ok(&["user", "creds", &name, "-a", "APP", "--out", &late]);
                assert_eq!(is_whole(&tool.path(&late)), text(user, "/public_key"));
            }
            Some(user) => assert_eq!(is_whole(&path), text(user, "/public_key")),
            None => assert!(!path.exists(), "creds of a user that nobody knows"),
        }
    }
    assert!(killed > 0, "not one was killed in time");
}

/// What can be seen of its progress from outside.
#[cfg(unix)]
fn look(tool: &Tool, file: &str) -> (u64, u64, bool, usize) {
    let size = |name: &str| fs::metadata(tool.data().join(name)).map_or(0, |meta| meta.len());
    let files = fs::read_dir(tool.home()).unwrap().count();
    (size("store.db"), size("store.db-wal"), tool.path(file).exists(), files)
}

/// The user whose creds they are.
fn is_whole(path: &Path) -> String {
    creds::parse(&fs::read_to_string(path).unwrap()).unwrap().key.public_key().to_string()
}
