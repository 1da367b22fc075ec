//! A host in a process of its own that is to be killed: says each thing that is done on stdout, once it is done.

use crate::desk::block_on;
use cim_keys::ambient::Ambient;
use cim_keys::crash::{self, Step};
use cim_keys::files;
use cim_keys::host::{Founding, Host, Outcome, Request};
use cim_keys::nats::target::Target;
use cim_keys::ports::{Access, NatsPort as _, NewUser};
use cim_keys::pump::{End, Lock, Pump};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::bundle;
use cim_keys_core::command::Command;
use cim_keys_core::journal::State;
use cim_keys_core::jwt::AccountLimits;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::all;
use cim_keys_core::subjects::Namespace;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use uuid::Uuid;

/// How long it may be stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it is told.
struct Orders {
    folder: PathBuf,
    url: String,
    crash: Option<(Step, u32)>,
    bundle: Option<PathBuf>,
    end: String,
}

/// Works by these words: `project` folds and makes anew until it is killed, `bulk` creates and publishes side by side until it
/// is killed, `steps` does a little of everything, `drain` publishes what is there and hands out creds that were promised,
/// `consume` handles messages.
///
/// # Errors
/// What it cannot do.
pub fn work(words: &[String]) -> Result<(), String> {
    let Some((verb, rest)) = words.split_first() else { return Err("a verb is missing".to_owned()) };
    let orders = parse(rest)?;
    if verb == "project" {
        return project(&orders);
    }
    if verb == "consume" {
        return super::consumers::consume(&orders.folder, &orders.url, &orders.end);
    }
    let mine = open(&orders.folder)?;
    if let Some((step, count)) = orders.crash {
        crash::arm(step, count);
    }
    match verb.as_str() {
        "bulk" => bulk(&orders, &mine),
        "steps" => steps(&orders, &mine),
        "drain" => {
            let made = Mutex::new(known(&mine)?);
            promised(&mine, &orders)?;
            publish(&mine, &orders, &made)
        }
        other => Err(format!("`{other}` is no verb")),
    }
}

fn parse(words: &[String]) -> Result<Orders, String> {
    let mut orders =
        Orders { folder: PathBuf::new(), url: String::new(), crash: None, bundle: None, end: String::new() };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err("a value is missing".to_owned()) };
        match name.as_str() {
            "--data" => orders.folder = value.into(),
            "--url" => orders.url.clone_from(value),
            "--end" => orders.end.clone_from(value),
            "--bundle" => orders.bundle = Some(value.into()),
            "--crash" => {
                let (name, count) = value.split_once(':').ok_or("--crash wants STEP:COUNT")?;
                let step = Step::ALL.iter().find(|step| step.name() == name);
                let count = count.parse().map_err(said)?;
                orders.crash = Some((*step.ok_or(format!("no step is called {name}"))?, count));
            }
            other => return Err(format!("`{other}` is no option")),
        }
    }
    Ok(orders)
}

fn said(error: impl Display) -> String {
    error.to_string()
}

fn open(folder: &Path) -> Result<Host, String> {
    let store = Store::create(&folder.join("store.db")).map_err(said)?;
    let vault = Vault::or_create(&folder.join("identity.age"));
    Ok(Host::new(store, vault, Ambient::system(), "worker".parse().map_err(said)?))
}

/// Says that something is done. Whoever reads it may rely on it from then on.
fn done(what: &str, which: impl Display) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {which}").and_then(|()| out.flush()).map_err(said)
}

fn found(host: &Host) -> Result<(), String> {
    if !host.store().is_founded().map_err(said)? {
        let founding = Founding { name: "TEST".into(), namespace: Namespace::default(), escrow: Vec::new() };
        done("created", host.create_operator(&founding).map_err(said)?.command_id)?;
    }
    if host.store().by_name("APP").map_err(said)?.is_empty() {
        let made = host.create_account("APP", AccountLimits::default()).map_err(said)?;
        done("created", made.command_id)?;
    }
    Ok(())
}

fn app(host: &Host) -> Result<PublicKey, String> {
    let found = host.store().by_name("APP").map_err(said)?;
    found.first().map(|listed| listed.entity.key()).ok_or("no account APP".to_owned())
}

/// A user whose creds are written, and one that is revoked again.
fn create(host: &Host, orders: &Orders, made: &Mutex<BTreeSet<Uuid>>) -> Result<(), String> {
    let account = app(host)?;
    let new = |credentials| -> Result<Outcome, String> {
        let outcome = host
            .run(&Request::from(NewUser {
                account,
                name: host.ambient().command_id().map_err(said)?.to_string(),
                access: Access::Own(Box::default()),
                expires: 0,
                tags: Vec::new(),
                key: None,
                credentials,
                keep: false,
            }))
            .map_err(said)?;
        note(made, &outcome)?;
        Ok(outcome)
    };
    let user = new(true)?.keys[0];
    hand_out(host, orders, account, user)?;
    let user = new(false)?.keys[0];
    note(made, &host.run(&Request::new(Command::RevokeUser { account, user })).map_err(said)?)
}

