//! Short-lived users made by a role's key alone: no registry is asked, and no event tells of them.
//!
//! Whether the key still has a role, and which, is the account's newest token's to say: a server that has it refuses such a
//! user where the key is not listed, and gives it the role's rights where it is.

use crate::jwt::{self, Body, Claims, ClaimsError, Grant, Unknown, Unsigned, User, validate};
use crate::nkey::{Kind, PublicKey};
use alloc::string::String;
use alloc::vec::Vec;

/// A user may live for so many seconds and no more: it is in no registry, and so nobody finds it to revoke it.
pub const MAX_TTL: i64 = 24 * 60 * 60;

/// What is to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedUser {
    /// Identity key of the account.
    pub account: PublicKey,
    /// The scoped key that signs.
    pub issuer: PublicKey,
    /// The user's key.
    pub user: PublicKey,
    /// A name for people, and for the role's template.
    pub name: String,
    /// Tags, as the role's template reads them.
    pub tags: Vec<String>,
    /// Now, in Unix seconds.
    pub issued_at: i64,
    /// Seconds that it lives.
    pub ttl: i64,
}

/// Why nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The lifetime.
    #[error(
        "a lifetime of {found} s: it must be 1 to {MAX_TTL} s, for nobody finds such a user to revoke it"
    )]
    Ttl {
        /// What was asked for.
        found: i64,
    },
    /// A key of another kind.
    #[error("the {member}'s key is one of a {found}")]
    Kind {
        /// `account`, `issuer` or `user`.
        member: &'static str,
        /// Its kind.
        found: Kind,
    },
    /// The account's own key signs for no role.
    #[error("{key} is the account's identity key: a role is granted by a signing key that has it")]
    Identity {
        /// The key.
        key: PublicKey,
    },
    /// The claims break a rule.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

impl IssueError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Kind { .. } => "key-kind",
            Self::Identity { .. } => "identity-key",
            Self::Claims(error) => error.code(),
        }
    }
}

/// The token of a user that carries no permissions: the role of the key that signs it has them.
///
/// # Errors
/// See [`IssueError`].
pub fn scoped_user(wanted: ScopedUser) -> Result<Unsigned, IssueError> {
    let ScopedUser { account, issuer, user, name, tags, issued_at, ttl } = wanted;
    for (member, key, kind) in
        [("account", account, Kind::Account), ("issuer", issuer, Kind::Account), ("user", user, Kind::User)]
    {
        if key.kind() != kind {
            return Err(IssueError::Kind { member, found: key.kind() });
        }
    }
    if issuer == account {
        return Err(IssueError::Identity { key: issuer });
    }
    if !(1..=MAX_TTL).contains(&ttl) {
        return Err(IssueError::Ttl { found: ttl });
    }
    let body =
        User { issuer_account: Some(account), grant: Grant::Scoped, tags, unknown: Unknown::default() };
    let claims = Claims {
        audience: String::new(),
        expires: issued_at.saturating_add(ttl),
        issued_at,
        issuer,
        name,
        not_before: 0,
        subject: user,
        body: Body::User(body),
        unknown: Unknown::default(),
    };
    validate(&claims)?;
    Ok(jwt::encode(&claims)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn wanted() -> ScopedUser {
        let key = |kind, byte| PublicKey::new(kind, [byte; 32]);
        ScopedUser {
            account: key(Kind::Account, 1),
            issuer: key(Kind::Account, 2),
            user: key(Kind::User, 3),
            name: "deploy".into(),
            tags: vec!["env:ci".into()],
            issued_at: 1_000_000,
            ttl: 900,
        }
    }

    #[test]
    fn a_token_without_permissions_that_ends() {
        let token = scoped_user(wanted()).unwrap();
        let claims = token.claims();
        assert_eq!((claims.issued_at, claims.expires, claims.not_before), (1_000_000, 1_000_900, 0));
        assert_eq!((claims.issuer, claims.subject), (wanted().issuer, wanted().user));
        let user = claims.body.as_user().unwrap();
        assert_eq!((user.issuer_account, &user.grant), (Some(wanted().account), &Grant::Scoped));
        assert_eq!(user.tags, ["env:ci"]);
    }

    #[test]
    fn what_is_refused() {
        for ttl in [i64::MIN, -1, 0, MAX_TTL + 1, i64::MAX] {
            assert_eq!(scoped_user(ScopedUser { ttl, ..wanted() }), Err(IssueError::Ttl { found: ttl }));
        }
        let issuer = wanted().account;
        let refused = scoped_user(ScopedUser { issuer, ..wanted() });
        assert_eq!(refused, Err(IssueError::Identity { key: issuer }));
        let user = wanted().account;
        let refused = scoped_user(ScopedUser { user, ..wanted() });
        assert_eq!(refused, Err(IssueError::Kind { member: "user", found: Kind::Account }));
        let refused = scoped_user(ScopedUser { tags: vec!["A b\n".into()], ..wanted() });
        assert!(matches!(refused, Err(IssueError::Claims(_))));
    }
}
