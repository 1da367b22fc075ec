//! The page of the development system: its address, whom the websocket lets in, the key for its first use.
#![cfg(feature = "page")]

use cim_keys::ambient::Ambient;
use cim_keys::dev::{self, Options, System, UpError};
use cim_keys::host::{Host, Request};
use cim_keys::page::{Assets, PageError};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::command::Command;
use cim_keys_core::nkey::{KeyPair, PublicKey};
use cim_keys_tests::tools::Version;
use serde_json::Value;
use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

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
        assets: Assets::new([("index.html".to_owned(), Cow::Borrowed(&b"<!doctype html>"[..]))]),
    }
}

fn host(data: &Path) -> Host {
    let store = Store::create(&data.join("store.db")).unwrap();
    Host::new(store, Vault::or_create(&data.join("identity.age")), Ambient::system(), "test".parse().unwrap())
}

async fn up(host: &Host, data: &Path) -> System {
    up_with(host, &options(data)).await
}

async fn up_with(host: &Host, options: &Options) -> System {
    dev::up(host, dev::take(&options.data).unwrap(), options).await.unwrap()
}

/// Where the page and the websocket of a system are.
fn addresses(system: &System) -> (String, String) {
    (system.ready.page_url.clone().unwrap(), system.ready.websocket_url.clone())
}

fn port(url: &str) -> u16 {
    place(url).rsplit(':').next().unwrap().parse().unwrap()
}

/// What is said of addresses that are others than before.
fn moved(system: &System) -> Vec<&str> {
    system.notes.iter().map(String::as_str).filter(|note| note.contains(" than before")).collect()
}

/// `127.0.0.1:PORT` of an address.
fn place(url: &str) -> &str {
    url.split('/').nth(2).unwrap()
}

