//! What a server shows: creds, connection, version, clock, permissions.

use super::super::connection::block_on;
use super::super::exit::CliError;
use super::super::globals::{Globals, shell_word};
use super::super::output::{counted, printable};
use super::super::status::{expiry, span};
use super::super::status_server;
use super::streams;
use super::{Args, Findings, SERVER};
use crate::error::KeyError;
use crate::files::open_to_others;
use crate::host::Host;
use crate::nats::link::{Link, Trouble};
use crate::nats::role;
use crate::nats::streams::too_old;
use crate::nats::target::{Access, Target};
use crate::push::State;
use async_nats::HeaderMap;
use cim_keys_core::jetstream;
use cim_keys_core::registry::{Entity, EntityId, Lookup};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS, SERVER_FLOOR};
use cim_keys_core::time::Timestamp;
use std::collections::BTreeSet;

/// Creds are worth a word in the last part of their life: one of so many.
const LAST_PART: i64 = 10;
/// Clocks may differ by so many milliseconds without a word, and by so many before tokens are refused.
const CLOCK: (i64, i64) = (2_000, 300_000);
/// Entity and operation of every event.
const EVENTS: [(&str, &str); 10] = [
    ("operator", "created"),
    ("operator", "updated"),
    ("account", "created"),
    ("account", "updated"),
    ("user", "created"),
    ("user", "updated"),
    ("user", "revoked"),
    ("key", "generated"),
    ("key", "revoked"),
    ("credentials", "issued"),
];
/// A stream that nobody has: what expects to be stored there is refused everywhere.
const NOWHERE: &str = "CIM-KEYS-DOCTOR-ASKS-ONLY";
/// What a stream answers to that.
const OTHER_STREAM: u32 = 10060;

pub(super) fn look(
    findings: &mut Findings,
    args: &Args,
    globals: &Globals,
    host: &Host,
) -> Result<(), CliError> {
    let target = match args.connection.target_if_any(globals, host) {
        Ok(Some(target)) => target,
        Ok(None) => {
            let why = "no server is named: give --server URL, set NATS_URL, or name a natscli context with --context";
            findings.skipped(&SERVER, why);
            return Ok(());
        }
        Err(error) => {
            findings.error("creds", &error);
            findings.skipped(&SERVER[1..], "it is not known how to get in");
            return Ok(());
        }
    };
    creds(findings, host, &target);
    block_on(ask(findings, args, host, &target))?
}

fn creds(findings: &mut Findings, host: &Host, target: &Target) {
    const CHECK: &str = "creds";
    let now = host.ambient().now().seconds();
    let again = findings.again.clone();
    let renew = format!("cim-keys{again} access renew --role host");
    match &*target.access {
        Access::Open => findings.ok(CHECK, "none are used"),
        Access::Nkey(_) | Access::User { .. } | Access::Token(_) => {
            findings.ok(CHECK, "they do not say when they end");
        }
        Access::Creds { token, .. } => {
            let claims = token.claims();
            let ends = claims.expires;
            match ends {
                _ if claims.not_before > now => findings.fail(
                    CHECK,
                    format!("valid only in {}", span(claims.not_before - now)),
                    "wait, or set this machine's clock",
                ),
                0 => findings.ok(CHECK, format!("user {}, without an end", claims.subject)),
                _ if ends <= now => findings.fail(CHECK, expiry(ends, now), renew.clone()),
                _ if ends - now < (ends - claims.issued_at) / LAST_PART => {
                    findings.warn(CHECK, expiry(ends, now), renew.clone())
                }
                _ => findings.ok(CHECK, format!("user {}, {}", claims.subject, expiry(ends, now))),
            }
            if let Some(fault) = disowned(host, target) {
                findings.fail(CHECK, fault, renew);
            }
        }
    }
    if let Some(file) = &target.file
        && let Some(mode) = open_to_others(file)
    {
        findings.fail(
            CHECK,
            format!("others may read {} (mode {mode:o})", file.display()),
            format!("chmod 600 {}", shell_word(file)),
        );
    }
}

/// What this registry says against creds of one of its accounts: servers will refuse them, now or after the next push.
fn disowned(host: &Host, target: &Target) -> Option<String> {
    let Access::Creds { token, .. } = &*target.access else { return None };
    let claims = token.claims();
    let owner = claims.body.as_user().and_then(|user| user.issuer_account).unwrap_or(claims.issuer);
    let id = EntityId::Account(owner);
    let (facts, _) = host.store().facts(&[Lookup::Entity(id)], true).ok()?;
    let Ok(Some(Entity::Account(account))) = facts.entity(id) else { return None };
    let body = account.token.claims().body.as_account()?;
    let revoked = [claims.subject.to_string(), "*".to_owned()]
        .iter()
        .filter_map(|name| body.revocations.get(name))
        .any(|at| claims.issued_at <= *at);
    if revoked {
        return Some(format!("user {} is revoked in this registry", claims.subject));
    }
    let listed = claims.issuer == owner || body.signing_keys.keys().any(|key| *key == claims.issuer);
    (!listed).then(|| format!("the key {} that signed them is no key of its account any more", claims.issuer))
}

