//! Clients in another language, clients of other accounts, and clients that speak nonsense.

use cim_keys::nats::resolver;
use cim_keys::nats::role;
use cim_keys::nats::target::Access;
use cim_keys_core::jwt::{
    Account, Body, Claims, Grant, Import, ShareKind, SigningKey, Token, Unknown, User, encode,
};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::serve::{API, APP, Service, ask, command_id, connect_user, new_user, user_key};
use cim_keys_tests::site::run;
use cim_keys_tests::wait::until;
use cim_keys_tests::wire::Client;
use serde_json::json;
use std::time::Duration;

/// Node and the page's packages are there where the page is built.
#[cfg(feature = "page")]
#[test]
fn a_client_in_javascript_gets_answers_and_errors_with_names() {
    use cim_keys_tests::program::fed;
    use cim_keys_tests::tools::workspace_root;
    use std::process::Command;

    let service = Service::start();
    let Access::Creds { token, key } = &*service.client.access else { panic!("creds") };
    let creds = cim_keys_core::creds::format(token, key).unwrap();
    let (one, two) = (user_key().public_key(), user_key().public_key());
    let soon = cim_keys::ambient::Ambient::system().now().seconds() + 600;
    let told = json!({
        "modules": workspace_root().join("www").join("package.json"),
        "url": service.server.websocket_url(),
        "creds": { "text": creds.expose(), "inbox": service.client.inbox_prefix },
        "api": API,
        "app": APP,
        "role": "worker",
        "command": { "create": command_id(), "issue": command_id(), "more": command_id() },
        "users": [one, two, soon],
    });
    let script = workspace_root().join("tests/tests/serve/nats.mjs");
    let mut node = Command::new("node");
    // Node 20 has it, behind a flag.
    node.arg("--experimental-websocket").arg(script);
    let said = fed(&mut node, told.to_string().as_bytes());
    assert_eq!(said.status, Some(0), "{said:?}\n{}", service.log());
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();

    assert_eq!(said["ping"][0]["type"], "io.nats.micro.v1.ping_response", "{said}");
    assert_eq!(said["ping"][0]["name"], "cim-keys", "{said}");
    let endpoints = said["info"][0]["endpoints"].as_array().unwrap();
    assert!(endpoints.iter().any(|endpoint| endpoint["subject"] == format!("{API}.user.create")), "{said}");
    let created = &said["created"];
    assert_eq!((&created["status"], &created["body"]["state"]), (&json!(200), &json!("confirmed")), "{said}");
    assert_eq!(said["again"]["body"]["jwt"], created["body"]["jwt"], "{said}");
    let token = Token::parse(created["body"]["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(token.claims().subject, one);
    let issued = Token::parse(said["issued"]["body"]["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(issued.claims().subject, two);
    for (name, status, code) in [
        ("other", 409, "id-taken"),
        ("nonsense", 400, "invalid-json"),
        ("unknown", 400, "invalid-request"),
        ("denied", 403, "denied"),
    ] {
        let answer = &said[name];
        assert_eq!(
            (&answer["status"], &answer["body"]["code"]),
            (&json!(status), &json!(code)),
            "{name}: {said}"
        );
        assert!(answer["error"].as_str().unwrap().starts_with(code), "{name}: {said}");
    }
    let stats = said["stats"][0]["endpoints"].as_array().unwrap();
    let create = stats.iter().find(|endpoint| endpoint["name"] == "user-create").unwrap();
    assert_eq!((&create["num_requests"], &create["num_errors"]), (&json!(5), &json!(3)), "{said}");
    assert!(said["refused"].as_str().unwrap().contains("Permissions Violation"), "{said}");
}

/// A token signed by a key of the site's.
fn signed(service: &Service, claims: &Claims) -> String {
    let unsigned = encode(claims).unwrap();
    let key = service.site.host.key(claims.issuer).unwrap();
    let signature = key.sign(unsigned.as_str().as_bytes()).unwrap();
    unsigned.with_signature(signature).unwrap().as_str().to_owned()
}

/// An account beside the registry's that imports the service, with a user of it; on the server.
fn stranger(service: &Service, share: bool) -> (PublicKey, Client) {
    let host = &service.site.host;
    let operator = host.store().registry_id().unwrap().operator;
    let Some(Entity::Operator(operator)) = host.entity(EntityId::Operator(operator)).unwrap() else {
        panic!()
    };
    let issuer = operator.token.claims().body.as_operator().unwrap().signing_keys[0];
    let keys = role::account(host, "KEYS").unwrap().key;
    let account = KeyPair::from_entropy(Kind::Account, host.ambient().entropy().unwrap());
    let import = |subject: &str| Import {
        name: subject.into(),
        share,
        ..Import::new(ShareKind::Service, keys, subject)
    };
    // Operators here want users to be signed by signing keys alone.
    let signing = KeyPair::from_entropy(Kind::Account, host.ambient().entropy().unwrap());
    let now = host.ambient().now().seconds();
    let base = Claims {
        audience: String::new(),
        expires: 0,
        issued_at: now,
        issuer,
        name: "STRANGER".into(),
        not_before: 0,
        subject: account.public_key(),
        body: Body::Account(Box::new(Account {
            imports: vec![import("cowboyai.security.keys-api.>"), import("$SRV.>")],
            signing_keys: [(signing.public_key(), SigningKey::Plain)].into(),
            ..Account::default()
        })),
        unknown: Unknown::default(),
    };
    let text = signed(service, &base);
    run(async {
        let link = service.site.link(PipelineRole::Resolver, &service.server.url()).await;
        let answers = resolver::update(&link, &text, 1).await.unwrap();
        assert_eq!(answers[0].refused, None);
    });
    let user = user_key();
    let unsigned = encode(&Claims {
        issuer: signing.public_key(),
        name: "somebody".into(),
        subject: user.public_key(),
        body: Body::User(User {
            issuer_account: Some(account.public_key()),
            grant: Grant::Own(Box::default()),
            tags: Vec::new(),
            unknown: Unknown::default(),
        }),
        ..base
    })
    .unwrap();
    let signature = signing.sign(unsigned.as_str().as_bytes()).unwrap();
    let token = unsigned.with_signature(signature).unwrap();
    let client = until("the stranger gets in", || connect_user(&service.server, token.as_str(), &user).ok());
    (account.public_key(), client)
}

#[test]
fn a_client_of_another_account_is_known_by_its_own_keys() {
    let mut service = Service::prepared(cim_keys_tests::tools::Version::Newest);
    let (account, mut client) = stranger(&service, true);
    let (_, mut nameless) = stranger(&service, false);
    let mut policy = service.all();
    policy["rules"][0]["from"] = json!({ "account": account, "users": ["*"] });
    service.policy(&policy);
    service.launch();
    let user = user_key().public_key();
    let made = ask(&mut client, "user.create", &new_user(command_id(), "alice", user));
    assert_eq!(made.status, 200, "{made:?}");
    let line = service.logged("request").pop().unwrap();
    assert_eq!(line["caller_account"], account.to_string(), "{line}");
    // Without share the server keeps the user to itself.
    let answer = ask(&mut nameless, "user.create", &new_user(command_id(), "bob", user));
    assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("caller-anonymous")), "{answer:?}");
    // Who made it stands in the event.
    let events = cim_keys_tests::serve::stored(&service, "KEYS_EVENTS");
    assert!(
        events.iter().any(|event| String::from_utf8_lossy(&event.payload).contains(&format!("@{account}"))),
        "the caller is the actor"
    );
}

#[test]
fn headers_that_no_library_would_write_stop_nobody_for_long() {
    let service = Service::start();
    let mut client = service.connect();
    let before = connections(&service);
    // The client library gives its connection up over some of these.
    for block in [
        "NATS/1.0\r\nNo Colon\r\n\r\n",
        "NATS/1.0\r\nWith Blank: x\r\n\r\n",
        "NATS/1.0\r\nNats-Request-Info : x\r\n\r\n",
        "NATS/1.0 nonsense\r\n\r\n",
        "NATS/1.0\r\n: x\r\n\r\n",
        "NATS/1.0\r\nX: \u{0}\r\n\r\n",
    ] {
        let inbox = format!("{}.raw", client.inbox_prefix());
        let frame = format!("HPUB {API}.user.create {inbox} {} {}\r\n{block}\r\n", block.len(), block.len());
        client.send(frame.as_bytes()).unwrap();
    }
    assert_eq!(client.settle().unwrap().1, [""; 0]);
    // What was on its way to a connection that was given up is lost: whoever asks asks again.
    let body = json!({ "command_id": command_id() }).to_string();
    let inbox = format!("{}.again", client.inbox_prefix());
    client.subscribe(&inbox).unwrap();
    let answer = until("it answers", || {
        client.publish(&format!("{API}.command.get"), Some(&inbox), &[], body.as_bytes()).unwrap();
        let answer = client.next(Duration::from_millis(500)).ok()?;
        (answer.status().is_none() && !answer.payload.is_empty()).then(|| answer.json())
    });
    assert_eq!(answer["code"], "unknown-command", "{answer}");
    assert!(connections(&service) >= before);
}

fn connections(service: &Service) -> u64 {
    let metrics = service.metrics();
    let line = metrics.lines().find(|line| line.starts_with("cim_keys_responder_connections_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default()
}
