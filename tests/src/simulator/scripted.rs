//! The simulator as a driver of the contract: the same machines, stores and broker, and what a script says instead of
//! chance. Only how long things take is drawn from the seed.

use super::broker::{Broker, Origin};
use super::invariants::{self, Auditor, Broken};
use super::scenario::Scenario;
use super::workload;
use super::world::{Action, World};
use crate::contract::{
    self, Begin, Calm, Disk, Driver, Entrance, Fault, Journal, Made, Mark, Release, Row, Seen, ServerOrder,
    Standing, StreamOrder, Users,
};
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Bug, Outgoing, Status};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Virtual milliseconds that hosts get to stand as they should: a blocked machine looks again after 30 s.
const PATIENCE: u64 = 180_000;
const ACCOUNT: &str = "app";
const TOO_OLD: (u32, u32, u32) = (2, 11, 11);
const NEWEST: (u32, u32, u32) = (2, 15, 1);

/// One scenario in the simulator.
pub struct Scripted {
    world: World,
    names: BTreeMap<String, usize>,
    dead: BTreeSet<String>,
    others: BTreeSet<Uuid>,
    aside: Option<Broker>,
    kept: Option<Broker>,
    streams: u32,
}

impl Scripted {
    /// Hosts that are not connected, and a stream as the scenario begins with.
    ///
    /// # Errors
    /// The core refuses to found a registry.
    pub fn new(scenario: &contract::Scenario, seed: u64, bug: Option<Bug>) -> Result<Self, String> {
        let latency = [1, 5, 25, 100][usize::try_from(seed % 4).unwrap_or(0)];
        let play = Scenario {
            faults: BTreeSet::new(),
            bug,
            commands: 0,
            calm_at: u64::MAX / 4,
            window: 120_000,
            latency,
            ..Scenario::of(seed)
        };
        let mut world = World::idle(play, true).map_err(shown)?;
        let wish = workload::account_named(world.hosts[0].store.registry(), &world.hosts[0].keys, ACCOUNT);
        let wish = wish.ok_or("the founder has no key of the operator")?;
        world.hosts[0].execute(0, wish).map_err(|error| error.to_string())?;
        let mut scripted = Self {
            others: ids(&world, 0),
            world,
            names: BTreeMap::new(),
            dead: BTreeSet::new(),
            aside: None,
            kept: None,
            streams: 0,
        };
        scripted.renew(false);
        if scenario.begin == Begin::Founded {
            scripted.found()?;
        }
        if scenario.server == Release::TooOld {
            scripted.world.broker.release(TOO_OLD);
            scripted.change_config(|config| config.allow_atomic = false);
        }
        for name in &scenario.hosts {
            let host = scripted.world.join();
            scripted.world.after(500, Action::Tail { host });
            scripted.names.insert(name.clone(), host);
        }
        Ok(scripted)
    }

    /// What happened, line by line.
    pub fn trace(self) -> Vec<String> {
        self.world.trace.into_lines()
    }

    fn host(&self, name: &str) -> Result<usize, String> {
        self.names.get(name).copied().ok_or_else(|| format!("nobody is called {name}"))
    }

