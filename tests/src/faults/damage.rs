//! Files that are not what they were: journals and secrets.

use super::judge::{in_order, once};
use super::{Invariant, NotRun, Run, journal};
use crate::desk::{Desk, block_on, make_streams};
use crate::ledger::Ledger;
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use cim_keys::ambient::Ambient;
use cim_keys::host::{Host, Request};
use cim_keys::nats::target::{Access, Layer, Target};
use cim_keys::pump::{End, Lock, Pump};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::command::Command;
use cim_keys_core::context::RegistryId;
use cim_keys_core::creds;
use cim_keys_core::jwt::{AccountLimits, Token};
use cim_keys_core::nkey::KeyPair;
use cim_keys_core::roles::PipelineRole;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// A host's files and its server's as they were, to be copied for each try.
struct Template {
    host: TempDir,
    store: Vec<u8>,
    server: Arc<TempDir>,
    messages: Vec<StoredMessage>,
    registry: RegistryId,
    /// Every command with the payloads of its events, and whether it is held.
    commands: BTreeMap<Uuid, (Vec<Vec<u8>>, bool)>,
}

impl Template {
    /// With commands of each state: confirmed, pending, held, and creds that are to be handed out.
    fn new() -> Template {
        let mut server = NatsServer::plain();
        let target = Target::open(&server.url());
        make_streams(&target, 120);
        let desk = Desk::founded();
        for number in 0..12 {
            desk.user(&format!("early-{number}"));
        }
        desk.sync(&target).drained();
        let twin = desk.twin();
        twin.user("same");
        twin.sync(&target).drained();
        desk.user("same");
        desk.sync(&target).drained();
        assert_eq!(desk.held().len(), 1);
        for number in 0..12 {
            let user = desk.user(&format!("late-{number}"));
            if number % 4 == 0 {
                desk.revoke(user);
            }
        }
        let mut commands: BTreeMap<Uuid, (Vec<Vec<u8>>, bool)> = BTreeMap::new();
        for line in journal::read(desk.store().path()) {
            let payloads = line.events.into_iter().map(|(_, _, payload)| payload).collect();
            commands.insert(line.command_id, (payloads, line.state == "held"));
        }
        let messages = Ledger::of(&server).messages;
        server.stop();
        let (host, kept) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        copy(&server.folder().join("store"), &kept.path().join("store"));
        fs::copy(desk.identity(), host.path().join("identity.age")).expect("a copy");
        let file = Connection::open(desk.store().path()).expect("the store's file");
        let done = file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        assert_eq!(done, Ok(0), "everything is in one file");
        let store = fs::read(desk.store().path()).expect("the store's file");
        Template { host, store, server: Arc::new(kept), messages, registry: desk.registry(), commands }
    }

    fn serve(&self) -> NatsServer {
        let kept = Arc::clone(&self.server);
        let setup = Setup::configured(Version::Newest, move |folder| {
            let store = folder.join("store");
            if !store.exists() {
                copy(&kept.path().join("store"), &store);
            }
            format!("jetstream {{ store_dir: {store:?} }}\n")
        });
        setup.start()
    }

    /// A folder with this for a store.
    fn place(&self, bytes: &[u8]) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        fs::copy(self.host.path().join("identity.age"), folder.path().join("identity.age")).expect("a copy");
        fs::write(folder.path().join("store.db"), bytes).expect("a file");
        folder
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// What is done to a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Truncated,
    Bit,
    Bits,
    Page,
    Foreign,
    Newer,
}

const DAMAGES: [Damage; 6] =
    [Damage::Truncated, Damage::Bit, Damage::Bits, Damage::Page, Damage::Foreign, Damage::Newer];

