//! A stream of mixed events, as many as are wanted, made without keys: for what folds events that were admitted. Nothing of it
//! would be admitted, for nobody signed it.

use crate::simulator::Rng;
use cim_keys::store::Store;
use cim_keys_core::admission::{Anomaly, StoredMessage};
use cim_keys_core::context::{Actor, RegistryId, event_id};
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope;
use cim_keys_core::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact, IssuedToken};
use cim_keys_core::journal::{Progress, StreamIdentity};
use cim_keys_core::jwt::{self, Account, Body, Claims, Grant, Operator, PermissionList, User, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey, Signature};
use cim_keys_core::projection::{Memory, Projection, Range, Record};
use cim_keys_core::registry::{Entity, EntityId, evolve};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Overlay, Persist, Persisted};
use cim_keys_core::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// When it begins.
const BEGIN: i64 = 1_795_423_807_000;
/// Messages that are written at a time.
const PORTION: u64 = 1000;

/// What happens how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// A bit of everything, messages that change nothing among it.
    Everything,
    /// Users of one account, created one after another.
    Users,
}

/// The stream as it grows.
pub struct Mixed {
    registry: RegistryId,
    variety: Variety,
    rng: Rng,
    keys: u64,
    commands: u64,
    accounts: Vec<PublicKey>,
    users: Vec<(PublicKey, PublicKey)>,
    named: u64,
    head: u64,
    /// Of each entity every state and since when, where that is wanted.
    states: Option<BTreeMap<EntityId, Vec<(u64, Entity)>>>,
    newest: BTreeMap<EntityId, Entity>,
}

/// A part of the stream.
#[derive(Default)]
pub struct Part {
    /// Its messages.
    pub messages: Vec<StoredMessage>,
    /// Those of them that change nothing.
    pub anomalies: Vec<Anomaly>,
    /// The others, read.
    pub records: Vec<Record>,
}

impl Mixed {
    /// An empty one, from a seed.
    pub fn new(seed: u64, variety: Variety) -> Mixed {
        let operator = PublicKey::new(Kind::Operator, *Digest::of(b"operator").as_bytes());
        let registry = RegistryId { operator, namespace: Namespace::default() };
        Mixed {
            registry,
            variety,
            rng: Rng::new(seed, "mixed events"),
            keys: 0,
            commands: 0,
            accounts: Vec::new(),
            users: Vec::new(),
            named: 0,
            head: 0,
            states: None,
            newest: BTreeMap::new(),
        }
    }

    /// Remembers every state of every entity.
    #[must_use]
    pub fn remembering(mut self) -> Mixed {
        self.states = Some(BTreeMap::new());
        self
    }

