//! Permissions and the rights of users.

use alloc::boxed::Box;
use alloc::string::String;
use core::net::IpAddr;

use super::super::permissions::{PermissionList, ResponsePermission, UserRights};
use super::super::subject::valid_subject;
use super::super::{ClaimsError, Rule, template};
use super::{Place, need};

const CONNECTION_TYPES: [&str; 7] =
    ["STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"];

/// Whether permissions may hold variables: only those of a template are expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Templates {
    Expanded,
    Plain,
}

pub(super) fn validate(rights: &UserRights, templates: Templates) -> Result<(), Box<ClaimsError>> {
    permissions(&rights.publish, &rights.subscribe, &rights.response, templates)?;
    for (index, network) in rights.src.iter().enumerate() {
        need(is_cidr(network), Rule::Cidr).item("src", index)?;
    }
    for (index, range) in rights.times.iter().enumerate() {
        need(is_time_of_day(&range.start), Rule::TimeOfDay).at("start").item("times", index)?;
        need(is_time_of_day(&range.end), Rule::TimeOfDay).at("end").item("times", index)?;
    }
    let zone = &rights.times_location;
    need(zone.is_empty() || is_time_zone(zone), Rule::TimeZone).at("times_location")?;
    for (limit, member) in [(rights.subs, "subs"), (rights.data, "data"), (rights.payload, "payload")] {
        need(limit >= -1, Rule::Limit).at(member)?;
    }
    need((rights.subs, rights.data, rights.payload) != (0, 0, 0), Rule::LockedOut).at("subs")?;
    for (index, kind) in rights.allowed_connection_types.iter().enumerate() {
        let known = CONNECTION_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind));
        need(known, Rule::ConnectionType).item("allowed_connection_types", index)?;
    }
    Ok(())
}

pub(super) fn permissions(
    publish: &PermissionList,
    subscribe: &PermissionList,
    response: &Option<ResponsePermission>,
    templates: Templates,
) -> Result<(), Box<ClaimsError>> {
    for (list, member, queues) in [(publish, "pub", false), (subscribe, "sub", true)] {
        entries(&list.allow, queues, templates, "allow").at(member)?;
        entries(&list.deny, queues, templates, "deny").at(member)?;
    }
    match response {
        Some(response) => need(response.max >= -1 && response.ttl >= 0, Rule::Response).at("resp"),
        None => Ok(()),
    }
}

fn entries(
    list: &[String],
    queues: bool,
    templates: Templates,
    member: &str,
) -> Result<(), Box<ClaimsError>> {
    list.iter().enumerate().try_for_each(|(index, text)| entry(text, queues, templates).item(member, index))
}

fn entry(entry: &str, queues: bool, templates: Templates) -> Result<(), Rule> {
    let (variables, plain) = match templates {
        Templates::Expanded => template::split(entry)?,
        Templates::Plain => Default::default(),
    };
    let entry = if variables.is_empty() { entry } else { &plain };
    let Some((subject, queue)) = entry.split_once(' ') else {
        return need(valid_subject(entry), Rule::Subject);
    };
    need(variables.is_empty(), Rule::TemplateQueue)?;
    need(queues && valid_subject(queue), Rule::Queue)?;
    need(valid_subject(subject), Rule::Subject)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let limit = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.bytes().all(|byte| byte.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'))
        && bits.parse::<u8>().is_ok_and(|bits| bits <= limit)
}

fn is_time_of_day(text: &str) -> bool {
    let part = |part: &str, limit: u8| {
        part.len() == 2
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|value| value < limit)
    };
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(hour), Some(minute), Some(second), None) => {
            part(hour, 24) && part(minute, 60) && part(second, 60)
        }
        _ => false,
    }
}

/// The form of an IANA name. Whether the zone exists is known to the server's data, not to us.
fn is_time_zone(text: &str) -> bool {
    text.len() <= 64
        && text.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-'))
        })
}
