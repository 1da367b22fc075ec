//! Variables in the permissions of a scoped signing key's template (`nats-identity` §9).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::subject::valid_subject;
use super::{Claims, Rule};

/// A variable of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `{{name()}}`: the user's name.
    Name,
    /// `{{subject()}}`: the user's public key.
    Subject,
    /// `{{account-name()}}`: the account's name.
    AccountName,
    /// `{{account-subject()}}`: the account's public key.
    AccountSubject,
    /// `{{tag(key)}}`: what stands behind `key:` in a tag of the user.
    Tag(String),
    /// `{{account-tag(key)}}`: what stands behind `key:` in a tag of the account.
    AccountTag(String),
}

/// The variables of an entry, in order.
///
/// # Errors
/// [`Rule::Template`] for an operation that no server knows: it would refuse the connection.
pub fn variables(entry: &str) -> Result<Vec<Variable>, Rule> {
    split(entry).map(|(variables, _)| variables)
}

/// A list of a template, as it reads for one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The subjects.
    pub subjects: Vec<String>,
    /// Entries that became no subject: of allowed ones a server takes no notice, for denied ones it refuses the connection.
    pub fallen: Vec<String>,
    /// The first entry that no server understands.
    pub unknown: Option<String>,
}

/// Sets a user's and its account's own values into the entries of a template: one subject for each value of a tag. As a
/// server does it: where no entry has a variable the list stays as it is, else each must become a subject, without a queue.
pub fn expand(list: &[String], user: &Claims, account: &Claims) -> Expanded {
    if !list.iter().any(|entry| entry.contains("{{")) {
        return Expanded { subjects: list.to_vec(), ..Expanded::default() };
    }
    let mut expanded = Expanded::default();
    for entry in list {
        let Ok(mut subjects) = variants(entry, user, account) else {
            expanded.unknown.get_or_insert_with(|| entry.clone());
            continue;
        };
        let all = subjects.len();
        subjects.retain(|subject| valid_subject(subject));
        if subjects.len() < all {
            expanded.fallen.push(entry.clone());
        }
        expanded.subjects.append(&mut subjects);
    }
    expanded
}

/// What an entry becomes, for each combination of values of its tags: nothing where a tag has none.
fn variants(entry: &str, user: &Claims, account: &Claims) -> Result<Vec<String>, Rule> {
    let tags = |claims: &Claims, key: &str| -> Vec<String> {
        let body = &claims.body;
        let user = body.as_user().map(|user| &user.tags);
        let tags = user.or(body.as_account().map(|account| &account.tags)).map(Vec::as_slice);
        tag_values(tags.unwrap_or_default(), key).map(ToString::to_string).collect()
    };
    let mut variants = Vec::from([entry.to_string()]);
    let mut rest = entry;
    while let Some((_, behind)) = rest.split_once("{{") {
        let (inside, after) = behind.split_once("}}").ok_or(Rule::Template)?;
        let values = match variable(inside)? {
            Variable::Name => Vec::from([user.name.clone()]),
            Variable::Subject => Vec::from([user.subject.to_string()]),
            Variable::AccountName => Vec::from([account.name.clone()]),
            Variable::AccountSubject => Vec::from([account.subject.to_string()]),
            Variable::Tag(key) => tags(user, &key),
            Variable::AccountTag(key) => tags(account, &key),
        };
        let written = ["{{", inside, "}}"].concat();
        let set = |variant: &String| {
            values.iter().map(|value| variant.replace(&written, value)).collect::<Vec<String>>()
        };
        variants = variants.iter().flat_map(set).collect();
        rest = after;
    }
    Ok(variants)
}

/// The variables, and the entry with a plain token in the place of each.
pub(super) fn split(entry: &str) -> Result<(Vec<Variable>, String), Rule> {
    let mut variables = Vec::new();
    let mut plain = String::new();
    let mut rest = entry;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (inside, after) = behind.split_once("}}").ok_or(Rule::Template)?;
        variables.push(variable(inside)?);
        plain.push_str(before);
        plain.push('x');
        rest = after;
    }
    plain.push_str(rest);
    if plain.contains("}}") { Err(Rule::Template) } else { Ok((variables, plain)) }
}

