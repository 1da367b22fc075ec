//! What no role can do by asking straight: everything that is not its own is denied by name.

use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_DEAD, KEYS_EVENTS, KEYS_ISSUED};
use cim_keys_tests::pipeline::{CONSUMERS, Pipeline};

use super::{LOG, P, founded};

/// What a role may publish to, and subscribe to beside its own inbox.
fn permitted(role: PipelineRole) -> (Vec<String>, Vec<String>) {
    let list = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect::<Vec<_>>();
    let reads = ["CIMKEYS.API.STREAM.INFO.*", "CIMKEYS.API.DIRECT.GET.*", "CIMKEYS.API.STREAM.MSG.GET.*"];
    let with = |subject: &str| [list(&reads), list(&[subject])].concat();
    let log = list(&["cowboyai.security.keys-log.>"]);
    match role {
        PipelineRole::Host => {
            let more = [
                "cowboyai.security.keys.*.*",
                "cowboyai.security.keys-dead.*.*.*",
                "cowboyai.security.keys-issued.*.*",
            ];
            ([with("CIMKEYS.API.CONSUMER.INFO.*.*"), list(&more)].concat(), log)
        }
        PipelineRole::Auditor => (with("CIMKEYS.API.CONSUMER.INFO.*.*"), log),
        PipelineRole::Service => {
            let more = [
                "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-projector",
                "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service",
                "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_DEAD.keys-service-retry",
                "CIMKEYS.API.CONSUMER.INFO.KEYS_EVENTS.keys-projector",
                "CIMKEYS.API.CONSUMER.INFO.KEYS_EVENTS.keys-service",
                "CIMKEYS.API.CONSUMER.INFO.KEYS_DEAD.keys-service-retry",
                "$JS.ACK.KEYS_EVENTS.keys-projector.>",
                "$JS.ACK.*.*.KEYS_EVENTS.keys-projector.>",
                "$JS.ACK.KEYS_EVENTS.keys-service.>",
                "$JS.ACK.*.*.KEYS_EVENTS.keys-service.>",
                "$JS.ACK.KEYS_DEAD.keys-service-retry.>",
                "$JS.ACK.*.*.KEYS_DEAD.keys-service-retry.>",
            ];
            ([with("cowboyai.security.keys-dead.*.*.*"), list(&more)].concat(), log)
        }
        PipelineRole::Browser => (with("cowboyai.security.keys.user.created"), log),
        PipelineRole::Steward => (
            list(&[
                "$JS.API.STREAM.CREATE.KEYS_EVENTS",
                "$JS.API.STREAM.CREATE.KEYS_ARCHIVE",
                "$JS.API.STREAM.UPDATE.KEYS_EVENTS",
                "$JS.API.STREAM.UPDATE.KEYS_ARCHIVE",
                "$JS.API.STREAM.INFO.KEYS_EVENTS",
                "$JS.API.STREAM.INFO.KEYS_ARCHIVE",
                "$JS.API.STREAM.CREATE.KEYS_DEAD",
                "$JS.API.STREAM.UPDATE.KEYS_DEAD",
                "$JS.API.STREAM.INFO.KEYS_DEAD",
                "$JS.API.STREAM.CREATE.KEYS_ISSUED",
                "$JS.API.STREAM.UPDATE.KEYS_ISSUED",
                "$JS.API.STREAM.INFO.KEYS_ISSUED",
                "$JS.API.CONSUMER.CREATE.KEYS_EVENTS.keys-projector",
                "$JS.API.CONSUMER.INFO.KEYS_EVENTS.keys-projector",
                "$JS.API.CONSUMER.DELETE.KEYS_EVENTS.keys-projector",
                "$JS.API.CONSUMER.CREATE.KEYS_EVENTS.keys-service",
                "$JS.API.CONSUMER.INFO.KEYS_EVENTS.keys-service",
                "$JS.API.CONSUMER.DELETE.KEYS_EVENTS.keys-service",
                "$JS.API.CONSUMER.CREATE.KEYS_DEAD.keys-service-retry",
                "$JS.API.CONSUMER.INFO.KEYS_DEAD.keys-service-retry",
                "$JS.API.CONSUMER.DELETE.KEYS_DEAD.keys-service-retry",
            ]),
            Vec::new(),
        ),
        // Answers are permitted one by one, by the questions.
        PipelineRole::Responder => (Vec::new(), list(&["cowboyai.security.keys-api.>", "$SRV.>"])),
        PipelineRole::Client => (list(&["cowboyai.security.keys-api.>", "$SRV.>"]), Vec::new()),
        PipelineRole::Resolver => (
            list(&[
                "$SYS.REQ.CLAIMS.UPDATE",
                "$SYS.REQ.CLAIMS.LIST",
                "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
                "$SYS.REQ.SERVER.PING",
            ]),
            Vec::new(),
        ),
    }
}

