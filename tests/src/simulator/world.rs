//! One run: a virtual clock, a list of what happens next, and everybody who takes part.

use super::broker::{Answer, Broker, Origin, Rules};
use super::host::{Await, Host};
use super::invariants::{self, Auditor, Broken};
use super::link::Frame;
use super::rng::Rng;
use super::scenario::{Fault, Scenario};
use super::script::{Script, Turn};
use super::trace::Trace;
use super::{Outcome, faults::Trouble};
use cim_keys_core::sync::{Failure, Input, Read, Reply, Status, StreamInfo};
use std::collections::BTreeMap;

/// A client waits this long for an answer.
const PATIENCE: u64 = 5_000;
/// After the faults stopped, all drains within this, the duplicate window left out.
const DRAIN: u64 = 60_000;
/// More steps than any run needs.
const STEPS: u64 = 60_000;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Action {
    /// A process starts.
    Start { host: usize },
    /// Somebody wants something.
    Command { host: usize, burst: u64 },
    /// An answer or the end of a pause reaches the machine.
    Answer { host: usize, life: u64, ticket: u64, input: Box<Input> },
    /// A client tells that its connection is gone.
    Told { host: usize, life: u64 },
    /// A message of the log reaches a host that listens.
    Log { host: usize, connection: u64, sequence: u64 },
    /// A client gives up.
    TimeOut { host: usize, life: u64, ticket: u64 },
    /// A frame reaches the server.
    Arrive { frame: u64 },
    /// A read reaches the server, first for the stream's state, then for its messages.
    Ask(Ask),
    /// A client tries to connect.
    Connect { host: usize, connection: u64 },
    /// A host looks whether there is something new.
    Poll { host: usize },
    /// A host looks from time to time.
    Tail { host: usize },
    /// Trouble begins.
    Fault { fault: Fault },
    /// The server comes back.
    Back { keep: u64 },
    /// A majority has what was proposed.
    Settle { number: u64 },
    /// A second or third host is made.
    Copy,
    /// A person recovers a host that raised the alarm.
    Recover { host: usize },
    /// The stream is created.
    Create,
    /// The faults stop.
    Calm,
}

/// A read on its way.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) host: usize,
    pub(super) life: u64,
    pub(super) ticket: u64,
    /// The connection it went out on; none while the client waits for one.
    pub(super) connection: Option<u64>,
    /// Whether the archive is asked.
    pub(super) archive: bool,
    pub(super) after: u64,
    pub(super) limit: u32,
    /// How the stream stands, once that is known.
    pub(super) info: Option<Box<StreamInfo>>,
}

/// One run.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) broker: Broker,
    pub(super) auditor: Auditor,
    pub(super) trace: Trace,
    pub(super) trouble: Trouble,
    pub(super) script: Script,
    pub(super) net: Rng,
    pub(super) dice: Rng,
    pub(super) steps: u64,
    /// Publishes of each host that got no confirmation, since the last that did.
    pub(super) vain: Vec<u64>,
    pub(super) flights: BTreeMap<u64, Frame>,
    /// What waits for a majority, by its number, with the frame to answer.
    pub(super) proposed: BTreeMap<u64, Option<Frame>>,
    /// The last sequence that the log told of.
    pub(super) logged: u64,
    /// When a person has mended what was found last.
    pub(super) mended_at: u64,
    /// Batch ids that were used.
    pub(super) batch_ids: std::collections::BTreeSet<String>,
    agenda: BTreeMap<(u64, u64), Action>,
    serial: u64,
    pub(super) crashed: u64,
    pub(super) crashable: u64,
    commands: u64,
    /// Messages that a next leader stored, and nobody heard of.
    pub(super) late: u64,
    /// Whether somebody looks after hosts that raise the alarm.
    pub(super) attended: bool,
    /// How often a journal was recovered.
    pub(super) recovered: u64,
}

impl World {
    pub(super) fn new(scenario: Scenario, keep_trace: bool) -> Result<Self, Broken> {
        let mut world = Self::idle(scenario, keep_trace)?;
        world.attended = true;
        world.plan();
        Ok(world)
    }

