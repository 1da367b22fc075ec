//! Reasons that a person reads, with their codes.

use crate::command::Rejection;
use crate::nkey::PublicKey;
use crate::registry::Missing;
use crate::rules::Reason;
use crate::stream::SERVER_FLOOR;
use alloc::format;
use alloc::string::{String, ToString};

pub(super) fn named(code: &str, text: String) -> Reason {
    Reason { code: code.to_string(), text }
}

pub(super) fn newer_schema(level: u32, known: u32) -> Reason {
    let rejection = Rejection::NewerSchema { level, known };
    named(rejection.code(), rejection.to_string())
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

pub(super) fn gap(head: u64, found: u64, archive: &str) -> Reason {
    let text = format!(
        "the stream has forgotten what came after {head} (next is {found}), and {archive}: without the whole history nothing is read; bring the archive back from the server's backup"
    );
    named("history-missing", text)
}

/// What was handed out does not follow `head`: a server that cannot count.
pub(super) fn out_of_order(head: u64, found: u64) -> Reason {
    named("history-missing", format!("the server handed out {found} where the message after {head} was due"))
}

pub(super) fn regressed(text: String) -> Reason {
    named("stream-regressed", text)
}

pub(super) fn archive_foreign(why: &str) -> Reason {
    let text = format!(
        "KEYS_ARCHIVE is not the archive of this stream: {why}; if it belongs to it after all, `cim-keys sync --join` takes it, else delete it (nats stream rm KEYS_ARCHIVE, as the steward's account) and let a new one be made"
    );
    named("archive-foreign", text)
}

pub(super) fn archive_settings(differences: &str) -> Reason {
    named("archive-settings", format!("KEYS_ARCHIVE: {differences}"))
}

pub(super) fn archive_due() -> Reason {
    let text = "the stream will soon forget its oldest events (or has forgotten some), and there is no KEYS_ARCHIVE that keeps them: nothing is appended until there is one (cim-keys sync on the machine that keeps the steward's key makes it)";
    named("archive-missing", text.to_string())
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
