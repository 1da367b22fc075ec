//! A journal as its file has it: read by SQL from the tables, past the store that wrote it.

use cim_keys_core::command::Command;
use cim_keys_core::context::Context;
use cim_keys_core::headers::Headers;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use uuid::Uuid;

/// A command's line.
#[derive(Debug)]
pub(super) struct Line {
    /// Its id.
    pub(super) command_id: Uuid,
    /// `pending`, `held`, `confirmed`, `settled` or `dropped`.
    pub(super) state: String,
    /// Sequence of its first event, once confirmed.
    pub(super) first: Option<u64>,
    /// Why it is held.
    pub(super) reason: Option<String>,
    /// Digest of its draft.
    pub(super) draft_hash: String,
    /// What was wanted.
    pub(super) command: Command,
    /// The facts supplied with it.
    pub(super) context: Context,
    /// Subject, headers and payload of each event.
    pub(super) events: Vec<(String, Headers, Vec<u8>)>,
}

/// All lines in order.
///
/// # Panics
/// When the file cannot be read.
pub(super) fn read(path: &Path) -> Vec<Line> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags).expect("the journal's file");
    let mut events = file
        .prepare("SELECT subject, headers, payload FROM envelopes WHERE id >= ?1 * 1024 AND id < (?1 + 1) * 1024 ORDER BY id")
        .expect("the table of envelopes");
    let mut lines = file
        .prepare("SELECT position, command_id, state, first, reason, draft_hash, command, context FROM journal ORDER BY position")
        .expect("the table of commands");
    let found = lines.query_map([], |row| {
        let text = |place: usize| row.get::<_, String>(place);
        let id: Vec<u8> = row.get(1)?;
        let events = events.query_map([row.get::<_, i64>(0)?], |event| {
            let headers: String = event.get(1)?;
            let headers = serde_json::from_str(&headers).expect("headers");
            Ok((event.get(0)?, headers, event.get(2)?))
        })?;
        Ok(Line {
            command_id: Uuid::from_slice(&id).expect("a command id"),
            state: text(2)?,
            first: row.get(3)?,
            reason: row.get(4)?,
            draft_hash: text(5)?,
            command: serde_json::from_str(&text(6)?).expect("a command"),
            context: serde_json::from_str(&text(7)?).expect("a context"),
            events: events.collect::<Result<_, _>>()?,
        })
    });
    found.and_then(Iterator::collect).expect("lines of the journal")
}
