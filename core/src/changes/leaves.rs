//! Where two JSON values differ.

use crate::json::Json;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A place at which they differ.
pub(super) struct Leaf {
    /// Names of members from the outside in; of a list's items what they are known by.
    pub(super) path: Vec<String>,
    pub(super) before: Option<Json>,
    pub(super) after: Option<Json>,
}

/// All places at which two values differ. A list of texts is one place.
pub(super) fn leaves(before: &Json, after: &Json) -> Vec<Leaf> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(path: &mut Vec<String>, before: Option<&Json>, after: Option<&Json>, found: &mut Vec<Leaf>) {
    if before == after {
        return;
    }
    let keys = path.last().is_some_and(|name| name == "signing_keys");
    let none = BTreeMap::new;
    let members = match (before, after) {
        // A key that got a scope, or lost it, is told as a whole.
        (Some(Json::Object(before)), Some(Json::Object(after))) => {
            let is_key = path.iter().rev().nth(1).is_some_and(|name| name == "signing_keys");
            let whole = is_key && before.is_empty() != after.is_empty();
            (!whole).then(|| (before.clone(), after.clone()))
        }
        (Some(Json::Array(before)), Some(Json::Array(after))) => known(before, keys).zip(known(after, keys)),
        (Some(Json::Array(before)), None) => known(before, keys).map(|before| (before, none())),
        (None, Some(Json::Array(after))) => known(after, keys).map(|after| (none(), after)),
        // Where there is nothing there are no members either.
        (None, Some(Json::Object(after))) if is_map(path) => Some((none(), after.clone())),
        (Some(Json::Object(before)), None) if is_map(path) => Some((before.clone(), none())),
        _ => None,
    };
    // A map without members is none.
    if is_map(path) && members.as_ref().is_some_and(|(before, after)| before == after) {
        return;
    }
    let Some((before, after)) = members.filter(|(before, after)| before != after) else {
        found.push(Leaf { path: path.clone(), before: before.cloned(), after: after.cloned() });
        return;
    };
    let mut names: Vec<&String> = before.keys().collect();
    names.extend(after.keys().filter(|name| !before.contains_key(*name)));
    for name in names {
        path.push(name.clone());
        compare(path, before.get(name), after.get(name), found);
        path.pop();
    }
}

/// Objects whose members are told one by one, where they came or went as a whole too.
fn is_map(path: &[String]) -> bool {
    let name = path.last().map(String::as_str);
    path.len() == 1
        && matches!(name, Some("pub" | "sub" | "revocations" | "mappings" | "limits" | "authorization"))
        || path.len() == 2 && name == Some("tiered_limits")
}

/// Items of a list by what they are known by. None for a list of texts, unless those are `keys` among which objects may be,
/// and where two are known by the same.
fn known(items: &[Json], keys: bool) -> Option<BTreeMap<String, Json>> {
    let is_key = |item: &Json| matches!(item, Json::Text(text) if text.starts_with('A'));
    let some = |is: &dyn Fn(&Json) -> bool| items.iter().any(is);
    if some(&|item| matches!(item, Json::Text(_)) && !(keys && is_key(item))) {
        return None;
    }
    let mut map = BTreeMap::new();
    for item in items {
        let (name, value) = match item {
            Json::Text(text) => (text.clone(), Json::Object(BTreeMap::new())),
            Json::Object(members) => (name(members)?, item.clone()),
            _ => return None,
        };
        if map.insert(name, value).is_some() {
            return None;
        }
    }
    Some(map)
}

/// What an object in a list is known by.
fn name(members: &BTreeMap<String, Json>) -> Option<String> {
    let text = |name: &str| match members.get(name) {
        Some(Json::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    if let Some(key) = text("key") {
        return Some(key.to_string());
    }
    if let (Some(start), Some(end)) = (text("start"), text("end")) {
        return Some(format!("{start} to {end}"));
    }
    let mut name = text("subject")?.to_string();
    if let Some(kind) = text("type") {
        name = format!("{kind} {name}");
    }
    if let Some(account) = text("account") {
        name.push_str(&format!(" from {account}"));
    }
    if let Some(local) = text("local_subject").or_else(|| text("to")) {
        name.push_str(&format!(" as {local}"));
    }
    if let Some(cluster) = text("cluster") {
        name.push_str(&format!(" in cluster {cluster}"));
    }
    Some(name)
}
