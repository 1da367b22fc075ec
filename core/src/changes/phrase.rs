//! Words for a place at which two tokens differ.

use super::leaves::Leaf;
use super::second;
use crate::json::Json;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// What is said of one difference.
pub(super) struct Phrase {
    pub(super) who: String,
    pub(super) member: String,
    pub(super) before: Option<Json>,
    pub(super) after: Option<Json>,
    pub(super) words: String,
}

/// Puts a difference into words: one sentence, or one for each text that a list has more or less.
pub(super) fn phrases(who: &str, leaf: &Leaf) -> Vec<Phrase> {
    let member = leaf.path.join(".");
    let path: Vec<&str> = leaf.path.iter().map(String::as_str).collect();
    // Permissions stand in tokens of users, in roles and as an account's default.
    let (who, path) = match path.as_slice() {
        ["signing_keys", key, "template", rest @ ..] => {
            (format!("signing key {key} of {who}"), rest.to_vec())
        }
        ["default_permissions", rest @ ..] => {
            (format!("users of {who} without permissions of their own"), rest.to_vec())
        }
        all => (who.to_string(), all.to_vec()),
    };
    let phrase = |before: Option<Json>, after: Option<Json>, words: String| Phrase {
        who: who.clone(),
        member: member.clone(),
        before,
        after,
        words,
    };
    let (before, after) = (leaf.before.as_ref(), leaf.after.as_ref());
    if let (Some(was), Some(is)) = (texts(before), texts(after))
        && let Some(list) = list(&path)
    {
        return listed(&list, &was, &is)
            .into_iter()
            .map(|(before, after, words)| phrase(before.map(Json::Text), after.map(Json::Text), words))
            .collect();
    }
    let words = match single(&path, before, after) {
        Some(words) => words,
        None => went(&format!("'s {}", path.join(".")), before, after),
    };
    vec![phrase(before.cloned(), after.cloned(), words)]
}

/// What a list of texts is about.
struct List {
    /// Said of a text that came or went.
    came: &'static str,
    went: &'static str,
    /// Said where none of them means all: `may publish`, `on`.
    all: Option<(&'static str, &'static str)>,
}

fn list(path: &[&str]) -> Option<List> {
    let some = |came, went| List { came, went, all: None };
    Some(match path {
        ["pub", "allow"] => {
            List { came: "gained publish on", went: "lost publish on", all: Some(("may publish", "on")) }
        }
        ["sub", "allow"] => List {
            came: "gained subscribe to",
            went: "lost subscribe to",
            all: Some(("may subscribe", "to")),
        },
        ["pub", "deny"] => some("is denied publish on", "is no longer denied publish on"),
        ["sub", "deny"] => some("is denied subscribe to", "is no longer denied subscribe to"),
        ["src"] => List {
            came: "may connect from",
            went: "may no longer connect from",
            all: Some(("may connect", "from")),
        },
        ["allowed_connection_types"] => List {
            came: "may connect by",
            went: "may no longer connect by",
            all: Some(("may connect", "by")),
        },
        ["tags"] => some("gained the tag", "lost the tag"),
        ["signing_keys"] => some("gained the signing key", "lost the signing key"),
        ["operator_service_urls"] => some("gained the server", "lost the server"),
        ["authorization", "auth_users"] => {
            some("is authorized by the user", "is no longer authorized by the user")
        }
        ["authorization", "allowed_accounts"] => {
            some("lets its authorization place users in", "no longer lets its authorization place users in")
        }
        _ => return None,
    })
}

