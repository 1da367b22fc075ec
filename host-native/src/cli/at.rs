//! A moment in the past: a sequence of the stream, or a time at which the server had stored what is asked for.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::resolve;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::{Directory, Range, Version};
use cim_keys_core::registry::{Account, Entity, EntityId};
use cim_keys_core::time::{ServerTime, Timestamp};
use serde::Serialize;
use std::str::FromStr;

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The message at this sequence is in.
    Sequence(u64),
    /// Whatever was stored by then.
    Time(ServerTime),
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().map(Self::Sequence).ok();
        number
            .or_else(|| text.parse().map(Self::Time).ok())
            .ok_or("neither a sequence such as 42 nor a time such as 2026-11-25T14:00:00Z")
    }
}

/// A moment that lies on what was read here.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct At {
    /// The last sequence that is in.
    pub(super) sequence: u64,
    /// When the server stored it; missing where that is not known here.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(super) time: Option<ServerTime>,
}

fn shown<S: serde::Serializer>(time: &Option<ServerTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

impl At {
    /// Finds the moment, and makes sure that the directory has come as far.
    pub(super) fn find(moment: Moment, store: &Store, globals: &Globals) -> Result<Self, CliError> {
        let sequence = sequence_of(moment, store, globals)?;
        // At an unfinished command the state is what it was before it.
        store.project(&Directory).map_err(KeyError::from)?;
        Ok(Self { sequence, time: store.stored_at(sequence).map_err(KeyError::from)? })
    }

    /// Says on stderr that this is not how things are.
    pub(super) fn say(&self, globals: &Globals) {
        let stored = self.time.map(|time| format!(", stored {time}")).unwrap_or_default();
        globals
            .output()
            .say(&format!("as of sequence {}{stored}: what is pending here is left out", self.sequence));
    }

    /// The account of this name or public key then.
    pub(super) fn account(&self, store: &Store, text: &str) -> Result<Account, CliError> {
        let found = match resolve::parsed(text)? {
            Some(key) => store
                .entity_at(EntityId::Account(key), self.sequence)
                .map_err(KeyError::from)?
                .into_iter()
                .collect(),
            None => store.named_at(text, self.sequence).map_err(KeyError::from)?,
        };
        let account = found.into_iter().find_map(|version| match version.entity {
            Entity::Account(account) => Some(account),
            _ => None,
        });
        account.ok_or_else(|| {
            CliError::new(
                Exit::NotFound,
                "unknown-account",
                format!("there was no account {text:?} at sequence {}", self.sequence),
            )
            .hint(format!("`cim-keys list accounts --at {}` shows what there was", self.sequence))
        })
    }

    /// Whatever had this name, label or public key then.
    pub(super) fn called(&self, store: &Store, text: &str) -> Result<Vec<Version>, CliError> {
        let found = match resolve::parsed(text)? {
            Some(key) => store.keyed_at(key, self.sequence),
            None => store.named_at(text, self.sequence),
        };
        Ok(found.map_err(KeyError::from)?)
    }

    /// All entities of a kind, or those of an owner, by name.
    pub(super) fn listed(
        &self,
        store: &Store,
        kind: &str,
        owner: Option<PublicKey>,
    ) -> Result<Vec<Listed>, CliError> {
        let operator = resolve::operator(store)?;
        let range: Range = match (kind, owner) {
            ("user", Some(account)) => Directory::users_of(account),
            _ => Directory::of_kind(kind),
        };
        let mut found = Vec::new();
        let take = |version: Version| {
            if owner.is_none() || version.entity.parent(operator) == owner {
                found.push(Listed { entity: version.entity, pending: None });
            }
            true
        };
        store.each_at(&range, self.sequence, take).map_err(KeyError::from)?;
        found.sort_by(|a, b| {
            a.entity.name().cmp(b.entity.name()).then_with(|| a.entity.id().cmp(&b.entity.id()))
        });
        Ok(found)
    }

    /// The same moment as hosts count.
    pub(super) fn clock(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.time?.nanos() / 1_000_000).ok()
    }
}

