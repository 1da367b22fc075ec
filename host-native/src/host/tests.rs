use super::*;
use crate::ambient::Fixed;
use crate::ports::{Access, NatsPort, NewUser};
use crate::store::StoreError;
use cim_keys_core::command::Rejection;
use cim_keys_core::creds;
use cim_keys_core::jwt::{AccountLimits, UserRights};
use cim_keys_core::nkey::Kind;
use cim_keys_core::registry::EntityId;
use cim_keys_core::rules::Violation;
use std::path::Path;
use tempfile::TempDir;

const NOW: i64 = 1_795_423_807_042;

fn host_at(folder: &Path, seed: u64) -> Host {
    let store = Store::create(&folder.join("store.db")).unwrap();
    let vault = Vault::or_create(&folder.join("identity.age"));
    let ambient = Ambient::new(Box::new(Fixed::new(NOW, 1000, seed)));
    Host::new(store, vault, ambient, "tester".parse().unwrap())
}

fn founding() -> Founding {
    Founding { name: "TEST".into(), namespace: Namespace::default(), escrow: Vec::new() }
}

fn founded() -> (TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let host = host_at(folder.path(), 1);
    host.create_operator(&founding()).unwrap();
    (folder, host)
}

fn user(account: PublicKey, name: &str) -> NewUser {
    NewUser {
        account,
        name: name.into(),
        access: Access::Own(Box::default()),
        expires: 0,
        tags: Vec::new(),
        key: None,
        credentials: true,
        keep: false,
    }
}

fn account(host: &Host, name: &str) -> PublicKey {
    host.create_account(name, AccountLimits::default()).unwrap().keys[0]
}

#[test]
fn a_registry_is_founded_once_and_whole() {
    let (folder, host) = founded();
    let names: Vec<String> =
        host.store().accounts().unwrap().iter().map(|a| a.entity.name().to_owned()).collect();
    assert_eq!(names, ["KEYS", "KEYS_EDGE", "SYS"]);
    let counts = host.store().counts().unwrap();
    assert_eq!((counts.pending, counts.kept_keys, counts.keys), (1, 14, 10));
    let error = host.create_operator(&founding()).unwrap_err();
    assert_eq!(error, KeyError::Founded { path: folder.path().join("store.db") });
    // Another process sees the same.
    let again = host_at(folder.path(), 9);
    assert_eq!(again.store().registry_id().unwrap(), host.store().registry_id().unwrap());
    assert_eq!(again.create_operator(&founding()).unwrap_err().code(), "founded");
}

#[test]
fn creds_are_written_once_and_their_seed_is_erased() {
    let (folder, host) = founded();
    let app = account(&host, "APP");
    let outcome = host.create_user(user(app, "alice")).unwrap();
    let alice = outcome.keys[0];
    let path = folder.path().join("alice.creds");
    // A crash before the file is written loses nothing: another process hands them out.
    drop(host);
    let host = host_at(folder.path(), 2);
    host.hand_out(app, alice, &path).unwrap();
    let parsed = creds::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(parsed.key.public_key(), alice);
    assert_eq!(Some(parsed.token.as_str().to_owned()), outcome.token().unwrap().text());
    assert_eq!(host.store().counts().unwrap().hand_outs, 0);
    let error = host.issue_creds(app, alice, 0, false, &folder.path().join("b")).unwrap_err();
    assert_eq!(error, KeyError::NoUserSeed { user: alice });
}

#[test]
fn a_file_that_is_there_keeps_the_hand_out() {
    let (folder, host) = founded();
    let app = account(&host, "APP");
    let alice = host.create_user(user(app, "alice")).unwrap().keys[0];
    let path = folder.path().join("alice.creds");
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(host.hand_out(app, alice, &path).unwrap_err().code(), "file-exists");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let other = folder.path().join("other.creds");
    assert_eq!(
        host.issue_creds(app, alice, 0, false, &other).unwrap_err(),
        KeyError::NotHandedOut { user: alice }
    );
    host.hand_out(app, alice, &other).unwrap();
}

#[test]
fn a_kept_seed_gives_creds_again_with_a_younger_token() {
    let (folder, host) = founded();
    let app = account(&host, "APP");
    let first = host.create_user(NewUser { keep: true, ..user(app, "alice") }).unwrap();
    let alice = first.keys[0];
    host.generate_credentials(app, alice, 0, &folder.path().join("one")).unwrap();
    let outcome =
        host.generate_credentials(app, alice, 4_000_000_000, &folder.path().join("two")).unwrap().unwrap();
    let (old, new) = (first.token().unwrap(), outcome.token().unwrap());
    assert!(new.claims().issued_at > old.claims().issued_at);
    assert_eq!(new.claims().expires, 4_000_000_000);
}

