//! What a server adds to `cim-keys status`.

use super::connection::{Connection, block_on};
use super::exit::CliError;
use super::globals::Globals;
use super::output::printable;
use crate::error::KeyError;
use crate::host::Host;
use crate::nats::consumers;
use crate::nats::link::Link;
use crate::nats::role;
use crate::nats::streams::{self, StreamsError, Wanted};
use crate::nats::target::Target;
use crate::push::{self, Mode, Report, State};
use cim_keys_core::roles::{API_PREFIX, PipelineRole};
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use serde::Serialize;

/// How a server stands.
#[derive(Debug, Serialize)]
pub(super) struct ServerStanding {
    url: String,
    name: String,
    version: String,
    /// When the creds end, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    creds_expire: Option<i64>,
    streams: Vec<StreamStanding>,
    /// What each server has of each account; missing where this host cannot ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    push: Option<Report>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StreamStanding {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// The last sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    /// Settings that are not as they must be.
    differences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Looks at the server that the flags lead to; none where they name none.
pub(super) fn look(connection: &Connection, globals: &Globals) -> Result<Option<ServerStanding>, CliError> {
    if !connection.is_named() {
        return Ok(None);
    }
    let host = globals.host()?;
    let target = connection.target(globals, &host)?;
    block_on(ask(&host, &target))?.map(Some)
}

async fn ask(host: &Host, target: &Target) -> Result<ServerStanding, CliError> {
    let now = host.ambient().now().seconds();
    let link = Link::connect(target, now).await?;
    let wanted = Wanted::new(&host.store().registry_id().map_err(KeyError::from)?.namespace);
    let mut warnings = Vec::new();
    if streams::too_old(&link.server_version()) {
        warnings.push(format!(
            "the server is {}: it can be read from, writers need a newer one",
            link.server_version()
        ));
    }
    let plain = is_plain(host, target);
    if plain {
        warnings.push("this server has no accounts of this registry: whoever gets in can append to the stream and delete it".into());
    }
    let mut found = Vec::new();
    for (name, config) in [(KEYS_EVENTS, &wanted.events), (KEYS_ARCHIVE, &wanted.archive)] {
        found.push(match streams::info(&link, name).await {
            Ok(info) => StreamStanding {
                name,
                created: Some(info.identity.created),
                last: Some(info.last),
                differences: config.differences(&info.config).iter().map(ToString::to_string).collect(),
                error: None,
            },
            Err(error) => StreamStanding {
                name,
                created: None,
                last: None,
                differences: Vec::new(),
                error: Some(error.to_string()),
            },
        });
    }
    // A paused consumer looks healthy. Creds that do not see them are good for all else.
    match consumers::look(&link, &wanted).await {
        Ok(found) => warnings.extend(found.warnings()),
        Err(StreamsError::NoAnswer { .. }) => {}
        Err(error) => warnings.push(format!("nothing can be consumed durably: {error}")),
    }
    let known = host.store().progress().map_err(KeyError::from)?.stream;
    if let (Some(known), Some(created)) = (known, found.first().and_then(|stream| stream.created.as_ref()))
        && known.created != *created
    {
        warnings.push(format!(
            "this registry belongs to the {KEYS_EVENTS} made {}, not to this one",
            known.created
        ));
    }
    let report = if plain {
        None
    } else {
        // A host without that key cannot ask: no error.
        let report = pushed(host, target, now).await;
        report
            .map_err(|error| {
                warnings.push(format!("what the servers have of each account is not known: {error}"))
            })
            .ok()
    };
    Ok(ServerStanding {
        url: target.shown(),
        name: link.server_name(),
        version: link.server_version(),
        creds_expire: target.expires(),
        streams: found,
        push: report,
        warnings,
    })
}

/// Whether the server is one without accounts of this registry.
pub(super) fn is_plain(host: &Host, target: &Target) -> bool {
    !role::is_ours(host, target) && target.api_prefix == API_PREFIX
}

/// What the servers have, asked as a resolver in memory.
pub(super) async fn pushed(host: &Host, target: &Target, now: i64) -> Result<Report, CliError> {
    let resolver = role::target(host, PipelineRole::Resolver, target)?;
    let link = Link::connect(&resolver, now).await?;
    Ok(push::round(host, &link, Mode { dry_run: true, ..Mode::default() }).await?)
}

/// What is not as the stream says, in words.
pub(super) fn said(state: &State) -> Option<String> {
    match state {
        State::Enforced | State::Pushed => None,
        State::Due => Some("NOT ENFORCED: a server has an older token".to_owned()),
        State::Unconfirmed => Some("NOT ENFORCED: not on the stream yet".to_owned()),
        State::Ahead => Some("enforced before it is on the stream".to_owned()),
        State::Drift { found } => Some(format!("DRIFT: {found}")),
        State::Refused { reason } => Some(format!("REFUSED: {reason}")),
    }
}

pub(super) fn text(standing: &ServerStanding, now: i64) -> Vec<String> {
    let mut lines = vec![format!(
        "server     {} {} at {}",
        printable(&standing.name),
        printable(&standing.version),
        standing.url
    )];
    if let Some(at) = standing.creds_expire {
        lines.push(format!("creds      {}", super::status::expiry(at, now)));
    }
    for stream in &standing.streams {
        let state = match (&stream.error, &stream.last) {
            (Some(error), _) => printable(error),
            (None, Some(last)) if stream.differences.is_empty() => {
                format!("at {last}, settings as they must be")
            }
            _ => format!("DIFFERS: {}", stream.differences.join("; ")),
        };
        lines.push(format!("stream     {} {state}", stream.name));
    }
    for account in standing.push.iter().flat_map(|report| &report.accounts) {
        let Some(state) = said(&account.state) else { continue };
        lines.push(format!("on servers {} {}", printable(&account.name), printable(&state)));
    }
    lines.extend(standing.warnings.iter().map(|warning| format!("warning    {warning}")));
    lines
}
