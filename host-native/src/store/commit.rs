//! Writes commands: each with its events, the entities they leave, and its sealed secrets, in one transaction.

use super::error::RowError;
use super::secrets::{HandOut, put_hand_out, put_key};
use super::{Store, StoreError, facts, rows};
use crate::crash::Step;
use crate::vault::{Escrow, SealedKey};
use cim_keys_core::bundle::VerifiedCommand;
use cim_keys_core::command::Command;
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::event::{Event, Fact};
use cim_keys_core::journal::{Progress, State};
use cim_keys_core::registry::Entity;
use cim_keys_core::rules::Reason;
use rusqlite::{OptionalExtension as _, Transaction};
use uuid::Uuid;

/// At which of its states a store was read: moves with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(i64);

impl Revision {
    pub(super) fn read(transaction: &Transaction<'_>) -> Result<Self, RowError> {
        let mut statement = transaction.prepare_cached("SELECT changes FROM state")?;
        Ok(Self(statement.query_row([], |row| row.get(0))?))
    }
}

/// A decided command with everything that must be kept with it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What was wanted.
    pub command: &'a Command,
    /// The facts supplied with it.
    pub context: &'a Context,
    /// Digest of the registry facts it was decided on.
    pub facts_hash: Digest,
    /// Its events.
    pub decision: &'a Decision,
    /// The entities that it changed, as it leaves them.
    pub entities: Vec<Entity>,
    /// Seeds to keep.
    pub keys: Vec<SealedKey>,
    /// Seed of the creds that are to be written.
    pub hand_out: Option<HandOut>,
}

/// A held command that stands again, with what it leaves.
#[derive(Debug)]
pub struct Standing<'a> {
    /// As the journal has it.
    pub held: &'a Promised,
    /// The same, verified.
    pub command: &'a VerifiedCommand<'a>,
    /// Digest of the registry facts it stands on.
    pub facts_hash: Digest,
    /// The entities that it changed, as it leaves them.
    pub entities: Vec<Entity>,
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Written, on the disk.
    At {
        /// Place in the journal.
        position: u64,
    },
    /// The facts it was decided on are no longer these: nothing was written; decide again.
    Stale,
}

/// A command that the journal has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Place in the journal.
    pub position: u64,
    /// Where it stands.
    pub state: State,
    /// What was wanted.
    pub command: Command,
    /// The facts supplied with its newest attempt.
    pub context: Context,
    /// Digest of its newest draft.
    pub draft_hash: Digest,
    /// Unix seconds that the first attempt at a revocation named.
    pub revoked_at: Option<i64>,
    /// Sequence of its first event on the stream, once confirmed.
    pub first: Option<u64>,
    /// Why it is held.
    pub reason: Option<Reason>,
    /// Its messages.
    pub envelopes: Vec<Envelope>,
    /// Whether it came in a bundle: only whoever minted a command decides it anew under its id.
    pub imported: bool,
    /// Whether an attempt at it left this store before it was held: was sent, or exported.
    pub sent: bool,
    /// Whether creds or a token of an attempt at it were given to somebody.
    pub handed_out: bool,
}

impl Store {
    /// Writes the founding of a registry into a store that has none.
    ///
    /// # Errors
    /// See [`StoreError`]. [`Committed::Stale`] says that a registry was founded meanwhile.
    pub fn found(
        &self,
        registry: &RegistryId,
        escrow: &[Escrow],
        entry: &Entry<'_>,
    ) -> Result<Committed, StoreError> {
        self.write(|transaction| {
            if !begin(transaction, registry)? {
                return Ok(Committed::Stale);
            }
            for recipient in escrow {
                transaction.execute(
                    "INSERT OR IGNORE INTO escrow (recipient) VALUES (?1)",
                    [recipient.to_string()],
                )?;
            }
            append(transaction, registry, entry, revoked_at(entry.decision))
                .map(|position| Committed::At { position })
        })
    }

