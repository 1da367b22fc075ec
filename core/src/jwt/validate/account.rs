//! Accounts: limits, keys, mappings, authorization, trace.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use super::super::account::{Account, Authorization, SigningKey, Trace, WeightedMapping};
use super::super::limits::{AccountLimits, JetStreamLimits};
use super::super::subject::{is_literal, valid_subject};
use super::super::{ClaimsError, Rule};
use super::rights::{Templates, permissions};
use super::{Place, key_or_all, need, sharing, text, user};
use crate::nkey::{Kind, PublicKey};

pub(super) fn validate(account: &Account, subject: &PublicKey) -> Result<(), Box<ClaimsError>> {
    limits(&account.limits).at("limits")?;
    sharing::imports(&account.imports, subject)?;
    sharing::exports(&account.exports)?;
    let fits =
        |limit: i64, count: usize| limit == -1 || i64::try_from(count).is_ok_and(|count| count <= limit);
    need(fits(account.limits.imports, account.imports.len()), Rule::TooMany).at("imports")?;
    need(fits(account.limits.exports, account.exports.len()), Rule::TooMany).at("exports")?;
    if !account.limits.wildcards {
        // The reference looks only when exports are counted; a server never does.
        for (index, export) in account.exports.iter().enumerate() {
            need(is_literal(&export.subject), Rule::WildcardExport).item("exports", index)?;
        }
    }
    for (index, (key, value)) in account.signing_keys.iter().enumerate() {
        need(key != subject, Rule::OwnKey).item("signing_keys", index)?;
        if let SigningKey::Scoped(scope) = value {
            user::validate_scope(scope).item("signing_keys", index)?;
        }
    }
    revocations(&account.revocations, Kind::User)?;
    let defaults = &account.default_permissions;
    permissions(&defaults.publish, &defaults.subscribe, &defaults.response, Templates::Plain)
        .at("default_permissions")?;
    for (source, destinations) in &account.mappings {
        mapping(source, destinations).at(source).at("mappings")?;
    }
    authorization(&account.authorization).at("authorization")?;
    if let Some(Trace { dest, sampling, .. }) = &account.trace {
        need(valid_subject(dest), Rule::Subject)
            .and(need(is_literal(dest), Rule::Wildcard))
            .at("trace.dest")?;
        need((0..=100).contains(sampling), Rule::Percent).at("trace.sampling")?;
    }
    text::info(&account.description, &account.info_url)?;
    text::tags(&account.tags)
}

pub(super) fn revocations(revocations: &BTreeMap<String, i64>, kind: Kind) -> Result<(), Box<ClaimsError>> {
    revocations.iter().try_for_each(|(key, time)| {
        key_or_all(key, kind).and(need(*time >= 0, Rule::Time)).at(key).at("revocations")
    })
}

fn limits(limits: &AccountLimits) -> Result<(), Box<ClaimsError>> {
    for (limit, member) in [
        (limits.subs, "subs"),
        (limits.data, "data"),
        (limits.payload, "payload"),
        (limits.imports, "imports"),
        (limits.exports, "exports"),
        (limits.conn, "conn"),
        (limits.leaf, "leaf"),
    ] {
        need(limit >= -1, Rule::Limit).at(member)?;
    }
    let shut =
        [limits.subs, limits.data, limits.payload, limits.conn, limits.leaf].iter().all(|limit| *limit == 0);
    need(!shut, Rule::LockedOut).at("conn")?;
    let flat = limits.jetstream();
    jetstream(&flat)?;
    for (tier, values) in &limits.tiered_limits {
        need(!tier.is_empty(), Rule::Tiers).at("tiered_limits")?;
        jetstream(values).at(tier).at("tiered_limits")?;
    }
    let both = !limits.tiered_limits.is_empty() && flat != JetStreamLimits::default();
    need(!both, Rule::Tiers).at("tiered_limits")
}

fn jetstream(limits: &JetStreamLimits) -> Result<(), Box<ClaimsError>> {
    [
        (limits.mem_storage, "mem_storage"),
        (limits.disk_storage, "disk_storage"),
        (limits.streams, "streams"),
        (limits.consumer, "consumer"),
        (limits.max_ack_pending, "max_ack_pending"),
        (limits.mem_max_stream_bytes, "mem_max_stream_bytes"),
        (limits.disk_max_stream_bytes, "disk_max_stream_bytes"),
    ]
    .into_iter()
    .try_for_each(|(limit, member)| need(limit >= -1, Rule::Limit).at(member))
}

fn mapping(source: &str, destinations: &[WeightedMapping]) -> Result<(), Box<ClaimsError>> {
    need(valid_subject(source), Rule::Subject).at("")?;
    let mut weights: BTreeMap<&str, u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (index, destination) in destinations.iter().enumerate() {
        let subject = &destination.subject;
        need(valid_subject(subject), Rule::Subject)
            // A server drops the second one silently, even for another cluster.
            .and(need(seen.insert(subject), Rule::DuplicateDestination))
            .and(need(destination.weight <= 100, Rule::Percent))
            .item("", index)?;
        let weight = weights.entry(&destination.cluster).or_default();
        *weight += if destination.weight == 0 { 100 } else { u32::from(destination.weight) };
        need(*weight <= 100, Rule::Weight).item("", index)?;
    }
    Ok(())
}

fn authorization(authorization: &Authorization) -> Result<(), Box<ClaimsError>> {
    let accounts = &authorization.allowed_accounts;
    let users = !authorization.auth_users.is_empty();
    need(users || accounts.is_empty(), Rule::Authorization).at("allowed_accounts")?;
    for (index, account) in accounts.iter().enumerate() {
        key_or_all(account, Kind::Account)
            .and(need(account != "*" || accounts.len() == 1, Rule::Authorization))
            .item("allowed_accounts", index)?;
    }
    Ok(())
}
