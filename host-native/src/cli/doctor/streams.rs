//! The streams: settings one by one, identity, archive, and how soon an acknowledged event is on the disk.

use super::super::exit::CliError;
use super::{Check, Findings, State};
use crate::error::KeyError;
use crate::exit::nats::LOST;
use crate::host::Host;
use crate::nats::consumers;
use crate::nats::link::{Link, Trouble};
use crate::nats::streams::{StreamsError, Wanted, is_older};
use cim_keys_core::jetstream::{self, AnswerError};
use cim_keys_core::journal::StreamIdentity;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS, StreamConfig};
use cim_keys_core::sync::StreamInfo;
use cim_keys_core::time::Timestamp;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long monitoring may take to answer.
const MONITORING: Duration = Duration::from_secs(5);
/// The longest answer of monitoring that is read.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What a server says of a stream.
pub(super) struct Said {
    stream: &'static str,
    answer: Result<Value, Trouble>,
    info: Option<Result<StreamInfo, AnswerError>>,
}

impl Said {
    pub(super) fn is_there(&self) -> bool {
        matches!(self.info, Some(Ok(_)))
    }

    /// The server's time when it answered.
    pub(super) fn time(&self) -> Option<Timestamp> {
        moment(self.answer.as_ref().ok()?.get("ts")?.as_str()?)
    }
}

pub(super) async fn info(link: &Link, stream: &'static str) -> Said {
    let subject = link.api(&format!("STREAM.INFO.{stream}"));
    match link.ask(&subject, None, Vec::new(), link.answer()).await {
        Ok(answer) => Said {
            stream,
            answer: Ok(serde_json::from_slice(&answer.payload).unwrap_or_default()),
            info: Some(jetstream::stream_info(&answer.payload)),
        },
        Err(trouble) => Said { stream, answer: Err(trouble), info: None },
    }
}

pub(super) async fn look(
    findings: &mut Findings,
    host: &Host,
    link: &Link,
    duplicate_window: Option<u64>,
    events: Said,
    archive: Said,
) -> Result<(), CliError> {
    let store = host.store();
    let mut wanted = Wanted::new(&store.registry_id().map_err(KeyError::from)?.namespace);
    if let Some(seconds) = duplicate_window {
        wanted = wanted.duplicate_window(seconds.saturating_mul(1_000_000_000));
    }
    let progress = store.progress().map_err(KeyError::from)?;
    // A stream that was met is never made anew.
    let events_info = stands(findings, &events, progress.stream.is_some());
    if let Some(info) = events_info {
        identity(findings, host, link, info).await?;
        whole(findings, &events);
        settings(findings, &wanted.events, info);
        affairs(findings, &events);
    }
    if let Some(info) = stands(findings, &archive, false) {
        if let Some(events) = events_info {
            mirror(findings, info, events, progress.archive.as_ref());
        }
        whole(findings, &archive);
        settings(findings, &wanted.archive, info);
        affairs(findings, &archive);
    }
    if events_info.is_some() {
        consumption(findings, link, &wanted).await;
    }
    Ok(())
}

/// Whether what durable consumption needs is there, as it must be, and not paused: a paused consumer looks healthy.
async fn consumption(findings: &mut Findings, link: &Link, wanted: &Wanted) {
    let check = "durable consumers";
    match consumers::look(link, wanted).await {
        Ok(found) => {
            for warning in found.warnings() {
                findings.warn(check, warning, "let it go on: `nats consumer resume`, as whoever may");
            }
            if found.warnings().is_empty() {
                let names = found.consumers.iter().map(|consumer| consumer.config.name.as_str());
                findings.ok(check, names.collect::<Vec<_>>().join(", "));
            }
        }
        Err(error @ StreamsError::ConsumerDiffers { .. }) | Err(error @ StreamsError::Differs { .. }) => {
            findings.fail(check, error.to_string(), "set what differs, or let it be made anew");
        }
        // Creds that do not see them are good for all else.
        Err(StreamsError::NoAnswer { .. }) => {}
        Err(error) => {
            let again = findings.again.clone();
            let fix = format!("cim-keys{again} sync makes them, on a host that keeps the steward's key");
            findings.warn(check, format!("nothing can be consumed durably: {error}"), fix);
        }
    }
}

