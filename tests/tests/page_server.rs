//! The page's server, over real sockets.
#![cfg(feature = "page")]

use cim_keys::page::{Assets, Listener, PageError, Server, Site};
use cim_keys_core::context::RegistryId;
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::subjects::Namespace;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WEBSOCKET: &str = "ws://127.0.0.1:4223";

/// A page that is served.
struct Served {
    server: Server,
    address: SocketAddr,
    site: Site,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|header| header.0 == name);
        let value = found.next().map(|header| header.1.as_str());
        assert!(found.next().is_none(), "{name} stands twice: {self:?}");
        value
    }

    fn json(&self) -> Value {
        assert_eq!((self.status, self.header("content-type")), (200, Some("application/json")), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Served {
    async fn new() -> Served {
        let file = |path: &str, text: &'static str| (path.to_owned(), Cow::Borrowed(text.as_bytes()));
        let assets = Assets::new([
            file("index.html", "<!doctype html><title>page</title>"),
            file("favicon.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
            file("assets/main-1a2b.js", "export {};"),
            file("assets/main-1a2b.css", "body{}"),
            file("assets/core-1a2b.wasm", "\0asm\u{1}\0\0\0"),
            file("assets/font-1a2b.woff2", "wOF2"),
        ]);
        let operator =
            KeyPair::from_entropy(Kind::Operator, *b"the page of this operator, 32 b.").public_key();
        let site = Site {
            registry: RegistryId { operator, namespace: Namespace::default() },
            websocket_url: WEBSOCKET.to_owned(),
            api_prefix: PipelineRole::Browser.api_prefix().unwrap().to_owned(),
        };
        let listener = Listener::bind(None).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.port()));
        Served { server: listener.serve(assets, &site), address, site }
    }

    /// Sends these bytes and reads until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        Answer::read(&answer)
    }

    async fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{head}{length}\r\n{body}");
        self.raw(text.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &format!("Host: {}\r\n", self.address), "").await
    }

    async fn report(&self, kind: &str, body: &str) -> Answer {
        let head = format!("Host: {}\r\nContent-Type: {kind}\r\n", self.address);
        self.ask("POST", "/csp-report", &head, body).await
    }
}

