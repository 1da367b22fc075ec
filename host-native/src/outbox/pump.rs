//! Drives the machine over a journal and a connection: does what comes out, hands in what came back.

use super::{Outbox, PURPOSE};
use crate::crash::{self, Step};
use crate::nats::append;
use crate::nats::find;
use crate::nats::link::{Link, LinkError};
use crate::nats::streams;
use crate::nats::target::Target;
use crate::pump::{End, Lock, PumpError, Renew, silent};
use cim_keys_core::outbox::{Input, Output, Publisher};
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::{Failure, Outgoing, Persisted, Send, Status};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How often a pump that stays looks whether another process wrote into its journal.
const LOOK: Duration = Duration::from_millis(200);
/// How often a pump that waits looks whether there are other creds.
const RENEW: Duration = Duration::from_secs(1);

/// Publishes what is in an outbox. One at a time works on a file, whatever process it is in.
pub struct OutboxPump<'a> {
    outbox: Outbox,
    target: Target,
    renew: Option<Renew<'a>>,
    link: Option<Link>,
    trouble: Option<LinkError>,
    settled: u64,
    _lock: Lock,
}

impl<'a> OutboxPump<'a> {
    /// Takes the place beside the outbox's file; connects when it is needed.
    ///
    /// # Errors
    /// [`PumpError::Locked`] where another one is at work.
    pub fn new(outbox: &Outbox, target: Target) -> Result<Self, PumpError> {
        let lock = Lock::named(outbox.path(), PURPOSE)?;
        Ok(Self {
            outbox: outbox.clone(),
            target,
            renew: None,
            link: None,
            trouble: None,
            settled: 0,
            _lock: lock,
        })
    }

    /// Asks for other creds before each connection, and once a second while it waits for the server.
    #[must_use]
    pub fn renewing(mut self, renew: Renew<'a>) -> Self {
        self.renew = Some(renew);
        self
    }

    /// Events that were settled so far.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Publishes until nothing is left, something blocks, or it is stuck for longer than `patience`. `stop` ends it at any
    /// step; `report` hears how it stands.
    ///
    /// # Errors
    /// The journal or the random source cannot be used.
    pub async fn drain(
        &mut self,
        patience: Duration,
        stop: impl Future<Output = ()>,
        report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        self.go(Some(patience), stop, report).await
    }

    /// Publishes what is journalled, by this process or another, until `stop`.
    ///
    /// # Errors
    /// See [`drain`](Self::drain).
    pub async fn stay(
        &mut self,
        stop: impl Future<Output = ()>,
        report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        self.go(None, stop, report).await
    }

    async fn go(
        &mut self,
        patience: Option<Duration>,
        stop: impl Future<Output = ()>,
        report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        tokio::pin!(stop);
        let end = tokio::select! {
            biased;
            () = &mut stop => Ok(End::Stopped),
            end = self.run(patience, report) => end,
        };
        // It may be in the middle of something: the next run looks for what came of it.
        self.drop_link();
        end
    }

    async fn run(
        &mut self,
        patience: Option<Duration>,
        mut report: impl FnMut(&Status),
    ) -> Result<End, PumpError> {
        let mut machine = Publisher::new(self.outbox.stream().clone());
        let mut input = Input::Tick;
        let mut moved = (Instant::now(), self.settled);
        let mut why = None;
        loop {
            let moment = self.outbox.inner.ambient.moment().map_err(crate::error::KeyError::from)?;
            let mut next = None;
            for output in machine.handle(input, moment) {
                if self.settled != moved.1 {
                    moved = (Instant::now(), self.settled);
                }
                if let Output::Report(status) = output {
                    let status = self.explained(status);
                    report(&status);
                    if let Status::Waiting { reason, .. } = &status {
                        why = Some(reason.clone());
                    }
                    if let Some(end) =
                        patience.and_then(|patience| ended(status, moved.0.elapsed(), patience))
                    {
                        return Ok(end);
                    }
                } else {
                    if let (Output::Wait { millis }, Some(patience)) = (&output, patience)
                        && moved.0.elapsed() + Duration::from_millis(*millis) > patience
                    {
                        return Ok(End::Patience(why.unwrap_or_else(silent)));
                    }
                    next = self.perform(output).await?;
                }
            }
            input = match next {
                Some(input) => input,
                None => self.something_new().await?,
            };
        }
    }

