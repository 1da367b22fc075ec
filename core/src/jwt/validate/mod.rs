//! What claims must keep so that a server takes them and does what they say (`nats-identity` §6, §7, §9, §17).

mod account;
mod rights;
mod sharing;
mod text;
mod user;

use alloc::boxed::Box;
use alloc::string::String;

use super::operator::Operator;
use super::{Body, Claims, ClaimsError, Rule};
use crate::nkey::{Kind, PublicKey};

pub(super) use sharing::starred;
pub use user::validate_user;

/// Checks everything that can be said about claims by themselves; the first broken rule is named with its place.
///
/// Stricter than the reference where a server is, or where it would silently do something else. What depends on other
/// tokens is [`validate_user`]'s.
///
/// # Errors
/// [`ClaimsError`]
pub fn validate(claims: &Claims) -> Result<(), ClaimsError> {
    Ok(all(claims)?)
}

/// In a box on their way out: as each rule hands one on, the size of errors is felt.
fn all(claims: &Claims) -> Result<(), Box<ClaimsError>> {
    super::claims::check_kinds(claims)?;
    text::name(&claims.name).at("name")?;
    for (time, member) in [(claims.expires, "exp"), (claims.issued_at, "iat"), (claims.not_before, "nbf")] {
        need(time >= 0, Rule::Time).at(member)?;
    }
    let begin = claims.issued_at.max(claims.not_before);
    need(claims.expires == 0 || claims.expires > begin, Rule::Lifetime).at("exp")?;
    match &claims.body {
        Body::Operator(operator) => {
            operator.check_kinds()?;
            validate_operator(operator, &claims.subject)
        }
        Body::Account(account) => {
            account.check_kinds()?;
            account::validate(account, &claims.subject)
        }
        Body::User(user) => {
            user.check_kinds()?;
            user::validate(user)
        }
    }
}

fn validate_operator(operator: &Operator, subject: &PublicKey) -> Result<(), Box<ClaimsError>> {
    for (index, key) in operator.signing_keys.iter().enumerate() {
        let twice = operator.signing_keys.iter().take(index).any(|other| other == key);
        need(!twice, Rule::DuplicateKey)
            .and(need(key != subject, Rule::OwnKey))
            .item("signing_keys", index)?;
    }
    let address = &operator.account_server_url;
    need(address.is_empty() || text::Url::parse(address).is_some(), Rule::Url).at("account_server_url")?;
    for (index, address) in operator.operator_service_urls.iter().enumerate() {
        let good = text::Url::parse(address).is_some_and(|url| {
            matches!(url.scheme, "nats" | "tls" | "ws" | "wss") && !url.has_user && url.rest.is_empty()
        });
        need(good, Rule::ServiceUrl).item("operator_service_urls", index)?;
    }
    let version = &operator.assert_server_version;
    need(version.is_empty() || text::is_version(version), Rule::Version).at("assert_server_version")?;
    text::tags(&operator.tags)
}

const fn need(good: bool, rule: Rule) -> Result<(), Rule> {
    if good { Ok(()) } else { Err(rule) }
}

/// A key of this kind, or `*` for everybody.
fn key_or_all(text: &str, kind: Kind) -> Result<(), Rule> {
    let is_key = text.parse::<PublicKey>().is_ok_and(|key| key.kind() == kind);
    need(text == "*" || is_key, Rule::Key)
}

/// Names the place of a broken rule, from the inside out.
trait Place {
    fn at(self, member: &str) -> Result<(), Box<ClaimsError>>;
    fn item(self, list: &str, index: usize) -> Result<(), Box<ClaimsError>>;
}

impl Place for Result<(), Rule> {
    fn at(self, member: &str) -> Result<(), Box<ClaimsError>> {
        self.map_err(|rule| ClaimsError::member(member, rule))
    }

    fn item(self, list: &str, index: usize) -> Result<(), Box<ClaimsError>> {
        self.map_err(|rule| ClaimsError::member(&element(list, index), rule))
    }
}

impl Place for Result<(), Box<ClaimsError>> {
    fn at(self, outer: &str) -> Result<(), Box<ClaimsError>> {
        self.map_err(|error| further_out(error, outer))
    }

    fn item(self, list: &str, index: usize) -> Result<(), Box<ClaimsError>> {
        self.map_err(|error| further_out(error, &element(list, index)))
    }
}

#[cold]
#[inline(never)]
fn further_out(mut error: Box<ClaimsError>, outer: &str) -> Box<ClaimsError> {
    if let ClaimsError::Member { member, .. } = &mut *error {
        let dot = if member.is_empty() { "" } else { "." };
        *member = [outer, dot, member].concat();
    }
    error
}

#[cold]
#[inline(never)]
fn element(list: &str, index: usize) -> String {
    alloc::format!("{list}[{index}]")
}

#[cfg(test)]
mod tests;
