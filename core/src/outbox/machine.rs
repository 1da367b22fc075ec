//! The machine itself. See [`Publisher`] for its contract.

use super::contract::{Input, Output, Persist};
use super::event::{Attempt, Outcome, Refusal, Waiting};
use crate::headers::Headers;
use crate::rules::Reason;
use crate::subjects::Token;
use crate::sync::breaker::Breaker;
use crate::sync::patience::{self, Next};
use crate::sync::{Moment, Persisted, Reply, Status, StreamInfo};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Events loaded at once.
const LOAD_LIMIT: u32 = 32;
/// Attempts in vain with which a person hears of it.
const VAIN: u32 = 3;
/// Nothing else than this stream may take the message.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// Nor behind another message of its subject than this.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// Publishes a service's own events from its journal, in order, one at a time.
///
/// # Contract
/// The host calls [`handle`](Self::handle) with each input and does what comes out, in order. It begins with
/// [`Input::Tick`]. Of a list at most the last output asks a question, and the next one comes only after its answer.
/// [`Input::Disconnected`] may come at any time: after that the connection's answers are not handed in any more, the
/// store's still are. A machine that reported [`Status::Idle`] asks nothing: it goes on with a `Tick` when there is
/// something new in the journal. One machine works on a journal at a time.
///
/// * Nothing is sent before the journal says where the stream stood before it.
/// * An acknowledgement that is no duplicate, of a sequence behind that, means published. `duplicate: true` proves
///   nothing by itself: the message that it names is read and compared. Whatever else comes, or nothing: the stream is
///   searched from where it stood before the first attempt, and a retry goes out only where the event was not found.
/// * An event that names the last message of its subject stands directly behind that or nowhere: the first message
///   behind it is the event, or a conflict for ever.
/// * An event is tried until the one before it is settled. One that is refused for good is noted, and the others go on.
/// * [`Persisted::Stale`] means: load again. [`Persisted::Failed`] blocks.
/// * After [`Output::Drop`] nothing that was queued in the old connection may be sent any more.
#[derive(Debug)]
pub struct Publisher {
    stream: Token,
    pub(super) state: State,
    /// Whether it rests because there is nothing to do.
    idle: bool,
    /// Events that are not settled, the first of them at work.
    pub(super) queue: VecDeque<Waiting>,
    /// Where the stream stands, as far as it was heard on this connection.
    pub(super) stands: Option<Attempt>,
    /// Whether the stream forgets more than by age.
    pub(super) forgetful: bool,
    /// Whether nothing of the first event can be on its way that a search would not have found.
    pub(super) clear: bool,
    /// Whether the first event was refused because another message is the last of its subject.
    pub(super) overtaken: bool,
    /// Failures in a row.
    failures: u32,
    /// Attempts at the first event in this run.
    unsent: u32,
    /// Odd answers in a row.
    odd: u32,
    breaker: Breaker,
}

#[derive(Debug)]
pub(super) enum State {
    /// Waiting for a tick.
    Rest,
    Loading,
    Looking,
    /// Searching for the first event.
    Finding(Search),
    /// Reading the message that an answer named.
    Duplicate {
        sequence: u64,
    },
    /// Reading the last message of the first event's subject.
    Last,
    /// Writing down that the first event is about to be tried.
    Attempting(Attempt),
    /// Writing down what came of the first event, and that the next one is about to be tried.
    Settling(Option<Attempt>),
    Publishing,
}

/// Where a search is.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) after: u64,
    /// Last sequence of the stream when it began: others may append faster than it gets on.
    pub(super) until: Option<u64>,
    /// The stream is not the one of the first attempt any more.
    pub(super) anew: bool,
}

impl Publisher {
    /// A machine for one journal, whose events go to this stream.
    #[must_use]
    pub fn new(stream: Token) -> Self {
        Self {
            stream,
            state: State::Rest,
            idle: false,
            queue: VecDeque::new(),
            stands: None,
            forgetful: false,
            clear: false,
            overtaken: false,
            failures: 0,
            unsent: 0,
            odd: 0,
            breaker: Breaker::default(),
        }
    }

