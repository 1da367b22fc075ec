//! Rows: keys in order, each with a text.

use crate::json;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Between the parts of a key: no name has it, and it sorts before whatever names have.
const SEPARATOR: char = '\u{1f}';
/// Sorts behind whatever keys have.
const LAST: char = '\u{10ffff}';

/// The key of a row: parts, in whose order keys are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// From its parts.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut text = String::with_capacity(96);
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                text.push(SEPARATOR);
            }
            text.push_str(part);
        }
        Self(text)
    }

    /// A key as it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its last part.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit(SEPARATOR).next().unwrap_or_default()
    }
}

/// A number as a part of keys, in whose order numbers are.
#[must_use]
pub fn number(number: u64) -> String {
    format!("{number:016x}")
}

/// Keys from one on and before another, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first, where it is there.
    pub from: Key,
    /// Behind the last.
    pub until: Key,
}

impl Range {
    /// All keys that have these parts and others behind them.
    #[must_use]
    pub fn below(parts: &[&str]) -> Self {
        let mut text = Key::of(parts).0;
        text.push(SEPARATOR);
        Self::starting(text)
    }

    /// All keys whose last part here only begins so.
    #[must_use]
    pub fn beginning(parts: &[&str]) -> Self {
        Self::starting(Key::of(parts).0)
    }

    fn starting(text: String) -> Self {
        let mut until = text.clone();
        until.push(LAST);
        Self { from: Key(text), until: Key(until) }
    }

    /// Those of them whose next part is a number from `first` to `last`.
    #[must_use]
    pub fn numbers(parts: &[&str], first: u64, last: u64) -> Self {
        let all = Self::below(parts);
        let key = |end: u64| Key(format!("{}{}", all.from.0, number(end)));
        let until = last.checked_add(1).map_or(all.until.clone(), key);
        Self { from: key(first), until }
    }

    /// Those of them behind a key.
    #[must_use]
    pub fn after(&self, key: &Key) -> Self {
        let mut from = key.0.clone();
        // The least that sorts behind it.
        from.push('\0');
        Self { from: Key(from), until: self.until.clone() }
    }
}

/// A row was read that the scope does not name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a projection reads a row that it has not asked for: {key:?}")]
pub struct Unasked {
    /// The row.
    pub key: Key,
}

/// The rows that some events read and write: those that were loaded, and over them what was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    known: BTreeMap<Key, Option<String>>,
    changed: BTreeSet<Key>,
    unasked: Option<Key>,
}

impl Rows {
    /// Whether a row is known, there or not.
    #[must_use]
    pub fn knows(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// Takes a row as it is stored; none where there is no such one. What is known already stays.
    pub fn load(&mut self, key: Key, value: Option<String>) {
        self.known.entry(key).or_insert(value);
    }

    /// A row's text.
    pub fn get(&mut self, key: &Key) -> Option<&str> {
        match self.known.get(key) {
            Some(value) => value.as_deref(),
            None => {
                self.unasked = Some(key.clone());
                None
            }
        }
    }

    /// A row's value. None also where it cannot be read.
    pub fn read<T: DeserializeOwned>(&mut self, key: &Key) -> Option<T> {
        json::from_text(self.get(key)?).ok()
    }

    /// Sets a row's text.
    pub fn put(&mut self, key: Key, value: String) {
        self.changed.insert(key.clone());
        self.known.insert(key, Some(value));
    }

    /// Sets a row that only has to be there.
    pub fn mark(&mut self, key: Key) {
        self.put(key, String::new());
    }

    /// Sets a row's value.
    pub fn write<T: Serialize>(&mut self, key: Key, value: &T) {
        // Values are of texts, numbers and tokens, which always serialize.
        self.put(key, json::to_text(value).unwrap_or_default());
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: Key) {
        self.changed.insert(key.clone());
        self.known.insert(key, None);
    }

    /// What was changed: each row with its new text, none where it was taken away.
    ///
    /// # Errors
    /// A row was read that nobody had loaded: what was made of it is wrong.
    pub fn changes(&self) -> Result<Vec<(&Key, Option<&str>)>, Unasked> {
        if let Some(key) = &self.unasked {
            return Err(Unasked { key: key.clone() });
        }
        let value = |key| self.known.get(key).and_then(Option::as_deref);
        Ok(self.changed.iter().map(|key| (key, value(key))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(range: &Range, key: &Key) -> bool {
        *key >= range.from && *key < range.until
    }

    #[test]
    fn keys_are_in_the_order_of_their_parts() {
        let ordered = [
            Key::of(&["name", "a", "x"]),
            Key::of(&["name", "a\u{20}b", "x"]),
            Key::of(&["name", "ab", "x"]),
            Key::of(&["now", "a"]),
        ];
        assert!(ordered.is_sorted());
        assert_eq!(ordered[1].last(), "x");
        assert!(number(9) < number(10) && number(255) < number(256) && number(u64::MAX) > number(1 << 60));
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let key = |n| Key::of(&["at", &number(n)]);
        let all = Range::below(&["at"]);
        assert!(has(&all, &key(0)) && has(&all, &key(u64::MAX)) && !has(&all, &Key::of(&["at"])));
        assert!(!has(&all, &Key::of(&["atx", "1"])));
        let some = Range::numbers(&["at"], 5, 9);
        assert!(!has(&some, &key(4)) && has(&some, &key(5)) && has(&some, &key(9)) && !has(&some, &key(10)));
        assert!(has(&Range::numbers(&["at"], 5, u64::MAX), &key(u64::MAX)));
        let rest = some.after(&key(5));
        assert!(!has(&rest, &key(5)) && has(&rest, &key(6)));
        assert!(has(&Range::beginning(&["now", "user:"]), &Key::of(&["now", "user:A/U"])));
        assert!(!has(&Range::beginning(&["now", "user:"]), &Key::of(&["now", "key:X"])));
    }

    #[test]
    fn a_row_that_was_not_asked_for_shows() {
        let mut rows = Rows::default();
        let (a, b) = (Key::of(&["a"]), Key::of(&["b"]));
        rows.load(a.clone(), None);
        assert_eq!(rows.get(&a), None);
        rows.put(a.clone(), "1".into());
        rows.load(a.clone(), Some("old".into()));
        assert_eq!(rows.changes(), Ok([(&a, Some("1"))].to_vec()));
        assert_eq!(rows.get(&b), None);
        assert_eq!(rows.changes(), Err(Unasked { key: b }));
    }
}
