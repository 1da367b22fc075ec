//! A stream on three nodes: proposals, leaders that fall, majorities that are gone; and the power, which takes what was
//! acknowledged and no disk had.

use super::invariants::{Auditor, Broken, command_of};
use super::link::Frame;
use super::scenario::Fault;
use super::world::{Action, World};
use cim_keys_core::sync::Status;

impl World {
    /// A message waits for the majority, with the frame that is to be answered then.
    pub(super) fn propose(&mut self, number: u64, frame: Option<Frame>) {
        self.proposed.insert(number, frame);
        let delay = self.net.between(1, 12);
        self.after(delay, Action::Settle { number });
    }

    /// The majority has all proposals up to this one.
    pub(super) fn settle(&mut self, number: u64) {
        if self.trouble.is_down(self.now) {
            return;
        }
        let later = self.trouble.has_no_majority(self.now).or(self.trouble.stands_still(self.now));
        if let Some(until) = later {
            // Trouble may be over before.
            return self.at(until.min(self.now + 100), Action::Settle { number });
        }
        for (number, reply) in self.broker.settle(number, self.now) {
            if let Some(frame) = self.proposed.remove(&number).flatten() {
                self.respond(&frame, reply, false);
            }
        }
    }

    /// The leader dies. Some of what it proposed had reached the next one, which stores it without a word.
    pub(super) fn depose(&mut self) {
        if !self.scenario.has(Fault::Replicated) || self.trouble.is_down(self.now) {
            return;
        }
        let waiting = self.broker.proposals();
        let survive = usize::try_from(self.dice.below(waiting as u64 + 1)).unwrap_or(0);
        let before = self.broker.last();
        self.broker.depose(survive, self.now);
        self.late += self.broker.last() - before;
        self.proposed.clear();
        let gap = self.dice.between(4_000, 7_000);
        self.trouble.set_leaderless(self.now + gap);
        let text = format_args!(
            "the leader dies with {waiting} on their way, {survive} are stored; {gap} ms without one"
        );
        self.trace.line(self.now, "trouble", text);
        for host in 0..self.hosts.len() {
            // Connected to the node that died.
            if self.dice.chance(333) {
                self.cut(host, "its node is gone");
            }
        }
    }

    /// Nothing gets a majority for a while. Then all is stored late, or another leader knows of a part.
    pub(super) fn divide(&mut self, until: u64) {
        self.trouble.set_divided(until);
        if self.dice.chance(500) {
            self.at(until, Action::Fault { fault: Fault::LeaderLost });
        }
    }

    /// The power goes: a part of what was acknowledged since the disk was last written through never was.
    pub(super) fn power_goes(&mut self, back: u64) -> Result<(), Broken> {
        if self.trouble.is_down(self.now) {
            return Ok(());
        }
        let (synced, last) = (self.broker.synced(self.now, self.scenario.sync), self.broker.last());
        let kept = self.dice.between(synced, last);
        // A command that was cut in two: its rest is lost, and it is stored again from its beginning.
        let cut = self.broker.at(kept + 1).and_then(command_of);
        let torn = (1..=kept)
            .rev()
            .take_while(|sequence| cut.is_some() && self.broker.at(*sequence).and_then(command_of) == cut);
        let torn: Vec<u64> = torn.collect();
        self.broker.lose(kept, torn);
        self.broker.restart(self.now, 1000);
        self.logged = self.logged.min(kept);
        self.trace.line(
            self.now,
            "trouble",
            format_args!("the power goes: of {last} messages {synced} are safe and {kept} are left"),
        );
        self.proposed.clear();
        for host in 0..self.hosts.len() {
            self.sever(host, "the power is gone", 0);
        }
        // Nothing of a connection to the machine that went survives.
        self.flights.clear();
        self.trouble.set_down_until(back);
        self.at(back, Action::Back { keep: 1000 });
        self.auditor = Auditor::new(self.hosts[0].store.registry().id().clone());
        self.auditor.follow(&self.broker)
    }

    /// A person recovers the journal of a host that raised the alarm, once the server is there.
    pub(super) fn recover(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].machine.is_none() || !self.is_alarmed(host) {
            return Ok(());
        }
        if self.trouble.is_down(self.now) {
            self.after(1_000, Action::Recover { host });
            return Ok(());
        }
        let stream = self.broker.archived(0, u32::MAX);
        let found = self.hosts[host].store.recover(&stream);
        let (kept, pending) = found.ok_or_else(|| Broken::new("recovery", format!("host {host} cannot")))?;
        self.recovered += 1;
        self.hosts[host].status = Status::Working;
        let text = format_args!(
            "is recovered: the stream agrees up to {kept}, {pending} commands are pending again"
        );
        self.trace.line(self.now, &format!("host {host}"), text);
        self.die(host, "it was recovered", 1);
        Ok(())
    }

    /// Whether a host says so. It stays so until somebody recovers the journal.
    pub(super) fn is_alarmed(&self, host: usize) -> bool {
        matches!(&self.hosts[host].status, Status::Blocked { reason } if reason.code == "stream-regressed")
    }

    /// An alarm is raised only where something was lost.
    pub(super) fn alarms(&self) -> Result<(), Broken> {
        let lowest = self.broker.lost().iter().map(|stored| stored.message.sequence).min();
        for host in (0..self.hosts.len()).filter(|host| self.is_alarmed(*host)) {
            let head = self.hosts[host].store.progress().head;
            if lowest.is_none_or(|lowest| head < lowest) {
                let text = format!("host {host} at {head} says that the stream went back, and it did not");
                return Err(Broken::new("alarm", text));
            }
        }
        Ok(())
    }
}
