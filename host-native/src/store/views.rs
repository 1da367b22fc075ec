//! What people look at: entities with their marks, the trail, what is held, what was pushed.

use super::error::RowError;
use super::{Store, StoreError, facts, rows};
use cim_keys_core::admission::Anomaly;
use cim_keys_core::command::Command;
use cim_keys_core::context::Context;
use cim_keys_core::headers::Headers;
use cim_keys_core::journal::State;
use cim_keys_core::jwt::TokenId;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::rules::Reason;
use cim_keys_core::time::Timestamp;
use rusqlite::{OptionalExtension as _, Params, Transaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An entity with its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As pending commands leave it.
    pub entity: Entity,
    /// Place in the journal of the pending command that changed it last; none where it is as the stream says.
    pub pending: Option<u64>,
}

/// How much a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Commands to be appended.
    pub pending: u64,
    /// Commands held.
    pub held: u64,
    /// Accounts, pending ones included.
    pub accounts: u64,
    /// Users, revoked and pending ones included.
    pub users: u64,
    /// Signing, curve and free keys, revoked and pending ones included.
    pub keys: u64,
    /// Messages that change nothing.
    pub anomalies: u64,
    /// Creds that are not written yet.
    pub hand_outs: u64,
    /// Sealed seeds that are kept.
    pub kept_keys: u64,
}

/// A command that cannot be appended as it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub command_id: Uuid,
    /// What was wanted.
    pub command: Command,
    /// With which facts.
    pub context: Context,
    /// Why it is held.
    pub reason: Reason,
    /// Whether it came in a bundle.
    pub imported: bool,
    /// Whether an attempt at it left this store: was sent, or exported.
    pub sent: bool,
    /// Whether creds or a token of an attempt at it were given to somebody.
    pub handed_out: bool,
}

/// A message on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailEntry {
    /// Stream sequence.
    pub sequence: u64,
    /// Subject.
    pub subject: String,
    /// Headers.
    pub headers: Headers,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A message that is not on the stream yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEvent {
    /// The command's place in the journal.
    pub position: u64,
    /// The command.
    pub command_id: Uuid,
    /// Pending or held.
    pub state: State,
    /// Subject.
    pub subject: String,
    /// Headers.
    pub headers: Headers,
    /// Payload.
    pub payload: Vec<u8>,
}

/// What is known of an account's token on the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Identity key of the account.
    pub account: PublicKey,
    /// The token that is being pushed, or was.
    pub token: TokenId,
    /// When it began or ended.
    pub at: Timestamp,
    /// Servers that gave it back; 0 while it is not known.
    pub servers: u32,
    /// Whether it was read back from every server: false from the moment it begins.
    pub done: bool,
}

const LISTED: &str = "SELECT body, CASE WHEN position > (SELECT settled FROM state) THEN position END
     FROM entities WHERE newest = 1 AND";

