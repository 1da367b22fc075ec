//! The words of a scenario, as `tests/contract/scenarios.json` has them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Users that are made, by host.
pub type Users = BTreeMap<String, Vec<String>>;

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// What it is called, in every driver.
    pub name: String,
    /// What it shows.
    pub why: String,
    /// The drivers that it is for, where it is not for all of them.
    #[serde(default, rename = "for")]
    pub only: Option<Only>,
    /// The server that it begins with.
    #[serde(default)]
    pub server: Release,
    /// How the stream is when it begins, and what the hosts know of it.
    #[serde(default)]
    pub begin: Begin,
    /// Hosts, each with a journal and the keys of the registry's application account.
    pub hosts: Vec<String>,
    /// What happens, in this order.
    pub steps: Vec<Step>,
}

/// Why a scenario is not for every driver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// Those that it is for.
    pub drivers: Vec<Name>,
    /// Why the others cannot be put into it.
    pub because: String,
}

/// A driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// The machine under the model broker, on a virtual clock.
    Simulator,
    /// The native host and a real server.
    Native,
    /// The page in a browser and a real server, over websocket.
    Page,
}

/// A server's release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// What `up` installs.
    #[default]
    Newest,
    /// One that has no atomic batches.
    TooOld,
}

/// How a scenario begins. Nobody is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begin {
    /// The registry with its accounts stands on the stream, and every host has read it.
    #[default]
    Founded,
    /// There is no stream, and no host has met one.
    Bare,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Hosts make users one after the other: each is in its host's journal when this is over, and nothing more.
    Make(Users),
    /// The same at once, while those that are connected publish.
    Together(Users),
    /// Hosts get creds (again), and work from now on whenever there is something to do.
    Connect(BTreeMap<String, Entrance>),
    /// The users that hosts have come in as are revoked, and every server knows.
    Revoke(Vec<String>),
    /// Hosts give their connection and creds up; their journal stays open for commands.
    Disconnect(Vec<String>),
    /// Something happens to the next append of a host.
    Arm(BTreeMap<String, Fault>),
    /// Hosts work until their next append is held back on its way.
    OnItsWay(Vec<String>),
    /// What was held back goes on.
    LetGo(Vec<String>),
    /// Hosts end without a warning.
    Kill(Vec<String>),
    /// Hosts begin again from what their journal holds, not connected.
    Start(Vec<String>),
    /// A second driver over the journal of a host: new to old.
    Beside(BTreeMap<String, String>),
    /// Whether the stores of hosts can write while the machine is at work.
    Store(BTreeMap<String, Disk>),
    /// Something happens to the server.
    Server(ServerOrder),
    /// Something happens to the stream.
    Stream(StreamOrder),
    /// A person has these hosts look now, where they wait; then they work until they stand so.
    Stands(BTreeMap<String, Standing>),
    /// What must be true now.
    Expect(Expectation),
}

/// Creds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entrance {
    /// Of a role that may append users.
    Writer,
    /// The same, of a user that stands in the registry and so can be revoked.
    Named,
    /// Of a role that may read alone.
    Reader,
    /// Of another registry: the server has never heard of it.
    Stranger,
    /// Of a role that may append, ended an hour ago.
    Expired,
}

/// What happens to an append. The next one meets it, nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The server stores it; the acknowledgement gets lost, the connection stays.
    LoseAnswer,
    /// The connection breaks before the server sees anything of it.
    CutBefore,
    /// The server stores it; the connection breaks before the acknowledgement.
    CutAfter,
    /// The server stores it; the host dies before it hears so.
    Die,
    /// It is held back on its way until it is let go.
    Hold,
}

/// Whether a store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// It writes.
    Works,
    /// It reads, and writes nothing.
    Fails,
}

/// What happens to the server. Connections end with it, unless it only stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerOrder {
    /// It goes.
    Stop,
    /// It comes back with what it had.
    Start,
    /// Both.
    Restart,
    /// It stands still: connections stay, and nothing is answered.
    Freeze,
    /// It moves on.
    Thaw,
    /// It comes back as the newest release, and the stream gets the setting that the old one did not know.
    Upgrade,
}

/// What happens to the stream. All but `spoil` and `mend` happen while the server restarts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamOrder {
    /// Everything that the server has stored is put aside, as if its disk were not mounted.
    Away,
    /// What was put aside last is back, and what was there meanwhile is gone.
    Back,
    /// A copy of everything stored is kept: a backup.
    Keep,
    /// The kept copy takes the place of what is there, which is put aside.
    Rewind,
    /// The streams are made where there are none, and nothing is on them.
    Create,
    /// The same, and the registry's founding is published there by its founder.
    Found,
    /// Another registry is founded on the stream.
    Strangers,
    /// A setting is made wrong.
    Spoil(String),
    /// A setting is what it must be again.
    Mend(String),
}

/// How a host stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Standing {
    /// Without a reason.
    Calm(Calm),
    /// It cannot go on until somebody changes something.
    Blocked {
        /// The reason's code.
        blocked: String,
        /// What its text names.
        #[serde(default)]
        says: String,
    },
    /// It tries again by itself.
    Waiting {
        /// The reason's code.
        waiting: String,
    },
}

/// A standing without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calm {
    /// Everything was read, and nothing is pending that could be appended.
    Idle,
    /// It has no creds.
    Offline,
    /// Another driver works on its journal.
    Elsewhere,
    /// Its process is gone.
    Dead,
}

/// What a driver saw of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `idle`, `offline`, `elsewhere`, `dead`, `blocked`, `waiting`, or whatever else there is.
    pub kind: String,
    /// The reason's code.
    #[serde(default)]
    pub code: String,
    /// The reason's text.
    #[serde(default)]
    pub text: String,
}

impl Seen {
    /// Without a reason.
    pub fn plain(kind: &str) -> Seen {
        Seen { kind: kind.to_owned(), ..Seen::default() }
    }
}

impl Standing {
    /// Whether a host that was seen so stands so.
    pub fn fits(&self, seen: &Seen) -> bool {
        match self {
            Standing::Calm(calm) => seen.kind == calm.word(),
            Standing::Blocked { blocked, says } => {
                seen.kind == "blocked"
                    && seen.code == *blocked
                    && seen.text.to_lowercase().contains(&says.to_lowercase())
            }
            Standing::Waiting { waiting } => seen.kind == "waiting" && seen.code == *waiting,
        }
    }
}

impl Calm {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Calm::Idle => "idle",
            Calm::Offline => "offline",
            Calm::Elsewhere => "elsewhere",
            Calm::Dead => "dead",
        }
    }
}

/// What must be true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expectation {
    /// The users that hosts made, by host: what became of each in that host's journal.
    #[serde(default)]
    pub journal: BTreeMap<String, BTreeMap<String, Fate>>,
    /// `host/user` of what was made in the scenario and stands on the stream, in this order and no more.
    #[serde(default)]
    pub stream: Option<Vec<String>>,
    /// The same where the order is nobody's promise.
    #[serde(default)]
    pub stream_in_any_order: Option<Vec<String>>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It waits to be appended.
    Pending,
    /// It is on the stream.
    Confirmed,
    /// It is held, for a reason of this code.
    Held(String),
}
