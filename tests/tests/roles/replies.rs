//! The ways around permissions: a server checks what is published and subscribed, never where an answer shall go. So
//! every request that a role may send is sent with every answer subject that could do harm.

use std::collections::BTreeMap;

use cim_keys_core::jwt::UserRights;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_EVENTS, keys_events_stream_config};
use cim_keys_tests::identities::Identities;
use cim_keys_tests::pipeline::{EXPECTED_LAST, ask};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wire::Client;
use cim_keys_tests::{streams, wait};
use serde_json::{Value, json};

use super::target::{Target, baits, drain, essence, refusals, requests, reserved};
use super::{EDGE, P};

#[test]
fn no_answer_to_a_role_lands_where_it_does_harm() {
    let mut target = Target::of(Identities::found(1));
    for role in EDGE {
        let mut attacker = target.pipeline.connect(role);
        let replies = target.replies(target.pipeline.login(role));
        let requests = requests(Some(role), target.baits.clone());
        let refused = target.sweep(&mut attacker, &requests, &replies);
        assert_eq!(refused, refusals(&replies, requests.len()), "{role}");
    }
}

#[test]
fn an_acknowledgement_sent_elsewhere_does_no_harm_either() {
    let mut target = Target::of(Identities::found(1));
    for (role, event) in [(PipelineRole::Host, "operator.created"), (PipelineRole::Browser, "user.created")] {
        let mut attacker = target.pipeline.connect(role);
        let replies = target.replies(target.pipeline.login(role));
        let before = target.pipeline.holdings();
        let mut appended = 0;
        // Accepted ones: each stores itself, and its acknowledgement must not be stored as well.
        for bait in baits() {
            for reply in &replies {
                attacker.publish(&format!("{P}.{event}"), Some(reply), &[], &bait).unwrap();
                appended += u64::from(!reserved(reply));
            }
        }
        assert_eq!(attacker.settle().unwrap().1, refusals(&replies, baits().len()), "{role}");
        target.unchanged(&mut attacker, &before, appended);
    }
}

#[test]
fn not_even_an_unrestricted_user_of_the_edge_gets_around_it() {
    let mut identities = Identities::found(1);
    let edge = identities.role_keys(PipelineRole::Host).account;
    let by = identities.plain_key(edge);
    let root = identities.user(by, "root", Some(UserRights::default()), 0);
    let mut target = Target::of(identities);
    let mut attacker = root.connect(target.pipeline.server.address()).unwrap();
    let replies = target.replies(&root);
    let mut requests = requests(None, target.baits.clone());
    // It may also publish to all that does harm, save the events themselves, which every host may append, and what the
    // service does with its own consumer and its letters.
    for bait in baits() {
        for subject in &replies {
            let own = subject.starts_with(&format!("{P}."))
                || subject.starts_with("cowboyai.security.keys-dead.")
                || subject.starts_with("cowboyai.security.keys-issued.")
                || subject == "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service";
            if !reserved(subject) && !own {
                requests.push((subject.clone(), Vec::new(), bait.clone()));
            }
        }
    }
    let few: Vec<String> = replies.iter().filter(|reply| !reply.starts_with("CIMKEYS")).cloned().collect();
    let refused = target.sweep(&mut attacker, &requests, &few);
    assert_eq!(refused, refusals(&few, requests.len()));

    // Nor by its ears: it hears the log, the requests and answers of its own account, and nothing of the other one.
    attacker.subscribe("$JS.>").unwrap();
    attacker.subscribe("$SYS.>").unwrap();
    attacker.settle().unwrap();
    let mut steward = target.pipeline.connect(PipelineRole::Steward);
    ask(&mut steward, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
    assert_eq!(attacker.settle().unwrap(), (Vec::new(), Vec::new()));
}

#[test]
fn nor_does_an_unrestricted_user_of_another_account() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let root = identities.user(app, "root", Some(UserRights::default()), 0);
    let mut target = Target::of(identities);
    let mut attacker = root.connect(target.pipeline.server.address()).unwrap();
    let replies = target.replies(&root);
    let before = target.pipeline.holdings();
    let mut requests = requests(None, target.baits.clone());
    requests.extend(replies.iter().filter(|reply| !reserved(reply)).map(|reply| {
        let body = baits().concat();
        (reply.clone(), Vec::new(), body)
    }));
    for (subject, headers, body) in &requests {
        for reply in &replies {
            attacker.publish(subject, Some(reply), headers, body).unwrap();
        }
    }
    let refused = attacker.settle().unwrap().1;
    assert_eq!(refused, refusals(&replies, requests.len()));
    assert_eq!(attacker.request(&format!("{P}.user.created"), &[], b"").unwrap().status(), Some(503));
    let mut host = target.pipeline.connect(PipelineRole::Host);
    target.unchanged(&mut host, &before, 0);
}

