//! A source of randomness that is broken.

use super::{Invariant, NotRun, Run, journal};
use crate::desk::Desk;
use cim_keys::ambient::{Ambient, Source};
use cim_keys::host::{Founding, Host, Request};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::command::Command;
use cim_keys_core::digest::Digest;
use cim_keys_core::jwt::AccountLimits;
use cim_keys_core::nkey::Kind;
use cim_keys_core::subjects::Namespace;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// What it gives instead of random bytes; the number is that of the draw.
type Fill = fn(u64, &mut [u8]) -> Result<usize, String>;

struct Broken {
    fill: Fill,
    draws: AtomicU64,
}

impl Source for Broken {
    fn unix_millis(&self) -> i64 {
        1_795_000_000_000
    }

    fn steady_millis(&self) -> u64 {
        0
    }

    fn fill(&self, buffer: &mut [u8]) -> Result<usize, String> {
        (self.fill)(self.draws.fetch_add(1, Ordering::SeqCst), buffer)
    }
}

fn good(draw: u64, buffer: &mut [u8]) {
    let digest = Digest::of(&draw.to_be_bytes());
    buffer.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
}

fn pattern(buffer: &mut [u8], value: impl Fn(usize) -> usize) -> Result<usize, String> {
    buffer.iter_mut().enumerate().for_each(|(place, byte)| *byte = value(place).to_le_bytes()[0]);
    Ok(buffer.len())
}

/// Every way in which it is broken, and the code that it is refused with.
const BROKEN: &[(&str, &str, Fill)] = &[
    ("fails", "entropy-source", |_, _| Err("no device".to_owned())),
    ("fails at the second draw", "entropy-source", |draw, buffer| {
        good(draw, buffer);
        if draw == 0 { Ok(buffer.len()) } else { Err("no device".to_owned()) }
    }),
    ("gives nothing", "entropy-short", |_, _| Ok(0)),
    ("is short by a byte", "entropy-short", |draw, buffer| {
        good(draw, buffer);
        Ok(buffer.len() - 1)
    }),
    ("is short at the second draw", "entropy-short", |draw, buffer| {
        good(draw, buffer);
        Ok(if draw == 0 { buffer.len() } else { 16 })
    }),
    ("claims more than it was asked for", "entropy-short", |draw, buffer| {
        good(draw, buffer);
        Ok(buffer.len() + 1)
    }),
    ("gives zeros", "entropy-pattern", |_, buffer| pattern(buffer, |_| 0)),
    ("gives ones", "entropy-pattern", |_, buffer| pattern(buffer, |_| 255)),
    ("gives a constant", "entropy-pattern", |_, buffer| pattern(buffer, |_| 0xa5)),
    ("gives another constant each time", "entropy-pattern", |draw, buffer| {
        pattern(buffer, |_| usize::from(draw.to_le_bytes()[0]))
    }),
    ("repeats two bytes", "entropy-pattern", |_, buffer| pattern(buffer, |place| place % 2 * 7)),
    ("repeats four bytes", "entropy-pattern", |_, buffer| pattern(buffer, |place| place % 4 * 9)),
    ("repeats eight bytes", "entropy-pattern", |_, buffer| pattern(buffer, |place| place % 8 * 11)),
    ("repeats sixteen bytes", "entropy-pattern", |_, buffer| pattern(buffer, |place| place % 16 * 13)),
    ("counts up", "entropy-pattern", |_, buffer| pattern(buffer, |place| place)),
    ("counts down", "entropy-pattern", |_, buffer| pattern(buffer, |place| 255 - place)),
    ("gives the same each time", "entropy-repeated", |_, buffer| {
        good(7, buffer);
        Ok(buffer.len())
    }),
];

/// How many ways there are.
pub(super) const WAYS: usize = BROKEN.len();

/// Row 20.
pub(super) fn broken(run: &mut Run) -> Result<(), NotRun> {
    let desk = Desk::founded();
    let account = desk.app();
    let user = |credentials| Command::CreateUser {
        account,
        name: "alice".into(),
        rights: Some(cim_keys_core::jwt::UserRights::default()),
        expires: 0,
        tags: Vec::new(),
        credentials,
    };
    let limits = AccountLimits::default();
    let commands = [
        Command::CreateAccount { name: "OTHER".into(), limits },
        user(true),
        user(false),
        Command::GenerateKey { kind: Kind::Account, owner: Some(account), label: None, role: None },
        Command::GenerateKey { kind: Kind::Curve, owner: None, label: None, role: None },
    ];
    let mut refused = 0;
    for (way, code, fill) in BROKEN {
        let ambient = || Ambient::new(Box::new(Broken { fill: *fill, draws: AtomicU64::new(0) }));
        // A founding leaves nothing behind.
        let empty = TempDir::new().expect("a temporary folder");
        let path = empty.path().join("store.db");
        let host = host(Store::create(&path).expect("a store"), &empty, ambient());
        let founding = Founding { name: "X".into(), namespace: Namespace::default(), escrow: Vec::new() };
        let error = host.found(&founding, false).expect_err(way);
        assert_eq!(error.code(), *code, "founding with a source that {way}: {error}");
        assert!(!host.store().is_founded().expect("a store that works"), "no registry");
        refused += 1;
        // Nor does a command, in a registry that is there.
        for command in &commands {
            let twin = desk.twin();
            let counts = twin.store().counts().expect("a store that works");
            let lines = journal::read(twin.store().path()).len();
            let folder = TempDir::new().expect("a temporary folder");
            std::fs::copy(twin.identity(), folder.path().join("identity.age")).expect("a copy");
            let store = Store::open(twin.store().path()).expect("a store");
            let host = self::host(store, &folder, ambient());
            let error = host.run(&Request::new(command.clone())).expect_err(way);
            assert_eq!(error.code(), *code, "{} with a source that {way}: {error}", command.name());
            assert_eq!(twin.store().counts().expect("a store that works"), counts, "no key: {way}");
            assert_eq!(journal::read(twin.store().path()).len(), lines, "no event: {way}");
            refused += 1;
        }
        // What the sync machine draws for its batches is no better.
        let second = ambient();
        let outcome = second.moment().and_then(|_| second.moment()).and_then(|_| second.moment());
        let error = outcome.expect_err(way);
        assert_eq!(error.code(), *code, "a batch id with a source that {way}");
        run.files(empty.path());
        run.happened(1);
    }
    run.did(format!(
        "{refused} commands with a source broken in {WAYS} ways: each refused by name, no key, no event"
    ));
    let ways: Vec<&str> = BROKEN.iter().map(|(way, ..)| *way).collect();
    run.did(format!("a source that {}", ways.join(", that ")));
    run.holds(&[Invariant::I1, Invariant::I7]);
    run.search(&[&desk], &[], &[]);
    Ok(())
}

fn host(store: Store, folder: &TempDir, ambient: Ambient) -> Host {
    let vault = Vault::or_create(&folder.path().join("identity.age"));
    Host::new(store, vault, ambient, "broken".parse().expect("an actor"))
}
