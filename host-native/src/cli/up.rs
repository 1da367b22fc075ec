//! `cim-keys up`: a private development system.

use super::connection::{block_on, interrupted};
use super::exit::{CliError, Exit};
use super::globals::{Globals, base, shell_word};
use super::output::table;
use crate::dev::{self, Options, Ready, System, server};
use crate::error::KeyError;
use crate::page::Assets;
use crate::store::Store;
use crate::vault::Vault;
use std::path::PathBuf;

/// Flags of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End as soon as everything is ready
    #[arg(long)]
    once: bool,
    /// Client port; a free one where this is left out
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Websocket port; where this is left out, the one that --data had before or a free one
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    websocket_port: Option<u16>,
    /// The page's port; where this is left out, the one that --data had before or a free one
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    page_port: Option<u16>,
    /// The nats-server program; else NATS_SERVER_BIN, else the first on PATH that is 2.12.1 or newer
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    // First, so that nothing is made where it is missing.
    let program = block_on(server::find(args.nats_server.as_deref()))??;
    let data = match globals.data_given() {
        Some(data) => data.to_owned(),
        None => fresh()?,
    };
    let lock = dev::take(&data)?;
    let store = Store::create(&data.join("store.db")).map_err(KeyError::from)?;
    let own = data.join("identity.age");
    let vault = match globals.identity_given() {
        _ if own.is_file() => Vault::new(&own),
        None if store.is_founded().map_err(KeyError::from)? => Vault::new(&globals.identity_path()?),
        None => Vault::or_create(&own),
        Some(identity) => Vault::or_create(identity),
    };
    let host = globals.host_over(store, vault)?;
    let options = Options {
        data,
        program: Some(program),
        port: args.port,
        websocket_port: args.websocket_port,
        page_port: args.page_port,
        assets: Assets::embedded(),
    };
    let once = args.once;
    block_on(async {
        let stop = interrupted();
        tokio::pin!(stop);
        let mut system: System = tokio::select! {
            system = dev::up(&host, lock, &options) => system?,
            () = &mut stop => {
                return Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted before it was ready"));
            }
        };
        for note in &system.notes {
            globals.output().say(note);
        }
        globals.output().data(&system.ready, |ready| text(ready, globals, once))?;
        if once {
            system.stop().await;
            return Ok(());
        }
        tokio::select! {
            ended = system.ended() => Err(ended.into()),
            () = &mut stop => {
                globals.output().say("stopping");
                system.stop().await;
                Ok(())
            }
        }
    })?
}

/// A new folder below the person's data folder: never one of a registry of theirs.
fn fresh() -> Result<PathBuf, CliError> {
    let base = base("XDG_DATA_HOME", ".local/share").ok_or_else(|| CliError::no_home("--data DIR"))?;
    let ambient = crate::ambient::Ambient::system();
    let id = ambient.command_id().map_err(KeyError::from)?.simple().to_string();
    let time: String =
        ambient.now().to_string().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let tail: String = id.chars().skip(26).collect();
    Ok(base.join("cim-keys").join("up").join(format!("{time}-{tail}")))
}

fn text(ready: &Ready, globals: &Globals, once: bool) -> String {
    let mut rows = Vec::new();
    if let Some(url) = &ready.page_url {
        rows.push(vec!["page".to_owned(), url.clone()]);
    }
    rows.extend([
        vec!["nats-server".to_owned(), format!("{} at {}", ready.server_version, ready.server_url)],
        vec!["websocket".to_owned(), ready.websocket_url.clone()],
        vec![
            "stream".to_owned(),
            format!(
                "{}: {} events published, {} read back, {} duplicates",
                ready.stream, ready.events_published, ready.events_read_back, ready.duplicates
            ),
        ],
        vec!["data".to_owned(), ready.data_dir.display().to_string()],
    ]);
    let mut first = "creds";
    for (role, path) in &ready.creds {
        rows.push(vec![first.to_owned(), format!("{role:9}{}", path.display())]);
        first = "";
    }
    if let Some(path) = &ready.signing_key {
        rows.push(vec!["signing key".to_owned(), format!("secret   {}", path.display())]);
    }
    let took: Vec<String> = ready.steps.iter().map(|(name, millis)| format!("{name} {millis}")).collect();
    rows.push(vec!["milliseconds".to_owned(), took.join(", ")]);
    let mut out = table(&["what", "how it is"], rows);
    if once {
        return out;
    }
    let data = shell_word(&ready.data_dir);
    let again =
        globals.identity_given().map(|file| format!(" --identity {}", shell_word(file))).unwrap_or_default();
    let ours = format!("{} --data {data}{again}", shell_word(&own_name()));
    let natscli = format!("XDG_CONFIG_HOME={data} nats");
    out.push_str(&format!(
        "\nwhat to type next, in another terminal:\n\
         \u{20} {ours} list users\n\
         \u{20} {ours} user create bob --account APP --allow-pub 'orders.>' --creds bob.creds\n\
         \u{20} {ours} sync\n\
         \u{20} {ours} log\n\
         \u{20} {natscli} --context auditor sub 'cowboyai.security.keys-log.>'\n\
         \u{20} {natscli} --context app pub app.hello hi\n\
         \nCtrl-C ends it.\n"
    ));
    out
}

/// How to call this program: by its name where the shell finds it so, else by its whole path.
fn own_name() -> PathBuf {
    let Ok(own) = std::env::current_exe() else { return "cim-keys".into() };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| folder.join("cim-keys") == own);
    if found { "cim-keys".into() } else { own }
}
