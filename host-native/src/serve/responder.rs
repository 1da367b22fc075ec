//! Hears requests and answers them: so many at a time, no more than so many waiting, each as long as it may take.

use super::answer::{Answer, Failure};
use super::caller::Caller;
use super::discovery::{Discovery, QUEUE};
use super::issue::Issuer;
use super::log::{self, Level};
use super::metrics::Metrics;
use super::operate;
use super::policy::Policy;
use super::request::{Operation, Request};
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::{Link, LinkError, Trouble};
use crate::nats::role;
use crate::nats::target::Target;
use async_nats::{HeaderMap, HeaderValue, Message, Subscriber};
use cim_keys_core::headers::Headers;
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::trace::TraceParent;
use futures::StreamExt as _;
use futures::stream::{SelectAll, select_all};
use serde_json::Value;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Requests that are worked on or wait; more are refused.
const MOST: usize = 256;
/// Commands that are decided and written at a time.
const AT_WORK: usize = 4;
/// Between two tries to connect.
const PACE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// How long a connection is kept beside the one that follows it.
const AT_MOST: Duration = Duration::from_secs(120);
/// How long answers that are under way may take once the end has come.
const END: Duration = Duration::from_secs(4);

/// What the service works with.
pub struct Setup {
    /// Store and keys.
    pub host: Arc<Host>,
    /// The servers; entered as the responder.
    pub servers: Target,
    /// Who may ask for what.
    pub policy: Policy,
    /// Issues short-lived creds; none where that is off.
    pub issuer: Option<Issuer>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How long the responder's user in memory lives, in seconds: [`LIFETIME`]. Another takes its place before.
    pub lifetime: i64,
}

/// How long a responder's user lives, in seconds.
pub const LIFETIME: i64 = 3600;

/// Answers requests. Cheap to clone; [`run`](Self::run) is called once.
#[derive(Clone)]
pub struct Responder {
    desk: Arc<Desk>,
}

struct Desk {
    host: Arc<Host>,
    servers: Target,
    policy: RwLock<Arc<Policy>>,
    issuer: Option<Issuer>,
    metrics: Arc<Metrics>,
    lifetime: i64,
    discovery: Discovery,
    places: Arc<Semaphore>,
    at_work: Semaphore,
    under_way: Mutex<JoinSet<()>>,
}

/// A connection and what is heard on it.
struct Heard {
    link: Arc<Link>,
    requests: Subscriber,
    /// Requests so far.
    count: u64,
    discovery: SelectAll<Subscriber>,
    subject: String,
    until: Instant,
}

/// Why a connection is left.
enum Left {
    Lost(Trouble),
    Renew,
    Ended,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("requests cannot be heard: {0}")]
    Trouble(Trouble),
}

impl ConnectError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::Link(error) => error.code(),
            Self::Trouble(Trouble::Permission { .. }) => "permission",
            Self::Trouble(_) => "no-answer",
        }
    }
}

impl Responder {
    /// Ready to run.
    ///
    /// # Errors
    /// The store cannot be read, or the random source gives nothing.
    pub fn new(setup: Setup) -> Result<Self, KeyError> {
        let namespace = setup.host.store().registry_id()?.namespace.clone();
        // An id like any user's key: nothing that could be taken for another one.
        let id = KeyPair::from_entropy(Kind::User, setup.host.ambient().entropy()?).public_key().to_string();
        let discovery = Discovery::new(id, namespace, setup.host.ambient().now());
        let desk = Desk {
            host: setup.host,
            servers: setup.servers,
            policy: RwLock::new(Arc::new(setup.policy)),
            issuer: setup.issuer,
            metrics: setup.metrics,
            lifetime: setup.lifetime,
            discovery,
            places: Arc::new(Semaphore::new(MOST)),
            at_work: Semaphore::new(AT_WORK),
            under_way: Mutex::default(),
        };
        Ok(Self { desk: Arc::new(desk) })
    }

