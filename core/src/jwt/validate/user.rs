//! Users, by themselves and under their account.

use alloc::boxed::Box;
use alloc::string::String;

use super::super::account::{Account, Scope, SigningKey};
use super::super::subject::is_literal;
use super::super::template::{Variable, tag_values, variables};
use super::super::user::{Grant, User};
use super::super::{Claims, ClaimsError, Rule};
use super::rights::{self, Templates};
use super::{Place, need, text};

pub(super) fn validate(user: &User) -> Result<(), Box<ClaimsError>> {
    match &user.grant {
        Grant::Scoped => need(user.issuer_account.is_some(), Rule::Scoped).at("issuer_account")?,
        Grant::Own(rights) => rights::validate(rights, Templates::Plain)?,
    }
    text::tags(&user.tags)
}

pub(super) fn validate_scope(scope: &Scope) -> Result<(), Box<ClaimsError>> {
    text::name(&scope.role).at("role")?;
    need(scope.description.len() <= 8192, Rule::TooLong).at("description")?;
    rights::validate(&scope.template, Templates::Expanded).at("template")?;
    need(!scope.template.proxy_required, Rule::TemplateProxy).at("template.proxy_required")
}

/// Checks a user's claims against its account's: whether a server will let the user in, with the rights meant.
///
/// The signer must be the account (unless the operator is `strict`) or one of its signing keys; a scoped key signs
/// scoped users and only those; bearer tokens must not be disallowed; whatever a template inserts into subjects must
/// be one literal token.
///
/// # Errors
/// [`ClaimsError`]: [`Rule::Signer`], [`Rule::Scoped`], [`Rule::Bearer`], [`Rule::TemplateValue`] or
/// [`Rule::TemplateTag`].
pub fn validate_user(user: &Claims, account: &Claims, strict: bool) -> Result<(), ClaimsError> {
    Ok(fits(user, account, strict)?)
}

fn fits(user: &Claims, account: &Claims, strict: bool) -> Result<(), Box<ClaimsError>> {
    let (Some(body), Some(owner)) = (user.body.as_user(), account.body.as_account()) else {
        return Err(ClaimsError::member("type", Rule::Signer));
    };
    let scope = signer(user, body, account, owner, strict)?;
    match (scope, &body.grant) {
        (Some(_), Grant::Own(_)) | (None, Grant::Scoped) => {
            return Err(ClaimsError::member("iss", Rule::Scoped));
        }
        _ => {}
    }
    let rights = scope.map(|scope| &scope.template).or(body.grant.rights());
    let bearer = rights.is_some_and(|rights| rights.bearer_token);
    need(!(bearer && owner.limits.disallow_bearer), Rule::Bearer).at("bearer_token")?;
    let Some(scope) = scope else { return Ok(()) };
    let template = &scope.template;
    for (list, denies) in [
        (&template.publish.allow, false),
        (&template.publish.deny, true),
        (&template.subscribe.allow, false),
        (&template.subscribe.deny, true),
    ] {
        for entry in list {
            values(entry, denies, (user, body), (account, owner))?;
        }
    }
    Ok(())
}

fn signer<'a>(
    user: &Claims,
    body: &User,
    account: &Claims,
    owner: &'a Account,
    strict: bool,
) -> Result<Option<&'a Scope>, Box<ClaimsError>> {
    let named = body.issuer_account;
    if user.issuer == account.subject {
        need(!strict, Rule::Signer).at("iss")?;
        need(named.is_none_or(|named| named == account.subject), Rule::Signer).at("issuer_account")?;
        return Ok(None);
    }
    need(named == Some(account.subject), Rule::Signer).at("issuer_account")?;
    match owner.signing_keys.get(&user.issuer) {
        Some(key) => Ok(SigningKey::scope(key)),
        None => Err(ClaimsError::member("iss", Rule::Signer)),
    }
}

fn values(
    entry: &str,
    denies: bool,
    (user, body): (&Claims, &User),
    (account, owner): (&Claims, &Account),
) -> Result<(), Box<ClaimsError>> {
    for variable in variables(entry).map_err(|rule| ClaimsError::member(entry, rule))? {
        match variable {
            Variable::Name => need(is_token(&user.name), Rule::TemplateValue).at("name")?,
            Variable::AccountName => {
                need(is_token(&account.name), Rule::TemplateValue).at("account name")?;
            }
            // Public keys are literal tokens.
            Variable::Subject | Variable::AccountSubject => {}
            Variable::Tag(key) => tag(&body.tags, &key, denies).at("tags")?,
            Variable::AccountTag(key) => tag(&owner.tags, &key, denies).at("account tags")?,
        }
    }
    Ok(())
}

fn tag(tags: &[String], key: &str, denies: bool) -> Result<(), Rule> {
    need(tag_values(tags, key).all(is_token), Rule::TemplateValue)?;
    need(!denies || tag_values(tags, key).next().is_some(), Rule::TemplateTag)
}

/// One token: what is inserted must not widen the subject. Wildcards are refused inside a token too, where they might
/// end up alone.
fn is_token(value: &str) -> bool {
    is_literal(value) && !value.contains(['.', '*', '>'])
}
