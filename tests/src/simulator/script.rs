//! What a script does to appends, in place of chance.

use super::host::Host;
use super::link::Frame;
use super::world::World;
use crate::contract::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a frame that reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What always does.
    Pass,
    /// It never arrives, and the connection is cut.
    CutBefore,
    /// It is worked off, and the connection is cut before the answer.
    CutAfter,
    /// It is worked off, and the answer gets lost.
    Silence,
    /// It is worked off, and its host dies.
    Die,
    /// It is held back.
    Hold,
}

/// Faults that wait for the next append of a host, and what is held back.
#[derive(Debug, Default)]
pub(super) struct Script {
    armed: BTreeMap<usize, Fault>,
    held: BTreeMap<usize, Vec<Frame>>,
    readers: BTreeSet<usize>,
    /// Hosts that died of a fault.
    dead: BTreeSet<usize>,
}

impl Script {
    /// Something happens to the next append of a host.
    pub(super) fn arm(&mut self, host: usize, fault: Fault) {
        self.armed.insert(host, fault);
    }

    /// Hosts whose fault has not happened.
    pub(super) fn unmet(&self) -> impl Iterator<Item = (usize, Fault)> + '_ {
        self.armed.iter().map(|(host, fault)| (*host, *fault))
    }

    /// A host may only read from now on, or all that hosts may.
    pub(super) fn set_reader(&mut self, host: usize, reads_only: bool) {
        if reads_only {
            self.readers.insert(host);
        } else {
            self.readers.remove(&host);
        }
    }

    /// Whether a host may not publish events.
    pub(super) fn is_reader(&self, host: usize) -> bool {
        self.readers.contains(&host)
    }

    /// What happens to a frame. An append ends with the frame that asks for an answer.
    pub(super) fn turn(&mut self, frame: &Frame) -> Turn {
        let Some(fault) = self.armed.get(&frame.host).copied() else { return Turn::Pass };
        let last = frame.ticket.is_some();
        let turn = match fault {
            Fault::CutBefore => Turn::CutBefore,
            Fault::Hold => Turn::Hold,
            _ if !last => return Turn::Pass,
            Fault::LoseAnswer => Turn::Silence,
            Fault::CutAfter => Turn::CutAfter,
            Fault::Die => Turn::Die,
        };
        if last || turn == Turn::CutBefore {
            self.armed.remove(&frame.host);
        }
        if turn == Turn::Die {
            self.dead.insert(frame.host);
        }
        turn
    }

    /// Whether a host died of a fault.
    pub(super) fn has_killed(&self, host: usize) -> bool {
        self.dead.contains(&host)
    }

    /// It begins again.
    pub(super) fn revive(&mut self, host: usize) {
        self.dead.remove(&host);
    }

    /// Holds a frame back.
    pub(super) fn keep(&mut self, frame: Frame) {
        self.held.entry(frame.host).or_default().push(frame);
    }

    /// Whether a whole append of a host is held back.
    pub(super) fn holds(&self, host: usize) -> bool {
        self.held.get(&host).is_some_and(|frames| frames.last().is_some_and(|frame| frame.ticket.is_some()))
    }

    /// What is held back of a host.
    pub(super) fn let_go(&mut self, host: usize) -> Vec<Frame> {
        self.held.remove(&host).unwrap_or_default()
    }

    /// The server is gone with all connections: what was held back on them is lost.
    pub(super) fn lose(&mut self) {
        self.held.clear();
    }
}

impl World {
    /// A process is gone, and nobody starts it again.
    pub(super) fn end(&mut self, host: usize, why: &str) {
        self.trace.line(self.now, &format!("host {host}"), format_args!("ends: {why}"));
        self.hosts[host].die();
        self.sever(host, "process gone", 0);
    }

    /// One more host: a copy of store and keys of the first one as they are now. Its process is not started.
    pub(super) fn join(&mut self) -> usize {
        let (number, founder) = (self.hosts.len(), &mut self.hosts[0]);
        let host = Host::new(self.scenario.seed, number, founder.store.copied(), founder.keys.clone());
        self.hosts.push(host);
        self.vain.push(0);
        number
    }
}
