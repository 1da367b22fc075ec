//! How claims stand in JSON: member by member, in Go's order, keeping what is unknown (`nats-identity` §5).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::DecodeError;
use crate::json::{Json, write_text};
use crate::nkey::{KeyError, Kind, PublicKey};

/// Members of an object that this version does not know. They survive an edit: written back after the known ones, in
/// the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown(BTreeMap<String, Json>);

impl Unknown {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members by name.
    pub const fn members(&self) -> &BTreeMap<String, Json> {
        &self.0
    }

    /// Adds a member, or replaces it. A name that is known at its place makes the claims impossible to encode.
    pub fn insert(&mut self, name: String, value: Json) {
        self.0.insert(name, value);
    }
}

/// A value as a member of a claims object.
pub(crate) trait Wire: Sized {
    /// Whether `""` stands for the absent value, as it does in Go for a key that is a string.
    const EMPTY_TEXT_IS_ABSENT: bool = false;

    /// What a missing member means (Go's zero value), or none if it may not be missing.
    fn absent() -> Option<Self>;
    fn read(json: Json) -> Result<Self, Box<DecodeError>>;
    fn write(&self, out: &mut String);
    /// Whether Go leaves the member out (`omitempty`).
    fn blank(&self) -> bool;
}

/// An object being read.
pub(crate) struct Members {
    rest: BTreeMap<String, Json>,
    known: Vec<&'static str>,
}

impl Members {
    pub(crate) fn open(json: Json) -> Result<Self, Box<DecodeError>> {
        match json {
            Json::Object(rest) => Ok(Self { rest, known: Vec::new() }),
            _ => Err(DecodeError::expected("an object")),
        }
    }

    /// The member's value; missing and `null` are the same.
    pub(crate) fn take<T: Wire>(&mut self, name: &'static str) -> Result<T, Box<DecodeError>> {
        self.known.push(name);
        match self.rest.remove(name) {
            None | Some(Json::Null) => {
                T::absent().ok_or_else(|| Box::new(DecodeError::Missing { member: name.to_string() }))
            }
            Some(json) => T::read(json).map_err(|error| error.within(name)),
        }
    }

    /// The members of a member that is an object; none where it is missing or `null`.
    pub(crate) fn within(&mut self, name: &'static str) -> Result<Option<Self>, Box<DecodeError>> {
        match self.rest.remove(name) {
            None | Some(Json::Null) => Ok(None),
            Some(json) => Self::open(json).map(Some),
        }
    }

    /// What nobody took. A name that a Go reader would take for a known one (it ignores case) is refused: it would
    /// mean one thing here and another on the server.
    pub(crate) fn rest(self) -> Result<Unknown, Box<DecodeError>> {
        for name in self.rest.keys() {
            if self.known.iter().any(|known| folds_to(name, known)) {
                return Err(DecodeError::ShadowedMember { member: name.clone() }.into());
            }
        }
        Ok(Unknown(self.rest))
    }
}

/// Whether Go's decoder takes `name` for `known`: simple case folding, to which the Kelvin sign and the long s belong.
fn folds_to(name: &str, known: &str) -> bool {
    name.chars()
        .map(|c| match c {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            _ => c.to_ascii_lowercase(),
        })
        .eq(known.chars())
}

/// An object being written.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// The member, unless Go leaves it out.
    pub(crate) fn omit<T: Wire>(&mut self, name: &str, value: &T) {
        if !value.blank() {
            self.always(name, value);
        }
    }

    pub(crate) fn always<T: Wire>(&mut self, name: &str, value: &T) {
        value.write(self.name(name));
    }

    pub(crate) fn unknown(&mut self, unknown: &Unknown) {
        for (name, value) in &unknown.0 {
            value.write(self.name(name));
        }
    }

    /// Writes the name; what follows is its value.
    pub(crate) fn name(&mut self, name: &str) -> &mut String {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        write_text(name, self.out);
        self.out.push(':');
        self.out
    }

    pub(crate) fn close(self) {
        self.out.push('}');
    }
}

impl Wire for String {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        match json {
            Json::Text(text) => Ok(text),
            _ => Err(DecodeError::expected("a string")),
        }
    }

    fn write(&self, out: &mut String) {
        write_text(self, out);
    }

    fn blank(&self) -> bool {
        self.is_empty()
    }
}

impl Wire for bool {
    fn absent() -> Option<Self> {
        Some(false)
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        match json {
            Json::Bool(value) => Ok(value),
            _ => Err(DecodeError::expected("true or false")),
        }
    }

    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }

    fn blank(&self) -> bool {
        !self
    }
}

macro_rules! wire_integer {
    ($($type:ident $expected:literal),*) => {$(
        impl Wire for $type {
            fn absent() -> Option<Self> {
                Some(0)
            }

            fn read(json: Json) -> Result<Self, Box<DecodeError>> {
                match json {
                    Json::Number(number) => {
                        number.as_str().parse().map_err(|_| DecodeError::expected($expected))
                    }
                    _ => Err(DecodeError::expected($expected)),
                }
            }

            fn write(&self, out: &mut String) {
                // Writing to a String never fails.
                let _ = write!(out, "{self}");
            }

            fn blank(&self) -> bool {
                *self == 0
            }
        }
    )*};
}
wire_integer!(i64 "an integer of 64 bits", u64 "a natural number of 64 bits", u8 "a number from 0 to 255");

impl Wire for PublicKey {
    const EMPTY_TEXT_IS_ABSENT: bool = true;