#[test]
fn a_repeated_command_gives_the_first_outcome() {
    let (_folder, host) = founded();
    let app = account(&host, "APP");
    let id = host.ambient().command_id().unwrap();
    let request = |name: &str| Request { command_id: Some(id), ..Request::from(user(app, name)) };
    let first = host.run(&request("alice")).unwrap();
    let again = host.run(&request("alice")).unwrap();
    assert_eq!(Outcome { repeated: false, ..again }, first);
    assert_eq!(host.run(&request("bob")).unwrap_err(), KeyError::IdTaken { id });
    assert_eq!(host.store().users(None).unwrap().len(), 1);
}

#[test]
fn bad_requests_change_nothing() {
    let (_folder, host) = founded();
    let app = account(&host, "APP");
    host.create_user(user(app, "alice")).unwrap();
    let before = host.store().counts().unwrap();
    let taken = host.create_user(user(app, "alice")).unwrap_err();
    assert!(matches!(taken, KeyError::Rejected(Rejection::Violation(Violation::NameTaken { .. }))));
    let nobody = PublicKey::new(Kind::Account, [9; 32]);
    let unknown = host.create_user(user(nobody, "bob")).unwrap_err();
    assert_eq!(unknown, KeyError::Unknown { id: EntityId::Account(nobody) });
    let role = NewUser { access: Access::Role("chef".into()), ..user(app, "bob") };
    let expected = KeyError::NoSigningKey { account: app, role: Some("chef".into()), roles: Vec::new() };
    assert_eq!(host.create_user(role).unwrap_err(), expected);
    let dry = Request { dry_run: true, ..Request::from(user(app, "bob")) };
    assert_eq!(host.run(&dry).unwrap().state, None);
    assert_eq!(host.store().counts().unwrap(), before);
}

#[test]
fn a_revoked_user_gets_nothing_more() {
    let (_folder, host) = founded();
    let app = account(&host, "APP");
    let alice = host.create_user(user(app, "alice")).unwrap().keys[0];
    let revoke = || Request::new(Command::RevokeUser { account: app, user: alice });
    let outcome = host.run(&revoke()).unwrap();
    assert_eq!(outcome.accounts_changed(), [app]);
    assert_eq!(host.run(&revoke()).unwrap_err().code(), "already-revoked");
    let error = host.set_permissions(app, alice, UserRights::default()).unwrap_err();
    assert_eq!(error.code(), "already-revoked");
    let again = NewUser { key: Some(alice), ..user(app, "alice2") };
    assert_eq!(host.create_user(again).unwrap_err().code(), "key-revoked");
    // The name is free again.
    host.create_user(user(app, "alice")).unwrap();
}

#[test]
fn two_processes_write_one_after_the_other() {
    let (folder, host) = founded();
    let app = account(&host, "APP");
    let path = folder.path().to_owned();
    let work = move |seed: u64| {
        let host = host_at(&path, seed);
        for number in 0..10 {
            host.create_user(user(app, &format!("u{seed}-{number}"))).unwrap();
        }
    };
    let threads: Vec<_> = [11, 12, 13]
        .into_iter()
        .map(|seed| {
            std::thread::spawn({
                let work = work.clone();
                move || work(seed)
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(host.store().users(Some(app)).unwrap().len(), 30);
}

#[test]
fn a_missing_seed_is_named() {
    let (folder, host) = founded();
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("identity.age"), other.path().join("identity.age")).unwrap();
    let app = account(&host, "APP");
    let signing = host
        .account(app)
        .unwrap()
        .token
        .claims()
        .body
        .as_account()
        .unwrap()
        .signing_keys
        .keys()
        .next()
        .copied()
        .unwrap();
    // The seed is gone, as on a host that never had it.
    rusqlite::Connection::open(folder.path().join("store.db"))
        .unwrap()
        .execute("DELETE FROM keys WHERE key = ?1", [signing.to_string()])
        .unwrap();
    let error = host.create_user(user(app, "alice")).unwrap_err();
    assert_eq!(error, KeyError::Keyring(crate::keyring::KeyringError::Missing { key: signing }));
}

#[test]
fn without_a_registry_everything_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_at(folder.path(), 1);
    let error = host.create_account("APP", AccountLimits::default()).unwrap_err();
    assert_eq!(error, KeyError::Store(StoreError::NotFounded { path: folder.path().join("store.db") }));
}