/// The body of what is served there.
async fn get(page_url: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(place(page_url)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", place(page_url));
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// The status that the server gives to a handshake from a page of this origin; none is no browser.
async fn handshake(websocket_url: &str, origin: Option<&str>) -> u16 {
    let mut socket = TcpStream::connect(place(websocket_url)).await.unwrap();
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{origin}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        place(websocket_url)
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    socket.read_exact(&mut begin).await.unwrap();
    std::str::from_utf8(&begin[9..]).unwrap().parse().unwrap()
}

fn secret_key(path: &Path) -> PublicKey {
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    KeyPair::from_seed(&std::fs::read_to_string(path).unwrap()).unwrap().public_key()
}

/// The plain signing keys of the account APP.
fn plain_keys(host: &Host) -> Vec<PublicKey> {
    let accounts = host.store().accounts().unwrap();
    let app = accounts.iter().find(|listed| listed.entity.name() == "APP").unwrap();
    let app = host.account(app.entity.key()).unwrap();
    let keys = &app.token.claims().body.as_account().unwrap().signing_keys;
    keys.iter().filter(|(_, key)| key.scope().is_none()).map(|(key, _)| *key).collect()
}

#[tokio::test]
async fn the_page_is_served_and_only_its_origin_may_connect() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let system = up(&host, folder.path()).await;
    let ready = &system.ready;
    let page_url = ready.page_url.clone().unwrap();
    assert_eq!(get(&page_url, "/").await, "<!doctype html>");
    let config: Value = serde_json::from_str(&get(&page_url, "/config.json").await).unwrap();
    assert_eq!(config["websocket_url"], ready.websocket_url.as_str());
    assert_eq!(config["registry"]["operator"], host.store().registry_id().unwrap().operator.to_string());
    assert_eq!(config.as_object().unwrap().len(), 3, "{config}");

    let own = page_url.trim_end_matches('/').to_owned();
    let port = own.rsplit(':').next().unwrap().to_owned();
    let localhost = format!("http://localhost:{port}");
    for (origin, status) in [
        (Some(own.as_str()), 101),
        (Some(localhost.as_str()), 101),
        (None, 101),
        (Some("http://attacker.example"), 403),
        (Some("http://127.0.0.1:1"), 403),
        (Some("null"), 403),
    ] {
        assert_eq!(handshake(&ready.websocket_url, origin).await, status, "{origin:?}");
    }
    // The library's own websocket names no origin.
    let creds = async_nats::ConnectOptions::with_credentials_file(&ready.creds["browser"]).await.unwrap();
    let client = creds.connect(&ready.websocket_url).await.unwrap();
    client.flush().await.unwrap();
    drop(client);
    assert!(system.stop().await.is_some_and(|status| status.success()));
    assert!(TcpStream::connect(place(&page_url)).await.is_err());
}

#[tokio::test]
async fn the_signing_key_is_made_once_and_anew_when_it_signs_no_more() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let system = up(&host, folder.path()).await;
    let path = system.ready.signing_key.clone().unwrap();
    assert!(path.to_str().unwrap().contains("secret"), "{}", path.display());
    let key = secret_key(&path);
    assert_eq!(plain_keys(&host).len(), 2);
    assert!(plain_keys(&host).contains(&key));
    assert!(system.notes.iter().all(|note| !note.contains("page")), "{:?}", system.notes);
    system.stop().await;

    let again = up(&host, folder.path()).await;
    assert_eq!((again.ready.signing_key.as_ref(), secret_key(&path)), (Some(&path), key));
    assert_eq!(plain_keys(&host).len(), 2);
    again.stop().await;

    let accounts = host.store().accounts().unwrap();
    let app = accounts.iter().find(|listed| listed.entity.name() == "APP").unwrap().entity.key();
    host.run(&Request::new(Command::RevokeKey { key, owner: Some(app) })).unwrap();
    let third = up(&host, folder.path()).await;
    let other = secret_key(&path);
    assert!(other != key && plain_keys(&host).contains(&other));
    third.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_said_before_anything_is_made() {
    let _alone = ALONE.lock().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let options = Options { page_port: Some(port), ..options(folder.path()) };
    let error = dev::up(&host, dev::take(folder.path()).unwrap(), &options).await.unwrap_err();
    assert_eq!(error, UpError::Page(PageError::InUse { port }));
    assert!(!host.store().is_founded().unwrap());
}

#[tokio::test]
async fn a_restart_has_the_same_addresses_where_they_are_free() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let system = up(&host, folder.path()).await;
    let first = addresses(&system);
    system.stop().await;
    let system = up(&host, folder.path()).await;
    assert_eq!((addresses(&system), moved(&system)), (first.clone(), vec![]));
    system.stop().await;

    let taken = [
        TcpListener::bind(place(&first.0)).await.unwrap(),
        TcpListener::bind(place(&first.1)).await.unwrap(),
    ];
    let system = up(&host, folder.path()).await;
    let second = addresses(&system);
    assert!(first.0 != second.0 && first.1 != second.1, "{second:?}");
    let (page, websocket) = (port(&first.0), port(&first.1));
    assert_eq!(
        moved(&system),
        [
            format!(
                "the page has another address than before: port {page} is in use. What is pending in a browser under \
                 {} is seen only there: to get it back, end what uses port {page} and start again with --page-port {page}",
                first.0
            ),
            format!("the websocket has another address than before: port {websocket} is in use"),
        ]
    );
    system.stop().await;

    // Flags win over what was there last, and the way back from there is said, too.
    drop(taken);
    let flags = Options { page_port: Some(page), websocket_port: Some(websocket), ..options(folder.path()) };
    let system = up_with(&host, &flags).await;
    assert_eq!(addresses(&system), first);
    let notes = moved(&system);
    assert!(notes.len() == 1 && notes[0].contains(&second.0), "{notes:?}");
    system.stop().await;
}

#[tokio::test]
async fn a_flag_may_name_a_port_that_was_the_others() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let system = up(&host, folder.path()).await;
    let (page, websocket) = addresses(&system);
    system.stop().await;
    let flags = Options { websocket_port: Some(port(&page)), ..options(folder.path()) };
    let system = up_with(&host, &flags).await;
    let now = addresses(&system);
    assert!(port(&now.1) == port(&page) && ![&page, &websocket].contains(&&now.0), "{now:?}");
    assert_eq!(moved(&system).len(), 1, "{:?}", system.notes);
    system.stop().await;
}

#[tokio::test]
async fn damaged_ports_are_ignored_and_said() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let file = folder.path().join("ports.json");
    std::fs::write(&file, "{\"page\":").unwrap();
    let system = up(&host, folder.path()).await;
    let first = addresses(&system);
    let notes = moved(&system);
    assert!(notes.len() == 1 && notes[0].contains("ports.json is ignored"), "{notes:?}");
    system.stop().await;
    let system = up(&host, folder.path()).await;
    assert_eq!((addresses(&system), moved(&system)), (first, vec![]));
    system.stop().await;
}