    /// Takes an input; see the type's contract.
    #[must_use]
    pub fn handle(&mut self, input: Input, moment: Moment) -> Vec<Output> {
        let moment = &moment;
        if input == Input::Disconnected {
            return self.disconnected(moment);
        }
        match (core::mem::replace(&mut self.state, State::Rest), input) {
            (State::Rest, Input::Tick) => self.begin(),
            (State::Loading, Input::Loaded(events)) => self.take_loaded(events),
            (State::Looking, Input::Looked(info)) => match self.hear(&info, moment) {
                Some(reason) => self.block(reason),
                None => self.step(),
            },
            (State::Finding(search), Input::Found(found)) => self.take_found(search, found, moment),
            (State::Duplicate { sequence }, Input::Got(stored)) => {
                self.take_duplicate(sequence, stored, moment)
            }
            (State::Last, Input::Got(stored)) => self.take_last(stored, moment),
            (
                State::Looking | State::Finding(_) | State::Duplicate { .. } | State::Last,
                Input::Failed(failure),
            ) => self.follow(patience::after_failure(&failure), false, moment),
            (State::Attempting(attempt), Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => {
                    if let Some(first) = self.queue.front_mut() {
                        first.attempt = Some(attempt);
                    }
                    // Behind another connection it has to be looked for: it may not have stood there for long.
                    self.clear = self.stands.is_some();
                    self.step()
                }
                Persisted::Stale => self.load(),
                Persisted::Failed { reason } => self.block(named("store-failed", reason)),
            },
            (State::Settling(next), Input::Persisted(outcome)) => match outcome {
                Persisted::Ok => self.take_settled(next),
                Persisted::Stale => self.load(),
                Persisted::Failed { reason } => self.block(named("store-failed", reason)),
            },
            (State::Publishing, Input::Reply(reply)) => self.take_reply(&reply, moment),
            // An answer to something that is not waited for any more: nothing follows.
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    fn begin(&mut self) -> Vec<Output> {
        self.breaker.try_out();
        let mut outputs = Vec::new();
        if core::mem::take(&mut self.idle) {
            outputs.push(Output::Report(Status::Working));
        }
        outputs.extend(self.step());
        outputs
    }

    fn load(&mut self) -> Vec<Output> {
        self.queue.clear();
        self.forget();
        self.state = State::Loading;
        alloc::vec![Output::Load { limit: LOAD_LIMIT }]
    }

    fn take_loaded(&mut self, events: Vec<Waiting>) -> Vec<Output> {
        self.queue = events.into();
        if self.queue.is_empty() {
            self.idle = true;
            return alloc::vec![Output::Report(Status::Idle)];
        }
        self.step()
    }

    /// What the first event needs next.
    pub(super) fn step(&mut self) -> Vec<Output> {
        let Some(first) = self.queue.front() else { return self.load() };
        match (&first.attempt, &self.stands) {
            (Some(_), Some(_)) if self.clear => self.publish(),
            (Some(attempt), _) => {
                let after = first.message.expected.unwrap_or(attempt.last);
                self.find(Search { after, until: None, anew: false })
            }
            (None, None) => {
                self.state = State::Looking;
                alloc::vec![Output::Look]
            }
            (None, Some(_)) if self.is_unfit(first) => self.settle(Outcome::Refused(Refusal::Forgetful)),
            (None, Some(stands)) => {
                let persist = Persist { settled: None, attempt: Some((first.position, stands.clone())) };
                self.state = State::Attempting(stands.clone());
                alloc::vec![Output::Persist(persist)]
            }
        }
    }

    fn publish(&mut self) -> Vec<Output> {
        let Some(first) = self.queue.front() else { return self.load() };
        let message = &first.message;
        let Ok(headers) = self.transport(&message.headers, message.expected) else {
            // No header of ours can be wrong; the server's answer to it would be a refusal of the same kind.
            return self.settle(Outcome::Refused(Refusal::TooLarge));
        };
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        self.clear = false;
        self.overtaken = false;
        // Reading may work where publishing does not.
        self.unsent = self.unsent.saturating_add(1);
        self.state = State::Publishing;
        alloc::vec![Output::Publish { subject, headers, payload }]
    }

    fn transport(
        &self,
        headers: &Headers,
        expected: Option<u64>,
    ) -> Result<Headers, crate::headers::HeaderError> {
        let mut headers = headers.clone();
        headers.push(EXPECTED_STREAM, self.stream.as_str())?;
        if let Some(sequence) = expected {
            headers.push(EXPECTED_SUBJECT, &sequence.to_string())?;
        }
        Ok(headers)
    }

    fn take_reply(&mut self, reply: &Reply, moment: &Moment) -> Vec<Output> {
        let expects = self.queue.front().is_some_and(|first| first.message.expected.is_some());
        match reply {
            Reply::Ack { stream, .. } if *stream != self.stream.as_str() => {
                let text =
                    format!("another stream took the event ({stream}): its subject belongs to that one");
                self.block(named("stream-other", text))
            }
            Reply::Ack { sequence, duplicate: true, .. } => {
                self.worked(moment);
                self.duplicate(*sequence)
            }
            Reply::Ack { sequence, .. }
                if self.stands.as_ref().is_some_and(|stands| *sequence > stands.last) =>
            {
                self.worked(moment);
                self.settle(Outcome::Published { sequence: *sequence })
            }
            Reply::Error { code: 10071 } if expects => {
                self.worked(moment);
                self.overtaken = true;
                self.step()
            }
            Reply::Error { code: 10071 } => self.follow(Next::Odd(10071), true, moment),
            other => self.follow(patience::after_reply(other), true, moment),
        }
    }

    /// Notes what came of the first event, and where the stream stands before the next one.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Vec<Output> {
        if let (Outcome::Published { sequence }, Some(stands)) = (&outcome, &mut self.stands) {
            stands.last = stands.last.max(*sequence);
        }
        let Some(first) = self.queue.front() else { return self.load() };
        let next = self.queue.get(1).filter(|next| next.attempt.is_none() && !self.is_unfit(next));
        let attempt = next.and_then(|next| Some((next.position, self.stands.clone()?)));
        self.state = State::Settling(attempt.as_ref().map(|(_, attempt)| attempt.clone()));
        alloc::vec![Output::Persist(Persist { settled: Some((first.position, outcome)), attempt })]
    }

    fn take_settled(&mut self, next: Option<Attempt>) -> Vec<Output> {
        self.queue.pop_front();
        (self.unsent, self.odd, self.overtaken, self.clear) = (0, 0, false, false);
        if let (Some(attempt), Some(first)) = (next, self.queue.front_mut()) {
            first.attempt = Some(attempt);
            self.clear = self.stands.is_some();
        }
        self.step()
    }

    /// What the leader says of the stream. Why nothing can be published there, where that is so.
    pub(super) fn hear(&mut self, info: &StreamInfo, moment: &Moment) -> Option<Reason> {
        self.worked(moment);
        let config = &info.config;
        self.stands = Some(Attempt { created: info.identity.created.clone(), last: info.last });
        self.forgetful = config.retention != "limits" || config.max_msgs_per_subject > 0;
        config.no_ack.then(|| {
            let text = format!("the stream {} acknowledges nothing (no_ack): set it to false", config.name);
            named("stream-settings", text)
        })
    }

    /// Whether the stream does not keep what this event would be settled by.
    pub(super) fn is_unfit(&self, event: &Waiting) -> bool {
        self.forgetful && event.message.expected.is_some()
    }

    fn worked(&mut self, moment: &Moment) {
        self.failures = 0;
        self.breaker.success(moment);
    }

    /// What was heard on the connection counts no more.
    fn forget(&mut self) {
        self.stands = None;
        self.clear = false;
    }

    fn disconnected(&mut self, moment: &Moment) -> Vec<Output> {
        self.forget();
        match self.state {
            State::Rest | State::Loading | State::Attempting(_) | State::Settling(_) => Vec::new(),
            _ => self.wait(named("unreachable", "the connection was lost".to_string()), moment),
        }
    }

    /// Does what an answer asks for. `sent`: it answers an attempt, not a question.
    fn follow(&mut self, next: Next, sent: bool, moment: &Moment) -> Vec<Output> {
        if !matches!(next, Next::Wait(_) | Next::Reconnect(_)) {
            self.breaker.success(moment);
        }
        match next {
            Next::Conflict | Next::CatchUp(_) => {
                let text = "the server does not take the event, and a look at the stream does not say why";
                self.rest_or_say(named("no-answer", text.to_string()), moment)
            }
            Next::Wait(reason) => self.fail(reason, false, moment),
            Next::Reconnect(reason) => self.fail(reason, true, moment),
            Next::Hold(_) if sent => self.settle(Outcome::Refused(Refusal::TooLarge)),
            Next::Odd(code) if sent => {
                self.odd += 1;
                if self.odd < patience::ODD_LIMIT {
                    return self.rest(moment);
                }
                self.settle(Outcome::Refused(Refusal::Server { code }))
            }
            Next::Odd(code) => self.wait(named("api", format!("error {code}")), moment),
            Next::Pause(reason) | Next::Hold(reason) => self.wait(reason, moment),
            Next::Block(reason) => {
                let reason = self.own_words(reason);
                self.block(reason)
            }
        }
    }

    /// A short pause that grows with each attempt in vain, then a search.
    pub(super) fn rest(&mut self, moment: &Moment) -> Vec<Output> {
        self.clear = false;
        self.pause(patience::pause(self.unsent, moment))
    }

    /// The same where nothing says how it goes on: after some attempts in vain a person hears of it.
    pub(super) fn rest_or_say(&mut self, reason: Reason, moment: &Moment) -> Vec<Output> {
        if self.unsent < VAIN { self.rest(moment) } else { self.wait(reason, moment) }
    }

    fn pause(&mut self, millis: u64) -> Vec<Output> {
        self.state = State::Rest;
        alloc::vec![Output::Wait { millis }]
    }

    /// The server fails: after a while again, on a new connection where the old one is in doubt or too much fails.
    fn fail(&mut self, reason: Reason, reconnect: bool, moment: &Moment) -> Vec<Output> {
        let opened = self.breaker.failure(moment);
        let mut outputs = Vec::new();
        if reconnect || opened.is_some() {
            self.forget();
            outputs.push(Output::Drop);
        }
        self.clear = false;
        let millis = opened.unwrap_or_else(|| patience::backoff(self.failures.max(self.unsent), moment));
        self.failures = self.failures.saturating_add(1);
        outputs.push(Output::Report(Status::Waiting { reason, open: opened.is_some(), millis }));
        outputs.extend(self.pause(millis));
        outputs
    }

    pub(super) fn wait(&mut self, reason: Reason, moment: &Moment) -> Vec<Output> {
        self.clear = false;
        let millis = patience::backoff(self.failures.max(self.unsent), moment);
        self.failures = self.failures.saturating_add(1);
        let mut outputs = alloc::vec![Output::Report(Status::Waiting { reason, open: false, millis })];
        outputs.extend(self.pause(millis));
        outputs
    }

    pub(super) fn block(&mut self, reason: Reason) -> Vec<Output> {
        self.forget();
        let mut outputs = alloc::vec![Output::Drop, Output::Report(Status::Blocked { reason })];
        outputs.extend(self.pause(patience::PROBE));
        outputs
    }

    /// The same reasons as everywhere, without what is said to whoever runs the stream of the keys.
    fn own_words(&self, reason: Reason) -> Reason {
        let stream = self.stream.as_str();
        let text = match reason.code.as_str() {
            "stream-missing" => {
                format!("the stream {stream} does not exist: create it, it is the service's own")
            }
            "stream-settings" => {
                format!("the stream {stream} does not take the event: does it capture the subject?")
            }
            "permission" => {
                let what = reason.text.split(';').next().unwrap_or_default();
                format!(
                    "{what}; the service's user needs its subjects, and STREAM.INFO and STREAM.MSG.GET of {stream}"
                )
            }
            _ => reason.text,
        };
        Reason { code: reason.code, text }
    }
}

pub(super) fn named(code: &str, text: String) -> Reason {
    Reason { code: code.to_string(), text }
}