fn damaged(run: &mut Run, damage: Damage, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let length = bytes.len() as u64;
    let place =
        |run: &mut Run, limit: u64| usize::try_from(run.between(0, limit - 1)).expect("a small number");
    match damage {
        Damage::Truncated => bytes.truncate(place(run, length)),
        Damage::Bit => {
            let at = place(run, length);
            bytes[at] ^= 1 << run.between(0, 7);
        }
        Damage::Bits => {
            for _ in 0..64 {
                let at = place(run, length);
                bytes[at] ^= 1 << run.between(0, 7);
            }
        }
        Damage::Page => {
            let (from, to) = (place(run, length / 4096), place(run, length / 4096));
            bytes.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
        }
        Damage::Foreign => bytes = foreign(run),
        Damage::Newer => {
            // Where SQLite has the version of the tables.
            let newer = u32::from_be_bytes(bytes[60..64].try_into().expect("four bytes")) + 1;
            bytes[60..64].copy_from_slice(&newer.to_be_bytes());
        }
    }
    bytes
}

fn foreign(run: &mut Run) -> Vec<u8> {
    match run.between(0, 3) {
        0 => Vec::new(),
        1 => b"{ \"a\": \"journal of somebody else\" }\n".repeat(300),
        2 => (0..20_000).map(|_| run.between(0, 255).to_le_bytes()[0]).collect(),
        _ => {
            let folder = TempDir::new().expect("a folder");
            let path = folder.path().join("other.db");
            let file = Connection::open(&path).expect("a file");
            file.execute_batch("CREATE TABLE journal (a, b); INSERT INTO journal VALUES (1, 2);")
                .expect("a table");
            drop(file);
            fs::read(path).expect("a file")
        }
    }
}

/// What came of working with it, and what is held then; or the code of what was said against it.
fn work(folder: &Path, commands: &[Uuid], target: &Target) -> Result<(End, BTreeSet<Uuid>), String> {
    let store = Store::open(&folder.join("store.db")).map_err(|error| error.code().to_owned())?;
    let vault = Vault::new(&folder.join("identity.age"));
    let host = Host::new(store, vault, Ambient::system(), "test".parse().expect("an actor"));
    let store = host.store();
    let said = |error: cim_keys::store::StoreError| error.code().to_owned();
    store.counts().map_err(said)?;
    store.held().map_err(said)?;
    store.progress().map_err(said)?;
    store.trail(0, 1000).map_err(said)?;
    store.pending_events(1000).map_err(said)?;
    store.anomalies().map_err(said)?;
    for list in [store.operators(), store.accounts(), store.users(None), store.keys(None)] {
        list.map_err(said)?;
    }
    for id in commands {
        store.promised(*id).map_err(said)?;
    }
    host.export(true).map_err(|error| error.code().to_owned())?;
    let command = Command::CreateAccount { name: "NEW".into(), limits: AccountLimits::default() };
    host.run(&Request::new(command)).map_err(|error| error.code().to_owned())?;
    let _lock = Lock::take(store.path()).map_err(|error| error.code().to_owned())?;
    let mut pump = Pump::new(&host, target.clone());
    let end = block_on(pump.drain(Duration::from_secs(2), std::future::pending(), |_| {}))
        .map_err(|error| error.code().to_owned())?;
    let held = store.held().map_err(said)?;
    Ok((end, held.into_iter().map(|held| held.command_id).collect()))
}

