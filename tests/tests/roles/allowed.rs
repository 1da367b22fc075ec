//! What each role can do.

use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS, keys_events_stream_config};
use cim_keys_tests::identities::Identities;
use cim_keys_tests::pipeline::{Pipeline, append, ask, headers, read_from};
use cim_keys_tests::streams;
use cim_keys_tests::wait::PATIENCE;
use cim_keys_tests::wire::Message;
use serde_json::{Value, json};

use super::{EDGE, LOG, P, founded};

#[test]
fn a_host_appends_single_events_and_batches_and_is_told_of_conflicts() {
    let pipeline = Pipeline::start();
    let events = pipeline.identities.envelopes();
    let last = events.len() as u64;
    let mut host = pipeline.connect(PipelineRole::Host);

    let ack = append(&mut host, &events[..1], 0);
    assert_eq!((&ack["stream"], &ack["seq"]), (&json!("KEYS_EVENTS"), &json!(1)), "{ack}");
    assert_eq!(ack["duplicate"], Value::Null);

    // The rest in one batch over several subjects: first where it does not belong, then where it does.
    for (expected, answer) in [(0, Err(10071)), (1, Ok(last))] {
        let ack = append(&mut host, &events[1..], expected);
        match answer {
            Err(code) => assert_eq!(ack["error"]["err_code"], code, "{ack}"),
            Ok(sequence) => {
                assert_eq!((&ack["seq"], &ack["count"]), (&json!(sequence), &json!(last - 1)), "{ack}");
                assert_eq!(ack["batch"], events[1].headers.only("Nats-Msg-Id").unwrap());
            }
        }
    }
    assert_eq!(pipeline.info(&mut host, KEYS_EVENTS)["state"]["messages"], last);

    // The same event again: as a conflict, for the sequence is looked at first.
    let ack = append(&mut host, &events[..1], last - 1);
    assert_eq!(ack["error"]["err_code"], 10071, "{ack}");
    // Without looking at the sequence, as a duplicate.
    let first = &events[0];
    let ack = ask(&mut host, first.subject.as_str(), &headers(first, None), &first.payload);
    assert_eq!((&ack["duplicate"], &ack["seq"]), (&json!(true), &json!(1)), "{ack}");
    assert_eq!(pipeline.info(&mut host, KEYS_EVENTS)["state"]["messages"], last);
}

#[test]
fn whoever_is_at_the_edge_reads_both_streams_in_every_way_and_hears_the_log() {
    let (pipeline, mut host, last) = founded();
    let mut readers: Vec<_> = EDGE.map(|role| (role, pipeline.connect(role))).into();
    for (role, reader) in &mut readers {
        for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
            assert_eq!(pipeline.info(reader, stream)["state"]["last_seq"], last, "{role} {stream}");
            let read = read_from(reader, &format!("CIMKEYS.API.DIRECT.GET.{stream}"), 1);
            assert_eq!(read.len() as u64, last, "{role} {stream}");
            for ((message, event), sequence) in read.iter().zip(pipeline.identities.envelopes()).zip(1_u64..)
            {
                assert_eq!(header(message, "Nats-Subject"), event.subject.as_str(), "{role} {stream}");
                assert_eq!(header(message, "Nats-Sequence"), sequence.to_string(), "{role} {stream}");
                assert_eq!(message.payload, event.payload, "{role} {stream} {sequence}");
                for (name, value) in event.headers.iter() {
                    assert_eq!(header(message, name), value, "{role} {stream} {sequence}");
                }
            }
        }
        let message = ask(reader, "CIMKEYS.API.STREAM.MSG.GET.KEYS_EVENTS", &[], br#"{"seq":1}"#);
        assert_eq!(message["message"]["subject"], format!("{P}.operator.created"), "{role}");
        reader.subscribe(&format!("{LOG}.>")).unwrap();
        assert_eq!(reader.settle().unwrap().1, [""; 0], "{role}");
    }

    // The host repeats an event under a new id: everybody hears of it, with its place.
    let event = pipeline.identities.envelopes().last().unwrap();
    let lines: Vec<_> = headers(event, None).into_iter().filter(|(name, _)| *name != "Nats-Msg-Id").collect();
    let ack = ask(&mut host, event.subject.as_str(), &lines, &event.payload);
    assert_eq!(ack["seq"], last + 1, "{ack}");
    for (role, reader) in &mut readers {
        let message = reader.next(PATIENCE).unwrap();
        assert_eq!(message.subject, event.subject.as_str().replace(P, LOG), "{role}");
        assert_eq!(header(&message, "Nats-Stream"), "KEYS_EVENTS");
        assert_eq!(header(&message, "Nats-Subject"), event.subject.as_str());
        assert_eq!(header(&message, "Nats-Sequence"), (last + 1).to_string());
        assert_eq!(message.payload, event.payload, "{role}");
    }
}