impl Store {
    /// All accounts, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn accounts(&self) -> Result<Vec<Listed>, StoreError> {
        self.listed("kind = 'account'", [])
    }

    /// The operator.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn operators(&self) -> Result<Vec<Listed>, StoreError> {
        self.listed("kind = 'operator'", [])
    }

    /// Users of an account, or of all, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn users(&self, account: Option<PublicKey>) -> Result<Vec<Listed>, StoreError> {
        match account {
            Some(account) => self.listed("kind = 'user' AND parent = ?1", [account.to_string()]),
            None => self.listed("kind = 'user'", []),
        }
    }

    /// Users behind this one, of an account or of all, by their ids as text, at most `limit`: however many there are, no more
    /// are in memory.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn users_after(
        &self,
        account: Option<PublicKey>,
        after: Option<EntityId>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        // Ids of users are `user:A…/U…`: those of one account, or of all, stand between two texts.
        let (begin, end) = match account {
            Some(account) => (format!("user:{account}/"), format!("user:{account}0")),
            None => ("user:".to_owned(), "user;".to_owned()),
        };
        let begin = after.map_or(begin, |after| after.to_string());
        let condition = format!("id > ?1 AND id < ?2 ORDER BY id LIMIT {limit}");
        let mut users = self.listed(&condition, [begin, end])?;
        // As text, in which order they were asked for: keys as such have another one.
        users.sort_by_cached_key(|listed| listed.entity.id().to_string());
        Ok(users)
    }

    /// Signing, curve and free keys of an owner, or of all.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn keys(&self, owner: Option<PublicKey>) -> Result<Vec<Listed>, StoreError> {
        match owner {
            Some(owner) => self.listed("kind = 'key' AND parent = ?1", [owner.to_string()]),
            None => self.listed("kind = 'key'", []),
        }
    }

    /// Whatever has this public key: a user's key may be known in several accounts.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn by_key(&self, key: PublicKey) -> Result<Vec<Listed>, StoreError> {
        self.listed("key = ?1", [key.to_string()])
    }

    /// Whatever has this name or label, exactly.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn by_name(&self, name: &str) -> Result<Vec<Listed>, StoreError> {
        self.listed("name = ?1", [name])
    }

    fn listed(&self, condition: &str, params: impl Params) -> Result<Vec<Listed>, StoreError> {
        self.read(|transaction| {
            let mut list = Vec::new();
            let mut statement = transaction.prepare_cached(&format!("{LISTED} {condition}"))?;
            let mut found = statement.query(params)?;
            while let Some(row) = found.next()? {
                list.push(Listed { entity: rows::json(&rows::text(row, 0)?)?, pending: row.get(1)? });
            }
            list.sort_by(|a, b| {
                a.entity.name().cmp(b.entity.name()).then_with(|| a.entity.id().cmp(&b.entity.id()))
            });
            Ok(list)
        })
    }

    /// Entities at `head` behind this id, by id, at most `limit`: with each what stands in its row, none where that cannot
    /// be read. The overlay is left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn at_head(&self, after: &str, limit: u32) -> Result<Vec<(String, Option<Entity>)>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT id, body FROM entities AS e
                 WHERE id > ?1 AND position <= (SELECT settled FROM state)
                 AND NOT EXISTS (SELECT 1 FROM entities AS l WHERE l.id = e.id AND l.position > e.position
                                 AND l.position <= (SELECT settled FROM state))
                 ORDER BY id LIMIT ?2",
            )?;
            let mut found = statement.query((after, limit))?;
            let mut list = Vec::new();
            while let Some(row) = found.next()? {
                let body = rows::text(row, 1).ok().and_then(|body| rows::json(&body).ok());
                list.push((rows::text(row, 0)?, body));
            }
            Ok(list)
        })
    }

    /// How much there is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|transaction| {
            let count = |query: &str| transaction.query_row(query, [], |row| row.get::<_, u64>(0));
            let entities = |kind: &str| {
                let query = "SELECT count(*) FROM entities WHERE kind = ?1 AND newest = 1";
                transaction.query_row(query, [kind], |row| row.get::<_, u64>(0))
            };
            Ok(Counts {
                pending: count("SELECT count(*) FROM journal WHERE state = 'pending'")?,
                held: count("SELECT count(*) FROM journal WHERE state = 'held'")?,
                accounts: entities("account")?,
                users: entities("user")?,
                keys: entities("key")?,
                anomalies: count("SELECT count(*) FROM anomalies")?,
                hand_outs: count("SELECT count(*) FROM hand_outs")?,
                kept_keys: count("SELECT count(*) FROM keys")?,
            })
        })
    }

    /// Commands held, in journal order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn held(&self) -> Result<Vec<Held>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT command_id, command, context, reason, imported, sent, handed_out FROM journal WHERE state = 'held' ORDER BY position",
            )?;
            let mut found = statement.query([])?;
            let mut list = Vec::new();
            while let Some(row) = found.next()? {
                list.push(Held {
                    command_id: rows::uuid(row, 0)?,
                    command: rows::json(&rows::text(row, 1)?)?,
                    context: rows::json(&rows::text(row, 2)?)?,
                    reason: rows::json(&rows::text(row, 3)?)?,
                    imported: row.get(4)?,
                    sent: row.get(5)?,
                    handed_out: row.get(6)?,
                });
            }
            Ok(list)
        })
    }

    /// When the oldest pending command was decided.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn oldest_pending(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|transaction| {
            let query = "SELECT context FROM journal WHERE state = 'pending' ORDER BY position LIMIT 1";
            let context = transaction.query_row(query, [], |row| rows::text(row, 0)).optional()?;
            context.map(|context| rows::json::<Context>(&context).map(|context| context.now)).transpose()
        })
    }

    /// Messages on the stream behind this sequence, as far as this host has read or written them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn trail(&self, after: u64, limit: u32) -> Result<Vec<TrailEntry>, StoreError> {
        self.trail_between(after, u64::MAX, limit)
    }

    /// The same up to a sequence: what lies behind that is not looked at.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn trail_between(&self, after: u64, until: u64, limit: u32) -> Result<Vec<TrailEntry>, StoreError> {
        self.read(|transaction| trail(transaction, (after, until), limit, usize::MAX))
    }

    /// Events of pending and held commands, in journal order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn pending_events(&self, limit: u32) -> Result<Vec<PendingEvent>, StoreError> {
        let mut list = Vec::new();
        if limit > 0 {
            self.each_pending(|event| {
                list.push(event);
                list.len() < limit as usize
            })?;
        }
        Ok(list)
    }

    /// The same one after another, as long as `take` says true.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn each_pending(&self, mut take: impl FnMut(PendingEvent) -> bool) -> Result<(), StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT j.position, j.command_id, j.state, e.subject, e.headers, e.payload
                 FROM journal AS j
                 CROSS JOIN envelopes AS e ON e.id >= j.position * 1024 AND e.id < (j.position + 1) * 1024
                 WHERE j.state IN ('pending', 'held') ORDER BY j.position, e.id",
            )?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                let event = PendingEvent {
                    position: row.get(0)?,
                    command_id: rows::uuid(row, 1)?,
                    state: facts::state(&rows::text(row, 2)?)?,
                    subject: row.get(3)?,
                    headers: rows::json(&rows::text(row, 4)?)?,
                    payload: row.get(5)?,
                };
                if !take(event) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Messages that change nothing, by sequence.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn anomalies(&self) -> Result<Vec<Anomaly>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT body FROM anomalies ORDER BY first")?;
            let mut found = statement.query([])?;
            let mut list = Vec::new();
            while let Some(row) = found.next()? {
                list.push(rows::json(&rows::text(row, 0)?)?);
            }
            Ok(list)
        })
    }

    /// Those of them that have to do with what lies behind a sequence, up to another one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn anomalies_between(&self, after: u64, until: u64) -> Result<Vec<Anomaly>, StoreError> {
        self.read(|transaction| anomalies(transaction, after, until))
    }

    /// What is known of an account's token on the servers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn pushed(&self, account: PublicKey) -> Result<Option<Pushed>, StoreError> {
        self.read(|transaction| pushed(transaction, account))
    }

    /// Notes what is known of it: before a push begins, and when it was read back.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_pushed(&self, pushed: &Pushed) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO pushed (account, body) VALUES (?1, ?2)")?;
            statement.execute((pushed.account.to_string(), rows::to_json(pushed)?))?;
            Ok(())
        })
    }
}

