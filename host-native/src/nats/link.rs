//! One connection. It never comes back by itself: once it is lost, everything that was queued in it is lost too.

use super::entry::{CONNECT, Seen, check_time, options, refused};
use super::target::Target;
pub use super::trouble::{LinkError, Trouble};
use crate::report::Server;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::{Client, HeaderMap, Message, Subscriber};
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::jetstream;
use cim_keys_core::subjects::Namespace;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long one answer may take, where nobody says otherwise.
pub const ANSWER: Duration = Duration::from_secs(5);

/// One connection to a server.
///
/// The client reconnects by nature and then sends what was queued; here it may not. Its tasks live in a runtime of the
/// link's own, so that dropping the link ends them and whatever waits in them.
pub struct Link {
    client: Client,
    seen: watch::Receiver<Seen>,
    api_prefix: String,
    inbox_prefix: String,
    answer: Duration,
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
}

/// A runtime that is ended where it is dropped, and not waited for.
struct Own(Option<Runtime>);

impl Own {
    fn handle(&self) -> Result<Handle, LinkError> {
        let ended = || LinkError::Unreachable { reason: "the client has ended".into() };
        self.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(ended)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    /// Connects. `now` (Unix seconds) tells whether the creds are still valid: a client with expired creds would try
    /// without end.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn connect(target: &Target, now: i64) -> Result<Self, LinkError> {
        check_time(&target.access, now)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cim-keys-nats")
            .enable_all()
            .build()
            .map_err(|error| LinkError::Unreachable { reason: error.to_string() })?;
        // Whoever no longer waits for the connection ends its runtime: one that is only dropped waits for its tasks.
        let mut runtime = Own(Some(runtime));
        let (tell, seen) = watch::channel(Seen::default());
        let once = Arc::new(AtomicBool::new(false));
        let options = options(target, tell, Arc::clone(&once));
        let urls = target.urls.clone();
        let handle = runtime.handle()?;
        let connected = handle.spawn(async move {
            let client = options.connect(urls).await;
            once.store(true, Ordering::SeqCst);
            client
        });
        let outcome = match tokio::time::timeout(CONNECT + CONNECT, connected).await {
            Ok(Ok(Ok(client))) => Ok(client),
            Ok(Ok(Err(error))) => Err(refused(&error, target)),
            Ok(Err(_)) | Err(_) => Err(LinkError::Unreachable { reason: "no answer in time".into() }),
        };
        Ok(Self {
            client: outcome?,
            seen,
            api_prefix: target.api_prefix.clone(),
            inbox_prefix: target.inbox_prefix.clone().unwrap_or_else(|| "_INBOX".to_owned()),
            answer: target.timeout,
            handle,
            runtime: Mutex::new(runtime.0.take()),
        })
    }

    /// A subject of the JetStream API: `tail` behind this connection's prefix.
    #[must_use]
    pub fn api(&self, tail: &str) -> String {
        format!("{}.{tail}", self.api_prefix)
    }

    /// Prefix of the JetStream API for this connection.
    #[must_use]
    pub fn api_prefix(&self) -> &str {
        &self.api_prefix
    }

    /// How long one answer may take.
    #[must_use]
    pub fn answer(&self) -> Duration {
        self.answer
    }

    /// Name of the server that this connection goes to.
    #[must_use]
    pub fn server_name(&self) -> String {
        self.client.server_info().server_name
    }

    /// Version of that server, as it writes it.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// The server as it is reported.
    #[must_use]
    pub fn server(&self, target: &Target) -> Server {
        Server { url: target.shown(), name: self.server_name(), version: self.server_version() }
    }

