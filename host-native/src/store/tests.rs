//! The store under the sync machine, over a stream in memory; and what must never be in its file.

mod bundle;
mod held;
mod paging;
mod projection;
mod recover;
mod voids;

use super::*;
use crate::ambient::{Ambient, Fixed};
use crate::error::KeyError;
use crate::host::{Founding, Host, Request};
use crate::ports::{Access, NatsPort, NewUser};
use crate::vault::Vault;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::command::Command;
use cim_keys_core::journal::{State, StreamIdentity};
use cim_keys_core::jwt::AccountLimits;
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{EntityId, Lookup};
use cim_keys_core::stream::{KEYS_EVENTS, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{
    Failure, Input, Machine, Output, Overlay, Persist, Persisted, Read, Reply, Status, StreamInfo,
};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use tempfile::TempDir;
use uuid::Uuid;

const NOW: i64 = 1_795_423_807_042;

/// A stream that refuses what does not expect its last sequence.
#[derive(Default)]
struct Stream {
    messages: Vec<StoredMessage>,
}

impl Stream {
    fn append(&mut self, messages: &[cim_keys_core::sync::Outgoing]) -> Reply {
        let last = self.messages.len() as u64;
        let expected =
            messages[0].headers.only("Nats-Expected-Last-Sequence").and_then(|text| text.parse().ok());
        if expected != Some(last) {
            return Reply::Error { code: 10071 };
        }
        for message in messages {
            self.messages.push(StoredMessage {
                sequence: self.messages.len() as u64 + 1,
                subject: message.subject.clone(),
                headers: message.headers.clone(),
                payload: message.payload.clone(),
                time: None,
            });
        }
        Reply::Ack { stream: "KEYS_EVENTS".into(), sequence: self.messages.len() as u64, duplicate: false }
    }

    fn read(&self, after: u64, limit: u32) -> Read {
        let behind = self.messages.iter().filter(|message| message.sequence > after);
        Read {
            info: StreamInfo {
                identity: StreamIdentity {
                    name: "KEYS_EVENTS".into(),
                    created: "2026-11-23T00:00:00Z".into(),
                },
                config: keys_events_stream_config(&Namespace::default()),
                first: 1,
                last: self.messages.len() as u64,
                first_age: None,
                server: Some((2, 15, 1)),
            },
            messages: behind.take(limit as usize).cloned().collect(),
        }
    }
}

/// Drives the machine until nothing is left to do.
fn sync(host: &Host, stream: &mut Stream) {
    assert_eq!(drive(host, stream, |_| {}), Status::Idle);
}

/// Drives it until it comes to rest or is blocked; `before` it does what the machine asks for, somebody else may act.
#[must_use]
fn drive(host: &Host, stream: &mut Stream, mut before: impl FnMut(&Output)) -> Status {
    let store = host.store();
    let mut machine = Machine::new(store.registry_id().unwrap().clone(), store.progress().unwrap());
    let mut inputs = VecDeque::from([Input::Tick]);
    let mut status = Status::Working;
    for _ in 0..10_000 {
        let Some(input) = inputs.pop_front() else {
            store.note_rest();
            return status;
        };
        for output in machine.handle(input, host.ambient().moment().unwrap()) {
            before(&output);
            match output {
                Output::ReadFrom { stream: name, after, limit } => {
                    inputs.push_back(if name == KEYS_EVENTS {
                        Input::Read(stream.read(after, limit))
                    } else {
                        Input::ReadFailed(Failure::StreamMissing)
                    });
                }
                Output::LoadFacts { scopes } => {
                    let (facts, own) = store.sync_facts(&scopes).unwrap();
                    inputs.push_back(Input::Facts { facts, own });
                }
                Output::Load { after, limit } => {
                    let Batch { commands, more, revision } = store.load(after, limit).unwrap();
                    let held_revocations = store.held_revocations().unwrap();
                    inputs.push_back(Input::Loaded { commands, more, held_revocations, revision });
                }
                Output::Gather { after, messages } => inputs.push_back(Input::Gathered {
                    commands: store.gather(after, messages).unwrap(),
                    held_revocations: store.held_revocations().unwrap(),
                }),
                Output::Persist(persist) => inputs.push_back(Input::Persisted(store.persist(&persist))),
                Output::Send(send) => {
                    store.note_sending().unwrap();
                    inputs.push_back(Input::Reply(stream.append(&send.messages)));
                }
                Output::Redecide { command_id } => {
                    let resolved = match host.redecide(command_id) {
                        // As the pump does: without the key it stays held.
                        Err(KeyError::Keyring(_)) => false,
                        resolved => resolved.unwrap(),
                    };
                    inputs.push_back(Input::Redecided { command_id, resolved });
                }
                Output::Report(new) => status = new,
                Output::Wait { .. } if matches!(status, Status::Blocked { .. }) => {}
                Output::Wait { .. } => inputs.push_back(Input::Tick),
                Output::Drop | Output::Follow { .. } => {}
            }
        }
    }
    panic!("the machine does not come to rest");
}

fn open(folder: &TempDir, seed: u64) -> Host {
    let store = Store::create(&folder.path().join("store.db")).unwrap();
    let ambient = Ambient::new(Box::new(Fixed::new(NOW + 10_000 * i64::try_from(seed).unwrap(), 1000, seed)));
    Host::new(
        store,
        Vault::or_create(&folder.path().join("identity.age")),
        ambient,
        "tester".parse().unwrap(),
    )
}

/// A registry with the account APP.
fn founded() -> (TempDir, Host, PublicKey) {
    let folder = tempfile::tempdir().unwrap();
    let host = open(&folder, 1);
    let founding = Founding { name: "TEST".into(), namespace: Namespace::default(), escrow: Vec::new() };
    host.create_operator(&founding).unwrap();
    let app = host.create_account("APP", AccountLimits::default()).unwrap().keys[0];
    (folder, host, app)
}

/// A second host: a copy of store and identity.
fn copy(folder: &TempDir, seed: u64) -> (TempDir, Host) {
    let other = tempfile::tempdir().unwrap();
    let store = Connection::open(folder.path().join("store.db")).unwrap();
    store.execute("VACUUM INTO ?1", [other.path().join("store.db").to_str().unwrap()]).unwrap();
    std::fs::copy(folder.path().join("identity.age"), other.path().join("identity.age")).unwrap();
    let host = open(&other, seed);
    (other, host)
}

fn new_user(account: PublicKey, name: &str) -> NewUser {
    NewUser {
        account,
        name: name.into(),
        access: Access::Own(Box::default()),
        expires: 0,
        tags: Vec::new(),
        key: None,
        credentials: true,
        keep: false,
    }
}

fn user(host: &Host, account: PublicKey, name: &str) -> PublicKey {
    host.create_user(new_user(account, name)).unwrap().keys[0]
}

fn revoke(host: &Host, account: PublicKey, user: PublicKey) -> Uuid {
    host.run(&Request::new(Command::RevokeUser { account, user })).unwrap().command_id
}

fn state(host: &Host, id: Uuid) -> State {
    host.store().promised(id).unwrap().unwrap().state
}

fn revocations(host: &Host, account: PublicKey) -> usize {
    host.account(account).unwrap().token.claims().body.as_account().unwrap().revocations.len()
}

#[test]
fn what_is_pending_is_confirmed_once_and_stands_in_the_trail() {
    let (_folder, host, app) = founded();
    user(&host, app, "alice");
    let mut stream = Stream::default();
    sync(&host, &mut stream);
    let count = stream.messages.len();
    sync(&host, &mut stream);
    assert_eq!(stream.messages.len(), count, "a second sync publishes nothing");
    let counts = host.store().counts().unwrap();
    assert_eq!((counts.pending, counts.held, counts.accounts, counts.users), (0, 0, 4, 1));
    assert!(host.store().users(None).unwrap().iter().all(|listed| listed.pending.is_none()));
    let trail = host.store().trail(0, 1000).unwrap();
    assert_eq!(
        trail.iter().map(|entry| entry.sequence).collect::<Vec<_>>(),
        (1..=count as u64).collect::<Vec<_>>()
    );
    for (entry, message) in trail.iter().zip(&stream.messages) {
        assert_eq!((&entry.subject, &entry.payload), (&message.subject, &message.payload));
    }
    assert_eq!(host.store().trail(count as u64 - 1, 5).unwrap().len(), 1);
    // Piece by piece it is the same.
    let pieces = (0..count as u64).step_by(2).flat_map(|after| {
        host.store().trail_between(after, after + 2, 1000).unwrap().into_iter().map(|entry| entry.sequence)
    });
    assert_eq!(pieces.collect::<Vec<_>>(), (1..=count as u64).collect::<Vec<_>>());
    assert!(host.store().pending_events(10).unwrap().is_empty());
}

#[test]
fn two_revocations_of_two_hosts_are_both_in_force() {
    let (folder, a, app) = founded();
    let (alice, bob) = (user(&a, app, "alice"), user(&a, app, "bob"));
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_other, b) = copy(&folder, 2);
    revoke(&a, app, alice);
    let second = revoke(&b, app, bob);
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    sync(&a, &mut stream);
    assert_eq!(state(&b, second), State::Confirmed);
    assert_eq!(b.store().promised(second).unwrap().unwrap().context.attempt, 2);
    assert_eq!((revocations(&a, app), revocations(&b, app)), (2, 2));
    let entities = |host: &Host| {
        let ids = [EntityId::Account(app), EntityId::User { account: app, user: bob }].map(Lookup::Entity);
        host.store().facts(&ids, false).unwrap().0
    };
    assert_eq!(entities(&a), entities(&b));
}

