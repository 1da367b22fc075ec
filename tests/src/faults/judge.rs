//! What must hold when a row is over: read from the stream message by message, and from the journals' files.

use super::canary::{Canaries, files};
use super::journal::{self, Line};
use super::{Invariant, Run};
use crate::desk::Desk;
use crate::ledger::{Audit, Ledger};
use crate::server::NatsServer;
use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::command::decide;
use cim_keys_core::headers::{ALL, CIM_EVENT_ID, Headers, NATS_MSG_ID};
use cim_keys_core::registry::Registry;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use uuid::Uuid;

/// Seeds of so many users are searched for, beside those of all other keys.
const USERS: usize = 20;

impl Run {
    /// Judges a stream and the hosts that work on it: I1 to I5 and I10. Messages at `foreign` sequences were put there by a
    /// stranger; nothing else may be an anomaly.
    ///
    /// # Panics
    /// When something does not hold.
    pub(super) fn judge(&mut self, ledger: &Ledger, foreign: &BTreeSet<u64>, desks: &[&Desk]) -> Audit {
        let own: Vec<&StoredMessage> =
            ledger.messages.iter().filter(|message| !foreign.contains(&message.sequence)).collect();
        once(&own);
        let commands = in_order(&own);
        for desk in desks {
            let lines = journal::read(desk.store().path()).into_iter();
            let lines: BTreeMap<Uuid, Line> = lines.map(|line| (line.command_id, line)).collect();
            for id in desk.commands() {
                let line =
                    lines.get(&id).unwrap_or_else(|| panic!("I1: {id} was reported as done and is lost"));
                stands(line, commands.get(&id), ledger);
            }
        }
        let audit = ledger.check_with(desks);
        let strange: Vec<_> = audit
            .anomalies
            .iter()
            .filter(|anomaly| !anomaly.sequences.iter().all(|sequence| foreign.contains(sequence)))
            .collect();
        assert!(strange.is_empty(), "I3: what a host wrote is an anomaly: {strange:?}");
        let again = ledger.audit(audit.registry.id());
        assert!(again.registry == audit.registry && again.anomalies == audit.anomalies, "I10: another fold");
        decided_again(ledger, desks);
        use Invariant::{I1, I2, I3, I4, I5, I10};
        self.holds(&[I1, I2, I3, I4, I5, I10]);
        self.did(format!(
            "judged {} messages, {} commands of {} hosts, {} anomalies",
            ledger.last(),
            commands.len(),
            desks.len(),
            audit.anomalies.len()
        ));
        audit
    }

    /// Searches for the seeds that hosts keep in their stores, in what servers wrote and in what was printed: I6. Looks at
    /// the files of the hosts' folders as well: I7.
    ///
    /// # Panics
    /// When a seed is found, or a file is there that may not be.
    pub(super) fn search(&mut self, desks: &[&Desk], servers: &[&NatsServer], printed: &[String]) {
        let mut canaries = Canaries::default();
        for desk in desks {
            keep(&mut canaries, desk);
            self.files(desk.folder());
        }
        let mut looked = 0;
        for desk in desks {
            for path in files(desk.folder()) {
                if path.extension().is_none_or(|extension| extension != "creds") {
                    looked += looked_at(&canaries, &path);
                }
            }
        }
        for path in servers.iter().flat_map(|server| files(server.folder())) {
            looked += looked_at(&canaries, &path);
        }
        for text in printed {
            assert!(!canaries.stand_in(text.as_bytes()), "I6: a seed was printed");
            looked += text.len();
        }
        self.did(format!("searched {looked} bytes for {} seeds", canaries.len()));
        self.holds(&[Invariant::I6]);
    }

    /// Looks at the files of a host's folder: I7.
    ///
    /// # Panics
    /// When one may be read by others, or is a left-over.
    pub(super) fn files(&mut self, folder: &Path) {
        for path in files(folder) {
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
            assert!(mode & 0o077 == 0, "I7: {} has mode {mode:o}", path.display());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            assert!(!name.ends_with(".tmp"), "I7: {} is left", path.display());
        }
        self.holds(&[Invariant::I7]);
    }
}

/// Bytes looked at at a time: a host's memory is measured beside this.
const PORTION: u64 = 4 << 20;
/// More than any form of a seed is long.
const OVERLAP: usize = 256;

fn looked_at(canaries: &Canaries, path: &Path) -> usize {
    // A server may take a file away in the meantime.
    let Ok(mut file) = File::open(path) else { return 0 };
    let (mut bytes, mut looked) = (Vec::new(), 0);
    loop {
        let read = (&mut file).take(PORTION).read_to_end(&mut bytes).unwrap_or_default();
        assert!(!canaries.stand_in(&bytes), "I6: a seed stands in {}", path.display());
        if read == 0 {
            return looked;
        }
        looked += read;
        bytes.drain(..bytes.len().saturating_sub(OVERLAP));
    }
}

/// The keys that a host keeps.
fn keep(canaries: &mut Canaries, desk: &Desk) {
    let store = desk.store();
    let mut users = store.users(None).expect("a store that works");
    users.truncate(USERS);
    let lists = [store.operators(), store.accounts(), store.keys(None)];
    let others = lists.into_iter().flat_map(|list| list.expect("a store that works"));
    let mut kept = 0;
    for listed in others.chain(users) {
        let key = listed.entity.key();
        if store.is_kept(key).expect("a store that works") {
            canaries.add(&desk.host().key(key).expect("a key that is kept"));
            kept += 1;
        }
    }
    assert!(kept > 0, "a host keeps keys");
}

