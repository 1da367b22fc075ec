//! The native host as a driver of the contract: store, link and pump as they ship, before a real server.
//!
//! A host is connected from the moment it has a target and the lock of its store, as a program that syncs has them; it works
//! when a scenario looks at how it stands.

use super::{
    Disk, Driver, Entrance, Fault, Journal, Made, Mark, Row, Scenario, Seen, ServerOrder, Standing,
    StreamOrder, Users,
};
use crate::desk::{Desk, Run, SHORT, STUCK};
use crate::proxy::{self, Cut, Proxy};
use crate::stage::Stage;
use cim_keys::nats::target::Target;
use cim_keys::pump::{End, Lock, PumpError};
use cim_keys_core::roles::PipelineRole;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// One scenario with native hosts.
pub struct Native {
    stage: Stage,
    hosts: BTreeMap<String, Player>,
}

struct Player {
    desk: Arc<Desk>,
    proxy: Proxy,
    target: Option<Target>,
    lock: Option<Lock>,
    working: Option<Working>,
    is_alive: bool,
    faults: Vec<(Fault, Arc<proxy::Fault>)>,
}

/// A run under way.
struct Working {
    run: JoinHandle<Run>,
    stop: oneshot::Sender<()>,
}

impl Native {
    /// Hosts that are not connected, and a server as the scenario begins with.
    ///
    /// # Errors
    /// See [`Stage::set`].
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn new(scenario: &Scenario) -> Result<Native, String> {
        let stage = Stage::set(scenario, false)?;
        let player = |name: &String| (name.clone(), Player::new(stage.founder().twin(), &stage));
        let hosts = scenario.hosts.iter().map(player).collect();
        Ok(Native { stage, hosts })
    }

    fn player(&mut self, host: &str) -> Result<&mut Player, String> {
        self.hosts.get_mut(host).ok_or_else(|| format!("nobody is called {host}"))
    }
}

impl Player {
    fn new(desk: Desk, stage: &Stage) -> Player {
        Player {
            desk: Arc::new(desk),
            proxy: Proxy::start(stage.server().address()),
            target: None,
            lock: None,
            working: None,
            is_alive: true,
            faults: Vec::new(),
        }
    }

    fn make(&self, host: &str, user: &str) -> Result<Made, String> {
        let outcome = self.desk.run(&self.desk.new_user(user)).map_err(|error| error.to_string())?;
        Ok(Made { host: host.to_owned(), user: user.to_owned(), command_id: outcome.command_id })
    }

    /// The fault of this kind that was armed last.
    fn fault(&self, kind: Fault) -> Option<Arc<proxy::Fault>> {
        self.faults.iter().rev().find(|(other, _)| *other == kind).map(|(_, fault)| Arc::clone(fault))
    }

