//! Brings what is confirmed to every server at once, and looks from time to time whether it is still there.

use super::log::{self, Level};
use super::metrics::Metrics;
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::Link;
use crate::nats::role;
use crate::nats::target::Target;
use crate::push::{self, Mode, PushError, Report, State};
use crate::store::StoreError;
use cim_keys_core::envelope;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::roles::PipelineRole;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked whether another process has confirmed something.
const LOOK: Duration = Duration::from_millis(200);
/// How often every account is looked at on every server.
const ROUND: Duration = Duration::from_secs(60);
/// Between two tries at what failed: doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How long a user in memory lives, in seconds, and how long before its end another takes its place.
const LIFETIME: i64 = 3600;
const BEFORE: Duration = Duration::from_secs(300);

/// Pushes. There is one in a process; others push beside it without harm.
pub struct Pusher {
    host: Arc<Host>,
    servers: Target,
    metrics: Arc<Metrics>,
    link: Option<(Arc<Link>, Instant)>,
    /// Accounts that are to be looked at.
    due: BTreeSet<PublicKey>,
    /// Up to which message that is known.
    seen: u64,
    /// What was said of an account last.
    said: BTreeMap<PublicKey, &'static str>,
}

impl Pusher {
    /// To these servers, entered as the resolver.
    #[must_use]
    pub fn new(host: Arc<Host>, servers: Target, metrics: Arc<Metrics>) -> Self {
        Self { host, servers, metrics, link: None, due: BTreeSet::new(), seen: 0, said: BTreeMap::new() }
    }

    /// Pushes for ever.
    pub async fn run(mut self) {
        let mut writes = self.host.store().writes();
        let mut failures = 0;
        let mut round = Instant::now();
        let mut failed: Option<String> = None;
        loop {
            let outcome = if round <= Instant::now() {
                round = Instant::now() + ROUND;
                self.seen = self.host.store().progress().map_or(self.seen, |progress| progress.head);
                self.all().await
            } else {
                self.some().await
            };
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    failed = None;
                    LOOK
                }
                Err(error) => {
                    failures += 1;
                    // A round that failed is owed.
                    round = Instant::now();
                    self.link = None;
                    let text = error.to_string();
                    if failed.as_ref() != Some(&text) {
                        let members = [("code", error.code().into()), ("reason", text.clone().into())];
                        log::line(Level::Warn, "nothing can be pushed", &members);
                        failed = Some(text);
                    }
                    AGAIN.saturating_mul(1 << (failures - 1).min(5)).min(LONGEST)
                }
            };
            tokio::select! {
                _ = writes.changed(), if failed.is_none() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Every account.
    async fn all(&mut self) -> Result<(), PushError> {
        let link = self.link().await?;
        let report = push::round(&self.host, &link, Mode::default()).await?;
        self.due.clear();
        self.tell(&report);
        Ok(())
    }

    /// Those that changed since.
    async fn some(&mut self) -> Result<(), PushError> {
        self.changed()?;
        let due: Vec<PublicKey> = self.due.iter().copied().collect();
        if due.is_empty() {
            return Ok(());
        }
        let link = self.link().await?;
        let report = push::some(&self.host, &link, &due, Mode::default()).await?;
        self.tell(&report);
        self.due.clear();
        // Somebody may have changed it again meanwhile.
        for pushed in &report.accounts {
            let settled = matches!(pushed.state, State::Enforced | State::Pushed);
            if settled && !push::is_in_force(self.host.store(), pushed.account)? {
                self.due.insert(pushed.account);
            }
        }
        Ok(())
    }

    /// Takes in which accounts the messages behind the last look are about.
    fn changed(&mut self) -> Result<(), StoreError> {
        const PAGE: u32 = 1000;
        loop {
            let page = self.host.store().trail(self.seen, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            self.seen = last.sequence;
            for entry in page.iter().filter(|entry| entry.subject.contains(".account.")) {
                if let Ok(opened) = envelope::decode(&entry.subject, &entry.headers, &entry.payload) {
                    self.due.insert(opened.event.entity);
                }
            }
        }
    }

    async fn link(&mut self) -> Result<Arc<Link>, PushError> {
        let usable = |(link, until): &(Arc<Link>, Instant)| !link.is_closed() && Instant::now() < *until;
        if !self.link.as_ref().is_some_and(usable) {
            let target = role::target_for(&self.host, PipelineRole::Resolver, &self.servers, LIFETIME)?;
            let now = self.host.ambient().now().seconds();
            let link = Link::connect(&target, now).await.map_err(|error| PushError::NoAnswer {
                subject: error.to_string(),
                trouble: crate::nats::link::Trouble::Closed,
            })?;
            let lives = Duration::from_secs(LIFETIME.unsigned_abs()).saturating_sub(BEFORE);
            self.link = Some((Arc::new(link), Instant::now() + lives));
        }
        let missing = || PushError::Key(KeyError::Internal { what: "no connection".to_owned() });
        self.link.as_ref().map(|(link, _)| Arc::clone(link)).ok_or_else(missing)
    }

    fn tell(&mut self, report: &Report) {
        for account in &report.accounts {
            let (state, why) = match &account.state {
                State::Enforced => ("enforced", None),
                State::Pushed => ("pushed", None),
                State::Due => ("due", None),
                State::Unconfirmed => ("unconfirmed", None),
                State::Ahead => ("ahead", None),
                State::Drift { found } => ("drift", Some(found)),
                State::Refused { reason } => ("refused", Some(reason)),
            };
            self.metrics.pushed(state);
            let before = self.said.insert(account.account, state);
            if state != "pushed" && (before == Some(state) || state == "enforced" || state == "ahead") {
                continue;
            }
            let level = if why.is_some() { Level::Error } else { Level::Info };
            let members = [
                ("account", account.name.clone().into()),
                ("state", state.into()),
                ("reason", why.map_or(Value::Null, |why| why.clone().into())),
                ("servers", report.servers.len().into()),
            ];
            log::line(level, "account on the servers", &members);
        }
        let count = |wanted: &[&str]| self.said.values().filter(|state| wanted.contains(*state)).count();
        self.metrics.accounts(count(&["due", "unconfirmed", "drift", "refused"]), count(&["drift"]));
    }
}
