//! Key, user JWT and creds on one core: the core against the plain `nkeys` crate with `serde_json`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cim_keys_core::creds;
use cim_keys_core::jwt::{Body, Claims, Grant, PermissionList, Unknown, User, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::secret::SecretText;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPairType;
use serde::Serialize;
use sha2::{Digest as _, Sha256, Sha512_256};

use super::rounds::Pair;

const ISSUED_AT: i64 = 1_795_423_807;
const NAME: &str = "sensor-0042";
const PUBLISH: [&str; 2] = ["plant.line.*.temperature", "plant.line.*.alarm"];
const SUBSCRIBE: [&str; 1] = ["plant.line.*.orders"];

/// Entropy of the account and of the key that signs for it.
const ACCOUNT: [u8; 32] = [2; 32];
const SIGNER: [u8; 32] = [5; 32];

/// Measures both ways in turns, `count` users a round.
///
/// # Panics
/// When they do not give the same bytes: then they do not do the same work.
pub fn measure(count: usize, rounds: usize) -> Pair {
    let core = Core::new();
    let plain = Plain::new();
    let draws: Vec<[u8; 32]> = (0..count.max(1) as u64).map(entropy).collect();
    assert_eq!(core.mint(draws[0]).expose(), plain.mint(draws[0]), "both ways make the same creds");
    Pair::measure(
        rounds,
        || timed(&draws, |draw| drop(black_box(core.mint(draw)))),
        || timed(&draws, |draw| drop(black_box(plain.mint(draw)))),
    )
}

fn timed(draws: &[[u8; 32]], mut mint: impl FnMut([u8; 32])) -> (Duration, usize) {
    let start = Instant::now();
    draws.iter().for_each(|draw| mint(black_box(*draw)));
    (start.elapsed(), draws.len())
}

/// Different for each number, and no secret.
fn entropy(number: u64) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

/// The core's way.
struct Core {
    account: PublicKey,
    signer: KeyPair,
    rights: UserRights,
}

impl Core {
    fn new() -> Core {
        let list = |subjects: &[&str]| PermissionList {
            allow: subjects.iter().map(ToString::to_string).collect(),
            ..PermissionList::default()
        };
        Core {
            account: KeyPair::from_entropy(Kind::Account, ACCOUNT).public_key(),
            signer: KeyPair::from_entropy(Kind::Account, SIGNER),
            rights: UserRights {
                publish: list(&PUBLISH),
                subscribe: list(&SUBSCRIBE),
                ..UserRights::default()
            },
        }
    }

    fn mint(&self, entropy: [u8; 32]) -> SecretText {
        let key = KeyPair::from_entropy(Kind::User, entropy);
        let user = User {
            issuer_account: Some(self.account),
            grant: Grant::Own(Box::new(self.rights.clone())),
            tags: Vec::new(),
            unknown: Unknown::default(),
        };
        let claims = Claims {
            audience: String::new(),
            expires: 0,
            issued_at: ISSUED_AT,
            issuer: self.signer.public_key(),
            name: NAME.to_owned(),
            not_before: 0,
            subject: key.public_key(),
            body: Body::User(user),
            unknown: Unknown::default(),
        };
        let unsigned = encode(&claims).expect("claims that can be written");
        let token = unsigned.sign(&self.signer).expect("the issuer's key");
        creds::format(&token, &key).expect("the token's key")
    }
}

/// The way of a program that knows only the `nkeys` crate.
struct Plain {
    account: String,
    signer: nkeys::KeyPair,
}

#[derive(Serialize)]
struct PlainClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    iat: i64,
    iss: String,
    name: &'a str,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<PlainUser<'a>>,
}

#[derive(Serialize)]
struct PlainUser<'a> {
    r#pub: PlainList<'a>,
    sub: PlainList<'a>,
    subs: i64,
    data: i64,
    payload: i64,
    issuer_account: &'a str,
    r#type: &'a str,
    version: i64,
}

#[derive(Serialize)]
struct PlainList<'a> {
    allow: &'a [&'a str],
}

impl Plain {
    fn new() -> Plain {
        let key = |raw| nkeys::KeyPair::new_from_raw(KeyPairType::Account, raw).expect("32 bytes");
        Plain { account: key(ACCOUNT).public_key(), signer: key(SIGNER) }
    }

    fn mint(&self, entropy: [u8; 32]) -> String {
        let key = nkeys::KeyPair::new_from_raw(KeyPairType::User, entropy).expect("32 bytes");
        let mut claims = PlainClaims {
            jti: None,
            iat: ISSUED_AT,
            iss: self.signer.public_key(),
            name: NAME,
            sub: key.public_key(),
            nats: None,
        };
        let head = serde_json::to_vec(&claims).expect("plain data");
        // Of everything but itself and the body.
        claims.jti = Some(BASE32_NOPAD.encode(&Sha512_256::digest(&head)));
        claims.nats = Some(PlainUser {
            r#pub: PlainList { allow: &PUBLISH },
            sub: PlainList { allow: &SUBSCRIBE },
            subs: -1,
            data: -1,
            payload: -1,
            issuer_account: &self.account,
            r#type: "user",
            version: 2,
        });
        let payload = serde_json::to_vec(&claims).expect("plain data");
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let mut token = format!("{header}.{}", BASE64URL_NOPAD.encode(&payload));
        let signature = self.signer.sign(token.as_bytes()).expect("a key that signs");
        token.push('.');
        token.push_str(&BASE64URL_NOPAD.encode(&signature));
        let seed = key.seed().expect("a key with a seed");
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\
             NKEYs are sensitive and should be treated as secrets.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }
}
