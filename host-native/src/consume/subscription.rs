//! Messages of a durable consumer as they come, across connections. Whatever is in the way has a name, and is tried again.

use super::ConsumerName;
use super::delivery::{Delivery, Way};
use crate::ambient::Ambient;
use crate::nats::consumers;
use crate::nats::link::{Link, LinkError, Trouble};
use crate::nats::pull::{Pull, Pulled};
use crate::nats::streams::StreamsError;
use crate::nats::target::Target;
use crate::pump::Renew;
use cim_keys_core::consumer;
use cim_keys_core::delivery::{HEARTBEAT, Heard};
use cim_keys_core::rules::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Messages that are asked for at once, where nobody says otherwise.
const BATCH: u64 = 64;
/// Between two tries: the first and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long the consumer's leader may take to say how it stands: while a cluster looks for another one nobody answers.
const LOOK: Duration = Duration::from_millis(HEARTBEAT);

/// How a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The consumer is there, and delivers what there is.
    Following,
    /// Something is in the way that may pass by itself: it is tried again.
    Waiting {
        /// What.
        reason: Reason,
    },
    /// Somebody has to do something; it is tried again all the same.
    Blocked {
        /// What.
        reason: Reason,
    },
}

/// What comes of a subscription.
#[derive(Debug)]
pub enum Next {
    /// A message.
    Delivery(Delivery),
    /// It stands otherwise than before.
    State(State),
}

/// A durable consumer of a stream, by its name. Holds at most one batch in memory: as many messages as are asked for at once,
/// and about 4 MiB of them.
pub struct Subscription<'a> {
    name: ConsumerName,
    target: Target,
    ambient: Arc<Ambient>,
    renew: Option<Renew<'a>>,
    batch: u64,
    way: Way,
    pull: Option<Pull>,
    state: Option<State>,
    /// Until when nothing is tried, and how long the next pause is.
    pause: (Option<Instant>, Duration),
    /// Whether the consumer was looked at since something was in the way.
    looked: bool,
    ack_wait: Duration,
    /// Whether it waits for the connection of another one.
    beside: bool,
}

/// How often one that waits for another's connection looks for it.
const BESIDE: Duration = Duration::from_millis(50);

impl<'a> Subscription<'a> {
    /// Connects when it is first asked for messages.
    #[must_use]
    pub fn new(name: ConsumerName, target: Target, ambient: Arc<Ambient>) -> Self {
        Self {
            name,
            target,
            ambient,
            renew: None,
            batch: BATCH,
            way: Way::default(),
            pull: None,
            state: None,
            pause: (None, PAUSE.0),
            looked: false,
            ack_wait: Duration::from_nanos(consumer::ACK_WAIT),
            beside: false,
        }
    }

