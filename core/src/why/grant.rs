//! Which permissions are a user's, and what they say of a subject.

use super::answer::{Check, Condition, Rule, Source, Step};
use super::entry::{Entry, covers, inside, overlaps};
use super::standing::{Claims, limit, lower};
use super::{Action, Question};
use crate::jwt::template::expand;
use crate::jwt::{self, Grant as Granted, PermissionList, ResponsePermission, SigningKey, UserRights};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The permissions of one user, as a server reckons them.
pub(super) struct Grant {
    pub(super) source: Source,
    /// Limits, and from where and when it may connect.
    pub(super) rights: UserRights,
    publish: PermissionList,
    subscribe: PermissionList,
    response: Option<ResponsePermission>,
}

/// What the permissions say of a subject.
pub(super) struct Judged {
    pub(super) rule: Rule,
    pub(super) withheld: Vec<String>,
    pub(super) not_by_older: Vec<String>,
}

/// A message of a responder, where nothing else is said; two minutes.
const ONE_REPLY: i64 = 1;
const REPLY_TTL: i64 = 120_000_000_000;

/// The user's permissions: those of its role or its own, else the account's for users without any.
pub(super) fn granted(claims: &Claims<'_>, looked: &mut Vec<Step>) -> Result<Grant, Rule> {
    let scope = claims.account_body.signing_keys.get(&claims.user.issuer).and_then(SigningKey::scope);
    let (rights, source) = match (scope, &claims.user_body.grant) {
        (Some(scope), Granted::Scoped) => {
            let (role, key) = (scope.role.clone(), claims.user.issuer);
            (scope.template.clone(), Source::Role { role, key })
        }
        (None, Granted::Own(rights)) => ((**rights).clone(), Source::Own),
        // Its role is gone: what is left are limits of nothing.
        (None, Granted::Scoped) => (UserRights::zero(), Source::Own),
        (Some(_), Granted::Own(_)) => return Err(Rule::Scope),
    };
    // A server ends the connection of who may have none at once.
    let subs = lower(rights.subs, claims.account_body.limits.subs);
    if subs == Some(0) {
        return Err(Rule::NoSubscriptions);
    }
    let found = limit(subs.unwrap_or(-1), "subscriptions of a connection");
    looked.push(Step { check: Check::Subscriptions, found });
    let mut grant = Grant {
        source,
        publish: rights.publish.clone(),
        subscribe: rights.subscribe.clone(),
        response: rights.response.clone(),
        rights,
    };
    if matches!(grant.source, Source::Role { .. }) {
        grant.publish = for_user(&grant.publish, claims)?;
        grant.subscribe = for_user(&grant.subscribe, claims)?;
    }
    let empty = |list: &PermissionList| list.allow.is_empty() && list.deny.is_empty();
    let nothing = empty(&grant.publish) && empty(&grant.subscribe) && grant.response.is_none();
    let found = match &grant.source {
        Source::Role { role, .. } => format!("in the role {role:?}"),
        _ => String::from("in the user's own token"),
    };
    if !nothing {
        looked.push(Step { check: Check::Permissions, found });
        return Ok(grant);
    }
    // Any permission counts as one: who may subscribe to one subject alone publishes everything, whatever the default.
    let defaults: &jwt::Permissions = &claims.account_body.default_permissions;
    let none = empty(&defaults.publish) && empty(&defaults.subscribe) && defaults.response.is_none();
    grant.source = if none { Source::None } else { Source::Default };
    grant.publish = defaults.publish.clone();
    grant.subscribe = defaults.subscribe.clone();
    grant.response = defaults.response.clone();
    let found =
        format!("none {found}, {} of the account", if none { "and no default" } else { "so the default" });
    looked.push(Step { check: Check::Permissions, found });
    Ok(grant)
}

/// A list of a role as it reads for this user. Where every allowed subject falls away, everything is denied.
fn for_user(list: &PermissionList, claims: &Claims<'_>) -> Result<PermissionList, Rule> {
    let allow = expand(&list.allow, claims.user, claims.account);
    let deny = expand(&list.deny, claims.user, claims.account);
    if let Some(entry) = deny.fallen.into_iter().next().or(allow.unknown).or(deny.unknown) {
        return Err(Rule::Template { entry });
    }
    let mut subjects = PermissionList { allow: allow.subjects, deny: deny.subjects, ..Default::default() };
    if !list.allow.is_empty() && subjects.allow.is_empty() {
        subjects.deny.push(String::from(">"));
    }
    Ok(subjects)
}

