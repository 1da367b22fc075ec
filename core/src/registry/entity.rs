//! Entities and how events change them.

use crate::event::{Event, FOUNDING_SCHEMA, Fact, IssuedToken};
use crate::jwt::{Claims, TokenId, Unsigned};
use crate::nkey::{PublicKey, Signature};
use crate::time::Timestamp;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which entity. As text `operator:O…`, `account:A…`, `user:A…/U…`, `key:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityId {
    /// The operator, by its identity key.
    Operator(PublicKey),
    /// An account, by its identity key.
    Account(PublicKey),
    /// A user, by its account and its own key.
    User {
        /// Identity key of the account.
        account: PublicKey,
        /// The user's key.
        user: PublicKey,
    },
    /// A signing, curve or free key.
    Key(PublicKey),
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(key) => write!(f, "operator:{key}"),
            Self::Account(key) => write!(f, "account:{key}"),
            Self::User { account, user } => write!(f, "user:{account}/{user}"),
            Self::Key(key) => write!(f, "key:{key}"),
        }
    }
}

/// A text is no entity id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entity id such as account:A…")]
pub struct EntityIdError;

impl FromStr for EntityId {
    type Err = EntityIdError;

    fn from_str(text: &str) -> Result<Self, EntityIdError> {
        let key = |text: &str| text.parse::<PublicKey>().map_err(|_| EntityIdError);
        // A key of another kind is read as it is written: nothing is ever there, and a look-up must be able to ask.
        match text.split_once(':') {
            Some(("operator", id)) => Ok(Self::Operator(key(id)?)),
            Some(("account", id)) => Ok(Self::Account(key(id)?)),
            Some(("user", id)) => {
                let (account, user) = id.split_once('/').ok_or(EntityIdError)?;
                Ok(Self::User { account: key(account)?, user: key(user)? })
            }
            Some(("key", id)) => Ok(Self::Key(key(id)?)),
            _ => Err(EntityIdError),
        }
    }
}

impl Serialize for EntityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The newest token of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// `header.payload`.
    pub jwt: Unsigned,
    /// Missing only while a command is being decided.
    pub signature: Option<Signature>,
}

impl Issued {
    /// What the token claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.jwt.claims()
    }

    /// What identifies it.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.jwt.id()
    }

    /// The whole token, `header.payload.signature`, once it is signed.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.signature.map(|signature| format!("{}.{signature}", self.jwt.as_str()))
    }
}

impl From<&IssuedToken> for Issued {
    fn from(token: &IssuedToken) -> Self {
        Self { jwt: token.jwt.clone(), signature: token.signature }
    }
}

/// The operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Identity key.
    pub key: PublicKey,
    /// Newest token.
    pub token: Issued,
    /// When it was created.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
    /// The schema level in force in its registry. Not written while it is that of the founding.
    #[serde(default = "founding_schema", skip_serializing_if = "is_founding_schema")]
    pub schema: u32,
}

fn founding_schema() -> u32 {
    FOUNDING_SCHEMA
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_founding_schema(level: &u32) -> bool {
    *level == FOUNDING_SCHEMA
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Identity key.
    pub key: PublicKey,
    /// Newest token.
    pub token: Issued,
    /// When it was created.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
}

/// A user of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Identity key of the account.
    pub account: PublicKey,
    /// The user's key.
    pub key: PublicKey,
    /// Newest token.
    pub token: Issued,
    /// Unix seconds from which on it is refused.
    pub revoked_at: Option<i64>,
    /// Whether creds were handed out.
    pub credentials: bool,
    /// When it was created.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
}

/// A signing, curve or free key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The key.
    pub key: PublicKey,
    /// The operator or account it signs for; none for a free key.
    pub owner: Option<PublicKey>,
    /// What a person calls it.
    pub label: Option<String>,
    /// Unix seconds from which on it counts no more.
    pub revoked_at: Option<i64>,
    /// When it became known.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
}

/// Any entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// The operator.
    Operator(Operator),
    /// An account.
    Account(Account),
    /// A user.
    User(User),
    /// A signing, curve or free key.
    Key(Key),
}

impl Entity {
    /// Which it is.
    #[must_use]
    pub fn id(&self) -> EntityId {
        match self {
            Self::Operator(e) => EntityId::Operator(e.key),
            Self::Account(e) => EntityId::Account(e.key),
            Self::User(e) => EntityId::User { account: e.account, user: e.key },
            Self::Key(e) => EntityId::Key(e.key),
        }
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        match self {
            Self::Operator(e) => e.key,
            Self::Account(e) => e.key,
            Self::User(e) => e.key,
            Self::Key(e) => e.key,
        }
    }

    /// Its newest token.
    #[must_use]
    pub fn token(&self) -> Option<&Issued> {
        match self {
            Self::Operator(e) => Some(&e.token),
            Self::Account(e) => Some(&e.token),
            Self::User(e) => Some(&e.token),
            Self::Key(_) => None,
        }
    }

    /// The name, or a key's label.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Key(e) => e.label.as_deref().unwrap_or_default(),
            _ => self.token().map(|token| token.claims().name.as_str()).unwrap_or_default(),
        }
    }

    /// What it belongs to: an account to the operator, a user to its account, a key to what it signs for.
    #[must_use]
    pub fn parent(&self, operator: PublicKey) -> Option<PublicKey> {
        match self {
            Self::Operator(_) => None,
            Self::Account(_) => Some(operator),
            Self::User(e) => Some(e.account),
            Self::Key(e) => e.owner,
        }
    }

    /// Whether it was revoked.
    #[must_use]
    pub fn revoked_at(&self) -> Option<i64> {
        match self {
            Self::User(e) => e.revoked_at,
            Self::Key(e) => e.revoked_at,
            Self::Operator(_) | Self::Account(_) => None,
        }
    }

    /// The place in the index of names that it holds: accounts and users, while they live.
    #[must_use]
    pub fn holds_name(&self, operator: PublicKey) -> Option<(PublicKey, &str)> {
        match self {
            Self::Account(_) => Some((operator, self.name())),
            Self::User(e) if e.revoked_at.is_none() => Some((e.account, self.name())),
            _ => None,
        }
    }
}

/// Which entity an event is about. None where a user's event names no account: such an event is never admitted.
pub(crate) fn entity_of(event: &Event) -> Option<EntityId> {
    match &event.fact {
        Fact::OperatorCreated | Fact::OperatorUpdated | Fact::SchemaRaised { .. } => {
            Some(EntityId::Operator(event.entity))
        }
        Fact::AccountCreated | Fact::AccountUpdated => Some(EntityId::Account(event.entity)),
        Fact::UserCreated { .. } | Fact::UserUpdated | Fact::CredentialsIssued => {
            let account = event.claims()?.body.as_user()?.issuer_account?;
            Some(EntityId::User { account, user: event.entity })
        }
        Fact::UserRevoked { account, .. } => Some(EntityId::User { account: *account, user: event.entity }),
        Fact::KeyGenerated { .. } | Fact::KeyRevoked { .. } => Some(EntityId::Key(event.entity)),
        // A command is no entity: that its id is used up is kept with the commands.
        Fact::CommandVoided { .. } => None,
    }
}

/// Folds one admitted event into the entity it is about. Total: an event that does not fit leaves things as they are.
#[must_use]
pub fn evolve(entity: Option<Entity>, event: &Event) -> Option<Entity> {
    let token = event.token.as_ref().map(Issued::from);
    let time = event.time;
    match (&event.fact, entity, token) {
        (Fact::OperatorCreated, None, Some(token)) => {
            let (key, schema) = (event.entity, FOUNDING_SCHEMA);
            Some(Entity::Operator(Operator { key, token, created: time, updated: time, schema }))
        }
        (Fact::AccountCreated, None, Some(token)) => {
            Some(Entity::Account(Account { key: event.entity, token, created: time, updated: time }))
        }
        (Fact::UserCreated { credentials }, None, Some(token)) => {
            let account = token.claims().body.as_user().and_then(|user| user.issuer_account)?;
            Some(Entity::User(User {
                account,
                key: event.entity,
                token,
                revoked_at: None,
                credentials: *credentials,
                created: time,
                updated: time,
            }))
        }
        (Fact::KeyGenerated { owner, label }, None, _) => Some(Entity::Key(Key {
            key: event.entity,
            owner: *owner,
            label: label.clone(),
            revoked_at: None,
            created: time,
            updated: time,
        })),
        (Fact::OperatorUpdated, Some(Entity::Operator(e)), Some(token)) => {
            Some(Entity::Operator(Operator { token, updated: time, ..e }))
        }
        (Fact::SchemaRaised { level }, Some(Entity::Operator(e)), _) => {
            Some(Entity::Operator(Operator { schema: *level, updated: time, ..e }))
        }
        (Fact::AccountUpdated, Some(Entity::Account(e)), Some(token)) => {
            Some(Entity::Account(Account { token, updated: time, ..e }))
        }
        (Fact::UserUpdated, Some(Entity::User(e)), Some(token)) => {
            Some(Entity::User(User { token, updated: time, ..e }))
        }
        (Fact::CredentialsIssued, Some(Entity::User(e)), Some(token)) => {
            Some(Entity::User(User { token, credentials: true, updated: time, ..e }))
        }
        (Fact::UserRevoked { revoked_at, .. }, Some(Entity::User(e)), _) => {
            Some(Entity::User(User { revoked_at: Some(*revoked_at), updated: time, ..e }))
        }
        (Fact::KeyRevoked { revoked_at }, Some(Entity::Key(e)), _) => {
            Some(Entity::Key(Key { revoked_at: Some(*revoked_at), updated: time, ..e }))
        }
        (_, entity, _) => entity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nkey::Kind;
    use alloc::string::ToString;

    #[test]
    fn ids_are_text_and_back() {
        let key = |kind| PublicKey::new(kind, [7; 32]);
        for id in [
            EntityId::Operator(key(Kind::Operator)),
            EntityId::Account(key(Kind::Account)),
            EntityId::User { account: key(Kind::Account), user: key(Kind::User) },
            EntityId::Key(key(Kind::Curve)),
            // What a forged event may ask for.
            EntityId::Account(key(Kind::User)),
            EntityId::User { account: key(Kind::Operator), user: key(Kind::Account) },
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!("user:A".parse::<EntityId>().is_err());
        assert!("account:".parse::<EntityId>().is_err() && "thing:U".parse::<EntityId>().is_err());
    }
}
