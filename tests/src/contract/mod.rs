//! The contract of whoever drives the sync machine: one list of scenarios, played by every driver.
//!
//! The list is data, `tests/contract/scenarios.json`. [`play`] carries a scenario out step by step through a [`Driver`], and
//! judges: what the scenario expects, and what must hold after each one (see [`judge`]). Three drivers exist: the machine in
//! the simulator ([`crate::simulator::Scripted`]), the native host before a real server ([`native::Native`]), and the page
//! in a browser before the same server ([`remote::Remote`], which orders over a pipe what `www/tests/contract.spec.ts` does
//! in the browser). None may leave a step or a scenario out.

pub mod judge;
pub mod native;
mod play;
pub mod remote;
mod scenario;
mod spoil;

pub use play::play;
pub use scenario::{
    Begin, Calm, Disk, Entrance, Expectation, Fate, Fault, Name, Only, Release, Scenario, Seen, ServerOrder,
    Standing, Step, StreamOrder, Users,
};
pub use spoil::changed;

use cim_keys_core::journal::State;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const SCENARIOS: &str = include_str!("../../contract/scenarios.json");

/// All scenarios.
///
/// # Panics
/// When the file is none.
pub fn scenarios() -> Vec<Scenario> {
    serde_json::from_str(SCENARIOS).expect("tests/contract/scenarios.json is a list of scenarios")
}

/// Those of one driver.
pub fn scenarios_for(name: Name) -> Vec<Scenario> {
    scenarios().into_iter().filter(|scenario| scenario.is_for(name)).collect()
}

impl Scenario {
    /// Whether this driver plays it.
    pub fn is_for(&self, name: Name) -> bool {
        self.only.as_ref().is_none_or(|only| only.drivers.contains(&name))
    }
}

/// A user that a host has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Which host.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// The command.
    pub command_id: Uuid,
}

/// One command of a host's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The command.
    pub command_id: Uuid,
    /// Where it stands.
    pub state: State,
    /// The code of the reason why it is held.
    #[serde(default)]
    pub code: Option<String>,
    /// The sequence of its first event, once it is confirmed.
    #[serde(default)]
    pub first: Option<u64>,
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Its commands.
    pub rows: Vec<Row>,
    /// Sequence and event id of what it knows of the stream, ascending.
    pub trail: Vec<(u64, String)>,
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its sequence.
    pub sequence: u64,
    /// Its event's id, as its headers and its payload say; empty where they do not agree.
    pub event_id: String,
    /// The event's type.
    pub kind: String,
    /// The command that it belongs to.
    pub command_id: Uuid,
    /// Its place in the command.
    pub index: u64,
    /// How many events the command has.
    pub count: u64,
}

/// What plays a scenario. An error says what could not be done.
pub trait Driver {
    /// A host commits a new user to its journal.
    fn make(&mut self, host: &str, user: &str) -> Result<Made, String>;
    /// Hosts make users at once, while those that are connected publish.
    fn together(&mut self, users: &Users) -> Result<Vec<Made>, String>;
    /// A host gets creds, in place of those before.
    fn connect(&mut self, host: &str, entrance: Entrance) -> Result<(), String>;
    /// The user that a host has come in as is revoked, and every server knows.
    fn revoke(&mut self, host: &str) -> Result<(), String>;
    /// A host gives connection and creds up.
    fn disconnect(&mut self, host: &str) -> Result<(), String>;
    /// Something happens to the next append of a host.
    fn arm(&mut self, host: &str, fault: Fault) -> Result<(), String>;
    /// A host works until its next append is held back.
    fn on_its_way(&mut self, host: &str) -> Result<(), String>;
    /// What was held back goes on.
    fn let_go(&mut self, host: &str) -> Result<(), String>;
    /// Faults that were armed and have not happened.
    fn unmet(&mut self) -> Result<Vec<String>, String>;
    /// A host ends without a warning.
    fn kill(&mut self, host: &str) -> Result<(), String>;
    /// A host begins again.
    fn start(&mut self, host: &str) -> Result<(), String>;
    /// A second driver over the journal of a host.
    fn beside(&mut self, host: &str, of: &str) -> Result<(), String>;
    /// Whether the store of a host can write.
    fn store(&mut self, host: &str, disk: Disk) -> Result<(), String>;
    /// Something happens to the server.
    fn server(&mut self, order: ServerOrder) -> Result<(), String>;
    /// Something happens to the stream.
    fn stream(&mut self, order: &StreamOrder) -> Result<(), String>;
    /// Has hosts look now and lets them work until they stand so, or for as long as it has patience. Says how they stand.
    fn stands(&mut self, wanted: &BTreeMap<String, Standing>) -> Result<BTreeMap<String, Seen>, String>;
    /// What a host's journal says.
    fn journal(&mut self, host: &str) -> Result<Journal, String>;
    /// What the stream holds, read by somebody else.
    fn ledger(&mut self) -> Result<Vec<Mark>, String>;
    /// Commands that others brought to the stream, or that were there before.
    fn others(&self) -> BTreeSet<Uuid>;
}
