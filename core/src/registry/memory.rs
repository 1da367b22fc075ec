//! A whole registry in memory: for hosts without a database and for tests.

use super::entity::{Entity, EntityId};
use super::facts::{Facts, Lookup, Recorded};
use crate::context::RegistryId;
use crate::nkey::PublicKey;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uuid::Uuid;

/// The state at `head`, and over it the entities that pending commands touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    id: RegistryId,
    confirmed: Layer,
    /// By the place of the command that left it so: the newest counts, the others are needed once those are confirmed.
    overlay: BTreeMap<EntityId, BTreeMap<u64, Entity>>,
    commands: BTreeMap<Uuid, Recorded>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layer {
    entities: BTreeMap<EntityId, Entity>,
    names: BTreeMap<(PublicKey, String), EntityId>,
}

impl Layer {
    fn put(&mut self, entity: Entity, operator: PublicKey) {
        let id = entity.id();
        if let Some((parent, name)) = self.entities.get(&id).and_then(|old| old.holds_name(operator)) {
            // Entities of one fold come by id: whoever took the name over may have been written before.
            let place = (parent, name.to_string());
            if self.names.get(&place) == Some(&id) {
                self.names.remove(&place);
            }
        }
        if let Some((parent, name)) = entity.holds_name(operator) {
            self.names.insert((parent, name.to_string()), id);
        }
        self.entities.insert(id, entity);
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(id: RegistryId) -> Self {
        Self { id, confirmed: Layer::default(), overlay: BTreeMap::new(), commands: BTreeMap::new() }
    }

    /// Which it is.
    #[must_use]
    pub fn id(&self) -> &RegistryId {
        &self.id
    }

    /// Writes an entity as it is at `head`.
    pub fn put(&mut self, entity: Entity) {
        self.confirmed.put(entity, self.id.operator);
    }

    /// Notes what used a command id up.
    pub fn record(&mut self, recorded: Recorded) {
        let id = recorded.command_id;
        let recorded = recorded.over(self.commands.get(&id));
        self.commands.insert(id, recorded);
    }

    /// Writes an entity as the pending command at this place in the journal leaves it.
    pub fn put_overlay(&mut self, position: u64, entity: Entity) {
        self.overlay.entry(entity.id()).or_default().insert(position, entity);
    }

    /// Forgets what commands up to a place left in the overlay, or all of it, to fold it again.
    pub fn drop_overlay(&mut self, until: Option<u64>) {
        let until = until.unwrap_or(u64::MAX);
        self.overlay.retain(|_, versions| {
            versions.retain(|position, _| *position > until);
            !versions.is_empty()
        });
    }

    /// Commands up to this place are confirmed: what they left in the overlay is the state at `head` now.
    pub fn settle_overlay(&mut self, position: u64) {
        let mut settled = Vec::new();
        self.overlay.retain(|_, versions| {
            let pending = versions.split_off(&position.saturating_add(1));
            let confirmed = core::mem::replace(versions, pending);
            settled.extend(confirmed.into_values().next_back());
            !versions.is_empty()
        });
        for entity in settled {
            self.put(entity);
        }
    }

    /// Entities at `head`, by id.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.confirmed.entities.values()
    }

    /// Entities that pending commands touched, by id.
    pub fn pending(&self) -> impl Iterator<Item = &Entity> {
        self.overlay.values().filter_map(newest)
    }

    /// Admitted commands, by id.
    pub fn commands(&self) -> impl Iterator<Item = &Recorded> {
        self.commands.values().filter(|recorded| recorded.voided.is_empty())
    }

    /// What voided ids, by id.
    pub fn voided(&self) -> impl Iterator<Item = &Recorded> {
        self.commands.values().filter(|recorded| !recorded.voided.is_empty())
    }

    /// Answers look-ups on the state at `head`, or with the overlay over it.
    #[must_use]
    pub fn facts(&self, lookups: &[Lookup], with_overlay: bool) -> Facts {
        let mut facts = Facts::new(self.id.clone());
        for lookup in lookups {
            match lookup {
                Lookup::Entity(id) => facts.put_entity(*id, self.entity(*id, with_overlay).cloned()),
                Lookup::Name { parent, name } => {
                    facts.put_name(*parent, name.clone(), self.name(*parent, name, with_overlay));
                }
                Lookup::Command(id) => facts.put_command(*id, self.commands.get(id).cloned()),
            }
        }
        facts
    }

    fn entity(&self, id: EntityId, with_overlay: bool) -> Option<&Entity> {
        let pending = self.overlay.get(&id).filter(|_| with_overlay).and_then(newest);
        pending.or_else(|| self.confirmed.entities.get(&id))
    }

    fn name(&self, parent: PublicKey, name: &str, with_overlay: bool) -> Option<EntityId> {
        let operator = self.id.operator;
        if with_overlay {
            let holder = self.pending().find(|entity| entity.holds_name(operator) == Some((parent, name)));
            if let Some(entity) = holder {
                return Some(entity.id());
            }
        }
        let holder = self.confirmed.names.get(&(parent, name.to_string())).copied()?;
        // An overlaid entity holds what its overlay says.
        if with_overlay && self.overlay.contains_key(&holder) { None } else { Some(holder) }
    }
}

fn newest(versions: &BTreeMap<u64, Entity>) -> Option<&Entity> {
    versions.values().next_back()
}