    /// Makes an empty store that of a registry which exists elsewhere: all of it is still to be read. False where it has one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn adopt(&self, registry: &RegistryId) -> Result<bool, StoreError> {
        self.write(|transaction| begin(transaction, registry))
    }

    /// Writes a decided command at the end of the journal, with its events, entities and secrets.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing was written then.
    pub fn commit(&self, revision: Revision, entry: &Entry<'_>) -> Result<Committed, StoreError> {
        let registry = self.registry_id()?;
        self.write(|transaction| {
            let known = facts::own(transaction, &[entry.context.command_id])?;
            if !known.is_empty() || !stands(transaction, registry, revision, entry)? {
                return Ok(Committed::Stale);
            }
            let position = append(transaction, registry, entry, revoked_at(entry.decision))?;
            self.may_be_sent(transaction, position)?;
            Ok(Committed::At { position })
        })
    }

    /// Writes a held command that was decided anew: it keeps its id and gets a new place at the end of the journal.
    ///
    /// # Errors
    /// See [`StoreError`]. [`Committed::Stale`] also where it is not held any more.
    pub fn replace(&self, revision: Revision, entry: &Entry<'_>) -> Result<Committed, StoreError> {
        let registry = self.registry_id()?;
        self.write(|transaction| {
            let Some(place) = Place::of(transaction, entry.context.command_id)? else {
                return Ok(Committed::Stale);
            };
            if !stands(transaction, registry, revision, entry)? {
                return Ok(Committed::Stale);
            }
            place.clear(transaction)?;
            let first_attempt = place.revoked_at.or_else(|| revoked_at(entry.decision));
            let position = append(transaction, registry, entry, first_attempt)?;
            place.hand_on(transaction, position)?;
            self.may_be_sent(transaction, position)?;
            Ok(Committed::At { position })
        })
    }

    /// Makes held commands pending again with the bytes that they have, at the end of the journal, in this order, all or
    /// none: as they were read, they stand again. False where the store is not as it was read: read it again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn revive(&self, revision: Revision, standing: &[Standing<'_>]) -> Result<bool, StoreError> {
        let registry = self.registry_id()?;
        self.write(|transaction| {
            if Revision::read(transaction)? != revision {
                return Ok(false);
            }
            for Standing { held, command, facts_hash, entities } in standing {
                let Some(place) = Place::of(transaction, held.context.command_id)? else {
                    return Ok(false);
                };
                place.clear(transaction)?;
                let line = Line {
                    revoked_at: place.revoked_at,
                    imported: held.imported,
                    ..Line::bundled(command, *facts_hash)
                };
                let position = insert(transaction, registry, &line, entities)?;
                place.hand_on(transaction, position)?;
                self.may_be_sent(transaction, position)?;
            }
            moved(transaction)?;
            Ok(true)
        })
    }

    /// Notes that a held revocation is in force by another command. False where it is not held any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn settle(&self, command_id: Uuid) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let changed = transaction.execute(
                "UPDATE journal SET state = 'settled' WHERE command_id = ?1 AND state = 'held'",
                [command_id.as_bytes().as_slice()],
            )?;
            if changed > 0 {
                moved(transaction)?;
            }
            Ok(changed > 0)
        })
    }

    /// The command of this id, where it is one of ours.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn promised(&self, command_id: Uuid) -> Result<Option<Promised>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT position, state, command, context, draft_hash, revoked_at, first, reason, imported, sent, handed_out
                 FROM journal WHERE command_id = ?1",
            )?;
            let mut found = statement.query([command_id.as_bytes().as_slice()])?;
            let Some(row) = found.next()? else { return Ok(None) };
            let position = row.get(0)?;
            Ok(Some(Promised {
                position,
                state: facts::state(&rows::text(row, 1)?)?,
                command: rows::json(&rows::text(row, 2)?)?,
                context: rows::json(&rows::text(row, 3)?)?,
                draft_hash: rows::parse(&rows::text(row, 4)?)?,
                revoked_at: row.get(5)?,
                first: row.get(6)?,
                reason: row.get::<_, Option<String>>(7)?.map(|reason| rows::json(&reason)).transpose()?,
                envelopes: envelopes(transaction, position)?,
                imported: row.get(8)?,
                sent: row.get(9)?,
                handed_out: row.get(10)?,
            }))
        })
    }
}

