//! Projections over long streams: what is kept is the fold of the stream, made anew it is the same, and the state at any place
//! is that of the prefix.

use cim_keys_core::projection::{Memory, all};
use cim_keys_core::registry::EntityId;
use cim_keys_tests::mixed::{Mixed, Variety, kept, rows};
use tempfile::TempDir;

fn long(events: u64, seed: u64) {
    let folder = TempDir::new().unwrap();
    let mut mixed = Mixed::new(seed, Variety::Everything).remembering();
    let store = mixed.store(&folder.path().join("store.db"));
    let mut memories = all().map(|projection| (projection, Memory::default()));
    let mut anomalies = 0;
    // Some of it is folded on the way, the rest at the end.
    for _ in 0..4 {
        mixed.grow(&store, events / 4, |part| {
            anomalies += part.anomalies.len();
            for record in &part.records {
                for (projection, memory) in &mut memories {
                    memory.fold(*projection, record).unwrap();
                }
            }
        });
        store.project_all().unwrap();
    }
    assert!(anomalies > 10, "messages that change nothing are among them");
    for (projection, memory) in &memories {
        let name = projection.name();
        assert_eq!(store.project(*projection).unwrap(), mixed.head());
        let live = kept(&store, *projection);
        assert!(live.len() as u64 > mixed.head() / 20, "{name} has {} rows", live.len());
        assert!(live == rows(memory), "{name} is not the fold of the stream");
        let rebuilt =
            store.rebuild(*projection, false, |difference| panic!("{name}: {difference:?}")).unwrap();
        assert_eq!((rebuilt.rows, rebuilt.swapped), (live.len() as u64, true));
        assert!(kept(&store, *projection) == live, "{name} is another one when it is made anew");
    }
    // How single entities stood at random places.
    let ids: Vec<EntityId> = mixed.entities().collect();
    let mut there = 0;
    for _ in 0..1000 {
        let id = ids[usize::try_from(mixed.draw(ids.len() as u64 - 1)).unwrap()];
        let sequence = mixed.draw(mixed.head() - 1) + 1;
        let found = store.entity_at(id, sequence).unwrap().map(|version| version.entity);
        assert_eq!(found.as_ref(), mixed.at(id, sequence), "{id} at {sequence}");
        there += usize::from(found.is_some());
    }
    assert!((200..900).contains(&there), "{there} of 1000 were there at that time");
}

#[test]
fn made_anew_a_projection_is_the_same() {
    long(2_000, 1);
}

/// Minutes: `cargo test -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn made_anew_a_projection_of_100_000_events_is_the_same() {
    long(100_000, 2);
}
