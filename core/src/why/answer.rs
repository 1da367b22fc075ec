//! What the answer consists of.

use crate::jwt::{ShareKind, TimeRange};
use crate::nkey::PublicKey;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// Whether a user may do what was asked, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The verdict.
    pub allowed: bool,
    /// The one rule that decides.
    pub rule: Rule,
    /// Where the permissions stand that were looked at; none where the user is not let in at all.
    pub source: Option<Source>,
    /// Denied subjects that overlap the subscription's: what is published to those is not delivered to it.
    pub withheld: Vec<String>,
    /// Those of them that an older server (2.12.1 was measured) delivers all the same.
    pub not_by_older: Vec<String>,
    /// What must hold as well; where it is denied, what is allowed in spite of that.
    pub conditions: Vec<Condition>,
    /// What the account imports under the subject.
    pub imports: Vec<Import>,
    /// What was looked at, in order, up to what decided.
    pub looked: Vec<Step>,
}

impl Answer {
    pub(super) fn refused(rule: Rule, looked: Vec<Step>) -> Self {
        Self {
            allowed: false,
            rule,
            source: None,
            withheld: Vec::new(),
            not_by_older: Vec::new(),
            conditions: Vec::new(),
            imports: Vec::new(),
            looked,
        }
    }
}

/// What decides. Times in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Rule {
    /// Denied: the operator lists the key no more that signed the account's token.
    AccountSigner {
        /// That key.
        key: PublicKey,
    },
    /// Denied: the account's token has not begun or has ended.
    AccountTerm {
        /// When.
        time: i64,
    },
    /// Denied: the account takes no connections.
    NoConnections,
    /// Denied: the user is revoked.
    UserRevoked {
        /// Tokens issued until then are refused.
        time: i64,
    },
    /// Denied: the account revokes all users (`*`) whose token is as old.
    AllRevoked {
        /// Tokens issued until then are refused.
        time: i64,
    },
    /// Denied: the account lists the key no more that signed the user's token.
    SigningKey {
        /// That key.
        key: PublicKey,
    },
    /// Denied: the user's token has not begun or has ended.
    UserTerm {
        /// When.
        time: i64,
    },
    /// Denied: the user has permissions of its own, and the key that signed its token has a role.
    Scope,
    /// Denied: an entry of the role does not become a subject for this user, so a server refuses the connection.
    Template {
        /// The entry as it stands in the role.
        entry: String,
    },
    /// Denied: it may have no subscription, and a server ends such a connection, whatever it is there for.
    NoSubscriptions,
    /// Denied by an entry of the deny list.
    Deny {
        /// The entry, as it reads for this user.
        entry: String,
    },
    /// Denied: no entry of the allow list has it.
    NotAllowed,
    /// Denied by an entry for other queue groups of the subject: it counts for every subscription with a queue.
    OtherQueue {
        /// The entry.
        entry: String,
    },
    /// Denied: who may answer requests, and has no allow list, may publish nothing else.
    RepliesOnly,
    /// Allowed by an entry of the allow list.
    Allow {
        /// The entry, as it reads for this user.
        entry: String,
    },
    /// Allowed: there is no allow list, and nothing denies it.
    NoAllowList,
    /// Allowed: there are no permissions anywhere, so nothing is forbidden.
    NoPermissions,
}

impl Rule {
    /// Whether it allows.
    #[must_use]
    pub fn allows(&self) -> bool {
        matches!(self, Self::Allow { .. } | Self::NoAllowList | Self::NoPermissions)
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccountSigner { .. } => "account-signer",
            Self::AccountTerm { .. } => "account-term",
            Self::NoConnections => "no-connections",
            Self::UserRevoked { .. } => "user-revoked",
            Self::AllRevoked { .. } => "all-revoked",
            Self::SigningKey { .. } => "signing-key",
            Self::UserTerm { .. } => "user-term",
            Self::Scope => "scope",
            Self::Template { .. } => "template",
            Self::NoSubscriptions => "no-subscriptions",
            Self::Deny { .. } => "deny",
            Self::NotAllowed => "not-allowed",
            Self::OtherQueue { .. } => "other-queue",
            Self::RepliesOnly => "replies-only",
            Self::Allow { .. } => "allow",
            Self::NoAllowList => "no-allow-list",
            Self::NoPermissions => "no-permissions",
        }
    }
}

/// Where permissions stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// In the user's own token.
    Own,
    /// In the role of the scoped key that signed the user's token.
    Role {
        /// The role's name.
        role: String,
        /// The key.
        key: PublicKey,
    },
    /// In the account, for users whose own token or role has none.
    Default,
    /// Nowhere.
    None,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What.
    pub check: Check,
    /// What was found, in words.
    pub found: String,
}

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether the operator lists the key that signed the account's token.
    AccountSigner,
    /// Whether the account's token holds at that time.
    AccountTerm,
    /// Whether the account takes connections.
    Connections,
    /// Whether the user is revoked.
    Revocation,
    /// Whether the account lists the key that signed the user's token.
    SigningKey,
    /// Whether the user's token holds at that time.
    UserTerm,
    /// How many subscriptions it may have.
    Subscriptions,
    /// Where the permissions stand.
    Permissions,
    /// The allow list.
    Allow,
    /// The deny list.
    Deny,
}

/// What must hold as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Condition {
    /// It connects in one of these ways.
    ConnectionTypes {
        /// STANDARD, WEBSOCKET, …
        types: Vec<String>,
    },
    /// It connects from one of these networks.
    Networks {
        /// In CIDR notation.
        networks: Vec<String>,
    },
    /// It is one of these times of day.
    Times {
        /// The times.
        times: Vec<TimeRange>,
        /// The zone they are in; empty is the server's.
        location: String,
    },
    /// It connects through a trusted proxy.
    Proxy,
    /// It is before this time, when a token ends.
    Until {
        /// Unix seconds.
        time: i64,
    },
    /// The connection has fewer subscriptions than this.
    Subscriptions {
        /// How many.
        limit: i64,
    },
    /// The message has at most so many bytes.
    Payload {
        /// How many.
        limit: i64,
    },
    /// Allowed though denied: as an answer to a request that it was sent.
    Replies {
        /// Messages for each request; -1 no limit.
        max: i64,
        /// For how long, in nanoseconds.
        ttl: i64,
    },
}

/// A subject that the account takes from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Stream or service.
    pub kind: ShareKind,
    /// What it is called here.
    pub local: String,
    /// The account that exports it.
    pub account: PublicKey,
    /// What it is called there.
    pub subject: String,
}
