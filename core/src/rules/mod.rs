//! Who may do what, and what must hold before each event: the one table that `decide` and admission both read.

mod token;
mod violation;

pub use violation::{Fault, Reason, Violation};

use crate::context::event_id;
use crate::event::{Event, Fact};
use crate::jwt;
use crate::nkey::{Kind, PublicKey};
use crate::registry::{Entity, EntityId, Facts, Lookup, Missing};
use crate::text::is_plain;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A command has at most this many events.
pub const COMMAND_LIMIT: u32 = 1000;

/// What judging one event asks of the registry.
#[must_use]
pub fn scope_of(event: &Event) -> Vec<Lookup> {
    let operator = event.registry;
    let mut scope = Vec::new();
    scope.push(Lookup::Command(event.command.id));
    scope.push(Lookup::Entity(EntityId::Operator(operator)));
    if let Some(id) = crate::registry::entity_of(event) {
        scope.push(Lookup::Entity(id));
    }
    let name = event.claims().map(|claims| claims.name.clone()).unwrap_or_default();
    let account = event.claims().and_then(|c| c.body.as_user()).and_then(|user| user.issuer_account);
    match &event.fact {
        Fact::OperatorCreated | Fact::OperatorUpdated | Fact::AccountUpdated | Fact::SchemaRaised { .. } => {}
        Fact::AccountCreated => {
            scope.push(Lookup::Entity(EntityId::Key(event.entity)));
            scope.push(Lookup::Name { parent: operator, name });
        }
        Fact::UserCreated { .. } => {
            scope.push(Lookup::Entity(EntityId::Key(event.entity)));
            if let Some(account) = account {
                scope.push(Lookup::Entity(EntityId::Account(account)));
                scope.push(Lookup::Name { parent: account, name });
            }
        }
        Fact::UserUpdated | Fact::CredentialsIssued => {
            scope.push(Lookup::Entity(EntityId::Key(event.entity)));
            scope.extend(account.map(|account| Lookup::Entity(EntityId::Account(account))));
        }
        Fact::UserRevoked { account, .. } => scope.push(Lookup::Entity(EntityId::Account(*account))),
        Fact::KeyGenerated { owner, .. } => {
            scope.push(Lookup::Entity(EntityId::Account(event.entity)));
            scope.push(Lookup::Entity(EntityId::Operator(event.entity)));
            scope.extend(owner.map(|owner| Lookup::Entity(owner_id(owner))));
        }
        Fact::KeyRevoked { .. } => {}
        Fact::CommandVoided { command_id } => {
            scope.push(Lookup::Command(*command_id));
            scope.push(Lookup::Entity(owner_id(event.entity)));
        }
    }
    scope
}

/// The entity that a signing key signs for.
pub(crate) fn owner_id(owner: PublicKey) -> EntityId {
    if owner.kind() == Kind::Operator { EntityId::Operator(owner) } else { EntityId::Account(owner) }
}

/// Judges the events of one whole command on the state before it and folds them into `facts`. Returns the entities
/// that it changed. Signatures are not looked at here.
///
/// # Errors
/// What was violated first, or a fact that was not loaded. `facts` may be half folded then.
pub fn judge(facts: &mut Facts, events: &[Event]) -> Result<BTreeSet<EntityId>, Fault> {
    let first = whole(facts, events)?;
    if facts.command(first.command.id)?.is_some() {
        return Err(Violation::CommandKnown { id: first.command.id }.into());
    }
    if facts.is_void(first.command.id, first.command.authority)? {
        return Err(Violation::Voided { id: first.command.id }.into());
    }
    let level = facts.level()?;
    for event in events {
        in_schema(event, level, events.len())?;
    }
    let standing = standing(facts, first)?;
    let mut changed = BTreeSet::new();
    for event in events {
        precondition(facts, event, events)?;
        // First of all who it is: what a stranger brings is not worth the work of judging its token.
        authority(facts, &standing, event)?;
        token::check(facts, event, events)?;
        changed.extend(facts.apply(event)?);
    }
    for event in events {
        consequence(facts, event, events)?;
    }
    Ok(changed)
}