/// Whether a pattern takes a subject in, wildcards in it included.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut rest = subject.split('.');
    for token in pattern.split('.') {
        match (token, rest.next()) {
            (">", Some(_)) => return true,
            ("*", Some(found)) if found != ">" => {}
            (token, Some(found)) if token == found => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

/// Requests of the JetStream API, after its prefix.
fn api(stream: &str) -> Vec<String> {
    let of_stream = [
        "CREATE",
        "UPDATE",
        "DELETE",
        "PURGE",
        "INFO",
        "SNAPSHOT",
        "RESTORE",
        "MSG.GET",
        "MSG.DELETE",
        "LEADER.STEPDOWN",
        "PEER.REMOVE",
    ];
    let of_consumers = ["CREATE", "NAMES", "LIST"];
    let of_consumer = [
        "CREATE",
        "DURABLE.CREATE",
        "INFO",
        "DELETE",
        "MSG.NEXT",
        "PAUSE",
        "UNPIN",
        "RESET",
        "LEADER.STEPDOWN",
    ];
    let mut tails: Vec<String> =
        ["INFO", "STREAM.NAMES", "STREAM.LIST", "META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT.PURGE.A"]
            .map(String::from)
            .into();
    tails.extend(of_stream.map(|verb| format!("STREAM.{verb}.{stream}")));
    tails.extend(of_consumers.map(|verb| format!("CONSUMER.{verb}.{stream}")));
    let consumers = CONSUMERS.iter().map(|(_, consumer, _)| *consumer).chain(["worker"]);
    for consumer in consumers {
        tails.extend(of_consumer.map(|verb| format!("CONSUMER.{verb}.{stream}.{consumer}")));
    }
    tails.push(format!("CONSUMER.CREATE.{stream}.mine.{P}.>"));
    tails.push(format!("DIRECT.GET.{stream}"));
    tails.push(format!("DIRECT.GET.{stream}.{P}.operator.created"));
    tails
}

/// Every subject that is tried with every role.
fn attempts(pipeline: &Pipeline, own: &str, foreign: &str) -> Vec<String> {
    let account = pipeline.identities.role_keys(PipelineRole::Steward).account;
    let server = pipeline.identities.system().account;
    let mut subjects = Vec::new();
    for prefix in ["$JS.API", "CIMKEYS.API"] {
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE, KEYS_DEAD, KEYS_ISSUED, "OTHER"] {
            subjects.extend(api(stream).into_iter().map(|tail| format!("{prefix}.{tail}")));
        }
    }
    for event in ["key.generated", "key.revoked", "operator.created", "account.created", "user.created"] {
        subjects.push(format!("{P}.{event}"));
        subjects.push(format!("{LOG}.{event}"));
    }
    subjects.extend(
        [
            // Beside the events: too short, too long, another domain, another unit, anything.
            P,
            "cowboyai.security.keys.user",
            "cowboyai.security.keys.user.created.twice",
            "cowboyai.security.certificates.user.created",
            "cowboyai.other.keys.user.created",
            "cowboyai.security.keys-api.user.create",
            "orders.new",
            // Consumers, buckets, flow control.
            "$JS.ACK.KEYS_EVENTS.worker.1.1.1.1.1",
            "$JS.ACK._.hash.KEYS_EVENTS.worker.1.1.1.1.1.1",
            "$JS.ACK.KEYS_EVENTS.keys-service.1.1.1.1.1",
            "$JS.ACK._.hash.KEYS_EVENTS.keys-service.1.1.1.1.1.1",
            "$JS.ACK.KEYS_ARCHIVE.keys-service.1.1.1.1.1",
            "$JS.ACK.KEYS_DEAD.keys-service-retry.1.1.1.1.1",
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.KEYS_EVENTS.keys-service",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.KEYS_EVENTS.keys-service",
            // Dead letters, and beside them.
            "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.1",
            "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service",
            "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.1.1",
            // Issued creds, and beside them.
            "cowboyai.security.keys-issued.credentials.issued",
            "cowboyai.security.keys-issued.credentials",
            "cowboyai.security.keys-issued.credentials.issued.twice",
            "$JS.FC.KEYS_EVENTS.worker.1",
            "$JS.EVENT.ADVISORY.STREAM.DELETED.KEYS_EVENTS",
            "$KV.bucket.key",
            "$O.bucket.C.chunk",
            "$SRV.PING",
            // The system.
            "$SYS.REQ.SERVER.PING",
            "$SYS.REQ.SERVER.PING.JSZ",
            "$SYS.REQ.SERVER.PING.CONNZ",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.CLAIMS.LIST",
            "$SYS.REQ.CLAIMS.DELETE",
            "$SYS.REQ.CLAIMS.PACK",
            "$SYS.REQ.USER.INFO",
            "$SYS.REQ.USER.AUTH",
            "$SYS.REQ.ACCOUNT.PING.CONNZ",
            "$SYS.DEBUG.SUBSCRIBERS",
            "$SYS._INBOX.any",
        ]
        .map(String::from),
    );
    for verb in ["CLAIMS.LOOKUP", "CLAIMS.UPDATE", "CONNZ", "JSZ", "INFO", "SUBSZ", "CONNS"] {
        subjects.push(format!("$SYS.REQ.ACCOUNT.{account}.{verb}"));
    }
    for verb in ["RELOAD", "KICK", "LDM", "JSZ", "VARZ", "CONFIG"] {
        subjects.push(format!("$SYS.REQ.SERVER.{server}.{verb}"));
    }
    subjects.push(format!("$SYS.ACCOUNT.{account}.CLAIMS.UPDATE"));
    subjects.push(format!("$SYS.ACCOUNT.{account}.CONNECT"));
    subjects.push(format!("$JS.API.ACCOUNT.PURGE.{account}"));
    subjects.extend(["_INBOX.any".into(), format!("{own}.1"), format!("{foreign}.1")]);
    subjects
}

#[test]
fn every_publish_outside_a_role_is_denied_by_name() {
    let (pipeline, mut host, last) = founded();
    let before = pipeline.holdings();
    for role in PipelineRole::ALL {
        let mut client = pipeline.connect(role);
        let (publish, _) = permitted(role);
        let other = if role == PipelineRole::Host { PipelineRole::Auditor } else { PipelineRole::Host };
        let own = pipeline.login(role).inbox();
        let subjects: Vec<String> = attempts(&pipeline, &own, &pipeline.login(other).inbox())
            .into_iter()
            .filter(|subject| !publish.iter().any(|pattern| covers(pattern, subject)))
            .collect();
        assert!(subjects.len() > 150, "{role}: {}", subjects.len());
        // Once with a body that would do something and an inbox that could take the answer, once with headers.
        let answer = format!("{own}.answer");
        client.subscribe(&format!("{own}.>")).unwrap();
        for headers in [&[][..], &[("Nats-Expected-Last-Sequence", "0")]] {
            for subject in &subjects {
                client.publish(subject, Some(&answer), headers, br#"{"seq":1}"#).unwrap();
            }
            let (messages, refused) = client.settle().unwrap();
            let wanted: Vec<String> = subjects
                .iter()
                .map(|subject| format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'"))
                .collect();
            assert_eq!(refused, wanted, "{role}");
            assert!(messages.is_empty(), "{role}: {messages:?}");
        }
    }
    assert_eq!(pipeline.holdings(), before);
    assert_eq!(pipeline.info(&mut host, KEYS_EVENTS)["state"]["last_seq"], last);
}

#[test]
fn every_subscription_outside_a_role_is_denied_by_name() {
    let (pipeline, ..) = founded();
    for role in PipelineRole::ALL {
        let mut client = pipeline.connect(role);
        let (_, log) = permitted(role);
        let own = pipeline.login(role).inbox();
        let mut subjects: Vec<String> = [
            ">",
            "*",
            "*.>",
            "*.*.*.*.*",
            "_INBOX.>",
            "_INBOX.any",
            "_INBOX_*.>",
            "*.answer",
            "cowboyai.>",
            "cowboyai.security.>",
            "cowboyai.security.*.user.created",
            "cowboyai.security.keys.>",
            "cowboyai.security.keys.*.*",
            "cowboyai.security.keys.user.created",
            "cowboyai.security.keys-log.>",
            "cowboyai.security.keys-log.user.created",
            "CIMKEYS.>",
            "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS",
            "$JS.>",
            "$JS.API.>",
            "$JS.ACK.>",
            "$JS.EVENT.>",
            "$JS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.worker",
            "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service",
            "cowboyai.security.keys-dead.>",
            "cowboyai.security.keys-issued.>",
            "cowboyai.security.keys-api.>",
            "cowboyai.security.keys-api.user.create",
            "$SYS.>",
            "$SYS.ACCOUNT.*.CONNECT",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$KV.>",
            "$O.>",
            "$SRV.>",
            "_R_.>",
            "_GR_.>",
        ]
        .map(String::from)
        .into();
        // Every other role's inbox, whole and in part.
        for other in PipelineRole::ALL.into_iter().filter(|other| *other != role) {
            let inbox = pipeline.login(other).inbox();
            subjects.extend([format!("{inbox}.>"), format!("{inbox}.*"), format!("{inbox}.1"), inbox]);
        }
        subjects.push(own.clone());
        subjects.retain(|subject| !log.iter().any(|pattern| covers(pattern, subject)));
        for queue in ["", " workers"] {
            for (number, subject) in subjects.iter().enumerate() {
                client.send(format!("SUB {subject}{queue} {}\r\n", number + 1).as_bytes()).unwrap();
            }
            let (_, refused) = client.settle().unwrap();
            let tail = if queue.is_empty() { "" } else { " using queue \"workers\"" };
            let wanted: Vec<String> = subjects
                .iter()
                .map(|subject| {
                    format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"{tail}'")
                })
                .collect();
            assert_eq!(refused, wanted, "{role}");
        }
        // And these are its own.
        client.subscribe(&format!("{own}.>")).unwrap();
        for subject in &log {
            client.subscribe(subject).unwrap();
        }
        assert_eq!(client.settle().unwrap().1, [""; 0], "{role}");
    }
}

#[test]
fn patterns_cover_as_they_do_in_nats() {
    for (pattern, subject, wanted) in [
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*", "a.b.c", false),
        ("a.>", "a.b.c", true),
        ("a.>", "a", false),
        ("a.>", "a.>", true),
        ("a.*", "a.>", false),
        ("a.b", "a.*", false),
    ] {
        assert_eq!(covers(pattern, subject), wanted, "{pattern} {subject}");
    }
}
