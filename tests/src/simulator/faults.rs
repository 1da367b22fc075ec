//! Trouble: what is wrong at the moment, and how it begins.

use super::invariants::Broken;
use super::scenario::Fault;
use super::world::{Action, World};
use cim_keys_core::sync::Reply;
use std::collections::BTreeMap;

/// How often what waits for a server that stands still looks whether it moves.
const STILL: u64 = 50;

/// What is wrong, and until when.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    down: u64,
    frozen: u64,
    /// Until somebody says otherwise.
    still: bool,
    leaderless: u64,
    divided: u64,
    full: u64,
    denied: BTreeMap<usize, (u64, bool)>,
    offline: BTreeMap<usize, u64>,
    store: BTreeMap<usize, u64>,
}

impl Trouble {
    /// The server is not there.
    pub(super) fn is_down(&self, now: u64) -> bool {
        now < self.down
    }

    /// The server goes, or comes back.
    pub(super) fn set_down(&mut self, down: bool) {
        self.down = if down { u64::MAX } else { 0 };
    }

    /// The store of a host fails, or works again.
    pub(super) fn set_store(&mut self, host: usize, fails: bool) {
        self.store.insert(host, if fails { u64::MAX } else { 0 });
    }

    /// The server refuses the creds of a host from now on, or takes them.
    pub(super) fn set_refused(&mut self, host: usize, refused: bool) {
        self.denied.insert(host, (if refused { u64::MAX } else { 0 }, true));
    }

    /// The server stands still until then.
    pub(super) fn stands_still(&self, now: u64) -> Option<u64> {
        if self.still {
            return Some(now + STILL);
        }
        (now < self.frozen).then_some(self.frozen)
    }

    /// The server stands still, or moves on.
    pub(super) fn set_still(&mut self, still: bool) {
        self.still = still;
    }

    /// Nobody leads the stream.
    pub(super) fn has_no_leader(&self, now: u64) -> bool {
        now < self.leaderless
    }

    /// Nobody leads the stream until then.
    pub(super) fn set_leaderless(&mut self, until: u64) {
        self.leaderless = until;
    }

    /// Until when nothing gets a majority.
    pub(super) fn has_no_majority(&self, now: u64) -> Option<u64> {
        (now < self.divided).then_some(self.divided)
    }

    /// Nothing gets a majority until then.
    pub(super) fn set_divided(&mut self, until: u64) {
        self.divided = until;
    }

    /// The server is not there until then.
    pub(super) fn set_down_until(&mut self, until: u64) {
        self.down = until;
    }

    /// Publishes get no answer.
    pub(super) fn disk_is_full(&self, now: u64) -> bool {
        now < self.full
    }

    /// The host has no network.
    pub(super) fn is_offline(&self, host: usize, now: u64) -> bool {
        self.offline.get(&host).is_some_and(|until| now < *until)
    }

    /// The host's store cannot write.
    pub(super) fn store_fails(&self, host: usize, now: u64) -> bool {
        self.store.get(&host).is_some_and(|until| now < *until)
    }

    /// What the server answers to creds or a subject that it refuses.
    pub(super) fn refuses(&self, host: usize, now: u64, subject: &str) -> Option<Reply> {
        let (_, creds) = self.denied.get(&host).filter(|(until, _)| now < *until)?;
        Some(if *creds {
            Reply::Authorization { reason: String::from("User Authentication Expired") }
        } else {
            Reply::Permission { subject: subject.to_owned() }
        })
    }
}

impl World {
    /// Trouble begins.
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Broken> {
        if self.trouble.calm {
            return Ok(());
        }
        let host = usize::try_from(self.dice.below(self.hosts.len() as u64)).unwrap_or(0);
        let millis = self.dice.between(50, 15_000);
        let until = self.now + millis;
        match fault {
            Fault::Cut => {
                self.cut(host, "network");
                return Ok(());
            }
            Fault::Offline => {
                self.trouble.offline.insert(host, until * 3);
                self.cut(host, "offline");
            }
            Fault::Restart => {
                self.trouble.down = until;
                for host in 0..self.hosts.len() {
                    self.cut(host, "server restarts");
                }
                let keep = self.dice.pick(&[1000, 500, 0]).copied().unwrap_or(0);
                self.at(until, Action::Back { keep });
            }
            Fault::Freeze => self.trouble.frozen = until,
            Fault::Leaderless => self.trouble.leaderless = until,
            Fault::DiskFull => self.trouble.full = until,
            Fault::Denied => {
                let creds = self.dice.chance(500);
                self.trouble.denied.insert(host, (until, creds));
            }
            Fault::StoreFails => {
                self.trouble.store.insert(host, until);
            }
            Fault::Clock => {
                let reach = self.dice.pick(&[1_000, 600_000, 400_000_000]).copied().unwrap_or(0);
                let jump = i64::try_from(self.dice.below(reach * 2)).unwrap_or(0);
                self.hosts[host].clock = jump - i64::try_from(reach).unwrap_or(0);
            }
            Fault::Garbage | Fault::ThirdWriter | Fault::Import => {
                if !self.trouble.is_down(self.now) {
                    self.foreign(fault);
                }
                return Ok(());
            }
            Fault::LeaderLost => {
                self.depose();
                return Ok(());
            }
            Fault::Forget => {
                // Long after it was written through.
                let oldest = self.broker.synced(self.now, self.scenario.sync);
                let up_to = self.dice.below(oldest + 1);
                self.broker.forget(up_to);
                self.trace.line(self.now, "trouble", format_args!("the stream forgets up to {up_to}"));
                return Ok(());
            }
            Fault::Divided => self.divide(until),
            Fault::TailLost => return self.power_goes(until),
            Fault::Crash
            | Fault::CrashOnce
            | Fault::AckLost
            | Fault::Late
            | Fault::NoStream
            | Fault::SlowStore
            | Fault::SecondHost
            | Fault::ThirdHost
            | Fault::Unequal
            | Fault::Replicated
            | Fault::MirrorBehind
            | Fault::Squat => return Ok(()),
        }
        self.trace.line(self.now, "trouble", format_args!("{} (host {host}, {millis} ms)", fault.name()));
        Ok(())
    }

    /// The faults stop. Clocks stay as they are.
    pub(super) fn calm(&mut self) {
        self.trace.line(self.now, "trouble", format_args!("is over"));
        let frozen = self.trouble.frozen;
        self.trouble = Trouble { calm: true, ..Trouble::default() };
        // What waits for the server to move on moves on then.
        self.trouble.frozen = frozen.min(self.now);
        self.broker.create();
    }
}
