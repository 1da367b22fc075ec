//! What people do: when they want something, what they commit, what they copy.

use super::invariants::Broken;
use super::rng::Rng;
use super::scenario::Fault;
use super::store::Entry;
use super::workload::{self, Wish};
use super::world::{Action, World, short};
use cim_keys_core::command::Command;
use cim_keys_core::journal::State;

impl World {
    /// Puts everything that does not follow from something else onto the agenda.
    pub(super) fn plan(&mut self) {
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
        let mut rng = Rng::new(self.scenario.seed, "people");
        for _ in 0..rng.below(5) {
            let host = usize::try_from(rng.below(3)).unwrap_or(0);
            self.looks += 1;
            self.at(rng.below(calm + 2_000), Action::Look { host });
        }
        for _ in 0..rng.below(3) {
            // Often while something is on its way.
            let when = rng.pick(&moments).filter(|_| rng.clone().chance(600)).copied();
            let when = when.unwrap_or_else(|| rng.below(calm)) + rng.below(self.scenario.latency * 12);
            self.at(when, Action::Void);
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

    /// Somebody wants something, several things at once where it is a burst.
    pub(super) fn command(&mut self, host: usize, burst: u64) -> Result<(), Broken> {
        let number = host.min(self.hosts.len() - 1);
        for _ in 0..burst {
            let now = self.now;
            let host = &mut self.hosts[number];
            let Some(wish) = host.want(now) else { continue };
            let name = wish.command.name();
            match host.execute(now, wish) {
                Ok(id) => {
                    self.commands += 1;
                    if self.dice.chance(300) {
                        self.hosts[number].store.note_handed_out(id);
                    }
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

    /// A person looks after what a host holds: some of it is tried once more, some given up, some left as it is.
    pub(super) fn look(&mut self, host: usize) -> Result<(), Broken> {
        let number = host.min(self.hosts.len() - 1);
        let now = self.now;
        self.looks = self.looks.saturating_sub(1);
        self.mended_at = self.mended_at.max(now);
        let entries = self.hosts[number].store.entries().filter(|entry| entry.state == State::Held);
        let founding = |entry: &&Entry| matches!(entry.pending.command, Command::FoundRegistry { .. });
        let held: Vec<uuid::Uuid> =
            entries.filter(|entry| !founding(entry)).map(|entry| entry.pending.context.command_id).collect();
        for id in held {
            let host = &mut self.hosts[number];
            let (what, word) = match self.dice.below(100) {
                0..40 => ("retries", host.retry(now, id)),
                40..75 => ("drops", host.drop_held(now, id, false)),
                75..85 => ("drops and voids", host.drop_held(now, id, true)),
                _ => continue,
            };
            self.words.note(word);
            let text = format_args!("a person {what} {}: {word:?}", short(&id));
            self.trace.line(now, &format!("host {number}"), text);
        }
        self.hosts[number].dirty = true;
        self.poll(number)
    }

    /// A person gives a command up that is on its way, here or on another host.
    pub(super) fn void(&mut self) -> Result<(), Broken> {
        let entries = self.hosts.iter().flat_map(|host| host.store.entries());
        let pending: Vec<uuid::Uuid> = entries
            .filter(|entry| entry.state == State::Pending)
            .map(|entry| entry.pending.context.command_id)
            .collect();
        let Some(id) = self.dice.pick(&pending).copied() else { return Ok(()) };
        let number = usize::try_from(self.dice.below(self.hosts.len() as u64)).unwrap_or(0);
        let host = &mut self.hosts[number];
        let view = workload::view(host.store.registry());
        let Some(authority) = workload::operator_keys(&view, &host.keys).first().copied() else {
            return Ok(());
        };
        let command = Command::VoidCommand { command_id: id, account: None, revoke: None };
        let found = host.execute(self.now, Wish { command, authority });
        let text = format_args!("a person voids {}, which is on its way: {}", short(&id), found.is_ok());
        self.trace.line(self.now, &format!("host {number}"), text);
        self.hosts[number].dirty = true;
        self.poll(number)
    }

    /// One more host: a copy of store and keys as they are now.
    pub(super) fn copy(&mut self) {
        let host = self.join();
        self.trace.line(self.now, &format!("host {host}"), format_args!("made as a copy of host 0"));
        self.after(1, Action::Start { host });
        self.after(500, Action::Tail { host });
    }
}
