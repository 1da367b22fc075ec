//! `creds issue`: from a role's key alone.

use crate::tool::{Tool, mode, text};
use cim_keys_core::creds;
use cim_keys_core::jwt::{Grant, Token};
use cim_keys_core::nkey::{KeyPair, Kind};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn pair(kind: Kind, byte: u8) -> KeyPair {
    KeyPair::from_entropy(
        kind,
        std::array::from_fn(|place| byte ^ u8::try_from(place).unwrap().wrapping_mul(37)),
    )
}

/// A home with nothing in it but a role's seed in a file.
fn place() -> (Tool, KeyPair, String) {
    let tool = Tool::new();
    let role = pair(Kind::Account, 9);
    let file = tool.path("role.nk");
    fs::write(&file, format!("# the deployer's\n{}\n", role.seed().expose())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (tool, role, pair(Kind::Account, 1).public_key().to_string())
}

#[test]
fn creds_to_stdout_or_into_a_file() {
    let (tool, role, account) = place();
    let issue = ["creds", "issue", "--account", &account, "--role", "deployer", "--ttl", "15m"];
    let words = [&issue[..], &["--key-file", "role.nk"]].concat();
    let ran = tool.run(&words);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let made = creds::parse(&ran.stdout).unwrap();
    let claims = made.token.claims();
    assert_eq!(claims.expires - claims.issued_at, 900);
    assert_eq!((claims.issuer, claims.not_before), (role.public_key(), 0));
    let user = claims.body.as_user().unwrap();
    assert_eq!((&user.grant, user.issuer_account.unwrap().to_string()), (&Grant::Scoped, account.clone()));
    assert!(claims.name.starts_with("deployer-U"), "{}", claims.name);
    assert!(ran.stderr.contains("was not checked"), "{}", ran.stderr);
    // Stateless: the same again is another user, and nothing was left behind.
    let again = creds::parse(&tool.ok(&words)).unwrap();
    assert_ne!(again.key.public_key(), made.key.public_key());
    let left: Vec<_> = fs::read_dir(tool.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["role.nk"]);

    let said =
        tool.json(&[&words[..], &["--out", "ci.creds", "--name", "build-7", "--tag", "env:ci"]].concat());
    assert_eq!(mode(&tool.path("ci.creds")), 0o600);
    let text_of = fs::read_to_string(tool.path("ci.creds")).unwrap();
    let made = creds::parse(&text_of).unwrap();
    assert_eq!(made.token.claims().name, "build-7");
    assert_eq!(made.token.claims().body.as_user().unwrap().tags, ["env:ci"]);
    assert_eq!(
        (text(&said, "/user"), text(&said, "/file")),
        (made.key.public_key().to_string(), "ci.creds".into())
    );
    assert_eq!((&said["role_checked"], said.get("creds")), (&false.into(), None));
    // Never over another file, and then no key was made either.
    let ran = tool.run(&[&words[..], &["--out", "ci.creds"]].concat());
    assert_eq!(ran.status, 5, "{}", ran.stderr);
    assert_eq!(fs::read_to_string(tool.path("ci.creds")).unwrap(), text_of);
    let said = tool.json(&words);
    assert!(creds::parse(&text(&said, "/creds")).is_ok());
}

#[test]
fn a_key_that_the_client_made_itself_gets_a_token() {
    let (tool, role, account) = place();
    let client = pair(Kind::User, 5).public_key().to_string();
    let issue = ["creds", "issue", "-a", &account, "-K", "deployer", "--ttl", "90s", "--public-key", &client];
    let mut command = tool.command(&[&issue[..], &["--key-env", "ROLE_SEED"]].concat());
    let ran = command.env("ROLE_SEED", role.seed().expose()).output().unwrap();
    assert!(ran.status.success());
    let token = Token::parse(String::from_utf8(ran.stdout).unwrap().trim()).unwrap();
    assert_eq!(token.claims().subject.to_string(), client);
    assert_eq!(token.claims().expires - token.claims().issued_at, 90);
}

/// As the README shows it: the key is made once where the registry is, and the job has nothing but its seed.
#[test]
fn a_job_in_a_pipeline() {
    let tool = Tool::founded();
    let role = ["--role", "deployer", "--allow-pub", "deploy.{{name()}}.>", "--out", "deployer.nk"];
    tool.ok(&[&["key", "generate", "--owner", "APP"][..], &role].concat());
    let account = text(&tool.json(&["show", "APP"]), "/public_key");
    let listed = tool.json(&["show", "APP"])["signing_keys"].to_string();
    let seed = fs::read_to_string(tool.path("deployer.nk")).unwrap();
    let job = Tool::new();
    let script = ["creds", "issue", "--account", &account, "--role", "deployer", "--ttl", "15m"];
    let mut command =
        job.command(&[&script[..], &["--key-env", "DEPLOYER_SEED", "--out", "job.creds"]].concat());
    let ran = command.env("DEPLOYER_SEED", seed.trim()).output().unwrap();
    assert!(ran.status.success());
    let made = creds::parse(&fs::read_to_string(job.path("job.creds")).unwrap()).unwrap();
    assert!(listed.contains(&made.token.claims().issuer.to_string()), "{listed}");
    assert_eq!(mode(&job.path("job.creds")), 0o600);
}

#[test]
fn a_dry_run_makes_nothing() {
    let (tool, _, account) = place();
    let said = tool.json(&[
        "creds",
        "issue",
        "-a",
        &account,
        "-K",
        "r",
        "--ttl",
        "1h",
        "--key-file",
        "role.nk",
        "--out",
        "x",
        "--dry-run",
    ]);
    assert_eq!((said.get("user"), said.get("creds"), &said["dry_run"]), (None, None, &true.into()));
    assert!(!tool.path("x").exists());
}

#[test]
fn what_is_refused_says_what_to_do_and_no_seed() {
    let (tool, role, account) = place();
    let seed = role.seed();
    fs::write(tool.path("open.nk"), seed.expose()).unwrap();
    fs::set_permissions(tool.path("open.nk"), fs::Permissions::from_mode(0o644)).unwrap();
    for (name, content) in [("empty.nk", ""), ("other.nk", "not a seed"), ("two.nk", "a\nb")] {
        fs::write(tool.path(name), content).unwrap();
        fs::set_permissions(tool.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let user_seed = pair(Kind::User, 3);
    fs::write(tool.path("user.nk"), user_seed.seed().expose()).unwrap();
    fs::set_permissions(tool.path("user.nk"), fs::Permissions::from_mode(0o600)).unwrap();
    let (own, key_file) = (role.public_key().to_string(), ["--key-file", "role.nk"]);
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["-a", &account, "--ttl", "0s", key_file[0], key_file[1]], 3, "24h"),
        (vec!["-a", &account, "--ttl", "25h", key_file[0], key_file[1]], 3, "24h"),
        (vec!["-a", &account, key_file[0], key_file[1]], 2, "--ttl"),
        (vec!["-a", "APP", "--ttl", "15m", key_file[0], key_file[1]], 2, "knows names"),
        (vec!["-a", &own, "--ttl", "15m", key_file[0], key_file[1]], 3, "identity key"),
        (vec!["-a", &account, "--ttl", "15m"], 2, "--key-file"),
        (vec!["-a", &account, "--ttl", "15m", "--key-env", "NOT_THERE"], 4, "NOT_THERE"),
        (vec!["-a", &account, "--ttl", "15m", "--key-env", seed.expose()], 3, "seed"),
        (vec!["-a", seed.expose(), "--ttl", "15m", key_file[0], key_file[1]], 3, "seed"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "open.nk"], 6, "open.nk"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "empty.nk"], 3, "no seed"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "other.nk"], 3, "no seed"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "two.nk"], 3, "more than one line"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "user.nk"], 3, "SA"),
        (vec!["-a", &account, "--ttl", "15m", "--key-file", "none.nk"], 4, "none.nk"),
        (vec!["-a", &account, "--ttl", "15m", key_file[0], key_file[1], "-k", &account], 3, "kind"),
    ];
    for (words, status, needle) in cases {
        let ran = tool.run(&[&["creds", "issue", "--role", "r"][..], &words].concat());
        assert_eq!(ran.status, status, "{words:?} {}", ran.stderr);
        assert!(ran.stderr.contains(needle), "{words:?} {}", ran.stderr);
        assert!(!(ran.stdout + &ran.stderr).contains(&seed.expose()[4..40]), "{words:?}");
    }
}
