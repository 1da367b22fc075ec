//! Names, tags, addresses, versions.

use alloc::boxed::Box;
use alloc::string::String;

use super::super::{ClaimsError, Rule};
use super::{Place, need};
use crate::text::is_plain;

/// Names become folder names and comments of generated configurations: plain, and not long.
pub(super) fn name(name: &str) -> Result<(), Rule> {
    let plain = is_plain(name) && !name.contains(['/', '\\']);
    need(plain && name.len() <= 128, Rule::Name)
}

pub(super) fn tags(tags: &[String]) -> Result<(), Box<ClaimsError>> {
    tags.iter()
        .enumerate()
        .try_for_each(|(index, tag)| need(!tag.is_empty() && is_plain(tag), Rule::Tag).item("tags", index))
}

/// Description and address of an account or an export.
pub(super) fn info(description: &str, info_url: &str) -> Result<(), Box<ClaimsError>> {
    need(description.len() <= 8192, Rule::TooLong).at("description")?;
    need(info_url.len() <= 8192, Rule::TooLong).at("info_url")?;
    need(info_url.is_empty() || Url::parse(info_url).is_some(), Rule::Url).at("info_url")
}

pub(super) fn is_version(version: &str) -> bool {
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u32>().is_ok();
    version.split('.').count() == 3 && version.split('.').all(number)
}

/// The parts of an address that rules ask for.
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) has_user: bool,
    /// Path, query and fragment.
    pub(super) rest: &'a str,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let (scheme, behind) = text.split_once("://")?;
        let mut letters = scheme.chars();
        if !letters.next()?.is_ascii_alphabetic()
            || !letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        {
            return None;
        }
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at_checked(end)?;
        let (has_user, host) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        is_host(host).then_some(Self { scheme, has_user, rest })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(behind) => match behind.split_once(']') {
            Some((address, port)) if address.parse::<core::net::Ipv6Addr>().is_ok() => ("[]", port),
            _ => return false,
        },
        None => match host.find(':').and_then(|at| host.split_at_checked(at)) {
            Some(split) => split,
            None => (host, ""),
        },
    };
    let digits = port.strip_prefix(':');
    !name.is_empty()
        && !name.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}'])
        && (port.is_empty()
            || digits.is_some_and(|digits| {
                digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
            }))
}
