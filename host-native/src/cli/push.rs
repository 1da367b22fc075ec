//! `cim-keys push`: brings account tokens to the servers, and reads them back.

use super::connection::{Connection, block_on};
use super::exit::{CliError, Exit, NEWER};
use super::globals::Globals;
use super::output::{counted, printable, table};
use super::sync;
use crate::error::KeyError;
use crate::host::Host;
use crate::keyring::KeyringError;
use crate::nats::link::Link;
use crate::nats::role;
use crate::nats::target::Target;
use crate::pump::{End, Lock};
use crate::push::{self, Mode, Report, State};
use cim_keys_core::roles::{self, PipelineRole};
use std::time::Duration;

/// Rounds before somebody else's changes are left for another push.
const ROUNDS: u32 = 10;
/// How long confirming may take before the way out is named.
const CONFIRM: Duration = Duration::from_secs(10);

/// Flags of `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Also tokens that are not on the stream yet, over exactly the newest that is: for a revocation that must not wait
    #[arg(long)]
    unconfirmed: bool,
    /// Also over tokens on a server that this registry does not know
    #[arg(long)]
    repair: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let servers = args.connection.target(globals, &host)?;
    let mode = Mode { unconfirmed: args.unconfirmed, repair: args.repair, dry_run: args.dry_run };
    let _lock = Lock::take(host.store().path())?;
    let report = block_on(push(&host, &servers, mode, globals))??;
    globals.output().list(&report, &report.accounts, text)?;
    judge(&report, mode)
}

async fn push(host: &Host, servers: &Target, mode: Mode, globals: &Globals) -> Result<Report, CliError> {
    let resolver = of_role(host, servers, PipelineRole::Resolver, globals)?;
    let link = Link::connect(&resolver, host.ambient().now().seconds()).await?;
    if !link.wants_creds() {
        return Err(CliError::new(
            Exit::Conflict,
            "no-accounts",
            "this server has no accounts: there is nothing to push to it",
        )
        .hint("`cim-keys config server` makes a configuration with accounts"));
    }
    drop(link);
    for _ in 0..ROUNDS {
        catch_up(host, servers, mode, globals).await?;
        let link = Link::connect(&resolver, host.ambient().now().seconds()).await?;
        let report = push::round(host, &link, mode).await?;
        if mode.dry_run || mode.unconfirmed {
            return Ok(report);
        }
        catch_up(host, servers, mode, globals).await?;
        if push::is_current(host.store(), &report)? {
            return Ok(report);
        }
    }
    Err(CliError::new(Exit::Conflict, "contended", "other hosts changed accounts in every round")
        .hint("what was pushed is in force: push again when they are done"))
}

/// Only what is confirmed is pushed.
async fn catch_up(host: &Host, servers: &Target, mode: Mode, globals: &Globals) -> Result<(), CliError> {
    let target = of_role(host, servers, PipelineRole::Host, globals)?;
    let outcome = match sync::once(host, target, CONFIRM, None, globals).await {
        Ok((_, End::Drained)) => return Ok(()),
        Ok((_, End::Blocked(reason) | End::Patience(reason))) => sync::stood(host, &reason),
        Ok((_, End::Stopped)) => return Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted")),
        Err(error) => error,
    };
    // Behind a level that is not known here, others may have replaced every token.
    if outcome.code == NEWER {
        return Err(outcome);
    }
    if mode.unconfirmed {
        globals.output().warn(&format!("the stream cannot be caught up with: {outcome}"));
        return Ok(());
    }
    Err(outcome.hint("a revocation that must not wait: `cim-keys push --unconfirmed`"))
}

/// The creds given where they are of this role's account, else a user of the role, in memory, for minutes.
fn of_role(
    host: &Host,
    servers: &Target,
    wanted: PipelineRole,
    globals: &Globals,
) -> Result<Target, CliError> {
    let given = role::account_of(host, servers);
    // Whoever has the system account's own creds may push with them as well.
    let system = wanted == PipelineRole::Resolver && given.as_deref() == Some(roles::SYSTEM_ACCOUNT);
    if system || role::grants(host, servers, wanted) {
        return Ok(servers.clone());
    }
    // Creds of somebody else's account: a server without our accounts.
    let ours = [roles::SYSTEM_ACCOUNT, roles::EDGE_ACCOUNT, roles::KEYS_ACCOUNT];
    if !servers.is_open() && given.as_deref().is_none_or(|name| !ours.contains(&name)) {
        return Err(CliError::new(Exit::Permission, "creds", "the creds are of no account of this registry that can push")
            .hint("leave creds out where this host keeps the roles' keys, or make some: `cim-keys access renew --role resolver`"));
    }
    let target = as_role(host, wanted, servers)?;
    if let Some(user) = target.user() {
        globals
            .output()
            .say(&format!("made a {wanted} in memory for {} minutes: {user}", role::LIFETIME / 60));
    }
    Ok(target)
}

/// The same servers as a user of a role in memory. Whoever lacks the role's key cannot make one: keys of a host's own have no role.
pub(super) fn as_role(host: &Host, wanted: PipelineRole, servers: &Target) -> Result<Target, CliError> {
    role::target(host, wanted, servers).map_err(|error| {
        let missing = matches!(&error, KeyError::Keyring(KeyringError::Missing { .. }));
        let told = CliError::from(error);
        if !missing {
            return told;
        }
        CliError { hints: Vec::new(), ..told }.hint(format!(
            "do it on the host that keeps the roles' keys, or with creds of the role {wanted} (`cim-keys access renew --role {wanted}` there)"
        ))
    })
}

fn judge(report: &Report, mode: Mode) -> Result<(), CliError> {
    let count = |wanted: fn(&State) -> bool| {
        report.accounts.iter().filter(|account| wanted(&account.state)).count() as u64
    };
    let refused = count(|state| matches!(state, State::Refused { .. }));
    if refused > 0 {
        return Err(CliError::new(
            Exit::Verification,
            "push-refused",
            format!("refused: {}", counted(refused, "account")),
        ));
    }
    let drift = count(|state| matches!(state, State::Drift { .. }));
    if drift > 0 {
        return Err(CliError::new(
            Exit::Conflict,
            "drift",
            format!(
                "a token that this registry does not know is on a server, of {}",
                counted(drift, "account")
            ),
        )
        .hint("find out whose it is; `cim-keys push --repair` puts ours in its place"));
    }
    let unconfirmed = count(|state| matches!(state, State::Unconfirmed));
    if unconfirmed > 0 && !mode.dry_run {
        return Err(CliError::new(
            Exit::Partial,
            "unconfirmed",
            format!("not on the stream: {}", counted(unconfirmed, "account")),
        )
        .hint("`cim-keys sync` says why"));
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let rows = report.accounts.iter().map(|account| {
        let state = match &account.state {
            State::Enforced => "enforced".to_owned(),
            State::Pushed => "pushed, read back".to_owned(),
            State::Due => "to be pushed".to_owned(),
            State::Unconfirmed => "NOT ENFORCED: not on the stream yet".to_owned(),
            State::Ahead => "enforced before it is on the stream".to_owned(),
            State::Drift { found } => format!("DRIFT: {found}"),
            State::Refused { reason } => format!("REFUSED: {reason}"),
        };
        vec![account.name.clone(), printable(&state)]
    });
    let servers: Vec<String> = report.servers.iter().map(|name| printable(name)).collect();
    format!("servers: {}\n{}", servers.join(", "), table(&["account", "state"], rows.collect()))
}
