//! Projections over a registry's own stream, against a fold of its prefixes that shares no code with them.

mod lab;

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::command::{Command, Role};
use cim_keys_core::context::Context;
use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::projection::{Audit, Directory, Expiry, Memory, Projection, Record, Version, all, tree};
use cim_keys_core::registry::{Entity, EntityId, Registry};
use lab::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

/// A registry with a bit of everything, anomalies among it.
fn mixed(choices: &[Index]) -> Lab {
    let mut lab = Lab::founded();
    let signing = lab.founding[OPERATOR_SIGNING];
    let mut accounts = vec![lab.account("APP"), lab.account("OTHER")];
    let mut users: Vec<(PublicKey, PublicKey, PublicKey)> = Vec::new();
    let mut old: Option<StoredMessage> = None;
    for (place, choice) in choices.iter().enumerate() {
        let account = accounts[place % accounts.len()];
        let user = (!users.is_empty()).then(|| users[choice.index(users.len())]);
        let rights = |subject: String| UserRights {
            publish: PermissionList { allow: vec![subject], ..PermissionList::default() },
            ..UserRights::default()
        };
        match (choice.index(9), user) {
            (0 | 1, _) | (2..=4, None) if lab.drawn < 250 => {
                let command = Command::CreateUser {
                    account: account.0,
                    // A name is free again once who had it is revoked.
                    name: format!("user-{}", choice.index(5)),
                    rights: Some(rights(format!("orders.{place}"))),
                    expires: if place % 2 == 0 { 1_900_000_000 + (place % 5) as i64 } else { 0 },
                    tags: Vec::new(),
                    credentials: false,
                };
                if let Ok(keys) = lab.run(command, account.1) {
                    users.push((account.0, account.1, keys[0]));
                }
            }
            (2, Some((account, _, user))) => {
                let _ = lab.run(Command::RevokeUser { account, user }, signing);
            }
            (3 | 4, Some((account, key, user))) => {
                let rights = rights(format!("changed.{place}"));
                let _ = lab.run(Command::SetPermissions { account, user, rights }, key);
            }
            (5, _) if accounts.len() < 5 => accounts.push(lab.account(&format!("A{place}"))),
            (6, _) if lab.drawn < 250 => {
                let role = Role { name: format!("role-{place}"), template: rights("role.>".into()) };
                let command = Command::GenerateKey {
                    kind: Kind::Account,
                    owner: Some(account.0),
                    label: Some(format!("key {place}")),
                    role: Some(role),
                };
                let _ = lab.run(command, signing);
            }
            // An old event again: an anomaly.
            (7, _) => {
                if let Some(old) = old.clone() {
                    let _ = lab.read(&old.subject, old.headers, old.payload);
                }
            }
            _ => old = lab.stream.last().cloned(),
        }
    }
    lab
}

/// The registry after each sequence, and the sequences that change nothing.
fn prefixes(lab: &Lab) -> (Vec<Vec<Entity>>, BTreeSet<u64>) {
    let mut registry = Registry::new(lab.registry.id().clone());
    let (mut assembler, mut states, mut ignored) = (Assembler::default(), vec![Vec::new()], BTreeSet::new());
    for message in &lab.stream {
        for group in assembler.push(message.clone()) {
            let complete = match group {
                Group::Command(complete) => complete,
                Group::Anomaly(anomaly) => {
                    ignored.extend(anomaly.sequences);
                    continue;
                }
            };
            let mut facts = registry.facts(&complete.scope(), false);
            match complete.admit(&mut facts).unwrap() {
                Ok(admitted) => {
                    for id in &admitted.changed {
                        registry.put(facts.entity(*id).unwrap().unwrap().clone());
                    }
                    registry.record(admitted.recorded);
                    admitted.voided.into_iter().for_each(|void| registry.record(void));
                }
                Err(anomaly) => ignored.extend(anomaly.sequences),
            }
        }
        states.push(registry.entities().cloned().collect());
    }
    (states, ignored)
}

