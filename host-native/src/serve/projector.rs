//! Keeps the projections at what the stream has, and tells the server how far they are: a message of their consumer is
//! acknowledged once the rows that it makes are on the disk.
//!
//! What is delivered here is not folded from here. This host's own synchronising reads the same messages and admits them;
//! what it has admitted is folded, in the order of the stream. So what comes twice, late or in another order changes nothing,
//! and the consumer's floor never tells more than what is kept.

use super::log::{self, Level};
use super::metrics::Metrics;
use crate::ambient::Ambient;
use crate::consume::{ConsumerName, Delivery, Next, State, Subscription};
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::role;
use crate::nats::target::Target;
use crate::store::StoreError;
use cim_keys_core::consumer::KEYS_PROJECTOR;
use cim_keys_core::projection;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::KEYS_EVENTS;
use futures::future::join_all;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often it is looked whether another process has written something.
const LOOK: Duration = Duration::from_millis(200);
/// How long a word to the server about what is in hand may be left out: a third of the consumer's ack wait.
const BEAT: Duration = Duration::from_secs(10);
/// Messages in hand at most.
const MOST: usize = 256;
/// After a store that could not be written.
const AGAIN: Duration = Duration::from_secs(2);
/// How long what is in hand at the end is given back for.
const GIVE_BACK: Duration = Duration::from_millis(500);
/// How long a user in memory lives, in seconds.
const LIFETIME: i64 = 3600;

/// Whether there is more, and how far each projection is.
type Folded = (bool, Vec<(&'static str, u64)>);

/// Folds. There is one in a process; others fold beside it without harm.
pub struct Projector {
    host: Arc<Host>,
    messages: Subscription<'static>,
    metrics: Arc<Metrics>,
    /// Delivered, and not folded yet.
    in_hand: Vec<Delivery>,
    /// The sequence that all projections have reached.
    reached: u64,
    /// What was said last of the consumer and of the store.
    said: (Option<Reason>, Option<String>),
}

impl Projector {
    /// With these servers, entered as the service.
    ///
    /// # Errors
    /// This host has no key that signs for the role. See [`KeyError`].
    pub fn new(host: Arc<Host>, servers: Target, metrics: Arc<Metrics>) -> Result<Self, KeyError> {
        let name = ConsumerName::new(KEYS_EVENTS, KEYS_PROJECTOR);
        let name = name.map_err(|error| KeyError::Internal { what: error.to_string() })?;
        let target = role::target_for(&host, PipelineRole::Service, &servers, LIFETIME)?;
        let renew = {
            let host = Arc::clone(&host);
            Box::new(move || role::target_for(&host, PipelineRole::Service, &servers, LIFETIME).ok())
        };
        // Of it only the clock is asked.
        let messages = Subscription::new(name, target, Arc::new(Ambient::system())).renewing(renew);
        Ok(Self { host, messages, metrics, in_hand: Vec::new(), reached: 0, said: (None, None) })
    }

    /// Folds until `stop`; what is not folded then comes again.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut writes = self.host.store().writes();
        let mut beat = Instant::now() + BEAT;
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() {
                due = Instant::now() + self.fold().await;
            }
            self.acknowledge().await;
            if beat <= Instant::now() {
                beat = Instant::now() + BEAT;
                let _ = join_all(self.in_hand.iter().map(Delivery::in_progress)).await;
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                written = writes.changed() => if written.is_ok() { due = Instant::now() },
                next = self.messages.next(), if self.in_hand.len() < MOST => match next {
                    Next::Delivery(delivery) => self.in_hand.push(delivery),
                    Next::State(state) => self.tell(&state),
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
        let mut left = self.messages.at_hand();
        left.append(&mut self.in_hand);
        let all = join_all(left.iter().map(|delivery| delivery.nak(Duration::from_millis(1))));
        let _ = timeout(GIVE_BACK, all).await;
    }

    /// Folds a portion of what was admitted since: a part at a time, so that it can be stopped. After how long it is to be
    /// done again.
    async fn fold(&mut self) -> Duration {
        let host = Arc::clone(&self.host);
        let folding = tokio::task::spawn_blocking(move || -> Result<Folded, StoreError> {
            let (store, mut more, mut reached) = (host.store(), false, Vec::new());
            for one in projection::all() {
                more |= store.project_portion(one)?;
                reached.push((one.name(), store.place(one)?.sequence));
            }
            Ok((more, reached))
        });
        let (pause, said) = match folding.await {
            Ok(Ok((more, reached))) => {
                self.reached = reached.iter().map(|(_, sequence)| *sequence).min().unwrap_or_default();
                self.metrics.projected(&reached);
                (if more { Duration::ZERO } else { LOOK }, None)
            }
            Ok(Err(error)) => (AGAIN, Some((error.code(), error.to_string()))),
            // It ends with the process.
            Err(_) => return AGAIN,
        };
        let text = said.as_ref().map(|(_, text)| text.clone());
        if let (Some((code, text)), true) = (&said, self.said.1 != text) {
            let members = [("code", (*code).into()), ("reason", text.clone().into())];
            log::line(Level::Error, "projections cannot be kept", &members);
        }
        self.said.1 = text;
        pause
    }

    /// Acknowledges what is kept. What nobody confirms comes again, and changes nothing.
    async fn acknowledge(&mut self) {
        let reached = self.reached;
        let (kept, rest) = std::mem::take(&mut self.in_hand)
            .into_iter()
            .partition(|delivery| delivery.sequence() <= reached);
        self.in_hand = rest;
        let kept: Vec<Delivery> = kept;
        let _ = join_all(kept.iter().map(Delivery::ack)).await;
    }

    fn tell(&mut self, state: &State) {
        let reason = match state {
            State::Following => None,
            State::Waiting { reason } | State::Blocked { reason } => Some(reason.clone()),
        };
        if let Some(reason) = reason.as_ref().filter(|reason| self.said.0.as_ref() != Some(*reason)) {
            let members = [("code", reason.code.clone().into()), ("reason", reason.text.clone().into())];
            log::line(Level::Warn, "the projections' consumer does not deliver", &members);
        }
        if reason.is_none() && self.said.0.is_some() {
            log::line(Level::Info, "the projections' consumer delivers", &[]);
        }
        self.said.0 = reason;
    }
}
