//! A stream that went back: what is kept of a journal, what becomes pending again, and what is lost.
//!
//! An acknowledgement is not an fsync. Up to some point the journal and the stream still agree; behind it the journal has
//! what the stream has lost. Own commands among that are published again, with the same bytes. What others had published
//! is theirs to publish again: it is named, and never invented.

use crate::admission::{Anomaly, Assembler, Group, StoredMessage};
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::envelope::{self, SCHEMA_VERSION};
use crate::journal::Progress;
use crate::registry::{Missing, Registry};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A journal as it is after it was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How far it is on the stream.
    pub progress: Progress,
    /// Entities and commands at that place.
    pub registry: Registry,
    /// Messages up to there that change nothing.
    pub anomalies: Vec<Anomaly>,
    /// Own commands that are to be published again, by id.
    pub pending: Vec<Uuid>,
    /// What only this journal still knows, and is not its own.
    pub lost: Vec<Lost>,
}

/// A message of somebody else that the stream has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where it was stored.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its event id, where it is an event.
    pub event_id: Option<Uuid>,
    /// The command that it belongs to, where it is an event.
    pub command_id: Option<Uuid>,
    /// Who wanted it, where it is an event.
    pub actor: Option<String>,
}

/// A confirmed command of the journal's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its id.
    pub command_id: Uuid,
    /// Sequence of its last event.
    pub last: u64,
}

/// The last of these messages up to which the journal has all of them; none where it has another one in place of the first.
///
/// One message that is the same proves nothing of those before it: what was lost may have been published again, by chance
/// at the same place. Compared is their [content](StoredMessage::content): other headers make another message.
#[must_use]
pub fn last_agreeing(found: &[StoredMessage], known: impl Fn(u64) -> Option<Digest>) -> Option<u64> {
    let same = |message: &&StoredMessage| known(message.sequence) == Some(message.content());
    found.iter().take_while(same).last().map(|message| message.sequence)
}

/// Makes the journal anew from its own messages, of which the stream has kept those up to `kept`, which it stored at this
/// time: it may go back again before anything more is read. They come in order and from the first one on. The archive is another one by then, or is met again. Where the schema level was raised above what
/// is known here, nothing behind that is read.
///
/// # Errors
/// A look-up was not answered, which a registry in memory never does.
pub fn recover(
    registry: RegistryId,
    before: &Progress,
    kept: u64,
    stored: Option<String>,
    messages: impl IntoIterator<Item = StoredMessage>,
    own: &[Confirmed],
) -> Result<Recovery, Missing> {
    let pending: Vec<Uuid> =
        own.iter().filter(|confirmed| confirmed.last > kept).map(|confirmed| confirmed.command_id).collect();
    let again: BTreeSet<Uuid> = pending.iter().copied().collect();
    let mut recovery = Recovery {
        progress: Progress {
            stream: before.stream.clone(),
            head: kept,
            recheck_due: true,
            ..Progress::default()
        },
        registry: Registry::new(registry),
        anomalies: Vec::new(),
        pending,
        lost: Vec::new(),
    };
    let mut assembler = Assembler::default();
    for message in messages {
        if message.sequence > kept {
            recovery.lost.extend(lost(&message, &again));
            continue;
        }
        if recovery.progress.level() > SCHEMA_VERSION {
            continue;
        }
        let (sequence, digest) = (message.sequence, message.digest());
        if sequence == kept {
            recovery.progress.head_digest = Some(digest);
            recovery.progress.learn(&StoredMessage { time: stored.clone(), ..message.clone() });
        }
        for group in assembler.push(message) {
            recovery.fold(group)?;
        }
        if recovery.progress.level() > SCHEMA_VERSION {
            (recovery.progress.head, recovery.progress.head_digest) = (sequence, Some(digest));
            recovery.progress.mark = recovery.progress.mark.filter(|mark| mark.sequence == sequence);
        }
    }
    recovery.progress.assembler = assembler;
    Ok(recovery)
}

impl Recovery {
    fn fold(&mut self, group: Group) -> Result<(), Missing> {
        let complete = match group {
            Group::Command(complete) => complete,
            Group::Anomaly(anomaly) => {
                self.anomalies.push(anomaly);
                return Ok(());
            }
        };
        let mut facts = self.registry.facts(&complete.scope(), false);
        match complete.admit(&mut facts)? {
            Err(anomaly) => self.anomalies.push(anomaly),
            Ok(admitted) => {
                self.progress.schema = admitted.raised().unwrap_or(self.progress.schema);
                for id in &admitted.changed {
                    if let Some(entity) = facts.entity(*id)? {
                        self.registry.put(entity.clone());
                    }
                }
                self.registry.record(admitted.recorded);
                admitted.voided.into_iter().for_each(|voided| self.registry.record(voided));
            }
        }
        Ok(())
    }
}

/// None where it is published again.
fn lost(message: &StoredMessage, again: &BTreeSet<Uuid>) -> Option<Lost> {
    let opened = envelope::decode(&message.subject, &message.headers, &message.payload).ok();
    let event = opened.map(|opened| opened.event);
    if event.as_ref().is_some_and(|event| again.contains(&event.command.id)) {
        return None;
    }
    Some(Lost {
        sequence: message.sequence,
        subject: message.subject.clone(),
        event_id: event.as_ref().map(|event| event.id),
        command_id: event.as_ref().map(|event| event.command.id),
        actor: event.map(|event| String::from(event.command.actor.as_str())),
    })
}
