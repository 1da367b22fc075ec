//! `cim-keys serve`: the service of the keys.

use super::connection::{Connection, unnamed};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::push::as_role;
use super::{sync, watch};
use crate::error::KeyError;
use crate::files;
use crate::host::Host;
use crate::nats::role;
use crate::nats::target::Target;
use crate::outbox::OutboxPump;
use crate::serve::log::{self, Level};
use crate::serve::metrics::Metrics;
use crate::serve::policy::{Policy, PolicyError};
use crate::serve::{Issuer, LIFETIME, Projector, Pusher, Responder, Setup, http};
use cim_keys_core::roles::PipelineRole;
use futures::FutureExt as _;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;

/// Threads beside the one that synchronises.
const THREADS: usize = 2;

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Who may ask for what, as JSON; without it nobody for anything. Read again on SIGHUP
    #[arg(long, value_name = "FILE", env = "CIM_KEYS_POLICY")]
    policy: Option<PathBuf>,
    /// Read the policy, say what it allows, and end
    #[arg(long, requires = "policy")]
    check: bool,
    /// Where /healthz and /metrics are answered, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS", env = "CIM_KEYS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Seconds of the stream's duplicate window, where the stream has another one on purpose
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duplicate_window: Option<u64>,
}

/// What `--check` says.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    policy: Policy,
    /// The rules in words.
    says: Vec<String>,
    /// What is probably meant otherwise.
    warnings: Vec<String>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let policy = match &args.policy {
        Some(path) => read(path)?,
        None => Policy { rules: Vec::new() },
    };
    if args.check {
        return check(policy, globals);
    }
    let globals = globals.logging();
    let host = Arc::new(globals.host()?);
    let Some(target) = args.connection.target_if_any(&globals, &host)? else { return Err(unnamed()) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| CliError::unexpected(&error))?;
    let ended = runtime.block_on(stay(&host, args, policy, target, &globals));
    // What is written now is finished; nothing is waited for that sleeps.
    runtime.shutdown_timeout(Duration::from_millis(300));
    ended
}

async fn stay(
    host: &Arc<Host>,
    args: &Args,
    policy: Policy,
    target: Target,
    globals: &Globals,
) -> Result<(), CliError> {
    let (end, ended) = channel::channel(false);
    // Before anything is begun: what comes early must not end it the hard way.
    let signals = Signals::new()?;
    let place = watch::place(host, globals)?;
    let metrics = Arc::new(Metrics::default());
    let listener = match args.listen {
        Some(address) => Some(http::bind(address).await.map_err(|error| {
            CliError::new(Exit::Network, "listen", format!("{address}: {error}"))
                .hint("give --listen another port, or end who has it")
        })?),
        None => None,
    };
    if args.policy.is_none() {
        globals.output().warn("no --policy is given: nobody may ask for anything");
    }
    can_enter(host, &target)?;
    let issuer = Issuer::open(host)?;
    let outbox = issuer.outbox().clone();
    let setup = Setup {
        host: Arc::clone(host),
        servers: target.clone(),
        policy,
        issuer: Some(issuer),
        metrics: Arc::clone(&metrics),
        lifetime: LIFETIME,
    };
    let responder = Responder::new(setup)?;
    if let Some(listener) = listener {
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        log::line(Level::Info, "health and metrics", &[("address", address.into())]);
        tokio::spawn(http::serve(listener, Arc::clone(host), Arc::clone(&metrics)));
    }
    let projector = Projector::new(Arc::clone(host), target.clone(), Arc::clone(&metrics))?;
    let projecting = tokio::spawn(projector.run(until(ended.clone())));
    let pusher = tokio::spawn(Pusher::new(Arc::clone(host), target.clone(), metrics).run());
    let answering = tokio::spawn(responder.clone().run(until(ended.clone())));
    let issued = publish_issued(host, &outbox, &args.connection, target.clone(), globals, ended.clone());
    let listening = signals.until_end(&responder, args.policy.as_deref());
    let syncing = {
        let args = sync::Args::staying(args.connection.clone(), args.duplicate_window);
        let stop = until(ended).boxed_local();
        async move { watch::stay(host, &args, target, globals, stop, place).await }
    };
    tokio::pin!(syncing, issued);
    log::line(Level::Info, "serving", &[("version", env!("CARGO_PKG_VERSION").into())]);
    let outcome = {
        tokio::pin!(listening);
        tokio::select! {
            biased;
            outcome = &mut syncing => Some(outcome),
            outcome = &mut issued => Some(outcome),
            () = &mut listening => None,
        }
    };
    log::line(Level::Info, "stopping", &[]);
    // Whoever asks is answered first, and what is answered may still be published.
    end.send_replace(true);
    let _ = tokio::join!(answering, projecting);
    pusher.abort();
    match outcome {
        Some(outcome) => outcome,
        None => {
            let rest = async { tokio::join!(&mut syncing, &mut issued) };
            match tokio::time::timeout(Duration::from_millis(500), rest).await {
                Ok((synced, issued)) => synced.and(issued),
                // Nothing is lost: the stream tells what came of it.
                Err(_) => Ok(()),
            }
        }
    }
}