    /// Judges by another policy from now on.
    pub fn take(&self, policy: Policy) {
        *self.desk.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Answers until `stop`, then finishes what it has begun, for four seconds at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut failures = 0;
        let mut next = None;
        loop {
            let heard = match next.take() {
                Some(heard) => Ok(heard),
                None => tokio::select! {
                    biased;
                    () = &mut stop => return self.finish(None).await,
                    heard = self.connect() => heard,
                },
            };
            let pause = match heard {
                Err(error) => {
                    failures += 1;
                    let members = [("code", error.code().into()), ("reason", error.to_string().into())];
                    log::line(Level::Warn, "requests are not heard", &members);
                    PACE.saturating_mul(1 << (failures - 1).min(6)).min(LONGEST)
                }
                Ok(mut heard) => {
                    failures = 0;
                    match self.hear(&mut heard, stop.as_mut()).await {
                        Left::Ended => return self.finish(Some(heard)).await,
                        Left::Renew => {
                            // The new one hears before the old one stops; both are in one queue.
                            match self.connect().await {
                                Ok(new) => {
                                    tokio::spawn(self.clone().leave(heard));
                                    next = Some(new);
                                }
                                Err(error) => {
                                    let members = [("code", error.code().into())];
                                    log::line(
                                        Level::Warn,
                                        "the responder's user cannot be renewed",
                                        &members,
                                    );
                                    heard.until = Instant::now() + LONGEST;
                                    next = Some(heard);
                                }
                            }
                            Duration::ZERO
                        }
                        Left::Lost(trouble) => {
                            self.desk.metrics.connected(false);
                            let members = [("reason", trouble.to_string().into())];
                            log::line(Level::Warn, "the responder's connection is gone", &members);
                            PACE / 10
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return self.finish(next).await,
                () = sleep(pause) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Heard, ConnectError> {
        let host = &self.desk.host;
        let target = role::target_for(host, PipelineRole::Responder, &self.desk.servers, self.desk.lifetime)?;
        let link = Link::connect(&target, host.ambient().now().seconds()).await?;
        let namespace = host.store().registry_id().map_err(KeyError::from)?.namespace.clone();
        let subject = namespace.api();
        let requests = link.hear(&subject, Some(QUEUE)).await.map_err(ConnectError::Trouble)?;
        let mut discovery = Vec::new();
        for subject in self.desk.discovery.subjects() {
            discovery.push(link.hear(&subject, None).await.map_err(ConnectError::Trouble)?);
        }
        link.settle(&subject).await.map_err(ConnectError::Trouble)?;
        self.desk.metrics.connected(true);
        let user = target.user().map(|user| user.to_string());
        let members = [("server", link.server_name().into()), ("user", user.into())];
        log::line(Level::Info, "requests are heard", &members);
        Ok(Heard {
            link: Arc::new(link),
            requests,
            count: 0,
            discovery: select_all(discovery),
            subject,
            until: Instant::now() + renewal(self.desk.lifetime),
        })
    }

    async fn hear(&self, heard: &mut Heard, mut stop: impl Future<Output = ()> + Unpin) -> Left {
        let Heard { link, requests, count, discovery, until, .. } = heard;
        let closed = link.closed();
        tokio::pin!(closed);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return Left::Ended,
                trouble = &mut closed => return Left::Lost(trouble),
                () = tokio::time::sleep_until(*until) => return Left::Renew,
                message = requests.next() => match message {
                    Some(message) => {
                        *count += 1;
                        self.take_up(message, link).await;
                    }
                    None => return Left::Lost(Trouble::Closed),
                },
                message = discovery.next() => match message {
                    Some(message) => self.take_up(message, link).await,
                    None => return Left::Lost(Trouble::Closed),
                },
            }
        }
    }

    /// Begins to answer.
    async fn take_up(&self, message: Message, link: &Arc<Link>) {
        let Some(reply) = message.reply.clone() else {
            // Nobody would hear what came of it.
            return log::line(Level::Warn, "a request without a reply subject is left aside", &[]);
        };
        if message.subject.starts_with("$SRV.") {
            if let Some(answer) = self.desk.discovery.answer(&message.subject) {
                link.respond(reply, HeaderMap::new(), answer.to_string().into_bytes()).await;
            }
            return;
        }
        self.desk.metrics.begun();
        let Ok(place) = Arc::clone(&self.desk.places).try_acquire_owned() else {
            let busy = Failure::new(429, "busy", "too many requests are waiting").hint("ask again later");
            self.desk.metrics.answered(None, Some("busy"), Duration::ZERO);
            return send(link, reply, &Err(busy)).await;
        };
        let (desk, link) = (Arc::clone(&self.desk), Arc::clone(link));
        let mut under_way = self.desk.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while under_way.try_join_next().is_some() {}
        under_way.spawn(async move {
            desk.exchange(message, reply, &link).await;
            drop(place);
        });
    }

    /// Leaves a connection beside another one: after so many requests more than are on their way, a number that client and
    /// server count alike, so that none is lost in between. Where nobody asks, after some time.
    async fn leave(self, heard: Heard) {
        let Heard { link, mut requests, count, discovery, subject, .. } = heard;
        drop(discovery);
        let last = count.saturating_add(MOST as u64);
        if requests.unsubscribe_after(last).await.is_err() {
            return;
        }
        let until = Instant::now() + renewal(self.desk.lifetime).min(AT_MOST) / 2;
        while let Ok(Some(message)) = tokio::time::timeout_at(until, requests.next()).await {
            self.take_up(message, &link).await;
        }
        let _ = requests.drain().await;
        while let Some(message) = requests.next().await {
            self.take_up(message, &link).await;
        }
        // A connection that is dropped takes along what is queued in it: the last answer must be out.
        while Arc::strong_count(&link) > 1 {
            sleep(PACE / 10).await;
        }
        let _ = link.settle(&subject).await;
    }

    async fn finish(&self, heard: Option<Heard>) {
        let until = Instant::now() + END;
        let link = heard.as_ref().map(|heard| (Arc::clone(&heard.link), heard.subject.clone()));
        if let Some(Heard { mut requests, link, .. }) = heard {
            let _ = tokio::time::timeout_at(until, requests.drain()).await;
            // Refused, so that whoever asks need not wait for what never comes.
            while let Ok(Some(message)) = tokio::time::timeout_at(until, requests.next()).await {
                let Some(reply) = message.reply else { continue };
                let stopping = Failure::new(503, "stopping", "the service is stopping").hint("ask again");
                send(&link, reply, &Err(stopping)).await;
            }
        }
        let mut under_way =
            std::mem::take(&mut *self.desk.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        let finished = async { while under_way.join_next().await.is_some() {} };
        if tokio::time::timeout_at(until, finished).await.is_err() {
            log::line(
                Level::Warn,
                "requests under way are given up: what is on the disk is published later",
                &[],
            );
        }
        if let Some((link, subject)) = link {
            let _ = tokio::time::timeout(Duration::from_millis(500), link.settle(&subject)).await;
        }
        self.desk.metrics.connected(false);
    }
}

/// When a user that lives so long, in seconds, is made anew: half-way, so that its connection can be left in peace.
fn renewal(lifetime: i64) -> Duration {
    Duration::from_secs(lifetime.saturating_sub(1).unsigned_abs()) / 2
}

/// What came of a request, for answer and log.
struct Done {
    operation: Option<Operation>,
    caller: Option<Caller>,
    command_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
    trace: Option<TraceParent>,
    outcome: Result<Answer, Failure>,
}

impl Desk {
    async fn exchange(self: Arc<Self>, message: Message, reply: async_nats::Subject, link: &Link) {
        let began = Instant::now();
        let done = Arc::clone(&self).answer(&message).await;
        // Counted and logged first: whoever has the answer finds both.
        let took = began.elapsed();
        let failure = done.outcome.as_ref().err();
        let code = failure.map(|failure| failure.code.as_str());
        self.metrics.answered(done.operation, code, took);
        if let Some(operation) = done.operation {
            self.discovery.count(operation, failure.map(Failure::line), took);
            if operation == Operation::CredentialsIssue && failure.is_none() {
                self.metrics.issued();
            }
        }
        let state = done.outcome.as_ref().ok().and_then(|answer| serde_json::to_value(answer.state).ok());
        let text = |value: Option<String>| value.map_or(Value::Null, Value::from);
        let members = [
            ("operation", done.operation.map_or(Value::Null, |operation| operation.as_str().into())),
            ("correlation_id", text(done.correlation_id.or(done.command_id).map(|id| id.to_string()))),
            ("command_id", text(done.command_id.map(|id| id.to_string()))),
            ("traceparent", text(done.trace.map(|trace| trace.to_string()))),
            ("caller_account", text(done.caller.map(|caller| caller.account.to_string()))),
            ("caller_user", text(done.caller.map(|caller| caller.user.to_string()))),
            ("code", code.map_or(Value::Null, Value::from)),
            ("reason", text(failure.map(|failure| failure.message.clone()))),
            ("state", state.unwrap_or_default()),
            ("millis", u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into()),
        ];
        let level = match failure.map(|failure| failure.status) {
            None => Level::Info,
            Some(status) if status < 500 => Level::Warn,
            Some(_) => Level::Error,
        };
        log::line(level, "request", &members);
        send(link, reply, &done.outcome).await;
    }

    async fn answer(self: Arc<Self>, message: &Message) -> Done {
        let mut done = Done {
            operation: None,
            caller: None,
            command_id: None,
            correlation_id: None,
            trace: trace(message),
            outcome: Err(Failure::new(404, "unknown-operation", "there is no such operation")),
        };
        // Behind the namespace's two tokens and `keys-api`.
        let name = message.subject.splitn(4, '.').nth(3).unwrap_or_default();
        let Ok(operation) = name.parse::<Operation>() else {
            done.outcome = done.outcome.map_err(|failure| {
                failure.hint(&format!("known are {}", Operation::ALL.map(Operation::as_str).join(", ")))
            });
            return done;
        };
        done.operation = Some(operation);
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers.flat_map(|(name, values)| {
            values.iter().map(move |value| (AsRef::<str>::as_ref(name), value.as_str()))
        });
        let caller = match Caller::of(headers) {
            Ok(caller) => caller,
            Err(error) => {
                done.outcome = Err(Failure::new(403, error.code(), &error.to_string())
                    .hint("ask from an account that imports the service with share"));
                return done;
            }
        };
        done.caller = Some(caller);
        let request = match Request::read(operation, &message.payload) {
            Ok(request) => Request { trace: done.trace, ..request },
            Err(failure) => {
                done.outcome = Err(failure);
                return done;
            }
        };
        done.command_id = Some(request.command_id);
        done.correlation_id = request.correlation_id;
        done.outcome = self.carry_out(caller, request).await;
        done
    }

    async fn carry_out(self: Arc<Self>, caller: Caller, request: Request) -> Result<Answer, Failure> {
        let wait = request.wait;
        let begun = {
            let stopping = |_| Failure::new(503, "stopping", "the service is stopping").hint("ask again");
            let _turn = self.at_work.acquire().await.map_err(stopping)?;
            let desk = Arc::clone(&self);
            let policy = Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner));
            let begin = move || operate::begin(&desk.host, desk.issuer.as_ref(), &policy, caller, &request);
            let internal = |what: tokio::task::JoinError| KeyError::Internal { what: what.to_string() };
            tokio::task::spawn_blocking(begin).await.map_err(internal)??
        };
        begun.settled(&self.host, wait).await
    }
}

/// The trace of a request. One that is none says nothing of the request: it is as if there were none.
fn trace(message: &Message) -> Option<TraceParent> {
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    let lines = headers.flat_map(|(name, values)| {
        values.iter().map(|value| (AsRef::<str>::as_ref(name).to_owned(), value.as_str().to_owned()))
    });
    TraceParent::of(&Headers::received(lines.collect())).ok().flatten()
}

async fn send(link: &Link, reply: async_nats::Subject, outcome: &Result<Answer, Failure>) {
    let mut headers = HeaderMap::new();
    let body = match outcome {
        Ok(answer) => serde_json::to_vec(answer),
        Err(failure) => {
            for (name, text) in [
                ("Nats-Service-Error-Code", failure.status.to_string()),
                ("Nats-Service-Error", failure.line()),
            ] {
                // A line of plain ASCII always is one.
                if let Ok(value) = text.parse::<HeaderValue>() {
                    headers.insert(name, value);
                }
            }
            serde_json::to_vec(failure)
        }
    };
    link.respond(reply, headers, body.unwrap_or_default()).await;
}