    /// A store for it, with nothing in it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn store(&self, path: &Path) -> Store {
        let store = Store::create(path).expect("a store");
        assert!(store.adopt(&self.registry).expect("a store that works"), "it is new");
        store
    }

    /// The last sequence.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The users that there are, their accounts first.
    pub fn users(&self) -> &[(PublicKey, PublicKey)] {
        &self.users
    }

    /// A random number up to a limit.
    pub fn draw(&mut self, limit: u64) -> u64 {
        self.rng.between(0, limit)
    }

    /// How an entity stood at a sequence.
    ///
    /// # Panics
    /// When nobody wanted that to be remembered.
    pub fn at(&self, id: EntityId, sequence: u64) -> Option<&Entity> {
        let states = self.states.as_ref().expect("states are remembered").get(&id)?;
        states.iter().rev().find(|(since, _)| *since <= sequence).map(|(_, entity)| entity)
    }

    /// Every entity that there is.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> {
        self.newest.keys().copied()
    }

    /// Goes on for at least so many messages, and writes them into a store as the sync machine does. `seen` hears each part.
    ///
    /// # Panics
    /// When the store refuses.
    pub fn grow(&mut self, store: &Store, messages: u64, mut seen: impl FnMut(&Part)) {
        let end = self.head + messages;
        while self.head < end {
            let (expect_head, mut part) = (self.head, Part::default());
            let mut changed = Vec::new();
            while self.head < end && self.head - expect_head < PORTION {
                changed.extend(self.more(&mut part));
            }
            seen(&part);
            let stream = StreamIdentity { name: KEYS_EVENTS.into(), created: "2026-11-23T08:50:07Z".into() };
            let entities = changed.into_iter().map(|id| self.newest[&id].clone()).collect();
            let persist = Persist {
                expect_head,
                expect_revision: None,
                progress: Progress { stream: Some(stream), head: self.head, ..Progress::default() },
                entities,
                messages: part.messages,
                anomalies: part.anomalies,
                overlay: Overlay::Keep,
                ..Persist::default()
            };
            assert_eq!(store.persist(&persist), Persisted::Ok);
        }
    }

    /// One more command, or a message that changes nothing. Gives the entities that are changed.
    fn more(&mut self, part: &mut Part) -> Vec<EntityId> {
        self.commands += 1;
        if self.variety == Variety::Everything && self.rng.between(0, 49) == 0 && self.head > 0 {
            self.head += 1;
            part.messages.push(StoredMessage {
                sequence: self.head,
                subject: "cowboyai.security.keys.user.created".into(),
                headers: Default::default(),
                payload: b"no event".to_vec(),
                time: None,
            });
            let reason = Reason { code: "event-json".into(), text: "no event".into() };
            part.anomalies.push(Anomaly { sequences: vec![self.head], reason });
            return Vec::new();
        }
        let said = self.said();
        self.command(said, part)
    }

    /// The events of the next command: about whom, what, and with which token.
    fn said(&mut self) -> Vec<(PublicKey, Fact, Option<Claims>)> {
        if self.accounts.is_empty() {
            let operator = self.registry.operator;
            let body = Body::Operator(Operator::default());
            let founding =
                (operator, Fact::OperatorCreated, Some(self.claims(operator, operator, "Mixed", body)));
            return [vec![founding], self.account()].concat();
        }
        let everything = self.variety == Variety::Everything;
        let choice = if everything { self.rng.between(0, 19) } else { 5 };
        let user = (!self.users.is_empty()).then(|| {
            self.users[usize::try_from(self.rng.between(0, self.users.len() as u64 - 1)).unwrap_or(0)]
        });
        match (choice, user) {
            (0, _) if self.accounts.len() < 50 => self.account(),
            (1 | 2, Some((account, user))) => {
                let fact = Fact::UserRevoked { account, revoked_at: BEGIN / 1000 + self.now() };
                vec![(user, fact, None), self.updated(account)]
            }
            (3, _) => {
                let key = self.key(Kind::Account);
                let account = self.some_account();
                let label = Some(format!("key {}", self.commands));
                vec![(key, Fact::KeyGenerated { owner: Some(account), label }, None), self.updated(account)]
            }
            (4, Some((account, user))) => {
                vec![(user, Fact::CredentialsIssued, Some(self.user(account, user, 0)))]
            }
            (6..=9, Some((account, user))) => {
                let expires = if self.rng.between(0, 1) == 0 { 1_900_000_000 } else { 0 };
                vec![(user, Fact::UserUpdated, Some(self.user(account, user, expires)))]
            }
            (10, _) => vec![(self.registry.operator, Fact::CommandVoided { command_id: self.id() }, None)],
            _ => {
                let (account, user) = (self.some_account(), self.key(Kind::User));
                self.users.push((account, user));
                let credentials = self.rng.between(0, 1) == 0;
                vec![(user, Fact::UserCreated { credentials }, Some(self.user(account, user, 0)))]
            }
        }
    }

    fn account(&mut self) -> Vec<(PublicKey, Fact, Option<Claims>)> {
        let account = self.key(Kind::Account);
        self.accounts.push(account);
        let body = Body::Account(Box::default());
        let claims = self.claims(account, self.registry.operator, &format!("A{}", self.accounts.len()), body);
        vec![(account, Fact::AccountCreated, Some(claims))]
    }

    fn updated(&mut self, account: PublicKey) -> (PublicKey, Fact, Option<Claims>) {
        let mut body = Account::default();
        body.limits.conn = i64::try_from(self.commands).unwrap_or(0);
        let body = Body::Account(Box::new(body));
        let place = self.accounts.iter().position(|other| *other == account).unwrap_or(0) + 1;
        let claims = self.claims(account, self.registry.operator, &format!("A{place}"), body);
        (account, Fact::AccountUpdated, Some(claims))
    }

    /// The name of a user is what it was when it is there.
    fn user(&mut self, account: PublicKey, user: PublicKey, expires: i64) -> Claims {
        let list = |subject: String| PermissionList { allow: vec![subject], ..PermissionList::default() };
        let rights = UserRights {
            publish: list(format!("plant.line.{}.temperature", self.commands)),
            subscribe: list(format!("plant.line.{}.orders.>", self.commands)),
            ..UserRights::default()
        };
        let grant = Grant::Own(Box::new(rights));
        let body = Body::User(User { issuer_account: Some(account), grant, ..User::default() });
        let known = self.newest.get(&EntityId::User { account, user }).map(|known| known.name().to_owned());
        let name = known.unwrap_or_else(|| {
            self.named += 1;
            name(self.named)
        });
        Claims { expires, ..self.claims(user, account, &name, body) }
    }

    fn claims(&self, subject: PublicKey, issuer: PublicKey, name: &str, body: Body) -> Claims {
        Claims {
            audience: String::new(),
            expires: 0,
            issued_at: BEGIN / 1000 + self.now(),
            issuer,
            name: name.into(),
            not_before: 0,
            subject,
            body,
            unknown: Default::default(),
        }
    }

    fn command(&mut self, said: Vec<(PublicKey, Fact, Option<Claims>)>, part: &mut Part) -> Vec<EntityId> {
        let (command_id, time) =
            (self.id(), Timestamp::from_millis(BEGIN + self.now() * 1000).expect("a time"));
        let count = u32::try_from(said.len()).expect("a small command");
        let last = self.head + u64::from(count);
        let actor: Actor = format!("actor-{}", self.commands % 7).parse().expect("an actor");
        let mut changed = Vec::new();
        for (index, (entity, fact, claims)) in (0..count).zip(said) {
            let token = claims.map(|claims| IssuedToken {
                jwt: jwt::encode(&claims).expect("a token"),
                replaces: None,
                signature: None,
            });
            let event = Event {
                schema: FOUNDING_SCHEMA,
                id: event_id(time, command_id, 1, index),
                time,
                correlation_id: Uuid::from_u128(
                    0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(self.commands / 3),
                ),
                causation_id: command_id,
                registry: self.registry.operator,
                entity,
                command: CommandRef {
                    id: command_id,
                    attempt: 1,
                    hash: Digest::of(b"mixed"),
                    actor: actor.clone(),
                    authority: self.registry.operator,
                    index,
                    count,
                },
                fact,
                token,
            };
            self.head += 1;
            let signature = Signature::from_bytes([7; 64]);
            let signatures = vec![signature; event.signature_count()];
            let message = StoredMessage {
                sequence: self.head,
                subject: envelope::subject_of(&event, &self.registry).as_str().to_owned(),
                headers: envelope::headers_of(&event).expect("headers"),
                payload: envelope::complete(&envelope::encode_draft(&event), &signatures),
                time: None,
            };
            let record = Record::open(message.sequence, &message.subject, &message.headers, &message.payload)
                .expect("an event");
            changed.extend(self.evolve(&record, last));
            part.messages.push(message);
            part.records.push(record);
        }
        changed
    }

    /// Folds an event without any projection.
    fn evolve(&mut self, record: &Record, last: u64) -> Option<EntityId> {
        let event = &record.event;
        let id = match (&event.fact, event.claims().and_then(|claims| claims.body.as_user())) {
            (Fact::CommandVoided { .. }, _) => return None,
            (Fact::UserRevoked { account, .. }, _) => {
                EntityId::User { account: *account, user: event.entity }
            }
            (Fact::KeyGenerated { .. } | Fact::KeyRevoked { .. }, _) => EntityId::Key(event.entity),
            (_, Some(user)) => EntityId::User { account: user.issuer_account?, user: event.entity },
            _ if event.entity == self.registry.operator => EntityId::Operator(event.entity),
            _ => EntityId::Account(event.entity),
        };
        let entity = evolve(self.newest.get(&id).cloned(), event)?;
        if let Some(states) = &mut self.states {
            let states = states.entry(id).or_default();
            // Of a command that changes it twice the last one counts.
            states.retain(|(since, _)| *since < last);
            states.push((last, entity.clone()));
        }
        self.newest.insert(id, entity);
        Some(id)
    }

    fn now(&self) -> i64 {
        i64::try_from(self.commands).unwrap_or(0)
    }

    fn id(&mut self) -> Uuid {
        self.keys += 1;
        Uuid::from_u128(0x0199_0000_0000_7000_9000_0000_0000_0000 + u128::from(self.keys))
    }

    fn key(&mut self, kind: Kind) -> PublicKey {
        self.keys += 1;
        PublicKey::new(kind, *Digest::of(&self.keys.to_be_bytes()).as_bytes())
    }

    fn some_account(&mut self) -> PublicKey {
        let place = self.rng.between(0, self.accounts.len() as u64 - 1);
        self.accounts[usize::try_from(place).unwrap_or(0)]
    }
}

/// What the user of this number is called, from 1.
pub fn name(number: u64) -> String {
    format!("sensor-{number:07}")
}

/// All rows of a projection as a store keeps them.
///
/// # Panics
/// When they cannot be read.
pub fn kept(store: &Store, projection: &dyn Projection) -> Vec<(String, String)> {
    let all = Range::beginning(&[""]);
    let rows = store.rows(projection, &all, cim_keys::store::Order::First, u32::MAX).expect("rows");
    rows.into_iter().map(|(key, value)| (key.as_str().to_owned(), value)).collect()
}

/// All rows of one in memory.
pub fn rows(memory: &Memory) -> Vec<(String, String)> {
    memory.all().map(|(key, value)| (key.as_str().to_owned(), value.to_owned())).collect()
}
