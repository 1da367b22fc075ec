//! What is shipped beside the program: a unit for systemd, and a policy to begin with.

use cim_keys::serve::policy::Policy;
use cim_keys_tests::tools::workspace_root;
use std::process::Command;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(workspace_root().join("packaging").join(name)).expect(name)
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_keeps_the_service_apart() {
    let unit = shipped("cim-keys.service");
    for line in [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "LimitCORE=0",
        "UMask=0077",
        "User=cim-keys",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line} is missing");
    }
    // What it starts is what the program understands.
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a line");
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[..2], ["/usr/bin/cim-keys", "serve"]);
    let help = cim_keys_tests::program::Person::new().run(&["serve", "--help"]).stdout;
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{flag} is no flag of serve");
    }
    // The rest is systemd's to judge, where there is one.
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("cim-keys.service");
    let here = unit.replace("/usr/bin/cim-keys", "/bin/true").replace("User=cim-keys", "User=root");
    std::fs::write(&file, here.replace("Group=cim-keys", "Group=root")).expect("a file");
    // An error is that there is no systemd here: then it judges nothing.
    if let Ok(said) = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&file).output() {
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        let about = told.lines().filter(|line| line.contains("cim-keys")).collect::<Vec<_>>();
        assert!(about.is_empty(), "{told}");
    }
}

#[test]
fn the_example_of_a_policy_is_one() {
    let policy = Policy::read(&shipped("policy.example.json")).expect("a policy");
    let words: Vec<String> = policy.rules.iter().map(ToString::to_string).collect();
    assert!(
        words[0].starts_with("pipelines: every user of account KEYS_EDGE may ask for credentials.issue"),
        "{words:?}"
    );
    assert!(words[1].contains("in every account but the pipeline's"), "{words:?}");
}
