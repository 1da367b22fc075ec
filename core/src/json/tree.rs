//! JSON as JWTs need it: numbers kept as they were written, no member twice, bounded depth, Go's escapes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::JsonError;
use super::de::Fault;
use super::scan::{Scanner, write_escaped};

/// The name under which a number that is no `i64` goes through serde, as its text.
pub(super) const NUMBER: &str = "cim-keys number";
/// Deeper than any claim; shallow enough for the smallest stack.
const MAX_DEPTH: usize = 64;

/// A JSON value that nobody here has a type for. A number keeps its text, so that it is written back as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as its text.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; members in the order of their names.
    Object(BTreeMap<String, Json>),
}

/// A JSON number as it was written: `1`, `1.50` and `1e400` stay what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

impl Number {
    /// The text of the number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(alloc::format!("{value}"))
    }
}

impl Json {
    /// Reads one JSON value and nothing behind it.
    ///
    /// # Errors
    /// No JSON, deeper than 64 levels, or a member stands twice.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(text, MAX_DEPTH);
        let value = read(&mut scanner).and_then(|value| scanner.end().map(|()| value));
        value.map_err(|fault| *fault.0)
    }

    /// Writes the value with Go's escapes and without white space.
    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => out.push_str(&number.0),
            Self::Text(text) => write_text(text, out),
            Self::Array(items) => write_list('[', items, ']', out, Self::write),
            Self::Object(members) => write_list('{', members, '}', out, |(name, value), out| {
                write_text(name, out);
                out.push(':');
                value.write(out);
            }),
        }
    }
}

fn write_list<T>(
    open: char,
    items: impl IntoIterator<Item = T>,
    close: char,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

/// Writes a string as Go's encoder does, safe inside HTML (`nats-identity` §5).
pub(crate) fn write_text(text: &str, out: &mut String) {
    write_escaped(text, true, out);
}

fn read(scanner: &mut Scanner<'_>) -> Result<Json, Fault> {
    let mut first = true;
    Ok(match scanner.peek() {
        Some(b'{') => {
            let mut members = BTreeMap::new();
            scanner.enter(b'{')?;
            while scanner.more(&mut first, b'}')? {
                let name = scanner.name()?;
                if members.contains_key(&name) {
                    return Err(JsonError::Duplicate { member: name }.into());
                }
                members.insert(name, read(scanner)?);
            }
            Json::Object(members)
        }
        Some(b'[') => {
            let mut items = Vec::new();
            scanner.enter(b'[')?;
            while scanner.more(&mut first, b']')? {
                items.push(read(scanner)?);
            }
            Json::Array(items)
        }
        Some(b'"') => Json::Text(scanner.string()?),
        Some(b't') => scanner.word("true").map(|()| Json::Bool(true))?,
        Some(b'f') => scanner.word("false").map(|()| Json::Bool(false))?,
        Some(b'n') => scanner.word("null").map(|()| Json::Null)?,
        _ => Json::Number(Number(scanner.number()?.into())),
    })
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut out = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| out.serialize_element(item))?;
                out.end()
            }
            Self::Object(members) => {
                let mut out = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| out.serialize_entry(name, value))?;
                out.end()
            }
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // "-0" is a number of its own: as an integer it would lose its sign.
        if let Some(value) = self.0.parse::<i64>().ok().filter(|_| self.0 != "-0") {
            return serializer.serialize_i64(value);
        }
        match self.0.parse::<u64>() {
            Ok(value) => serializer.serialize_u64(value),
            // As it was written. (A format that is not ours has a text here.)
            Err(_) => serializer.serialize_newtype_struct(NUMBER, &self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> de::Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(Number(alloc::format!("{value}"))))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, text: D) -> Result<Json, D::Error> {
        Ok(Json::Number(Number(String::deserialize(text)?)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = access.next_entry::<String, Json>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::json::{from_text, to_text};

    fn written(value: &Json) -> String {
        let mut out = String::new();
        value.write(&mut out);
        out
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(|value| Json::Number(value.into())),
            any::<String>().prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_here_and_by_serde_json(value in any_json()) {
            let text = written(&value);
            prop_assert_eq!(Json::parse(&text), Ok(value.clone()));
            prop_assert_eq!(from_text::<Json>(&text).unwrap(), value.clone());
            let stored = to_text(&value).unwrap();
            prop_assert_eq!(&stored, &serde_json::to_string(&value).unwrap());
            prop_assert_eq!(from_text::<Json>(&stored).unwrap(), value);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let ours = Json::parse(&text).is_ok();
            if ours {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }

        #[test]
        fn near_json_is_judged_as_serde_json_does(text in "[\\[\\]{}\",:0-9eE.+ -]{0,12}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let ours = Json::parse(&text);
            // Both refuse numbers that are no JSON; serde_json also those beyond a float.
            if theirs {
                prop_assert!(ours.is_ok() || matches!(ours, Err(JsonError::Duplicate { .. })), "{}", text);
            }
            prop_assert_eq!(from_text::<Json>(&text).is_ok(), ours.is_ok());
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        let text = "<a>&\u{2028}\u{2029}\"\\\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}/é😀";
        assert_eq!(
            written(&Json::Text(text.to_string())),
            "\"\\u003ca\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}/é😀\""
        );
    }

    #[test]
    fn numbers_keep_their_text() {
        for text in ["1.50", "1e400", "-0", "18446744073709551616", "0", "-9223372036854775808"] {
            assert_eq!(written(&Json::parse(text).unwrap()), text);
        }
        for text in ["1.50", "[1e400,-0]", "{\"a\":18446744073709551616}"] {
            let value: Json = from_text(text).unwrap();
            assert_eq!(value, Json::parse(text).unwrap());
            assert_eq!(to_text(&value).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "nul",
            "truee",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"",
            "1 2",
            "NaN",
            "'a'",
            "\u{feff}1",
            "[1 2]",
            "{\"a\" 1}",
        ] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn members_twice_and_deep_nesting_are_refused() {
        assert_eq!(
            Json::parse("{\"a\":{\"b\":1,\"\\u0062\":2}}"),
            Err(JsonError::Duplicate { member: "b".to_string() })
        );
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse(&deep(64)).is_ok());
        assert_eq!(Json::parse(&deep(66)), Err(JsonError::Depth { limit: 64 }));
        assert_eq!(Json::parse(&"[".repeat(1 << 20)), Err(JsonError::Depth { limit: 64 }));
        assert_eq!(written(&Json::Array(vec![])), "[]");
    }
}
