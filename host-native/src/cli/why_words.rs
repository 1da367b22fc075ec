//! The answers of `why` in plain words.

use super::entities::PENDING;
use super::output::printable;
use cim_keys_core::time::Timestamp;
use cim_keys_core::why::{Action, Answer, Condition, Question, Rule, Source};

/// What an answer is told with.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) user: &'a str,
    pub(super) account: &'a str,
    pub(super) question: &'a Question,
    pub(super) answer: &'a Answer,
    pub(super) confirmed: bool,
}

/// The whole answer, a line for each thing.
pub(super) fn text(parts: Parts<'_>) -> String {
    let answer = parts.answer;
    let mut lines = vec![(if answer.allowed { "ALLOWED" } else { "DENIED" }, verdict(parts))];
    lines.push(("rule", rule(parts)));
    lines.extend(answer.source.as_ref().map(|source| ("where", place(source, parts.account))));
    let label = if answer.allowed { "only" } else { "but" };
    lines.extend(answer.conditions.iter().map(|one| (label, condition(one))));
    lines.extend(withheld(answer).map(|words| ("but", words)));
    for import in &answer.imports {
        let taken = match parts.question.action {
            Action::Publish => "goes to",
            Action::Subscribe => "comes from",
        };
        let (local, subject) = (&import.local, &import.subject);
        lines.push((
            "import",
            format!(
                "{local} {taken} the account {} as {subject}: whether that takes part is its own matter",
                import.account
            ),
        ));
    }
    if !parts.confirmed {
        lines.push((
            "state",
            format!("{PENDING}: no server need know of it yet, `cim-keys sync` publishes it"),
        ));
    }
    lines.extend(answer.looked.iter().map(|step| ("looked at", step.found.clone())));
    lines.iter().map(|(name, value)| format!("{name:<10} {}\n", printable(value))).collect()
}

/// Who may or may not do what, in one sentence.
pub(super) fn verdict(parts: Parts<'_>) -> String {
    let Parts { user, account, question, answer, .. } = parts;
    let not = if answer.allowed { "" } else { " not" };
    let queue =
        question.queue.as_ref().map(|queue| format!(" in the queue group {queue}")).unwrap_or_default();
    format!("{user} of {account} may{not} {} {}{queue}: {}", may(question), question.subject, rule(parts))
}

/// What it is about.
pub(super) fn may(question: &Question) -> &'static str {
    match question.action {
        Action::Publish => "publish to",
        Action::Subscribe => "subscribe to",
    }
}

/// The rule that decides.
pub(super) fn rule(parts: Parts<'_>) -> String {
    let source = parts.answer.source.as_ref();
    let place = source.map(|source| place(source, parts.account)).unwrap_or_default();
    match &parts.answer.rule {
        Rule::AccountSigner { key } => {
            format!("the account's token is signed by {key}, which the operator lists no more")
        }
        Rule::AccountTerm { time } => format!("the account's token does not hold: {}", instant(*time)),
        Rule::NoConnections => "the account takes no connections (limit 0)".to_owned(),
        Rule::UserRevoked { time } => format!("the user is revoked: tokens issued until {}", instant(*time)),
        Rule::AllRevoked { time } => {
            format!("the account revokes all users (*): tokens issued until {}", instant(*time))
        }
        Rule::SigningKey { key } => {
            format!("the user's token is signed by {key}, which the account lists no more")
        }
        Rule::UserTerm { time } => format!("the user's token does not hold: {}", instant(*time)),
        Rule::Scope => "the user has permissions of its own, and its signing key has a role".to_owned(),
        Rule::Template { entry } => {
            format!("{entry:?} of the role becomes no subject for this user: a server refuses it")
        }
        Rule::NoSubscriptions => "its limit of subscriptions is 0: a server ends the connection".to_owned(),
        Rule::Deny { entry } => format!("deny {entry:?} {place}"),
        Rule::NotAllowed => format!("no allowed subject has it {place}"),
        Rule::OtherQueue { entry } => format!("{entry:?} allows it to other queue groups alone {place}"),
        Rule::RepliesOnly => format!("it may answer requests, and nothing else is allowed {place}"),
        Rule::Allow { entry } => format!("allow {entry:?} {place}"),
        Rule::NoAllowList => format!("everything is allowed that is not denied {place}"),
        Rule::NoPermissions => "nothing is said of permissions anywhere, so everything is allowed".to_owned(),
    }
}

/// Where permissions stand.
fn place(source: &Source, account: &str) -> String {
    match source {
        Source::Own => "in the user's own permissions".to_owned(),
        Source::Role { role, .. } => format!("in the role {role} of the account {account}"),
        Source::Default => format!("in the default permissions of the account {account}"),
        Source::None => "nowhere".to_owned(),
    }
}

/// What must hold as well.
pub(super) fn condition(condition: &Condition) -> String {
    match condition {
        Condition::ConnectionTypes { types } => format!("connected by {}", types.join(" or ")),
        Condition::Networks { networks } => format!("from {}", networks.join(" or ")),
        Condition::Times { times, location } => {
            let times: Vec<String> =
                times.iter().map(|range| format!("{} to {}", range.start, range.end)).collect();
            let zone = if location.is_empty() { "the server's zone" } else { location };
            format!("at {} ({zone})", times.join(" or "))
        }
        Condition::Proxy => "through a trusted proxy".to_owned(),
        Condition::Until { time } => format!("until {}", instant(*time)),
        Condition::Subscriptions { limit } => format!("with at most {limit} subscriptions of the connection"),
        Condition::Payload { limit } => format!("up to {limit} bytes a message"),
        Condition::Replies { max, ttl } => {
            let count =
                if *max < 0 { "any number of messages".to_owned() } else { format!("{max} messages") };
            let seconds = std::time::Duration::from_nanos(u64::try_from(*ttl).unwrap_or(0));
            format!("as an answer to a request that it got, {count} for each within {seconds:?}")
        }
    }
}

/// What a subscription is not sent.
pub(super) fn withheld(answer: &Answer) -> Option<String> {
    if answer.withheld.is_empty() {
        return None;
    }
    let older =
        if answer.not_by_older.is_empty() { "" } else { " (older servers, such as 2.12, deliver it)" };
    Some(format!("not sent what is published to {}{older}", answer.withheld.join(", ")))
}

fn instant(seconds: i64) -> String {
    let time = Timestamp::from_millis(seconds.saturating_mul(1000));
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
