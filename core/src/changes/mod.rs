//! What is different between two states of an entity, in words.
//!
//! The states are compared member by member as JSON, so that a member without words of its own is named as well, whatever a
//! later version adds.

mod leaves;
mod phrase;

use crate::json::{self, Json};
use crate::nkey::{Kind, PublicKey};
use crate::registry::{Entity, EntityId};
use crate::time::Timestamp;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use leaves::{Leaf, leaves};
use phrase::Phrase;
use serde::Serialize;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whose.
    pub entity: EntityId,
    /// What differs, such as `limits.conn`; empty for the entity itself.
    pub member: String,
    /// What it was; none where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Json>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Json>,
    /// The difference as a sentence without its full stop.
    pub words: String,
}

/// Says what is different between two states of one entity; nothing where they are equal. `owner` is what a person calls the
/// operator or account that it belongs to.
#[must_use]
pub fn changes(before: Option<&Entity>, after: Option<&Entity>, owner: Option<&str>) -> Vec<Change> {
    let (id, who) = match (before, after) {
        (None, None) => return Vec::new(),
        (Some(before), Some(after)) if before == after => return Vec::new(),
        (_, Some(entity)) | (Some(entity), None) => (entity.id(), called(entity, owner)),
    };
    let mut found = Found { id, who, changes: Vec::new() };
    match (before, after) {
        (Some(before), Some(after)) => found.between(before, after),
        (None, Some(entity)) => found.made(entity),
        (Some(_), None) => found.say("", None, None, "is not there any more"),
        (None, None) => {}
    }
    found.changes
}

/// What a person calls an entity.
#[must_use]
pub fn called(entity: &Entity, owner: Option<&str>) -> String {
    let name = entity.name();
    match entity {
        Entity::Operator(_) => format!("operator {name}"),
        Entity::Account(_) => format!("account {name}"),
        Entity::User(user) => {
            format!("user {name} of account {}", owner.map_or_else(|| user.account.to_string(), String::from))
        }
        Entity::Key(key) => {
            let what = match (key.key.kind(), key.owner) {
                (Kind::Curve, _) => "curve key",
                (_, Some(_)) => "signing key",
                (_, None) => "key",
            };
            let name = if name.is_empty() { key.key.to_string() } else { format!("{name} ({})", key.key) };
            let whose = |key: PublicKey| match key.kind() {
                Kind::Operator => "operator",
                _ => "account",
            };
            let of = key.owner.map(|key| {
                format!(" of {} {}", whose(key), owner.map_or_else(|| key.to_string(), String::from))
            });
            format!("{what} {name}{}", of.unwrap_or_default())
        }
    }
}

struct Found {
    id: EntityId,
    who: String,
    changes: Vec<Change>,
}

impl Found {
    fn say(&mut self, member: &str, before: Option<Json>, after: Option<Json>, what: &str) {
        let words = format!("{} {what}", self.who);
        self.changes.push(Change { entity: self.id, member: member.to_string(), before, after, words });
    }

    fn made(&mut self, entity: &Entity) {
        self.say("", None, None, "was created");
        let none = Json::Object(Default::default());
        // What it may do from the beginning on; of limits the token tells.
        for leaf in leaves(&none, &claims(entity)) {
            let said = matches!(leaf.path.first().map(String::as_str), Some("pub" | "sub"));
            if said && matches!(entity, Entity::User(_)) {
                self.leaf(&leaf);
            }
        }
        self.state(None, entity);
    }

