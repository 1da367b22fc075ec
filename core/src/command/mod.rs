//! What somebody wants, and what follows from it.

mod account;
mod found;
mod key;
mod plan;
mod rejection;
mod schema;
mod user;
mod void;

pub use found::KEYS as FOUNDING_KEYS;
pub use rejection::Rejection;

use crate::context::Context;
use crate::digest::Digest;
use crate::draft::Draft;
use crate::envelope::{self, Envelope, OpenError, SCHEMA_VERSION};
use crate::json;
use crate::jwt::{AccountLimits, UserRights};
use crate::nkey::{Kind, PublicKey};
use crate::registry::{Facts, Lookup};
use crate::rules;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What somebody wants. One-shot, at most 1,000 events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Found a registry: operator, system account, and the pipeline's two accounts with their roles.
    /// Keys: see [`FOUNDING_KEYS`].
    FoundRegistry {
        /// The operator's name.
        name: String,
    },
    /// Create an account with one signing key. Keys: the account's, its signing key's.
    CreateAccount {
        /// Its name, free under the operator.
        name: String,
        /// Its limits; -1 is unlimited.
        limits: AccountLimits,
    },
    /// Create a user. Key: the user's.
    CreateUser {
        /// Identity key of the account.
        account: PublicKey,
        /// Its name, free in the account.
        name: String,
        /// Permissions and limits; none where the authority is a scoped key, whose role has them.
        rights: Option<UserRights>,
        /// Unix seconds; 0 is never.
        expires: i64,
        /// Tags, as NATS matches them.
        tags: Vec<String>,
        /// Whether creds are handed out.
        credentials: bool,
    },
    /// Set a user's permissions anew. No keys.
    SetPermissions {
        /// Identity key of the account.
        account: PublicKey,
        /// The user's key.
        user: PublicKey,
        /// Permissions and limits.
        rights: UserRights,
    },
    /// Refuse a user from now on. No keys.
    RevokeUser {
        /// Identity key of the account.
        account: PublicKey,
        /// The user's key.
        user: PublicKey,
    },
    /// Hand out creds again, with a token issued anew. No keys.
    GenerateCredentials {
        /// Identity key of the account.
        account: PublicKey,
        /// The user's key.
        user: PublicKey,
        /// Unix seconds; 0 is never.
        expires: i64,
    },
    /// Make a signing key known to the operator or an account, or a free key to the registry. Key: that key.
    GenerateKey {
        /// Its kind.
        kind: Kind,
        /// The operator or account it signs for; none for a free key.
        owner: Option<PublicKey>,
        /// What a person calls it.
        label: Option<String>,
        /// A role, for an account's signing key: users that it signs have these permissions.
        role: Option<Role>,
    },
    /// End a key. No keys.
    RevokeKey {
        /// The key.
        key: PublicKey,
        /// What it belongs to: the operator or account a signing key signs for, or a user's account.
        owner: Option<PublicKey>,
    },
    /// Give a command up for good, whoever still has it: its id is used up. No keys.
    VoidCommand {
        /// Its id.
        command_id: Uuid,
        /// The account whose signing key vouches, and then for its own attempts alone; none where the operator does, for
        /// all of them.
        account: Option<PublicKey>,
        /// Whose creds or token were handed out for it: refused from now on. That takes the operator's key.
        revoke: Option<HandedOut>,
    },
    /// Raise the schema level of the registry: who does not know it is read-only from there on. No keys.
    RaiseSchema {
        /// Higher than the level in force, and known to this version.
        level: u32,
    },
}

/// Creds or a token that somebody has although their command was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOut {
    /// Identity key of the account.
    pub account: PublicKey,
    /// The user's key; the registry may never have known it.
    pub user: PublicKey,
    /// Unix seconds: when the newest of these tokens was issued.
    pub issued_at: i64,
}

impl HandedOut {
    /// Whose creds or token come of this command, and when its newest attempt issued them: later than every attempt before.
    /// Whether anybody has them is the host's to know. None for commands of which none come.
    ///
    /// # Errors
    /// A message cannot be read: the journal is damaged.
    pub fn by(
        command: &Command,
        context: &Context,
        messages: &[Envelope],
    ) -> Result<Option<Self>, OpenError> {
        let (account, user) = match command {
            Command::CreateUser { account, .. } => match context.keys.first() {
                Some(user) => (*account, *user),
                None => return Ok(None),
            },
            Command::GenerateCredentials { account, user, .. }
            | Command::SetPermissions { account, user, .. } => (*account, *user),
            _ => return Ok(None),
        };
        let mut issued_at = context.now.seconds();
        for message in messages {
            let event = envelope::decode(message.subject.as_str(), &message.headers, &message.payload)?.event;
            let claims = event.claims().filter(|claims| claims.subject == user);
            issued_at = claims.map_or(issued_at, |claims| issued_at.max(claims.issued_at));
        }
        Ok(Some(Self { account, user, issued_at }))
    }
}

/// A scoped signing key's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What its users may do.
    pub template: UserRights,
}

