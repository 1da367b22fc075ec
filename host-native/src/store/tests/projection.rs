//! Projections as the store keeps them, against a fold in memory; and files of the version before.

use super::*;
use cim_keys_core::admission::{Assembler, Group};
use cim_keys_core::projection::{Directory, Memory, Projection, Range, Record, Rows, all};
use cim_keys_core::registry::Registry;
use std::collections::BTreeSet;

/// All rows that are kept.
fn kept(host: &Host, projection: &dyn Projection) -> Vec<(String, String)> {
    let rows = host.store().rows(projection, &Range::beginning(&[""]), Order::First, u32::MAX).unwrap();
    rows.into_iter().map(|(key, value)| (key.as_str().to_owned(), value)).collect()
}

/// Admits what a stream has from its first message, and folds that.
fn reference(host: &Host, stream: &Stream, projection: &dyn Projection) -> Vec<(String, String)> {
    let mut registry = Registry::new(host.store().registry_id().unwrap().clone());
    let (mut assembler, mut admitted) = (Assembler::default(), BTreeSet::new());
    for group in stream.messages.iter().flat_map(|message| assembler.push(message.clone())) {
        let Group::Command(complete) = group else { continue };
        let mut facts = registry.facts(&complete.scope(), false);
        let Ok(command) = complete.admit(&mut facts).unwrap() else { continue };
        admitted.extend(command.recorded.first..=command.recorded.last);
        for id in &command.changed {
            registry.put(facts.entity(*id).unwrap().unwrap().clone());
        }
        registry.record(command.recorded);
    }
    let mut memory = Memory::default();
    for message in stream.messages.iter().filter(|message| admitted.contains(&message.sequence)) {
        let record = Record::open(message.sequence, &message.subject, &message.headers, &message.payload);
        memory.fold(projection, &record.unwrap()).unwrap();
    }
    memory.all().map(|(key, value)| (key.as_str().to_owned(), value.to_owned())).collect()
}

fn agrees(host: &Host, stream: &Stream) {
    for projection in all() {
        let reached = host.store().project(projection).unwrap();
        assert_eq!(reached, host.store().progress().unwrap().head);
        assert_eq!(kept(host, projection), reference(host, stream, projection), "{}", projection.name());
    }
}

/// A stream with commands of two hosts and a message that changes nothing.
fn mixed() -> (TempDir, Host, PublicKey, Stream) {
    let (folder, host, app) = founded();
    let mut stream = Stream::default();
    let alice = user(&host, app, "alice");
    for (name, expires) in [("erin", 1_900_000_000), ("frank", 1_800_000_000)] {
        host.create_user(NewUser { expires, ..new_user(app, name) }).unwrap();
    }
    sync(&host, &mut stream);
    let (_other, other) = copy(&folder, 2);
    user(&other, app, "bob");
    sync(&other, &mut stream);
    let old = stream.messages[3].clone();
    stream.messages.push(StoredMessage { sequence: stream.messages.len() as u64 + 1, ..old });
    revoke(&host, app, alice);
    sync(&host, &mut stream);
    user(&host, app, "alice");
    sync(&host, &mut stream);
    (folder, host, app, stream)
}

