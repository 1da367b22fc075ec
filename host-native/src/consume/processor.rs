//! Runs a handler over the messages of a durable consumer: one at a time, each until it is done, to be tried again, or a dead
//! letter.

use super::dead::{LetterBox, LetterError, Said};
use super::delivery::AckError;
use super::handler::{Handler, HandlerError, Policy, Tally, Told};
use super::{ConsumerName, Delivery, Next, Subscription};
use crate::ambient::Ambient;
use crate::nats::link::Trouble;
use crate::nats::target::Target;
use crate::pump::Renew;
use cim_keys_core::dead::{Entry, Letter, Place, Standing, Word};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a handler may go on once it is to stop.
const GRACE: Duration = Duration::from_secs(3);
/// How long what is left is given back for.
const GIVE_BACK: Duration = Duration::from_millis(1500);
/// How often an acknowledgement is said, and the pause between.
const SAY: (u32, Duration) = (3, Duration::from_millis(300));
/// Between two tries to write a dead letter.
const STUCK: Duration = Duration::from_secs(2);

/// Which of the two consumers a message came by.
enum Came {
    Message(Delivery),
    /// A word about a dead letter.
    Word(Delivery),
    /// Nothing: something was told.
    Nothing,
}

/// How a try ended.
enum Tried {
    Done(Result<(), HandlerError>),
    /// It was to stop, and the handler did not end in time.
    Stopped,
}

/// Runs a handler. Dropping it, or killing the process, loses nothing: what was not acknowledged comes again.
pub struct Processor<'a> {
    messages: Subscription<'a>,
    retries: Option<ConsumerName>,
    letters: LetterBox,
    ambient: Arc<Ambient>,
    policy: Policy,
    window: u64,
    tally: Tally,
}

/// Whether it is to stop: none once that was said.
struct Stop<'s>(Option<Pin<Box<dyn Future<Output = ()> + 's>>>);

impl Stop<'_> {
    fn is_asked(&self) -> bool {
        self.0.is_none()
    }

    async fn asked(&mut self) {
        if let Some(stop) = &mut self.0 {
            stop.await;
            self.0 = None;
        }
    }
}

impl<'a> Processor<'a> {
    /// Over a consumer, its dead letters there.
    #[must_use]
    pub fn new(consumer: ConsumerName, letters: LetterBox, target: Target, ambient: Arc<Ambient>) -> Self {
        let messages = Subscription::new(consumer, target, Arc::clone(&ambient));
        let policy = Policy::default();
        Self { messages, retries: None, letters, ambient, policy, window: 1, tally: Tally::default() }
    }

    /// Takes up dead letters that are to be tried again, by this consumer of the stream of dead letters.
    #[must_use]
    pub fn retrying(mut self, consumer: ConsumerName) -> Self {
        self.retries = Some(consumer);
        self
    }

    /// Asks for other creds before each connection.
    #[must_use]
    pub fn renewing(mut self, renew: Renew<'a>) -> Self {
        self.messages = self.messages.renewing(renew);
        self
    }