async fn ask(findings: &mut Findings, args: &Args, host: &Host, target: &Target) -> Result<(), CliError> {
    let now = || host.ambient().now();
    let link = match Link::connect(target, now().seconds()).await {
        Ok(link) => link,
        Err(error) => {
            findings.error("connection", &error.into());
            findings.skipped(&SERVER[2..], "there is no connection");
            return Ok(());
        }
    };
    findings.ok("connection", format!("{} at {}", link.server_name(), target.shown()));
    tls(findings, &link, target);
    let version = link.server_version();
    let (a, b, c) = SERVER_FLOOR;
    if too_old(&version) {
        findings.fail(
            "server version",
            format!("{version}: it can be read from, not appended to"),
            format!("run nats-server {a}.{b}.{c} or newer"),
        );
    } else {
        findings.ok("server version", format!("{version}, at least {a}.{b}.{c}"));
    }
    let before = now().millis();
    let events = streams::info(&link, KEYS_EVENTS).await;
    let after = now().millis();
    clock(findings, events.time(), before, after);
    let archive = streams::info(&link, KEYS_ARCHIVE).await;
    permissions(findings, host, target, &link, events.is_there()).await?;
    accounts(findings, host, target).await;
    streams::look(findings, host, &link, args.duplicate_window, events, archive).await?;
    streams::synced(findings, &link, args.monitoring.as_deref()).await;
    Ok(())
}

/// Whether the servers have each account as the stream says, asked as a resolver in memory.
async fn accounts(findings: &mut Findings, host: &Host, target: &Target) {
    const CHECK: &str = "accounts on servers";
    if status_server::is_plain(host, target) {
        return findings.skipped(&[CHECK], "this server has no accounts of this registry");
    }
    let again = findings.again.clone();
    let report = match status_server::pushed(host, target, host.ambient().now().seconds()).await {
        Ok(report) => report,
        Err(error) => {
            let advice = "ask on a host that keeps the resolver's key";
            return findings.unknown(CHECK, format!("what they have is not known: {error}"), advice);
        }
    };
    let differing: Vec<String> = report
        .accounts
        .iter()
        .filter(|account| matches!(account.state, State::Due | State::Drift { .. } | State::Refused { .. }))
        .filter_map(|account| {
            Some(printable(&format!("{}: {}", account.name, status_server::said(&account.state)?)))
        })
        .collect();
    match differing.as_slice() {
        [] => {
            let count = report.servers.len() as u64;
            let have = if count == 1 { "has" } else { "have" };
            findings
                .ok(CHECK, format!("{} {have} each account as the stream says", counted(count, "server")));
        }
        differing => findings.fail(
            CHECK,
            differing.join("; "),
            format!("cim-keys{again} sync, then cim-keys{again} push: until then revoked users may get in"),
        ),
    }
}

fn tls(findings: &mut Findings, link: &Link, target: &Target) {
    const CHECK: &str = "tls";
    let encrypted = |url: &String| url.starts_with("tls://") || url.starts_with("wss://");
    let near = |url: &String| {
        let host = url.rsplit_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
        ["127.", "localhost", "[::1]"].iter().any(|start| host.starts_with(start))
    };
    if link.wants_tls() || target.tls_first || target.urls.iter().all(encrypted) {
        findings.ok(CHECK, "the connection is encrypted, and the server's certificate holds");
    } else if target.urls.iter().all(near) {
        findings.ok(CHECK, "not encrypted, and on this machine alone");
    } else {
        findings.warn(
            CHECK,
            "not encrypted: whoever is on the way reads and changes what is sent",
            "give the server a certificate (nats-server's tls block), and name it as tls://HOST:PORT",
        );
    }
}

/// The server's time stands in each answer of the JetStream API; it was written between our two looks at our clock.
fn clock(findings: &mut Findings, server: Option<Timestamp>, before: i64, after: i64) {
    const CHECK: &str = "clock";
    let Some(server) = server else {
        return findings.unknown(
            CHECK,
            "the server's answer does not say the time",
            "compare this machine's clock with the server's by hand",
        );
    };
    let (low, high) = (server.millis() - after, server.millis() - before);
    let apart = if low > 0 { low } else { high.min(0) };
    let side = if apart > 0 { "behind" } else { "ahead of" };
    let text = format!("this machine is {} ms {side} the server", apart.abs());
    let advice = "set both machines' clocks by NTP: tokens carry the time at which they are made";
    match apart.abs() {
        0 => findings.ok(CHECK, format!("as the server's, as far as {} ms can tell", after - before)),
        small if small <= CLOCK.0 => findings.ok(CHECK, text),
        large if large <= CLOCK.1 => findings.warn(CHECK, text, advice),
        _ => findings.fail(CHECK, text, advice),
    }
}