#[test]
fn the_same_revocation_twice_is_settled_or_raised() {
    let (folder, a, app) = founded();
    let alice = user(&a, app, "alice");
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    // The copy's clock is ahead, so that its revocation reaches further.
    let (_other, b) = copy(&folder, 9);
    let (early, late) = (revoke(&a, app, alice), revoke(&b, app, alice));
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    assert_eq!(state(&b, late), State::Confirmed, "raised");

    let bob = user(&a, app, "bob");
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    let (early_b, late_b) = (revoke(&a, app, bob), revoke(&b, app, bob));
    sync(&b, &mut stream);
    sync(&a, &mut stream);
    assert_eq!(
        (state(&a, early), state(&b, late_b), state(&a, early_b)),
        (State::Confirmed, State::Confirmed, State::Settled)
    );
    assert!(a.store().held().unwrap().is_empty() && b.store().held().unwrap().is_empty());
}

#[test]
fn what_contradicts_is_held_with_its_reason() {
    let (folder, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_other, b) = copy(&folder, 2);
    user(&a, app, "carol");
    let ours = user(&b, app, "carol");
    user(&b, app, "dave");
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    let held = b.store().held().unwrap();
    assert_eq!(held.iter().map(|held| held.reason.code.as_str()).collect::<Vec<_>>(), ["name-taken"]);
    assert!(b.store().by_key(ours).unwrap().is_empty(), "what is held is no part of the state");
    let names: Vec<String> =
        b.store().users(Some(app)).unwrap().iter().map(|l| l.entity.name().into()).collect();
    assert_eq!(names, ["carol", "dave"]);
    assert!(!b.redecide(held[0].command_id).unwrap(), "only revocations are tried again unasked");
}

