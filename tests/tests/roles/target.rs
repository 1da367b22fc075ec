//! A pipeline with something to lose, every request and every answer subject that may do it harm, and what shows that none did.

use std::collections::{BTreeMap, BTreeSet};

use cim_keys_core::jwt::UserRights;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS, keys_events_stream_config};
use cim_keys_tests::identities::{Identities, Login};
use cim_keys_tests::pipeline::{EXPECTED_LAST, Pipeline, append, ask, read_from};
use cim_keys_tests::wire::Client;
use cim_keys_tests::{streams, wait};
use serde_json::{Value, json};

use super::{LOG, P};

/// Bodies that would do harm where they arrive; they lie on the stream, so that reading them makes an answer of them.
pub(super) fn baits() -> [Vec<u8>; 8] {
    let mut config = streams::to_json(&keys_events_stream_config(&Default::default()));
    config["max_msgs"] = json!(1);
    let push = json!({ "stream_name": KEYS_EVENTS, "config": {
        "name": "evil", "durable_name": "evil", "deliver_policy": "all", "ack_policy": "none",
        "deliver_subject": "cowboyai.security.elsewhere.user.created",
    }});
    let pull = json!({ "stream_name": KEYS_EVENTS, "config": {
        "name": "worker", "durable_name": "worker", "deliver_policy": "all", "ack_policy": "explicit",
        "filter_subject": format!("{P}.key.revoked"),
    }});
    [
        Vec::new(),
        config.to_string().into(),
        push.to_string().into(),
        pull.to_string().into(),
        br#"{"seq":1}"#.into(),
        br#"{"name":"EVIL","subjects":["evil.>"]}"#.into(),
        br#"{"batch":10,"no_wait":true}"#.into(),
        b"+TERM".into(),
    ]
}

/// A request: subject, headers, body.
pub(super) type Request = (String, Vec<(&'static str, &'static str)>, Vec<u8>);

