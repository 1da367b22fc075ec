//! The development system, as `cim-keys up` makes it.

use cim_keys::ambient::Ambient;
use cim_keys::dev::{self, Options, System, UpError};
use cim_keys::host::{Host, Request};
use cim_keys::page::{Assets, PageError};
use cim_keys::pump::PumpError;
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::command::Command;
use cim_keys_core::jwt::AccountLimits;
use cim_keys_tests::tools::Version;
use std::path::Path;
use tokio::sync::Mutex;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// One system at a time: a process that another test starts has, until it is the other program, whatever is open in this
/// one, and so keeps locks and ports that were given up here.
static ALONE: Mutex<()> = Mutex::const_new(());

fn options(data: &Path) -> Options {
    Options {
        data: data.to_owned(),
        program: Some(Version::Newest.binary()),
        port: None,
        websocket_port: None,
        page_port: None,
        assets: Assets::default(),
    }
}

fn host(data: &Path) -> Host {
    let store = Store::create(&data.join("store.db")).unwrap();
    Host::new(store, Vault::or_create(&data.join("identity.age")), Ambient::system(), "test".parse().unwrap())
}

async fn up(host: &Host, data: &Path) -> System {
    let lock = dev::take(data).unwrap();
    dev::up(host, lock, &options(data)).await.unwrap()
}

#[test]
fn a_new_folder_becomes_a_system_and_can_be_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    run(async {
        let _alone = ALONE.lock().await;
        let host = host(data);
        let system = up(&host, data).await;
        let ready = &system.ready;
        assert!(ready.events_published >= 21, "{ready:?}");
        assert_eq!((ready.events_published, ready.duplicates), (ready.events_read_back, 0));
        assert_eq!(ready.server_version, "2.15.1");
        assert!(ready.websocket_url.starts_with("ws://127.0.0.1:"));
        let roles: Vec<&str> = ready.creds.keys().map(String::as_str).collect();
        assert_eq!(
            roles,
            ["app", "auditor", "browser", "client", "host", "resolver", "responder", "service", "steward"]
        );
        assert_eq!(system.notes.len(), 3, "{:?}", system.notes);
        assert!(system.notes.iter().any(|note| note.starts_with("no page: ")), "{:?}", system.notes);
        assert_eq!((&ready.page_url, &ready.signing_key), (&None, &None));
        for path in ready.creds.values() {
            assert!(path.is_file() && path.with_extension("json").is_file(), "{}", path.display());
        }
        // A second one in the same folder is refused while it runs.
        let error = dev::take(data).unwrap_err();
        assert!(matches!(error, UpError::Pump(PumpError::Locked { purpose: "up", .. })), "{error}");
        let websocket_url = ready.websocket_url.clone();
        assert!(system.stop().await.is_some_and(|status| status.success()));

        host.run(&Request::new(Command::CreateAccount {
            name: "MORE".into(),
            limits: AccountLimits::default(),
        }))
        .unwrap();
        let again = up(&host, data).await;
        // The new account and a user of each role.
        assert_eq!(again.ready.events_published, again.ready.events_read_back);
        assert!(again.ready.events_published >= 7, "{:?}", again.ready);
        assert_eq!(again.notes.len(), 3, "{:?}", again.notes);
        assert_eq!(again.ready.websocket_url, websocket_url);
        again.stop().await;
    });
}

#[test]
fn a_server_that_is_too_old_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let _alone = ALONE.lock().await;
        let host = host(folder.path());
        let lock = dev::take(folder.path()).unwrap();
        let options = Options { program: Some(Version::TooOld.binary()), ..options(folder.path()) };
        let error = dev::up(&host, lock, &options).await.unwrap_err();
        assert_eq!(error.code(), "server-too-old");
        assert!(!host.store().is_founded().unwrap());
    });
}

#[test]
fn a_port_for_a_page_that_is_not_there_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let _alone = ALONE.lock().await;
        let host = host(folder.path());
        let lock = dev::take(folder.path()).unwrap();
        let options = Options { page_port: Some(1), ..options(folder.path()) };
        let error = dev::up(&host, lock, &options).await.unwrap_err();
        assert_eq!(error, UpError::Page(PageError::NotBuilt));
        assert!(!host.store().is_founded().unwrap());
    });
}