#[test]
fn garbage_is_an_anomaly_and_changes_nothing() {
    let (_folder, host, _app) = founded();
    let mut stream = Stream::default();
    sync(&host, &mut stream);
    let old = stream.messages.last().unwrap().clone();
    stream.messages.push(StoredMessage { sequence: stream.messages.len() as u64 + 1, ..old });
    let accounts = host.store().accounts().unwrap();
    sync(&host, &mut stream);
    let anomalies = host.store().anomalies().unwrap();
    assert_eq!(
        anomalies.iter().flat_map(|a| a.sequences.clone()).collect::<Vec<_>>(),
        [stream.messages.len() as u64]
    );
    assert_eq!(host.store().accounts().unwrap(), accounts);
}

#[test]
fn a_command_without_its_messages_is_damage_and_not_passed_over() {
    let (_folder, host, app) = founded();
    user(&host, app, "alice");
    user(&host, app, "bob");
    let store = host.store();
    let all = store.gather(0, 1000).unwrap();
    // The last of the founding's messages, all of a later command's, and of the last one.
    let (first, middle, last) = (all[0].position, all[2].position, all[all.len() - 1].position);
    assert!(all[0].envelopes.len() > 1 && all.len() == 4);
    for (query, position, what) in [
        (
            "DELETE FROM envelopes WHERE id = (SELECT max(id) FROM envelopes WHERE id < (?1 + 1) * 1024)",
            first,
            "one",
        ),
        ("DELETE FROM envelopes WHERE id >= ?1 * 1024 AND id < (?1 + 1) * 1024", middle, "all"),
        ("DELETE FROM envelopes WHERE id >= ?1 * 1024 AND id < (?1 + 1) * 1024", last, "the last one's"),
    ] {
        store.connection.lock().unwrap().execute(query, [position]).unwrap();
        assert_eq!(store.gather(position - 1, 1).unwrap_err().code(), "store-damaged", "{what}");
    }
}