fn note(made: &Mutex<BTreeSet<Uuid>>, outcome: &Outcome) -> Result<(), String> {
    made.lock().map_err(said)?.insert(outcome.command_id);
    done("created", outcome.command_id)
}

fn hand_out(host: &Host, orders: &Orders, account: PublicKey, user: PublicKey) -> Result<(), String> {
    let path = orders.folder.join(format!("{user}.creds"));
    match host.hand_out(account, user, &path) {
        Ok(()) => {}
        // Written before the end of another process, and not erased any more.
        Err(error) if error.code() == "file-exists" => {
            host.hand_out_with(account, user, |_| Ok(())).map_err(said)?;
        }
        Err(error) => return Err(said(error)),
    }
    done("creds", user)
}

/// Hands out what was promised before.
fn promised(host: &Host, orders: &Orders) -> Result<(), String> {
    let account = app(host)?;
    for listed in host.store().users(Some(account)).map_err(said)? {
        let user = listed.entity.key();
        if host.store().hand_out(account, user).map_err(said)?.is_some() {
            hand_out(host, orders, account, user)?;
        }
    }
    Ok(())
}

/// Commands that are to be published.
fn known(host: &Host) -> Result<BTreeSet<Uuid>, String> {
    let events = host.store().pending_events(1_000_000).map_err(said)?;
    Ok(events.into_iter().map(|event| event.command_id).collect())
}

/// Publishes everything, and says what is confirmed.
fn publish(host: &Host, orders: &Orders, made: &Mutex<BTreeSet<Uuid>>) -> Result<(), String> {
    let _lock = Lock::take(host.store().path()).map_err(said)?;
    let mut pump = Pump::new(host, Target::open(&orders.url));
    let end = block_on(pump.drain(PATIENCE, std::future::pending(), |_| {})).map_err(said)?;
    if end != End::Drained {
        return Err(format!("{end:?}"));
    }
    let waiting: Vec<Uuid> = made.lock().map_err(said)?.iter().copied().collect();
    for id in waiting {
        let state = host.store().promised(id).map_err(said)?.map(|promised| promised.state);
        if state == Some(State::Confirmed) {
            made.lock().map_err(said)?.remove(&id);
            done("published", id)?;
        }
    }
    Ok(())
}

fn bulk(orders: &Orders, mine: &Host) -> Result<(), String> {
    let made = Mutex::new(known(mine)?);
    let publisher = open(&orders.folder)?;
    promised(mine, orders)?;
    thread::scope(|scope| {
        let creating = scope.spawn(|| {
            loop {
                create(mine, orders, &made)?;
            }
        });
        let publishing: Result<(), String> = (|| {
            loop {
                publish(&publisher, orders, &made)?;
            }
        })();
        let created: Result<(), String> = creating.join().map_err(|_| "a panic".to_owned())?;
        created.and(publishing)
    })
}

/// Folds what there is and makes it anew, again and again.
fn project(orders: &Orders) -> Result<(), String> {
    let store = Store::open(&orders.folder.join("store.db")).map_err(said)?;
    loop {
        store.project_all().map_err(said)?;
        remake(&store)?;
    }
}

/// Makes all projections anew: nothing of them is wrong.
fn remake(store: &Store) -> Result<(), String> {
    for projection in all() {
        let mut wrong = None;
        store.rebuild(projection, false, |difference| wrong = Some(difference)).map_err(said)?;
        if let Some(difference) = wrong {
            return Err(format!("I5: {} {difference:?}", projection.name()));
        }
    }
    Ok(())
}

fn steps(orders: &Orders, mine: &Host) -> Result<(), String> {
    let made = Mutex::new(BTreeSet::new());
    if let Some(path) = &orders.bundle {
        let bytes = std::fs::read(path).map_err(said)?;
        let bundle = bundle::decode(&bytes).map_err(said)?;
        let mut part = bundle.clone();
        // Piece by piece, so that it is taken in several times.
        for commands in 1..=bundle.commands.len() {
            part.commands = bundle.commands.get(..commands).unwrap_or_default().to_vec();
            for id in mine.import(&part.verify().map_err(said)?, false).map_err(said)?.new {
                done("created", id)?;
            }
        }
        return publish(mine, orders, &Mutex::new(known(mine)?));
    }
    found(mine)?;
    promised(mine, orders)?;
    for round in 0..4 {
        create(mine, orders, &made)?;
        files::replace(&orders.folder.join("note"), format!("round {round}").as_bytes()).map_err(said)?;
        done("noted", round)?;
        publish(mine, orders, &made)?;
        mine.store().project_all().map_err(said)?;
        remake(mine.store())?;
    }
    Ok(())
}