    /// The same with nothing on the agenda.
    pub(super) fn idle(scenario: Scenario, keep_trace: bool) -> Result<Self, Broken> {
        let seed = scenario.seed;
        let founder = Host::found(seed).map_err(|e| Broken::new("founding", e.to_string()))?;
        let id = founder.store.registry().id().clone();
        let mut broker = Broker::new(&id.namespace, scenario.window, !scenario.has(Fault::NoStream));
        if scenario.has(Fault::Replicated) {
            broker = broker.of(Rules::REPLICATED);
            broker.slow(true);
        }
        Ok(Self {
            now: 0,
            hosts: vec![founder],
            broker,
            auditor: Auditor::new(id),
            trace: Trace::new(keep_trace),
            trouble: Trouble::default(),
            script: Script::default(),
            net: Rng::new(seed, "network"),
            dice: Rng::new(seed, "trouble"),
            steps: 0,
            vain: vec![0],
            flights: BTreeMap::new(),
            proposed: BTreeMap::new(),
            logged: 0,
            mended_at: 0,
            batch_ids: std::collections::BTreeSet::new(),
            agenda: BTreeMap::new(),
            serial: 0,
            crashed: 0,
            crashable: 0,
            commands: 0,
            late: 0,
            attended: false,
            recovered: 0,
            scenario,
        })
    }

    /// Puts everything that does not follow from something else onto the agenda.
    fn plan(&mut self) {
        let calm = self.scenario.calm_at;
        let mut rng = Rng::new(self.scenario.seed, "plan");
        self.at(0, Action::Start { host: 0 });
        self.at(500, Action::Tail { host: 0 });
        let mut left = self.scenario.commands;
        // People work at the same time, so that hosts meet on the stream.
        let moments: Vec<u64> = (0..rng.between(1, 4)).map(|_| rng.below(calm)).collect();
        while left > 0 {
            // Several at once make a batch.
            let burst = if rng.chance(300) { rng.between(2, 6).min(left) } else { 1 };
            left -= burst;
            let together = rng.pick(&moments).filter(|_| rng.clone().chance(600)).copied();
            let when = together.unwrap_or_else(|| rng.below(calm)) + rng.below(self.scenario.latency * 8);
            let mut host = usize::from(rng.chance(500));
            if self.scenario.has(Fault::ThirdHost) && rng.chance(333) {
                host = 2;
            }
            self.at(when, Action::Command { host, burst });
        }
        if self.scenario.has(Fault::SecondHost) {
            // Often while something is pending, so that both have it.
            let when = rng.pick(&moments).filter(|_| rng.clone().chance(500)).copied();
            let when = when.map_or_else(|| rng.below(calm / 2), |moment| moment + self.scenario.latency * 9);
            self.at(when.min(calm), Action::Copy);
        }
        if self.scenario.has(Fault::ThirdHost) {
            self.at(rng.below(calm), Action::Copy);
        }
        if self.scenario.has(Fault::NoStream) {
            self.at(rng.below(calm), Action::Create);
        }
        for (fault, _) in Fault::ALL {
            let mut rng = Rng::new(self.scenario.seed, fault.name());
            for _ in 0..rng.between(1, if fault == Fault::Cut { 40 } else { 6 }) {
                let when = rng.below(calm);
                if self.scenario.has(fault) {
                    self.at(when, Action::Fault { fault });
                }
            }
        }
        self.at(calm, Action::Calm);
    }

    /// Puts something onto the agenda.
    pub(super) fn at(&mut self, when: u64, action: Action) {
        self.serial += 1;
        self.agenda.insert((when.max(self.now), self.serial), action);
    }

    /// Puts something onto the agenda, so many milliseconds from now.
    pub(super) fn after(&mut self, millis: u64, action: Action) {
        self.at(self.now + millis, action);
    }