#[test]
fn what_is_refused_never_reaches_the_log() {
    let (pipeline, mut host, last) = founded();
    let mut auditor = pipeline.connect(PipelineRole::Auditor);
    auditor.subscribe(&format!("{LOG}.>")).unwrap();
    auditor.ping().unwrap();
    let event = &pipeline.identities.envelopes()[..1];
    assert_eq!(append(&mut host, event, 0)["error"]["err_code"], 10071);
    let free = ask(&mut host, &format!("{P}.operator.created"), &[], b"accepted");
    assert_eq!(free["seq"], last + 1);
    assert_eq!(auditor.next(PATIENCE).unwrap().payload, b"accepted");
}

#[test]
fn a_browser_comes_by_websocket_alone_and_appends_users_alone() {
    let (pipeline, _host, last) = founded();
    let login = pipeline.login(PipelineRole::Browser);
    let refused = login.connect(pipeline.server.address()).unwrap_err();
    assert!(refused.to_string().contains("Authorization Violation"), "{refused}");

    let mut browser = login.connect_websocket(pipeline.websocket_url()).unwrap();
    let expected = last.to_string();
    let line = [("Nats-Expected-Last-Sequence", expected.as_str())];
    let ack = ask(&mut browser, &format!("{P}.user.created"), &line, b"{}");
    assert_eq!(ack["seq"], last + 1, "{ack}");
    let ack = ask(&mut browser, &format!("{P}.user.created"), &line, b"{}");
    assert_eq!(ack["error"]["err_code"], 10071, "{ack}");
    // A large message comes through in one piece.
    let large = vec![b'x'; 900_000];
    let ack = ask(&mut browser, &format!("{P}.user.created"), &[], &large);
    assert_eq!(ack["seq"], last + 2, "{ack}");
    pipeline.holdings();
    let read = read_from(&mut browser, "CIMKEYS.API.DIRECT.GET.KEYS_EVENTS", last + 2);
    assert_eq!(read.len(), 1);
    assert!(read[0].payload == large);
}

#[test]
fn a_steward_makes_changes_and_looks_at_both_streams() {
    let pipeline = Pipeline::start();
    let mut steward = pipeline.connect(PipelineRole::Steward);
    for stream in [KEYS_EVENTS, KEYS_ARCHIVE] {
        let info = ask(&mut steward, &format!("$JS.API.STREAM.INFO.{stream}"), &[], b"");
        assert_eq!(info["config"]["name"], stream);
        let mut body = info["config"].clone();
        body["description"] = json!("what people read");
        let body = body.to_string();
        let answer = ask(&mut steward, &format!("$JS.API.STREAM.UPDATE.{stream}"), &[], body.as_bytes());
        assert_eq!(answer["config"]["description"], "what people read", "{answer}");
        // What was changed is the operator's own affair: no setting of the design differs.
        let before = streams::from_json(&info["config"]);
        assert_eq!(before.differences(&streams::from_json(&answer["config"])).len(), 0);
    }
    let config = streams::to_json(&keys_events_stream_config(pipeline.identities.namespace()));
    let again = ask(&mut steward, "$JS.API.STREAM.CREATE.KEYS_EVENTS", &[], config.to_string().as_bytes());
    assert_eq!(again["error"]["err_code"], 10058, "it has a description now: {again}");
}