/// Row 12.
pub(super) fn journals(run: &mut Run) -> Result<(), NotRun> {
    let template = Template::new();
    let ids: Vec<Uuid> = template.commands.keys().copied().collect();
    let mut outcomes: BTreeMap<(Damage, String), usize> = BTreeMap::new();
    let (mut silent, mut refused) = (Vec::new(), 0);
    for number in 0..run.tries {
        let damage = DAMAGES[number % DAMAGES.len()];
        let folder = template.place(&damaged(run, damage, &template.store));
        let server = template.serve();
        let target = Target::open(&server.url());
        let outcome = catch_unwind(AssertUnwindSafe(|| work(folder.path(), &ids, &target)));
        let outcome = outcome.unwrap_or_else(|_| panic!("{damage:?} {number}: a panic: {:?}", super::said()));
        if matches!(damage, Damage::Foreign | Damage::Newer) {
            // An empty file is none.
            let expected: &[&str] =
                if damage == Damage::Newer { &["store-newer"] } else { &["store-foreign", "store-empty"] };
            let code = outcome.as_ref().err().map(String::as_str);
            assert!(code.is_some_and(|code| expected.contains(&code)), "{damage:?} {number}: {code:?}");
        }
        // Whatever was read from a damaged file, the stream has nothing but what was decided, whole and once.
        let ledger = Ledger::of(&server);
        let kept = ledger.messages.get(..template.messages.len());
        assert!(kept == Some(&template.messages), "I4: {damage:?} {number}: the stream has changed");
        let messages: Vec<&StoredMessage> = ledger.messages.iter().collect();
        once(&messages);
        let found = in_order(&messages);
        let audit = ledger.audit(&template.registry);
        // A damaged registry may take a command for good that no reader takes: own, whole, and without an effect.
        for anomaly in &audit.anomalies {
            let of = |at: &u64| found.iter().find(|(_, (first, last))| (first..=last).contains(&at));
            let own = |at: &u64| of(at).is_some_and(|(id, _)| template.commands.contains_key(id));
            assert!(anomaly.sequences.iter().all(own), "{damage:?} {number}: {anomaly:?}");
            let only_registry = matches!(damage, Damage::Page | Damage::Bit | Damage::Bits);
            assert!(only_registry, "{damage:?} {number}: {anomaly:?}");
            refused += 1;
        }
        for (id, (first, last)) in &found {
            if let Some((payloads, _)) = template.commands.get(id) {
                let stored: Vec<&Vec<u8>> =
                    (*first..=*last).map(|sequence| &ledger.at(sequence).payload).collect();
                // A revocation whose facts cannot be trusted any more is decided anew: another attempt says so.
                let anew = stored.iter().all(|payload| attempt(payload) > 1);
                assert!(
                    anew || stored.into_iter().eq(payloads),
                    "I4: {damage:?} {number}: {id} has other bytes"
                );
            }
        }
        let label = match outcome {
            Ok((End::Drained, held)) => {
                // It says that everything is there, or held: then it must be.
                let lost = |id: &&Uuid| !held.contains(id) && !found.contains_key(id);
                let lost: Vec<&Uuid> = template.commands.keys().filter(lost).collect();
                if !lost.is_empty() {
                    silent.push((damage, number, lost.len()));
                }
                let more = held.iter().any(|id| template.commands.get(id).is_none_or(|(_, held)| !held));
                if more { "works, more held" } else { "works" }.to_owned()
            }
            Ok((End::Blocked(reason) | End::Patience(reason), _)) => reason.code,
            Ok((End::Stopped, _)) => panic!("nobody has stopped it"),
            Err(code) => code,
        };
        *outcomes.entry((damage, label)).or_default() += 1;
        run.happened(1);
    }
    let told: Vec<String> =
        outcomes.iter().map(|((damage, label), count)| format!("{damage:?} {label} {count}")).collect();
    run.did(format!("journals damaged, opened, looked at, added to and published: {}", told.join(", ")));
    run.did(format!("{refused} commands were published by a damaged registry that every reader refuses"));
    assert!(silent.is_empty(), "I1: commands of a damaged journal are lost without a word: {silent:?}");
    run.holds(&[Invariant::I1, Invariant::I2, Invariant::I3, Invariant::I4]);
    Ok(())
}

fn attempt(payload: &[u8]) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(payload).expect("an event is JSON");
    body["data"]["command"]["attempt"].as_u64().expect("an attempt")
}

/// A secret with a byte changed, and what was said about it.
struct Told {
    code: &'static str,
    message: String,
}

