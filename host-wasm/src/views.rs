//! What people look at: entities, messages, tokens.

use crate::convert::{from_js, text, to_js};
use crate::error::Fault;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::envelope;
use cim_keys_core::jwt::{self, Claims, Token, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;
use wasm_bindgen::prelude::*;

#[derive(Serialize)]
struct Indexed {
    id: EntityId,
    parent: Option<PublicKey>,
    name: String,
    holds: bool,
}

/// How a store finds entities again: by id, and by parent and name while they hold that name.
#[wasm_bindgen(unchecked_return_type = "EntityIndex[]")]
pub fn entity_index(
    #[wasm_bindgen(unchecked_param_type = "string")] operator: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Entity[]")] entities: &JsValue,
) -> Result<JsValue, Fault> {
    let operator: PublicKey = text(operator, "operator")?.parse()?;
    let index = |entity: &Entity| Indexed {
        id: entity.id(),
        parent: entity.parent(operator),
        name: entity.name().to_owned(),
        holds: entity.holds_name(operator).is_some(),
    };
    to_js(&from_js::<Vec<Entity>>(entities, "entities")?.iter().map(index).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct SigningKeyView<'a> {
    key: PublicKey,
    role: Option<&'a str>,
    rights: Option<&'a UserRights>,
}

#[derive(Serialize)]
struct EntityView<'a> {
    id: EntityId,
    kind: &'static str,
    key: PublicKey,
    name: &'a str,
    account: Option<PublicKey>,
    issuer: Option<PublicKey>,
    issued_at: Option<i64>,
    expires: Option<i64>,
    revoked_at: Option<i64>,
    rights: Option<&'a UserRights>,
    signing_keys: Vec<SigningKeyView<'a>>,
    tags: &'a [String],
    created: Timestamp,
    updated: Timestamp,
}

/// What a person wants to know of an entity. Times in Unix seconds; `expires` null is never.
#[wasm_bindgen(unchecked_return_type = "EntityView")]
pub fn describe_entity(
    #[wasm_bindgen(unchecked_param_type = "Entity")] entity: &JsValue,
) -> Result<JsValue, Fault> {
    let entity: Entity = from_js(entity, "entity")?;
    let (kind, created, updated) = match &entity {
        Entity::Operator(e) => ("operator", e.created, e.updated),
        Entity::Account(e) => ("account", e.created, e.updated),
        Entity::User(e) => ("user", e.created, e.updated),
        Entity::Key(e) => ("key", e.created, e.updated),
    };
    let claims = entity.token().map(|token| token.claims());
    let account = claims.and_then(|claims| claims.body.as_account());
    let user = claims.and_then(|claims| claims.body.as_user());
    let operator = claims.and_then(|claims| claims.body.as_operator());
    let plain = operator.iter().flat_map(|body| &body.signing_keys);
    let plain = plain.map(|key| SigningKeyView { key: *key, role: None, rights: None });
    let scoped = account.iter().flat_map(|body| &body.signing_keys).map(|(key, signing)| SigningKeyView {
        key: *key,
        role: signing.scope().map(|scope| scope.role.as_str()),
        rights: signing.scope().map(|scope| &scope.template),
    });
    to_js(&EntityView {
        id: entity.id(),
        kind,
        key: entity.key(),
        name: entity.name(),
        account: match &entity {
            Entity::User(user) => Some(user.account),
            Entity::Key(key) => key.owner,
            Entity::Operator(_) | Entity::Account(_) => None,
        },
        issuer: claims.map(|claims| claims.issuer),
        issued_at: claims.map(|claims| claims.issued_at),
        expires: claims.map(|claims| claims.expires).filter(|expires| *expires != 0),
        revoked_at: entity.revoked_at(),
        rights: user.and_then(|user| user.grant.rights()),
        signing_keys: plain.chain(scoped).collect(),
        tags: user
            .map(|user| user.tags.as_slice())
            .or(account.map(|account| account.tags.as_slice()))
            .unwrap_or_default(),
        created,
        updated,
    })
}

#[derive(Serialize)]
struct MessageView<'a> {
    sequence: u64,
    r#type: String,
    entity: PublicKey,
    name: Option<&'a str>,
    time: Timestamp,
    event_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
    command_id: Uuid,
    actor: &'a str,
    authority: PublicKey,
    index: u32,
    count: u32,
}

/// What an event on the stream says; an error where the message is no event.
#[wasm_bindgen(unchecked_return_type = "MessageView")]
pub fn describe_message(
    #[wasm_bindgen(unchecked_param_type = "StoredMessage")] message: &JsValue,
) -> Result<JsValue, Fault> {
    let message: StoredMessage = from_js(message, "message")?;
    let event = envelope::decode(&message.subject, &message.headers, &message.payload)?.event;
    let (entity, operation) = event.fact.name();
    to_js(&MessageView {
        sequence: message.sequence,
        r#type: format!("{entity}.{operation}"),
        entity: event.entity,
        name: event.claims().map(|claims| claims.name.as_str()),
        time: event.time,
        event_id: event.id,
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        command_id: event.command.id,
        actor: event.command.actor.as_str(),
        authority: event.command.authority,
        index: event.command.index,
        count: event.command.count,
    })
}

#[derive(Serialize)]
struct TokenView<'a> {
    kind: Kind,
    /// The claims as an entity's token has them.
    claims: &'a Claims,
    /// The first rule that they break: code and words.
    broken: Option<(String, String)>,
}

/// What a token says, its signature verified; an error where it is none or its signature does not hold.
#[wasm_bindgen(unchecked_return_type = "TokenView")]
pub fn inspect_token(
    #[wasm_bindgen(unchecked_param_type = "string")] token: &JsValue,
) -> Result<JsValue, Fault> {
    let token = Token::parse(text(token, "token")?.trim())?;
    let claims = token.claims();
    let broken = jwt::validate(claims).err().map(|error| (error.code().to_owned(), error.to_string()));
    to_js(&TokenView { kind: claims.subject.kind(), claims, broken })
}