    /// Does one thing; gives its answer, where it asks for one.
    async fn perform(&mut self, output: Output) -> Result<Option<Input>, PumpError> {
        let journal = &self.outbox.inner.journal;
        Ok(Some(match output {
            Output::Load { limit } => Input::Loaded(journal.load(limit)?),
            Output::Persist(persist) => {
                let persisted = journal.persist(&persist);
                if persisted == Persisted::Ok && persist.settled.is_some() {
                    self.settled += 1;
                }
                Input::Persisted(persisted)
            }
            Output::Look => self.asked(Question::Look).await,
            Output::Find { subject, after, limit } => {
                self.asked(Question::Find { subject, after, limit }).await
            }
            Output::Get(wanted) => self.asked(Question::Get(wanted)).await,
            Output::Publish { subject, headers, payload } => match &self.link {
                Some(link) if !link.is_closed() => {
                    let message = Outgoing { subject: subject.to_string(), headers, payload };
                    crash::reach(Step::SendBegun);
                    let reply = append::send(link, Send { messages: vec![message], batch: false }).await;
                    crash::reach(Step::ReplyCame);
                    Input::Reply(reply)
                }
                _ => self.lost(),
            },
            Output::Drop => {
                self.drop_link();
                return Ok(None);
            }
            Output::Wait { millis } => {
                self.pause(Duration::from_millis(millis)).await;
                Input::Tick
            }
            Output::Report(_) => return Ok(None),
        }))
    }

    /// Asks the server, on a new connection where there is none.
    async fn asked(&mut self, question: Question) -> Input {
        if self.link.as_ref().is_some_and(Link::is_closed) {
            return self.lost();
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                if let Some(target) = self.renew.as_mut().and_then(|renew| renew()) {
                    self.target = target;
                }
                let now = self.outbox.inner.ambient.now().seconds();
                match Link::connect(&self.target, now).await {
                    Ok(link) => link,
                    Err(error) => {
                        let failure = Failure::from(&error);
                        self.trouble = Some(error);
                        return Input::Failed(failure);
                    }
                }
            }
        };
        self.trouble = None;
        let stream = self.outbox.stream().as_str();
        crash::reach(Step::ReadBegun);
        let answer = match question {
            Question::Look => streams::info(&link, stream).await.map(Input::Looked).map_err(Failure::from),
            Question::Find { subject, after, limit } => {
                find::find(&link, stream, &subject, after, limit).await.map(Input::Found)
            }
            Question::Get(wanted) => find::get(&link, stream, &wanted).await.map(Input::Got),
        };
        crash::reach(Step::ReadCame);
        self.link = Some(link);
        answer.unwrap_or_else(Input::Failed)
    }

    fn lost(&mut self) -> Input {
        self.drop_link();
        Input::Disconnected
    }

    fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            link.close();
        }
    }

    /// Waits, or for other creds where that is sooner.
    async fn pause(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let Some(renew) = self.renew.as_mut() else {
                return tokio::time::sleep(left).await;
            };
            tokio::time::sleep(left.min(RENEW)).await;
            if let Some(target) = renew() {
                self.target = target;
                return self.drop_link();
            }
        }
    }

    /// Waits until there is something to publish.
    async fn something_new(&mut self) -> Result<Input, PumpError> {
        let journal = &self.outbox.inner.journal;
        let mut written = journal.written();
        while journal.is_empty()? {
            tokio::select! {
                _ = written.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(Input::Tick)
    }

    /// The machine's reason, or the connection's own words where it is about that.
    fn explained(&self, mut status: Status) -> Status {
        if let Status::Blocked { reason } | Status::Waiting { reason, .. } = &mut status
            && let Some(error) = &self.trouble
            && ["unreachable", "authorization"].contains(&reason.code.as_str())
        {
            *reason = Reason { code: error.code().to_owned(), text: error.to_string() };
        }
        status
    }
}

/// What is asked of the server.
enum Question {
    Look,
    Find { subject: cim_keys_core::subjects::Subject, after: u64, limit: u32 },
    Get(cim_keys_core::outbox::Wanted),
}

/// Whether a run that does not stay ends here.
fn ended(status: Status, stuck: Duration, patience: Duration) -> Option<End> {
    match status {
        Status::Idle => Some(End::Drained),
        Status::Blocked { reason } => Some(End::Blocked(reason)),
        Status::Waiting { reason, millis, .. } if stuck + Duration::from_millis(millis) > patience => {
            Some(End::Patience(reason))
        }
        _ => None,
    }
}
