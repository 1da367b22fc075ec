//! What goes over the network: messages and their answers, reads, the log, connections that break and come back.

use super::broker::{Answer, Origin};
use super::invariants::Broken;
use super::link::Frame;
use super::scenario::Fault;
use super::script::Turn;
use super::world::{Action, World};
use cim_keys_core::sync::{Failure, Input, Outgoing, Read, Reply, StreamInfo};

/// A client waits this long for an answer.
const PATIENCE: u64 = 5_000;

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

impl World {
    /// What was stored since is published on the log, for those who listen.
    pub(super) fn publish_log(&mut self) {
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

    pub(super) fn hear(&mut self, host: usize, connection: u64, sequence: u64) -> Result<(), Broken> {
        let it = &self.hosts[host];
        if it.machine.is_none() || !it.follows || it.link.connection != connection || it.link.broken {
            return Ok(());
        }
        let Some(stored) = self.broker.at(sequence) else { return Ok(()) };
        let message = stored.message.clone();
        self.feed(host, Input::Tail(message))
    }

    /// A message reaches the server, and its answer goes back.
    pub(super) fn arrive(&mut self, number: u64) {
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

    pub(super) fn ask(&mut self, ask: Ask) {
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
    pub(super) fn transmit(&mut self, host: usize, message: Outgoing, ticket: Option<u64>) {
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

    pub(super) fn connect(&mut self, host: usize, connection: u64) {
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

    /// One way of a message.
    pub(super) fn delay(&mut self, host: usize) -> u64 {
        let latency = self.scenario.latency_of(host);
        latency + self.net.below(latency + 1)
    }

    pub(super) fn time_out(&mut self, host: usize, ticket: u64) {
        let life = self.hosts[host].life;
        self.after(PATIENCE, Action::TimeOut { host, life, ticket });
    }
}
