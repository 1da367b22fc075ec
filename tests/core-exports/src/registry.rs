//! The state folded from events, and what guards it: registry, rules, admission.

use std::str::FromStr;

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::bundle::{self, Bundle};
use cim_keys_core::context::RegistryId;
use cim_keys_core::envelope;
use cim_keys_core::event::Event;
use cim_keys_core::issue::{ScopedUser, scoped_user};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{
    Account, Entity, EntityId, Facts, Lookup, Operator, Recorded, Registry, User, evolve,
};
use cim_keys_core::rules;
use cim_keys_core::verify::{Finding, Verifier};
use cim_keys_core::why::{Parties, Question, why};
use serde::Deserialize;
use uuid::Uuid;

use crate::{Failed, exports, shown};

/// A registry as an argument: its entities at `head`, those that pending commands touched, the admitted commands.
#[derive(Deserialize)]
pub(crate) struct State {
    id: RegistryId,
    entities: Vec<Entity>,
    pending: Vec<(u64, Entity)>,
    commands: Vec<Recorded>,
}

impl State {
    pub(crate) fn registry(self) -> Registry {
        let mut registry = Registry::new(self.id);
        self.entities.into_iter().for_each(|entity| registry.put(entity));
        self.pending.into_iter().for_each(|(position, entity)| registry.put_overlay(position, entity));
        self.commands.into_iter().for_each(|recorded| registry.record(recorded));
        registry
    }
}

fn event(message: &StoredMessage) -> Result<Event, Failed> {
    Ok(envelope::decode(&message.subject, &message.headers, &message.payload)?.event)
}

exports! {
    registry_entity_id(text: String) { EntityId::from_str(&text)? }
    registry_entity(entity: Entity, operator: PublicKey) {
        let token = entity.token().map(|issued| (issued.id(), issued.text()));
        (entity.parent(operator), entity.holds_name(operator).map(|(_, name)| name.to_owned()), token)
    }
    registry_evolve(entity: Option<Entity>, message: StoredMessage) { evolve(entity, &event(&message)?) }
    registry_new(id: RegistryId) { shown(Registry::new(id)) }
    why_judge(operator: Operator, account: Account, user: User, question: Question) {
        why(&Parties { operator: &operator, account: &account, user: &user }, &question)?
    }
    issue_scoped_user(account: PublicKey, issuer: PublicKey, user: PublicKey, name: String, issued_at: i64, ttl: i64) {
        scoped_user(ScopedUser { account, issuer, user, name, tags: Vec::new(), issued_at, ttl })?
    }
    verify_walk(state: State, messages: Vec<StoredMessage>) {
        let registry = state.registry();
        let mut verifier = Verifier::new(registry.id().clone());
        let portion = verifier.take(messages);
        let mut facts = registry.facts(&portion.lookups(verifier.registry()), false);
        let judged = verifier.judge(portion, &mut facts)?;
        let mut findings = judged.findings;
        findings.extend(verifier.finish(u64::MAX));
        findings.push(Finding::new(0, 0, "end", "of the walk"));
        (findings, judged.entities, judged.recorded, verifier.walked())
    }
    registry_put(state: State, entity: Entity) {
        let mut registry = state.registry();
        registry.put(entity);
        shown(registry)
    }
    registry_record(state: State, recorded: Recorded) {
        let mut registry = state.registry();
        registry.record(recorded);
        shown(registry)
    }
    registry_overlay(state: State, position: u64, entity: Entity, settled: u64) {
        let mut registry = state.registry();
        registry.put_overlay(position, entity);
        registry.settle_overlay(settled);
        let kept = registry.pending().count();
        registry.drop_overlay(None);
        kept
    }
    registry_facts(state: State, lookups: Vec<Lookup>, with_overlay: bool) {
        let facts = state.registry().facts(&lookups, with_overlay);
        (facts.hash(), facts.unanswered(&lookups), shown(facts.only(&lookups)?))
    }
    registry_fact(state: State, id: EntityId, parent: PublicKey, name: String, command: Uuid) {
        let lookups = [Lookup::Entity(id), Lookup::Name { parent, name: name.clone() }, Lookup::Command(command)];
        let facts = state.registry().facts(&lookups, true);
        (shown(facts.entity(id)?), facts.name(parent, &name)?, facts.command(command)?.cloned())
    }
    registry_level(state: State, operator: PublicKey) {
        let lookups = [Lookup::Entity(EntityId::Operator(operator))];
        state.registry().facts(&lookups, true).level()?
    }
    registry_void(state: State, command: Uuid, authority: PublicKey, recorded: Recorded) {
        let facts = state.registry().facts(&[Lookup::Command(command)], true);
        let operator = facts.registry().operator;
        let voids = recorded.voids(authority, operator);
        (facts.is_void(command, authority)?, voids, recorded.clone().over(Some(&recorded)))
    }
    registry_put_facts(id: RegistryId, entity: Entity, parent: PublicKey, name: String, recorded: Recorded) {
        let mut facts = Facts::new(id.clone());
        facts.put_name(parent, name, Some(entity.id()));
        facts.put_entity(entity.id(), Some(entity));
        facts.put_command(recorded.command_id, Some(recorded));
        let mut all = Facts::new(id);
        all.add(facts);
        all.hash()
    }

    rules_scope(message: StoredMessage) { rules::scope_of(&event(&message)?) }
    rules_judge(state: State, messages: Vec<StoredMessage>) {
        let events = messages.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let lookups: Vec<Lookup> = events.iter().flat_map(rules::scope_of).collect();
        let mut facts = state.registry().facts(&lookups, true);
        rules::judge(&mut facts, &events)?
    }

    admission_content(message: StoredMessage) { message.content() }
    admission_digest(message: StoredMessage) { message.digest() }
    admission_push(assembler: Assembler, message: StoredMessage) {
        let mut assembler = assembler;
        shown(assembler.push(message))
    }
    admission_admit(state: State, messages: Vec<StoredMessage>) {
        let (registry, mut assembler, mut outcomes) = (state.registry(), Assembler::default(), Vec::new());
        for group in messages.into_iter().flat_map(|message| assembler.push(message)) {
            match group {
                Group::Anomaly(anomaly) => outcomes.push(shown(anomaly)),
                Group::Command(complete) => {
                    let id = complete.command_id();
                    let mut facts = registry.facts(&complete.scope(), false);
                    outcomes.push(shown((id, complete.admit(&mut facts)?)));
                }
            }
        }
        outcomes
    }

    bundle_encode(bundle: Bundle) { String::from_utf8(bundle::encode(&bundle)?)? }
    bundle_decode(text: String) { bundle::decode(text.as_bytes())? }
    bundle_verify(bundle: Bundle) { shown(bundle.verify()?) }
    bundle_judge(state: State, bundle: Bundle) {
        let (registry, verified, mut standing) = (state.registry(), bundle.verify()?, Vec::new());
        let lookups: Vec<Lookup> = verified.commands().iter().flat_map(|command| command.scopes()).cloned().collect();
        let mut facts = registry.facts(&lookups, true);
        for command in verified.commands() {
            standing.push(shown(command.judge(&mut facts)?));
        }
        standing
    }
}
