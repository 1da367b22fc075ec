//! No seed stands anywhere but in its creds file: not in what is printed, stored, logged or sent.

use base32ct::{Base32UpperUnpadded, Encoding as _};
use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use cim_keys::ambient::Ambient;
use cim_keys::host::Host;
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::creds;
use cim_keys_core::nkey::KeyPair;
use cim_keys_tests::program::Person;
use cim_keys_tests::tools::Version;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A seed as text, raw, in hex and in base64 at each alignment.
fn forms(key: &KeyPair) -> Vec<Vec<u8>> {
    let seed = key.seed();
    let decoded = Base32UpperUnpadded::decode_vec(seed.expose()).unwrap();
    let raw = &decoded[2..34];
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        // Without its first and last characters: decorations may differ.
        seed.expose().as_bytes()[4..54].to_vec(),
        raw.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for skip in 0..3 {
        let whole = &raw[skip..skip + 27];
        forms.push(Base64Unpadded::encode_string(whole).into_bytes());
        forms.push(Base64UrlUnpadded::encode_string(whole).into_bytes());
        let text = &seed.expose().as_bytes()[skip..skip + 54];
        forms.push(Base64Unpadded::encode_string(text).into_bytes());
    }
    forms
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// What is searched for, by its first bytes, so that one walk over a file is enough.
#[derive(Default)]
struct Canaries(HashMap<[u8; 8], Vec<Vec<u8>>>);

impl Canaries {
    fn add(&mut self, key: &KeyPair) {
        for form in forms(key) {
            self.0.entry(form[..8].try_into().unwrap()).or_default().push(form);
        }
    }

    fn stand_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(8).enumerate().any(|(at, begin)| {
            let begin: [u8; 8] = begin.try_into().unwrap();
            self.0.get(&begin).is_some_and(|forms| forms.iter().any(|form| bytes[at..].starts_with(form)))
        })
    }
}

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
    let mut found = Vec::new();
    files(person.home(), &mut found);
    let (secret, open): (Vec<PathBuf>, Vec<PathBuf>) =
        found.into_iter().partition(|path| path.extension().is_some_and(|extension| extension == "creds"));
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
