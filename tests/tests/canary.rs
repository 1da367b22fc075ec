//! No seed stands anywhere but in its creds file: not in what is printed, stored, logged or sent.

use cim_keys::ambient::Ambient;
use cim_keys::host::Host;
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::creds;
use cim_keys_tests::faults::{Canaries, files};
use cim_keys_tests::program::Person;
use cim_keys_tests::tools::Version;
use std::path::PathBuf;

#[test]
fn no_seed_stands_outside_its_creds_file() {
    let person = Person::new();
    let server = Version::Newest.binary();
    let up = ["up", "--once", "--data", "system", "--nats-server", server.to_str().unwrap()];
    let mut printed = String::new();
    for words in [
        &up[..],
        &[
            "--data",
            "system",
            "user",
            "create",
            "carol",
            "--account",
            "APP",
            "--allow-pub",
            "a.>",
            "--creds",
            "carol.creds",
        ],
        &["--data", "system", "user", "revoke", "carol", "--account", "APP"],
        &["--data", "system", "list", "users", "--output", "json"],
        &["--data", "system", "log", "--output", "json"],
        &["--data", "system", "status"],
        // Again over the same folder: what was made in between is published, too.
        &up[..],
    ] {
        let said = person.run(words);
        assert_eq!(said.status, Some(0), "{words:?}: {said:?}");
        printed.push_str(&said.stdout);
        printed.push_str(&said.stderr);
    }
    let (secret, open): (Vec<PathBuf>, Vec<PathBuf>) = files(person.home())
        .into_iter()
        .partition(|path| path.extension().is_some_and(|extension| extension == "creds"));
    // The page's signing key is in the one file that `up` names for it.
    let (signing, open): (Vec<PathBuf>, Vec<PathBuf>) =
        open.into_iter().partition(|path| path.ends_with("nats/context/app-signing-key.secret.nk"));
    assert!(signing.len() <= 1 && (cfg!(feature = "page") || signing.is_empty()), "{signing:?}");
    assert!(secret.len() >= 7, "{secret:?}");
    assert!(open.iter().any(|path| path.ends_with("store.db")), "{open:?}");
    assert!(
        open.iter().any(|path| path.extension().is_some_and(|e| e == "blk")),
        "the server's messages: {open:?}"
    );

    let mut canaries = Canaries::default();
    for path in &secret {
        let text = std::fs::read_to_string(path).unwrap();
        canaries.add(&creds::parse(&text).unwrap().key);
        assert!(canaries.stand_in(text.as_bytes()), "the search finds what is there");
    }
    let data = person.home().join("system");
    let vault = Vault::new(&data.join("identity.age"));
    let host = Host::new(
        Store::open(&data.join("store.db")).unwrap(),
        vault,
        Ambient::system(),
        "test".parse().unwrap(),
    );
    let store = host.store();
    let mut kept = 0;
    for listed in [store.operators(), store.accounts(), store.keys(None)].into_iter().flat_map(Result::unwrap)
    {
        if store.is_kept(listed.entity.key()).unwrap() {
            canaries.add(&host.key(listed.entity.key()).unwrap());
            kept += 1;
        }
    }
    for path in &signing {
        assert!(canaries.stand_in(&std::fs::read(path).unwrap()), "it is kept, too");
    }
    assert!(kept >= 8, "operator and signing keys are kept: {kept}");

    assert!(!canaries.stand_in(printed.as_bytes()), "printed");
    for path in open {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!canaries.stand_in(&bytes), "{}", path.display());
    }
}
