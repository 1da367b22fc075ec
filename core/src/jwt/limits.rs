//! Limits of an account (`nats-identity` §5.2).

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::wire::{Unknown, wire_struct};

/// Limits of an account. The default is that of Go for a new account: no limit (-1), and no JetStream.
///
/// In JSON, serde's included, an absent number is 0, which admits nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLimits {
    /// Subscriptions of one connection; -1 no limit.
    pub subs: i64,
    /// Bytes; -1 no limit. The server does not enforce it.
    pub data: i64,
    /// Bytes of one message; -1 no limit.
    pub payload: i64,
    /// Number of imports; -1 no limit.
    pub imports: i64,
    /// Number of exports; -1 no limit.
    pub exports: i64,
    /// Whether exports may have wildcards.
    pub wildcards: bool,
    /// Refuse users with bearer tokens.
    pub disallow_bearer: bool,
    /// Connections; -1 no limit.
    pub conn: i64,
    /// Leaf nodes; -1 no limit.
    pub leaf: i64,
    /// JetStream bytes in memory; -1 no limit. JetStream is off when this and `disk_storage` are 0.
    pub mem_storage: i64,
    /// JetStream bytes on disk; -1 no limit.
    pub disk_storage: i64,
    /// Streams; -1 no limit.
    pub streams: i64,
    /// Consumers; -1 no limit.
    pub consumer: i64,
    /// Messages a consumer may leave without acknowledgement.
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory.
    pub mem_max_stream_bytes: i64,
    /// Bytes of one stream on disk.
    pub disk_max_stream_bytes: i64,
    /// Every stream must have a limit in bytes.
    pub max_bytes_required: bool,
    /// JetStream limits by tier ("R1", "R3"). With tiers the eight members above are not read.
    pub tiered_limits: BTreeMap<String, JetStreamLimits>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(AccountLimits {
    omit "subs" => subs,
    omit "data" => data,
    omit "payload" => payload,
    omit "imports" => imports,
    omit "exports" => exports,
    omit "wildcards" => wildcards,
    omit "disallow_bearer" => disallow_bearer,
    omit "conn" => conn,
    omit "leaf" => leaf,
    omit "mem_storage" => mem_storage,
    omit "disk_storage" => disk_storage,
    omit "streams" => streams,
    omit "consumer" => consumer,
    omit "max_ack_pending" => max_ack_pending,
    omit "mem_max_stream_bytes" => mem_max_stream_bytes,
    omit "disk_max_stream_bytes" => disk_max_stream_bytes,
    omit "max_bytes_required" => max_bytes_required,
    omit "tiered_limits" => tiered_limits,
});

impl AccountLimits {
    /// No member set: an account that admits nobody.
    pub fn zero() -> Self {
        Self {
            subs: 0,
            data: 0,
            payload: 0,
            imports: 0,
            exports: 0,
            wildcards: false,
            disallow_bearer: false,
            conn: 0,
            leaf: 0,
            mem_storage: 0,
            disk_storage: 0,
            streams: 0,
            consumer: 0,
            max_ack_pending: 0,
            mem_max_stream_bytes: 0,
            disk_max_stream_bytes: 0,
            max_bytes_required: false,
            tiered_limits: BTreeMap::new(),
            unknown: Unknown::default(),
        }
    }

    /// Whether the account has JetStream.
    pub fn has_jetstream(&self) -> bool {
        if self.tiered_limits.is_empty() {
            self.mem_storage != 0 || self.disk_storage != 0
        } else {
            self.tiered_limits.values().any(|tier| tier.mem_storage != 0 || tier.disk_storage != 0)
        }
    }

    /// The JetStream members outside the tiers.
    pub fn jetstream(&self) -> JetStreamLimits {
        JetStreamLimits {
            mem_storage: self.mem_storage,
            disk_storage: self.disk_storage,
            streams: self.streams,
            consumer: self.consumer,
            max_ack_pending: self.max_ack_pending,
            mem_max_stream_bytes: self.mem_max_stream_bytes,
            disk_max_stream_bytes: self.disk_max_stream_bytes,
            max_bytes_required: self.max_bytes_required,
            unknown: Unknown::default(),
        }
    }

    /// What Go's decoder does: with tiers, the flat JetStream members count for nothing.
    pub(crate) fn drop_shadowed(&mut self) {
        if !self.tiered_limits.is_empty() {
            self.mem_storage = 0;
            self.disk_storage = 0;
            self.streams = 0;
            self.consumer = 0;
            self.max_ack_pending = 0;
            self.mem_max_stream_bytes = 0;
            self.disk_max_stream_bytes = 0;
            self.max_bytes_required = false;
        }
    }
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            subs: -1,
            data: -1,
            payload: -1,
            imports: -1,
            exports: -1,
            wildcards: true,
            conn: -1,
            leaf: -1,
            ..Self::zero()
        }
    }
}

/// JetStream limits of one tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// Bytes in memory; -1 no limit.
    pub mem_storage: i64,
    /// Bytes on disk; -1 no limit.
    pub disk_storage: i64,
    /// Streams; -1 no limit.
    pub streams: i64,
    /// Consumers; -1 no limit.
    pub consumer: i64,
    /// Messages a consumer may leave without acknowledgement.
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory.
    pub mem_max_stream_bytes: i64,
    /// Bytes of one stream on disk.
    pub disk_max_stream_bytes: i64,
    /// Every stream must have a limit in bytes.
    pub max_bytes_required: bool,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(JetStreamLimits {
    omit "mem_storage" => mem_storage,
    omit "disk_storage" => disk_storage,
    omit "streams" => streams,
    omit "consumer" => consumer,
    omit "max_ack_pending" => max_ack_pending,
    omit "mem_max_stream_bytes" => mem_max_stream_bytes,
    omit "disk_max_stream_bytes" => disk_max_stream_bytes,
    omit "max_bytes_required" => max_bytes_required,
});