    /// Lets things happen until something is so. False where that does not come.
    fn until(&mut self, patience: u64, mut is_so: impl FnMut(&World) -> bool) -> Result<bool, String> {
        let end = self.world.now + patience;
        while !is_so(&self.world) {
            if self.world.now > end || !self.world.step().map_err(shown)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn seen(&self, name: &str) -> Result<Seen, String> {
        let number = self.host(name)?;
        let host = &self.world.hosts[number];
        if self.dead.contains(name) || self.world.script.has_killed(number) {
            return Ok(Seen::plain("dead"));
        }
        if host.machine.is_none() {
            return Ok(Seen::plain("offline"));
        }
        let rests = host.rests() && !host.dirty && !host.store.has_pending();
        let read = host.store.progress().head == self.world.broker.last();
        let (kind, reason) = match &host.status {
            Status::Idle if rests && read => ("idle", None),
            Status::Idle | Status::Working | Status::Contended { .. } => ("working", None),
            Status::Waiting { reason, .. } => ("waiting", Some(reason)),
            Status::Blocked { reason } => ("blocked", Some(reason)),
        };
        let (code, text) =
            reason.map(|reason| (reason.code.clone(), reason.text.clone())).unwrap_or_default();
        Ok(Seen { kind: kind.to_owned(), code, text })
    }

    fn end_connections(&mut self) {
        for host in 0..self.world.hosts.len() {
            self.world.sever(host, "the server is gone", 0);
        }
        self.world.script.lose();
    }

    /// Another stream takes the place of the one that is there; the server restarts for it.
    fn replace(&mut self, broker: Broker) -> Broker {
        self.end_connections();
        let id = self.world.hosts[0].store.registry().id().clone();
        self.world.auditor = Auditor::new(id);
        let before = std::mem::replace(&mut self.world.broker, broker);
        self.world.logged = self.world.broker.last();
        let now = self.world.now;
        self.world.broker.restart(now, 1000);
        before
    }

    /// A stream that never was before; or none, where it does not exist.
    fn renew(&mut self, exists: bool) -> Broker {
        self.streams += 1;
        let made = format!("2026-01-01T00:00:00.{:09}Z", self.streams);
        let broker = Broker::new(&Namespace::default(), 120_000, exists).made_at(&made);
        self.replace(broker)
    }

    fn create(&mut self) -> Result<(), String> {
        if self.world.broker.exists() {
            return Err("there is a stream".to_owned());
        }
        self.renew(true);
        Ok(())
    }

    /// The founder publishes the founding on a stream of its own.
    fn found(&mut self) -> Result<(), String> {
        self.create()?;
        self.world.start(0).map_err(shown)?;
        let founded = |world: &World| !world.hosts[0].store.has_pending() && world.hosts[0].rests();
        if !self.until(PATIENCE, founded)? {
            return Err("the founder does not get its founding onto the stream".to_owned());
        }
        self.world.end(0, "it has founded");
        Ok(())
    }

    /// Another registry is founded on the stream, message by message.
    fn strangers(&mut self) -> Result<(), String> {
        let world = World::idle(Scenario::of(self.world.scenario.seed + 1_000_000), false).map_err(shown)?;
        self.others.extend(ids(&world, 0));
        for envelope in world.hosts[0].store.entries().flat_map(|entry| &entry.pending.envelopes) {
            let message = Outgoing {
                subject: envelope.subject.as_str().to_owned(),
                headers: envelope.headers.clone(),
                payload: envelope.payload.clone(),
            };
            self.world.broker.publish(&message, Origin::Foreign("a stranger"), self.world.now);
        }
        Ok(())
    }

    fn change_config(&mut self, change: impl FnOnce(&mut StreamConfig)) {
        let mut config = self.world.broker.config().clone();
        change(&mut config);
        self.world.broker.configure(config);
    }

    fn set(&mut self, setting: &str, is_wrong: bool) -> Result<(), String> {
        let config = contract::changed(self.world.broker.config(), setting, is_wrong)?;
        self.world.broker.configure(config);
        Ok(())
    }
}

impl Driver for Scripted {
    fn make(&mut self, host: &str, user: &str) -> Result<Made, String> {
        let (number, now) = (self.host(host)?, self.world.now);
        let it = &mut self.world.hosts[number];
        let wish =
            workload::user(it.store.registry(), &it.keys, ACCOUNT, user).ok_or("no key to sign with")?;
        let command_id = it.execute(now, wish).map_err(|error| error.to_string())?;
        it.dirty = true;
        self.world.poll(number).map_err(shown)?;
        Ok(Made { host: host.to_owned(), user: user.to_owned(), command_id })
    }

    fn together(&mut self, users: &Users) -> Result<Vec<Made>, String> {
        let mut made = Vec::new();
        let most = users.values().map(Vec::len).max().unwrap_or(0);
        for turn in 0..most {
            for (host, list) in users {
                let Some(user) = list.get(turn) else { continue };
                made.push(self.make(host, user)?);
                let pause = self.world.dice.below(self.world.scenario.latency * 8);
                let until = self.world.now + pause;
                self.until(PATIENCE, |world| world.now >= until)?;
            }
        }
        Ok(made)
    }

    fn connect(&mut self, host: &str, entrance: Entrance) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.trouble.set_refused(number, entrance == Entrance::Stranger);
        self.world.script.set_reader(number, entrance == Entrance::Reader);
        if entrance == Entrance::Expired {
            return Err("a simulated client has no creds that could end".to_owned());
        }
        if self.world.hosts[number].machine.is_some() {
            self.world.end(number, "other creds");
        }
        self.world.start(number).map_err(shown)
    }

    fn revoke(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.trouble.set_refused(number, true);
        self.world.sever(number, "its user is revoked", 0);
        Ok(())
    }

    fn disconnect(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.end(number, "it gives its connection up");
        Ok(())
    }

    fn arm(&mut self, host: &str, fault: Fault) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.script.arm(number, fault);
        Ok(())
    }

    fn on_its_way(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        match self.until(PATIENCE, |world| world.script.holds(number))? {
            true => Ok(()),
            false => Err(format!("nothing of {host} is on its way")),
        }
    }