/// Whether no message was taken out of the middle: nothing behind one is read any more.
fn whole(findings: &mut Findings, said: &Said) {
    let check = format!("{} messages", said.stream);
    let Ok(answer) = &said.answer else { return };
    let number = |name: &str| answer.pointer(&format!("/state/{name}")).and_then(Value::as_u64);
    let (Some(first), Some(last), Some(count)) =
        (number("first_seq"), number("last_seq"), number("messages"))
    else {
        return;
    };
    let due = if first == 0 || last < first { 0 } else { last - first + 1 };
    if count < due {
        findings.fail(
            &check,
            format!("{count} of {due} from {first} to {last}: {} were deleted", due - count),
            "whoever has not read them reads no further: bring the stream back from the server's backup",
        );
    } else {
        findings.ok(&check, format!("{count}, none deleted between the first and the last"));
    }
}

fn stands<'a>(findings: &mut Findings, said: &'a Said, known: bool) -> Option<&'a StreamInfo> {
    let again = findings.again.clone();
    match (&said.info, &said.answer) {
        (Some(Ok(info)), _) => {
            let (first, last) = (info.first, info.last);
            findings.ok(said.stream, format!("made {}, has {first} to {last}", info.identity.created));
            return Some(info);
        }
        (Some(Err(AnswerError::Refused { code: 10059, .. })), _) => findings.fail(
            said.stream,
            "it does not exist",
            if known {
                LOST.to_owned()
            } else {
                format!("cim-keys{again} sync makes it, on a host that keeps the steward's key")
            },
        ),
        (Some(Err(error)), _) => findings.fail(said.stream, error.to_string(), "see the server's log"),
        (None, Err(trouble @ Trouble::NoResponders)) => findings.fail(
            said.stream,
            trouble.to_string(),
            "JetStream is off on this server or for this account, or the account is not pushed: cim-keys push",
        ),
        (None, Err(trouble)) => findings.fail(said.stream, trouble.to_string(), "see its permission above"),
        (None, Ok(_)) => {}
    }
    None
}

/// Whether it is the stream that this journal knows, and has what this journal has read.
async fn identity(
    findings: &mut Findings,
    host: &Host,
    link: &Link,
    info: &StreamInfo,
) -> Result<(), CliError> {
    let check = format!("{KEYS_EVENTS} identity");
    let progress = host.store().progress().map_err(KeyError::from)?;
    let Some(known) = progress.stream else {
        findings.ok(&check, "this registry has met no stream yet");
        return Ok(());
    };
    if known != info.identity {
        findings.fail(
            &check,
            format!(
                "made {}, this registry belongs to the one made {}",
                info.identity.created, known.created
            ),
            "check the server's address; if the stream is lost, bring it back from the server's backup",
        );
        return Ok(());
    }
    const WENT_BACK: &str = "the stream was restored from an older state: bring it back from a newer backup";
    if info.last < progress.head {
        let text = format!("it ends at {}, and was read up to {} before", info.last, progress.head);
        findings.fail(&check, text, WENT_BACK);
        return Ok(());
    }
    let (head, digest) = (progress.head, progress.head_digest);
    if head == 0 || head < info.first {
        if head.saturating_add(1) < info.first {
            findings.fail(
                &check,
                format!(
                    "it begins at {}, and was read up to {head}: what is between is forgotten",
                    info.first
                ),
                "KEYS_ARCHIVE has it",
            );
        } else {
            findings
                .ok(&check, format!("the one that this registry knows, read up to {head} of {}", info.last));
        }
        return Ok(());
    }
    let subject = link.api(&format!("STREAM.MSG.GET.{KEYS_EVENTS}"));
    let body = jetstream::message_get(head).into_bytes();
    let found = match link.ask(&subject, None, body, link.answer()).await {
        Ok(answer) => jetstream::message(&answer.payload).ok().flatten().map(|message| message.digest()),
        Err(_) => None,
    };
    match found {
        Some(found) if Some(found) == digest => {
            findings
                .ok(&check, format!("the one that this registry knows, read up to {head} of {}", info.last));
        }
        Some(_) => {
            findings.fail(&check, format!("the message at {head} is another one than was read"), WENT_BACK)
        }
        None => findings.fail(
            &check,
            format!("the message at {head} cannot be read"),
            "see the permissions above",
        ),
    }
    Ok(())
}

