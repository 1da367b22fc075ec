//! `cim-keys clone`: takes part in a registry that exists.

use super::connection::{Connection, block_on, interrupted, unnamed};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{Output, printable};
use super::progress::Bar;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::exit::nats::stuck;
use crate::host::Host;
use crate::nats::link::Link;
use crate::nats::origin;
use crate::nats::streams::Wanted;
use crate::nats::target::Target;
use crate::pump::{End, Lock, Pump};
use crate::store::Store;
use crate::vault::Vault;
use cim_keys_core::context::RegistryId;
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::EntityId;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_core::sync::StreamInfo;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `clone`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of a server that has the stream, as --server names it
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Public key of the operator whose registry it is; asked for on a terminal where it is left out
    #[arg(long, value_name = "O…", value_parser = operator)]
    operator: Option<PublicKey>,
    #[command(flatten)]
    connection: Connection,
    /// Seconds that it may be stuck before it gives up; `sync` goes on then
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Seconds of the stream's duplicate window, where the stream has another one on purpose
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duplicate_window: Option<u64>,
}

fn operator(text: &str) -> Result<PublicKey, String> {
    let key: PublicKey = text.parse().map_err(|error: cim_keys_core::nkey::KeyError| error.to_string())?;
    if key.kind() == Kind::Operator { Ok(key) } else { Err("an operator's key begins with O".to_owned()) }
}

#[derive(Serialize)]
struct Cloned {
    operator: PublicKey,
    name: String,
    namespace: String,
    data_dir: PathBuf,
    store: PathBuf,
    stream: &'static str,
    /// The last sequence read.
    head: u64,
    anomalies: u64,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let path = globals.store_path()?;
    if globals.store_if_any()?.is_some_and(|store| !is_bare(&store).unwrap_or(false)) {
        return Err(KeyError::Founded { path }.into());
    }
    let target = args.connection.at(args.url.as_ref()).unsuited(globals)?.ok_or_else(unnamed)?;
    let (cloned, end) = block_on(clone(args, target, &path, globals))??;
    match end {
        End::Drained => {}
        End::Blocked(reason) | End::Patience(reason) => {
            return Err(stuck(&reason).hint(format!(
                "`cim-keys{} sync` goes on from {}",
                globals.again(),
                cloned.head
            )));
        }
        End::Stopped => {
            let text = format!("interrupted at {}: `cim-keys{} sync` goes on", cloned.head, globals.again());
            return Err(CliError::new(Exit::Interrupted, "interrupted", text));
        }
    }
    let output = globals.output();
    output.data(&cloned, |cloned| {
        format!(
            "operator   {} {}\nread       {} messages of {}",
            printable(&cloned.name),
            cloned.operator,
            cloned.head,
            cloned.stream
        )
    })?;
    if cloned.anomalies > 0 {
        output.warn(&super::sync::anomalies(cloned.anomalies));
    }
    let again = globals.again();
    output.say(&format!(
        "cloned into {}; it has no seeds: it can read, and not sign",
        cloned.data_dir.display()
    ));
    output.say(&format!("to sign: cim-keys{again} key import FILE            # seeds that are brought here"));
    output.say(&format!(
        "or:      cim-keys{again} key generate account --own # a key of its own, added by the founder"
    ));
    Ok(())
}

