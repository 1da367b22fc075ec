//! Messages as they stand on a real stream, read raw and judged without the core: by CloudEvents 1.0, RFC 7519 and the crate
//! `nkeys`.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use cim_keys_core::command::Command;
use cim_keys_core::jwt::UserRights;
use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::site::{Site, run};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// One stored message: sequence, subject, headers in order, payload.
struct Raw {
    subject: String,
    headers: Vec<(String, String)>,
    payload: String,
}

impl Raw {
    fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let value = &found.next().unwrap_or_else(|| panic!("{name} is missing")).1;
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }
}

/// Founds, makes an account and two users, changes and revokes one, publishes all, and reads it back raw.
fn stored() -> Vec<Raw> {
    let site = Site::found();
    let account = site.account("APP");
    let (alice, _) = site.user(account, "alice");
    let (bob, _) = site.user(account, "bob");
    site.run(Command::SetPermissions { account, user: bob, rights: UserRights::default() });
    site.run(Command::RevokeUser { account, user: alice });
    let server = site.server();
    run(async {
        site.streams(&server.url()).await;
        let summary = site.sync(&server.url()).await;
        let link = site.link(PipelineRole::Auditor, &server.url()).await;
        let mut messages = Vec::new();
        for sequence in 1..=summary.head {
            let subject = link.api("STREAM.MSG.GET.KEYS_EVENTS");
            let body = json!({ "seq": sequence }).to_string().into_bytes();
            let answer = link.ask(&subject, None, body, Duration::from_secs(5)).await.unwrap();
            messages.push(raw(&serde_json::from_slice(&answer.payload).unwrap()));
        }
        messages
    })
}

fn raw(answer: &Value) -> Raw {
    let message = &answer["message"];
    let text =
        |name: &str| String::from_utf8(Base64::decode_vec(message[name].as_str().unwrap()).unwrap()).unwrap();
    let block = text("hdrs");
    let mut lines = block.split("\r\n");
    assert_eq!(lines.next(), Some("NATS/1.0"));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("header line {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Raw { subject: message["subject"].as_str().unwrap().to_owned(), headers, payload: text("data") }
}

fn is_transport(name: &str) -> bool {
    name.starts_with("Nats-Expected-") || name.starts_with("Nats-Batch-")
}

#[test]
fn headers_and_payload_are_what_the_design_says() {
    let messages = stored();
    assert_eq!(
        messages.len(),
        21,
        "14 of the founding, 2 of the account, 2 users, 1 change, 2 of the revocation"
    );
    let given = ["operator.created", "account.created", "user.created", "key.generated", "user.revoked"];
    for operation in given {
        let subject = format!("cowboyai.security.keys.{operation}");
        assert!(messages.iter().any(|message| message.subject == subject), "{subject}");
    }
    let mut ids = std::collections::BTreeSet::new();
    for message in &messages {
        let own: Vec<&str> = message
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !is_transport(name))
            .collect();
        let mut sorted = own.clone();
        sorted.sort_unstable();
        let mut seven = [
            "CIM-Correlation-Id",
            "CIM-Causation-Id",
            "CIM-Event-Type",
            "CIM-Event-Id",
            "CIM-Timestamp",
            "CIM-Source",
            "Nats-Msg-Id",
        ];
        seven.sort_unstable();
        assert_eq!(sorted, seven);
        let payload: Value = serde_json::from_str(&message.payload).unwrap();
        cloud_event(&payload);

        let id = message.header("CIM-Event-Id");
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        assert_eq!(message.header("Nats-Msg-Id"), id);
        assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7);
        for (header, member) in [
            ("CIM-Event-Id", "id"),
            ("CIM-Event-Type", "type"),
            ("CIM-Timestamp", "time"),
            ("CIM-Source", "source"),
            ("CIM-Correlation-Id", "correlationid"),
            ("CIM-Causation-Id", "causationid"),
        ] {
            assert_eq!(payload[member], message.header(header), "{header}");
        }
        assert_eq!(message.header("CIM-Source"), "cim-keys");
        assert_eq!(message.subject, format!("cowboyai.security.{}", message.header("CIM-Event-Type")));
        assert_eq!(message.subject.split('.').count(), 5);
        for name in ["CIM-Correlation-Id", "CIM-Causation-Id"] {
            Uuid::parse_str(message.header(name)).unwrap();
        }
        // Milliseconds, UTC.
        let time = message.header("CIM-Timestamp");
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
        assert_eq!(payload["registryid"].as_str().unwrap().len(), 56);
        assert!(message.payload.contains(",\"signatures\":\""), "the last member");
    }
}

/// Required and optional attributes of CloudEvents 1.0, structured mode, JSON.
fn cloud_event(event: &Value) {
    let object = event.as_object().unwrap();
    assert_eq!(event["specversion"], "1.0");
    for name in ["id", "source", "type", "subject", "datacontenttype", "dataschema"] {
        assert!(event[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    assert_eq!(event["datacontenttype"], "application/json");
    assert!(event["data"].is_object());
    let known =
        ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"];
    for (name, value) in object {
        // Attribute names are lower-case letters and digits, at most 20 of them by recommendation; extensions are strings.
        let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) && name.len() <= 20;
        assert!(fits, "{name}");
        assert!(known.contains(&name.as_str()) || value.is_string(), "{name}");
    }
}

#[test]
fn tokens_put_together_verify_and_so_does_the_authority() {
    let messages = stored();
    let mut tokens = 0;
    let mut commands: Vec<Vec<&Raw>> = Vec::new();
    for message in &messages {
        let payload: Value = serde_json::from_str(&message.payload).unwrap();
        let signatures: Vec<&str> =
            payload["signatures"].as_str().unwrap().split('.').filter(|part| !part.is_empty()).collect();
        if let Some(signed) = payload["data"]["token"]["jwt"].as_str() {
            let claims = signed.split('.').nth(1).unwrap();
            let claims: Value =
                serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).unwrap()).unwrap();
            verify(claims["iss"].as_str().unwrap(), signed.as_bytes(), signatures[0]);
            assert_eq!(claims["sub"], payload["subject"]);
            tokens += 1;
        }
        let command = &payload["data"]["command"];
        if command["index"] == 0 {
            commands.push(Vec::new());
        }
        commands.last_mut().unwrap().push(message);
        if command["index"].as_u64().unwrap() + 1 == command["count"].as_u64().unwrap() {
            let draft = draft_hash(commands.last().unwrap());
            let signed = [b"cim-keys/command".as_slice(), &draft].concat();
            verify(command["authority"].as_str().unwrap(), &signed, signatures.last().unwrap());
        }
    }
    // Operator, four accounts, two users, a user's new token, an account's new token.
    assert_eq!((tokens, commands.len()), (9, 6));
}

fn verify(key: &str, signed: &[u8], signature: &str) {
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    nkeys::KeyPair::from_public_key(key).unwrap().verify(signed, &signature).unwrap();
}

/// SHA-256 over subject and payload without `signatures`, each behind its length in eight bytes.
fn draft_hash(messages: &[&Raw]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for message in messages {
        let (draft, _) = message.payload.rsplit_once(",\"signatures\":").unwrap();
        let draft = format!("{draft}}}");
        for piece in [message.subject.as_bytes(), draft.as_bytes()] {
            hasher.update((piece.len() as u64).to_be_bytes());
            hasher.update(piece);
        }
    }
    hasher.finalize().into()
}
