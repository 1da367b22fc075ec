//! Three servers: an answer crosses routes, and what comes by a route a server takes for the system's own.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use cim_keys_core::registry::EntityId;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::keys_events_stream_config;
use cim_keys_tests::identities::Identities;
use cim_keys_tests::pipeline::ask;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::Version;
use cim_keys_tests::wire::Client;
use cim_keys_tests::{streams, wait};
use serde_json::{Value, json};

/// Three servers that trust these identities and have found a leader for JetStream.
fn cluster(identities: &Identities) -> Vec<NatsServer> {
    let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    drop(listeners);
    let place = "/folder-of-the-server";
    let common = identities.configuration(Path::new(place));
    let servers: Vec<NatsServer> = ports
        .iter()
        .zip(0..)
        .map(|(port, number)| {
            let text = format!(
                "server_name: node{number}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n{common}",
                routes.join(", ")
            );
            let make = move |folder: &Path| text.replace(place, &folder.to_string_lossy());
            Setup::configured(Version::Newest, make).start()
        })
        .collect();
    wait::until("the cluster is complete and led", || {
        let complete = |server: &NatsServer| {
            let all: Value = serde_json::from_str(&server.monitor("/jsz")).unwrap_or_default();
            let meta = &all["meta_cluster"];
            meta["leader"].is_string() && meta["cluster_size"] == 3
        };
        let agreed: BTreeSet<String> = servers.iter().map(leader).collect();
        (servers.iter().all(complete) && agreed.len() == 1).then_some(())
    });
    servers
}

/// Every answer to a request that all servers answer.
fn answers(client: &mut Client, subject: &str, body: &[u8]) -> Vec<Value> {
    let inbox = format!("{}.all", client.inbox_prefix());
    let sid = client.subscribe(&inbox).unwrap();
    client.publish(subject, Some(&inbox), &[], body).unwrap();
    let all = (0..3).map(|_| client.next(Duration::from_secs(10)).unwrap().json()).collect();
    client.send(format!("UNSUB {sid}\r\n").as_bytes()).unwrap();
    all
}

#[test]
fn the_resolver_reaches_every_server_and_moves_nothing_but_claims() {
    let mut identities = Identities::found(1);
    let app = identities.account("APP");
    let resolver = identities.role(PipelineRole::Resolver);
    let steward = identities.role(PipelineRole::Steward);
    let keys = identities.role_keys(PipelineRole::Steward).account;
    let servers = cluster(&identities);

    let mut body = streams::to_json(&keys_events_stream_config(identities.namespace()));
    body["num_replicas"] = json!(3);
    let body = body.to_string();
    let leader = leader(&servers[0]);
    let led = servers.iter().zip(0..).find(|(_, number)| leader == format!("node{number}")).unwrap().0;
    let mut steward = steward.connect(led.address()).unwrap();
    let inbox = format!("{}.made", steward.inbox_prefix());
    steward.subscribe(&inbox).unwrap();
    wait::until("the stream is made", || {
        // A young leader refuses until it knows that every server has room, and may not answer at all.
        steward.publish("$JS.API.STREAM.CREATE.KEYS_EVENTS", Some(&inbox), &[], body.as_bytes()).ok()?;
        let made = steward.next(Duration::from_secs(2)).ok()?.json();
        made["config"].is_object().then_some(())
    });
    let created = ask(&mut steward, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"")["created"].clone();
    assert!(created.is_string());

    let token = identities.token(EntityId::Account(app.account));
    for server in &servers {
        let mut client = resolver.connect(server.address()).unwrap();
        let names = |all: &[Value]| -> BTreeSet<String> {
            all.iter().map(|answer| answer["server"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let nodes = ["node0", "node1", "node2"].map(String::from).into();
        assert_eq!(names(&answers(&mut client, "$SYS.REQ.SERVER.PING", b"")), nodes);
        assert_eq!(names(&answers(&mut client, "$SYS.REQ.CLAIMS.LIST", b"")), nodes);
        let pushed = answers(&mut client, "$SYS.REQ.CLAIMS.UPDATE", token.as_str().as_bytes());
        assert_eq!(names(&pushed), nodes);
        assert!(pushed.iter().all(|answer| answer["data"]["code"] == 200), "{pushed:?}");

        let id = client.info()["server_id"].as_str().unwrap().to_owned();
        for request in [
            "$SYS.REQ.SERVER.PING".to_owned(),
            "$SYS.REQ.CLAIMS.LIST".to_owned(),
            "$SYS.REQ.CLAIMS.UPDATE".to_owned(),
            format!("$SYS.REQ.ACCOUNT.{keys}.CLAIMS.LOOKUP"),
        ] {
            for reply in [
                format!("$JS.API.ACCOUNT.PURGE.{keys}"),
                "$JS.API.META.LEADER.STEPDOWN".into(),
                "$JS.API.SERVER.REMOVE".into(),
                "$JS.API.STREAM.DELETE.KEYS_EVENTS".into(),
                "$SYS.REQ.CLAIMS.DELETE".into(),
                format!("$SYS.REQ.SERVER.{id}.RELOAD"),
                format!("$SYS.REQ.SERVER.{id}.LDM"),
            ] {
                client.publish(&request, Some(&reply), &[], b"").unwrap();
                assert_eq!(client.settle().unwrap().1, [""; 0]);
            }
        }
        // Routes and servers keep the order: what went elsewhere has arrived there.
        answers(&mut client, "$SYS.REQ.CLAIMS.LIST", b"");
        answers(&mut client, "$SYS.REQ.SERVER.PING", b"");
    }

    for server in &servers {
        let log = server.log();
        for word in ["Purge request", "Reload", "lame duck", "Invalid JetStream request"] {
            assert!(!log.contains(word), "{word}");
        }
        assert_eq!(self::leader(server), leader);
    }
    let info = ask(&mut steward, "$JS.API.STREAM.INFO.KEYS_EVENTS", &[], b"");
    assert_eq!(info["created"], created, "{info}");
}

/// Who leads JetStream, as a server sees it.
fn leader(server: &NatsServer) -> String {
    let all: Value = serde_json::from_str(&server.monitor("/jsz")).unwrap();
    all["meta_cluster"]["leader"].as_str().unwrap_or_default().to_owned()
}