    fn between(&mut self, before: &Entity, after: &Entity) {
        if before.id() != after.id() {
            self.say("", None, None, &format!("stands where {} stood", before.id()));
        }
        let (old, new) = (claims(before), claims(after));
        let moved = |entity: &Entity| match entity {
            Entity::User(user) => {
                user.token.claims().body.as_user().map(|body| body.grant.rights().is_some())
            }
            _ => None,
        };
        let regranted = moved(before) != moved(after);
        if let Some(own) = moved(after).filter(|_| regranted) {
            let text = |own| Some(Json::Text(if own { "own" } else { "role" }.to_string()));
            let what = if own {
                "has rights of its own instead of a role's"
            } else {
                "has the rights of a role instead of its own"
            };
            self.say("rights", text(!own), text(own), what);
        }
        for leaf in leaves(&old, &new) {
            // Without rights of its own a user's limits are the role's.
            let limit = matches!(leaf.path.first().map(String::as_str), Some("subs" | "data" | "payload"));
            if !(regranted && limit) && leaf.path.first().is_none_or(|name| name != "iat") {
                self.leaf(&leaf);
            }
        }
        self.state(Some(before), after);
        if self.changes.is_empty() {
            self.quiet(before, after);
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        for Phrase { who, member, before, after, words } in phrase::phrases(&self.who, leaf) {
            let blank = if words.starts_with('\'') { "" } else { " " };
            let words = format!("{who}{blank}{words}");
            self.changes.push(Change { entity: self.id, member, before, after, words });
        }
    }

    /// What stands beside the token.
    fn state(&mut self, before: Option<&Entity>, after: &Entity) {
        let was = before.and_then(Entity::revoked_at);
        let is = after.revoked_at();
        if was != is {
            let what = match (was, is) {
                (None, Some(at)) => format!("was revoked: what was issued until {} is dead", second(at)),
                (_, Some(at)) => format!("is revoked further: what was issued until {} is dead", second(at)),
                (_, None) => "is not revoked any more".into(),
            };
            self.say("revoked_at", was.map(number), is.map(number), &what);
        }
        match (before, after) {
            (Some(Entity::Operator(before)), Entity::Operator(after)) if before.schema != after.schema => {
                let (was, is) = (before.schema, after.schema);
                let what = format!("raised the schema level from {was} to {is}");
                self.say("schema", Some(number(was.into())), Some(number(is.into())), &what);
            }
            (before, Entity::User(after)) => {
                let before = match before {
                    Some(Entity::User(before)) => before.credentials,
                    _ => false,
                };
                if before != after.credentials {
                    let what = if after.credentials { "was handed creds" } else { "was not handed creds" };
                    self.say(
                        "credentials",
                        Some(Json::Bool(before)),
                        Some(Json::Bool(after.credentials)),
                        what,
                    );
                }
            }
            (Some(Entity::Key(before)), Entity::Key(after)) => {
                if before.owner != after.owner {
                    let text = |owner: Option<PublicKey>| owner.map(|owner| Json::Text(owner.to_string()));
                    self.say("owner", text(before.owner), text(after.owner), "belongs to somebody else");
                }
                if before.label != after.label {
                    let text = |label: &Option<String>| label.clone().map(Json::Text);
                    self.say("label", text(&before.label), text(&after.label), "has another label");
                }
            }
            _ => {}
        }
    }

    /// Two states between which nothing a person asks for differs.
    fn quiet(&mut self, before: &Entity, after: &Entity) {
        let id = |entity: &Entity| entity.token().map(|token| Json::Text(token.id().to_string()));
        if id(before) != id(after) {
            self.say("token", id(before), id(after), "has a new token that says the same");
            return;
        }
        let text = |entity: &Entity| {
            let signature = entity.token().and_then(|token| token.signature);
            signature.map(|signature| Json::Text(signature.to_string()))
        };
        if text(before) != text(after) {
            self.say("signature", text(before), text(after), "has another signature under the same token");
            return;
        }
        let time = |entity: &Entity| Json::Text(updated(entity).to_string());
        let (was, is) = (time(before), time(after));
        self.say("updated", Some(was), Some(is), "was written again, with nothing changed but the time");
    }
}

fn updated(entity: &Entity) -> Timestamp {
    match entity {
        Entity::Operator(e) => e.updated,
        Entity::Account(e) => e.updated,
        Entity::User(e) => e.updated,
        Entity::Key(e) => e.updated,
    }
}

/// What the token says, the body's members beside the others: no two have one name but `type` and `version`, which never
/// differ, and what later versions bring.
fn claims(entity: &Entity) -> Json {
    let text = entity.token().and_then(|token| json::to_text(token.claims()).ok());
    let mut all = match text.and_then(|text| Json::parse(&text).ok()) {
        Some(Json::Object(members)) => members,
        _ => return Json::Object(Default::default()),
    };
    // A body's `sub` is what it may subscribe to.
    if let Some(subject) = all.remove("sub") {
        all.insert("subject".to_string(), subject);
    }
    if let Some(Json::Object(body)) = all.remove("nats") {
        for (name, value) in body {
            // A member of a later version may have the name of one beside it.
            let name = if all.contains_key(&name) { format!("nats.{name}") } else { name };
            all.insert(name, value);
        }
    }
    Json::Object(all)
}

fn number(number: i64) -> Json {
    Json::Number(number.into())
}

/// Unix seconds in words.
fn second(seconds: i64) -> String {
    let time = seconds.checked_mul(1000).and_then(|millis| Timestamp::from_millis(millis).ok());
    time.map_or_else(|| format!("second {seconds}"), |time| time.to_string())
}
