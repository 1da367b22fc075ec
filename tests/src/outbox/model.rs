//! The machine of a service's own events against a model of its stream: lost and late attempts, lost acknowledgements, a
//! process that ends at any step, other writers, a server that remembers ids for a while only. From a seed.

use crate::simulator::Rng;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::{CimEvent, Headers, NATS_MSG_ID};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::outbox::{
    DomainEvent, Found, Input, Message, Outcome, Output, Persist, Publisher, Refusal, Waiting, Wanted,
};
use cim_keys_core::stream::keys_events_stream_config;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, Moment, Persisted, Reply, StreamInfo};
use cim_keys_core::time::Timestamp;
use std::collections::BTreeMap;
use uuid::Uuid;

const STREAM: &str = "ORDERS";
const SUBJECTS: [&str; 2] =
    ["cowboyai.security.orders.order.placed", "cowboyai.security.orders.order.cancelled"];
/// Steps with faults, and steps after which everything must be settled.
const FAULTY: u32 = 400;
const QUIET: u32 = 4_000;

/// A host that does not do what it is told: the model must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Says that nothing was found, without looking.
    FindsNothing,
    /// Hands a duplicate in as if it had been stored just now.
    HidesDuplicate,
    /// Does not write down that an event is about to be tried.
    ForgetsAttempt,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FindsNothing, Self::HidesDuplicate, Self::ForgetsAttempt];
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Events.
    pub events: u64,
    /// Refused ones.
    pub refused: u64,
    /// Events that are on the stream more than once: only where an attempt arrives after it was looked for, and the server
    /// has forgotten its id.
    pub doubled: u64,
    /// Attempts whose fate the host could not know.
    pub doubts: u64,
    /// Times the process ended.
    pub crashes: u64,
}

/// What a server is sent.
#[derive(Clone, Debug)]
struct Sent {
    subject: String,
    headers: Headers,
    payload: Vec<u8>,
}

struct Stream {
    log: Vec<StoredMessage>,
    ids: BTreeMap<String, (u64, u64)>,
    /// Milliseconds that an id is remembered.
    window: u64,
    /// Whether ids are looked at before sequences, as with three replicas.
    id_first: bool,
}

impl Stream {
    fn last_of(&self, subject: &str) -> u64 {
        self.log.iter().rev().find(|stored| stored.subject == subject).map_or(0, |stored| stored.sequence)
    }

    fn take(&mut self, sent: Sent, now: u64) -> Reply {
        let window = self.window;
        self.ids.retain(|_, (_, at)| now.saturating_sub(*at) < window);
        let id = sent.headers.only(NATS_MSG_ID).unwrap_or_default().to_owned();
        let known = self.ids.get(&id).map(|(sequence, _)| *sequence);
        let duplicate = |sequence| Reply::Ack { stream: STREAM.to_owned(), sequence, duplicate: true };
        if let (true, Some(sequence)) = (self.id_first, known) {
            return duplicate(sequence);
        }
        let expected = sent.headers.only("Nats-Expected-Last-Subject-Sequence");
        if expected.is_some_and(|expected| expected != self.last_of(&sent.subject).to_string()) {
            return Reply::Error { code: 10071 };
        }
        if let Some(sequence) = known {
            return duplicate(sequence);
        }
        let sequence = self.log.len() as u64 + 1;
        self.ids.insert(id, (sequence, now));
        let Sent { subject, headers, payload } = sent;
        self.log.push(StoredMessage { sequence, subject, headers, payload, time: None });
        Reply::Ack { stream: STREAM.to_owned(), sequence, duplicate: false }
    }

    fn info(&self) -> StreamInfo {
        let identity = StreamIdentity { name: STREAM.to_owned(), created: "then".to_owned() };
        let mut config = keys_events_stream_config(&Namespace::default());
        config.name = STREAM.to_owned();
        StreamInfo { identity, config, first: 1, first_age: None, last: self.log.len() as u64, server: None }
    }
}

/// An event of the journal.
struct Entry {
    waiting: Waiting,
    outcome: Option<Outcome>,
}

