//! A host's client connection: what is queued in it while there is no connection goes out later, unless it is dropped.

use cim_keys_core::sync::Outgoing;
use std::collections::VecDeque;

/// A message on its way to the broker.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The message.
    pub(crate) message: Outgoing,
    /// Which host sent it.
    pub(crate) host: usize,
    /// The connection it went out on.
    pub(crate) connection: u64,
    /// The request that waits for its answer, where one does.
    pub(crate) ticket: Option<u64>,
}

/// The client of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// Counts connections: answers come back only on the one that asked.
    pub(crate) connection: u64,
    /// Whether it is connected.
    pub(crate) connected: bool,
    /// Whether it broke without the machine having dropped it or heard of it.
    pub(crate) broken: bool,
    /// Messages that wait for a connection.
    pub(crate) queue: VecDeque<(Outgoing, Option<u64>)>,
    /// Frames on the wire of this connection, oldest first.
    pub(crate) flying: VecDeque<u64>,
    /// When the youngest of them arrives: a connection keeps their order.
    pub(crate) last_arrival: u64,
}

impl Link {
    /// The connection is gone. What is queued stays queued. Returns the frames that were on the wire.
    pub(crate) fn cut(&mut self) -> Vec<u64> {
        self.connection += 1;
        self.broken |= self.connected;
        self.connected = false;
        self.last_arrival = 0;
        self.flying.drain(..).collect()
    }
}