/// Every request that is permitted at the edge, in every form, for baits at these sequences.
pub(super) fn requests(role: Option<PipelineRole>, baits: std::ops::Range<u64>) -> Vec<Request> {
    let mut requests: Vec<(String, String)> = Vec::new();
    for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
        let info = format!("CIMKEYS.API.STREAM.INFO.{stream}");
        requests.push((info.clone(), String::new()));
        requests.push((info, r#"{"subjects_filter":">"}"#.into()));
        let get = format!("CIMKEYS.API.DIRECT.GET.{stream}");
        for body in [
            String::new(),
            r#"{"seq":1,"batch":30}"#.into(),
            r#"{"seq":999999}"#.into(),
            format!(r#"{{"last_by_subj":"{P}.operator.created"}}"#),
            format!(r#"{{"multi_last":["{P}.>"]}}"#),
        ] {
            requests.push((get.clone(), body));
        }
        for sequence in baits.clone() {
            requests.push((get.clone(), format!(r#"{{"seq":{sequence}}}"#)));
        }
    }
    for sequence in [1, baits.start] {
        let get = "CIMKEYS.API.STREAM.MSG.GET.KEYS_EVENTS".to_owned();
        requests.push((get, format!(r#"{{"seq":{sequence}}}"#)));
    }
    let mut requests: Vec<Request> =
        requests.into_iter().map(|(subject, body)| (subject, Vec::new(), body.into_bytes())).collect();
    // The server's own word on who asks, forged: in which account the JetStream lies that answers.
    let forged = ("Nats-Request-Info", r#"{"acc":"KEYS","svc":"KEYS"}"#);
    requests.push(("CIMKEYS.API.STREAM.INFO.KEYS_EVENTS".into(), vec![forged], Vec::new()));
    // Appends that are refused, and answered as such.
    let events = match role {
        Some(PipelineRole::Auditor | PipelineRole::Service) => &[][..],
        Some(PipelineRole::Browser) => &["user.created"],
        _ => &["user.created", "operator.created", "key.revoked"],
    };
    for event in events {
        requests.push((format!("{P}.{event}"), vec![(EXPECTED_LAST, "999999")], b"{}".into()));
        requests.push((
            format!("{P}.{event}"),
            vec![("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "7"), ("Nats-Batch-Commit", "1")],
            b"{}".into(),
        ));
    }
    requests
}

/// Answer subjects that would do harm if the answer got there.
pub(super) fn replies(keys: &str, system: &str, foreign: &str) -> Vec<String> {
    let mut subjects: Vec<String> =
        ["operator.created", "account.created", "user.created", "key.revoked", "bait.0"]
            .map(|event| format!("{P}.{event}"))
            .into();
    for prefix in ["$JS.API", "CIMKEYS.API"] {
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
            for verb in ["DELETE", "UPDATE", "CREATE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "INFO"] {
                subjects.push(format!("{prefix}.STREAM.{verb}.{stream}"));
            }
            for tail in ["", ".evil", ".worker"] {
                subjects.push(format!("{prefix}.CONSUMER.CREATE.{stream}{tail}"));
            }
            for verb in ["DURABLE.CREATE", "DELETE", "MSG.NEXT", "PAUSE"] {
                subjects.push(format!("{prefix}.CONSUMER.{verb}.{stream}.worker"));
            }
            subjects.push(format!("{prefix}.DIRECT.GET.{stream}"));
        }
        subjects.push(format!("{prefix}.STREAM.CREATE.EVIL"));
        subjects.push(format!("{prefix}.ACCOUNT.PURGE.{keys}"));
    }
    subjects.extend(
        [
            "$JS.ACK.KEYS_EVENTS.worker.1.1.1.1.1",
            "$JS.ACK._.hash.KEYS_EVENTS.worker.1.1.1.1.1.1",
            "$JS.ACK.KEYS_EVENTS.keys-service.1.1.1.1.1",
            "$JS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service",
            "$JS.API.CONSUMER.DELETE.KEYS_EVENTS.keys-service",
            "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service",
            "$JS.API.STREAM.DELETE.KEYS_DEAD",
            "$JS.API.STREAM.UPDATE.KEYS_DEAD",
            "$JS.API.STREAM.DELETE.KEYS_ISSUED",
            "cowboyai.security.keys-issued.credentials.issued",
            "cowboyai.security.keys-api.user.create",
            "$SRV.PING",
            "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.1",
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.KEYS_EVENTS.keys-service",
            "$JS.FC.KEYS_EVENTS.worker.1",
            "$KV.bucket.key",
            "$O.bucket.C.chunk",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.CLAIMS.DELETE",
            "$SYS.REQ.SERVER.PING",
            "_R_.any.any",
            "_GR_.any",
            "orders.new",
        ]
        .map(String::from),
    );
    subjects.push(format!("{LOG}.user.created"));
    subjects.push(format!("$SYS.REQ.ACCOUNT.{system}.CLAIMS.UPDATE"));
    subjects.push(format!("{foreign}.1"));
    subjects
}

/// The pipeline with baits on its stream and somebody's consumer; sequences of the baits.
pub(super) struct Target {
    pub(super) pipeline: Pipeline,
    pub(super) host: Client,
    pub(super) baits: std::ops::Range<u64>,
    pub(super) last: u64,
}

impl Target {
    pub(super) fn of(mut identities: Identities) -> Target {
        let keys = identities.role_keys(PipelineRole::Steward).account;
        let insider = identities.plain_key(keys);
        let insider = identities.user(insider, "insider", Some(UserRights::default()), 0);
        let pipeline = Pipeline::of(identities);
        let mut host = pipeline.connect(PipelineRole::Host);
        let founding = pipeline.identities.envelopes();
        append(&mut host, founding, 0);
        let start = founding.len() as u64 + 1;
        let baits = baits();
        for (bait, number) in baits.iter().zip(0..) {
            let ack = ask(&mut host, &format!("{P}.bait.{number}"), &[], bait);
            assert_eq!(ack["seq"], start + number, "{ack}");
        }
        let end = start + baits.len() as u64;
        let mut insider = insider.connect(pipeline.server.address()).unwrap();
        let consumer = json!({ "stream_name": KEYS_EVENTS, "config": {
            "name": "worker", "durable_name": "worker", "deliver_policy": "all", "ack_policy": "explicit",
        }});
        let create = "$JS.API.CONSUMER.CREATE.KEYS_EVENTS.worker";
        let made = ask(&mut insider, create, &[], consumer.to_string().as_bytes());
        assert_eq!(made["name"], "worker", "{made}");
        // One message is out with the consumer's owner, waiting to be acknowledged.
        let out = insider.request("$JS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.worker", &[], b"").unwrap();
        assert!(out.reply.unwrap().contains(".worker."));
        Target { pipeline, host, baits: start..end, last: end - 1 }
    }

    pub(super) fn replies(&self, attacker: &Login) -> Vec<String> {
        let identities = &self.pipeline.identities;
        let keys = identities.role_keys(PipelineRole::Steward).account.to_string();
        let roles = [PipelineRole::Host, PipelineRole::Auditor].map(|role| self.pipeline.login(role));
        let foreign = roles.into_iter().find(|login| login.user() != attacker.user()).unwrap();
        replies(&keys, &identities.system().account.to_string(), &foreign.inbox())
    }

    /// Sends each request with each answer subject, waits until all of it is worked off, and appends one event where
    /// it must come to stand if nothing got onto the stream. Gives what the server refused by name.
    pub(super) fn sweep(
        &mut self,
        attacker: &mut Client,
        requests: &[Request],
        replies: &[String],
    ) -> Vec<String> {
        let before = self.pipeline.holdings();
        let mut refusals = Vec::new();
        for (subject, headers, body) in requests {
            for reply in replies {
                attacker.publish(subject, Some(reply), headers, body).unwrap();
            }
            refusals.extend(attacker.settle().unwrap().1);
        }
        self.unchanged(attacker, &before, 0);
        refusals
    }

    /// Nothing changed but for this many appended events, and the one with which this is shown.
    pub(super) fn unchanged(
        &mut self,
        attacker: &mut Client,
        before: &BTreeMap<String, Value>,
        appended: u64,
    ) {
        drain(&self.pipeline, attacker);
        drain(&self.pipeline, &mut self.host);
        let expected = (self.last + appended).to_string();
        let subject = format!("{P}.user.created");
        let ack = ask(&mut self.host, &subject, &[(EXPECTED_LAST, &expected)], b"the next one");
        self.last += appended + 1;
        assert_eq!(ack["seq"], self.last, "something else is on the stream: {ack}");
        let after = self.pipeline.holdings();
        assert_eq!(essence(&after, 0), essence(before, appended + 1));
    }
}

/// Returns when everything that this client asked for before has been answered: each part of the server that answers
/// does so in order, so its answer to a last request comes after all others.
pub(super) fn drain(pipeline: &Pipeline, client: &mut Client) {
    let mut answered = BTreeSet::new();
    wait::until("the stream and its mirror have answered", || {
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
            assert_eq!(pipeline.info(client, stream)["config"]["name"], stream);
            let get = format!("CIMKEYS.API.DIRECT.GET.{stream}");
            let message = client.request(&get, &[], br#"{"seq":1}"#).unwrap();
            let by = message.header_lines().into_iter().find(|(name, _)| name == "Nats-Stream");
            // A mirror that lags behind answers 404.
            answered.insert(by?.1);
            assert!(!read_from(client, &get, 1).is_empty());
        }
        (answered.len() == 2).then_some(())
    });
    ask(client, "CIMKEYS.API.STREAM.MSG.GET.KEYS_EVENTS", &[], br#"{"seq":1}"#);
}

/// Of everything that JetStream holds what nobody may change: which streams there are, their settings, where they
/// begin and end (`more` messages from now), and their consumers.
pub(super) fn essence(holdings: &BTreeMap<String, Value>, more: u64) -> BTreeMap<String, Value> {
    let stream = |name: &str, stream: &Value| {
        // Dead letters and issued creds are nothing that is appended here.
        let more = if name.ends_with("/KEYS_DEAD") || name.ends_with("/KEYS_ISSUED") { 0 } else { more };
        let number = |value: &Value| value.as_u64().unwrap() + more;
        let state = &stream["state"];
        let consumers: Vec<Value> = stream["consumer_detail"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|consumer| {
                ["name", "created", "config", "delivered", "ack_floor", "num_ack_pending", "num_waiting"]
                    .map(|member| consumer[member].clone())
                    .into()
            })
            .collect();
        json!({
            "config": stream["config"],
            "created": stream["created"],
            "first": state["first_seq"],
            "last": number(&state["last_seq"]),
            "messages": number(&state["messages"]),
            "deleted": state["num_deleted"],
            "consumers": consumers,
        })
    };
    holdings.iter().map(|(name, held)| (name.clone(), stream(name, held))).collect()
}

/// Answer subjects of the server's own, the one kind that it looks at.
pub(super) fn reserved(reply: &str) -> bool {
    ["_R_.", "_GR_.", "$JS.ACK."].iter().any(|prefix| reply.starts_with(prefix))
}

/// What the server says to so many requests, each with each of these answer subjects.
pub(super) fn refusals(replies: &[String], requests: usize) -> Vec<String> {
    let refused = (0..requests).flat_map(|_| replies.iter().filter(|reply| reserved(reply)));
    refused
        .map(|reply| format!("-ERR 'Permissions Violation for Publish with Reply of \"{reply}\"'"))
        .collect()
}
