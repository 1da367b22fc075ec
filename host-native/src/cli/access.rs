//! `cim-keys access`: creds of the pipeline's own roles.

use super::entities::{Done, View};
use super::exit::CliError;
use super::globals::{Globals, base, shell_word};
use super::parse::Expiry;
use super::resolve;
use super::user::{creds_path, not_written, tell, view};
use crate::error::KeyError;
use crate::files;
use crate::host::Request;
use crate::nats::context::Context;
use cim_keys_core::command::Command;
use cim_keys_core::roles::{PipelineRole, inbox};
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Verbs of `access`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make new creds of a role, with a natscli context beside them
    Renew(Renew),
}

/// Flags of `access renew`.
#[derive(Debug, clap::Args)]
pub(super) struct Renew {
    /// host, steward, auditor, browser, resolver, service, responder or client
    #[arg(long, value_name = "ROLE")]
    role: PipelineRole,
    /// When they end: 30d, 12h, 2027-01-31; host, service, responder and client 1 year, auditor 90 days, browser 12 hours,
    /// steward and resolver 1 hour
    /// where this is left out
    #[arg(long, value_name = "TIME")]
    expiry: Option<Expiry>,
    /// Where to write them, mode 0600; a file in the data folder where this is left out
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
    /// Address of the server, for the context
    #[arg(long, value_name = "URL", env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    server: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Renewed {
    role: PipelineRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<View>,
    creds: PathBuf,
    context: PathBuf,
    /// Unix seconds; 0 is never.
    expires: i64,
    #[serde(flatten)]
    done: Done,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    let Verb::Renew(args) = verb;
    let host = globals.host()?;
    let now = host.ambient().now();
    let account = resolve::account(host.store(), args.role.account())?;
    let command_id = host.ambient().command_id().map_err(KeyError::from)?;
    // Live users hold their names, so each renewal has one of its own.
    let date: String = now.to_string().chars().take(10).collect();
    let tail: String = command_id.simple().to_string().chars().skip(24).collect();
    let name = format!("{}-{date}-{tail}", args.role);
    let creds = creds_path(args.out.as_deref(), &account, &name, globals, args.dry_run)?;
    let context = creds.with_extension("json");
    if !args.dry_run {
        files::check_new(&context).map_err(KeyError::from)?;
    }
    let expires = args.expiry.unwrap_or(Expiry::After(args.role.lifetime())).at(now);
    let command = Command::CreateUser {
        account: account.key,
        name: name.clone(),
        rights: None,
        expires,
        tags: Vec::new(),
        credentials: true,
    };
    let role = Some(args.role.as_str().to_owned());
    let outcome = host.run(&Request {
        role,
        command_id: Some(command_id),
        dry_run: args.dry_run,
        ..Request::new(command)
    })?;
    let user = outcome.keys.first().copied().ok_or_else(|| CliError::unexpected(&"no user key"))?;
    if !args.dry_run {
        let account_name = args.role.account();
        host.hand_out(account.key, user, &creds)
            .map_err(|error| not_written(error, &name, account_name, globals))?;
        let text = Context {
            description: format!("cim-keys {}", args.role),
            url: args.server.clone(),
            creds: absolute(&creds),
            inbox_prefix: inbox(&user.to_string()),
            jetstream_api_prefix: args.role.api_prefix().unwrap_or_default().to_owned(),
        };
        files::write_new(&context, text.text().as_bytes()).map_err(KeyError::from)?;
    }
    let renewed = Renewed {
        role: args.role,
        user: if args.dry_run { None } else { view(&host, account.key, user)? },
        creds,
        context,
        expires,
        done: Done::new(&outcome, &host)?,
    };
    globals.output().data(&renewed, |renewed| {
        format!(
            "user {name} {user}\ncreds {}\ncontext {}",
            renewed.creds.display(),
            renewed.context.display()
        )
    })?;
    tell(&renewed.done, globals);
    if !args.dry_run {
        let file = absolute(&renewed.context);
        let output = globals.output();
        output.say(&format!("to use it: cim-keys{} sync --context {}", globals.again(), shell_word(&file)));
        // Under its own name, so that no second one takes the place of the first.
        if let (Some(config), Some(name)) = (base("XDG_CONFIG_HOME", ".config"), file.file_name()) {
            let folder = config.join("nats").join("context");
            let (to, word) = (folder.join(name), shell_word(&folder));
            let stem = file.file_stem().map(Path::new).map(shell_word).unwrap_or_default();
            output.say(&format!(
                "by name, for natscli too: mkdir -p {word} && cp {} {} && nats --context {stem} …",
                shell_word(&file),
                shell_word(&to)
            ));
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
