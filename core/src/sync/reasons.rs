//! Reasons that a person reads, with their codes.

use crate::nkey::PublicKey;
use crate::registry::Missing;
use crate::rules::Reason;
use crate::stream::SERVER_FLOOR;
use alloc::format;
use alloc::string::{String, ToString};

pub(super) fn named(code: &str, text: String) -> Reason {
    Reason { code: code.to_string(), text }
}

pub(super) fn foreign_registry(found: PublicKey) -> Reason {
    let text = format!(
        "the stream belongs to the registry {found}: one stream holds one registry, use another server or account"
    );
    named("stream-foreign", text)
}

pub(super) fn incomplete(missing: &Missing) -> Reason {
    named("fact-missing", missing.to_string())
}

pub(super) fn unreachable_reason() -> Reason {
    named("unreachable", "the connection was lost".to_string())
}

pub(super) fn gap(head: u64, found: u64) -> Reason {
    let text = format!(
        "the stream has forgotten what came after {head} (next is {found}): read it from KEYS_ARCHIVE"
    );
    named("history-missing", text)
}

pub(super) fn behind(due: u64) -> Reason {
    let text = format!(
        "the message at {due} is not handed out yet: a server is behind its leader (or the message was deleted)"
    );
    named("read-behind", text)
}

pub(super) fn too_old(found: Option<(u32, u32, u32)>) -> Reason {
    let (a, b, c) = found.unwrap_or_default();
    let (x, y, z) = SERVER_FLOOR;
    named(
        "server-too-old",
        format!("the server is {a}.{b}.{c}: appending needs nats-server {x}.{y}.{z} or newer"),
    )
}
