//! What a real driver of the contract stands before: a real server in operator mode that trusts a registry, its streams, the
//! page, and what a scenario orders to be done with them.

mod entrance;

use crate::contract::{Begin, Mark, Release, Scenario, ServerOrder, StreamOrder, changed, judge};
use crate::desk::{Desk, make_streams};
use crate::ledger::{Ledger, connect_as};
use crate::pipeline::{ask, headers};
use crate::server::{NatsServer, Setup, free_port};
use crate::streams;
use crate::tools::Version;
use cim_keys::config::{self, Options, Resolver};
use cim_keys::nats::target::Target;
use cim_keys::page::{Assets, Listener, Server as PageServer, Site};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::roles::{API_PREFIX, EDGE_API_PREFIX, PipelineRole};
use cim_keys_core::stream::{KEYS_EVENTS, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// One scenario's surroundings.
pub struct Stage {
    founder: Desk,
    stranger: Option<Desk>,
    /// Users of the registry that hosts come in as, by host.
    named: BTreeMap<String, PublicKey>,
    server: NatsServer,
    others: BTreeSet<Uuid>,
    page: Option<(Runtime, PageServer, String)>,
}

impl Stage {
    /// Everything as a scenario begins with it. `with_page` serves the page as well.
    ///
    /// # Errors
    /// The page was not built in.
    ///
    /// # Panics
    /// When the server does not get ready.
    pub fn set(scenario: &Scenario, with_page: bool) -> Result<Stage, String> {
        let founder = Desk::founded();
        let listener = if with_page { Some(listen()?) } else { None };
        let origin = listener.as_ref().map(|(_, listener)| format!("http://127.0.0.1:{}", listener.port()));
        let websocket = free_port();
        let version = match scenario.server {
            Release::Newest => Version::Newest,
            Release::TooOld => Version::TooOld,
        };
        let server = serve(&founder, version, websocket, origin.iter().cloned().collect());
        let page = listener.map(|(runtime, listener)| {
            let site = Site {
                registry: founder.registry(),
                websocket_url: format!("ws://127.0.0.1:{websocket}"),
                api_prefix: PipelineRole::Browser.api_prefix().unwrap_or_default().to_owned(),
            };
            let address = format!("http://127.0.0.1:{}/", listener.port());
            let guard = runtime.enter();
            let served = listener.serve(Assets::embedded(), &site);
            drop(guard);
            (runtime, served, address)
        });
        let others = founder.commands().into_iter().collect();
        let named = BTreeMap::new();
        let mut stage = Stage { founder, stranger: None, named, server, others, page };
        match (scenario.begin, scenario.server) {
            (Begin::Bare, _) => {}
            (Begin::Founded, Release::Newest) => stage.found(),
            (Begin::Founded, Release::TooOld) => stage.found_by_hand(),
        }
        Ok(stage)
    }

    /// The registry's founder. Hosts are copies of it as it is now.
    pub fn founder(&self) -> &Desk {
        &self.founder
    }

    /// The server.
    pub fn server(&self) -> &NatsServer {
        &self.server
    }

    /// Where the page is, if it is served.
    pub fn page_url(&self) -> Option<&str> {
        self.page.as_ref().map(|(_, _, address)| address.as_str())
    }

    /// Commands that were on the stream before the scenario, or that strangers brought.
    pub fn others(&self) -> BTreeSet<Uuid> {
        self.others.clone()
    }

    /// What the stream holds.
    ///
    /// # Errors
    /// A message is no event.
    ///
    /// # Panics
    /// When the stream cannot be read.
    pub fn ledger(&self) -> Result<Vec<Mark>, String> {
        let auditor = self.founder.role(PipelineRole::Auditor, &self.server.url());
        judge::marks(&Ledger::read_as(&auditor, &self.server, EDGE_API_PREFIX).messages)
    }

    /// Something happens to the server.
    pub fn order_server(&mut self, order: ServerOrder) {
        match order {
            ServerOrder::Stop => drop(self.server.stop()),
            ServerOrder::Start | ServerOrder::Restart => self.server.restart(),
            ServerOrder::Freeze => self.server.freeze(),
            ServerOrder::Thaw => self.server.thaw(),
            ServerOrder::Upgrade => {
                self.server.replace(Version::Newest);
                self.configure("UPDATE", streams::to_json(&keys_events_stream_config(&Namespace::default())));
            }
        }
    }

    /// Something happens to the stream.
    ///
    /// # Errors
    /// It makes no sense.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn order_stream(&mut self, order: &StreamOrder) -> Result<(), String> {
        match order {
            StreamOrder::Away => self.restore(|here, aside, _| fs::rename(here, aside)),
            StreamOrder::Back => self.restore(|here, aside, _| {
                fs::remove_dir_all(here)?;
                fs::rename(aside, here)
            }),
            StreamOrder::Keep => self.restore(|here, _, kept| copy(here, kept)),
            StreamOrder::Rewind => self.restore(|here, aside, kept| {
                fs::rename(here, aside)?;
                fs::rename(kept, here)
            }),
            StreamOrder::Create => self.create(),
            StreamOrder::Found => self.found(),
            StreamOrder::Strangers => {
                let host = self.founder.role(PipelineRole::Host, &self.server.url());
                let stranger = self.stranger.get_or_insert_with(Desk::founded);
                stranger.sync(&host).drained();
                self.others.extend(stranger.commands());
            }
            StreamOrder::Spoil(setting) => self.change(setting, true)?,
            StreamOrder::Mend(setting) => self.change(setting, false)?,
        }
        Ok(())
    }

    fn steward(&self) -> Target {
        self.founder.role(PipelineRole::Steward, &self.server.url())
    }

    fn create(&self) {
        make_streams(&self.steward(), 120);
    }

    fn found(&mut self) {
        self.create();
        self.publish();
    }

    /// The founder publishes what it has made.
    fn publish(&mut self) {
        let host = self.founder.role(PipelineRole::Host, &self.server.url());
        self.founder.sync(&host).drained();
        self.others.extend(self.founder.commands());
    }

    /// A server that is too old for hosts gets the founding message by message, as from a backup.
    fn found_by_hand(&mut self) {
        let mut config = streams::to_json(&keys_events_stream_config(&Namespace::default()));
        config.as_object_mut().expect("an object").remove("allow_atomic");
        self.configure("CREATE", config);
        let host = self.founder.role(PipelineRole::Host, &self.server.url());
        let mut client = connect_as(&host, &self.server);
        for id in self.founder.commands() {
            let promised =
                self.founder.store().promised(id).expect("a store that works").expect("its command");
            for envelope in promised.envelopes {
                let subject = envelope.subject.as_str();
                let ack = ask(&mut client, subject, &headers(&envelope, None), &envelope.payload);
                assert!(ack["error"].is_null(), "{ack}");
            }
        }
        self.founder.sync(&host).drained();
    }

    fn change(&self, setting: &str, is_wrong: bool) -> Result<(), String> {
        let mut client = connect_as(&self.steward(), &self.server);
        let subject = format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}");
        let found = streams::from_json(&ask(&mut client, &subject, &[], b"")["config"]);
        self.configure("UPDATE", streams::to_json(&changed(&found, setting, is_wrong)?));
        Ok(())
    }

    fn configure(&self, verb: &str, config: Value) {
        let mut client = connect_as(&self.steward(), &self.server);
        let subject = format!("{API_PREFIX}.STREAM.{verb}.{KEYS_EVENTS}");
        let answer = ask(&mut client, &subject, &[], config.to_string().as_bytes());
        assert!(answer["error"].is_null(), "{config}: {answer}");
    }

    /// Does something with what the server has stored (here, put aside, kept) while it is down.
    fn restore(&mut self, work: impl FnOnce(&Path, &Path, &Path) -> std::io::Result<()>) {
        self.server.stop();
        let place = |name: &str| -> PathBuf { self.server.folder().join(name) };
        work(&place("jetstream"), &place("jetstream.aside"), &place("jetstream.kept"))
            .expect("folders can be moved");
        self.server.restart();
    }
}

fn serve(founder: &Desk, version: Version, websocket: u16, origins: Vec<String>) -> NatsServer {
    let place = "/folder-of-the-server";
    let options = Options {
        name: None,
        listen: ("127.0.0.1".into(), -1),
        websocket: Some(("127.0.0.1".into(), i32::from(websocket))),
        websocket_origins: origins,
        monitoring: None,
        store: place.into(),
        resolver: Resolver::Full { dir: format!("{place}/accounts").into() },
        ports: None,
        pid: None,
    };
    let text = config::text(founder.store(), &options).expect("a configuration");
    Setup::configured(version, move |folder| text.replace(place, &folder.to_string_lossy())).start()
}

fn listen() -> Result<(Runtime, Listener), String> {
    if Assets::embedded().is_empty() {
        return Err("built without the page".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let listener = runtime.block_on(Listener::bind(None)).map_err(|error| error.to_string())?;
    Ok((runtime, listener))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
