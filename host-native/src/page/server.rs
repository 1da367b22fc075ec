//! The listener on loopback, and the task that answers.

use super::answer::{self, Desk};
use super::{Assets, PageError, Site};
use axum::Router;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long answers that are under way may take once the end has come.
const END: Duration = Duration::from_secs(2);

/// A port that is taken, and not answered yet: connections wait.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    port: u16,
}

/// A page that is served. Dropping it ends it at once; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    end: Option<oneshot::Sender<()>>,
}

impl Listener {
    /// Takes this port of 127.0.0.1, or a free one.
    ///
    /// # Errors
    /// It is in use, or cannot be had.
    pub async fn bind(port: Option<u16>) -> Result<Self, PageError> {
        let port = port.unwrap_or(0);
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::AddrInUse => PageError::InUse { port },
            _ => PageError::Listen { port, reason: error.to_string() },
        };
        let listener =
            TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, port })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers from now on, in a task of this runtime.
    #[must_use]
    pub fn serve(self, assets: Assets, site: &Site) -> Server {
        let desk = Arc::new(Desk::new(assets, site));
        let router = Router::new().fallback(answer::answer).with_state(desk);
        let (end, ended) = oneshot::channel();
        let serving = axum::serve(self.listener, router).with_graceful_shutdown(async {
            // A sender that is gone is an end, too.
            let _ = ended.await;
        });
        let task = tokio::spawn(async {
            // It never fails: what cannot be accepted is tried again.
            let _ = serving.await;
        });
        Server { task, end: Some(end) }
    }
}

impl Server {
    /// Takes no more connections, lets answers under way end for two seconds, and gives the port up.
    pub async fn stop(mut self) {
        drop(self.end.take());
        let _ = tokio::time::timeout(END, &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