/// Whether what was decided on is still so. Equal facts stand, whatever else was written meanwhile.
pub(super) fn stands(
    transaction: &Transaction<'_>,
    registry: &RegistryId,
    revision: Revision,
    entry: &Entry<'_>,
) -> Result<bool, RowError> {
    if Revision::read(transaction)? == revision {
        return Ok(true);
    }
    let scope = entry.command.scope(entry.context, registry);
    let facts = facts::facts(transaction, registry, &scope, true)?;
    let id = entry.context.command_id;
    let new =
        matches!(facts.command(id), Ok(None)) && facts.is_void(id, entry.context.authority) == Ok(false);
    Ok(new && facts.hash() == entry.facts_hash)
}

pub(super) fn append(
    transaction: &Transaction<'_>,
    registry: &RegistryId,
    entry: &Entry<'_>,
    revoked_at: Option<i64>,
) -> Result<u64, RowError> {
    let line = Line {
        command: entry.command,
        context: entry.context,
        facts_hash: entry.facts_hash,
        draft_hash: entry.decision.draft_hash,
        command_hash: command_hash(&entry.decision.events).unwrap_or_else(|| entry.command.hash()),
        envelopes: &entry.decision.envelopes,
        messages_hash: Some(entry.decision.messages_hash),
        revoked_at,
        imported: false,
    };
    let position = insert(transaction, registry, &line, &entry.entities)?;
    for key in &entry.keys {
        put_key(transaction, key, Some(entry.context.command_id))?;
    }
    if let Some(hand_out) = &entry.hand_out {
        put_hand_out(transaction, hand_out)?;
    }
    moved(transaction)?;
    crate::crash::reach(Step::CommandWritten);
    Ok(position)
}

/// Where a held command is in the journal, with what stays true of it whatever becomes of it there.
struct Place {
    position: i64,
    revoked_at: Option<i64>,
    /// What an earlier attempt left behind is out there still.
    sent: bool,
    handed_out: bool,
}

impl Place {
    fn of(transaction: &Transaction<'_>, command_id: Uuid) -> Result<Option<Self>, RowError> {
        let query = "SELECT position, revoked_at, sent, handed_out FROM journal
             WHERE command_id = ?1 AND state = 'held'";
        let look = |row: &rusqlite::Row<'_>| {
            Ok(Self {
                position: row.get(0)?,
                revoked_at: row.get(1)?,
                sent: row.get(2)?,
                handed_out: row.get(3)?,
            })
        };
        Ok(transaction.query_row(query, [command_id.as_bytes().as_slice()], look).optional()?)
    }

    fn clear(&self, transaction: &Transaction<'_>) -> Result<(), RowError> {
        transaction.execute("DELETE FROM journal WHERE position = ?1", [self.position])?;
        transaction.execute(
            "DELETE FROM envelopes WHERE id >= ?1 * 1024 AND id < (?1 + 1) * 1024",
            [self.position],
        )?;
        Ok(())
    }

    fn hand_on(&self, transaction: &Transaction<'_>, to: u64) -> Result<(), RowError> {
        transaction.execute(
            "UPDATE journal SET sent = ?2, handed_out = ?3 WHERE position = ?1",
            (to, self.sent, self.handed_out),
        )?;
        Ok(())
    }
}

/// A command as the journal has it.
pub(super) struct Line<'a> {
    pub(super) command: &'a Command,
    pub(super) context: &'a Context,
    pub(super) facts_hash: Digest,
    pub(super) draft_hash: Digest,
    pub(super) command_hash: Digest,
    pub(super) envelopes: &'a [Envelope],
    pub(super) messages_hash: Option<Digest>,
    pub(super) revoked_at: Option<i64>,
    pub(super) imported: bool,
}

impl<'a> Line<'a> {
    /// One whose messages come as they are: they are verified before they are sent.
    pub(super) fn bundled(command: &'a VerifiedCommand<'_>, facts_hash: Digest) -> Self {
        let bundled = command.bundled();
        Self {
            command: &bundled.command,
            context: &bundled.context,
            facts_hash,
            draft_hash: bundled.draft_hash,
            command_hash: command_hash(command.events()).unwrap_or_else(|| bundled.command.hash()),
            envelopes: &bundled.envelopes,
            messages_hash: None,
            revoked_at: named_by(command.events()),
            imported: true,
        }
    }
}

