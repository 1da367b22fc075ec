//! Who is not known, or not as what it says, does not get in.

use cim_keys_core::command::Command;
use cim_keys_core::jwt::{Body, Claims, Grant, Token, User, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_core::registry::EntityId;
use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::identities::{Identities, Login};
use cim_keys_tests::pipeline::{Pipeline, serve};
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::json;

/// A token with these claims, signed by whom they name.
fn sign(claims: &Claims, signer: &KeyPair) -> Token {
    let unsigned = encode(claims).unwrap();
    let signature = signer.sign(unsigned.as_str().as_bytes()).unwrap();
    unsigned.with_signature(signature).unwrap()
}

/// The claims of a good host, to be changed.
struct Forge {
    identities: Identities,
    user: Login,
    claims: Claims,
}

impl Forge {
    fn new() -> Forge {
        let mut identities = Identities::found(1);
        let user = identities.role(PipelineRole::Host);
        let account = identities.role_keys(PipelineRole::Host).account;
        let id = EntityId::User { account, user: user.user() };
        let claims = identities.token(id).claims().clone();
        Forge { identities, user, claims }
    }

    /// The user with changed claims, signed by this key.
    fn by(&self, signer: &KeyPair, change: impl FnOnce(&mut Claims)) -> Login {
        let mut claims = Claims { issuer: signer.public_key(), ..self.claims.clone() };
        change(&mut claims);
        Login::new(&sign(&claims, signer), self.identities.pair(self.user.user()))
    }
}

fn user(claims: &mut Claims) -> &mut User {
    match &mut claims.body {
        Body::User(user) => user,
        other => panic!("no user: {other:?}"),
    }
}

#[test]
fn forged_and_foreign_users_are_refused() {
    let mut forge = Forge::new();
    let app = forge.identities.account("APP");
    let edge = forge.identities.role_keys(PipelineRole::Host);
    let stranger = KeyPair::from_entropy(Kind::Account, [77; 32]);
    let mut foreign = Identities::found(2);
    let foreign_host = foreign.role(PipelineRole::Host);
    let revoked = forge.identities.user(edge, "revoked", None, 0);
    let revoke = Command::RevokeUser { account: edge.account, user: revoked.user() };
    let signing = forge.identities.operator_signing();
    forge.identities.run(&revoke, signing).unwrap();
    let other = forge.identities.role(PipelineRole::Auditor);

    let pair = |key| forge.identities.pair(key);
    let role = pair(edge.signing);
    let now = forge.identities.now();
    let tamper = |text: String| Login::forged(&text, pair(forge.user.user()));
    let good = forge.by(role, |_| {});
    let good_text = sign(&forge.claims, role).as_str().to_owned();
    let (signed, signature) = good_text.rsplit_once('.').unwrap();
    let (other_signed, _) = forge_text(&forge, role);

    let rows: [(&str, Login); 16] = [
        ("a user of another operator", foreign_host),
        ("by a key that is no account's here", forge.by(&stranger, |_| {})),
        ("by that key, for itself", forge.by(&stranger, |c| user(c).issuer_account = None)),
        ("by another account's key", forge.by(pair(app.signing), |_| {})),
        ("by the account's identity key, in strict mode", forge.by(pair(edge.account), |_| {})),
        ("by it, as its own issuer", forge.by(pair(edge.account), |c| user(c).issuer_account = None)),
        (
            "for an account that does not list the key",
            forge.by(role, |c| {
                user(c).issuer_account = Some(app.account);
            }),
        ),
        ("without an account", forge.by(role, |c| user(c).issuer_account = None)),
        (
            "by a scoped key, with rights of its own",
            forge.by(role, |c| {
                user(c).grant = Grant::Own(Box::default());
            }),
        ),
        (
            "by a scoped key, with one permission",
            forge.by(role, |c| {
                let mut rights = UserRights::zero();
                rights.publish.allow = vec!["cowboyai.security.keys.>".into()];
                user(c).grant = Grant::Own(Box::new(rights));
            }),
        ),
        (
            "by a scoped key, as a bearer",
            forge.by(role, |c| {
                user(c).grant = Grant::Own(Box::new(UserRights { bearer_token: true, ..UserRights::zero() }));
            }),
        ),
        ("expired", forge.by(role, |c| c.expires = now)),
        ("not yet valid", forge.by(role, |c| c.not_before = now + 10 * 365 * 86_400)),
        ("revoked", revoked),
        ("another's token", Login::forged(&good_text, pair(other.user()))),
        ("another's signature", tamper(format!("{other_signed}.{signature}"))),
    ];

    let server = serve(&forge.identities);
    for (what, login) in rows {
        let refused = login.connect(server.address()).expect_err(what).to_string();
        assert!(refused.contains("Authorization Violation"), "{what}: {refused}");
    }
    // What they are forged from gets in, and so does the text put together again.
    good.connect(server.address()).unwrap();
    tamper(format!("{signed}.{signature}")).connect(server.address()).unwrap();
}

/// Another payload by the same key.
fn forge_text(forge: &Forge, role: &KeyPair) -> (String, String) {
    let mut claims = forge.claims.clone();
    claims.name = "somebody".into();
    let text = sign(&claims, role).as_str().to_owned();
    let (signed, signature) = text.rsplit_once('.').unwrap();
    (signed.to_owned(), signature.to_owned())
}

#[test]
fn who_proves_nothing_is_refused() {
    let pipeline = Pipeline::start();
    let address = pipeline.server.address();
    let token = |role: PipelineRole| {
        let account = pipeline.identities.role_keys(role).account;
        let id = EntityId::User { account, user: pipeline.login(role).user() };
        pipeline.identities.token(id).as_str().to_owned()
    };
    let host = token(PipelineRole::Host);
    let key = pipeline.login(PipelineRole::Host).user().to_string();
    for (what, members) in [
        ("nothing", json!({})),
        ("a token without a signature", json!({ "jwt": host })),
        ("an empty signature", json!({ "jwt": host, "sig": "" })),
        ("a signature over something else", json!({ "jwt": host, "sig": "A".repeat(86) })),
        ("a public key", json!({ "nkey": key })),
        ("a name and a password", json!({ "user": "host", "pass": "host" })),
        ("a token that is none", json!({ "jwt": "eyJ", "sig": "" })),
        ("the old way", json!({ "auth_token": host })),
    ] {
        let refused = Client::connect_with(address, |_| members).expect_err(what).to_string();
        assert!(refused.contains("Authorization Violation"), "{what}: {refused}");
    }
}

#[test]
fn a_user_that_expires_while_connected_is_cut_off() {
    let forge = Forge::new();
    let edge = forge.identities.role_keys(PipelineRole::Host);
    // The registry is an hour old: two seconds from now.
    let soon = forge.identities.now() + 3600 + 2;
    let login = forge.by(forge.identities.pair(edge.signing), |claims| claims.expires = soon);
    let server = serve(&forge.identities);
    let mut client = login.connect(server.address()).unwrap();
    let said = client.next(wait::PATIENCE).unwrap_err().to_string();
    assert!(said.contains("User Authentication Expired"), "{said}");
    // In the second of the expiry itself the server may let it in once more, to cut it off at once.
    wait::until("an expired user is refused", || {
        let refused = login.connect(server.address()).err()?.to_string();
        refused.contains("Authorization Violation").then_some(())
    });
}
