//! One run: a virtual clock, a list of what happens next, and everybody who takes part.

use super::broker::{Broker, Rules};
use super::held::Words;
use super::host::{Await, Host};
use super::invariants::{self, Auditor, Broken};
use super::link::Frame;
use super::network::Ask;
use super::rng::Rng;
use super::scenario::{Fault, Scenario};
use super::script::Script;
use super::trace::Trace;
use super::{Outcome, faults::Trouble};
use cim_keys_core::sync::{Failure, Input, Reply, Status};
use std::collections::BTreeMap;

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
    /// A person looks after what a host holds.
    Look { host: usize },
    /// A person voids a command that is on its way.
    Void,
    /// A second or third host is made.
    Copy,
    /// A person recovers a host that raised the alarm.
    Recover { host: usize },
    /// The stream is created.
    Create,
    /// The faults stop.
    Calm,
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
    pub(super) commands: u64,
    /// Messages that a next leader stored, and nobody heard of.
    pub(super) late: u64,
    /// Whether somebody looks after hosts that raise the alarm.
    pub(super) attended: bool,
    /// How often a journal was recovered.
    pub(super) recovered: u64,
    /// How often somebody is going to look after what a host holds.
    pub(super) looks: u64,
    /// What came of the words of people about held commands.
    pub(super) words: Words,
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
            looks: 0,
            words: Words::default(),
            scenario,
        })
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
            retried: self.words.retried,
            dropped: self.words.dropped,
            voided: self.auditor.registry().voided().count() as u64,
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
            Action::Look { host } => self.look(host),
            Action::Void => self.void(),
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

    fn is_drained(&self) -> bool {
        let rests = |host: &Host| {
            host.rests()
                && host.status == Status::Idle
                && !host.dirty
                && !host.store.has_pending()
                && host.store.progress().head == self.broker.last()
        };
        self.looks == 0
            && self.flights.is_empty()
            && self.broker.proposals() == 0
            && self.hosts.iter().all(rests)
    }

    fn judge(&self) -> Result<(), Broken> {
        invariants::stream(&self.broker)?;
        for host in &self.hosts {
            invariants::journal(host, &self.broker, &self.auditor)?;
            invariants::promised(host, &self.auditor)?;
            invariants::given_up(host, &self.broker, &self.auditor)?;
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
