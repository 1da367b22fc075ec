//! Whether a user is let in, and under which conditions.

use super::answer::{Check, Condition, Rule, Step};
use super::grant::Grant;
use super::{Action, Parties, Question};
use crate::jwt;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, format};

/// What the tokens say.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    operator: &'a jwt::Operator,
    pub(super) account: &'a jwt::Claims,
    pub(super) account_body: &'a jwt::Account,
    pub(super) user: &'a jwt::Claims,
    pub(super) user_body: &'a jwt::User,
    /// Since when the registry has the user revoked.
    revoked: Option<i64>,
}

impl<'a> Claims<'a> {
    pub(super) fn of(parties: &Parties<'a>) -> Option<Self> {
        let (account, user) = (parties.account.token.claims(), parties.user.token.claims());
        let claims = Self {
            operator: parties.operator.token.claims().body.as_operator()?,
            account,
            account_body: account.body.as_account()?,
            user,
            user_body: user.body.as_user()?,
            revoked: parties.user.revoked_at,
        };
        (parties.user.account == parties.account.key).then_some(claims)
    }
}

/// Whether a server with these tokens takes the user's connection, permissions aside.
pub(super) fn let_in(claims: &Claims<'_>, at: i64, looked: &mut Vec<Step>) -> Result<(), Rule> {
    let mut look = |check, found: String| looked.push(Step { check, found });
    let (account, body, user) = (claims.account, claims.account_body, claims.user);
    if !claims.operator.signing_keys.contains(&account.issuer) {
        look(
            Check::AccountSigner,
            format!("the account's token is signed by {}, not listed", account.issuer),
        );
        return Err(Rule::AccountSigner { key: account.issuer });
    }
    look(Check::AccountSigner, "the operator lists the key that signed the account's token".to_owned());
    term(account, at)
        .map(|found| look(Check::AccountTerm, format!("the account's token {found}")))
        .map_err(|time| Rule::AccountTerm { time })?;
    if body.limits.conn == 0 {
        return Err(Rule::NoConnections);
    }
    look(Check::Connections, limit(body.limits.conn, "connections of the account"));
    let revocation = |who: &str| body.revocations.get(who).copied();
    let own = revocation(&user.subject.to_string()).into_iter().chain(claims.revoked).max();
    if let Some(time) = own.filter(|time| *time >= user.issued_at) {
        return Err(Rule::UserRevoked { time });
    }
    if let Some(time) = revocation("*").filter(|time| *time >= user.issued_at) {
        return Err(Rule::AllRevoked { time });
    }
    look(Check::Revocation, "neither the user nor all users of its time are revoked".to_owned());
    // The account's own key signs users as well, where the operator does not forbid it.
    let by_account = user.issuer == account.subject && !claims.operator.strict_signing_key_usage;
    if !by_account && !body.signing_keys.contains_key(&user.issuer) {
        return Err(Rule::SigningKey { key: user.issuer });
    }
    look(Check::SigningKey, "the account lists the key that signed the user's token".to_owned());
    term(user, at)
        .map(|found| look(Check::UserTerm, format!("the user's token {found}")))
        .map_err(|time| Rule::UserTerm { time })
}

/// How long a token holds, or the time that it has not reached or has passed.
fn term(claims: &jwt::Claims, at: i64) -> Result<String, i64> {
    match (claims.not_before, claims.expires) {
        (begin, _) if begin > at => Err(begin),
        (_, 0) => Ok("never ends".to_owned()),
        (_, end) if end <= at => Err(end),
        (_, end) => Ok(format!("ends at {end} (Unix seconds)")),
    }
}

pub(super) fn limit(limit: i64, what: &str) -> String {
    if limit < 0 { format!("{what}: no limit") } else { format!("{what}: at most {limit}") }
}

/// What else must hold for this user's connection and what it does there.
pub(super) fn conditions(claims: &Claims<'_>, grant: &Grant, question: &Question) -> Vec<Condition> {
    let mut list = Vec::new();
    let rights = &grant.rights;
    if !rights.allowed_connection_types.is_empty() {
        list.push(Condition::ConnectionTypes { types: rights.allowed_connection_types.clone() });
    }
    if !rights.src.is_empty() {
        list.push(Condition::Networks { networks: rights.src.clone() });
    }
    if !rights.times.is_empty() {
        let (times, location) = (rights.times.clone(), rights.times_location.clone());
        list.push(Condition::Times { times, location });
    }
    if rights.proxy_required {
        list.push(Condition::Proxy);
    }
    let ends = [claims.account.expires, claims.user.expires];
    list.extend(ends.into_iter().filter(|end| *end != 0).min().map(|time| Condition::Until { time }));
    let account = &claims.account_body.limits;
    match question.action {
        Action::Subscribe => {
            list.extend(lower(rights.subs, account.subs).map(|limit| Condition::Subscriptions { limit }))
        }
        Action::Publish => {
            list.extend(lower(rights.payload, account.payload).map(|limit| Condition::Payload { limit }));
        }
    }
    list
}

/// The limit that counts of a user's and its account's, where there is one.
pub(super) fn lower(user: i64, account: i64) -> Option<i64> {
    [user, account].into_iter().filter(|limit| *limit >= 0).min()
}
