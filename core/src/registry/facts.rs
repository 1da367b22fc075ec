//! The part of a registry that one decision depends on.

use super::entity::{Entity, EntityId, entity_of, evolve};
use crate::context::RegistryId;
use crate::digest::Digest;
use crate::event::{Event, FOUNDING_SCHEMA, Fact};
use crate::json;
use crate::nkey::PublicKey;
use crate::order;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One question that a decision or an admission asks of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lookup {
    /// The entity of this id.
    Entity(EntityId),
    /// Who holds this name: an account under the operator, a user under its account.
    Name {
        /// Operator or account.
        parent: PublicKey,
        /// The name, compared exactly.
        name: String,
    },
    /// What used this command id up.
    Command(Uuid),
}

/// What used a command id up: the admitted command of this id, or one that voided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The id.
    pub command_id: Uuid,
    /// Which attempt was admitted. This and what follows is that of the command that voided the id last, where one did.
    pub attempt: u32,
    /// Digest of the command.
    pub command_hash: Digest,
    /// Digest of the draft.
    pub draft_hash: Digest,
    /// Who vouched for it.
    pub authority: PublicKey,
    /// Stream sequence of its first event.
    pub first: u64,
    /// Stream sequence of its last event.
    pub last: u64,
    /// Authorities whose attempts at the id are void, the operator's key standing for all of them. Empty where the command
    /// itself was admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voided: Vec<PublicKey>,
}

impl Recorded {
    /// Whether this makes an attempt by `authority` at the id void.
    #[must_use]
    pub fn voids(&self, authority: PublicKey, operator: PublicKey) -> bool {
        self.voided.iter().any(|void| *void == authority || *void == operator)
    }

    /// This, as it is kept where something of the id was kept before: an id stays void for whom it was.
    #[must_use]
    pub fn over(mut self, before: Option<&Recorded>) -> Self {
        if !self.voided.is_empty() {
            let more = core::mem::take(&mut self.voided);
            self.voided = before.map(|before| before.voided.clone()).unwrap_or_default();
            for void in more {
                if !self.voided.contains(&void) {
                    self.voided.push(void);
                }
            }
        }
        self
    }
}

/// What is kept of the ids that these events of one command void.
pub(crate) fn voided(events: &[Event], by: &Recorded) -> Vec<Recorded> {
    let void = |event: &Event| match event.fact {
        Fact::CommandVoided { command_id } => {
            let whose = if event.entity == event.registry { event.registry } else { by.authority };
            Some(Recorded { command_id, voided: [whose].to_vec(), ..by.clone() })
        }
        _ => None,
    };
    events.iter().filter_map(void).collect()
}

/// A fact was asked for that the host did not load: a scope is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fact not loaded: {lookup:?}")]
pub struct Missing {
    /// What was asked.
    pub lookup: Lookup,
}

/// Answers to look-ups, and no more: asking for anything else is an error, so that an incomplete scope shows.
///
/// As JSON lists of question and answer: `{registry, entities: [[id, entity]], names: [[parent, name, id]],
/// commands: [[id, recorded]]}`, each answer null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Listed", from = "Listed")]
pub struct Facts {
    registry: RegistryId,
    entities: BTreeMap<EntityId, Option<Entity>>,
    names: BTreeMap<(PublicKey, String), Option<EntityId>>,
    commands: BTreeMap<Uuid, Option<Recorded>>,
}

/// [`Facts`] as JSON has them: keys of more than one part are no member names.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Facts", deny_unknown_fields)]
struct Listed {
    registry: RegistryId,
    entities: Vec<(EntityId, Option<Entity>)>,
    names: Vec<(PublicKey, String, Option<EntityId>)>,
    commands: Vec<(Uuid, Option<Recorded>)>,
}

impl From<Facts> for Listed {
    fn from(facts: Facts) -> Self {
        Self {
            registry: facts.registry,
            entities: facts.entities.into_iter().collect(),
            names: facts.names.into_iter().map(|((parent, name), holder)| (parent, name, holder)).collect(),
            commands: facts.commands.into_iter().collect(),
        }
    }
}

impl From<Listed> for Facts {
    fn from(listed: Listed) -> Self {
        Self {
            registry: listed.registry,
            entities: order::map(listed.entities),
            names: order::map(
                listed.names.into_iter().map(|(parent, name, holder)| ((parent, name), holder)),
            ),
            commands: order::map(listed.commands),
        }
    }
}

impl Facts {
    /// No answers yet.
    #[must_use]
    pub fn new(registry: RegistryId) -> Self {
        Self { registry, entities: BTreeMap::new(), names: BTreeMap::new(), commands: BTreeMap::new() }
    }

    /// Which registry they are of.
    #[must_use]
    pub fn registry(&self) -> &RegistryId {
        &self.registry
    }

    /// Answers [`Lookup::Entity`].
    pub fn put_entity(&mut self, id: EntityId, entity: Option<Entity>) {
        self.entities.insert(id, entity);
    }

    /// Answers [`Lookup::Name`].
    pub fn put_name(&mut self, parent: PublicKey, name: String, holder: Option<EntityId>) {
        self.names.insert((parent, name), holder);
    }

    /// Answers [`Lookup::Command`].
    pub fn put_command(&mut self, id: Uuid, recorded: Option<Recorded>) {
        self.commands.insert(id, recorded);
    }

    /// Takes over answers that are not there yet.
    pub fn add(&mut self, other: Facts) {
        for (id, entity) in other.entities {
            self.entities.entry(id).or_insert(entity);
        }
        for (key, holder) in other.names {
            self.names.entry(key).or_insert(holder);
        }
        for (id, recorded) in other.commands {
            self.commands.entry(id).or_insert(recorded);
        }
    }

