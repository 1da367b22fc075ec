//! What a host does with the machine's outputs, and the steps between which it may die.

use super::host::Await;
use super::invariants::{self, Broken};
use super::network::Ask;
use super::scenario::Fault;
use super::store::Entry;
use super::world::{Action, World, short};
use cim_keys_core::journal::State;
use cim_keys_core::stream::KEYS_ARCHIVE;
use cim_keys_core::sync::{Input, Landed, Outgoing, Output, Persist, Persisted, Read, Reply, Send, Status};

/// More publishes in a row without a confirmation are no patience.
const VAIN: u64 = 300;
/// So long after the faults stopped people still look after what is held.
const LOOKS: u64 = 8_000;

impl World {
    /// A process starts from what its store holds.
    pub(super) fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].machine.is_some() {
            return Ok(());
        }
        let bug = self.scenario.bug;
        self.hosts[host].start(bug);
        let head = self.hosts[host].store.progress().head;
        self.trace.line(self.now, &name(host), format_args!("starts at head {head}"));
        let connection = self.hosts[host].link.connection;
        let delay = self.delay(host);
        self.after(delay, Action::Connect { host, connection });
        self.feed(host, Input::Tick)
    }

    /// Feeds the machine and does what comes out, in order.
    pub(super) fn feed(&mut self, host: usize, input: Input) -> Result<(), Broken> {
        self.trace.line(self.now, &name(host), format_args!("<- {}", of_input(&input)));
        if input == Input::Tick {
            self.hosts[host].dirty = false;
        }
        if input == Input::Disconnected {
            self.hosts[host].in_doubt = false;
            let it = &mut self.hosts[host];
            it.link.broken = false;
            it.flight = None;
            it.follows = false;
            if matches!(it.waits, Await::Read(_)) {
                it.waits = Await::Nothing;
            }
        }
        if input == Input::Reply(Reply::Unknown) {
            self.hosts[host].in_doubt = true;
        }
        let now = self.now;
        let outputs = self.hosts[host].handle(now, input);
        let sends = outputs.iter().filter(|output| matches!(output, Output::Send(_))).count();
        let silent = |output: &&Output| {
            matches!(output, Output::Drop | Output::Report(_) | Output::Follow { .. } | Output::Send(_))
        };
        let asks = outputs.len() - outputs.iter().filter(silent).count();
        let open = usize::from(self.hosts[host].waits != Await::Nothing);
        let flies = usize::from(self.hosts[host].flight.is_some());
        if asks + open > 1 || sends + flies > 1 {
            return Err(Broken::new(
                "contract",
                format!("host {host}: {asks} questions beside {open}, {sends} appends beside {flies}"),
            ));
        }
        for output in outputs {
            self.trace.line(self.now, &name(host), format_args!("-> {}", of_output(&output)));
            if self.dies(host, "before it") {
                return Ok(());
            }
            let restarts = self.perform(host, output)?;
            if restarts || self.dies(host, "after it") {
                return Ok(());
            }
        }
        let it = &self.hosts[host];
        if it.rests() {
            if it.status != Status::Idle {
                return Err(Broken::new("contract", format!("host {host} stands still: {:?}", it.status)));
            }
            if it.dirty {
                self.after(1, Action::Poll { host });
            } else {
                invariants::overlay(it)?;
            }
        }
        Ok(())
    }

    /// Does one thing. True where the process begins anew.
    fn perform(&mut self, host: usize, output: Output) -> Result<bool, Broken> {
        let ticket = self.ticket();
        let life = self.hosts[host].life;
        if self.hosts[host].in_doubt && matches!(output, Output::ReadFrom { .. } | Output::Send(_)) {
            let text = format!("host {host} goes on with a connection that left an append unanswered");
            return Err(Broken::new("contract", text));
        }
        match output {
            Output::ReadFrom { stream, after, limit } => {
                self.hosts[host].waits = Await::Read(ticket);
                if self.hosts[host].link.broken {
                    // The machine must know: behind a new connection it looks at the message at `head` again.
                    self.after(0, Action::Told { host, life });
                    return Ok(false);
                }
                self.time_out(host, ticket);
                self.after(
                    0,
                    Action::Ask(Ask {
                        host,
                        life,
                        ticket,
                        connection: None,
                        archive: stream == KEYS_ARCHIVE,
                        after,
                        limit,
                        info: None,
                    }),
                );
            }
            Output::Send(send) => {
                let batch = send.messages.first().and_then(|first| first.headers.only("Nats-Batch-Id"));
                if let Some(id) = batch
                    && !self.batch_ids.insert(id.to_owned())
                {
                    let text = format!("host {host} uses the batch id {id} again");
                    return Err(Broken::new("contract", text));
                }
                self.may_send(host, &send)?;
                self.vain[host] += 1;
                if self.vain[host] > VAIN {
                    return Err(Broken::new(
                        "I8 bounded",
                        format!("host {host} published {VAIN} times in vain"),
                    ));
                }
                self.hosts[host].flight = Some(ticket);
                if self.hosts[host].link.broken && self.net.chance(500) {
                    // Nothing can be sent; the other half does not know it yet.
                    self.after(0, Action::Told { host, life });
                    return Ok(false);
                }
                self.time_out(host, ticket);
                let share = if send.batch { 50 } else { 300 };
                if self.scenario.has(Fault::Squat) && !self.trouble.calm && self.dice.chance(share) {
                    self.squat(&send.messages);
                }
                let last = send.messages.len().saturating_sub(1);
                for (place, message) in send.messages.into_iter().enumerate() {
                    self.transmit(host, message, (place == last).then_some(ticket));
                }
            }
            Output::LoadFacts { scopes } => {
                let input = self.hosts[host].store.facts(&scopes);
                self.store_answers(host, ticket, input);
            }
            Output::Load { after, limit } => {
                let input = self.hosts[host].store.load(after, limit);
                self.store_answers(host, ticket, input);
            }
            Output::Gather { after, messages } => {
                let input = self.hosts[host].store.gather(after, messages);
                self.store_answers(host, ticket, input);
            }
            Output::Follow { on } => {
                self.hosts[host].follows = on;
            }
            Output::Persist(persist) => {
                let outcome = self.persist(host, &persist)?;
                self.store_answers(host, ticket, Input::Persisted(outcome));
            }
            Output::Redecide { command_id } => {
                let resolved = self.hosts[host].redecide(self.now, command_id);
                let text = format_args!("decides {} anew: {resolved}", short(&command_id));
                self.trace.line(self.now, &name(host), text);
                if resolved && self.scenario.has(Fault::Import) && !self.trouble.calm && self.dice.chance(300)
                {
                    let delay = self.dice.below(20);
                    self.after(delay, Action::Fault { fault: Fault::Import });
                }
                self.store_answers(host, ticket, Input::Redecided { command_id, resolved });
            }
            Output::Drop => {
                self.hosts[host].in_doubt = false;
                self.hosts[host].link.queue.clear();
                self.hosts[host].flight = None;
                self.hosts[host].follows = false;
                self.cut(host, "dropped");
                self.hosts[host].link.broken = false;
            }
            Output::Wait { millis } => {
                self.hosts[host].waits = Await::Pause(ticket);
                self.after(millis, Action::Answer { host, life, ticket, input: Box::new(Input::Tick) });
            }
            Output::Report(status) => {
                let moved = matches!(&status, Status::Blocked { reason } if reason.code == "journal-moved");
                let regressed =
                    matches!(&status, Status::Blocked { reason } if reason.code == "stream-regressed");
                self.hosts[host].status = status;
                if regressed && self.attended {
                    let delay = self.dice.between(1_000, 40_000);
                    self.mended_at = self.now + delay;
                    self.after(delay, Action::Recover { host });
                }
                if moved {
                    // The machine's knowledge is void: a new one begins with what the store holds.
                    self.die(host, "the journal moved", 1);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// An append has an expectation, and is nothing but pending commands with the bytes that were decided. From then on
    /// anybody may have them.
    fn may_send(&mut self, host: usize, send: &Send) -> Result<(), Broken> {
        let broken = |text: &str| Err(Broken::new("contract", format!("host {host} {text}")));
        let expects = |message: &Outgoing| message.headers.only("Nats-Expected-Last-Sequence").is_some();
        if !send.messages.first().is_some_and(expects) {
            return broken("appends without an expectation");
        }
        let store = &mut self.hosts[host].store;
        let mut sent = Vec::new();
        let mut messages = send.messages.iter().peekable();
        while let Some(first) = messages.peek() {
            let whole = |entry: &&Entry| {
                entry.state == State::Pending
                    && entry.pending.envelopes.first().is_some_and(|own| own.payload == first.payload)
            };
            let Some(entry) = store.entries().find(whole) else {
                return broken("appends what is not pending");
            };
            for own in &entry.pending.envelopes {
                let same = messages.next().is_some_and(|message| {
                    message.subject == own.subject.as_str()
                        && message.payload == own.payload
                        && own.headers.iter().all(|(name, value)| message.headers.only(name) == Some(value))
                });
                if !same {
                    return broken("appends other messages than were decided");
                }
            }
            sent.push(entry.pending.context.command_id);
        }
        store.note_left(sent);
        Ok(())
    }

    fn persist(&mut self, host: usize, persist: &Persist) -> Result<Persisted, Broken> {
        if self.trouble.store_fails(host, self.now) {
            return Ok(Persisted::Failed { reason: String::from("disk I/O error") });
        }
        let outcome = self.hosts[host].store.persist(persist);
        let late = self.now > self.scenario.calm_at + LOOKS;
        if outcome == Persisted::Ok && !persist.held.is_empty() && !late && self.dice.chance(600) {
            let delay = self.dice.between(5, 6_000);
            self.looks += 1;
            self.after(delay, Action::Look { host });
        }
        if outcome == Persisted::Ok && !persist.confirmed.is_empty() {
            self.vain[host] = 0;
            invariants::journal(&self.hosts[host], &self.broker, &self.auditor)?;
        }
        if outcome == Persisted::Ok {
            for hold in &persist.held {
                invariants::held(&self.hosts[host], hold.command_id)?;
            }
        }
        if outcome == Persisted::Ok && !persist.progress.recheck_due {
            invariants::overlay(&self.hosts[host])?;
        }
        Ok(outcome)
    }

    /// A store takes its time: something else may happen before its answer is there.
    fn store_answers(&mut self, host: usize, ticket: u64, input: Input) {
        self.hosts[host].waits = Await::Store(ticket);
        let life = self.hosts[host].life;
        let slow = self.scenario.has(Fault::SlowStore) && !self.trouble.calm && self.net.chance(300);
        let delay = self.net.below(if slow { 2_000 } else { 4 });
        self.after(delay, Action::Answer { host, life, ticket, input: Box::new(input) });
    }

    /// Whether the process dies here.
    fn dies(&mut self, host: usize, when: &str) -> bool {
        if self.trouble.calm {
            return false;
        }
        self.crashable += 1;
        let once = self.scenario.has(Fault::CrashOnce) && self.crashable == self.scenario.crash_step;
        let at_random = self.scenario.has(Fault::Crash) && self.dice.chance(self.scenario.crash_rate);
        if once || at_random {
            self.crashed += 1;
            let pause = self.dice.between(1, 2_000);
            self.die(host, when, pause);
        }
        once || at_random
    }

    pub(super) fn die(&mut self, host: usize, why: &str, pause: u64) {
        self.trace.line(self.now, &name(host), format_args!("dies: {why}"));
        self.hosts[host].die();
        self.cut(host, "process gone");
        self.after(pause, Action::Start { host });
    }
}

fn name(host: usize) -> String {
    format!("host {host}")
}

/// An input in a few words.
fn of_input(input: &Input) -> String {
    match input {
        Input::Read(Read { info, messages }) => {
            let ends = (messages.first().map(|m| m.sequence), messages.last().map(|m| m.sequence));
            format!("Read {} messages {ends:?}, stream ends at {}", messages.len(), info.last)
        }
        Input::Facts { own, .. } => format!("Facts, {} own", own.len()),
        Input::Gathered { commands, .. } => {
            let ids: Vec<String> = commands.iter().map(|ready| short(&ready.command_id)).collect();
            format!("Gathered {ids:?}")
        }
        Input::Tail(message) => format!("Tail {}", message.sequence),
        Input::Loaded { commands, held_revocations, revision, .. } => {
            let ids: Vec<String> =
                commands.iter().map(|pending| short(&pending.context.command_id)).collect();
            format!("Loaded {ids:?}, {} held revocations, revision {revision}", held_revocations.len())
        }
        other => format!("{other:?}"),
    }
}

/// An output in a few words.
fn of_output(output: &Output) -> String {
    match output {
        Output::LoadFacts { scopes } => format!("LoadFacts, {} look-ups", scopes.len()),
        Output::Send(send) => {
            let expected = send.messages.first().and_then(|m| m.headers.only("Nats-Expected-Last-Sequence"));
            let subjects: Vec<&str> =
                send.messages.iter().map(|m| m.subject.splitn(4, '.').nth(3).unwrap_or_default()).collect();
            format!("Send behind {}: {}", expected.unwrap_or("?"), subjects.join(" "))
        }
        Output::Persist(persist) => {
            let at = |landed: &Landed| format!("{}@{}", short(&landed.command_id), landed.first);
            let confirmed: Vec<String> = persist.confirmed.iter().map(at).collect();
            let held: Vec<String> = persist
                .held
                .iter()
                .map(|hold| format!("{} {}", short(&hold.command_id), hold.reason.code))
                .collect();
            let anomalies: Vec<String> =
                persist.anomalies.iter().map(|a| format!("{:?} {}", a.sequences, a.reason.code)).collect();
            format!(
                "Persist head {} -> {}, confirmed {confirmed:?}, held {held:?}, anomalies {anomalies:?}, {} entities",
                persist.expect_head,
                persist.progress.head,
                persist.entities.len()
            )
        }
        Output::Redecide { command_id } => format!("Redecide {}", short(command_id)),
        other => format!("{other:?}"),
    }
}