/// The events are one whole command of this registry.
fn whole<'a>(facts: &Facts, events: &'a [Event]) -> Result<&'a Event, Fault> {
    let first = events.first().ok_or(Violation::Incomplete)?;
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    if first.command.count != count || count > COMMAND_LIMIT || first.command.attempt == 0 {
        return Err(Violation::Incomplete.into());
    }
    for (place, event) in (0u32..).zip(events) {
        let same = event.time == first.time
            && event.correlation_id == first.correlation_id
            && event.causation_id == first.causation_id
            && event.command == crate::event::CommandRef { index: place, ..first.command.clone() };
        if !same {
            return Err(Violation::Incomplete.into());
        }
        if event.registry != facts.registry().operator {
            return Err(Violation::ForeignRegistry { found: event.registry }.into());
        }
        if event.id != event_id(event.time, event.command.id, event.command.attempt, place) {
            return Err(Violation::EventId { found: event.id }.into());
        }
    }
    Ok(first)
}

/// Whether an event may stand where this level is in force.
fn in_schema(event: &Event, level: u32, events: usize) -> Result<(), Violation> {
    match event.fact {
        _ if event.schema > level => Err(Violation::Schema { found: event.schema, level }),
        // Who does not know the level stops behind this event: nothing of its command may stand there.
        Fact::SchemaRaised { .. } if events > 1 => Err(Violation::NotAlone),
        Fact::SchemaRaised { level: to } if to <= level => {
            Err(Violation::NotHigher { level: to, current: level })
        }
        _ => Ok(()),
    }
}

/// What a command's authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The operator's identity key.
    Identity,
    /// A signing key that the operator's newest token lists.
    OperatorKey,
    /// Another key, perhaps an account's: it may vouch for the tokens that it signs itself.
    Issuer(PublicKey),
}

fn standing(facts: &Facts, first: &Event) -> Result<Standing, Fault> {
    let authority = first.command.authority;
    let operator = facts.registry().operator;
    if authority == operator {
        return Ok(Standing::Identity);
    }
    let listed = match facts.entity(EntityId::Operator(operator))? {
        Some(entity) => entity
            .token()
            .and_then(|t| t.claims().body.as_operator())
            .is_some_and(|o| o.signing_keys.contains(&authority)),
        None => return Err(Violation::NotFounded.into()),
    };
    Ok(if listed { Standing::OperatorKey } else { Standing::Issuer(authority) })
}

/// Who may vouch for an event. That a token's issuer may sign it is checked in [`token`].
fn authority(facts: &Facts, standing: &Standing, event: &Event) -> Result<(), Fault> {
    let allowed = match (&event.fact, standing) {
        // What a signing key says of an id binds that key alone: whoever got hold of a scoped one must not be able to stop
        // a revocation by the operator, or what another key vouches for. A key that signs for nobody says nothing.
        (Fact::CommandVoided { .. }, Standing::Issuer(key)) => {
            event.entity.kind() == Kind::Account && lists(facts, event.entity, *key)?
        }
        (Fact::CommandVoided { .. }, _) => event.entity == event.registry,
        (_, Standing::Identity) => true,
        (Fact::OperatorCreated | Fact::OperatorUpdated, _) => false,
        (_, Standing::OperatorKey) => true,
        (Fact::UserCreated { .. } | Fact::UserUpdated | Fact::CredentialsIssued, Standing::Issuer(key)) => {
            event.claims().is_some_and(|claims| claims.issuer == *key)
        }
        (_, Standing::Issuer(_)) => false,
    };
    if allowed {
        Ok(())
    } else {
        Err(Violation::Authority { key: event.command.authority, operation: event.fact.name() }.into())
    }
}

