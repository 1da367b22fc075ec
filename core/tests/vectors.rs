//! Tokens made by the Go library, byte for byte.

use cim_keys_core::jwt::{Body, DecodeError, Grant, Token, encode};
use cim_keys_core::nkey::{KeyPair, PublicKey};

const VECTORS: &str = include_str!("data/nats-jwt.json");

struct Vector {
    name: String,
    seed: String,
    payload: String,
    jti: String,
    token: String,
}

fn vectors() -> Vec<Vector> {
    let file: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let text = |vector: &serde_json::Value, name: &str| vector[name].as_str().unwrap().to_owned();
    file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| Vector {
            name: text(vector, "name"),
            seed: text(vector, "signer_seed"),
            payload: text(vector, "payload_json"),
            jti: text(vector, "jti"),
            token: text(vector, "token"),
        })
        .collect()
}

const SUPPORTED: [&str; 5] =
    ["operator_full", "account_default", "account_full", "user_default", "user_scoped"];

#[test]
fn tokens_are_decoded_and_encoded_to_the_same_bytes() {
    let mut seen = 0;
    for vector in vectors().into_iter().filter(|vector| SUPPORTED.contains(&vector.name.as_str())) {
        let token = Token::parse(&vector.token).unwrap();
        assert_eq!(token.unsigned().jti(), vector.jti);
        let unsigned = encode(token.claims()).unwrap();
        assert_eq!(unsigned.as_str(), token.unsigned().as_str(), "{}", vector.name);
        assert_eq!(unsigned.claims(), token.claims());
        assert_eq!(unsigned.jti(), vector.jti);
        let signer = KeyPair::from_seed(&vector.seed).unwrap();
        assert_eq!(signer.public_key(), token.claims().issuer);
        let signature = signer.sign(unsigned.as_str().as_bytes()).unwrap();
        assert_eq!(unsigned.with_signature(signature).unwrap().as_str(), vector.token);
        seen += 1;
    }
    assert_eq!(seen, SUPPORTED.len());
}

#[test]
fn claims_survive_storage() {
    for vector in vectors().into_iter().filter(|vector| SUPPORTED.contains(&vector.name.as_str())) {
        let token = Token::parse(&vector.token).unwrap();
        let stored = serde_json::to_string(token.claims()).unwrap();
        let read: cim_keys_core::jwt::Claims = serde_json::from_str(&stored).unwrap();
        assert_eq!(&read, token.claims());
        let stored = serde_json::to_string(&token.claims().body).unwrap();
        assert_eq!(serde_json::from_str::<Body>(&stored).unwrap(), token.claims().body);
        let stored = serde_json::to_string(&token).unwrap();
        assert_eq!(serde_json::from_str::<Token>(&stored).unwrap(), token);
        assert_eq!(stored, format!("\"{}\"", vector.token));
        // A payload is readable as it stands, whatever its jti.
        assert_eq!(
            &serde_json::from_str::<cim_keys_core::jwt::Claims>(&vector.payload).unwrap(),
            token.claims()
        );
    }
}

#[test]
fn other_kinds_are_refused_by_name() {
    for vector in vectors().into_iter().filter(|vector| !SUPPORTED.contains(&vector.name.as_str())) {
        assert_eq!(Token::parse(&vector.token).unwrap_err(), DecodeError::Type, "{}", vector.name);
    }
}

#[test]
fn what_the_vectors_say_is_read() {
    let all = vectors();
    let claims = |name: &str| {
        let vector = all.iter().find(|vector| vector.name == name).unwrap();
        Token::parse(&vector.token).unwrap().claims().clone()
    };
    let user = claims("user_default");
    assert_eq!(user.body.as_user().unwrap().grant, Grant::Own(Box::default()));
    let scoped = claims("user_scoped");
    assert_eq!(scoped.body.as_user().unwrap().grant, Grant::Scoped);
    assert_eq!(scoped.body.as_user().unwrap().tags, ["team:blue"]);
    let full = claims("account_full");
    let account = full.body.as_account().unwrap();
    let key: PublicKey = "ADFJHLAXAUMHA4OWPOB4P7YO72AQR2HMIUYFOXLXE2DZGM633K7HZVXK".parse().unwrap();
    let scope = account.signing_keys[&key].scope().unwrap();
    assert_eq!(scope.role, "svc");
    assert_eq!(scope.template.publish.allow, ["p.{{name()}}.>"]);
    assert_eq!(account.limits.conn, 100);
    assert_eq!(claims("account_default").body.as_account().unwrap(), &Default::default());
}

#[test]
fn each_changed_character_of_a_token_is_noticed() {
    for vector in vectors().into_iter().filter(|vector| SUPPORTED.contains(&vector.name.as_str())) {
        // Every place of the signature and the header, and a sample of the payload's.
        let long = vector.token.len();
        for at in (0..long).filter(|at| *at < 60 || *at > long - 90 || at % 7 == 0) {
            for to in ["A", "_", ".", "=", "\n", " ", "é"] {
                if &vector.token[at..=at] == to {
                    continue;
                }
                let changed = format!("{}{to}{}", &vector.token[..at], &vector.token[at + 1..]);
                assert!(Token::parse(&changed).is_err(), "{} {at} {to:?}", vector.name);
            }
        }
        for end in [0, 1, 47, 48, 49, long - 87, long - 86, long - 1] {
            assert!(Token::parse(&vector.token[..end]).is_err());
        }
        for changed in [
            format!("{}\n", vector.token),
            format!(" {}", vector.token),
            format!("{}=", vector.token),
            format!("{}.", vector.token),
        ] {
            assert!(Token::parse(&changed).is_err());
        }
    }
}