    fn let_go(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        for frame in self.world.script.let_go(number) {
            self.world.deliver(frame);
        }
        Ok(())
    }

    fn unmet(&mut self) -> Result<Vec<String>, String> {
        Ok(self.world.script.unmet().map(|(host, fault)| format!("{fault:?} of host {host}")).collect())
    }

    fn kill(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.end(number, "killed");
        self.dead.insert(host.to_owned());
        Ok(())
    }

    fn start(&mut self, host: &str) -> Result<(), String> {
        let number = self.host(host)?;
        self.dead.remove(host);
        self.world.script.revive(number);
        Ok(())
    }

    fn beside(&mut self, _: &str, _: &str) -> Result<(), String> {
        Err("a simulated journal has one driver".to_owned())
    }

    fn store(&mut self, host: &str, disk: Disk) -> Result<(), String> {
        let number = self.host(host)?;
        self.world.trouble.set_store(number, disk == Disk::Fails);
        Ok(())
    }

    fn server(&mut self, order: ServerOrder) -> Result<(), String> {
        if matches!(order, ServerOrder::Freeze | ServerOrder::Thaw) {
            self.world.trouble.set_still(order == ServerOrder::Freeze);
            return Ok(());
        }
        self.end_connections();
        self.world.trouble.set_down(order == ServerOrder::Stop);
        let now = self.world.now;
        match order {
            ServerOrder::Stop | ServerOrder::Freeze | ServerOrder::Thaw => {}
            ServerOrder::Start | ServerOrder::Restart => self.world.broker.restart(now, 1000),
            ServerOrder::Upgrade => {
                self.world.broker.restart(now, 1000);
                self.world.broker.release(NEWEST);
                self.change_config(|config| config.allow_atomic = true);
            }
        }
        Ok(())
    }

    fn stream(&mut self, order: &StreamOrder) -> Result<(), String> {
        match order {
            StreamOrder::Away => self.aside = Some(self.renew(false)),
            StreamOrder::Back => {
                let aside = self.aside.take().ok_or("nothing was put aside")?;
                self.replace(aside);
            }
            StreamOrder::Keep => self.kept = Some(self.world.broker.clone()),
            StreamOrder::Rewind => {
                let kept = self.kept.take().ok_or("nothing was kept")?;
                self.aside = Some(self.replace(kept));
            }
            StreamOrder::Create => self.create()?,
            StreamOrder::Found => self.found()?,
            StreamOrder::Strangers => self.strangers()?,
            StreamOrder::Spoil(setting) => self.set(setting, true)?,
            StreamOrder::Mend(setting) => self.set(setting, false)?,
        }
        Ok(())
    }

    fn stands(&mut self, wanted: &BTreeMap<String, Standing>) -> Result<BTreeMap<String, Seen>, String> {
        let end = self.world.now + PATIENCE;
        loop {
            let mut all = BTreeMap::new();
            for host in wanted.keys() {
                all.insert(host.clone(), self.seen(host)?);
            }
            let done = wanted.iter().all(|(host, standing)| {
                let fits = standing.fits(&all[host]);
                // It is down for good: nothing else can come.
                fits || all[host].kind == Calm::Dead.word()
            });
            if done || self.world.now > end || !self.world.step().map_err(shown)? {
                return Ok(all);
            }
        }
    }

    fn journal(&mut self, host: &str) -> Result<Journal, String> {
        let number = self.host(host)?;
        let store = &self.world.hosts[number].store;
        let rows = store.entries().map(|entry| Row {
            command_id: entry.pending.context.command_id,
            state: entry.state,
            code: entry.reason.as_ref().map(|reason| reason.code.clone()),
            first: entry.first,
        });
        let mut trail = Vec::new();
        for (sequence, digest) in store.trail() {
            let stored = self.world.broker.at(sequence).map(|stored| &stored.message);
            let same = stored.filter(|message| message.digest() == digest);
            let id = contract::judge::marks(same)?.pop().map(|mark| mark.event_id);
            trail.push((sequence, id.unwrap_or_else(|| String::from("another message"))));
        }
        Ok(Journal { rows: rows.collect(), trail })
    }

    fn ledger(&mut self) -> Result<Vec<Mark>, String> {
        invariants::stream(&self.world.broker).map_err(shown)?;
        contract::judge::marks(self.world.broker.log().iter().map(|stored| &stored.message))
    }

    fn others(&self) -> BTreeSet<Uuid> {
        self.others.clone()
    }
}

fn ids(world: &World, host: usize) -> BTreeSet<Uuid> {
    world.hosts[host].store.entries().map(|entry| entry.pending.context.command_id).collect()
}

fn shown(broken: Broken) -> String {
    broken.to_string()
}