    /// Takes over all answers, over those that are there.
    pub(crate) fn overwrite(&mut self, other: Facts) {
        self.entities.extend(other.entities);
        self.names.extend(other.names);
        self.commands.extend(other.commands);
    }

    /// The entity, none where there is no such one.
    ///
    /// # Errors
    /// It was not loaded.
    pub fn entity(&self, id: EntityId) -> Result<Option<&Entity>, Missing> {
        match self.entities.get(&id) {
            Some(entity) => Ok(entity.as_ref()),
            None => Err(Missing { lookup: Lookup::Entity(id) }),
        }
    }

    /// The schema level in force: that of the operator, or of every founding where there is none yet.
    ///
    /// # Errors
    /// The operator was not loaded.
    pub fn level(&self) -> Result<u32, Missing> {
        Ok(match self.entity(EntityId::Operator(self.registry.operator))? {
            Some(Entity::Operator(operator)) => operator.schema,
            _ => FOUNDING_SCHEMA,
        })
    }

    /// Who holds a name.
    ///
    /// # Errors
    /// It was not loaded.
    pub fn name(&self, parent: PublicKey, name: &str) -> Result<Option<EntityId>, Missing> {
        match self.names.get(&(parent, name.to_string())) {
            Some(holder) => Ok(*holder),
            None => Err(Missing { lookup: Lookup::Name { parent, name: name.to_string() } }),
        }
    }

    /// The admitted command of an id.
    ///
    /// # Errors
    /// It was not loaded.
    pub fn command(&self, id: Uuid) -> Result<Option<&Recorded>, Missing> {
        Ok(self.recorded(id)?.filter(|recorded| recorded.voided.is_empty()))
    }

    /// Whether an attempt by `authority` at the command of an id is void.
    ///
    /// # Errors
    /// It was not loaded.
    pub fn is_void(&self, id: Uuid, authority: PublicKey) -> Result<bool, Missing> {
        Ok(self.recorded(id)?.is_some_and(|recorded| recorded.voids(authority, self.registry.operator)))
    }

    fn recorded(&self, id: Uuid) -> Result<Option<&Recorded>, Missing> {
        match self.commands.get(&id) {
            Some(recorded) => Ok(recorded.as_ref()),
            None => Err(Missing { lookup: Lookup::Command(id) }),
        }
    }

    /// Which of these look-ups are not answered yet.
    #[must_use]
    pub fn unanswered(&self, lookups: &[Lookup]) -> Vec<Lookup> {
        let known = |lookup: &Lookup| match lookup {
            Lookup::Entity(id) => self.entities.contains_key(id),
            Lookup::Name { parent, name } => self.names.contains_key(&(*parent, name.clone())),
            Lookup::Command(id) => self.commands.contains_key(id),
        };
        let wanted = order::set(lookups.iter().filter(|lookup| !known(lookup)));
        wanted.into_iter().cloned().collect()
    }

    /// The answers to some look-ups alone: what one command's decision depends on.
    ///
    /// # Errors
    /// One of them is not answered.
    pub fn only(&self, lookups: &[Lookup]) -> Result<Facts, Missing> {
        let mut facts = Facts::new(self.registry.clone());
        for lookup in lookups {
            match lookup {
                Lookup::Entity(id) => facts.put_entity(*id, self.entity(*id)?.cloned()),
                Lookup::Name { parent, name } => {
                    facts.put_name(*parent, name.clone(), self.name(*parent, name)?)
                }
                Lookup::Command(id) => facts.put_command(*id, self.recorded(*id)?.cloned()),
            }
        }
        Ok(facts)
    }

    /// Digest of the answers' content, commands left out, in a versioned encoding: equal exactly when a decision sees
    /// the same.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        pieces.push(b"cim-keys/facts/1".to_vec());
        for (id, entity) in &self.entities {
            pieces.push(id.to_string().into_bytes());
            pieces.push(json::to_text(entity).unwrap_or_default().into_bytes());
        }
        for ((parent, name), holder) in &self.names {
            pieces.push(parent.to_string().into_bytes());
            pieces.push(name.clone().into_bytes());
            pieces.push(json::to_text(holder).unwrap_or_default().into_bytes());
        }
        Digest::of_all(pieces.iter().map(Vec::as_slice))
    }

    /// Folds one event. The entity must have been loaded.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<Option<EntityId>, Missing> {
        let Some(id) = entity_of(event) else { return Ok(None) };
        let before = self.entity(id)?.cloned();
        let operator = self.registry.operator;
        let held = before.as_ref().and_then(|e| e.holds_name(operator)).map(|(p, n)| (p, n.to_string()));
        let after = evolve(before, event);
        let holds = after.as_ref().and_then(|e| e.holds_name(operator)).map(|(p, n)| (p, n.to_string()));
        if held != holds {
            if let Some(key) = held {
                self.names.insert(key, None);
            }
            if let Some(key) = holds {
                self.names.insert(key, Some(id));
            }
        }
        // Who never was is revoked by the account's token alone: nothing of it is kept.
        let changed = after.is_some().then_some(id);
        self.entities.insert(id, after);
        Ok(changed)
    }

    /// Notes what used an id up.
    pub(crate) fn record(&mut self, recorded: Recorded) {
        let id = recorded.command_id;
        let recorded = recorded.over(self.commands.get(&id).and_then(Option::as_ref));
        self.commands.insert(id, Some(recorded));
    }
}