fn records(lab: &Lab, ignored: &BTreeSet<u64>) -> Vec<Record> {
    let admitted = lab.stream.iter().filter(|message| !ignored.contains(&message.sequence));
    let open = |m: &StoredMessage| Record::open(m.sequence, &m.subject, &m.headers, &m.payload).unwrap();
    admitted.map(open).collect()
}

fn folded(projection: &dyn Projection, records: &[Record]) -> Memory {
    let mut memory = Memory::default();
    for record in records {
        memory.fold(projection, record).unwrap();
    }
    memory
}

/// All entities as the directory says that they were.
fn state_at(directory: &Memory, sequence: u64) -> Vec<Entity> {
    let mut found = Vec::new();
    for kind in ["operator", "account", "user", "key"] {
        for (key, now) in directory.rows(&Directory::of_kind(kind)) {
            let id = Directory::entity(key).unwrap();
            let was = directory.rows(&Directory::was(id, sequence)).next();
            let version = Directory::at(sequence, now, was.map(|(_, was)| was));
            assert!(version.as_ref().is_none_or(|version| version.since <= sequence));
            found.extend(version.map(|version| version.entity));
        }
    }
    found.sort_by_key(Entity::id);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    // Eight registries, 25 positions in each: 200 in all.
    #[test]
    fn the_directory_at_a_sequence_is_the_fold_of_the_prefix(
        choices in proptest::collection::vec(any::<Index>(), 120),
        positions in proptest::collection::vec(any::<Index>(), 25),
    ) {
        let lab = mixed(&choices);
        let (states, ignored) = prefixes(&lab);
        let directory = folded(&Directory, &records(&lab, &ignored));
        for position in positions {
            let sequence = position.index(states.len());
            let mut expected = states[sequence].clone();
            expected.sort_by_key(Entity::id);
            prop_assert_eq!(state_at(&directory, sequence as u64), expected, "at {}", sequence);
        }
    }

    #[test]
    fn what_is_folded_again_changes_nothing(choices in proptest::collection::vec(any::<Index>(), 60), cut in any::<Index>()) {
        let lab = mixed(&choices);
        let (_, ignored) = prefixes(&lab);
        let records = records(&lab, &ignored);
        for projection in all() {
            let whole = folded(projection, &records);
            // Delivered again from somewhere on, as after a crash before the acknowledgement.
            let mut again = folded(projection, &records);
            for record in &records[cut.index(records.len())..] {
                again.fold(projection, record).unwrap();
            }
            prop_assert_eq!(&whole, &again);
            prop_assert_eq!(whole.reached(), records.last().unwrap().sequence);
        }
    }

    #[test]
    fn the_trail_is_found_by_everything_that_it_says(choices in proptest::collection::vec(any::<Index>(), 60)) {
        let lab = mixed(&choices);
        let (_, ignored) = prefixes(&lab);
        let records = records(&lab, &ignored);
        let audit = folded(&Audit, &records);
        let all: Vec<_> = audit.rows(&Audit::between(0, u64::MAX)).map(|(_, text)| Audit::entry(text).unwrap()).collect();
        prop_assert_eq!(all.len(), records.len());
        let mut by: BTreeMap<(&str, String), Vec<u64>> = BTreeMap::new();
        for entry in &all {
            for (look_up, text) in [
                ("entity", entry.entity.clone()),
                ("actor", entry.actor.clone()),
                ("correlation", entry.correlation_id.to_string()),
                ("type", entry.event_type.clone()),
            ] {
                by.entry((look_up, text)).or_default().push(entry.sequence);
            }
        }
        for ((look_up, text), expected) in &by {
            let found = |first, last| -> Vec<u64> {
                audit.rows(&Audit::by(look_up, text, first, last)).map(|(key, _)| Audit::sequence(key).unwrap()).collect()
            };
            prop_assert_eq!(&found(0, u64::MAX), expected);
            prop_assert_eq!(found(expected[0] + 1, u64::MAX), &expected[1..]);
        }
        // Each command is in the tree once, behind what caused it.
        let branches = tree(all.clone());
        let commands: BTreeSet<_> = all.iter().map(|entry| entry.command_id).collect();
        prop_assert_eq!(branches.len(), commands.len());
        prop_assert_eq!(branches.iter().map(|branch| branch.entries.len()).sum::<usize>(), all.len());
    }

    #[test]
    fn what_expires_is_every_living_token_that_ends(choices in proptest::collection::vec(any::<Index>(), 80)) {
        let lab = mixed(&choices);
        let (states, ignored) = prefixes(&lab);
        let expiry = folded(&Expiry, &records(&lab, &ignored));
        let mut expected: Vec<(i64, EntityId)> = states.last().unwrap().iter()
            .filter(|entity| entity.revoked_at().is_none())
            .filter_map(|entity| Some((entity.token()?.claims().expires, entity.id())))
            .filter(|(expires, _)| *expires > 0)
            .collect();
        expected.sort_unstable();
        let found = |from, until| -> Vec<(i64, EntityId)> {
            let rows = expiry.rows(&Expiry::between(from, until));
            let mut list: Vec<_> = rows.map(|(_, text)| Expiry::expiring(text).unwrap()).map(|e| (e.expires, e.entity)).collect();
            prop_assert_eq_order(&list);
            list.sort_unstable();
            list
        };
        prop_assert_eq!(&found(0, i64::MAX), &expected);
        let some: Vec<_> = expected.iter().copied().filter(|(expires, _)| (1_900_000_001..=1_900_000_003).contains(expires)).collect();
        prop_assert_eq!(found(1_900_000_001, 1_900_000_003), some);
    }
}

