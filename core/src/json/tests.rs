//! Typed values against serde_json, which reads and writes the same.

use super::*;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;

/// Every shape that serde has and some type of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u64),
    Pair(i64, String),
    Struct { flag: bool, list: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    small: i8,
    large: u64,
    negative: i64,
    text: String,
    option: Option<Box<All>>,
    tuple: (u16, Option<String>),
    map: BTreeMap<String, Shape>,
    shapes: Vec<Shape>,
    wrapped: Wrapped,
    nothing: (),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<u64>().prop_map(Shape::Newtype),
        (any::<i64>(), any::<String>()).prop_map(|(number, text)| Shape::Pair(number, text)),
        (any::<bool>(), any::<Vec<u8>>()).prop_map(|(flag, list)| Shape::Struct { flag, list }),
    ]
}

fn flat() -> impl Strategy<Value = All> {
    let parts = (
        (any::<i8>(), any::<u64>(), any::<i64>(), any::<String>()),
        (any::<u16>(), any::<Option<String>>(), any::<Option<bool>>(), any::<String>()),
        prop::collection::btree_map(any::<String>(), shape(), 0..3),
        prop::collection::vec(shape(), 0..3),
    );
    parts.prop_map(|((small, large, negative, text), (number, other, absent, wrapped), map, shapes)| All {
        small,
        large,
        negative,
        text,
        option: None,
        tuple: (number, other),
        map,
        shapes,
        wrapped: Wrapped(wrapped),
        nothing: (),
        absent,
    })
}

fn all() -> impl Strategy<Value = All> {
    (flat(), any::<bool>(), flat())
        .prop_map(|(outer, nested, inner)| All { option: nested.then(|| Box::new(inner)), ..outer })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_written_and_read(value in all()) {
        let text = to_text(&value).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&value).unwrap());
        prop_assert_eq!(from_text::<All>(&text).unwrap(), value.clone());
        let spaced = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(from_text::<All>(&spaced).unwrap(), value);
        prop_assert!(from_text::<IgnoredAny>(&spaced).is_ok());
    }

    #[test]
    fn a_text_with_a_byte_changed_is_read_as_serde_json_reads_it(value in all(), at: prop::sample::Index, byte in 0x20u8..0x7f) {
        let mut text = to_text(&value).unwrap().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let (ours, theirs) = (from_slice::<All>(&text), serde_json::from_slice::<All>(&text));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            // A lone half of a surrogate pair, and the like, both refuse.
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} {theirs:?}"),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let ours = from_slice::<IgnoredAny>(&bytes).is_ok();
        // Fractions beyond a float are no concern of who passes over them.
        if serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() {
            prop_assert!(ours);
        }
    }
}

fn said<'de, T: Deserialize<'de> + core::fmt::Debug>(text: &'de str) -> String {
    from_text::<T>(text).unwrap_err().to_string()
}

#[test]
fn errors_say_what_is_expected() {
    assert_eq!(said::<Shape>("\"Other\""), "there is no Other");
    assert_eq!(said::<Shape>("\"Newtype\""), "the content of a variant is missing");
    assert_eq!(said::<Shape>("{\"Struct\":{\"flag\":true}}"), "a member is missing: list");
    assert_eq!(said::<Shape>("{\"Struct\":{\"flag\":true,\"flag\":true}}"), "member flag stands twice");
    assert_eq!(said::<All>("{\"strange\":1}"), "there is no member strange");
    assert_eq!(said::<u8>("256"), "expected u8");
    assert_eq!(said::<u64>("-1"), "expected a whole number in its range, not -1");
    assert_eq!(said::<i64>("-0"), "expected a whole number in its range, not -0");
    assert_eq!(said::<u64>("1.5"), "expected a whole number in its range, not 1.5");
    assert_eq!(said::<bool>("\"true\""), "unexpected from byte 0 on");
    assert_eq!(said::<Vec<u8>>("[1,]"), "unexpected from byte 3 on");
    assert_eq!(said::<(u8, u8)>("[1,2,3]"), "unexpected from byte 5 on");
    assert_eq!(said::<u8>("1 2"), "unexpected from byte 2 on");
    assert_eq!(said::<String>(""), "unexpected from byte 0 on");
    assert_eq!(said::<()>("{}"), "unexpected from byte 0 on");
    assert_eq!(from_slice::<String>(&[b'"', 0xff, b'"']), Err(JsonError::Syntax { at: 1 }));
}

#[test]
fn depth_is_bounded() {
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(from_text::<IgnoredAny>(&deep(TYPED_DEPTH)).is_ok());
    let limit = Err(JsonError::Depth { limit: TYPED_DEPTH });
    assert_eq!(from_text::<IgnoredAny>(&deep(TYPED_DEPTH + 1)).map(drop), limit);
    assert_eq!(from_text::<IgnoredAny>(&"[".repeat(1 << 20)).map(drop), limit);
    assert_eq!(from_text::<Json>(&"{\"a\":".repeat(1 << 20)).map(drop), limit);
}

#[test]
fn what_has_no_place_is_not_written() {
    assert!(to_text(&1.5_f64).is_err());
    assert!(to_text(&BTreeMap::from([(1, 2)])).is_err());
    assert_eq!(to_text(&'\u{e9}').unwrap(), "\"\u{e9}\"");
    assert_eq!(to_text(&BTreeMap::from([(Wrapped("a".into()).0, 2)])).unwrap(), "{\"a\":2}");
}