    /// Over the connection of another one, whenever that has one.
    pub(super) fn beside(name: ConsumerName, other: &Subscription<'_>) -> Subscription<'static> {
        Subscription {
            way: other.way.clone(),
            beside: true,
            ..Subscription::new(name, other.target.clone(), Arc::clone(&other.ambient))
        }
    }

    /// Asks for other creds before each connection.
    #[must_use]
    pub fn renewing(mut self, renew: Renew<'a>) -> Self {
        self.renew = Some(renew);
        self
    }

    /// Asks for so many messages at once, at least one.
    #[must_use]
    pub fn batch(mut self, count: u64) -> Self {
        self.ask_for(count);
        self
    }

    /// The same from the next request on.
    pub fn ask_for(&mut self, count: u64) {
        self.batch = count.max(1);
    }

    /// Which consumer it is.
    #[must_use]
    pub fn name(&self) -> &ConsumerName {
        &self.name
    }

    /// How it stands; none before it was asked for messages.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The next message, or how it stands where that has changed. Waits for as long as there is neither. Ending the wait
    /// loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(until) = self.pause.0 {
                tokio::time::sleep_until(until).await;
                self.pause.0 = None;
            }
            match self.step().await {
                Ok(Some(next)) => return next,
                Ok(None) => {}
                Err(state) => {
                    if let Some(state) = self.put_off(state) {
                        return Next::State(state);
                    }
                }
            }
        }
    }

    /// Nothing is tried for a while. How it stands now, where that is new.
    fn put_off(&mut self, state: State) -> Option<State> {
        self.pull = None;
        self.looked = false;
        self.pause.0 = Some(Instant::now() + self.pause.1);
        self.pause.1 = (self.pause.1 * 2).min(PAUSE.1);
        self.stands(state)
    }

    /// Messages come, and nothing may be said of them: each would come again and again. How it stands now, where that is new.
    pub(super) fn silenced(&mut self, trouble: &Trouble) -> Option<State> {
        let state = self.way.lost(trouble);
        self.pause.1 = PAUSE.1;
        self.put_off(state)
    }

    /// The next message alone.
    pub async fn delivery(&mut self) -> Delivery {
        loop {
            if let Next::Delivery(delivery) = self.next().await {
                return delivery;
            }
        }
    }

    /// What came already and was not handed out: to be given back where nobody will ask for it. Nothing more is asked for
    /// until the next call of [`next`](Self::next).
    pub fn at_hand(&mut self) -> Vec<Delivery> {
        let mut found = Vec::new();
        if let Some(mut pull) = self.pull.take() {
            while let Some(delivered) = pull.at_hand() {
                found.push(Delivery::new(delivered, self.way.clone()));
            }
        }
        found
    }

    /// The connection, a new one where there is none.
    pub(super) async fn link(&mut self) -> Result<Arc<Link>, State> {
        if let Some(link) = self.way.link().filter(|link| !link.is_closed()) {
            return Ok(link);
        }
        self.pull = None;
        if self.beside {
            loop {
                tokio::time::sleep(BESIDE).await;
                if let Some(link) = self.way.link().filter(|link| !link.is_closed()) {
                    return Ok(link);
                }
            }
        }
        self.way.set(None);
        if let Some(target) = self.renew.as_mut().and_then(|renew| renew()) {
            self.target = target;
        }
        let link = Link::connect(&self.target, self.ambient.now().seconds()).await;
        let link = Arc::new(link.map_err(|error| unconnected(&error))?);
        self.way.set(Some(Arc::clone(&link)));
        Ok(link)
    }

    /// How long a message may be in hand without a word, as far as that is known.
    pub(super) fn ack_wait(&self) -> Duration {
        self.ack_wait
    }

    async fn step(&mut self) -> Result<Option<Next>, State> {
        let link = self.link().await?;
        if !self.looked {
            self.look(&link).await?;
            self.looked = true;
            if let Some(state) = self.stands(State::Following) {
                return Ok(Some(Next::State(state)));
            }
        }
        let ConsumerName { stream, consumer } = self.name.clone();
        let pull = match &mut self.pull {
            Some(pull) => pull,
            none => {
                let pull = Pull::ask(&link, stream.as_str(), consumer.as_str(), self.batch).await;
                none.insert(pull.map_err(|trouble| self.way.lost(&trouble))?)
            }
        };
        match pull.next(&link).await.map_err(|trouble| self.way.lost(&trouble))? {
            Pulled::Delivered(delivered) => {
                self.pause.1 = PAUSE.0;
                Ok(Some(Next::Delivery(Delivery::new(*delivered, self.way.clone()))))
            }
            Pulled::Heard(Heard::Heartbeat) => Ok(None),
            Pulled::Heard(Heard::Over) => {
                // A paused consumer sends heartbeats and nothing else.
                self.looked = pull.came() > 0;
                self.pull = None;
                Ok(None)
            }
            Pulled::Heard(Heard::Refused { status, description }) => Err(State::Waiting {
                reason: said(
                    "consumer-refuses",
                    format!(
                        "{consumer} refuses the request: {description} ({status})",
                        consumer = consumer.as_str()
                    ),
                ),
            }),
            // What is the matter is asked of the consumer's leader.
            Pulled::Heard(Heard::Deleted | Heard::Nobody) | Pulled::Silence => {
                self.pull = None;
                self.look(&link).await?;
                Err(State::Waiting {
                    reason: said(
                        "no-answer",
                        format!("{} of {} does not deliver", consumer.as_str(), stream.as_str()),
                    ),
                })
            }
        }
    }

    /// Asks the consumer's leader how it stands.
    async fn look(&mut self, link: &Link) -> Result<(), State> {
        let ConsumerName { stream, consumer } = self.name.clone();
        let (stream, consumer) = (stream.as_str(), consumer.as_str());
        let info = match consumers::info_within(link, stream, consumer, LOOK).await {
            Ok(info) => info,
            Err(StreamsError::NoAnswer { trouble, .. }) => return Err(self.way.lost(&trouble)),
            Err(error) => {
                let code = error.code();
                let text = match code {
                    "consumer-missing" => format!("{stream} has no consumer {consumer}"),
                    "stream-missing" => format!("there is no stream {stream}"),
                    _ => error.to_string(),
                };
                return Err(State::Blocked { reason: said(code, text) });
            }
        };
        self.way.heard();
        let waits = info.config.backoff.iter().chain([&info.config.ack_wait]);
        let shortest = waits.copied().filter(|wait| *wait > 0).min().unwrap_or(consumer::ACK_WAIT);
        self.ack_wait = Duration::from_nanos(shortest);
        if let Some(until) = info.paused {
            let text = format!("the consumer {consumer} of {stream} is paused until {until}");
            return Err(State::Blocked { reason: said("consumer-paused", text) });
        }
        Ok(())
    }

    /// What there is to say where it stands otherwise than before.
    fn stands(&mut self, state: State) -> Option<State> {
        if self.state.as_ref() == Some(&state) {
            return None;
        }
        self.state = Some(state.clone());
        Some(state)
    }
}

impl Way {
    /// What trouble is to a subscription. A connection that does not answer is given up.
    fn lost(&self, trouble: &Trouble) -> State {
        let reason = |code: &str| said(code, trouble.to_string());
        match trouble {
            Trouble::Permission { .. } => State::Blocked { reason: reason("permission") },
            Trouble::Authorization { .. } => {
                self.set(None);
                State::Blocked { reason: reason("authorization") }
            }
            Trouble::NoResponders => State::Waiting { reason: reason("no-responders") },
            Trouble::Closed => {
                self.set(None);
                State::Waiting { reason: reason("unreachable") }
            }
            // Once it may be a leader that is gone, twice it may be the connection.
            Trouble::Timeout | Trouble::TooLarge => {
                if self.silent() > 1 {
                    self.set(None);
                }
                State::Waiting { reason: reason("no-answer") }
            }
        }
    }
}

fn unconnected(error: &LinkError) -> State {
    let reason = said(error.code(), error.to_string());
    match error {
        LinkError::Unreachable { .. } => State::Waiting { reason },
        LinkError::Expired { .. } | LinkError::NotYet { .. } | LinkError::Refused { .. } => {
            State::Blocked { reason }
        }
    }
}

pub(super) fn said(code: &str, text: String) -> Reason {
    Reason { code: code.to_owned(), text }
}

impl std::fmt::Debug for Subscription<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} {})", self.name.stream.as_str(), self.name.consumer.as_str())
    }
}