    /// A number that nothing had before.
    pub(super) fn ticket(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Outcome {
        let broken = self.live().err();
        if let Some(broken) = &broken {
            self.trace.line(self.now, "", format_args!("BROKEN {broken}"));
        }
        Outcome {
            scenario: self.scenario,
            digest: self.trace.digest(),
            steps: self.steps,
            messages: self.broker.last(),
            anomalies: self.auditor.anomalies() as u64,
            crashes: self.crashed,
            commands: self.commands,
            held: self.hosts.iter().flat_map(|h| h.store.entries()).filter(|e| e.reason.is_some()).count()
                as u64,
            lost: self.broker.lost().len() as u64,
            alarms: self.recovered,
            late: self.late,
            broken,
            trace: self.trace.into_lines(),
        }
    }

    fn live(&mut self) -> Result<(), Broken> {
        while self.step()? {
            self.alarms()?;
            if self.trouble.calm && self.is_drained() {
                return self.judge();
            }
            // The time that a person takes is not the machines'.
            if self.now > self.scenario.calm_at.max(self.mended_at) + DRAIN + self.scenario.window {
                let stuck: Vec<String> = self
                    .hosts
                    .iter()
                    .map(|h| format!("{:?} {:?} {:?}", h.status, h.waits, h.flight))
                    .collect();
                return Err(Broken::new(
                    "I8 drained",
                    format!("not after {} s: {}", DRAIN / 1000, stuck.join(", ")),
                ));
            }
        }
        Err(Broken::new("I8 drained", "nothing happens any more"))
    }

    /// One thing happens. False where there is nothing left to happen.
    pub(super) fn step(&mut self) -> Result<bool, Broken> {
        let Some(((when, _), action)) = self.agenda.pop_first() else { return Ok(false) };
        self.now = when;
        self.steps += 1;
        if self.steps > STEPS {
            return Err(Broken::new("I8 bounded", format!("more than {STEPS} steps")));
        }
        self.act(action)?;
        self.publish_log();
        self.auditor.follow(&self.broker)?;
        Ok(true)
    }

    fn act(&mut self, action: Action) -> Result<(), Broken> {
        match action {
            Action::Start { host } => self.start(host),
            Action::Command { host, burst } => self.command(host, burst),
            Action::Answer { host, life, ticket, input } => self.answer(host, life, ticket, *input),
            Action::TimeOut { host, life, ticket } => {
                let flies = self.hosts[host].flight == Some(ticket);
                let input = if flies {
                    Input::Reply(Reply::Unknown)
                } else {
                    Input::ReadFailed(Failure::Unreachable)
                };
                self.answer(host, life, ticket, input)
            }
            Action::Told { host, life } => {
                let it = &self.hosts[host];
                if it.life == life && it.machine.is_some() && it.link.broken {
                    return self.feed(host, Input::Disconnected);
                }
                Ok(())
            }
            Action::Recover { host } => self.recover(host),
            Action::Log { host, connection, sequence } => self.hear(host, connection, sequence),
            Action::Arrive { frame } => {
                self.arrive(frame);
                Ok(())
            }
            Action::Ask(ask) => {
                self.ask(ask);
                Ok(())
            }
            Action::Connect { host, connection } => {
                self.connect(host, connection);
                Ok(())
            }
            Action::Poll { host } => self.poll(host),
            Action::Tail { host } => {
                let pause = self.net.between(300, 1500);
                self.after(pause, Action::Tail { host });
                self.poll(host)
            }
            Action::Fault { fault } => self.fault(fault),
            Action::Back { keep } => {
                self.broker.restart(self.now, keep);
                self.trace.line(self.now, "server", format_args!("is back, remembers {keep} of 1000 ids"));
                Ok(())
            }
            Action::Settle { number } => {
                self.settle(number);
                Ok(())
            }
            Action::Copy => {
                self.copy();
                Ok(())
            }
            Action::Create => {
                self.broker.create();
                self.trace.line(self.now, "server", format_args!("the stream is created"));
                Ok(())
            }
            Action::Calm => {
                self.calm();
                Ok(())
            }
        }
    }

    fn command(&mut self, host: usize, burst: u64) -> Result<(), Broken> {
        let number = host.min(self.hosts.len() - 1);
        for _ in 0..burst {
            let now = self.now;
            let host = &mut self.hosts[number];
            let Some(wish) = host.want(now) else { continue };
            let name = wish.command.name();
            match host.execute(now, wish) {
                Ok(id) => {
                    self.commands += 1;
                    self.trace.line(
                        now,
                        &format!("host {number}"),
                        format_args!("committed {name} {}", short(&id)),
                    );
                    if self.scenario.has(Fault::ThirdWriter) && !self.trouble.calm && self.dice.chance(100) {
                        let delay = self.dice.below(100);
                        self.after(delay, Action::Fault { fault: Fault::ThirdWriter });
                    }
                    if self.scenario.has(Fault::Import) && !self.trouble.calm && self.dice.chance(100) {
                        let delay = self.dice.below(100);
                        self.after(delay, Action::Fault { fault: Fault::Import });
                    }
                }
                Err(error) => {
                    self.trace.line(
                        now,
                        &format!("host {number}"),
                        format_args!("rejects {name}: {}", error.code()),
                    );
                }
            }
        }
        self.hosts[number].dirty = true;
        self.poll(number)
    }

    /// Lets the machine look, where it may be disturbed.
    pub(super) fn poll(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].rests() {
            self.hosts[host].dirty = false;
            return self.feed(host, Input::Tick);
        }
        Ok(())
    }

