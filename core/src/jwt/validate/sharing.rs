//! Exports and imports.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use super::super::sharing::{Export, Import, ResponseType, Sampling, ShareKind};
use super::super::subject::{contains_for_overlap, is_literal, valid_subject};
use super::super::{ClaimsError, Rule};
use super::{Place, account, need, text};
use crate::nkey::{Kind, PublicKey};

pub(super) fn exports(exports: &[Export]) -> Result<(), Box<ClaimsError>> {
    for (index, export) in exports.iter().enumerate() {
        validate_export(export).item("exports", index)?;
        let overlaps = exports
            .iter()
            .take(index)
            .any(|other| other.kind == export.kind && overlap(&other.subject, &export.subject));
        need(!overlaps, Rule::Overlap).item("exports", index)?;
    }
    Ok(())
}

fn validate_export(export: &Export) -> Result<(), Box<ClaimsError>> {
    need(valid_subject(&export.subject), Rule::Subject).at("subject")?;
    let service = export.kind == ShareKind::Service;
    for (unused, member) in [
        (export.response_type == ResponseType::Unset, "response_type"),
        (!export.allow_trace, "allow_trace"),
        (export.service_latency.is_none(), "service_latency"),
        (export.response_threshold == 0, "response_threshold"),
    ] {
        need(service || unused, Rule::NotForStreams).at(member)?;
    }
    need(export.response_threshold >= 0, Rule::Duration).at("response_threshold")?;
    if let Some(latency) = &export.service_latency {
        let percent =
            !matches!(latency.sampling, Sampling::Percent(percent) if !(1..=100).contains(&percent));
        need(percent, Rule::Percent).at("service_latency.sampling")?;
        need(valid_subject(&latency.results), Rule::Subject)
            .and(need(is_literal(&latency.results), Rule::Wildcard))
            .at("service_latency.results")?;
        let single = matches!(export.response_type, ResponseType::Unset | ResponseType::Singleton);
        need(single, Rule::LatencyResponse).at("service_latency")?;
    }
    let position = export.account_token_position;
    let star = || {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        export.subject.split('.').nth(index).filter(|token| *token == "*")
    };
    need(position == 0 || star().is_some(), Rule::TokenPosition).at("account_token_position")?;
    account::revocations(&export.revocations, Kind::Account)?;
    text::info(&export.description, &export.info_url)
}

pub(super) fn imports(imports: &[Import], importer: &PublicKey) -> Result<(), Box<ClaimsError>> {
    let mut streams = BTreeSet::new();
    for (index, import) in imports.iter().enumerate() {
        validate_import(import, importer).item("imports", index)?;
        let clash = match import.kind {
            ShareKind::Stream => !streams.insert((import.account, import.subject.as_str())),
            ShareKind::Service => imports.iter().take(index).any(|other| {
                other.kind == ShareKind::Service
                    && other.account == import.account
                    && overlap(&local_name(other), &local_name(import))
            }),
        };
        need(!clash, Rule::Overlap).item("imports", index)?;
    }
    Ok(())
}

fn validate_import(import: &Import, importer: &PublicKey) -> Result<(), Box<ClaimsError>> {
    need(import.account != *importer, Rule::SelfImport).at("account")?;
    need(valid_subject(&import.subject), Rule::Subject).at("subject")?;
    need(import.to.is_empty() || import.local_subject.is_empty(), Rule::BothLocal).at("to")?;
    need(import.to.is_empty() || valid_subject(&import.to), Rule::Subject).at("to")?;
    if !import.local_subject.is_empty() {
        local_subject(&import.local_subject, &import.subject).at("local_subject")?;
    }
    match import.kind {
        ShareKind::Stream => need(!import.share, Rule::NotForStreams).at("share")?,
        ShareKind::Service => need(!import.allow_trace, Rule::NotForServices).at("allow_trace")?,
    }
    let inline = import.token.starts_with("eyJ")
        && import.token.split('.').count() == 3
        && import
            .token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    need(import.token.is_empty() || inline, Rule::Activation).at("token")
}

fn local_subject(local: &str, subject: &str) -> Result<(), Rule> {
    need(valid_subject(local), Rule::Subject)?;
    let rest = |subject: &str| subject.split('.').next_back() == Some(">");
    need(rest(local) == rest(subject), Rule::LocalSubject)?;
    let stars = |subject: &str| subject.split('.').filter(|token| *token == "*").count();
    let mut seen = BTreeSet::new();
    for reference in local.split('.').filter_map(reference) {
        let number = reference.ok_or(Rule::LocalSubject)?;
        need((1..=stars(subject)).contains(&number) && seen.insert(number), Rule::LocalSubject)?;
    }
    need(stars(local) + seen.len() == stars(subject), Rule::LocalSubject)
}

/// The number of a token `$n`; none inside if it is too large.
fn reference(token: &str) -> Option<Option<usize>> {
    let digits = token.strip_prefix('$')?;
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok())
}

/// What a service is called in the importing account, `$n` read as `*`.
fn local_name(import: &Import) -> Cow<'_, str> {
    if !import.to.is_empty() {
        return Cow::Borrowed(&import.to);
    }
    if import.local_subject.is_empty() {
        return Cow::Borrowed(&import.subject);
    }
    Cow::Owned(starred(&import.local_subject))
}

/// A local subject with `*` in the place of each `$n`.
pub(in crate::jwt) fn starred(local: &str) -> alloc::string::String {
    let mut name = alloc::string::String::new();
    for (index, token) in local.split('.').enumerate() {
        if index > 0 {
            name.push('.');
        }
        name.push_str(if reference(token).is_some() { "*" } else { token });
    }
    name
}

fn overlap(a: &str, b: &str) -> bool {
    contains_for_overlap(a, b) || contains_for_overlap(b, a)
}