    fn absent() -> Option<Self> {
        None
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        match json {
            Json::Text(text) => text.parse().map_err(DecodeError::key),
            _ => Err(DecodeError::expected("a public key")),
        }
    }

    fn write(&self, out: &mut String) {
        let _ = write!(out, "\"{self}\"");
    }

    fn blank(&self) -> bool {
        false
    }
}

impl<T: Wire> Wire for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        if T::EMPTY_TEXT_IS_ABSENT && matches!(&json, Json::Text(text) if text.is_empty()) {
            return Ok(None);
        }
        T::read(json).map(Some)
    }

    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }

    fn blank(&self) -> bool {
        self.is_none()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let Json::Array(items) = json else { return Err(DecodeError::expected("an array")) };
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| T::read(item).map_err(|error| error.within(&alloc::format!("[{index}]"))))
            .collect()
    }

    fn write(&self, out: &mut String) {
        for (index, item) in self.iter().enumerate() {
            out.push(if index == 0 { '[' } else { ',' });
            item.write(out);
        }
        out.push_str(if self.is_empty() { "[]" } else { "]" });
    }

    fn blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let Json::Object(members) = json else { return Err(DecodeError::expected("an object")) };
        let mut found = Self::new();
        for (name, value) in members {
            let value = T::read(value).map_err(|error| error.within(&name))?;
            found.insert(name, value);
        }
        Ok(found)
    }

    fn write(&self, out: &mut String) {
        let mut object = Object::open(out);
        for (name, value) in self {
            object.always(name, value);
        }
        object.close();
    }

    fn blank(&self) -> bool {
        self.is_empty()
    }
}

/// Refuses a key of another kind than its place asks for.
pub(crate) fn kind_of<'a>(
    member: &str,
    keys: impl IntoIterator<Item = &'a PublicKey>,
    expected: Kind,
) -> Result<(), Box<DecodeError>> {
    for key in keys {
        key.of_kind(expected).map_err(|error: KeyError| DecodeError::key(error).within(member))?;
    }
    Ok(())
}

/// The JSON tree of a value, for serde.
pub(crate) fn to_json<T: Wire>(value: &T) -> Result<Json, Box<DecodeError>> {
    let mut text = String::new();
    value.write(&mut text);
    Ok(Json::parse(&text)?)
}

/// Serde by way of the wire form: what is stored is what stands in a JWT.
macro_rules! serde_as_wire {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::jwt::wire::to_json(self).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let json = <$crate::json::Json as serde::Deserialize>::deserialize(deserializer)?;
                <$type as $crate::jwt::wire::Wire>::read(json).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_wire;

/// A struct whose members stand in this order; `omit` leaves Go's zero value out, `always` does not. Unknown members
/// follow, then those after `then`.
macro_rules! wire_struct {
    (
        $type:ident { $($mode:ident $name:literal => $field:ident),* $(,)? }
        $(then { $($last_mode:ident $last_name:literal => $last_field:ident),* })?
    ) => {
        impl $type {
            pub(crate) fn take_from(
                members: &mut $crate::jwt::wire::Members,
            ) -> Result<Self, alloc::boxed::Box<$crate::jwt::DecodeError>> {
                Ok(Self {
                    $($field: members.take($name)?,)*
                    $($($last_field: members.take($last_name)?,)*)?
                    unknown: $crate::jwt::wire::Unknown::default(),
                })
            }

            pub(crate) fn put_into(&self, object: &mut $crate::jwt::wire::Object<'_>) {
                $(object.$mode($name, &self.$field);)*
                object.unknown(&self.unknown);
                $($(object.$last_mode($last_name, &self.$last_field);)*)?
            }
        }

        impl $crate::jwt::wire::Wire for $type {
            fn absent() -> Option<Self> {
                Self::read($crate::json::Json::Object(Default::default())).ok()
            }

            fn read(json: $crate::json::Json) -> Result<Self, alloc::boxed::Box<$crate::jwt::DecodeError>> {
                let mut members = $crate::jwt::wire::Members::open(json)?;
                let mut value = Self::take_from(&mut members)?;
                value.unknown = members.rest()?;
                Ok(value)
            }

            fn write(&self, out: &mut alloc::string::String) {
                let mut object = $crate::jwt::wire::Object::open(out);
                self.put_into(&mut object);
                object.close();
            }

            fn blank(&self) -> bool {
                false
            }
        }

        $crate::jwt::wire::serde_as_wire!($type);
    };
}
pub(crate) use wire_struct;

/// An enum that is one of these texts.
macro_rules! wire_text {
    ($type:ident absent $absent:expr; $($variant:ident => $text:literal),* $(,)?) => {
        impl $type {
            /// The text as it stands in a JWT.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl $crate::jwt::wire::Wire for $type {
            fn absent() -> Option<Self> {
                $absent
            }

            fn read(json: $crate::json::Json) -> Result<Self, alloc::boxed::Box<$crate::jwt::DecodeError>> {
                match &json {
                    $($crate::json::Json::Text(text) if text == $text => Ok(Self::$variant),)*
                    _ => Err($crate::jwt::DecodeError::expected(concat!("one of" $(, " \"", $text, "\"")*))),
                }
            }

            fn write(&self, out: &mut alloc::string::String) {
                $crate::json::write_text(self.as_str(), out);
            }

            fn blank(&self) -> bool {
                self.as_str().is_empty()
            }
        }

        $crate::jwt::wire::serde_as_wire!($type);
    };
}
pub(crate) use wire_text;