/// The last sequence that is in, somewhere between the first and `head`.
pub(super) fn sequence_of(moment: Moment, store: &Store, globals: &Globals) -> Result<u64, CliError> {
    let head = store.progress().map_err(KeyError::from)?.head;
    let again = globals.again();
    if head == 0 {
        return Err(CliError::new(
            Exit::NotFound,
            "nothing-published",
            "nothing of this registry is on a stream yet",
        )
        .hint(format!(
            "`cim-keys{again} sync` publishes what is pending; `--at` shows what the stream has"
        )));
    }
    match moment {
        Moment::Sequence(0) => Err(before_first("sequences begin at 1")),
        Moment::Sequence(sequence) if sequence > head => Err(CliError::new(
            Exit::NotFound,
            "beyond-head",
            format!("sequence {sequence} was not read here yet: the last one is {head}"),
        )
        .hint(format!("`cim-keys{again} sync` reads what the stream has"))),
        Moment::Sequence(sequence) => Ok(sequence),
        Moment::Time(time) if time > ServerTime::from(Ambient::system().now()) => {
            Err(CliError::new(Exit::Validation, "beyond-now", format!("{time} is still to come"))
                .hint("leave --at out for what is now"))
        }
        Moment::Time(time) => {
            let found = by_time(time, head, store, globals)?;
            if found == 0 {
                return Err(before_first(&format!("the first message was stored after {time}")));
            }
            if found == head && !globals.output().is_json() {
                globals.output().say(&format!(
                    "nothing that was stored later than sequence {head} was read here: `cim-keys{again} sync` reads what the stream has"
                ));
            }
            Ok(found)
        }
    }
}

/// The first or last sequence of what was stored since or until a moment, wherever that lies.
pub(super) fn bound(moment: Moment, first: bool, store: &Store, globals: &Globals) -> Result<u64, CliError> {
    let time = match moment {
        Moment::Sequence(sequence) => return Ok(sequence),
        Moment::Time(time) => time,
    };
    let head = store.progress().map_err(KeyError::from)?.head;
    if time > ServerTime::from(Ambient::system().now()) {
        return Ok(if first { head.saturating_add(1) } else { u64::MAX });
    }
    if !first {
        return by_time(time, head, store, globals);
    }
    // Behind everything that was stored before.
    let before = ServerTime::from_nanos(time.nanos().saturating_sub(1)).unwrap_or(time);
    Ok(by_time(before, head, store, globals)?.saturating_add(1))
}

fn before_first(why: &str) -> CliError {
    CliError::new(Exit::NotFound, "before-first", why.to_owned())
        .hint("`cim-keys log --after 0 -n 1` shows the first message")
}

/// The last sequence stored by a time.
fn by_time(time: ServerTime, head: u64, store: &Store, globals: &Globals) -> Result<u64, CliError> {
    let around = || -> Result<(u64, u64), CliError> {
        let around = store.around(time).map_err(KeyError::from)?;
        Ok((around.by, around.later.unwrap_or(head.saturating_add(1))))
    };
    let (by, later) = around()?;
    if by + 1 >= later {
        return Ok(by);
    }
    #[cfg(feature = "nats")]
    if let Some(found) = super::stream_times::find(time, (by, later), store, globals)? {
        return Ok(found);
    }
    let again = globals.again();
    Err(times_unknown(by + 1, later - 1)
        .hint(format!("or name a sequence: `cim-keys{again} log` shows them")))
}

/// When messages were stored is not known here.
pub(super) fn times_unknown(first: u64, last: u64) -> CliError {
    let what = if first == last {
        format!("message {first} was")
    } else {
        format!("messages {first} to {last} were")
    };
    CliError::new(
        Exit::NotFound,
        "times-unknown",
        format!(
            "when the {what} stored is not known here: this host appended what is there itself, and no server is named that could tell"
        ),
    )
    .hint("name the server, by NATS_URL (and NATS_CREDS) or a natscli context in NATS_CONTEXT: then it is asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_sequences_or_times() {
        assert_eq!("42".parse(), Ok(Moment::Sequence(42)));
        let time = "2026-11-25T14:00:00Z".parse::<ServerTime>().unwrap();
        assert_eq!("2026-11-25T15:00:00+01:00".parse(), Ok(Moment::Time(time)));
        for wrong in ["", "-1", "yesterday", "2026-11-25"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