/// What must hold of the entity and its parent.
fn precondition(facts: &Facts, event: &Event, command: &[Event]) -> Result<(), Fault> {
    let operator = facts.registry().operator;
    let founded = facts.entity(EntityId::Operator(operator))?.is_some();
    if event.fact == Fact::OperatorCreated {
        return match (founded, event.entity == operator) {
            (true, _) => Err(Violation::AlreadyFounded.into()),
            (false, false) => Err(Violation::ForeignRegistry { found: event.entity }.into()),
            (false, true) => Ok(()),
        };
    }
    if !founded {
        return Err(Violation::NotFounded.into());
    }
    if let Fact::CommandVoided { command_id: id } = event.fact {
        // A command that voids itself would be both.
        let admitted = id == event.command.id || facts.command(id)?.is_some();
        return if admitted { Err(Violation::Admitted { id }.into()) } else { Ok(()) };
    }
    let id = crate::registry::entity_of(event).ok_or(Violation::NoToken)?;
    let entity = facts.entity(id)?;
    let name = event.claims().map(|claims| claims.name.as_str()).unwrap_or_default();
    match &event.fact {
        Fact::AccountCreated => {
            new(entity, id)?;
            unused(facts, EntityId::Key(event.entity))?;
            free(facts, operator, name)
        }
        Fact::UserCreated { .. } => {
            let EntityId::User { account, .. } = id else { return Err(Violation::NoToken.into()) };
            exists(facts.entity(EntityId::Account(account))?, EntityId::Account(account))?;
            new(entity, id)?;
            not_revoked(facts, event.entity)?;
            free(facts, account, name)
        }
        Fact::OperatorCreated | Fact::OperatorUpdated | Fact::AccountUpdated | Fact::SchemaRaised { .. } => {
            exists(entity, id)
        }
        Fact::UserUpdated | Fact::CredentialsIssued => {
            live(entity, id)?;
            not_revoked(facts, event.entity)
        }
        // A later revocation may raise the time: tokens made offline in between are dead as well.
        Fact::UserRevoked { account, revoked_at } => match revoked(facts, entity, *account, event.entity)? {
            Some(at) if at >= *revoked_at => Err(Violation::AlreadyRevoked { id, at }.into()),
            _ => {
                // A command that is given up may have handed a token to somebody who was never created: that key is
                // revoked in advance, and by nothing else.
                if !command.iter().any(|other| matches!(other.fact, Fact::CommandVoided { .. })) {
                    exists(entity, id)?;
                }
                exists(facts.entity(EntityId::Account(*account))?, EntityId::Account(*account))?;
                // A time before the newest token would leave it alive on every server.
                let newest = entity.and_then(Entity::token).map_or(0, |token| token.claims().issued_at);
                if *revoked_at < newest {
                    return Err(Violation::Token { member: "iat" }.into());
                }
                Ok(())
            }
        },
        Fact::KeyGenerated { owner, label } => {
            new(entity, id)?;
            unused(facts, EntityId::Account(event.entity))?;
            unused(facts, EntityId::Operator(event.entity))?;
            if label.as_deref().is_some_and(|label| !valid_label(label)) {
                return Err(Violation::Label.into());
            }
            match owner {
                Some(owner) if owner.kind() != event.entity.kind() => {
                    Err(Violation::OwnerKind { owner: *owner, key: event.entity }.into())
                }
                Some(owner) => exists(facts.entity(owner_id(*owner))?, owner_id(*owner)),
                None => Ok(()),
            }
        }
        Fact::KeyRevoked { .. } => live(entity, id),
        Fact::CommandVoided { .. } => Ok(()),
    }
}

/// Since when a user is refused: as it says itself, or its account's token where it never was created.
pub(crate) fn revoked(
    facts: &Facts,
    user: Option<&Entity>,
    account: PublicKey,
    key: PublicKey,
) -> Result<Option<i64>, Missing> {
    if let Some(user) = user {
        return Ok(user.revoked_at());
    }
    let token = facts.entity(EntityId::Account(account))?.and_then(Entity::token);
    let body = token.and_then(|token| token.claims().body.as_account());
    Ok(body.and_then(|body| body.revocations.get(&alloc::string::ToString::to_string(&key)).copied()))
}