/// I2: each event id stands once, and names its message.
pub(super) fn once(messages: &[&StoredMessage]) {
    let mut ids = BTreeSet::new();
    for message in messages {
        let id = message.headers.only(CIM_EVENT_ID).expect("an event id");
        assert_eq!(message.headers.only(NATS_MSG_ID), Some(id), "I2: at {}", message.sequence);
        assert!(ids.insert(id), "I2: the event {id} stands twice, again at {}", message.sequence);
    }
}

/// I3: gives the first and last sequence of each command.
pub(super) fn in_order(messages: &[&StoredMessage]) -> BTreeMap<Uuid, (u64, u64)> {
    let mut commands: BTreeMap<Uuid, (u64, u64)> = BTreeMap::new();
    let mut open: Option<(Uuid, u64, u64, u64)> = None;
    for message in messages {
        let at = message.sequence;
        let body: Value = serde_json::from_slice(&message.payload).expect("an event is JSON");
        let command = &body["data"]["command"];
        let id: Uuid = command["id"].as_str().and_then(|id| id.parse().ok()).expect("a command id");
        let number = |name: &str| command[name].as_u64().expect("a number");
        let (index, count) = (number("index"), number("count"));
        match open {
            Some((command, next, of, last)) => {
                assert_eq!(
                    (id, index, count, at),
                    (command, next, of, last + 1),
                    "I3: {command} is not whole"
                );
                commands.entry(id).and_modify(|(_, last)| *last = at);
            }
            None => {
                assert_eq!(index, 0, "I3: the command {id} has no beginning at {at}");
                assert!(
                    commands.insert(id, (at, at)).is_none(),
                    "I3: the command {id} stands twice, at {at}"
                );
            }
        }
        open = (index + 1 < count).then_some((id, index + 1, count, at));
    }
    assert!(open.is_none(), "I3: the last command has no end: {open:?}");
    commands
}

/// I1 and I4: a command is where its journal says.
fn stands(line: &Line, found: Option<&(u64, u64)>, ledger: &Ledger) {
    let Line { command_id: id, state, .. } = line;
    match (state.as_str(), found) {
        ("confirmed", Some((first, last))) => {
            assert_eq!(line.first, Some(*first), "I4: {id}");
            assert_eq!(last - first + 1, line.events.len() as u64, "I4: {id}");
            for (sequence, event) in (*first..).zip(&line.events) {
                let message = ledger.at(sequence);
                let stored = (&message.subject, seven(&message.headers), &message.payload);
                assert!(
                    stored == (&event.0, seven(&event.1), &event.2),
                    "I4: {id} has other bytes at {sequence}"
                );
            }
        }
        ("confirmed", None) => panic!("I1: {id} is confirmed and not on the stream"),
        ("pending" | "held" | "settled", Some(place)) => {
            panic!("I1: {id} is {state} and on the stream at {place:?}")
        }
        ("held", None) => assert!(line.reason.is_some(), "I1: {id} is held without a reason"),
        // Somebody else may have published what was given up here.
        ("dropped", _) | ("pending" | "settled", None) => {}
        (state, _) => panic!("I1: {id} is {state}"),
    }
}

fn seven(headers: &Headers) -> BTreeSet<(String, String)> {
    let seven = headers.iter().filter(|(name, _)| ALL.iter().any(|known| known.eq_ignore_ascii_case(name)));
    seven.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// I10: deciding each command of the journals again, on the state that it met on the stream, gives the draft that stands
/// there.
fn decided_again(ledger: &Ledger, desks: &[&Desk]) {
    let mut lines: BTreeMap<Uuid, Line> = BTreeMap::new();
    for desk in desks {
        let confirmed =
            journal::read(desk.store().path()).into_iter().filter(|line| line.state == "confirmed");
        lines.extend(confirmed.map(|line| (line.command_id, line)));
    }
    let id = desks[0].registry();
    let (mut registry, mut assembler) = (Registry::new(id.clone()), Assembler::default());
    for group in ledger.messages.iter().flat_map(|message| assembler.push(message.clone())) {
        let Group::Command(complete) = group else { continue };
        let mut facts = registry.facts(&complete.scope(), false);
        let Ok(admitted) = complete.admit(&mut facts).expect("a complete scope") else { continue };
        if let Some(line) = lines.get(&admitted.recorded.command_id) {
            let scope = line.command.scope(&line.context, &id);
            let draft = decide(&registry.facts(&scope, false), &line.command, &line.context);
            let draft =
                draft.unwrap_or_else(|error| panic!("I10: {} decided again: {error}", line.command_id));
            assert_eq!(draft.hash(), admitted.recorded.draft_hash, "I10: {}", line.command_id);
            assert_eq!(draft.hash().to_string(), line.draft_hash, "I10: {}", line.command_id);
        }
        for id in &admitted.changed {
            registry.put(facts.entity(*id).expect("loaded").expect("changed").clone());
        }
        registry.record(admitted.recorded);
    }
}