    /// Begins to work, where it has creds and the lock and is not at it already. `Err` says how it stands else.
    fn begin(&mut self, patience: Duration) -> Result<(), Seen> {
        if !self.is_alive {
            return Err(Seen::plain("dead"));
        }
        let Some(target) = &self.target else { return Err(Seen::plain("offline")) };
        if self.working.is_some() {
            return Ok(());
        }
        if self.lock.is_none() {
            self.lock = match Lock::take(self.desk.store().path()) {
                Ok(lock) => Some(lock),
                Err(PumpError::Locked { .. }) => return Err(Seen::plain("elsewhere")),
                Err(error) => panic!("{error}"),
            };
        }
        // Only an answer that never comes is worth a short wait.
        let timeout = if self.fault(Fault::LoseAnswer).is_some() { SHORT } else { target.timeout };
        let target = Target { timeout, ..target.clone() };
        let (desk, dies) = (Arc::clone(&self.desk), self.fault(Fault::Die));
        let (stop, stopped) = oneshot::channel();
        let run = thread::spawn(move || {
            let end = async move {
                let killed = async {
                    match dies {
                        // The server has it, and its answer is gone.
                        Some(fault) => drop(tokio::task::spawn_blocking(move || fault.wait(1)).await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = killed => {}
                }
            };
            desk.drain(&target, None, patience, end)
        });
        self.working = Some(Working { run, stop });
        Ok(())
    }

    /// Waits until it is done.
    fn seen(&mut self) -> Seen {
        let Some(working) = self.working.take() else { return Seen::plain("offline") };
        let run = working.run.join().expect("a run that does not panic");
        match run.end {
            End::Drained => Seen::plain("idle"),
            End::Blocked(reason) => Seen { kind: "blocked".to_owned(), code: reason.code, text: reason.text },
            End::Patience(reason) => {
                Seen { kind: "waiting".to_owned(), code: reason.code, text: reason.text }
            }
            End::Stopped => {
                self.leave();
                self.is_alive = false;
                Seen::plain("dead")
            }
        }
    }

    /// Ends what it is at between two steps, and gives everything up but its journal.
    fn leave(&mut self) {
        if let Some(working) = self.working.take() {
            let _ = working.stop.send(());
            working.run.join().expect("a run that does not panic");
        }
        self.target = None;
        self.lock = None;
    }
}

impl Driver for Native {
    fn make(&mut self, host: &str, user: &str) -> Result<Made, String> {
        self.player(host)?.make(host, user)
    }

    fn together(&mut self, users: &Users) -> Result<Vec<Made>, String> {
        let work = |(host, list): (&String, &Vec<String>)| {
            let player = self.hosts.get(host).ok_or_else(|| format!("nobody is called {host}"))?;
            let target = player.target.as_ref().ok_or_else(|| format!("{host} is not connected"))?;
            let each = |user: &String| {
                let made = player.make(host, user)?;
                let run = player.desk.drain(target, None, STUCK, std::future::pending());
                if run.end == End::Drained { Ok(made) } else { Err(format!("{host}: {:?}", run.end)) }
            };
            list.iter().map(each).collect::<Result<Vec<_>, String>>()
        };
        let (work, mut made) = (&work, Vec::new());
        thread::scope(|scope| {
            let all: Vec<_> = users.iter().map(|entry| scope.spawn(move || work(entry))).collect();
            for one in all {
                made.extend(one.join().expect("a host that does not panic")?);
            }
            Ok(made)
        })
    }

    fn connect(&mut self, host: &str, entrance: Entrance) -> Result<(), String> {
        let url = self.player(host)?.proxy.url();
        let target = self.stage.target(host, entrance, PipelineRole::Host, &url);
        let player = self.player(host)?;
        player.leave();
        player.target = Some(target);
        player.lock = Lock::take(player.desk.store().path()).ok();
        Ok(())
    }

    fn revoke(&mut self, host: &str) -> Result<(), String> {
        self.stage.revoke(host)
    }

    fn disconnect(&mut self, host: &str) -> Result<(), String> {
        self.player(host)?.leave();
        Ok(())
    }

    fn arm(&mut self, host: &str, fault: Fault) -> Result<(), String> {
        let player = self.player(host)?;
        let is_event = |subject: &str| subject.starts_with("cowboyai.security.keys.");
        let armed = match fault {
            Fault::LoseAnswer | Fault::Die => player.proxy.eat_answers(1, is_event),
            Fault::CutBefore => player.proxy.cut(Cut::Before, 1, is_event),
            Fault::CutAfter => player.proxy.cut(Cut::After, 1, is_event),
            Fault::Hold => player.proxy.hold(1, is_event),
        };
        player.faults.push((fault, Arc::new(armed)));
        Ok(())
    }

    fn on_its_way(&mut self, host: &str) -> Result<(), String> {
        let player = self.player(host)?;
        let fault = player.fault(Fault::Hold).ok_or("nothing was armed")?;
        player.begin(STUCK).map_err(|seen| format!("{host} stands so: {seen:?}"))?;
        crate::wait::until("a publish is held back", || (fault.met() > 0).then_some(()));
        Ok(())
    }

    fn let_go(&mut self, host: &str) -> Result<(), String> {
        self.player(host)?.fault(Fault::Hold).ok_or("nothing was armed")?.let_go();
        Ok(())
    }

    fn unmet(&mut self) -> Result<Vec<String>, String> {
        let armed = self.hosts.iter().flat_map(|(host, player)| player.faults.iter().map(move |f| (host, f)));
        let unmet = armed.filter(|(_, (_, fault))| fault.met() == 0);
        Ok(unmet.map(|(host, (fault, _))| format!("{fault:?} of {host}")).collect())
    }

    fn kill(&mut self, host: &str) -> Result<(), String> {
        let player = self.player(host)?;
        player.leave();
        player.is_alive = false;
        Ok(())
    }

    fn start(&mut self, host: &str) -> Result<(), String> {
        let player = self.player(host)?;
        // Another process opens the same files.
        player.desk = Arc::new(player.desk.beside());
        player.faults.retain(|(fault, _)| *fault != Fault::Die);
        player.is_alive = true;
        Ok(())
    }

    fn beside(&mut self, host: &str, of: &str) -> Result<(), String> {
        let desk = self.player(of)?.desk.beside();
        self.hosts.insert(host.to_owned(), Player::new(desk, &self.stage));
        Ok(())
    }

    fn store(&mut self, host: &str, disk: Disk) -> Result<(), String> {
        self.player(host)?.desk.refuse_writes(disk == Disk::Fails);
        Ok(())
    }

    fn server(&mut self, order: ServerOrder) -> Result<(), String> {
        self.stage.order_server(order);
        Ok(())
    }

    fn stream(&mut self, order: &StreamOrder) -> Result<(), String> {
        self.stage.order_stream(order)
    }

    fn stands(&mut self, wanted: &BTreeMap<String, Standing>) -> Result<BTreeMap<String, Seen>, String> {
        let mut all = BTreeMap::new();
        for (host, standing) in wanted {
            // Who is expected to wait would else be waited for.
            let patience = if matches!(standing, Standing::Waiting { .. }) { Duration::ZERO } else { STUCK };
            if let Err(seen) = self.player(host)?.begin(patience) {
                all.insert(host.clone(), seen);
            }
        }
        for host in wanted.keys() {
            if !all.contains_key(host) {
                let seen = self.player(host)?.seen();
                all.insert(host.clone(), seen);
            }
        }
        Ok(all)
    }

    fn journal(&mut self, host: &str) -> Result<Journal, String> {
        let desk = &self.player(host)?.desk;
        let mut rows = Vec::new();
        for command_id in desk.commands() {
            let promised = desk.store().promised(command_id).map_err(|error| error.to_string())?;
            rows.extend(promised.map(|promised| Row {
                command_id,
                state: promised.state,
                code: promised.reason.map(|reason| reason.code),
                first: promised.first,
            }));
        }
        let trail =
            desk.store().trail(0, 10_000).map_err(|error| error.to_string())?.into_iter().map(|entry| {
                let body: serde_json::Value = serde_json::from_slice(&entry.payload).unwrap_or_default();
                (entry.sequence, body["id"].as_str().unwrap_or_default().to_owned())
            });
        Ok(Journal { rows, trail: trail.collect() })
    }

    fn ledger(&mut self) -> Result<Vec<Mark>, String> {
        self.stage.ledger()
    }

    fn others(&self) -> BTreeSet<Uuid> {
        self.stage.others()
    }
}