fn prop_assert_eq_order(list: &[(i64, EntityId)]) {
    assert!(list.is_sorted_by_key(|(expires, _)| *expires), "soonest first");
}

#[test]
fn an_entity_is_found_by_every_name_it_had() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let user = lab.user(app, "alice").unwrap();
    let (_, ignored) = prefixes(&lab);
    let directory = folded(&Directory, &records(&lab, &ignored));
    let id = EntityId::User { account: app.0, user };
    let ids =
        |range| directory.rows(&range).map(|(key, _)| Directory::entity(key).unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(Directory::named("alice")), [id]);
    assert_eq!(ids(Directory::keyed(user)), [id]);
    assert_eq!(ids(Directory::users_of(app.0)), [id]);
    assert!(ids(Directory::named("alic")).is_empty() && ids(Directory::named("alice2")).is_empty());
    let Some(Version { since, .. }) = directory.row(&Directory::now(id)).and_then(Directory::version) else {
        panic!("a row")
    };
    assert_eq!(since, lab.sequence);
}

#[test]
fn effects_stand_behind_their_causes() {
    let mut lab = Lab::founded();
    let app = lab.account("APP");
    let mut causes: Vec<Context> = Vec::new();
    // A chain, its first link by an event's id, and a second effect of the first command.
    for (place, name) in ["root", "by-event", "deeper", "sibling"].into_iter().enumerate() {
        let command = create_user(app.0, name);
        let keys = lab.draw(&command.keys());
        let mut context = lab.context(app.1, keys);
        match place {
            1 => context.causation_id = causes[0].event_id(0),
            2 => context.causation_id = causes[1].command_id,
            3 => context.causation_id = causes[0].command_id,
            _ => {}
        }
        let decision = lab.decide(&command, &context).unwrap();
        lab.publish(&decision).unwrap();
        causes.push(context);
    }
    let (_, ignored) = prefixes(&lab);
    let entries: Vec<_> = records(&lab, &ignored).iter().map(cim_keys_core::projection::Entry::of).collect();
    let branches = tree(entries);
    let told: Vec<(u32, Option<&str>)> = branches
        .iter()
        .map(|branch| (branch.depth, branch.entries[0].name.as_deref()))
        .filter(|(_, name)| {
            name.is_some_and(|name| ["root", "by-event", "deeper", "sibling"].contains(&name))
        })
        .collect();
    assert_eq!(told, [(0, Some("root")), (1, Some("by-event")), (2, Some("deeper")), (1, Some("sibling"))]);
    let deeper = branches.iter().find(|branch| branch.depth == 2).unwrap();
    assert_eq!(deeper.caused_by, Some(causes[1].command_id));
}