    /// Whether the server asks for TLS.
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        self.client.server_info().tls_required
    }

    /// The same as numbers; none where it is no version.
    #[must_use]
    pub fn server_numbers(&self) -> Option<(u32, u32, u32)> {
        cim_keys_core::jetstream::server_version(&self.server_version())
    }

    /// The largest message in bytes that the server takes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Whether the connection is gone for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seen.borrow().closed
    }

    /// How many replicas a stream should have: three where the server belongs to a cluster of three or more, else one.
    #[must_use]
    pub fn cluster_replicas(&self) -> u32 {
        let info = self.client.server_info();
        if info.cluster.is_some() && info.connect_urls.len() >= 3 { 3 } else { 1 }
    }

    /// Whether the server asks for creds at all.
    #[must_use]
    pub fn wants_creds(&self) -> bool {
        self.client.server_info().auth_required
    }

    /// How many permission violations were reported so far.
    pub(crate) fn denials(&self) -> usize {
        self.seen.borrow().denied.len()
    }

    /// A violation for one of these subjects that was reported after the first `before`.
    pub(crate) fn denied_since(&self, before: usize, subjects: &BTreeSet<String>) -> Option<String> {
        self.seen.borrow().denied.iter().skip(before).find(|subject| subjects.contains(*subject)).cloned()
    }

    /// Ends the connection, and with it whatever is queued in it.
    pub fn close(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    /// Does something beside, as long as the connection is there.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Listens to the log of a namespace's stream.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn listen(&self, namespace: Namespace) -> Result<Listening, Trouble> {
        let messages = self.client.subscribe(namespace.log()).await.map_err(|_| Trouble::Closed)?;
        Ok(Listening { messages, namespace })
    }

    /// Waits until the connection is gone, and says why.
    pub async fn closed(&self) -> Trouble {
        self.trouble(None).await
    }

    /// Asks and waits for one answer, at most `patience`.
    ///
    /// # Errors
    /// See [`Trouble`]. The request may have had its effect whatever the error.
    pub async fn ask(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Message, Trouble> {
        let mut request = Request::new().payload(payload.into()).timeout(Some(patience + ANSWER));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asked = self.client.send_request(subject.to_owned(), request);
        tokio::select! {
            biased;
            answer = asked => answer.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => Trouble::NoResponders,
                RequestErrorKind::MaxPayloadExceeded => Trouble::TooLarge,
                RequestErrorKind::TimedOut => Trouble::Timeout,
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Trouble::Closed,
            }),
            trouble = self.trouble(Some(subject)) => Err(trouble),
            () = tokio::time::sleep(patience) => Err(Trouble::Timeout),
        }
    }

    /// Asks and gathers answers until `enough` says so, or for at most `patience`. An answer is handed to `enough` as
    /// it comes; what it keeps is its affair.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn gather(
        &self,
        subject: &str,
        payload: Vec<u8>,
        patience: Duration,
        mut enough: impl FnMut(Message) -> bool,
    ) -> Result<(), Trouble> {
        use futures::StreamExt;
        let inbox = self.client.new_inbox();
        let gathering = async {
            let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|_| Trouble::Closed)?;
            let asked =
                self.client.publish_with_reply(subject.to_owned(), inbox.clone(), payload.into()).await;
            asked.map_err(|_| Trouble::Closed)?;
            while let Some(answer) = answers.next().await {
                if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS)
                    && answer.headers.as_ref().is_none_or(HeaderMap::is_empty)
                {
                    return Err(Trouble::NoResponders);
                }
                if enough(answer) {
                    return Ok(());
                }
            }
            Err(Trouble::Closed)
        };
        tokio::select! {
            biased;
            outcome = gathering => outcome,
            trouble = self.trouble(Some(subject)) => Err(trouble),
            () = tokio::time::sleep(patience) => Err(Trouble::Timeout),
        }
    }

    /// Asks everybody and gathers payloads: at most `most`, the first within `first`, each further one within `quiet`.
    ///
    /// # Errors
    /// See [`Trouble`]; [`Trouble::Timeout`] where nobody answers in time.
    pub async fn collect(
        &self,
        subject: &str,
        payload: Vec<u8>,
        most: usize,
        first: Duration,
        quiet: Duration,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        use futures::StreamExt;
        let inbox = self.client.new_inbox();
        let collecting = async {
            let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|_| Trouble::Closed)?;
            let asked =
                self.client.publish_with_reply(subject.to_owned(), inbox.clone(), payload.into()).await;
            asked.map_err(|_| Trouble::Closed)?;
            let mut found: Vec<Vec<u8>> = Vec::new();
            while found.len() < most {
                let patience = if found.is_empty() { first } else { quiet };
                match tokio::time::timeout(patience, answers.next()).await {
                    Ok(Some(answer)) if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) => {
                        return Err(Trouble::NoResponders);
                    }
                    Ok(Some(answer)) => found.push(answer.payload.to_vec()),
                    Ok(None) => return Err(Trouble::Closed),
                    Err(_) if found.is_empty() => return Err(Trouble::Timeout),
                    Err(_) => break,
                }
            }
            Ok(found)
        };
        tokio::select! {
            biased;
            outcome = collecting => outcome,
            trouble = self.trouble(Some(subject)) => Err(trouble),
        }
    }

    /// Counts what is published on a subject from now on. The count changes with each message and is closed with the
    /// connection; messages are not kept.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn count(&self, subject: &str) -> Result<watch::Receiver<u64>, Trouble> {
        use futures::StreamExt;
        let mut messages = tokio::select! {
            biased;
            heard = self.client.subscribe(subject.to_owned()) => heard.map_err(|_| Trouble::Closed)?,
            trouble = self.trouble(Some(subject)) => return Err(trouble),
        };
        let (tell, heard) = watch::channel(0);
        self.spawn(async move {
            while messages.next().await.is_some() && !tell.is_closed() {
                tell.send_modify(|count| *count += 1);
            }
        });
        Ok(heard)
    }

    /// Hears a subject, together with whoever else is in the same queue. What comes is bounded by the client.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(crate) async fn hear(&self, subject: &str, queue: Option<&str>) -> Result<Subscriber, Trouble> {
        let heard = async {
            let subject = subject.to_owned();
            let heard = match queue {
                Some(queue) => self.client.queue_subscribe(subject, queue.to_owned()).await,
                None => self.client.subscribe(subject).await,
            };
            heard.map_err(|_| Trouble::Closed)
        };
        tokio::select! {
            biased;
            heard = heard => heard,
            trouble = self.trouble(Some(subject)) => Err(trouble),
        }
    }

    /// Answers a request. Only that it is queued is known.
    pub(crate) async fn respond(&self, reply: async_nats::Subject, headers: HeaderMap, payload: Vec<u8>) {
        let queued = self.client.publish_with_headers(reply, headers, payload.into());
        // Whoever asks repeats what is not answered.
        let _ = tokio::time::timeout(self.answer, queued).await;
    }

    /// Waits until everything queued has reached the server, which has taken it in the order in which it was queued.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(crate) async fn settle(&self, subject: &str) -> Result<(), Trouble> {
        tokio::select! {
            biased;
            flushed = self.client.flush() => flushed.map_err(|_| Trouble::Closed),
            trouble = self.trouble(Some(subject)) => Err(trouble),
            () = tokio::time::sleep(self.answer) => Err(Trouble::Timeout),
        }
    }

    /// Subscribes to an inbox of its own and asks that answers come there.
    pub(super) async fn answers(&self, subject: &str, payload: Vec<u8>) -> Result<Subscriber, Trouble> {
        let inbox = self.client.new_inbox();
        let asking = async {
            let answers = self.client.subscribe(inbox.clone()).await.map_err(|_| Trouble::Closed)?;
            let asked = self.client.publish_with_reply(subject.to_owned(), inbox, payload.into()).await;
            asked.map(|()| answers).map_err(|_| Trouble::Closed)
        };
        tokio::select! {
            biased;
            outcome = asking => outcome,
            trouble = self.trouble(Some(subject)) => Err(trouble),
            () = tokio::time::sleep(self.answer) => Err(Trouble::Timeout),
        }
    }

    /// Queues one message. Only a later answer tells whether it went out.
    ///
    /// # Errors
    /// The connection is gone, or the message is larger than the server takes.
    pub(super) async fn queue(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<(), Trouble> {
        let queued = self.client.publish_with_headers(subject.to_owned(), headers, payload.into());
        tokio::select! {
            biased;
            outcome = queued => outcome.map_err(|error| match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => Trouble::TooLarge,
                _ => Trouble::Closed,
            }),
            trouble = self.trouble(Some(subject)) => Err(trouble),
            () = tokio::time::sleep(self.answer) => Err(Trouble::Timeout),
        }
    }

    /// Waits for something that makes an answer impossible. A violation for this subject counts when it is reported after
    /// this call; one for the inbox counts for ever.
    pub(super) fn trouble<'a>(&'a self, subject: Option<&'a str>) -> impl Future<Output = Trouble> + 'a {
        let mut seen = self.seen.clone();
        // Now, not when it is first waited for: what is asked beside it may be refused before that.
        let before = seen.borrow_and_update().denied.len();
        async move {
            loop {
                {
                    let now = seen.borrow_and_update();
                    if let Some(reason) = &now.authorization {
                        return Trouble::Authorization { reason: reason.clone() };
                    }
                    if now.closed {
                        return Trouble::Closed;
                    }
                    let ours = |(place, denied): &(usize, &String)| {
                        *place >= before && Some(denied.as_str()) == subject
                            || denied.starts_with(&self.inbox_prefix)
                    };
                    if let Some((_, denied)) =
                        now.denied.iter().enumerate().find(ours).filter(|_| subject.is_some())
                    {
                        return Trouble::Permission { subject: denied.clone() };
                    }
                }
                if seen.changed().await.is_err() {
                    return Trouble::Closed;
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// What comes on the log.
pub struct Listening {
    messages: Subscriber,
    namespace: Namespace,
}

impl Listening {
    /// The next message that the stream stored. None once the connection is gone.
    pub async fn next(&mut self) -> Option<StoredMessage> {
        use futures::StreamExt;
        loop {
            let message = self.messages.next().await?;
            let headers = message.headers.unwrap_or_default();
            let list = header_list(&headers);
            let logged =
                jetstream::logged(&self.namespace, message.subject.as_str(), list, message.payload.to_vec());
            if logged.is_some() {
                return logged;
            }
        }
    }
}

/// Headers as names and values.
pub(super) fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    let each = headers.iter();
    each.flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string()))).collect()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({}, {})", self.server_name(), self.api_prefix)
    }
}