impl Command {
    /// Kinds of the keys that the host makes first and names in [`Context::keys`], in this order.
    #[must_use]
    pub fn keys(&self) -> Vec<Kind> {
        match self {
            Self::FoundRegistry { .. } => found::KEYS.to_vec(),
            Self::CreateAccount { .. } => [Kind::Account, Kind::Account].to_vec(),
            Self::CreateUser { .. } => [Kind::User].to_vec(),
            Self::GenerateKey { kind, .. } => [*kind].to_vec(),
            Self::SetPermissions { .. }
            | Self::RevokeUser { .. }
            | Self::GenerateCredentials { .. }
            | Self::RevokeKey { .. }
            | Self::VoidCommand { .. }
            | Self::RaiseSchema { .. } => Vec::new(),
        }
    }

    /// Stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FoundRegistry { .. } => "found-registry",
            Self::CreateAccount { .. } => "create-account",
            Self::CreateUser { .. } => "create-user",
            Self::SetPermissions { .. } => "set-permissions",
            Self::RevokeUser { .. } => "revoke-user",
            Self::GenerateCredentials { .. } => "generate-credentials",
            Self::GenerateKey { .. } => "generate-key",
            Self::RevokeKey { .. } => "revoke-key",
            Self::VoidCommand { .. } => "void-command",
            Self::RaiseSchema { .. } => "raise-schema",
        }
    }

    /// Whether it ends something: such a command is decided anew by itself when another came first.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        matches!(
            self,
            Self::RevokeUser { .. } | Self::RevokeKey { .. } | Self::VoidCommand { revoke: Some(_), .. }
        )
    }

    /// The account in which a signing key of that account may vouch for it; none where it takes a key of the operator.
    #[must_use]
    pub fn in_account(&self) -> Option<PublicKey> {
        match self {
            Self::CreateUser { account, .. }
            | Self::SetPermissions { account, .. }
            | Self::GenerateCredentials { account, .. }
            | Self::VoidCommand { account: Some(account), .. } => Some(*account),
            _ => None,
        }
    }

    /// Digest of the command: the same id with another digest is another promise.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(json::to_text(self).unwrap_or_default().as_bytes())
    }

    /// What the decision depends on, as look-ups alone.
    #[must_use]
    pub fn scope(&self, context: &Context, registry: &crate::context::RegistryId) -> Vec<Lookup> {
        let mut scope = alloc::vec![
            Lookup::Entity(crate::registry::EntityId::Operator(registry.operator)),
            Lookup::Command(context.command_id),
        ];
        match self {
            Self::FoundRegistry { .. } => found::scope(context, registry, &mut scope),
            Self::CreateAccount { name, .. } => account::scope(name, context, registry, &mut scope),
            Self::CreateUser { account, name, .. } => user::scope_create(*account, name, context, &mut scope),
            Self::SetPermissions { account, user, .. }
            | Self::RevokeUser { account, user }
            | Self::GenerateCredentials { account, user, .. } => user::scope(*account, *user, &mut scope),
            Self::GenerateKey { owner, .. } => key::scope_generate(*owner, context, &mut scope),
            Self::RevokeKey { key, owner } => key::scope_revoke(*key, *owner, &mut scope),
            Self::VoidCommand { command_id, account, revoke } => {
                void::scope(*command_id, *account, revoke.as_ref(), &mut scope);
            }
            Self::RaiseSchema { .. } => {}
        }
        scope
    }
}

/// Decides a command: equal facts, command and context give an equal draft, in every host.
///
/// # Errors
/// Why not, with what to do next. Nothing has happened then.
pub fn decide(facts: &Facts, command: &Command, context: &Context) -> Result<Draft, Rejection> {
    decide_as(SCHEMA_VERSION, facts, command, context)
}

/// [`decide`], as a version decides that knows the schema up to `known`.
pub(crate) fn decide_as(
    known: u32,
    facts: &Facts,
    command: &Command,
    context: &Context,
) -> Result<Draft, Rejection> {
    let level = facts.level()?;
    if level > known {
        return Err(Rejection::NewerSchema { level, known });
    }
    let wanted = command.keys();
    let found: Vec<Kind> = context.keys.iter().map(PublicKey::kind).collect();
    if wanted != found {
        return Err(Rejection::Keys { expected: wanted, found });
    }
    let mut plan = plan::Plan::new(facts, command, context);
    match command {
        Command::FoundRegistry { name } => found::decide(&mut plan, name)?,
        Command::CreateAccount { name, limits } => account::decide(&mut plan, name, limits)?,
        Command::CreateUser { account, name, rights, expires, tags, credentials } => {
            user::decide_create(&mut plan, *account, name, rights.as_ref(), *expires, tags, *credentials)?;
        }
        Command::SetPermissions { account, user, rights } => {
            user::decide_permissions(&mut plan, *account, *user, rights)?;
        }
        Command::RevokeUser { account, user } => user::decide_revoke(&mut plan, *account, *user)?,
        Command::GenerateCredentials { account, user, expires } => {
            user::decide_credentials(&mut plan, *account, *user, *expires)?;
        }
        Command::GenerateKey { owner, label, role, .. } => {
            key::decide_generate(&mut plan, *owner, label.as_ref(), role.as_ref())?;
        }
        Command::RevokeKey { key, owner } => key::decide_revoke(&mut plan, *key, *owner)?,
        Command::VoidCommand { command_id, account, revoke } => {
            void::decide(&mut plan, *command_id, *account, revoke.as_ref())?;
        }
        Command::RaiseSchema { level } => schema::decide(&mut plan, *level, known)?,
    }
    let events = plan.finish();
    rules::judge(&mut facts.clone(), &events)?;
    Ok(Draft::close(facts.registry(), context, events)?)
}