/// What every answer has.
fn is_guarded(answer: &Answer) {
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self' {WEBSOCKET}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types svelte-trusted-html; report-uri /csp-report"
    );
    for (name, value) in [
        ("content-security-policy", policy.as_str()),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    let permissions = answer.header("permissions-policy").unwrap();
    assert!(permissions.contains("camera=()") && permissions.contains("geolocation=()"), "{permissions}");
    // Nobody else's page may read what stands here.
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn files_have_their_type_their_age_and_every_guard() {
    let served = Served::new().await;
    let for_ever = "public, max-age=31536000, immutable";
    for (path, media_type, cache, begin) in [
        ("/", "text/html; charset=utf-8", "no-store", "<!doctype"),
        ("/index.html", "text/html; charset=utf-8", "no-store", "<!doctype"),
        ("/favicon.svg", "image/svg+xml", "no-store", "<svg"),
        ("/assets/main-1a2b.js", "text/javascript; charset=utf-8", for_ever, "export"),
        ("/assets/main-1a2b.css", "text/css; charset=utf-8", for_ever, "body"),
        ("/assets/core-1a2b.wasm", "application/wasm", for_ever, "\0asm"),
        ("/assets/font-1a2b.woff2", "font/woff2", for_ever, "wOF2"),
        ("/?query", "text/html; charset=utf-8", "no-store", "<!doctype"),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(media_type), "{path}");
        assert_eq!(answer.header("cache-control"), Some(cache), "{path}");
        assert!(answer.body.starts_with(begin.as_bytes()), "{path}: {answer:?}");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
        is_guarded(&answer);
        let host = format!("Host: {}\r\n", served.address);
        let head = served.ask("HEAD", path, &host, "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), answer.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_is_listed() {
    let served = Served::new().await;
    for path in [
        "/assets",
        "/assets/",
        "/assets/main-1a2b.js/",
        "//index.html",
        "/../Cargo.toml",
        "/assets/../index.html",
        "/%2e%2e/Cargo.toml",
        "/assets%2fmain-1a2b.js",
        "/config.json/",
        "/csp-reports/",
        "/INDEX.HTML",
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("main-1a2b"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        is_guarded(&answer);
    }
}

#[tokio::test]
async fn other_names_for_this_machine_are_refused() {
    let served = Served::new().await;
    let port = served.address.port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
        "localhost".into(),
    ] {
        let answer = served.ask("GET", "/config.json", &format!("Host: {host}\r\n"), "").await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for head in [
        "",
        "Host: \r\n",
        "Host: attacker.example\r\n",
        "Host: 127.0.0.1.attacker.example\r\n",
        "Host: localhost.attacker.example:80\r\n",
        "Host: localhost@attacker.example\r\n",
        "Host: attacker.example@localhost\r\n",
        "Host: 127.0.0.2\r\n",
        "Host: 0.0.0.0\r\n",
        "Host: localhost:no\r\n",
        "Host: localhost\r\nHost: attacker.example\r\n",
    ] {
        for path in ["/", "/config.json", "/csp-reports", "/nowhere"] {
            let answer = served.ask("GET", path, head, "").await;
            assert_eq!(answer.status, 421, "{head:?} {path}: {answer:?}");
            is_guarded(&answer);
        }
    }
    let report = "Host: attacker.example\r\nContent-Type: application/csp-report\r\n";
    assert_eq!(served.ask("POST", "/csp-report", report, "{}").await.status, 421);
    assert_eq!(served.get("/csp-reports").await.json(), json!([]));
    let whole = served.ask("GET", "http://attacker.example/config.json", "Host: localhost\r\n", "").await;
    assert_eq!(whole.status, 421);
}

#[tokio::test]
async fn the_configuration_is_public_facts_and_nothing_more() {
    let served = Served::new().await;
    let answer = served.get("/config.json").await;
    is_guarded(&answer);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let expected = json!({
        "registry": {
            "operator": served.site.registry.operator.to_string(),
            "namespace": served.site.registry.namespace.to_string(),
        },
        "websocket_url": WEBSOCKET,
        "api_prefix": "CIMKEYS.API",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn only_reading_and_reporting_is_done() {
    let served = Served::new().await;
    let host = format!("Host: {}\r\nContent-Type: application/json\r\n", served.address);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in ["/", "/config.json", "/csp-reports", "/nowhere"] {
            let answer = served.ask(method, path, &host, "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
            is_guarded(&answer);
        }
    }
    for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let answer = served.ask(method, "/csp-report", &host, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[tokio::test]
async fn reports_are_counted_and_the_newest_are_kept() {
    let served = Served::new().await;
    assert_eq!(served.get("/csp-reports").await.json(), json!([]));
    for number in 0..103 {
        let report = json!({ "csp-report": { "violated-directive": "script-src", "line-number": number } });
        let answer = served.report("application/csp-report", &report.to_string()).await;
        assert_eq!(answer.status, 204);
        is_guarded(&answer);
    }
    assert_eq!(served.report("application/reports+json; charset=utf-8", "[]").await.status, 204);
    let answer = served.get("/csp-reports").await;
    is_guarded(&answer);
    assert_eq!(answer.header("csp-report-count"), Some("104"));
    let list = answer.json();
    assert_eq!(list.as_array().unwrap().len(), 100);
    assert_eq!((&list[0]["csp-report"]["line-number"], &list[99]), (&json!(4), &json!([])));
}

#[tokio::test]
async fn what_is_no_report_is_not_kept() {
    let served = Served::new().await;
    assert_eq!(served.report("text/plain", "{}").await.status, 415);
    assert_eq!(served.report("application/csp-report", "{").await.status, 400);
    assert_eq!(served.report("application/csp-report", "").await.status, 400);
    let fits = format!("\"{}\"", "a".repeat(16 * 1024 - 2));
    assert_eq!(served.report("application/json", &fits).await.status, 204);
    let one_more = format!("\"{}\"", "a".repeat(16 * 1024 - 1));
    assert_eq!(served.report("application/json", &one_more).await.status, 413);

    // Announced or in chunks without an end: it is refused before it has come.
    let head = format!(
        "POST /csp-report HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n",
        served.address
    );
    let announced =
        format!("{head}Connection: close\r\nContent-Length: 10000000000\r\n\r\n{}", "a".repeat(16385));
    assert_eq!(served.raw(announced.as_bytes()).await.status, 413);
    let chunk = format!("{:x}\r\n{}", 16385, "a".repeat(16385));
    let chunks = format!("{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(served.raw(chunks.as_bytes()).await.status, 413);

    let kept = served.get("/csp-reports").await;
    assert_eq!(kept.header("csp-report-count"), Some("1"));
}

#[tokio::test]
async fn the_port_is_taken_at_once_and_given_up_at_the_end() {
    let served = Served::new().await;
    let port = served.address.port();
    assert_eq!(Listener::bind(Some(port)).await.unwrap_err(), PageError::InUse { port });
    // Idle, and in the middle of a request: neither keeps it from ending.
    let idle = TcpStream::connect(served.address).await.unwrap();
    let mut half = TcpStream::connect(served.address).await.unwrap();
    half.write_all(b"POST /csp-report HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    assert_eq!(served.get("/").await.status, 200);
    served.server.stop().await;
    assert!(TcpStream::connect(served.address).await.is_err());
    drop((idle, half));
    assert_eq!(Listener::bind(Some(port)).await.unwrap().port(), port);
}