/// Whether this host can make the users in memory that the service enters as.
fn can_enter(host: &Host, target: &Target) -> Result<(), CliError> {
    for role in [PipelineRole::Responder, PipelineRole::Resolver, PipelineRole::Service] {
        as_role(host, role, target).map_err(|error| {
            if error.code == "no-signing-key" {
                return CliError { hints: Vec::new(), ..error }.hint(
                    "this registry was founded by a version without the service, and its accounts lack what that needs: found a new one",
                );
            }
            error
        })?;
    }
    Ok(())
}

/// Keeps the outbox of issued creds empty.
async fn publish_issued(
    host: &Host,
    outbox: &crate::outbox::Outbox,
    connection: &Connection,
    target: Target,
    globals: &Globals,
    ended: channel::Receiver<bool>,
) -> Result<(), CliError> {
    let renew = Box::new(move || connection.target(globals, host).ok());
    let mut pump = OutboxPump::new(outbox, target)?.renewing(renew);
    let mut last = None;
    let report = |status: &cim_keys_core::sync::Status| {
        use cim_keys_core::sync::Status;
        let reason = match status {
            Status::Blocked { reason } | Status::Waiting { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        if reason != last {
            if let Some(reason) = &reason {
                let members = [("code", reason.code.clone().into()), ("reason", reason.text.clone().into())];
                log::line(Level::Warn, "issued creds are not recorded on the stream yet", &members);
            }
            last = reason;
        }
    };
    pump.stay(until(ended), report).await?;
    Ok(())
}

async fn until(mut ended: channel::Receiver<bool>) {
    // A sender that is gone is an end, too.
    let _ = ended.wait_for(|ended| *ended).await;
}

/// What this process is told from outside.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let one = |kind| signal(kind).map_err(|error| CliError::unexpected(&error));
        Ok(Self {
            interrupt: one(SignalKind::interrupt())?,
            terminate: one(SignalKind::terminate())?,
            hangup: one(SignalKind::hangup())?,
        })
    }

    /// Waits for the end; a hang-up has the policy read again.
    async fn until_end(mut self, responder: &Responder, policy: Option<&Path>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => match policy.map(read) {
                    None => {}
                    Some(Ok(policy)) => {
                        log::line(Level::Info, "the policy is read again", &[("rules", policy.rules.len().into())]);
                        responder.take(policy);
                    }
                    Some(Err(error)) => {
                        let members = [("code", error.code.into()), ("reason", error.message.into())];
                        log::line(Level::Error, "the policy has a fault: the one before stays in force", &members);
                    }
                },
            }
        }
    }
}

fn read(path: &Path) -> Result<Policy, CliError> {
    let text = files::read_text(path).map_err(KeyError::from)?;
    Policy::read(text.expose()).map_err(CliError::from)
}

impl From<PolicyError> for CliError {
    fn from(error: PolicyError) -> Self {
        let exit = match error {
            PolicyError::Version { .. } => Exit::Conflict,
            PolicyError::Form { .. } | PolicyError::Rule { .. } => Exit::Validation,
        };
        Self::new(exit, error.code(), error.to_string())
            .hint("`cim-keys serve --policy FILE --check` says what a policy allows")
    }
}

fn check(policy: Policy, globals: &Globals) -> Result<(), CliError> {
    let says = policy.rules.iter().map(ToString::to_string).collect();
    let mut warnings = Vec::new();
    if policy.rules.is_empty() {
        warnings.push("it allows nothing".to_owned());
    }
    if globals.store_if_any()?.is_some() {
        let host = globals.host()?;
        for rule in &policy.rules {
            let from = std::iter::once(&rule.from.account);
            for name in from.chain(&rule.accounts).filter(|name| *name != "*") {
                let known = role::account(&host, name).is_ok() || role::account_name(&host, name).is_some();
                if !known {
                    warnings.push(format!("rule {:?}: this registry has no account {name:?} yet", rule.name));
                }
            }
        }
    }
    for warning in &warnings {
        globals.output().warn(warning);
    }
    let checked = Checked { policy, says, warnings };
    globals.output().data(&checked, |checked| checked.says.join("\n"))
}