    /// An answer reaches the machine, if it is still waited for.
    fn answer(&mut self, host: usize, life: u64, ticket: u64, input: Input) -> Result<(), Broken> {
        let it = &mut self.hosts[host];
        if it.life != life || it.machine.is_none() {
            return Ok(());
        }
        if it.flight == Some(ticket) {
            it.flight = None;
        } else if it.waits.ticket() == Some(ticket) {
            it.waits = Await::Nothing;
        } else {
            return Ok(());
        }
        self.feed(host, input)
    }

    /// What was stored since is published on the log, for those who listen.
    fn publish_log(&mut self) {
        while self.logged < self.broker.last() {
            self.logged += 1;
            let sequence = self.logged;
            for host in 0..self.hosts.len() {
                let trouble = !self.trouble.calm;
                // Nobody promises that it comes.
                let lost = trouble && self.net.chance(40);
                let it = &self.hosts[host];
                if !it.follows || !it.link.connected || lost {
                    continue;
                }
                let connection = it.link.connection;
                let again = trouble && self.net.chance(20);
                let arrival = (self.now + self.delay(host)).max(self.hosts[host].last_log);
                self.hosts[host].last_log = arrival;
                self.at(arrival, Action::Log { host, connection, sequence });
                if again {
                    // Somebody has an old answer sent there.
                    let old = 1 + self.net.below(sequence);
                    self.at(arrival, Action::Log { host, connection, sequence: old });
                }
            }
        }
    }

    fn hear(&mut self, host: usize, connection: u64, sequence: u64) -> Result<(), Broken> {
        let it = &self.hosts[host];
        if it.machine.is_none() || !it.follows || it.link.connection != connection || it.link.broken {
            return Ok(());
        }
        let Some(stored) = self.broker.at(sequence) else { return Ok(()) };
        let message = stored.message.clone();
        self.feed(host, Input::Tail(message))
    }

    /// A message reaches the server, and its answer goes back.
    fn arrive(&mut self, number: u64) {
        if let Some(until) = self.trouble.stands_still(self.now) {
            self.at(until, Action::Arrive { frame: number });
            return;
        }
        let Some(frame) = self.flights.remove(&number) else { return };
        let host = frame.host;
        self.hosts[host].link.flying.retain(|flying| *flying != number);
        if self.trouble.is_down(self.now) {
            return;
        }
        let turn = self.script.turn(&frame);
        match turn {
            Turn::Pass | Turn::Silence | Turn::CutAfter | Turn::Die => {}
            Turn::CutBefore => return self.sever(host, "cut by the script", 0),
            Turn::Hold => {
                self.script.keep(frame);
                return;
            }
        }
        let reply = if let Some(refusal) = self.trouble.refuses(host, self.now, &frame.message.subject) {
            refusal
        } else if self.script.is_reader(host) {
            Reply::Permission { subject: frame.message.subject.clone() }
        } else if self.trouble.has_no_leader(self.now) {
            Reply::NoResponders
        } else if self.trouble.disk_is_full(self.now) {
            return;
        } else {
            match self.broker.publish(&frame.message, Origin::Host(host), self.now) {
                Answer::Reply(reply) => reply,
                Answer::Taken => return,
                Answer::Proposed(number) => return self.propose(number, Some(frame)),
            }
        };
        match turn {
            Turn::CutAfter => self.sever(host, "cut by the script", 0),
            Turn::Die => self.end(host, "by the script"),
            Turn::Pass | Turn::Silence | Turn::CutBefore | Turn::Hold => {
                self.respond(&frame, reply, turn == Turn::Silence);
            }
        }
    }