#[test]
fn a_persist_from_elsewhere_is_stale() {
    let (_folder, host, app) = founded();
    let store = host.store();
    let revision = store.revision().unwrap();
    let persist =
        |expect_head, expect_revision| Persist { expect_head, expect_revision, ..Persist::default() };
    assert_eq!(store.persist(&persist(7, None)), Persisted::Stale);
    assert_eq!(store.persist(&persist(0, Some(revision + 1))), Persisted::Stale);
    assert_eq!(store.persist(&persist(0, Some(revision))), Persisted::Ok);
    assert_eq!(store.revision().unwrap(), revision, "the machine's own writes do not move it");
    user(&host, app, "alice");
    assert_eq!(store.persist(&persist(0, Some(revision))), Persisted::Stale);
    assert_eq!(store.load(0, 2).unwrap().commands.len(), 2);
    assert!(store.load(0, 2).unwrap().more && !store.load(0, 3).unwrap().more);
    // An overlay that is dropped is gone, names included.
    let drop =
        Persist { overlay: Overlay::Replace { until: None, entities: Vec::new() }, ..persist(0, None) };
    assert_eq!(store.persist(&drop), Persisted::Ok);
    assert!(store.users(None).unwrap().is_empty());
}

#[test]
fn no_seed_is_in_the_file_or_its_companions() {
    let (folder, host, app) = founded();
    // Every key of the fixed source, as it was drawn again.
    let source = Fixed::new(0, 0, 1);
    let alice = user(&host, app, "alice");
    host.run(&Request {
        keep: true,
        ..Request::new(Command::GenerateKey { kind: Kind::Curve, owner: None, label: None, role: None })
    })
    .unwrap();
    let path = folder.path().join("alice.creds");
    host.hand_out(app, alice, &path).unwrap();
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap().path();
        if entry.file_name().unwrap().to_string_lossy().starts_with("store.db") {
            bytes.extend(std::fs::read(entry).unwrap());
        }
    }
    assert!(bytes.len() > 100_000 && folder.path().join("store.db-wal").exists(), "the log was read too");
    let mut debug = format!("{host:?} {:?} {:?}", host.store(), host.store().hand_outs());
    for held in host.store().keys(None).unwrap() {
        write!(debug, "{:?}", host.store().sealed_key(held.entity.key())).unwrap();
    }
    bytes.extend(debug.as_bytes());
    let mut canaries: HashMap<[u8; 12], Vec<Vec<u8>>> = HashMap::new();
    for _ in 0..40 {
        let mut raw = [0u8; 32];
        crate::ambient::Source::fill(&source, &mut raw).unwrap();
        for canary in canaries_of(&raw) {
            canaries.entry(canary[..12].try_into().unwrap()).or_default().push(canary);
        }
    }
    let creds = std::fs::read(&path).unwrap();
    assert!(is_found(&creds, &canaries), "the search finds what is there");
    assert!(!is_found(&bytes, &canaries));
}

fn is_found(bytes: &[u8], canaries: &HashMap<[u8; 12], Vec<Vec<u8>>>) -> bool {
    bytes.windows(12).enumerate().any(|(at, window)| {
        let begin: [u8; 12] = window.try_into().unwrap();
        canaries.get(&begin).is_some_and(|list| list.iter().any(|canary| bytes[at..].starts_with(canary)))
    })
}

/// A key as raw bytes, hex, base64, base64url and as a seed of each kind: parts that no encoding around them changes.
fn canaries_of(raw: &[u8; 32]) -> Vec<Vec<u8>> {
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut list = vec![raw.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for kind in Kind::ALL {
        list.push(KeyPair::from_entropy(kind, *raw).seed().expose().as_bytes()[4..50].to_vec());
    }
    // Three alignments: base64 of bytes that begin 0, 1 or 2 further in.
    for skip in 0..3 {
        let text = base64(&raw[skip..]);
        list.push(text.as_bytes()[..36].to_vec());
        list.push(text.replace('+', "-").replace('/', "_").as_bytes()[..36].to_vec());
    }
    list
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, chunk[0], chunk[1], chunk[2]]);
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift) as usize & 63])));
    }
    text
}

