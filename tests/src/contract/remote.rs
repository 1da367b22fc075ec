//! A driver of the contract whose hosts are elsewhere: orders go out as lines of JSON, and each is answered by a line.
//!
//! An order is `{"do": NAME, …}`, its answer `{"ok": VALUE}` or `{"error": TEXT}`. The last one is `end`, or `fail` with `why`.
//! The server, its streams and the page that the hosts are tabs of stand here.

use super::{
    Disk, Driver, Entrance, Fault, Journal, Made, Mark, Scenario, Seen, ServerOrder, Standing, StreamOrder,
    Users, play,
};
use crate::stage::Stage;
use cim_keys_core::roles::PipelineRole;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use uuid::Uuid;

/// One scenario with hosts at the other end of a pipe.
pub struct Remote<R, W> {
    stage: Stage,
    answers: R,
    orders: W,
}

/// What comes back for an order.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Value),
    Error(String),
}

/// Plays a scenario with hosts at the other end of a pipe, and says there what came of it.
///
/// # Errors
/// What did not hold or could not be done.
///
/// # Panics
/// When the server does not get ready.
pub fn conduct(scenario: &Scenario, answers: impl BufRead, orders: impl Write) -> Result<(), String> {
    let mut remote = Remote { stage: Stage::set(scenario, true)?, answers, orders };
    let outcome = remote.begin(scenario).and_then(|()| play(scenario, &mut remote));
    let last = match &outcome {
        Ok(()) => json!({ "do": "end" }),
        Err(why) => json!({ "do": "fail", "why": why }),
    };
    remote.say(&last)?;
    outcome
}

impl<R: BufRead, W: Write> Remote<R, W> {
    /// Opens a tab for each host, and lets it read what is on the stream.
    fn begin(&mut self, scenario: &Scenario) -> Result<(), String> {
        let seed = self.stage.signing_seed();
        let order = json!({
            "do": "begin",
            "page": self.stage.page_url(),
            "operator": self.stage.founder().registry().operator,
            "signing": seed.expose(),
        });
        self.ask::<()>(order)?;
        for host in &scenario.hosts {
            let creds = self.stage.creds(host, Entrance::Writer, PipelineRole::Browser);
            // What is not there yet cannot be read.
            let creds = (scenario.begin == super::Begin::Founded).then(|| creds.expose());
            self.ask::<()>(json!({ "do": "open", "host": host, "creds": creds }))?;
        }
        Ok(())
    }

    fn say(&mut self, order: &Value) -> Result<(), String> {
        let written = writeln!(self.orders, "{order}").and_then(|()| self.orders.flush());
        written.map_err(|error| format!("nobody takes orders any more: {error}"))
    }

    fn ask<T: DeserializeOwned>(&mut self, order: Value) -> Result<T, String> {
        self.say(&order)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        match serde_json::from_str(&line).map_err(|error| format!("{line:?} is no answer: {error}"))? {
            Answer::Ok(value) => serde_json::from_value(value).map_err(|error| format!("{line:?}: {error}")),
            Answer::Error(why) => Err(why),
        }
    }
}

impl<R: BufRead, W: Write> Driver for Remote<R, W> {
    fn make(&mut self, host: &str, user: &str) -> Result<Made, String> {
        self.ask(json!({ "do": "make", "host": host, "user": user }))
    }

    fn together(&mut self, users: &Users) -> Result<Vec<Made>, String> {
        self.ask(json!({ "do": "together", "users": users }))
    }

    fn connect(&mut self, host: &str, entrance: Entrance) -> Result<(), String> {
        let creds = self.stage.creds(host, entrance, PipelineRole::Browser);
        self.ask(json!({ "do": "connect", "host": host, "entrance": entrance, "creds": creds.expose() }))
    }

    fn revoke(&mut self, host: &str) -> Result<(), String> {
        self.stage.revoke(host)
    }

    fn disconnect(&mut self, host: &str) -> Result<(), String> {
        self.ask(json!({ "do": "disconnect", "host": host }))
    }

    fn arm(&mut self, host: &str, fault: Fault) -> Result<(), String> {
        self.ask(json!({ "do": "arm", "host": host, "fault": fault }))
    }

    fn on_its_way(&mut self, host: &str) -> Result<(), String> {
        self.ask(json!({ "do": "on-its-way", "host": host }))
    }

    fn let_go(&mut self, host: &str) -> Result<(), String> {
        self.ask(json!({ "do": "let-go", "host": host }))
    }

    fn unmet(&mut self) -> Result<Vec<String>, String> {
        self.ask(json!({ "do": "unmet" }))
    }

    fn kill(&mut self, host: &str) -> Result<(), String> {
        self.ask(json!({ "do": "kill", "host": host }))
    }

    fn start(&mut self, host: &str) -> Result<(), String> {
        self.ask(json!({ "do": "start", "host": host }))
    }

    fn beside(&mut self, host: &str, of: &str) -> Result<(), String> {
        self.ask(json!({ "do": "beside", "host": host, "of": of }))
    }

    fn store(&mut self, host: &str, disk: Disk) -> Result<(), String> {
        self.ask(json!({ "do": "store", "host": host, "disk": disk }))
    }

    fn server(&mut self, order: ServerOrder) -> Result<(), String> {
        self.stage.order_server(order);
        Ok(())
    }

    fn stream(&mut self, order: &StreamOrder) -> Result<(), String> {
        self.stage.order_stream(order)
    }

    fn stands(&mut self, wanted: &BTreeMap<String, Standing>) -> Result<BTreeMap<String, Seen>, String> {
        self.ask(json!({ "do": "stands", "wanted": wanted }))
    }

    fn journal(&mut self, host: &str) -> Result<Journal, String> {
        self.ask(json!({ "do": "journal", "host": host }))
    }

    fn ledger(&mut self) -> Result<Vec<Mark>, String> {
        self.stage.ledger()
    }

    fn others(&self) -> BTreeSet<Uuid> {
        self.stage.others()
    }
}