/// 1 to 128 bytes of plain text.
pub(crate) fn valid_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= 128 && is_plain(label)
}

fn new(entity: Option<&Entity>, id: EntityId) -> Result<(), Fault> {
    match entity {
        Some(entity) if entity.revoked_at().is_some() => {
            Err(Violation::KeyRevoked { key: entity.key() }.into())
        }
        Some(_) => Err(Violation::KeyTaken { id }.into()),
        None => Ok(()),
    }
}

fn unused(facts: &Facts, id: EntityId) -> Result<(), Fault> {
    new(facts.entity(id)?, id)
}

/// A user's key may have been a free key first: where that was ended, nothing is issued to it.
fn not_revoked(facts: &Facts, key: PublicKey) -> Result<(), Fault> {
    match facts.entity(EntityId::Key(key))?.and_then(Entity::revoked_at) {
        Some(_) => Err(Violation::KeyRevoked { key }.into()),
        None => Ok(()),
    }
}

fn exists(entity: Option<&Entity>, id: EntityId) -> Result<(), Fault> {
    if entity.is_some() { Ok(()) } else { Err(Violation::Unknown { id }.into()) }
}

fn live(entity: Option<&Entity>, id: EntityId) -> Result<(), Fault> {
    match entity {
        None => Err(Violation::Unknown { id }.into()),
        Some(entity) => match entity.revoked_at() {
            Some(at) => Err(Violation::AlreadyRevoked { id, at }.into()),
            None => Ok(()),
        },
    }
}

fn free(facts: &Facts, parent: PublicKey, name: &str) -> Result<(), Fault> {
    match facts.name(parent, name)? {
        Some(holder) => Err(Violation::NameTaken { name: name.into(), holder }.into()),
        None => Ok(()),
    }
}

/// What must hold once the whole command is folded: whatever grants or ends something carries the token that says so.
fn consequence(facts: &Facts, event: &Event, command: &[Event]) -> Result<(), Fault> {
    match &event.fact {
        Fact::KeyGenerated { owner: Some(owner), .. } if !lists(facts, *owner, event.entity)? => {
            Err(Violation::Unexplained { member: "signing_keys" }.into())
        }
        Fact::KeyRevoked { .. } => match facts.entity(EntityId::Key(event.entity))? {
            Some(Entity::Key(key)) => match key.owner {
                Some(owner) if !updates(command, owner) || lists(facts, owner, event.entity)? => {
                    Err(Violation::Unexplained { member: "signing_keys" }.into())
                }
                _ => Ok(()),
            },
            _ => Err(Violation::Unknown { id: EntityId::Key(event.entity) }.into()),
        },
        Fact::UserRevoked { account, revoked_at } => {
            let entity = facts.entity(EntityId::Account(*account))?;
            let revocations = entity
                .and_then(Entity::token)
                .and_then(|t| t.claims().body.as_account())
                .map(|a| &a.revocations);
            let says = revocations.and_then(|r| r.get(&alloc::string::ToString::to_string(&event.entity)));
            if says == Some(revoked_at) {
                Ok(())
            } else {
                Err(Violation::Unexplained { member: "revocations" }.into())
            }
        }
        _ => Ok(()),
    }
}

/// Whether the command issues the owner's token anew.
fn updates(command: &[Event], owner: PublicKey) -> bool {
    command
        .iter()
        .any(|e| e.entity == owner && matches!(e.fact, Fact::OperatorUpdated | Fact::AccountUpdated))
}

fn lists(facts: &Facts, owner: PublicKey, key: PublicKey) -> Result<bool, Fault> {
    let body = facts.entity(owner_id(owner))?.and_then(Entity::token).map(|token| &token.claims().body);
    Ok(match body {
        Some(jwt::Body::Operator(operator)) => operator.signing_keys.contains(&key),
        Some(jwt::Body::Account(account)) => account.signing_keys.contains_key(&key),
        _ => false,
    })
}