/// Row 13.
pub(super) fn secrets(run: &mut Run) -> Result<(), NotRun> {
    let desk = Desk::founded();
    let target = desk.role(PipelineRole::Host, "nats://127.0.0.1:1");
    let Access::Creds { token, key } = &*target.access else { panic!("creds of a role") };
    let creds = creds::format(token, key).expect("creds");
    let (jwt, seed) = (token.as_str().to_owned(), key.seed());
    let folder = TempDir::new().expect("a folder");
    let mut harmless = 0;
    let mut codes: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    for (what, text) in [("creds", creds.expose()), ("JWT", jwt.as_str()), ("nkey", seed.expose())] {
        let inside = |part: &str, at: usize| {
            text.find(part).is_some_and(|from| (from..from + part.len()).contains(&at))
        };
        for at in 0..text.len() {
            for changed in others(run, text.as_bytes()[at]) {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = changed;
                let told = match what {
                    "creds" => as_creds(&folder, &bytes, &jwt),
                    "JWT" => as_jwt(&bytes, seed.expose()),
                    _ => as_nkey(&folder, &bytes),
                };
                match told {
                    Some(Told { code, message }) => {
                        shows_nothing(&message, seed.expose());
                        *codes.entry((what, code)).or_default() += 1;
                    }
                    // Decoration and talk around them may be anything: what was read is what was meant.
                    None if what == "creds" && !inside(&jwt, at) && !inside(seed.expose(), at) => {
                        harmless += 1
                    }
                    None => panic!("{what} with {changed:#x} at {at} is taken"),
                }
                run.happened(1);
            }
        }
    }
    let told: Vec<String> =
        codes.iter().map(|((what, code), count)| format!("{what} {code} {count}")).collect();
    run.did(format!("every byte changed, three ways each: {}", told.join(", ")));
    run.did(format!("{harmless} changes of the decoration of creds: read as what they were"));
    run.did("no message shows eight characters of the seed in a row");
    run.holds(&[Invariant::I6]);
    Ok(())
}

/// Another letter, the same in the other case or nearly, and something that is no text.
fn others(run: &mut Run, byte: u8) -> BTreeSet<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = letters[usize::try_from(run.between(0, 31)).expect("a small number")];
    [letter, byte ^ 0x20, byte ^ 0x80].into_iter().filter(|other| *other != byte).collect()
}

fn shows_nothing(message: &str, seed: &str) {
    let shown = seed.as_bytes()[2..]
        .windows(8)
        .find(|part| message.as_bytes().windows(8).any(|shown| shown == *part));
    assert!(shown.is_none(), "I6: a message shows a part of the seed: {message}");
}

fn resolved(layer: Layer) -> Result<Target, Told> {
    let layer = Layer { server: Some("nats://127.0.0.1:1".into()), ..layer };
    match Target::resolve(layer, None, &|_| None, None) {
        Ok(target) => Ok(target.expect("a target")),
        Err(error) => Err(Told { code: error.code(), message: format!("{error} {error:?}") }),
    }
}

fn as_creds(folder: &TempDir, bytes: &[u8], jwt: &str) -> Option<Told> {
    let path = folder.path().join("changed.creds");
    fs::write(&path, bytes).expect("a file");
    match resolved(Layer { creds: Some(path), ..Layer::default() }) {
        Err(told) => Some(told),
        Ok(target) => {
            let Access::Creds { token, .. } = &*target.access else { panic!("no creds") };
            assert_eq!(token.as_str(), jwt, "another token was read");
            None
        }
    }
}

fn as_jwt(bytes: &[u8], seed: &str) -> Option<Told> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        // No text never becomes a token: the environment and files give text alone.
        return Some(Told { code: "no-text", message: String::new() });
    };
    let parsed = Token::parse(text).err().map(|error| format!("{error} {error:?}"));
    let layer = Layer {
        jwt: Some((text.to_owned(), cim_keys_core::secret::SecretText::new(seed.to_owned()))),
        ..Layer::default()
    };
    match (parsed, resolved(layer)) {
        (Some(message), Err(told)) => {
            Some(Told { code: told.code, message: format!("{message} {}", told.message) })
        }
        (None, Ok(_)) => None,
        (parsed, _) => panic!("one reader takes it and the other does not: {parsed:?}"),
    }
}

fn as_nkey(folder: &TempDir, bytes: &[u8]) -> Option<Told> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && KeyPair::from_seed(text).is_ok()
    {
        return None;
    }
    let path = folder.path().join("changed.nk");
    fs::write(&path, bytes).expect("a file");
    resolved(Layer { nkey: Some(path), ..Layer::default() }).err()
}