async fn clone(
    args: &Args,
    mut target: Target,
    path: &Path,
    globals: &Globals,
) -> Result<(Cloned, End), CliError> {
    let now = Ambient::system().now().seconds();
    let (link, info) = origin::reach(&mut target, now).await?;
    let namespace = origin::namespace(&info).ok_or_else(|| {
        let text =
            format!("{KEYS_EVENTS} takes {}: no stream of a registry", info.config.subjects.join(", "));
        CliError::new(Exit::Conflict, "stream-settings", printable(&text))
    })?;
    let operator = match args.operator {
        Some(operator) => operator,
        None => confirmed(&link, &info).await?,
    };
    let registry = RegistryId { operator, namespace };
    let mut wanted = Wanted::new(&registry.namespace);
    if let Some(seconds) = args.duplicate_window {
        wanted = wanted.duplicate_window(seconds.saturating_mul(1_000_000_000));
    }
    let mut store = Store::create(path).map_err(KeyError::from)?;
    let _lock = Lock::take(path)?;
    let mut adopted = store.adopt(&registry).map_err(KeyError::from)?;
    if !adopted && is_bare(&store)? {
        // One was ended before anything of the stream was kept, perhaps of another registry: it begins anew.
        drop(store);
        remove(path, &STORE);
        store = Store::create(path).map_err(KeyError::from)?;
        adopted = store.adopt(&registry).map_err(KeyError::from)?;
    }
    if !adopted {
        return Err(KeyError::Founded { path: path.to_owned() }.into());
    }
    let host = globals.host_over(store, Vault::new(&globals.identity_path()?))?;
    let read = read(&host, target, link, &wanted, args, globals.output()).await;
    // Nothing that was read is worth keeping where it is not this registry's.
    match (&read, known(&host, operator)?) {
        (Ok((end, anomalies)), Some(name)) => {
            let head = host.store().progress().map_err(KeyError::from)?.head;
            let cloned = Cloned {
                operator,
                name,
                namespace: registry.namespace.to_string(),
                data_dir: globals.data_dir()?,
                store: path.to_owned(),
                stream: KEYS_EVENTS,
                head,
                anomalies: *anomalies,
            };
            Ok((cloned, end.clone()))
        }
        _ => {
            drop(host);
            forget(path);
            match read {
                Err(error) => Err(error),
                Ok((End::Blocked(reason) | End::Patience(reason), _)) => {
                    let mut error = stuck(&reason);
                    if reason.code == "stream-foreign" {
                        // It has no stream of its own yet that it could be joined to.
                        error.hints =
                            vec!["check the server's address, and the key given with --operator".to_owned()];
                    }
                    Err(error)
                }
                Ok((End::Stopped, _)) => {
                    Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted: nothing was kept"))
                }
                Ok((End::Drained, _)) => Err(CliError::new(
                    Exit::NotFound,
                    "not-founded",
                    format!("the stream holds no registry of {operator}"),
                )
                .hint("whoever founded it publishes it with `cim-keys sync`")),
            }
        }
    }
}

async fn read(
    host: &Host,
    target: Target,
    link: Link,
    wanted: &Wanted,
    args: &Args,
    output: Output,
) -> Result<(End, u64), CliError> {
    let mut pump = Pump::new(host, target).expecting(wanted.events.clone()).over(link);
    let bar = Bar::new(host.store(), output);
    let end = bar.beside(pump.drain(Duration::from_secs(args.timeout), interrupted(), |_| {})).await?;
    Ok((end, pump.summary().anomalies))
}

/// The operator's name, once its founding was read.
fn known(host: &Host, operator: PublicKey) -> Result<Option<String>, CliError> {
    let entity = host.entity(EntityId::Operator(operator))?;
    Ok(entity.map(|entity| entity.name().to_owned()))
}

/// The operator that the stream names, where a person says that it is the right one.
async fn confirmed(link: &Link, info: &StreamInfo) -> Result<PublicKey, CliError> {
    let unnamed = |what: &str| {
        CliError::usage(what)
            .hint("give --operator O…, as `cim-keys list operators` shows it where the registry was founded")
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(unnamed("whose registry is it?"));
    }
    let found =
        origin::founder(link, info).await.map_err(|failure| CliError::unexpected(&format!("{failure:?}")))?;
    let Some(founder) = found else { return Err(unnamed("the stream does not say whose registry it holds")) };
    let mut stderr = std::io::stderr();
    let question = format!(
        "the stream says that it is the registry of {} {}\nis it? compare all of the key; yes or no: ",
        printable(&founder.name),
        founder.operator
    );
    let mut answer = String::new();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    asked
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| CliError::unexpected(&error))?;
    if answer.trim() == "yes" {
        Ok(founder.operator)
    } else {
        Err(unnamed("not confirmed: nothing was done"))
    }
}

/// Whether nothing stands in a store but whose registry it is to hold: a clone was ended before it had read anything.
pub(super) fn is_bare(store: &Store) -> Result<bool, CliError> {
    let look = || -> Result<bool, KeyError> {
        let counts = store.counts()?;
        Ok(store.progress()?.head == 0
            && (counts.pending, counts.held, store.confirmed()?) == (0, 0, 0)
            && store.operators()?.is_empty()
            && store.kept_keys()?.is_empty())
    };
    Ok(look()?)
}

/// Ends of the names of a store's files.
const STORE: [&str; 3] = ["", "-wal", "-shm"];

/// Removes what a clone in vain has made.
fn forget(path: &Path) {
    remove(path, &STORE);
    remove(path, &[".sync.lock"]);
}

fn remove(path: &Path, ends: &[&str]) {
    for end in ends {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}
