//! `/healthz` and `/metrics` on loopback: two answers, for which no web framework is needed.

use super::metrics::Metrics;
use crate::host::Host;
use crate::report::{self, State};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request at most.
const LIMIT: usize = 8 * 1024;
/// Connections at a time.
const MOST: usize = 16;

/// Answers on this listener for ever.
pub async fn serve(listener: TcpListener, host: Arc<Host>, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No more files, say: that passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (host, metrics) = (Arc::clone(&host), Arc::clone(&metrics));
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, exchange(stream, &host, &metrics)).await;
            drop(place);
        });
    }
}

/// Takes a port of an address.
///
/// # Errors
/// It is in use, or cannot be had.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn exchange(mut stream: TcpStream, host: &Host, metrics: &Metrics) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut part).await?;
        if count == 0 || request.len() + count > LIMIT {
            return Ok(());
        }
        request.extend_from_slice(part.get(..count).unwrap_or_default());
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/healthz") => health(host, metrics),
        ("GET" | "HEAD", "/metrics") => {
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics.text(host.store()))
        }
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "/healthz and /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Healthy is who hears requests and can publish what comes of them.
fn health(host: &Host, metrics: &Metrics) -> (&'static str, &'static str, String) {
    let store = host.store();
    let report = store.report().ok().flatten();
    let at_work = report::is_taken(store.path(), report::WATCH);
    let sync = report.unwrap_or_default();
    let connected = metrics.is_connected();
    let well = connected && at_work && matches!(sync.state, State::Idle | State::Working | State::Contended);
    let body = json!({
        "healthy": well,
        "sync": sync.state,
        "reason": sync.reason,
        "responder": if connected { "connected" } else { "not connected" },
        "head": store.progress().map(|progress| progress.head).unwrap_or_default(),
    });
    (if well { "200 OK" } else { "503 Service Unavailable" }, "application/json", format!("{body}\n"))
}