impl Grant {
    /// What the permissions say of the subject.
    pub(super) fn judge(&self, question: &Question, looked: &mut Vec<Step>) -> Judged {
        let mut look = |check, found: String| looked.push(Step { check, found });
        let decided = |rule| Judged { rule, withheld: Vec::new(), not_by_older: Vec::new() };
        let list = match question.action {
            Action::Publish => &self.publish,
            Action::Subscribe => &self.subscribe,
        };
        let allowed = match self.allowed(list, question) {
            Ok(rule) => rule,
            Err(rule) => {
                look(Check::Allow, format!("{} entries", list.allow.len()));
                return decided(rule);
            }
        };
        look(
            Check::Allow,
            match &allowed {
                Rule::Allow { entry } => format!("{entry:?} has it"),
                _ => String::from("no list, so everything"),
            },
        );
        if let Some(entry) = denied(list, question) {
            look(Check::Deny, format!("{entry:?} has it"));
            return decided(Rule::Deny { entry });
        }
        look(Check::Deny, format!("none of {} entries has it", list.deny.len()));
        let mut judged = decided(allowed);
        if question.action == Action::Subscribe {
            // Those of a queue hold back from subscriptions with it alone.
            let fits = |entry: &Entry<'_>| match (entry.queue, &question.queue) {
                (None, _) => true,
                (Some(_), Some(queue)) => entry.takes(queue),
                (Some(_), None) => false,
            };
            let held = list.deny.iter().map(|text| Entry::of(text)).filter(fits);
            let held: Vec<Entry<'_>> =
                held.filter(|entry| overlaps(entry.subject, &question.subject)).collect();
            // An older server looks at deliveries once an entry lies inside, and then at all of them without a queue.
            let looks = list.deny.iter().any(|entry| inside(entry, &question.subject));
            let older = held.iter().filter(|entry| !looks || entry.queue.is_some());
            judged.not_by_older = older.map(|entry| entry.text.into()).collect();
            judged.withheld = held.iter().map(|entry| entry.text.into()).collect();
        }
        judged
    }

    /// The rule by which the allow list has the subject, or why it has not.
    fn allowed(&self, list: &PermissionList, question: &Question) -> Result<Rule, Rule> {
        if list.allow.is_empty() {
            return match (question.action, &self.response, &self.source) {
                (Action::Publish, Some(_), _) => Err(Rule::RepliesOnly),
                (_, _, Source::None) => Ok(Rule::NoPermissions),
                _ => Ok(Rule::NoAllowList),
            };
        }
        let (plain, queues) = matching(&list.allow, question);
        if let (Some(queue), Some(first)) = (&question.queue, queues.first()) {
            // An entry with a queue decides over subscriptions with one, whatever entries without say.
            let fitting = queues.iter().find(|entry| entry.takes(queue));
            return match fitting {
                Some(entry) => Ok(Rule::Allow { entry: entry.text.into() }),
                None => Err(Rule::OtherQueue { entry: first.text.into() }),
            };
        }
        match plain.first() {
            Some(entry) => Ok(Rule::Allow { entry: entry.text.into() }),
            None => Err(Rule::NotAllowed),
        }
    }

    /// What it may publish though it may not.
    pub(super) fn replies(&self) -> Option<Condition> {
        let response = self.response.as_ref()?;
        let or = |value: i64, usual: i64| if value == 0 { usual } else { value };
        Some(Condition::Replies { max: or(response.max, ONE_REPLY), ttl: or(response.ttl, REPLY_TTL) })
    }
}

/// The entry that denies the subject.
fn denied(list: &PermissionList, question: &Question) -> Option<String> {
    let (plain, queues) = matching(&list.deny, question);
    let of_queue = |queue: &String| queues.iter().find(|entry| entry.takes(queue));
    plain.first().or_else(|| of_queue(question.queue.as_ref()?)).map(|entry| entry.text.into())
}

/// Entries that have the subject: without a queue, and with one.
fn matching<'a>(list: &'a [String], question: &Question) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    let entries = list.iter().map(|text| match question.action {
        Action::Subscribe => Entry::of(text),
        Action::Publish => Entry::whole(text),
    });
    entries.filter(|entry| covers(entry.subject, &question.subject)).partition(|entry| entry.queue.is_none())
}