/// Each subject that a host needs, tried one by one. What is published expects to be stored on a stream that nobody has:
/// a server that permits it refuses it then.
async fn permissions(
    findings: &mut Findings,
    host: &Host,
    target: &Target,
    link: &Link,
    has_stream: bool,
) -> Result<(), CliError> {
    let namespace = &host.store().registry_id().map_err(KeyError::from)?.namespace;
    let role = PipelineRole::ALL.into_iter().find(|role| role::grants(host, target, *role));
    for (tail, body) in [
        (format!("STREAM.INFO.{KEYS_EVENTS}"), String::new()),
        (format!("STREAM.INFO.{KEYS_ARCHIVE}"), String::new()),
        (format!("DIRECT.GET.{KEYS_EVENTS}"), jetstream::message_get(1)),
        (format!("DIRECT.GET.{KEYS_ARCHIVE}"), jetstream::message_get(1)),
        (format!("STREAM.MSG.GET.{KEYS_EVENTS}"), jetstream::message_get(1)),
    ] {
        let subject = link.api(&tail);
        let answer = link.ask(&subject, None, body.into_bytes(), link.answer()).await.map(drop);
        tried(findings, "may ask", &subject, answer, true);
    }
    let log = namespace.log();
    let before = link.denials();
    let listened = match link.count(&log).await {
        // Behind it on the same connection: when it is answered, a refusal has come.
        Ok(_heard) => {
            let barrier = link.api(&format!("STREAM.INFO.{KEYS_EVENTS}"));
            let _ = link.ask(&barrier, None, Vec::new(), link.answer()).await;
            match link.denied_since(before, &BTreeSet::from([log.clone()])) {
                Some(subject) => Err(Trouble::Permission { subject }),
                None => Ok(()),
            }
        }
        Err(trouble) => Err(trouble),
    };
    tried(findings, "may hear", &log, listened, true);
    let mut silent = false;
    for (entity, operation) in EVENTS {
        if !has_stream {
            let subject = namespace.subject(entity, operation);
            findings.skipped(&[&format!("may publish {subject}")], "nobody is there: the stream is missing");
            continue;
        }
        let subject = namespace.subject(entity, operation).to_string();
        let wanted = match role {
            Some(
                PipelineRole::Auditor
                | PipelineRole::Steward
                | PipelineRole::Resolver
                | PipelineRole::Service
                | PipelineRole::Responder
                | PipelineRole::Client,
            ) => false,
            Some(PipelineRole::Browser) => (entity, operation) == ("user", "created"),
            Some(PipelineRole::Host) | None => true,
        };
        if silent {
            findings.skipped(&[&format!("may publish {subject}")], "the one before was not answered");
            continue;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", NOWHERE);
        let answer = link.ask(&subject, Some(headers), Vec::new(), link.answer()).await;
        silent = matches!(answer, Err(Trouble::Timeout | Trouble::Closed));
        let answer = match answer.map(|answer| jetstream::accepted(&answer.payload)) {
            Ok(Err(jetstream::AnswerError::Refused { code: OTHER_STREAM, .. })) => Ok(()),
            Ok(answer) => {
                let name = format!("may publish {subject}");
                let found =
                    answer.map_or_else(|error| error.to_string(), |()| "taken by another stream".into());
                findings.warn(
                    &name,
                    format!("an answer that was not expected: {found}"),
                    "see who has this subject",
                );
                continue;
            }
            Err(trouble) => Err(trouble),
        };
        tried(findings, "may publish", &subject, answer, wanted);
    }
    Ok(())
}

fn tried(findings: &mut Findings, what: &str, subject: &str, answer: Result<(), Trouble>, wanted: bool) {
    let check = format!("{what} {subject}");
    let advice = "take creds whose role allows it: cim-keys access renew --role host, then push the account";
    match (answer, wanted) {
        (Ok(()), true) => findings.ok(&check, "tried"),
        (Err(Trouble::Permission { .. }), false) => {
            findings.ok(&check, "refused, as it must be for this role");
        }
        (Ok(()), false) => findings.fail(
            &check,
            "permitted, and must not be for this role",
            "cim-keys push: the server has an old account",
        ),
        (Err(Trouble::Permission { .. }), true) => findings.fail(&check, "not permitted", advice),
        // What is there and what is not is said below, stream by stream.
        (Err(Trouble::NoResponders), _) => {
            findings.skipped(&[&check], "nobody answers there: see the streams and their allow_direct");
        }
        (Err(trouble), _) => {
            findings.fail(&check, trouble.to_string(), "is the stream there, and has it a leader?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State as Found;
    use super::*;

    #[test]
    fn only_what_the_way_cannot_explain_is_a_difference_of_clocks() {
        let judged = |server: i64, before, after| {
            let mut findings = Findings::default();
            clock(&mut findings, Timestamp::from_millis(server).ok(), before, after);
            let check = findings.checks.pop().unwrap();
            (check.state, check.found)
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            judged(1_005, 1_000, 1_010),
            (Found::Ok, text("as the server's, as far as 10 ms can tell"))
        );
        assert_eq!(
            judged(1_500, 1_000, 1_010),
            (Found::Ok, text("this machine is 490 ms behind the server"))
        );
        assert_eq!(judged(1_000, 6_000, 6_010).0, Found::Warn);
        assert_eq!(
            judged(1_000, 401_000, 401_010),
            (Found::Fail, text("this machine is 400000 ms ahead of the server"))
        );
        assert_eq!(judged(-1, 0, 10).0, Found::Unknown);
    }
}