#[test]
fn look_ups_of_a_command_use_an_index() {
    let (folder, host, app) = founded();
    user(&host, app, "alice");
    let connection = Connection::open(folder.path().join("store.db")).unwrap();
    for query in [
        "SELECT body FROM entities WHERE id = ?1 ORDER BY position DESC LIMIT 1",
        "SELECT body FROM entities WHERE id = ?1 AND position <= ?2 ORDER BY position DESC LIMIT 1",
        "SELECT id FROM entities WHERE parent = ?1 AND name = ?2 AND holds = 1 AND newest = 1",
        "SELECT id FROM entities AS e WHERE parent = ?1 AND name = ?2 AND holds = 1 AND position <= ?3
         AND NOT EXISTS (SELECT 1 FROM entities AS l WHERE l.id = e.id AND l.position > e.position AND l.position <= ?3)",
        "SELECT body FROM recorded WHERE command_id = ?1",
        "SELECT position FROM journal WHERE command_id = ?1",
        "SELECT position FROM journal WHERE state = 'pending' AND position > ?1 ORDER BY position LIMIT ?2",
        "SELECT sealed FROM keys WHERE key = ?1",
        "SELECT command_id FROM hand_outs WHERE key = ?1 AND account = ?2",
        "SELECT body, position FROM entities WHERE newest = 1 AND key = ?1",
        "DELETE FROM entities WHERE position > ?1",
        "UPDATE entities SET newest = 0 WHERE id = ?1 AND newest = 1",
        "SELECT j.position FROM journal AS j LEFT JOIN envelopes AS e ON e.id >= j.position * 1024 AND e.id < (j.position + 1) * 1024
         WHERE j.state = 'pending' AND j.position > ?1 ORDER BY j.position",
        "UPDATE journal SET state = 'confirmed' WHERE command_id = ?1",
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let plan: String = row.get(3).unwrap();
            assert!(!plan.starts_with("SCAN"), "{query}: {plan}");
        }
    }
}

#[test]
fn a_file_whose_making_was_ended_is_no_store_yet() {
    let folder = tempfile::tempdir().unwrap();
    for (name, header) in [("empty.db", false), ("begun.db", true)] {
        // Given the file of a process that was ended before its tables were there,
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        if header {
            Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
            assert!(path.metadata().unwrap().len() > 0);
        }
        // when it is opened, then there is none yet; and it can be made.
        for _ in 0..2 {
            assert_eq!(Store::open(&path).unwrap_err(), StoreError::Empty { path: path.clone() });
        }
        assert!(!Store::create(&path).unwrap().is_founded().unwrap());
        assert!(!Store::open(&path).unwrap().is_founded().unwrap());
    }
}

#[test]
fn whoever_opens_while_another_makes_it_sees_a_store_or_none() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("store.db");
        let start = std::sync::Barrier::new(6);
        let work = |make: bool| {
            start.wait();
            if make {
                drop(Store::create(&path).unwrap());
                return;
            }
            // Until it is there.
            for _ in 0..1_000_000 {
                match Store::open(&path) {
                    Ok(_) => return,
                    Err(StoreError::Missing { .. } | StoreError::Empty { .. }) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            panic!("never made");
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                [true, true, true, false, false, false].map(|make| scope.spawn(move || work(make))).into();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    assert_eq!(Store::open(&inside).unwrap_err(), StoreError::NoFile { path: inside });
    let path = folder.path().join("store.db");
    assert_eq!(Store::open(&path).unwrap_err(), StoreError::Missing { path: path.clone() });
    std::fs::write(&path, "something else, long enough to be looked at as a database header of a hundred bytes or more, is it not? yes it is").unwrap();
    assert_eq!(Store::open(&path).unwrap_err(), StoreError::Foreign { path: path.clone() });
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
    assert_eq!(Store::create(&other).unwrap_err(), StoreError::Foreign { path: other });
    let versioned = folder.path().join("versioned.db");
    drop(Store::create(&versioned).unwrap());
    let set = |version: i64| {
        Connection::open(&versioned).unwrap().pragma_update(None, "user_version", version).unwrap();
        (Store::open(&versioned).unwrap_err(), Store::create(&versioned).unwrap_err())
    };
    let newer = StoreError::Newer { path: versioned.clone(), found: 99, supported: schema::VERSION };
    assert_eq!(set(99), (newer.clone(), newer));
    let older = StoreError::Older { path: versioned.clone(), found: 2, supported: schema::VERSION };
    assert_eq!(set(2), (older.clone(), older));
}

#[test]
fn appending_goes_on_while_commands_are_made() {
    let (one, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_other, b) = copy(&one, 2);
    for number in 0..300 {
        user(&a, app, &format!("before {number}"));
    }
    // Given something foreign, for which all is checked again, when a command is made during each look at more than a few,
    user(&b, app, "bob");
    sync(&b, &mut stream);
    let (looked, made, stored) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let status = drive(&a, &mut stream, |output| match output {
        Output::Load { limit, .. } => looked.set(*limit),
        Output::Persist(persist) if !persist.confirmed.is_empty() => stored.set(stored.get() + 1),
        Output::Persist(persist)
            if matches!(persist.overlay, Overlay::Replace { .. })
                && looked.get() > 4
                && stored.get() < 3
                && made.get() < 100 =>
        {
            made.set(made.get() + 1);
            user(&a, app, &format!("during {}", made.get()));
        }
        _ => {}
    });
    assert_eq!(status, Status::Idle);
    // then looks become short enough to come through all the same.
    assert!((1..100).contains(&made.get()), "{} looks were in vain", made.get());
}