struct World {
    rng: Rng,
    now: u64,
    stream: Stream,
    journal: Vec<Entry>,
    machine: Publisher,
    /// Attempts that arrive later, and when.
    late: Vec<(u64, Sent)>,
    /// Whether there are any such.
    is_late: bool,
    connected: bool,
    faults: bool,
    lie: Option<Lie>,
    sum: Sum,
    trace: Vec<String>,
}

/// One run. What is wrong, with what happened, where something is.
pub fn run(seed: u64, lie: Option<Lie>) -> Result<Sum, String> {
    let mut rng = Rng::new(seed, "outbox");
    // No memory at all, one that is shorter than most of what happens, and one that outlasts everything.
    let window = *rng.pick(&[0, 2_000, u64::MAX]).unwrap_or(&0);
    let (id_first, is_late) = (rng.chance(500), rng.chance(500));
    let mut world = World {
        rng,
        now: 0,
        stream: Stream { log: Vec::new(), ids: BTreeMap::new(), window, id_first },
        journal: Vec::new(),
        machine: machine(),
        late: Vec::new(),
        is_late,
        connected: false,
        faults: true,
        lie,
        sum: Sum::default(),
        trace: Vec::new(),
    };
    let begun = format!("seed {seed}: window {window}, id first {id_first}, late {is_late}");
    world.play().map_err(|broken| format!("{begun}\n{}\n{broken}", world.trace.join("\n")))?;
    Ok(world.sum)
}

fn machine() -> Publisher {
    Publisher::new(STREAM.parse().expect("a stream's name"))
}

impl World {
    fn play(&mut self) -> Result<(), String> {
        let mut input = Some(Input::Tick);
        for step in 0..FAULTY + QUIET {
            self.faults = step < FAULTY;
            if self.faults && self.rng.chance(100) {
                self.journal_one();
            }
            if self.faults && self.rng.chance(100) {
                self.somebody_else();
            }
            self.arrive();
            input = match input {
                Some(_) if self.faults && self.rng.chance(30) => {
                    self.crash();
                    Some(Input::Tick)
                }
                Some(input) => self.step(input),
                // Idle: it goes on when there is something new.
                None if self.journal.iter().any(|entry| entry.outcome.is_none()) => Some(Input::Tick),
                None if !self.faults && self.late.is_empty() => return self.check(),
                None => {
                    self.now += 100;
                    None
                }
            };
        }
        Err("it is not drained".to_owned())
    }

    fn journal_one(&mut self) {
        let number = self.journal.len() as u64 + 1;
        let subject = SUBJECTS[usize::try_from(self.rng.below(2)).unwrap_or(0)];
        let expected = self.rng.chance(300).then(|| {
            let last = self.stream.last_of(subject);
            // Some are decided on what was so before.
            if self.rng.chance(200) { last.saturating_sub(1) } else { last }
        });
        let subject: cim_keys_core::subjects::Subject = subject.parse().expect("a subject");
        // Now and then somebody takes an id that is taken.
        let id = match self.rng.pick(&self.stream.log).cloned() {
            Some(stored) if self.rng.chance(30) => {
                let id: Uuid =
                    stored.headers.only(NATS_MSG_ID).and_then(|id| id.parse().ok()).unwrap_or_default();
                if self.journal.iter().any(|entry| entry.waiting.message.id == id) { None } else { Some(id) }
            }
            _ => None,
        };
        let message = message(id.unwrap_or(Uuid::from_u128(number.into())), subject, number, expected);
        self.trace.push(format!("{} journal {number} {} expects {expected:?}", self.now, message.subject));
        self.journal
            .push(Entry { waiting: Waiting { position: number, message, attempt: None }, outcome: None });
        self.sum.events += 1;
    }

    fn somebody_else(&mut self) {
        let subject = SUBJECTS[usize::try_from(self.rng.below(2)).unwrap_or(0)];
        let mut headers = Headers::default();
        let id = Uuid::from_bytes(self.rng.bytes());
        headers.push(NATS_MSG_ID, &id.to_string()).expect("a header");
        let sent = Sent { subject: subject.to_owned(), headers, payload: b"theirs".to_vec() };
        let now = self.now;
        self.stream.take(sent, now);
        self.trace.push(format!("{now} somebody else: {} on {subject}", self.stream.log.len()));
    }