#[test]
fn rows_are_what_the_stream_says_whoever_appended_it_and_whenever_they_are_made() {
    let (folder, host, app, mut stream) = mixed();
    agrees(&host, &stream);
    // Bit by bit it is the same.
    user(&host, app, "carol");
    sync(&host, &mut stream);
    agrees(&host, &stream);
    let (_other, late) = copy(&folder, 3);
    late.store().write(crate::store::projection::drop_all).unwrap();
    assert!(kept(&late, &Directory).is_empty());
    agrees(&late, &stream);
    // What is dropped is erased bit by bit.
    while late.store().erase_dropped().unwrap() {}
    let generations: u32 = late
        .store()
        .read(|transaction| {
            let query = "SELECT count(DISTINCT generation) FROM projection_rows";
            Ok(transaction.query_row(query, [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(generations, 3);
}

#[test]
fn of_an_unfinished_command_nothing_is_folded() {
    let (_folder, host, app) = founded();
    let mut stream = Stream::default();
    sync(&host, &mut stream);
    let before = stream.messages.len();
    // A revocation is two events: another host's copy of the stream has the first one alone.
    let alice = user(&host, app, "alice");
    revoke(&host, app, alice);
    sync(&host, &mut stream);
    let count = stream.messages.len();
    let (cut, other) =
        (Stream { messages: stream.messages[..count - 1].to_vec() }, open(&tempfile::tempdir().unwrap(), 4));
    other.store().adopt(host.store().registry_id().unwrap()).unwrap();
    let mut cut = cut;
    sync(&other, &mut cut);
    assert_eq!(other.store().progress().unwrap().head, count as u64 - 1);
    assert_eq!(other.store().project(&Directory).unwrap(), count as u64 - 2);
    let id = EntityId::User { account: app, user: alice };
    let at =
        |host: &Host, sequence| host.store().entity_at(id, sequence).unwrap().map(|v| v.entity.revoked_at());
    assert_eq!(at(&other, count as u64 - 1), Some(None));
    let mut whole = Stream { messages: stream.messages.clone() };
    sync(&other, &mut whole);
    agrees(&other, &stream);
    assert!(at(&other, count as u64).unwrap().is_some());
    assert_eq!(at(&other, count as u64 - 1), Some(None), "a command is admitted whole");
    assert_eq!(at(&other, before as u64), None);
}

#[test]
fn two_processes_fold_every_event_once() {
    let (folder, host, _, stream) = mixed();
    let beside = Host::new(
        Store::open(&folder.path().join("store.db")).unwrap(),
        Vault::or_create(&folder.path().join("identity.age")),
        Ambient::system(),
        "beside".parse().unwrap(),
    );
    for projection in all() {
        let place = host.store().place(projection).unwrap();
        assert_eq!(beside.store().place(projection).unwrap(), place);
        let (records, until) = host.store().portion(place).unwrap();
        let fold = |host: &Host| host.store().fold(projection, place, &records, until).unwrap();
        assert!(matches!(fold(&host), Projected::At(_)));
        assert_eq!(fold(&beside), Projected::Stale);
    }
    agrees(&beside, &stream);
}

#[test]
fn what_is_wrong_is_named_and_put_right() {
    let (_folder, host, _, stream) = mixed();
    let store = host.store();
    agrees(&host, &stream);
    for projection in all() {
        let spoil = |query: &str| {
            store
                .write(|transaction| {
                    let generation = crate::store::projection::generation(transaction, projection)?;
                    Ok(transaction.execute(query, [generation])?)
                })
                .unwrap()
        };
        let row = "(SELECT max(id) FROM projection_rows WHERE generation = ?1)";
        assert_eq!(spoil(&format!("UPDATE projection_rows SET value = 'x' WHERE id = {row}")), 1);
        assert_eq!(
            spoil(
                "DELETE FROM projection_rows WHERE id = (SELECT min(id) FROM projection_rows WHERE generation = ?1)"
            ),
            1
        );
        assert_eq!(spoil("INSERT INTO projection_rows (generation, key, value) VALUES (?1, 'zz', '')"), 1);
        let mut told = Vec::new();
        let checked = store.rebuild(projection, true, |difference| told.push(difference)).unwrap();
        assert_eq!((checked.differences, checked.swapped, told.len()), (3, false, 3));
        let kinds: Vec<(bool, bool)> = told.iter().map(|d| (d.kept.is_some(), d.rebuilt.is_some())).collect();
        for kind in [(true, true), (true, false), (false, true)] {
            assert_eq!(kinds.iter().filter(|found| **found == kind).count(), 1, "{told:?}");
        }
        assert_ne!(kept(&host, projection), reference(&host, &stream, projection), "only compared");
        let rebuilt = store.rebuild(projection, false, |_| {}).unwrap();
        assert_eq!((rebuilt.differences, rebuilt.swapped), (3, true));
        let again = store.rebuild(projection, false, |difference| panic!("{difference:?}")).unwrap();
        assert_eq!((again.differences, again.rows), (0, kept(&host, projection).len() as u64));
    }
    agrees(&host, &stream);
}

/// The directory as another version makes it.
struct Other(u32);

impl Projection for Other {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn version(&self) -> u32 {
        self.0
    }

    fn scope(&self, _: &Record) -> Vec<cim_keys_core::projection::Key> {
        Vec::new()
    }

    fn apply(&self, rows: &mut Rows, record: &Record) {
        rows.mark(cim_keys_core::projection::Key::of(&["other", &record.sequence.to_string()]));
    }
}

#[test]
fn rows_of_an_older_version_are_made_anew_and_of_a_newer_one_left_alone() {
    let (_folder, host, _, stream) = mixed();
    let store = host.store();
    assert_eq!(store.project(&Other(0)).unwrap(), stream.messages.len() as u64);
    assert!(kept(&host, &Directory).is_empty(), "rows of another version are not read");
    agrees(&host, &stream);
    store.project(&Other(2)).unwrap();
    let error = store.project(&Directory).unwrap_err();
    assert_eq!(error.code(), "projection-newer");
    assert!(!kept(&host, &Other(2)).is_empty());
}

#[test]
fn a_scope_that_is_incomplete_writes_nothing() {
    struct Careless;
    impl Projection for Careless {
        fn name(&self) -> &'static str {
            "careless"
        }
        fn version(&self) -> u32 {
            1
        }
        fn scope(&self, _: &Record) -> Vec<cim_keys_core::projection::Key> {
            Vec::new()
        }
        fn apply(&self, rows: &mut Rows, _: &Record) {
            let key = cim_keys_core::projection::Key::of(&["count"]);
            let count: u64 = rows.read(&key).unwrap_or(0);
            rows.write(key, &(count + 1));
        }
    }
    let (_folder, host, _, _) = mixed();
    assert_eq!(host.store().project(&Careless).unwrap_err().code(), "store-damaged");
    assert!(kept(&host, &Careless).is_empty());
}

#[test]
fn a_hole_in_the_trail_is_damage() {
    let (_folder, host, _, _) = mixed();
    host.store()
        .write(|transaction| Ok(transaction.execute("DELETE FROM messages WHERE sequence > 5", [])?))
        .unwrap();
    assert_eq!(host.store().project(&Directory).unwrap_err().code(), "store-damaged");
}

#[test]
fn times_are_kept_where_they_are_told() {
    let (folder, host, app) = founded();
    let mut stream = Stream::default();
    sync(&host, &mut stream);
    let own = stream.messages.len() as u64;
    let (_other, other) = copy(&folder, 2);
    for name in ["bob", "carol", "dave"] {
        user(&other, app, name);
    }
    sync(&other, &mut stream);
    for (message, second) in stream.messages.iter_mut().zip(10..) {
        message.time = Some(format!("2026-11-23T18:00:{second}.5Z"));
    }
    let last = stream.messages.len() as u64;
    sync(&host, &mut stream);
    let time = |second: u64| format!("2026-11-23T18:00:{second}Z").parse().unwrap();
    let store = host.store();
    assert_eq!(store.stored_at(own).unwrap(), None, "an acknowledgement does not say it");
    assert_eq!(
        store.stored_at(last).unwrap().unwrap().to_string(),
        format!("2026-11-23T18:00:{}.500Z", last + 9)
    );
    let around = |second| {
        let around = store.around(time(second)).unwrap();
        (around.by, around.later)
    };
    // Of the second half nothing is unknown, of the first half everything.
    assert_eq!(around(own + 11), (own + 1, Some(own + 2)));
    assert_eq!(around(own + 10), (0, Some(own + 1)));
    assert_eq!(around(last + 10), (last, None));
    store.note_times(&stream.messages[..1]).unwrap();
    assert_eq!((around(11), around(10)), ((1, Some(own + 1)), (0, Some(1))));
}

#[test]
fn a_file_of_the_version_before_is_taken_over() {
    let (folder, host, app, mut stream) = mixed();
    let path = folder.path().join("store.db");
    agrees(&host, &stream);
    drop(host);
    let tables =
        "SELECT name || coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name";
    let schema = |file: &Connection| -> Vec<String> {
        file.prepare(tables).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let file = Connection::open(&path).unwrap();
    let now = schema(&file);
    file.execute_batch(
        "DROP INDEX entities_called; DROP TABLE times; DROP TABLE projections; DROP TABLE projection_rows;
         PRAGMA user_version = 5;",
    )
    .unwrap();
    drop(file);
    let host = open(&folder, 5);
    assert_eq!(schema(&Connection::open(&path).unwrap()), now);
    let version: i64 =
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::VERSION);
    agrees(&host, &stream);
    user(&host, app, "dave");
    sync(&host, &mut stream);
    agrees(&host, &stream);
    // An older or newer one is refused as ever.
    for (other, code) in [(4, "store-older"), (schema::VERSION + 1, "store-newer")] {
        Connection::open(&path).unwrap().pragma_update(None, "user_version", other).unwrap();
        assert_eq!(Store::open(&path).unwrap_err().code(), code);
    }
}