    /// The server's answer goes back, if one is asked for and it does not get lost.
    pub(super) fn respond(&mut self, frame: &Frame, reply: Reply, silent: bool) {
        let (host, Some(ticket)) = (frame.host, frame.ticket) else { return };
        let unlucky = self.scenario.has(Fault::AckLost) && !self.trouble.calm && self.net.chance(250);
        let lost = unlucky || silent;
        let fate = if lost { "lost" } else { "sent" };
        self.trace.line(self.now, "server", format_args!("answers host {host}: {reply:?} ({fate})"));
        if !lost && frame.connection == self.hosts[host].link.connection {
            let life = self.hosts[host].life;
            let delay = self.delay(host);
            self.after(delay, Action::Answer { host, life, ticket, input: Box::new(Input::Reply(reply)) });
        }
    }

    fn ask(&mut self, ask: Ask) {
        let (host, life, ticket) = (ask.host, ask.life, ask.ticket);
        let it = &self.hosts[host];
        if it.life != life || it.waits.ticket() != Some(ticket) {
            return;
        }
        let Some(connection) = ask.connection else {
            let (connection, delay) =
                if it.link.connected { (Some(it.link.connection), self.delay(host)) } else { (None, 100) };
            self.after(delay, Action::Ask(Ask { connection, ..ask }));
            return;
        };
        if let Some(until) = self.trouble.stands_still(self.now) {
            self.at(until, Action::Ask(ask));
            return;
        }
        if self.hosts[host].link.connection != connection || self.trouble.is_down(self.now) {
            return;
        }
        let delay = self.delay(host);
        let failure = match self.trouble.refuses(host, self.now, "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS") {
            Some(Reply::Permission { subject }) => Some(Failure::Permission { subject }),
            Some(_) => Some(Failure::Authorization { reason: String::from("Authorization Violation") }),
            None if self.trouble.has_no_leader(self.now) => Some(Failure::NoResponders),
            None if !self.broker.exists() => Some(Failure::StreamMissing),
            None => None,
        };
        if let Some(failure) = failure {
            self.after(
                delay,
                Action::Answer { host, life, ticket, input: Box::new(Input::ReadFailed(failure)) },
            );
            return;
        }
        match ask.info {
            // First how the stream stands, one round trip later its messages: more may be stored by then.
            None => {
                let info = if ask.archive { self.broker.archive_info() } else { self.broker.info() };
                let info = Some(Box::new(info));
                self.after(delay * 2, Action::Ask(Ask { info, ..ask }));
            }
            Some(info) => {
                let mut messages = if ask.archive {
                    self.broker.archived(ask.after, ask.limit)
                } else {
                    self.broker.read(ask.after, ask.limit)
                };
                if self.scenario.has(Fault::MirrorBehind) && !self.trouble.calm && self.net.chance(300) {
                    let some = self.net.below(messages.len() as u64 + 1);
                    messages.truncate(usize::try_from(some).unwrap_or(0));
                }
                let read = Read { info: *info, messages };
                self.after(delay, Action::Answer { host, life, ticket, input: Box::new(Input::Read(read)) });
            }
        }
    }

    /// Sends a frame, or keeps it until there is a connection.
    pub(super) fn transmit(
        &mut self,
        host: usize,
        message: cim_keys_core::sync::Outgoing,
        ticket: Option<u64>,
    ) {
        if !self.hosts[host].link.connected {
            self.hosts[host].link.queue.push_back((message, ticket));
            return;
        }
        let late = self.scenario.has(Fault::Late) && !self.trouble.calm && self.net.chance(60);
        let delay = self.delay(host) + if late { self.net.between(4_000, 15_000) } else { 0 };
        let number = self.ticket();
        let link = &mut self.hosts[host].link;
        let arrival = (self.now + delay).max(link.last_arrival);
        link.last_arrival = arrival;
        link.flying.push_back(number);
        let connection = link.connection;
        self.flights.insert(number, Frame { message, host, connection, ticket });
        self.at(arrival, Action::Arrive { frame: number });
    }