/// Messages and acknowledgements are the service's own business; where they are sent to is not.
#[test]
fn what_the_service_asks_of_its_consumers_lands_nowhere_else() {
    let mut target = Target::of(Identities::found(1));
    let mut service = target.pipeline.connect(PipelineRole::Service);
    let replies = target.replies(target.pipeline.login(PipelineRole::Service));
    let next = "CIMKEYS.API.CONSUMER.MSG.NEXT.KEYS_EVENTS.keys-service";
    // What it could do harm with: a message in hand, and the two forms of where it is acknowledged.
    let inbox = format!("{}.next", service.inbox_prefix());
    service.subscribe(&inbox).unwrap();
    service.publish(next, Some(&inbox), &[], br#"{"batch":1}"#).unwrap();
    let plain = service.next(wait::PATIENCE).unwrap().reply.unwrap();
    let told = plain.strip_prefix("$JS.ACK.").unwrap();
    let other = format!("$JS.ACK._.hash.{told}");
    let before = standing(&target.pipeline.holdings());

    let mut requests: Vec<(String, &str)> = Vec::new();
    for body in ["", "1", r#"{"batch":30,"no_wait":true}"#, r#"{"batch":3,"expires":100000000}"#] {
        requests.push((next.to_owned(), body));
    }
    requests.push(("CIMKEYS.API.CONSUMER.INFO.KEYS_EVENTS.keys-service".into(), ""));
    requests.push(("CIMKEYS.API.CONSUMER.INFO.KEYS_DEAD.keys-service-retry".into(), ""));
    for ack in [&plain, &other] {
        for body in ["+NXT", r#"+NXT {"batch":30,"no_wait":true}"#, "+WPI", "-NAK", "+ACK"] {
            requests.push((ack.clone(), body));
        }
    }
    let refused: Vec<String> = refusals(&replies, requests.len());
    let mut seen = Vec::new();
    for (subject, body) in &requests {
        for reply in &replies {
            service.publish(subject, Some(reply), &[], body.as_bytes()).unwrap();
        }
        seen.extend(service.settle().unwrap().1);
    }
    assert_eq!(seen, refused);
    // Refused letters, whose answers go astray: none is stored, and no answer either.
    for reply in &replies {
        let wrong = [("Nats-Expected-Last-Subject-Sequence", "999")];
        let letter = "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.7";
        service.publish(letter, Some(reply), &wrong, b"{}").unwrap();
    }
    assert_eq!(service.settle().unwrap().1, refusals(&replies, 1));
    drain(&target.pipeline, &mut service);
    drain(&target.pipeline, &mut target.host);
    assert_eq!(standing(&target.pipeline.holdings()), before);
    // It takes no other consumer's messages, and its own are still there to be had.
    let own = ask(&mut service, "CIMKEYS.API.CONSUMER.INFO.KEYS_EVENTS.keys-service", &[], b"");
    assert_eq!(own["name"], "keys-service", "{own}");
    let ack = ask(&mut service, "cowboyai.security.keys-dead.KEYS_EVENTS.keys-service.7", &[], b"{}");
    assert_eq!((&ack["stream"], &ack["seq"]), (&json!("KEYS_DEAD"), &json!(1)), "{ack}");
}

/// The same as [`essence`] but for how far the service's own consumers have come.
fn standing(holdings: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let own = |consumer: &Value| consumer[0].as_str().is_some_and(|name| name.starts_with("keys-"));
    let mut standing = essence(holdings, 0);
    for (name, stream) in &mut standing {
        if name.ends_with("/KEYS_DEAD") {
            assert_eq!(stream["messages"], 0, "{stream}");
        }
        for consumer in stream["consumers"].as_array_mut().into_iter().flatten() {
            if own(consumer)
                && let Some(members) = consumer.as_array_mut()
            {
                members.truncate(3);
            }
        }
    }
    standing
}

/// Whoever answers inside the account of the streams answers only where the server has mapped the question's answer to:
/// never where whoever asks wants it.
#[test]
fn what_the_responder_answers_lands_nowhere_else() {
    let mut identities = Identities::found(1);
    let edge = identities.role_keys(PipelineRole::Host).account;
    let by = identities.plain_key(edge);
    let root = identities.user(by, "root", Some(UserRights::default()), 0);
    let mut target = Target::of(identities);
    let mut responder = target.pipeline.connect(PipelineRole::Responder);
    for subject in ["cowboyai.security.keys-api.>", "$SRV.>"] {
        responder.subscribe(subject).unwrap();
    }
    responder.ping().unwrap();
    let before = target.pipeline.holdings();
    let address = target.pipeline.server.address();
    let client = target.pipeline.login(PipelineRole::Client);
    let attackers = [
        (client.connect(address).unwrap(), target.replies(client)),
        (root.connect(address).unwrap(), target.replies(&root)),
    ];
    for (mut attacker, replies) in attackers {
        for subject in ["cowboyai.security.keys-api.user.create", "$SRV.PING"] {
            for bait in baits() {
                for reply in &replies {
                    // What it asks itself would come again and again.
                    if reply.starts_with("cowboyai.security.keys-api.") || reply == "$SRV.PING" {
                        continue;
                    }
                    attacker.publish(subject, Some(reply), &[], b"{}").unwrap();
                    if reserved(reply) {
                        continue;
                    }
                    let question = responder.next(wait::PATIENCE).unwrap();
                    let mapped = question.reply.unwrap();
                    assert!(mapped.starts_with("_R_."), "{reply} came as {mapped}");
                    responder.publish(&mapped, None, &[], &bait).unwrap();
                }
                assert_eq!(responder.settle().unwrap().1, [""; 0], "{subject}");
            }
        }
        attacker.settle().unwrap();
    }
    // And it sends nothing of its own accord, nor a second time.
    let mut client = client.connect(address).unwrap();
    let inbox = format!("{}.once", client.inbox_prefix());
    client.subscribe(&inbox).unwrap();
    client.publish("cowboyai.security.keys-api.user.create", Some(&inbox), &[], b"{}").unwrap();
    let mapped = responder.next(wait::PATIENCE).unwrap().reply.unwrap();
    responder.publish(&mapped, None, &[], b"first").unwrap();
    responder.publish(&mapped, None, &[], b"second").unwrap();
    responder.publish("$JS.API.STREAM.DELETE.KEYS_EVENTS", None, &[], b"").unwrap();
    assert_eq!(responder.settle().unwrap().1.len(), 2);
    assert_eq!(client.next(wait::PATIENCE).unwrap().payload, b"first");
    drain(&target.pipeline, &mut target.host);
    let mut host = target.pipeline.connect(PipelineRole::Host);
    target.unchanged(&mut host, &before, 0);
}

/// A trace is a message that the server sends wherever a header says: there it does look at permissions.
#[test]
fn traces_go_only_where_their_sender_may_publish() {
    let mut target = Target::of(Identities::found(1));
    let requests = [
        "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS",
        "CIMKEYS.API.DIRECT.GET.KEYS_EVENTS",
        "CIMKEYS.API.STREAM.MSG.GET.KEYS_EVENTS",
    ];
    for role in EDGE {
        let mut attacker = target.pipeline.connect(role);
        let login = target.pipeline.login(role);
        let before = target.pipeline.holdings();
        let inbox = format!("{}.trace", login.inbox());
        let own = match role {
            PipelineRole::Host => format!("{P}."),
            PipelineRole::Browser => format!("{P}.user.created"),
            _ => "nothing".into(),
        };
        let destinations: Vec<String> = target
            .replies(login)
            .into_iter()
            .filter(|reply| {
                // What it may publish to anyway.
                let own_words = match role {
                    PipelineRole::Host => {
                        reply.starts_with("cowboyai.security.keys-dead.")
                            || reply.starts_with("cowboyai.security.keys-issued.")
                    }
                    PipelineRole::Service => {
                        reply.starts_with("cowboyai.security.keys-dead.") || reply.contains(".keys-service")
                    }
                    _ => false,
                };
                !own_words
                    && !reply.starts_with(&own)
                    && !["INFO", "DIRECT.GET"]
                        .iter()
                        .any(|verb| reply.starts_with(&format!("CIMKEYS.API.{verb}")))
                    && !reply.starts_with("CIMKEYS.API.STREAM.INFO.")
            })
            .collect();
        for subject in requests {
            for only in ["false", "true"] {
                for destination in &destinations {
                    let headers = [("Nats-Trace-Dest", destination.as_str()), ("Nats-Trace-Only", only)];
                    attacker.publish(subject, Some(&inbox), &headers, b"").unwrap();
                }
                let wanted: Vec<String> = destinations
                    .iter()
                    .map(|subject| format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'"))
                    .collect();
                assert_eq!(attacker.settle().unwrap().1, wanted, "{role} {subject} {only}");
            }
        }
        target.unchanged(&mut attacker, &before, 0);
    }
}

/// Headers with which a publish does more than append.
#[test]
fn no_header_makes_an_append_do_more() {
    let mut target = Target::of(Identities::found(1));
    let mut host = target.pipeline.connect(PipelineRole::Host);
    let before = target.pipeline.holdings();
    let other = format!("{P}.user.created");
    for headers in [
        &[("Nats-Rollup", "all")][..],
        &[("Nats-Rollup", "sub")],
        &[("Nats-TTL", "1s")],
        &[("Nats-Incr", "1")],
        &[("Nats-Schedule", "@at 2030-01-01T00:00:00Z"), ("Nats-Schedule-Target", &other)],
        &[("Nats-Expected-Stream", "KEYS_ARCHIVE")],
        &[("Nats-Expected-Last-Msg-Id", "none")],
        &[(EXPECTED_LAST, "0")],
    ] {
        let answer = ask(&mut host, &format!("{P}.operator.created"), headers, b"{}");
        assert!(answer["error"]["err_code"].is_u64(), "{headers:?}: {answer}");
    }
    target.unchanged(&mut host, &before, 0);
}

/// An attack that works where reader and stream share an account: request, body, answer subject, what it changes.
struct Known {
    request: &'static str,
    bait: Option<u64>,
    reply: String,
    done: fn(&mut Client) -> bool,
}

/// The sweep above bites: without the second account the same requests change everything.
#[test]
fn inside_one_account_the_same_requests_do_harm() {
    let server = NatsServer::plain();
    let mut client = Client::connect(server.address()).unwrap();
    let info = |client: &mut Client| ask(client, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
    let config = streams::to_json(&keys_events_stream_config(&Default::default()));
    let create = "$JS.API.STREAM.CREATE.KEYS_EVENTS";
    assert!(ask(&mut client, create, &[], config.to_string().as_bytes())["error"].is_null());
    for (bait, number) in baits().iter().zip(1_u64..) {
        let ack = ask(&mut client, &format!("{P}.bait.{number}"), &[], bait);
        assert_eq!(ack["seq"], number);
    }
    let last = baits().len() as u64;
    let known = [
        Known {
            request: "$JS.API.STREAM.INFO.KEYS_EVENTS",
            bait: None,
            reply: format!("{P}.operator.created"),
            done: |client| last_subject(client) == format!("{P}.operator.created"),
        },
        Known {
            request: "$JS.API.DIRECT.GET.KEYS_EVENTS",
            bait: Some(5),
            reply: format!("{P}.user.created"),
            done: |client| last_subject(client) == format!("{P}.user.created"),
        },
        Known {
            request: "$JS.API.DIRECT.GET.KEYS_EVENTS",
            bait: Some(3),
            reply: "$JS.API.CONSUMER.CREATE.KEYS_EVENTS.evil".into(),
            done: |client| consumers(client) == 1,
        },
        Known {
            request: "$JS.API.DIRECT.GET.KEYS_EVENTS",
            bait: Some(4),
            reply: "$JS.API.CONSUMER.DURABLE.CREATE.KEYS_EVENTS.worker".into(),
            done: |client| consumers(client) == 2,
        },
        Known {
            request: "$JS.API.DIRECT.GET.KEYS_EVENTS",
            bait: Some(2),
            reply: "$JS.API.STREAM.UPDATE.KEYS_EVENTS".into(),
            done: |client| {
                let info = ask(client, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
                info["config"]["max_msgs"] == 1
            },
        },
    ];
    for Known { request, bait, reply, done } in known {
        let body = bait.map(|sequence| format!(r#"{{"seq":{sequence}}}"#)).unwrap_or_default();
        client.publish(request, Some(&reply), &[], body.as_bytes()).unwrap();
        wait::until(&reply, || done(&mut client).then_some(()));
    }
    assert!(info(&mut client)["state"]["last_seq"].as_u64().unwrap() > last);

    // An empty body where a deletion is expected ends it all.
    let reply = "$JS.API.STREAM.DELETE.KEYS_EVENTS";
    client.publish("$JS.API.DIRECT.GET.KEYS_EVENTS", Some(reply), &[], br#"{"seq":1}"#).unwrap();
    wait::until(reply, || (info(&mut client)["error"]["err_code"] == 10059).then_some(()));
}

/// Why the steward is alone with the streams, and its creds live for an hour: what it may ask, it can have stored.
#[test]
fn the_steward_shares_the_account_of_the_streams() {
    let mut target = Target::of(Identities::found(1));
    let mut steward = target.pipeline.connect(PipelineRole::Steward);
    let reply = format!("{P}.operator.created");
    steward.publish("$JS.API.STREAM.INFO.KEYS_EVENTS", Some(&reply), &[], b"").unwrap();
    steward.ping().unwrap();
    wait::until("the answer is stored", || {
        let info = target.pipeline.info(&mut target.host, KEYS_EVENTS);
        (info["state"]["last_seq"] == target.last + 1).then_some(())
    });
}

fn last_subject(client: &mut Client) -> String {
    let info = ask(client, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
    let body = json!({ "seq": info["state"]["last_seq"] }).to_string();
    let message = ask(client, "$JS.API.STREAM.MSG.GET.KEYS_EVENTS", &[], body.as_bytes());
    message["message"]["subject"].as_str().unwrap_or_default().to_owned()
}

fn consumers(client: &mut Client) -> u64 {
    let info = ask(client, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
    info["state"]["consumer_count"].as_u64().unwrap()
}