fn variable(inside: &str) -> Result<Variable, Rule> {
    let inside = inside.trim();
    match inside.to_ascii_lowercase().as_str() {
        "name()" => return Ok(Variable::Name),
        "subject()" => return Ok(Variable::Subject),
        "account-name()" => return Ok(Variable::AccountName),
        "account-subject()" => return Ok(Variable::AccountSubject),
        _ => {}
    }
    // A server compares tag keys with the lower-cased one, and strips `tag(` only when it is written like that.
    let key = |prefix: &str| {
        inside.strip_prefix(prefix)?.strip_suffix(')').filter(|key| {
            !key.is_empty() && !key.contains(['(', ')', ':', ' ', '{', '}']) && *key == key.to_lowercase()
        })
    };
    if let Some(key) = key("tag(") {
        return Ok(Variable::Tag(key.to_string()));
    }
    key("account-tag(").map(|key| Variable::AccountTag(key.to_string())).ok_or(Rule::Template)
}

/// The values of a tag key: the rest of each tag that starts with `key:`.
pub(super) fn tag_values<'a>(tags: &'a [String], key: &'a str) -> impl Iterator<Item = &'a str> {
    tags.iter().filter_map(move |tag| tag.strip_prefix(key)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::jwt::{Account, Body, Unknown, User};
    use crate::nkey::{Kind, PublicKey};

    #[test]
    fn variables_are_found() {
        assert_eq!(
            variables("a.{{name()}}.{{ Account-Subject() }}.{{tag(team)}}.>"),
            Ok(vec![Variable::Name, Variable::AccountSubject, Variable::Tag("team".to_string())])
        );
        assert_eq!(variables("_INBOX_{{subject()}}.>"), Ok(vec![Variable::Subject]));
        assert_eq!(variables("a.*.>"), Ok(vec![]));
        assert_eq!(split("a.{{account-tag(x)}}.b{{account-name()}}").unwrap().1, "a.x.bx");
    }

    #[test]
    fn entries_are_expanded_as_a_server_does_it() {
        let key = |kind, byte| PublicKey::new(kind, [byte; 32]);
        let claims = |subject, name: &str, body| Claims {
            audience: String::new(),
            expires: 0,
            issued_at: 1,
            issuer: key(Kind::Account, 9),
            name: name.into(),
            not_before: 0,
            subject,
            body,
            unknown: Unknown::default(),
        };
        let tags = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<String>>();
        let body = User { tags: tags(&["t:1", "t:2", "u:x y"]), ..User::default() };
        let user = claims(key(Kind::User, 1), "ann", Body::User(body));
        let body = Account { tags: tags(&["z:3"]), ..Account::default() };
        let account = claims(key(Kind::Account, 2), "TEAM", Body::Account(body.into()));
        let all = |list: &[&str]| expand(&tags(list), &user, &account);
        let subject = user.subject.to_string();
        for (entry, subjects) in [
            ("{{name()}}.>", tags(&["ann.>"])),
            ("_INBOX_{{subject()}}.>", tags(&[&["_INBOX_", &subject, ".>"].concat()])),
            (
                "{{account-name()}}.{{ account-subject() }}",
                tags(&[&["TEAM.", &account.subject.to_string()].concat()]),
            ),
            ("a.{{tag(t)}}.{{account-tag(z)}}", tags(&["a.1.3", "a.2.3"])),
            ("a.{{tag(none)}}", tags(&[])),
        ] {
            let expanded = all(&[entry]);
            assert_eq!((expanded.subjects, expanded.fallen), (subjects, tags(&[])), "{entry}");
        }
        // A list without variables stays as it is; beside one, what is no subject falls away.
        assert_eq!(all(&["a q"]).subjects, ["a q"]);
        let mixed = all(&["a q", "{{name()}}", "b.{{tag(u)}}"]);
        assert_eq!((mixed.subjects, mixed.fallen), (tags(&["ann"]), tags(&["a q", "b.{{tag(u)}}"])));
        assert_eq!(all(&["{{nobody()}}"]).unknown.as_deref(), Some("{{nobody()}}"));
    }

    #[test]
    fn what_no_server_knows_is_refused() {
        for entry in [
            "{{}}",
            "{{names()}}",
            "{{name}}",
            "{{tag()}}",
            "{{tag(Team)}}",
            "{{TAG(team)}}",
            "{{name()",
            "name()}}",
            "{{tag(a}}",
            "{{tag(a:b)}}",
            "{{{name()}}}",
            "{{time()}}",
            "{{tag(a) }b}}",
        ] {
            assert_eq!(variables(entry), Err(Rule::Template), "{entry}");
        }
    }
}