/// Writes a command at the end of the journal, and over the state at `head` the entities as it leaves them.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    registry: &RegistryId,
    line: &Line<'_>,
    entities: &[Entity],
) -> Result<u64, RowError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO journal (command_id, state, command, context, facts_hash, draft_hash, command_hash, authority, revoked_at, messages_hash, imported, attempt, count)
         VALUES (?1, 'pending', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(rusqlite::params![
        line.context.command_id.as_bytes().as_slice(),
        rows::to_json(line.command)?,
        rows::to_json(line.context)?,
        line.facts_hash.to_string(),
        line.draft_hash.to_string(),
        line.command_hash.to_string(),
        line.context.authority.to_string(),
        line.revoked_at,
        line.messages_hash.map(|hash| hash.to_string()),
        line.imported,
        line.context.attempt,
        line.envelopes.len(),
    ])?;
    let position = u64::try_from(transaction.last_insert_rowid())
        .map_err(|_| RowError::Damaged("the journal's order"))?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO envelopes (id, subject, headers, payload) VALUES (?1 * 1024 + ?2, ?3, ?4, ?5)",
    )?;
    for (place, envelope) in (0i64..).zip(line.envelopes) {
        let headers = rows::to_json(&envelope.headers)?;
        statement.execute(rusqlite::params![
            position,
            place,
            envelope.subject.as_str(),
            headers,
            envelope.payload
        ])?;
    }
    for entity in entities {
        rows::put_overlay(transaction, position, entity, registry.operator)?;
    }
    Ok(position)
}

/// Makes an empty store this registry's. False where it has one already.
pub(super) fn begin(transaction: &Transaction<'_>, registry: &RegistryId) -> Result<bool, RowError> {
    let founded = transaction.query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0))?;
    if founded > 0 {
        return Ok(false);
    }
    let progress = rows::to_json(&Progress::default())?;
    transaction.execute(
        "INSERT INTO state (one, operator, namespace, head, progress, settled, revision, changes) VALUES (1, ?1, ?2, 0, ?3, 0, 0, 0)",
        (registry.operator.to_string(), registry.namespace.to_string(), progress),
    )?;
    Ok(true)
}

/// Notes that the journal is another one than it was.
pub(super) fn moved(transaction: &Transaction<'_>) -> Result<(), RowError> {
    transaction
        .prepare_cached("UPDATE state SET revision = revision + 1, changes = changes + 1")?
        .execute([])?;
    Ok(())
}

pub(super) fn envelopes(transaction: &Transaction<'_>, position: u64) -> Result<Vec<Envelope>, RowError> {
    let mut statement = transaction.prepare_cached(
        "SELECT subject, headers, payload FROM envelopes WHERE id >= ?1 * 1024 AND id < (?1 + 1) * 1024 ORDER BY id",
    )?;
    let mut found = statement.query([position])?;
    let mut envelopes = Vec::new();
    while let Some(row) = found.next()? {
        envelopes.push(Envelope {
            subject: rows::parse(&rows::text(row, 0)?)?,
            headers: rows::json(&rows::text(row, 1)?)?,
            payload: row.get(2)?,
        });
    }
    Ok(envelopes)
}

/// The time that a revocation names.
pub(super) fn revoked_at(decision: &Decision) -> Option<i64> {
    named_by(&decision.events)
}

/// Digest of the command as its events say it, and so as every reader records it.
pub(super) fn command_hash(events: &[Event]) -> Option<Digest> {
    events.first().map(|event| event.command.hash)
}

/// See [`revoked_at`].
pub(super) fn named_by(events: &[Event]) -> Option<i64> {
    events.iter().find_map(|event| match event.fact {
        Fact::UserRevoked { revoked_at, .. } | Fact::KeyRevoked { revoked_at } => Some(revoked_at),
        _ => None,
    })
}