    /// A connection breaks: a part of what was on the wire still arrives.
    pub(super) fn cut(&mut self, host: usize, why: &str) {
        let flying = self.hosts[host].link.flying.len() as u64;
        let arrive = self.net.below(flying + 1);
        self.sever(host, why, arrive);
    }

    /// A connection breaks: so many of the frames that were on the wire still arrive.
    pub(super) fn sever(&mut self, host: usize, why: &str, arrive: u64) {
        let was_connected = self.hosts[host].link.connected;
        let flying = self.hosts[host].link.cut();
        for number in flying.iter().skip(usize::try_from(arrive).unwrap_or(0)) {
            self.flights.remove(number);
        }
        let it = &self.hosts[host];
        let (life, connection) = (it.life, it.link.connection);
        let queued = it.link.queue.len();
        self.trace.line(
            self.now,
            &format!("host {host}"),
            format_args!(
                "connection lost ({why}): {arrive} of {} frames still arrive, {queued} are queued",
                flying.len()
            ),
        );
        let delay = self.net.between(1, 200);
        self.after(delay, Action::Connect { host, connection });
        // Some clients tell at once, whatever is asked just now; others let the request run out.
        if was_connected && self.net.chance(450) {
            self.after(1, Action::Told { host, life });
        }
    }

    fn connect(&mut self, host: usize, connection: u64) {
        if self.hosts[host].link.connection != connection || self.hosts[host].link.connected {
            return;
        }
        if self.hosts[host].machine.is_none() {
            return;
        }
        if self.trouble.is_down(self.now) || self.trouble.is_offline(host, self.now) {
            let delay = self.net.between(50, 400);
            self.after(delay, Action::Connect { host, connection });
            return;
        }
        self.hosts[host].link.connected = true;
        if self.hosts[host].link.broken {
            // A connection never comes back by itself: this is another one, and the machine must know.
            self.hosts[host].link.queue.clear();
            let life = self.hosts[host].life;
            self.after(0, Action::Told { host, life });
        }
        let queued: Vec<_> = self.hosts[host].link.queue.drain(..).collect();
        self.trace.line(
            self.now,
            &format!("host {host}"),
            format_args!("connected, sends {} queued", queued.len()),
        );
        for (message, ticket) in queued {
            self.transmit(host, message, ticket);
        }
    }

    /// Puts a frame that was held back before the server again.
    pub(super) fn deliver(&mut self, frame: Frame) {
        let number = self.ticket();
        self.flights.insert(number, frame);
        self.after(0, Action::Arrive { frame: number });
    }

    /// One more host: a copy of store and keys as they are now.
    fn copy(&mut self) {
        let host = self.join();
        self.trace.line(self.now, &format!("host {host}"), format_args!("made as a copy of host 0"));
        self.after(1, Action::Start { host });
        self.after(500, Action::Tail { host });
    }

    /// One way of a message.
    pub(super) fn delay(&mut self, host: usize) -> u64 {
        let latency = self.scenario.latency_of(host);
        latency + self.net.below(latency + 1)
    }

    pub(super) fn time_out(&mut self, host: usize, ticket: u64) {
        let life = self.hosts[host].life;
        self.after(PATIENCE, Action::TimeOut { host, life, ticket });
    }

    fn is_drained(&self) -> bool {
        let rests = |host: &Host| {
            host.rests()
                && host.status == Status::Idle
                && !host.dirty
                && !host.store.has_pending()
                && host.store.progress().head == self.broker.last()
        };
        self.flights.is_empty() && self.broker.proposals() == 0 && self.hosts.iter().all(rests)
    }

    fn judge(&self) -> Result<(), Broken> {
        invariants::stream(&self.broker)?;
        for host in &self.hosts {
            invariants::journal(host, &self.broker, &self.auditor)?;
            invariants::overlay(host)?;
            invariants::drained(host, &self.broker, &self.auditor)?;
        }
        Ok(())
    }
}

/// The end of an id: its random part.
pub(super) fn short(id: &uuid::Uuid) -> String {
    id.simple().to_string().chars().skip(24).collect()
}