/// One check for each setting. What differs is the core's to say; what is as it must be is shown as it was found.
fn settings(findings: &mut Findings, wanted: &StreamConfig, info: &StreamInfo) {
    let stream = &wanted.name;
    let differences = wanted.differences(&info.config);
    let named = |name: &str| match name {
        "persist_async" => "persist_mode async".to_owned(),
        "allow_rollup" => "allow_rollup_hdrs".to_owned(),
        name => name.to_owned(),
    };
    let expected = serde_json::to_value(wanted).unwrap_or_default();
    let found = serde_json::to_value(&info.config).unwrap_or_default();
    for (name, value) in found.as_object().into_iter().flatten() {
        let name = named(name);
        // A mirror has no window of its own, and the name is how it was found.
        if name == "name" || wanted.mirror.is_some() && name == "duplicate_window" {
            continue;
        }
        let check = format!("{stream} {name}");
        let text = shown(&name, value);
        match differences.iter().find(|difference| difference.setting == name) {
            None => findings.checks.push(Check {
                check,
                state: State::Ok,
                found: text.clone(),
                expected: Some(text),
                advice: None,
            }),
            Some(difference) => findings.checks.push(Check {
                check,
                state: State::Fail,
                found: difference.found.clone(),
                expected: Some(difference.expected.clone()),
                advice: Some(advice(&difference.setting).to_owned()),
            }),
        }
    }
    // Whatever the core names and has no member of its own: nothing is left out.
    let has =
        |setting: &str| expected.as_object().into_iter().flatten().any(|(name, _)| named(name) == setting);
    for difference in differences.iter().filter(|difference| !has(&difference.setting)) {
        findings.fail(&format!("{stream} {}", difference.setting), difference.to_string(), advice(""));
    }
}

/// A value as the core writes differences: times in seconds.
fn shown(name: &str, value: &Value) -> String {
    let is_time = ["max_age", "duplicate_window"].contains(&name);
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(|part| shown("", part)).collect();
            match parts.as_slice() {
                [] => "none".to_owned(),
                parts => parts.join(if name == "republish" { " -> " } else { "," }),
            }
        }
        value => match value.as_u64() {
            Some(count) if is_time && count % 1_000_000_000 == 0 => format!("{}s", count / 1_000_000_000),
            _ => value.to_string(),
        },
    }
}

fn advice(setting: &str) -> &'static str {
    match setting {
        "deny_delete" | "deny_purge" | "storage" | "retention" | "persist_mode async" | "mirror" => {
            "it cannot be changed on a stream that is there: keep that one under another name, and let sync make a new one"
        }
        "sealed" => "a sealed stream takes nothing for ever: sync needs a new one",
        "duplicate_window" => {
            "set it (nats stream edit), or say --duplicate-window SECONDS where it is so on purpose"
        }
        _ => "it is never changed silently: set it as the account KEYS's own user (nats stream edit)",
    }
}

/// What is the operator's own affair: shown, never judged; but what can fill up is said.
fn affairs(findings: &mut Findings, said: &Said) {
    let Ok(answer) = &said.answer else { return };
    let config = |name: &str| answer.pointer(&format!("/config/{name}"));
    let number = |name: &str| config(name).and_then(Value::as_i64);
    let replicas = number("num_replicas").unwrap_or(1);
    let limit = number("max_bytes").filter(|bytes| *bytes > 0);
    let used = answer.pointer("/state/bytes").and_then(Value::as_i64).unwrap_or_default();
    let compression = config("compression").and_then(Value::as_str).unwrap_or("none").to_owned();
    let size =
        limit.map_or_else(|| format!("{used} bytes, no limit"), |limit| format!("{used} of {limit} bytes"));
    let text = format!("replicas {replicas}, {size}, compression {compression}");
    let check = format!("{} size and copies", said.stream);
    match limit {
        Some(limit) if used > limit / 10 * 9 => {
            findings.warn(&check, text, "raise max_bytes before it is reached: nothing is published then");
        }
        _ => findings.ok(&check, text),
    }
}

