//! Putting things in order, where std's way would be compiled anew for each type at some kilobytes a time: a browser
//! loads this core.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// A map, filled entry by entry.
pub(crate) fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in entries {
        map.insert(key, value);
    }
    map
}

/// A set, filled item by item.
pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for item in items {
        set.insert(item);
    }
    set
}

/// Sorts by a text of each item; items of equal texts keep their order.
pub(crate) fn sort_by_text<T>(items: &mut Vec<T>, text: impl Fn(&T) -> String) {
    let places = sorted(items.iter().map(text).collect());
    let mut taken: Vec<Option<T>> = core::mem::take(items).into_iter().map(Some).collect();
    items.extend(places.into_iter().filter_map(|place| taken.get_mut(place)?.take()));
}

/// Places of texts in their order. The one sort there is.
fn sorted(texts: Vec<String>) -> Vec<usize> {
    let mut places: Vec<(String, usize)> = texts.into_iter().zip(0..).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn equal_texts_keep_their_order() {
        let mut items = alloc::vec![(2, 'a'), (1, 'a'), (2, 'b'), (0, 'c'), (1, 'b')];
        sort_by_text(&mut items, |(number, _)| number.to_string());
        assert_eq!(items, [(0, 'c'), (1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]);
        let mut none: Vec<u8> = Vec::new();
        sort_by_text(&mut none, |_| String::new());
        assert!(none.is_empty());
    }

    #[test]
    fn the_last_of_equal_keys_stays() {
        assert_eq!(map([(1, 'a'), (0, 'b'), (1, 'c')]), BTreeMap::from([(0, 'b'), (1, 'c')]));
        assert_eq!(set([2, 1, 2]), BTreeSet::from([1, 2]));
    }
}