fn pushed(transaction: &Transaction<'_>, account: PublicKey) -> Result<Option<Pushed>, RowError> {
    let mut statement = transaction.prepare_cached("SELECT body FROM pushed WHERE account = ?1")?;
    let body = statement.query_row([account.to_string()], |row| rows::text(row, 0)).optional()?;
    body.map(|body| rows::json(&body)).transpose()
}

/// Messages on the stream behind a sequence, up to another one; no more once their payloads have so many bytes.
pub(super) fn trail(
    transaction: &Transaction<'_>,
    (after, until): (u64, u64),
    limit: u32,
    bytes: usize,
) -> Result<Vec<TrailEntry>, RowError> {
    let mut statement = transaction.prepare_cached(
        "SELECT sequence, subject, headers, payload FROM (
             SELECT sequence, subject, headers, payload FROM messages
             WHERE sequence > ?1 AND sequence <= ?3
             UNION ALL
             SELECT j.first + e.id % 1024, e.subject, e.headers, e.payload
             FROM journal AS j
             CROSS JOIN envelopes AS e ON e.id >= j.position * 1024 AND e.id < (j.position + 1) * 1024
             WHERE j.first > ?1 - 1000 AND j.first <= ?3
             AND j.first + e.id % 1024 > ?1 AND j.first + e.id % 1024 <= ?3
             AND NOT EXISTS (SELECT 1 FROM messages AS m WHERE m.sequence = j.first + e.id % 1024)
         ) ORDER BY sequence LIMIT ?2",
    )?;
    let sequence = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut found = statement.query([sequence(after), i64::from(limit), sequence(until)])?;
    let (mut list, mut size) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let payload: Vec<u8> = row.get(3)?;
        size += payload.len();
        list.push(TrailEntry {
            sequence: row.get(0)?,
            subject: row.get(1)?,
            headers: rows::json(&rows::text(row, 2)?)?,
            payload,
        });
        if size >= bytes {
            break;
        }
    }
    Ok(list)
}

/// Messages of a command at most, and so of an anomaly.
const LONGEST: u64 = 1000;

/// Anomalies that may have messages behind a sequence, up to another one.
pub(super) fn anomalies(
    transaction: &Transaction<'_>,
    after: u64,
    until: u64,
) -> Result<Vec<Anomaly>, RowError> {
    let mut statement = transaction
        .prepare_cached("SELECT body FROM anomalies WHERE first > ?1 AND first <= ?2 ORDER BY first")?;
    let mut found = statement.query([after.saturating_sub(LONGEST), until])?;
    let mut list = Vec::new();
    while let Some(row) = found.next()? {
        list.push(rows::json(&rows::text(row, 0)?)?);
    }
    Ok(list)
}