/// The texts of a list; one that is missing has none.
fn texts(list: Option<&Json>) -> Option<Vec<String>> {
    let Some(list) = list else { return Some(Vec::new()) };
    let Json::Array(items) = list else { return None };
    let text = |item: &Json| match item {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(text).collect()
}

type Said = (Option<String>, Option<String>, String);

fn listed(list: &List, was: &[String], is: &[String]) -> Vec<Said> {
    if let Some((verb, preposition)) = list.all {
        // An empty list of what is allowed is no less than a long one: it is everything, unless replies are permitted.
        let some = |texts: &[String]| format!("{preposition} {}", texts.join(", "));
        match (was.is_empty(), is.is_empty()) {
            (true, false) => {
                let words = format!("{verb} {} alone, where no list said so before", some(is));
                return vec![(None, Some(is.join(", ")), words)];
            }
            (false, true) => {
                let words = format!("{verb} as no list says any more, before {} alone", some(was));
                return vec![(Some(was.join(", ")), None, words)];
            }
            _ => {}
        }
    }
    let came = is.iter().filter(|text| !was.contains(text));
    let went = was.iter().filter(|text| !is.contains(text));
    let mut said: Vec<Said> = came
        .map(|text| (None, Some(text.clone()), format!("{} {text}", list.came)))
        .chain(went.map(|text| (Some(text.clone()), None, format!("{} {text}", list.went))))
        .collect();
    if said.is_empty() {
        let (was, is) = (was.join(", "), is.join(", "));
        let words = format!("has the same in another order: {is}, before {was}");
        said.push((Some(was), Some(is), words));
    }
    said
}

/// Words for a value.
fn single(path: &[&str], before: Option<&Json>, after: Option<&Json>) -> Option<String> {
    let number = |value: Option<&Json>| match value {
        None => Some(0),
        Some(Json::Number(number)) => number.as_str().parse::<i64>().ok(),
        Some(_) => None,
    };
    let numbers = number(before).zip(number(after));
    let on = after == Some(&Json::Bool(true));
    Some(match path {
        ["name"] => went("'s name", before, after),
        ["iss"] => format!("is vouched for by {}, before by {}", shown(after), shown(before)),
        ["exp"] => {
            let (was, is) = numbers?;
            format!("ends {}, before {}", end(is), end(was))
        }
        ["nbf"] => {
            let (was, is) = numbers?;
            let from = |at| if at == 0 { "at once".to_string() } else { second(at) };
            format!("begins {}, before {}", from(is), from(was))
        }
        ["limits", name] | [name] if limit(name).is_some() => limits(limit(name)?, "", numbers?),
        ["limits", "tiered_limits", tier, name] if limit(name).is_some() => {
            limits(limit(name)?, &format!(" in tier {tier}"), numbers?)
        }
        ["limits", name] | [name] if switch(name).is_some() => {
            format!("{} {}", if on { "now" } else { "no longer" }, switch(name)?)
        }
        ["revocations", user] => {
            let whose = if *user == "*" { "every user".to_string() } else { format!("user {user}") };
            match (before, after) {
                (_, None) => format!("no longer revokes {whose}"),
                _ => format!("revokes {whose}: what was issued until {} is dead", second(numbers?.1)),
            }
        }
        ["signing_keys", key] => match (before, after) {
            (None, Some(scope)) => format!("gained the signing key {key}{}", role(scope)),
            (Some(scope), None) => format!("lost the signing key {key}{}", role(scope)),
            (_, Some(scope)) if !role(scope).is_empty() => {
                format!("'s signing key {key} signs users{} alone now", role(scope))
            }
            _ => format!("'s signing key {key} signs users with rights of their own now"),
        },
        ["exports", what] => given("exports", what, before, after),
        ["imports", what] => given("imports", what, before, after),
        ["resp"] => match after {
            None => "may no longer answer on reply subjects".to_string(),
            Some(_) => went("'s permission to answer on reply subjects", before, after),
        },
        _ => return None,
    })
}

fn limits(what: &str, place: &str, (was, is): (i64, i64)) -> String {
    let shown = |limit| if limit == -1 { "unlimited".to_string() } else { format!("{limit}") };
    format!("'s limit of {what}{place} went from {} to {}", shown(was), shown(is))
}

fn limit(name: &str) -> Option<&'static str> {
    Some(match name {
        "subs" => "subscriptions of a connection",
        "data" => "bytes of data",
        "payload" => "bytes of a message",
        "imports" => "imports",
        "exports" => "exports",
        "conn" => "connections",
        "leaf" => "leaf nodes",
        "mem_storage" => "bytes in memory",
        "disk_storage" => "bytes on disk",
        "streams" => "streams",
        "consumer" => "consumers",
        "max_ack_pending" => "messages without acknowledgement",
        "mem_max_stream_bytes" => "bytes of a stream in memory",
        "disk_max_stream_bytes" => "bytes of a stream on disk",
        _ => return None,
    })
}

fn switch(name: &str) -> Option<&'static str> {
    Some(match name {
        "wildcards" => "exports wildcards",
        "disallow_bearer" => "refuses users with bearer tokens",
        "max_bytes_required" => "asks every stream for a limit in bytes",
        "bearer_token" => "connects with the token alone, without proof of the key",
        "proxy_required" => "connects through a trusted proxy only",
        "strict_signing_key_usage" => "lets signing keys alone sign accounts and users",
        _ => return None,
    })
}

fn role(scope: &Json) -> String {
    match scope {
        Json::Object(members) => match members.get("role") {
            Some(Json::Text(role)) => format!(" of the role {role}"),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn given(verb: &str, what: &str, before: Option<&Json>, after: Option<&Json>) -> String {
    match (before, after) {
        (None, _) => format!("{verb} the {what}"),
        (_, None) => format!("no longer {verb} the {what}"),
        _ => went(&format!("'s entry among {verb}, the {what},"), before, after),
    }
}

fn end(seconds: i64) -> String {
    if seconds == 0 { "never".to_string() } else { second(seconds) }
}

/// The words that every difference has.
fn went(what: &str, before: Option<&Json>, after: Option<&Json>) -> String {
    match (before, after) {
        (None, after) => format!("{what} was set to {}", shown(after)),
        (before, None) => format!("{what} was taken away, it was {}", shown(before)),
        (before, after) => format!("{what} went from {} to {}", shown(before), shown(after)),
    }
}

fn shown(value: Option<&Json>) -> String {
    match value {
        None => "nothing".to_string(),
        Some(Json::Text(text)) if text.is_empty() => "nothing".to_string(),
        Some(Json::Text(text)) => text.clone(),
        Some(value) => crate::json::to_text(value).unwrap_or_default(),
    }
}
