//! What a connection may do: subjects, replies, networks, times, limits.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::DecodeError;
use super::wire::{Members, Object, Unknown, Wire, serde_as_wire, wire_struct};
use crate::json::Json;

/// Subjects that are allowed and denied. Nothing in `allow` means everything is, unless replies are permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionList {
    /// Subjects allowed (`subject queue` is possible where subscriptions are meant).
    pub allow: Vec<String>,
    /// Subjects denied; stronger than `allow`.
    pub deny: Vec<String>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(PermissionList { omit "allow" => allow, omit "deny" => deny });

/// Permission to answer a request on its reply subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Messages for each request: 0 means 1, -1 no limit.
    pub max: i64,
    /// For how long, in nanoseconds: 0 means two minutes.
    pub ttl: i64,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(ResponsePermission { always "max" => max, always "ttl" => ttl });

/// The permissions of an account's users that have none of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects to publish to (`pub`).
    pub publish: PermissionList,
    /// Subjects to subscribe to (`sub`).
    pub subscribe: PermissionList,
    /// Permission to answer (`resp`).
    pub response: Option<ResponsePermission>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Permissions { always "pub" => publish, always "sub" => subscribe, omit "resp" => response });

/// A time of day during which a user may be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// `HH:MM:SS`
    pub start: String,
    /// `HH:MM:SS`; before `start` it lies on the next day.
    pub end: String,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(TimeRange { omit "start" => start, omit "end" => end });

/// Everything a user may do: of its own, or as the template of a scoped signing key (`nats-identity` §5.3).
///
/// The default is unlimited and unrestricted. In JSON, serde's included, an absent number is 0, which admits nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRights {
    /// Subjects to publish to (`pub`).
    pub publish: PermissionList,
    /// Subjects to subscribe to (`sub`).
    pub subscribe: PermissionList,
    /// Permission to answer (`resp`).
    pub response: Option<ResponsePermission>,
    /// Networks to connect from, in CIDR notation; none means any.
    pub src: Vec<String>,
    /// Times of day to be connected; none means any.
    pub times: Vec<TimeRange>,
    /// IANA name of the zone that `times` are in; empty means the server's.
    pub times_location: String,
    /// Subscriptions of one connection; -1 no limit.
    pub subs: i64,
    /// Bytes; -1 no limit. The server does not enforce it.
    pub data: i64,
    /// Bytes of one message; -1 no limit.
    pub payload: i64,
    /// Connect with the token alone, without proof of the key.
    pub bearer_token: bool,
    /// Connect through a trusted proxy only. Not enforced by a server when it stands in a template.
    pub proxy_required: bool,
    /// STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS, IN_PROCESS; none means any.
    pub allowed_connection_types: Vec<String>,
    /// Members of a later version (in a template; those of a user stand in [`User`](super::User)).
    pub unknown: Unknown,
}

impl UserRights {
    /// No member set: what a scoped user carries. As rights of its own it would admit nobody.
    pub fn zero() -> Self {
        Self { subs: 0, data: 0, payload: 0, ..Self::default() }
    }

    /// Whether no member is set.
    pub fn is_zero(&self) -> bool {
        *self == Self::zero()
    }

    pub(crate) fn take_from(members: &mut Members) -> Result<Self, Box<DecodeError>> {
        Ok(Self {
            publish: members.take("pub")?,
            subscribe: members.take("sub")?,
            response: members.take("resp")?,
            src: members.take::<Networks>("src")?.0,
            times: members.take("times")?,
            times_location: members.take("times_location")?,
            subs: members.take("subs")?,
            data: members.take("data")?,
            payload: members.take("payload")?,
            bearer_token: members.take("bearer_token")?,
            proxy_required: members.take("proxy_required")?,
            allowed_connection_types: members.take("allowed_connection_types")?,
            unknown: Unknown::default(),
        })
    }

    /// The members without the unknown ones.
    pub(crate) fn put_into(&self, object: &mut Object<'_>) {
        object.always("pub", &self.publish);
        object.always("sub", &self.subscribe);
        object.omit("resp", &self.response);
        object.omit("src", &self.src);
        object.omit("times", &self.times);
        object.omit("times_location", &self.times_location);
        object.omit("subs", &self.subs);
        object.omit("data", &self.data);
        object.omit("payload", &self.payload);
        object.omit("bearer_token", &self.bearer_token);
        object.omit("proxy_required", &self.proxy_required);
        object.omit("allowed_connection_types", &self.allowed_connection_types);
    }
}

impl Default for UserRights {
    fn default() -> Self {
        Self {
            publish: PermissionList::default(),
            subscribe: PermissionList::default(),
            response: None,
            src: Vec::new(),
            times: Vec::new(),
            times_location: String::new(),
            subs: -1,
            data: -1,
            payload: -1,
            bearer_token: false,
            proxy_required: false,
            allowed_connection_types: Vec::new(),
            unknown: Unknown::default(),
        }
    }
}

impl Wire for UserRights {
    fn absent() -> Option<Self> {
        Some(Self::zero())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let mut members = Members::open(json)?;
        let mut rights = Self::take_from(&mut members)?;
        rights.unknown = members.rest()?;
        Ok(rights)
    }

    fn write(&self, out: &mut String) {
        let mut object = Object::open(out);
        self.put_into(&mut object);
        object.unknown(&self.unknown);
        object.close();
    }

    fn blank(&self) -> bool {
        false
    }
}
serde_as_wire!(UserRights);

/// The networks of `src`, which old tools wrote as one string with commas.
struct Networks(Vec<String>);

impl Wire for Networks {
    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let Json::Text(text) = json else { return Vec::read(json).map(Self) };
        let mut networks: Vec<String> = Vec::new();
        for part in text.split(',') {
            let part = part.trim().to_lowercase();
            if !part.is_empty() && !networks.contains(&part) {
                networks.push(part);
            }
        }
        Ok(Self(networks))
    }

    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn blank(&self) -> bool {
        self.0.is_empty()
    }
}