    /// How often and for how long something is tried.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// What was done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Works until `stop`, and for at most 5 seconds longer: what is in hand then is given back. `tell` hears of everything
    /// that happens.
    pub async fn run(
        &mut self,
        handler: &mut impl Handler,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(&Told<'_>),
    ) -> Tally {
        let mut stop = Stop(Some(Box::pin(stop)));
        self.window = 1;
        // Beside the messages, and not ended each time that one of them comes.
        let (send, mut words) = mpsc::channel(1);
        let retrying = self.retries.clone().map(|name| {
            let (mut retries, send) = (Subscription::beside(name, &self.messages).batch(1), send.clone());
            tokio::spawn(async move {
                // One that waits here is handed over or given back.
                while let Ok(place) = send.reserve().await {
                    place.send(retries.next().await);
                }
            })
        });
        while !stop.is_asked() {
            self.messages.ask_for(self.window);
            let came = tokio::select! {
                biased;
                () = stop.asked() => break,
                Some(next) = words.recv() => came(next, true, &mut tell),
                next = self.messages.next() => came(next, false, &mut tell),
            };
            match came {
                Came::Message(delivery) => self.message(handler, &delivery, &mut stop, &mut tell).await,
                Came::Word(delivery) => self.word(handler, &delivery, &mut stop, &mut tell).await,
                Came::Nothing => {}
            }
        }
        if let Some(retrying) = retrying {
            retrying.abort();
        }
        let mut left = self.messages.at_hand();
        while let Ok(next) = words.try_recv() {
            if let Next::Delivery(delivery) = next {
                left.push(delivery);
            }
        }
        self.give_back(left).await;
        self.tally
    }

    /// What will not be worked on comes again at once.
    async fn give_back(&self, left: Vec<Delivery>) {
        let all = async {
            for delivery in left {
                let _ = delivery.nak(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(GIVE_BACK, all).await;
    }

    /// A message of the consumer.
    async fn message(
        &mut self,
        handler: &mut impl Handler,
        delivery: &Delivery,
        stop: &mut Stop<'_>,
        tell: &mut impl FnMut(&Told<'_>),
    ) {
        let place = Place {
            stream: delivery.stream().to_owned(),
            consumer: delivery.consumer().to_owned(),
            sequence: delivery.sequence(),
        };
        if delivery.delivered() > 1 {
            self.window = 1;
            // Its letter was written before somebody could say so to the consumer.
            if let Some(entry) = self.entry(&place).await
                && entry.state == Standing::Dead
                && let Some(letter) = &entry.letter
            {
                self.give_up(delivery, &place, &letter.code, &letter.reason, tell).await;
                return;
            }
        }
        let error = match self.attempt(handler, delivery, stop).await {
            Tried::Stopped => {
                // Nothing more is asked for first: else it would come here again.
                let left = self.messages.at_hand();
                let all = std::iter::once(delivery.clone()).chain(left);
                self.give_back(all.collect()).await;
                return;
            }
            Tried::Done(Ok(())) => {
                match say(|| delivery.ack()).await {
                    Ok(()) => {
                        self.tally.handled += 1;
                        if delivery.delivered() == 1 {
                            self.window = self.window.saturating_mul(2).clamp(1, self.policy.batch.max(1));
                        }
                        tell(&Told::Handled(delivery));
                    }
                    Err(error) => self.not_confirmed(delivery, &error, tell),
                }
                return;
            }
            Tried::Done(Err(error)) => error,
        };
        self.window = 1;
        let Some((code, reason)) = self.verdict(&error, delivery.delivered()) else {
            return self.again(delivery, &error, tell).await;
        };
        loop {
            match self.letter(&place, delivery, code, reason).await {
                Ok(()) => return self.give_up(delivery, &place, code, reason, tell).await,
                Err(error) => {
                    tell(&Told::Stuck { place: &place, error: &error });
                    let _ = delivery.in_progress().await;
                    tokio::select! {
                        biased;
                        () = stop.asked() => {}
                        () = tokio::time::sleep(STUCK) => {}
                    }
                    if stop.is_asked() {
                        // Not at once: whoever comes next would stand before the same.
                        let _ = say(|| delivery.nak(self.policy.pause(delivery.delivered()))).await;
                        return;
                    }
                }
            }
        }
    }

    /// Whether a failure makes a dead letter after so many deliveries.
    fn verdict<'e>(&self, error: &'e HandlerError, delivered: u64) -> Option<(&'static str, &'e str)> {
        match error {
            HandlerError::Poison { reason } => Some(("poison", reason)),
            HandlerError::Retry { reason, .. } if delivered >= self.policy.tries => {
                Some(("exhausted", reason))
            }
            HandlerError::Retry { .. } => None,
        }
    }

    async fn again(&mut self, delivery: &Delivery, error: &HandlerError, tell: &mut impl FnMut(&Told<'_>)) {
        let after = match error {
            HandlerError::Retry { after: Some(after), .. } => *after,
            _ => self.policy.pause(delivery.delivered()),
        };
        self.tally.failed += 1;
        // Where nobody hears it, it comes after the ack wait.
        let _ = say(|| delivery.nak(after)).await;
        tell(&Told::Failed { delivery, reason: &error.to_string(), again: after });
    }

    async fn give_up(
        &mut self,
        delivery: &Delivery,
        place: &Place,
        code: &str,
        reason: &str,
        tell: &mut impl FnMut(&Told<'_>),
    ) {
        match say(|| delivery.term(reason)).await {
            Ok(()) => {
                self.tally.dead += 1;
                tell(&Told::Dead { place, code, reason });
            }
            Err(error) => self.not_confirmed(delivery, &error, tell),
        }
    }

    fn not_confirmed(&mut self, delivery: &Delivery, error: &AckError, tell: &mut impl FnMut(&Told<'_>)) {
        self.tally.not_confirmed += 1;
        tell(&Told::NotConfirmed { delivery, error });
        if let AckError::NoAnswer { trouble: trouble @ Trouble::Permission { .. } } = error
            && let Some(state) = self.messages.silenced(trouble)
        {
            tell(&Told::State(&state));
        }
    }

    /// What stands about a message; none where nothing does, or nobody says.
    async fn entry(&mut self, place: &Place) -> Option<Entry> {
        let link = self.messages.link().await.ok()?;
        self.letters.entry(&link, place).await.ok()?
    }

    /// Writes the letter of a message, once: what stands there is looked at before.
    async fn letter(
        &mut self,
        place: &Place,
        delivery: &Delivery,
        code: &str,
        reason: &str,
    ) -> Result<(), LetterError> {
        let at = self.ambient.now();
        let (message, delivered) = (delivery.message(), delivery.delivered());
        let word = Word::Letter(Letter::new(message, delivery.stored(), delivered, code, reason, at));
        for _ in 0..SAY.0 {
            let link = self.connected().await?;
            let entry = self.letters.entry(&link, place).await?;
            if entry.as_ref().is_some_and(|entry| !entry.takes(&word) || entry.state == Standing::Retrying) {
                return Ok(());
            }
            let after = entry.as_ref().map_or(0, Entry::last);
            if let Said::Stored(_) = self.letters.say(&link, place, &word, after).await? {
                return Ok(());
            }
        }
        Err(self.unanswered())
    }

    /// A word about a dead letter: only one that says that it is to be tried again, and is the last one, changes anything.
    async fn word(
        &mut self,
        handler: &mut impl Handler,
        mark: &Delivery,
        stop: &mut Stop<'_>,
        tell: &mut impl FnMut(&Told<'_>),
    ) {
        let place = Place::of_subject(&mark.message().subject, self.letters.namespace());
        let is_retry = matches!(Word::decode(&mark.message().payload), Ok(Word::Retry { .. }));
        let Some(place) =
            place.filter(|place| is_retry && place.consumer == self.messages.name().consumer.as_str())
        else {
            let _ = say(|| mark.ack()).await;
            return;
        };
        match self.retry(handler, mark, &place, stop, tell).await {
            Ok(true) => {
                let _ = say(|| mark.ack()).await;
            }
            Ok(false) => {}
            Err(error) => {
                tell(&Told::Stuck { place: &place, error: &error });
                let _ = say(|| mark.nak(STUCK)).await;
            }
        }
    }

    /// Tries a dead letter again. Whether the mark is done with.
    async fn retry(
        &mut self,
        handler: &mut impl Handler,
        mark: &Delivery,
        place: &Place,
        stop: &mut Stop<'_>,
        tell: &mut impl FnMut(&Told<'_>),
    ) -> Result<bool, LetterError> {
        let link = self.connected().await?;
        let entry = self.letters.entry(&link, place).await?;
        let Some(entry) = entry.filter(|entry| entry.last() == mark.sequence()) else { return Ok(true) };
        let original = self.letters.original(&link, place).await?;
        let same = |message: &cim_keys_core::admission::StoredMessage| {
            entry.letter.as_ref().is_none_or(|letter| letter.digest == message.content())
        };
        let Some(message) = original.filter(same) else {
            let reason = format!("the message {} of {} is gone", place.sequence, place.stream);
            let stored = entry.letter.as_ref().map_or_else(|| mark.stored(), |letter| letter.stored);
            let gone = entry.letter.clone().map(|letter| Letter {
                code: "gone".to_owned(),
                reason: reason.clone(),
                at: self.ambient.now(),
                ..letter
            });
            let gone = gone.unwrap_or_else(|| {
                Letter::new(mark.message(), stored, 0, "gone", &reason, self.ambient.now())
            });
            self.letters.say(&link, place, &Word::Letter(gone), mark.sequence()).await?;
            tell(&Told::Dead { place, code: "gone", reason: &reason });
            return Ok(true);
        };
        let delivery = mark.of(place, message);
        let error = match self.attempt(handler, &delivery, stop).await {
            Tried::Stopped => {
                let _ = say(|| mark.nak(Duration::from_millis(1))).await;
                return Ok(false);
            }
            Tried::Done(Ok(())) => {
                let word = Word::Handled { at: self.ambient.now() };
                let link = self.connected().await?;
                self.letters.say(&link, place, &word, mark.sequence()).await?;
                self.tally.retried += 1;
                tell(&Told::Retried(place));
                return Ok(true);
            }
            Tried::Done(Err(error)) => error,
        };
        let Some((code, reason)) = self.verdict(&error, mark.delivered()) else {
            self.again(&delivery, &error, tell).await;
            return Ok(false);
        };
        let at = self.ambient.now();
        let message = delivery.message();
        let letter = Letter::new(message, delivery.stored(), mark.delivered(), code, reason, at);
        let link = self.connected().await?;
        self.letters.say(&link, place, &Word::Letter(letter), mark.sequence()).await?;
        self.tally.dead += 1;
        tell(&Told::Dead { place, code, reason });
        Ok(true)
    }

    /// Runs the handler; the server is told meanwhile that it is worked on.
    async fn attempt(&self, handler: &mut impl Handler, delivery: &Delivery, stop: &mut Stop<'_>) -> Tried {
        let begun = Instant::now();
        let beat = self.messages.ack_wait() / 3;
        let mut next_beat = begun + beat;
        let mut end = begun + self.policy.at_most;
        let mut stopping = stop.is_asked();
        let work = handler.handle(delivery);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return Tried::Done(outcome),
                () = stop.asked(), if !stopping => {
                    stopping = true;
                    end = end.min(Instant::now() + GRACE);
                }
                () = tokio::time::sleep_until(end) => {
                    if stopping {
                        return Tried::Stopped;
                    }
                    let seconds = self.policy.at_most.as_secs();
                    return Tried::Done(Err(HandlerError::retry(format!("it took longer than {seconds} s"))));
                }
                () = tokio::time::sleep_until(next_beat) => {
                    next_beat += beat;
                    // Beside the handler, which goes on.
                    let delivery = delivery.clone();
                    tokio::spawn(async move { delivery.in_progress().await });
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<Arc<crate::nats::link::Link>, LetterError> {
        self.messages.link().await.map_err(|_| self.unanswered())
    }

    fn unanswered(&self) -> LetterError {
        LetterError::Failed {
            stream: self.letters.stream().to_owned(),
            failure: cim_keys_core::sync::Failure::Unreachable,
        }
    }
}

fn came(next: Next, retry: bool, tell: &mut impl FnMut(&Told<'_>)) -> Came {
    match next {
        Next::Delivery(delivery) if retry => Came::Word(delivery),
        Next::Delivery(delivery) => Came::Message(delivery),
        Next::State(state) => {
            tell(&if retry { Told::Retries(&state) } else { Told::State(&state) });
            Came::Nothing
        }
    }
}

/// Says something until the server confirms it, a few times where it may.
async fn say<F: Future<Output = Result<(), AckError>>>(what: impl Fn() -> F) -> Result<(), AckError> {
    let mut tries = 1;
    loop {
        match what().await {
            Err(error) if tries < SAY.0 && error.code() == "not-confirmed" => {
                tries += 1;
                tokio::time::sleep(SAY.1).await;
            }
            outcome => return outcome,
        }
    }
}