/// The archive: of this stream, and with all of it.
fn mirror(
    findings: &mut Findings,
    archive: &StreamInfo,
    events: &StreamInfo,
    known: Option<&StreamIdentity>,
) {
    let check = format!("{KEYS_ARCHIVE} identity");
    let behind = events.last.saturating_sub(archive.last);
    if let Some(known) = known.filter(|known| **known != archive.identity) {
        let again = findings.again.clone();
        findings.fail(
            &check,
            format!(
                "made {}, this registry knows the one made {}: sync stops at it",
                archive.identity.created, known.created
            ),
            format!("where it was made anew on purpose: cim-keys{again} sync --join takes it"),
        );
    } else if is_older(archive, events) {
        findings.fail(
            &check,
            format!(
                "made {}, before {KEYS_EVENTS} ({}): it holds another history",
                archive.identity.created, events.identity.created
            ),
            "keep it under another name, and let sync make a new one",
        );
    } else if archive.first > 1 && archive.last > 0 {
        findings.warn(
            &check,
            format!("it begins at {}: what came before is kept nowhere", archive.first),
            "keep a copy of what still has it",
        );
    } else if behind > 0 {
        findings.warn(
            &check,
            format!("{behind} messages behind {KEYS_EVENTS}"),
            "look again: a mirror follows by itself",
        );
    } else {
        findings.ok(&check, format!("of this {KEYS_EVENTS}, from the first message to {}", archive.last));
    }
}

/// Whether an acknowledgement is an fsync: monitoring shows it, the JetStream API does not.
pub(super) async fn synced(findings: &mut Findings, link: &Link, monitoring: Option<&str>) {
    const CHECK: &str = "sync_interval";
    const SET: &str =
        "set `sync_interval: always` in the server's jetstream block, as `cim-keys config server` writes it";
    let Some(address) = monitoring else {
        return findings.unknown(
            CHECK,
            "JetStream does not tell whether an acknowledged event is on the disk",
            format!("{SET}; or give --monitoring HOST:PORT (the server's http port) to look"),
        );
    };
    let answer = tokio::time::timeout(MONITORING, varz(address)).await;
    let body = match answer {
        Ok(Ok(body)) => body,
        Ok(Err(reason)) => {
            return findings.fail(
                CHECK,
                format!("monitoring at {address}: {reason}"),
                "is it the server's http port?",
            );
        }
        Err(_) => {
            return findings.fail(
                CHECK,
                format!("monitoring at {address}: no answer"),
                "is it the server's http port?",
            );
        }
    };
    let name = body.get("server_name").and_then(Value::as_str).unwrap_or_default();
    if name != link.server_name() {
        return findings.warn(
            CHECK,
            format!("monitoring at {address} is that of another server, {name}"),
            format!("name the one of {}", link.server_name()),
        );
    }
    let config = |member: &str| body.pointer(&format!("/jetstream/config/{member}"));
    if config("sync_always").and_then(Value::as_bool) == Some(true) {
        findings.ok(CHECK, "always: an acknowledgement is an fsync");
    } else {
        let interval = config("sync_interval").and_then(Value::as_u64).unwrap_or_default() / 1_000_000_000;
        findings.warn(
            CHECK,
            format!("every {interval} s: a loss of power may take acknowledged events with it"),
            SET,
        );
    }
}

async fn varz(address: &str) -> Result<Value, String> {
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let text = |error: std::io::Error| error.to_string();
    let mut stream = tokio::net::TcpStream::connect(address).await.map_err(text)?;
    let request = format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await.map_err(text)?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    body.and_then(|body| serde_json::from_str(body).ok()).ok_or_else(|| "no answer of nats-server".to_owned())
}

/// RFC 3339 in UTC with as many decimals as there are.
fn moment(text: &str) -> Option<Timestamp> {
    let plain = text.strip_suffix('Z')?;
    let (seconds, decimals) = plain.split_once('.').unwrap_or((plain, ""));
    let millis: String = decimals.chars().chain("000".chars()).take(3).collect();
    format!("{seconds}.{millis}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_time_has_any_number_of_decimals() {
        for (text, millis) in [
            ("2026-11-23T08:50:07.042999123Z", Some("2026-11-23T08:50:07.042Z")),
            ("2026-11-23T08:50:07Z", Some("2026-11-23T08:50:07.000Z")),
            ("2026-11-23T08:50:07.5Z", Some("2026-11-23T08:50:07.500Z")),
            ("2026-11-23T08:50:07.5+01:00", None),
            ("", None),
        ] {
            assert_eq!(moment(text).map(|time| time.to_string()).as_deref(), millis, "{text}");
        }
    }
}
