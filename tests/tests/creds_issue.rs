//! Creds for a pipeline, from a role's key alone: a real server takes them, gives them the role's rights and no more, and
//! refuses them after their time; the seeds stand nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cim_keys_core::creds;
use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_tests::faults::{Canaries, files};
use cim_keys_tests::identities::Login;
use cim_keys_tests::permits::{Permits, publishes, subscribes};
use cim_keys_tests::program::Person;
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;

#[test]
fn a_server_takes_them_for_their_time_and_with_the_roles_rights() {
    let mut permits = Permits::found(41);
    let team = permits.identities.account("TEAM");
    let observer = permits.user(team, "observer", Some(UserRights::default()), &[]);
    let publish = PermissionList {
        allow: vec!["deploy.{{name()}}.>".into(), "env.{{tag(env)}}".into()],
        ..PermissionList::default()
    };
    let role = permits.role(team.account, "deployer", UserRights { publish, ..UserRights::default() });
    let server = permits.serve(Version::Newest);
    let mut observer = permits.connect(&server, observer).expect("the observer connects");
    subscribes(&mut observer, ">", None).expect("the observer may");

    let person = Person::new();
    let key = permits.identities.pair(role.signing);
    let file = person.home().join("role.nk");
    fs::write(&file, key.seed().expose()).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    let account = team.account.to_string();
    let issue = ["creds", "issue", "--account", &account, "--role", "deployer", "--key-file", "role.nk"];
    let words = |more: &[&'static str]| -> Vec<String> {
        issue.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let run = |more: &[&'static str]| {
        let words = words(more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = person.run(&words);
        assert_eq!(said.status, Some(0), "{said:?}");
        said
    };

    // Into a file, for long enough.
    let mut printed = String::new();
    let said = run(&["--ttl", "15m", "--name", "build7", "--tag", "env:ci", "--out", "ci.creds"]);
    printed += &(said.stdout + &said.stderr);
    let made =
        creds::parse(&fs::read_to_string(person.home().join("ci.creds")).expect("a file")).expect("creds");
    let mut user = Login::new(&made.token, &made.key).connect(server.address()).expect("a server takes them");
    assert!(publishes(&mut user, &mut observer, "deploy.build7.x", None));
    assert!(publishes(&mut user, &mut observer, "env.ci", None));
    assert!(!publishes(&mut user, &mut observer, "deploy.build8.x", None));
    assert!(!publishes(&mut user, &mut observer, "env.prod", None));

    // A key that the client made: its seed was never here.
    let client = KeyPair::from_entropy(
        Kind::User,
        std::array::from_fn(|place| [3, 141, 59, 26][place % 4] ^ place as u8),
    );
    let public: &'static str = client.public_key().to_string().leak();
    let said = run(&["--ttl", "15m", "--public-key", public, "--output", "json"]);
    printed += &said.stderr;
    let token =
        cim_keys_core::jwt::Token::parse(said.json()["jwt"].as_str().expect("a token")).expect("a token");
    assert!(Login::new(&token, &client).connect(server.address()).is_ok());

    // For two seconds: taken, cut off, and refused from then on.
    let said = run(&["--ttl", "2s"]);
    let short = creds::parse(&said.stdout).expect("creds");
    printed += &said.stderr;
    let login = Login::new(&short.token, &short.key);
    let mut user = login.connect(server.address()).expect("taken while it lives");
    wait::until("the connection is cut off", || user.settle().is_err().then_some(()));
    // Within the second of its end a server still greets it, and cuts it off at once.
    wait::until("refused after its time", || login.connect(server.address()).is_err().then_some(()));

    // A key that has no role at this server.
    let stranger = KeyPair::from_entropy(Kind::Account, std::array::from_fn(|place| 77 ^ place as u8));
    fs::write(&file, stranger.seed().expose()).expect("a file");
    let said = run(&["--ttl", "15m"]);
    let wrong = creds::parse(&said.stdout).expect("creds");
    assert!(Login::new(&wrong.token, &wrong.key).connect(server.address()).is_err());

    // The seeds stand in what was asked for, and nowhere else.
    fs::remove_file(&file).expect("the key's file");
    let mut canaries = Canaries::default();
    for pair in [&made.key, &short.key, &stranger, &client] {
        canaries.add(pair);
    }
    canaries.add(permits.identities.pair(role.signing));
    assert!(!canaries.stand_in(printed.as_bytes()), "printed");
    let left = files(person.home());
    assert!(left.iter().any(|path| path.ends_with("ci.creds")), "{left:?}");
    for path in left.iter().filter(|path| !path.ends_with("ci.creds")) {
        assert!(!canaries.stand_in(&fs::read(path).expect("a file")), "{}", path.display());
    }
    assert!(!canaries.stand_in(server.log().as_bytes()), "the server's log");
}