    /// What was on its way arrives, when its time has come.
    fn arrive(&mut self) {
        let now = self.now;
        // Some at once: between a search and the retry that follows it is where it hurts.
        for (due, _) in &mut self.late {
            if self.rng.chance(150) {
                *due = now;
            }
        }
        let due: Vec<Sent> = self.late.extract_if(.., |(due, _)| *due <= now).map(|(_, sent)| sent).collect();
        for sent in due {
            let reply = self.stream.take(sent, now);
            self.trace.push(format!("{now} late: {reply:?}"));
        }
    }

    fn crash(&mut self) {
        self.trace.push(format!("{} the process ends", self.now));
        self.machine = machine();
        self.connected = false;
        self.sum.crashes += 1;
    }

    fn step(&mut self, input: Input) -> Option<Input> {
        let moment = Moment { millis: self.now, random: self.rng.bytes() };
        let mut next = None;
        for output in self.machine.handle(input, moment) {
            self.now += 1;
            next = self.perform(output);
        }
        next
    }

    fn perform(&mut self, output: Output) -> Option<Input> {
        let fails = self.faults && self.rng.chance(60);
        Some(match output {
            Output::Load { limit } => {
                let open = self.journal.iter().filter(|entry| entry.outcome.is_none());
                Input::Loaded(open.take(limit as usize).map(|entry| entry.waiting.clone()).collect())
            }
            Output::Persist(persist) => Input::Persisted(self.persist(persist)),
            Output::Look | Output::Find { .. } | Output::Get(_) if fails => {
                self.connected = false;
                Input::Failed(Failure::Unreachable)
            }
            Output::Look => {
                self.connected = true;
                Input::Looked(self.stream.info())
            }
            Output::Find { subject, after, .. } => {
                self.connected = true;
                let lies = self.lie == Some(Lie::FindsNothing);
                let behind = |stored: &&StoredMessage| {
                    stored.sequence > after && stored.subject == subject.as_str() && !lies
                };
                // Pages of two.
                let found: Vec<_> = self.stream.log.iter().filter(behind).take(3).cloned().collect();
                let complete = found.len() < 3;
                let messages = found.into_iter().take(2).collect();
                Input::Found(Found { info: self.stream.info(), messages, complete })
            }
            Output::Get(wanted) => {
                let sequence = match wanted {
                    Wanted::Sequence(sequence) => sequence,
                    Wanted::LastOf(subject) => self.stream.last_of(subject.as_str()),
                };
                let place = usize::try_from(sequence).unwrap_or(0).checked_sub(1);
                Input::Got(place.and_then(|place| self.stream.log.get(place)).cloned())
            }
            Output::Publish { .. } if !self.connected => Input::Disconnected,
            Output::Publish { subject, headers, payload } => {
                self.publish(Sent { subject: subject.to_string(), headers, payload })
            }
            Output::Drop => {
                self.connected = false;
                return None;
            }
            Output::Wait { millis } => {
                self.now += millis;
                Input::Tick
            }
            Output::Report(status) => {
                self.trace.push(format!("{} {status:?}", self.now));
                return None;
            }
        })
    }

    fn persist(&mut self, persist: Persist) -> Persisted {
        self.trace.push(format!("{} {persist:?}", self.now));
        if self.faults && self.rng.chance(20) {
            return Persisted::Failed { reason: "full".to_owned() };
        }
        let place = |position: u64| usize::try_from(position).unwrap_or(0) - 1;
        if let Some((position, outcome)) = persist.settled {
            self.journal[place(position)].outcome = Some(outcome);
        }
        if let Some((position, attempt)) = persist.attempt
            && self.lie != Some(Lie::ForgetsAttempt)
        {
            self.journal[place(position)].waiting.attempt.get_or_insert(attempt);
        }
        Persisted::Ok
    }