#[test]
fn a_user_of_an_application_does_what_its_permissions_say() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let list = |subjects: &[&str]| PermissionList {
        allow: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        ..Default::default()
    };
    let rights =
        UserRights { publish: list(&["orders.>"]), subscribe: list(&["orders.*"]), ..Default::default() };
    let alice = identities.user(app, "alice", Some(rights), 0);
    let pipeline = Pipeline::of(identities);
    let mut alice = alice.connect(pipeline.server.address()).unwrap();

    alice.subscribe("orders.*").unwrap();
    alice.publish("orders.new", None, &[], b"inside").unwrap();
    let (inside, refused) = alice.settle().unwrap();
    assert_eq!((inside.len(), refused.len()), (1, 0));
    assert_eq!((inside[0].subject.as_str(), inside[0].payload.as_slice()), ("orders.new", &b"inside"[..]));

    alice.publish("invoices.new", None, &[], b"outside").unwrap();
    alice.subscribe("invoices.*").unwrap();
    let (outside, refused) = alice.settle().unwrap();
    assert!(outside.is_empty());
    assert_eq!(
        refused,
        [
            "-ERR 'Permissions Violation for Publish to \"invoices.new\"'",
            "-ERR 'Permissions Violation for Subscription to \"invoices.*\"'"
        ]
    );
}

#[test]
fn an_application_sees_nothing_of_the_pipeline() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let rights = UserRights::default();
    let root = identities.user(app, "root", Some(rights), 0);
    let pipeline = Pipeline::of(identities);
    let mut root = root.connect(pipeline.server.address()).unwrap();
    root.subscribe(">").unwrap();
    root.ping().unwrap();

    let mut host = pipeline.connect(PipelineRole::Host);
    append(&mut host, pipeline.identities.envelopes(), 0);
    pipeline.holdings();
    assert_eq!(root.settle().unwrap(), (Vec::new(), Vec::new()));

    // What it asks reaches nobody, or the JetStream that its own account does not have.
    root.send(b"UNSUB 1\r\n").unwrap();
    for (subject, status, code) in [
        ("CIMKEYS.API.STREAM.INFO.KEYS_EVENTS", Some(503), Value::Null),
        ("CIMKEYS.API.DIRECT.GET.KEYS_EVENTS", Some(503), Value::Null),
        ("CIMKEYS.API.STREAM.MSG.GET.KEYS_EVENTS", Some(503), Value::Null),
        ("cowboyai.security.keys.user.created", Some(503), Value::Null),
        ("$SYS.REQ.CLAIMS.LIST", Some(503), Value::Null),
        ("$JS.API.DIRECT.GET.KEYS_EVENTS", Some(503), Value::Null),
        ("$JS.API.STREAM.INFO.KEYS_EVENTS", None, json!(10039)),
        ("$JS.API.STREAM.DELETE.KEYS_EVENTS", None, json!(10039)),
    ] {
        let answer = root.request(subject, &[], b"").unwrap();
        assert_eq!((answer.status(), &answer.json()["error"]["err_code"]), (status, &code), "{subject}");
    }
    let last = pipeline.identities.envelopes().len();
    assert_eq!(pipeline.info(&mut host, KEYS_EVENTS)["state"]["last_seq"], last);
}

/// The one value of a header.
fn header(message: &Message, name: &str) -> String {
    let lines = message.header_lines();
    let values: Vec<_> = lines.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
    assert_eq!(values.len(), 1, "{name} in {lines:?}");
    values[0].clone()
}
