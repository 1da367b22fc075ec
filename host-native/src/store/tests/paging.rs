//! Lists that are read in portions.

use super::*;
use std::collections::BTreeSet;

#[test]
fn each_entity_comes_once_however_small_the_portions() {
    let (_folder, host, app) = founded();
    let other = host.create_account("OTHER", AccountLimits::default()).unwrap().keys[0];
    for number in 0..24 {
        user(&host, if number % 3 == 0 { other } else { app }, &format!("user-{number}"));
    }
    let store = host.store();
    for account in [None, Some(app), Some(other)] {
        let all: BTreeSet<EntityId> =
            store.users(account).unwrap().iter().map(|listed| listed.entity.id()).collect();
        for limit in [1, 2, 5, 100] {
            let mut found = Vec::new();
            loop {
                let portion = store.users_after(account, found.last().copied(), limit).unwrap();
                if portion.is_empty() {
                    break;
                }
                assert!(portion.len() <= limit as usize);
                found.extend(portion.iter().map(|listed| listed.entity.id()));
            }
            assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (all.len(), all.clone()));
        }
    }
    // What is pending is no part of the state at head.
    assert!(store.at_head("", 100).unwrap().is_empty());
    sync(&host, &mut Stream::default());
    let whole = store.at_head("", 1000).unwrap();
    assert!(whole.len() > 24 && whole.iter().all(|(_, entity)| entity.is_some()));
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().cloned().unwrap_or_default();
        let portion = store.at_head(&after, 5).unwrap();
        if portion.is_empty() {
            break;
        }
        found.extend(portion.into_iter().map(|(id, _)| id));
    }
    assert_eq!(found, whole.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
}