    fn publish(&mut self, sent: Sent) -> Input {
        let now = self.now;
        let what = sent.headers.only(NATS_MSG_ID).unwrap_or_default().to_owned();
        let fate = if self.faults { self.rng.below(10) } else { 9 };
        self.sum.doubts += u64::from(fate < 4);
        let input = match fate {
            // Never arrives.
            0 => Input::Reply(Reply::Unknown),
            // The answer is lost.
            1 => {
                self.stream.take(sent, now);
                Input::Reply(Reply::Unknown)
            }
            2 => {
                self.stream.take(sent, now);
                self.connected = false;
                Input::Disconnected
            }
            3 if self.is_late => {
                let due = now + self.rng.between(10, 20_000);
                self.late.push((due, sent));
                Input::Reply(Reply::Unknown)
            }
            4 => Input::Reply(Reply::NoResponders),
            5 => {
                Input::Reply(Reply::Error { code: *self.rng.pick(&[10158, 10164, 10077]).unwrap_or(&10158) })
            }
            _ => match self.stream.take(sent, now) {
                Reply::Ack { stream, .. } if self.lie == Some(Lie::HidesDuplicate) => {
                    let sequence = self.stream.log.len() as u64;
                    Input::Reply(Reply::Ack { stream, sequence, duplicate: false })
                }
                reply => Input::Reply(reply),
            },
        };
        self.trace.push(format!("{now} publish {what}: {input:?}"));
        input
    }

    /// Whether everything is as it was promised.
    fn check(&mut self) -> Result<(), String> {
        let mut before = 0;
        for entry in &self.journal {
            let message = &entry.waiting.message;
            let copies: Vec<u64> = self
                .stream
                .log
                .iter()
                .filter(|stored| is(message, stored))
                .map(|stored| stored.sequence)
                .collect();
            let named = format!("event {} ({copies:?}, {:?})", entry.waiting.position, entry.outcome);
            match &entry.outcome {
                Some(Outcome::Published { sequence }) if !copies.contains(sequence) => {
                    return Err(format!("{named}: it is not where its receipt says"));
                }
                Some(Outcome::Published { .. }) => {
                    let late = self.is_late && self.stream.window != u64::MAX && message.expected.is_none();
                    if copies.len() > 1 && !late {
                        return Err(format!("{named}: it is there more than once"));
                    }
                    self.sum.doubled += u64::from(copies.len() > 1);
                    let first = copies.first().copied().unwrap_or_default();
                    if first < before {
                        return Err(format!("{named}: it is before one that was journalled before it"));
                    }
                    before = first;
                }
                Some(Outcome::Refused(refusal)) => {
                    self.sum.refused += 1;
                    let fits = matches!(refusal, Refusal::IdTaken { .. })
                        || matches!(refusal, Refusal::Conflict { .. }) && message.expected.is_some();
                    // An attempt that is on its way when it is given up may arrive all the same.
                    let late = self.is_late && self.stream.window != u64::MAX && message.expected.is_none();
                    if (!copies.is_empty() && !late) || !fits {
                        return Err(format!("{named}: it is refused"));
                    }
                }
                None => return Err(format!("{named}: it is not settled")),
            }
        }
        Ok(())
    }
}

fn is(message: &Message, stored: &StoredMessage) -> bool {
    stored.headers.only(NATS_MSG_ID) == Some(&message.id.to_string()) && stored.payload == message.payload
}

fn message(
    id: Uuid,
    subject: cim_keys_core::subjects::Subject,
    number: u64,
    expected: Option<u64>,
) -> Message {
    let event = CimEvent {
        correlation_id: id,
        causation_id: id,
        event_type: subject.event_type().to_owned(),
        timestamp: Timestamp::from_millis(0).expect("a time"),
        message_id: id,
    };
    let payload = number.to_string().into_bytes();
    let event = DomainEvent {
        subject,
        event,
        source: "orders".into(),
        trace: None,
        headers: Vec::new(),
        payload,
        expected,
    };
    event.check(&Namespace::default()).expect("an event")
}
