//! The envelope and the JSON of claims: strict on the way in, Go's bytes on the way out.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding};
use proptest::prelude::*;

use super::*;
use crate::nkey::{KeyError, KeyPair, Kind, PublicKey, Signature, SignatureError};

fn pair(kind: Kind, value: u8) -> KeyPair {
    KeyPair::from_entropy(kind, [value; 32])
}

fn key(kind: Kind, value: u8) -> PublicKey {
    pair(kind, value).public_key()
}

fn claims(issuer: PublicKey, subject: PublicKey, body: Body) -> Claims {
    Claims {
        audience: String::new(),
        expires: 0,
        issued_at: 1_795_423_807,
        issuer,
        name: "n".to_string(),
        not_before: 0,
        subject,
        body,
        unknown: Unknown::default(),
    }
}

fn account_claims(account: Account) -> Claims {
    claims(key(Kind::Operator, 1), key(Kind::Account, 2), Body::Account(Box::new(account)))
}

fn user_claims(user: User) -> Claims {
    claims(key(Kind::Account, 2), key(Kind::User, 3), Body::User(user))
}

fn own(rights: UserRights) -> User {
    User { grant: Grant::Own(Box::new(rights)), ..User::default() }
}

fn payload(unsigned: &Unsigned) -> String {
    let part = unsigned.as_str().split('.').nth(1).unwrap();
    String::from_utf8(Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
}

/// `header.payload` of any text.
fn wrap(payload: &str) -> String {
    let header = Base64UrlUnpadded::encode_string(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    format!("{header}.{}", Base64UrlUnpadded::encode_string(payload.as_bytes()))
}

fn read(payload: &str) -> Result<Unsigned, DecodeError> {
    Unsigned::parse(&wrap(payload))
}

/// The payload of a token with this `nats` object.
fn with_nats(issuer: Kind, subject: Kind, nats: &str) -> String {
    let (issuer, subject) = (key(issuer, 2), key(subject, 3));
    format!(r#"{{"jti":"x","iat":1,"iss":"{issuer}","name":"n","sub":"{subject}","nats":{nats}}}"#)
}

fn user_nats(members: &str) -> Result<Unsigned, DecodeError> {
    read(&with_nats(Kind::Account, Kind::User, &format!(r#"{{{members}"type":"user","version":2}}"#)))
}

fn account_nats(members: &str) -> Result<Unsigned, DecodeError> {
    read(&with_nats(Kind::Operator, Kind::Account, &format!(r#"{{{members}"type":"account","version":2}}"#)))
}

fn not(member: &str, expected: &'static str) -> DecodeError {
    DecodeError::Member { member: member.to_string(), expected }
}

#[test]
fn strings_are_escaped_as_go_does() {
    let mut claims = user_claims(own(UserRights::default()));
    claims.name = "a<b>&\u{2028}\u{2029}\u{8}\u{c}\u{1}\n\"\\é".to_string();
    let unsigned = encode(&claims).unwrap();
    assert!(
        payload(&unsigned).contains(r#""name":"a\u003cb\u003e\u0026\u2028\u2029\b\f\u0001\n\"\\é","sub""#)
    );
    assert_eq!(unsigned.claims(), &claims);
    // Reckoned by hand: base32(SHA-512/256) of the standard claims, with the same escapes.
    assert_eq!(unsigned.jti(), "2O4IKDBHI6MDALW36Y4UVYOLGOOPXJM6VU6H66AYNA5YWVVAXNTA");
}

#[test]
fn exports_and_imports_are_sorted_and_keep_their_order_otherwise() {
    let export = |subject: &str, name: &str| Export {
        name: name.to_string(),
        ..Export::new(ShareKind::Stream, subject)
    };
    let import = |subject: &str| Import::new(ShareKind::Service, key(Kind::Account, 6), subject);
    let account = Account {
        exports: vec![export("b", "1"), export("a", "2"), export("b", "0"), export(">", "3")],
        imports: vec![import("y"), import("x")],
        ..Account::default()
    };
    let unsigned = encode(&account_claims(account)).unwrap();
    let account = unsigned.claims().body.as_account().unwrap();
    let names: Vec<_> = account.exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!(names, ["3", "2", "1", "0"]);
    assert_eq!(account.imports[0].subject, "x");
}

#[test]
fn signing_keys_are_in_the_order_of_their_text() {
    let keys: Vec<_> = (0..40).map(|value| key(Kind::Account, value)).collect();
    let account = Account {
        signing_keys: keys.iter().map(|key| (*key, SigningKey::Plain)).collect(),
        ..Account::default()
    };
    let text = payload(&encode(&account_claims(account)).unwrap());
    let list = text.split(r#""signing_keys":["#).nth(1).unwrap().split(']').next().unwrap();
    let written: Vec<_> = list.split(',').collect();
    assert_eq!(written.len(), 40);
    assert!(written.is_sorted());
}

#[test]
fn absent_limits_are_zero_except_in_a_template() {
    let unsigned = user_nats(r#""pub":{},"sub":{},"payload":7,"#).unwrap();
    let rights = unsigned.claims().body.as_user().unwrap().grant.rights().unwrap().clone();
    assert_eq!((rights.subs, rights.data, rights.payload), (0, 0, 7));
    let scope_key = key(Kind::Account, 4);
    let scope = format!(
        r#""signing_keys":[{{"kind":"user_scope","key":"{scope_key}","template":{{"data":5,"subs":null}}}}],"#
    );
    let unsigned = account_nats(&scope).unwrap();
    let account = unsigned.claims().body.as_account().unwrap();
    let template = &account.signing_keys[&scope_key].scope().unwrap().template;
    assert_eq!((template.subs, template.data, template.payload), (-1, 5, -1));
    assert_eq!(account.limits, AccountLimits::zero());
    let no_template = format!(r#""signing_keys":[{{"kind":"user_scope","key":"{scope_key}"}}],"#);
    let unsigned = account_nats(&no_template).unwrap();
    let account = unsigned.claims().body.as_account().unwrap();
    assert_eq!(account.signing_keys[&scope_key].scope().unwrap().template, UserRights::default());
}

#[test]
fn networks_are_read_as_a_list_and_as_one_string() {
    let src = |json: &str| {
        let unsigned = user_nats(&format!(r#""subs":-1,"src":{json},"#)).unwrap();
        unsigned.claims().body.as_user().unwrap().grant.rights().unwrap().src.clone()
    };
    assert_eq!(src(r#"["10.0.0.0/8","::1/128"]"#), ["10.0.0.0/8", "::1/128"]);
    assert_eq!(src(r#"" 10.0.0.0/8, FE80::/10,,10.0.0.0/8 ""#), ["10.0.0.0/8", "fe80::/10"]);
    assert!(src(r#""""#).is_empty() && src("null").is_empty());
    assert_eq!(user_nats(r#""src":7,"#).unwrap_err(), not("nats.src", "an array"));
}

#[test]
fn tiers_take_the_place_of_flat_limits() {
    let unsigned = account_nats(
        r#""limits":{"conn":1,"disk_storage":5,"streams":2,"tiered_limits":{"R3":{"disk_storage":9},"R1":{}}},"#,
    )
    .unwrap();
    let limits = &unsigned.claims().body.as_account().unwrap().limits;
    assert_eq!((limits.conn, limits.disk_storage, limits.streams), (1, 0, 0));
    assert!(limits.has_jetstream());
    let again = payload(&encode(unsigned.claims()).unwrap());
    assert!(again.contains(r#""limits":{"conn":1,"tiered_limits":{"R1":{},"R3":{"disk_storage":9}}}"#));
}

#[test]
fn unknown_members_survive_an_edit_at_every_level() {
    let account = key(Kind::Account, 4);
    let exporter = key(Kind::Account, 6);
    let perms = r#"{"allow":["a"],"new":1}"#;
    let nats = format!(
        concat!(
            r#"{{"imports":[{{"subject":"s","account":"{e}","type":"stream","new":[1.50]}}],"#,
            r#""exports":[{{"subject":"s","type":"service","service_latency":{{"sampling":50,"results":"r","new":1}},"new":{{"b":1,"a":null}}}}],"#,
            r#""limits":{{"subs":-1,"tiered_limits":{{"R1":{{"streams":1,"new":true}}}},"new":1e400}},"#,
            r#""signing_keys":[{{"kind":"user_scope","key":"{a}","role":"","template":{{"pub":{p},"sub":{{}},"resp":{{"max":0,"ttl":0,"new":1}},"times":[{{"start":"a","new":1}}],"subs":-1,"data":-1,"payload":-1,"new":1}},"description":"","new":1}}],"#,
            r#""default_permissions":{{"pub":{p},"sub":{{}},"new":1}},"#,
            r#""mappings":{{"m":[{{"subject":"n","new":1}}]}},"authorization":{{"new":1}},"trace":{{"dest":"d","new":1}},"#,
            r#""new":"nats","type":"account","version":2}}"#
        ),
        e = exporter,
        a = account,
        p = perms
    );
    let text =
        with_nats(Kind::Operator, Kind::Account, &nats).replace(r#","nats":"#, r#","new":"top","nats":"#);
    let unsigned = read(&text).unwrap();
    let mut edited = unsigned.claims().clone();
    edited.name = "edited".to_string();
    let again = payload(&encode(&edited).unwrap());
    let tail = |text: &str| text.split(r#","new":"top""#).nth(1).unwrap().to_string();
    // Inside an unknown object, members come in the order of their names.
    assert_eq!(tail(&again), tail(&text).replace(r#"{"b":1,"a":null}"#, r#"{"a":null,"b":1}"#));
    let count = |text: &str| text.matches(r#""new":"#).count();
    assert_eq!((count(&text), count(&again)), (17, 17));
    assert!(again.contains(r#""name":"edited""#));

    let user = user_nats(r#""pub":{"new":1},"sub":{},"new":1,"#).unwrap();
    assert!(payload(&encode(user.claims()).unwrap()).contains(r#"{"pub":{"new":1},"sub":{},"new":1,"type""#));
    let operator = r#"{"new":{},"type":"operator","version":2}"#;
    let operator = read(&with_nats(Kind::Operator, Kind::Operator, operator)).unwrap();
    assert!(payload(&encode(operator.claims()).unwrap()).contains(r#""nats":{"new":{},"type":"operator""#));
}

#[test]
fn members_twice_or_in_another_case_are_refused() {
    let twice = |member: &str| Err(DecodeError::DuplicateMember { member: member.to_string() });
    let shadowed = |member: &str| Err(DecodeError::ShadowedMember { member: member.to_string() });
    assert_eq!(user_nats(r#""subs":1,"subs":1,"#), twice("subs"));
    assert_eq!(user_nats(r#""new":{"a":1,"a":2},"#), twice("a"));
    // A Go reader would take these for `subs` and `bearer_token`.
    assert_eq!(user_nats(r#""subs":1,"Subs":-1,"#), shadowed("nats.Subs"));
    assert_eq!(user_nats(r#""BEARER_TO\u212aEN":true,"#), shadowed("nats.BEARER_TO\u{212a}EN"));
    assert_eq!(user_nats(r#""\u017fubs":1,"#), shadowed("nats.\u{17f}ubs"));
    assert_eq!(user_nats(r#""pub":{"Allow":["a"]},"#), shadowed("nats.pub.Allow"));
    let text = with_nats(Kind::Account, Kind::User, r#"{"type":"user","version":2}"#);
    assert_eq!(read(&text.replace(r#""iat":1"#, r#""iat":1,"EXP":5"#)), shadowed("EXP"));
    assert_eq!(read(&text.replace(r#""iat":1"#, r#""iat":1,"iat":1"#)), twice("iat"));
}

#[test]
fn wrong_types_are_refused_with_their_place() {
    const INTEGER: &str = "an integer of 64 bits";
    for (members, error) in [
        (r#""subs":"1","#, not("nats.subs", INTEGER)),
        (r#""subs":1.0,"#, not("nats.subs", INTEGER)),
        (r#""subs":1e2,"#, not("nats.subs", INTEGER)),
        (r#""subs":9223372036854775808,"#, not("nats.subs", INTEGER)),
        (r#""pub":[],"#, not("nats.pub", "an object")),
        (r#""pub":{"allow":"a"},"#, not("nats.pub.allow", "an array")),
        (r#""pub":{"allow":["a",1]},"#, not("nats.pub.allow[1]", "a string")),
        (r#""pub":{"allow":[null]},"#, not("nats.pub.allow[0]", "a string")),
        (r#""bearer_token":1,"#, not("nats.bearer_token", "true or false")),
        (r#""resp":"","#, not("nats.resp", "an object")),
        (r#""tags":{},"#, not("nats.tags", "an array")),
    ] {
        assert_eq!(user_nats(members).unwrap_err(), error);
    }
    for (members, error) in [
        (r#""limits":{"conn":"1"},"#, not("nats.limits.conn", INTEGER)),
        (
            r#""mappings":{"m":[{"subject":"n","weight":256}]},"#,
            not("nats.mappings.m[0].weight", "a number from 0 to 255"),
        ),
        (r#""cluster_traffic":"else","#, not("nats.cluster_traffic", "one of \"\" \"system\" \"owner\"")),
        (
            r#""exports":[{"subject":"s"}],"#,
            DecodeError::Missing { member: "nats.exports[0].type".to_string() },
        ),
        (
            r#""exports":[{"subject":"s","type":"x"}],"#,
            not("nats.exports[0].type", "one of \"stream\" \"service\""),
        ),
        (
            r#""imports":[{"subject":"s","type":"stream"}],"#,
            DecodeError::Missing { member: "nats.imports[0].account".to_string() },
        ),
        (
            r#""signing_keys":["x"],"#,
            DecodeError::Key {
                member: "nats.signing_keys[0]".to_string(),
                error: KeyError::Length { expected: 56, found: 1 },
            },
        ),
        (r#""signing_keys":[{"kind":"other"}],"#, not("nats.signing_keys[0].kind", "\"user_scope\"")),
        (
            r#""exports":[{"subject":"s","type":"service","service_latency":{"sampling":101,"results":"r"}}],"#,
            not("nats.exports[0].service_latency.sampling", "a percentage from 1 to 100, or \"headers\""),
        ),
    ] {
        assert_eq!(account_nats(members).unwrap_err(), error);
    }
}

#[test]
fn keys_of_the_wrong_kind_are_refused() {
    let user = key(Kind::User, 9);
    let wrong = |member: &str, expected| DecodeError::Key {
        member: member.to_string(),
        error: KeyError::WrongKind { expected, found: Kind::User },
    };
    let account = |members: String| account_nats(&members).unwrap_err();
    assert_eq!(account(format!(r#""signing_keys":["{user}"],"#)), wrong("nats.signing_keys", Kind::Account));
    assert_eq!(
        account(format!(r#""authorization":{{"xkey":"{user}"}},"#)),
        wrong("nats.authorization.xkey", Kind::Curve)
    );
    assert_eq!(
        user_nats(&format!(r#""issuer_account":"{user}","#)).unwrap_err(),
        wrong("nats.issuer_account", Kind::Account)
    );
    let twice = key(Kind::Account, 4);
    assert_eq!(
        account(format!(r#""signing_keys":["{twice}",{{"kind":"user_scope","key":"{twice}"}}],"#)),
        not("nats.signing_keys[1]", "each key once")
    );
    // Encoding refuses what decoding would.
    let operator = Operator { signing_keys: vec![user], ..Operator::default() };
    let operator = claims(key(Kind::Operator, 1), key(Kind::Operator, 1), Body::Operator(operator));
    assert_eq!(encode(&operator), Err(ClaimsError::Unreadable(wrong("nats.signing_keys", Kind::Operator))));
}

#[test]
fn versions_types_issuers_and_subjects_are_checked() {
    let nats = |nats: &str| read(&with_nats(Kind::Account, Kind::User, nats)).unwrap_err();
    for (version, found) in [("1", 1), ("3", 3), ("0", 0), ("null", 0)] {
        assert_eq!(
            nats(&format!(r#"{{"type":"user","version":{version}}}"#)),
            DecodeError::Version { found }
        );
    }
    assert_eq!(nats(r#"{"type":"user"}"#), DecodeError::Version { found: 0 });
    assert_eq!(nats(r#"{"version":2}"#), DecodeError::Type);
    assert_eq!(nats(r#"{"type":"User","version":2}"#), DecodeError::Type);
    assert_eq!(nats("null"), DecodeError::Missing { member: "nats".to_string() });
    assert_eq!(nats("[]"), not("nats", "an object"));
    for (kind, subject, issuers) in [
        ("operator", Kind::Operator, &[Kind::Operator][..]),
        ("account", Kind::Account, &[Kind::Operator, Kind::Account]),
        ("user", Kind::User, &[Kind::Account]),
    ] {
        let nats = format!(r#"{{"type":"{kind}","version":2}}"#);
        for other in Kind::ALL {
            let issued = read(&with_nats(other, subject, &nats));
            assert_eq!(issued.is_ok(), issuers.contains(&other), "{kind} by {other}");
            if let Err(error) = issued {
                assert_eq!(error, DecodeError::IssuerKind { found: other });
            }
            if other != subject {
                let error = read(&with_nats(issuers[0], other, &nats)).unwrap_err();
                assert_eq!(error, DecodeError::SubjectKind { expected: subject, found: other });
            }
        }
    }
    let claims = claims(key(Kind::User, 1), key(Kind::User, 3), Body::User(own(UserRights::default())));
    assert_eq!(encode(&claims), Err(ClaimsError::IssuerKind { found: Kind::User }));
}

#[test]
fn envelopes_are_exact() {
    let good = with_nats(Kind::Account, Kind::User, r#"{"type":"user","version":2}"#);
    let text = wrap(&good);
    assert!(Unsigned::parse(&text).is_ok());
    let (_, part) = text.split_once('.').unwrap();
    for header in [
        r#"{"alg":"ed25519-nkey","typ":"JWT"}"#,
        r#"{"typ":"JWT","alg":"ed25519"}"#,
        r#"{"typ":"JWT","alg":"none"}"#,
        "",
    ] {
        let header = Base64UrlUnpadded::encode_string(header.as_bytes());
        assert_eq!(Unsigned::parse(&format!("{header}.{part}")), Err(DecodeError::Header));
    }
    for (text, error) in [
        (String::new(), DecodeError::Parts { expected: 2, found: 1 }),
        (format!("{text}."), DecodeError::Parts { expected: 2, found: 3 }),
        (format!("{text}\n"), DecodeError::Encoding),
        (format!(" {text}"), DecodeError::Header),
        (format!("{text}="), DecodeError::Encoding),
        (text.replace('.', ".\n"), DecodeError::Encoding),
    ] {
        assert_eq!(Unsigned::parse(&text), Err(error));
    }
    let header = text.split('.').next().unwrap();
    let not_utf8 = Base64UrlUnpadded::encode_string(&[0xff, 0xfe]);
    assert_eq!(Unsigned::parse(&format!("{header}.{not_utf8}")), Err(DecodeError::Encoding));
    assert!(matches!(read("{}x"), Err(DecodeError::Json { at: 2 })));
    assert!(matches!(read(&format!("{good}{good}")), Err(DecodeError::Json { .. })));
    assert_eq!(read("7"), Err(not("", "an object")));
    // White space inside the payload is JSON's affair, and the token keeps it.
    let spaced = wrap(&format!(" {good}\n"));
    assert_eq!(Unsigned::parse(&spaced).unwrap().as_str(), spaced);
}

#[test]
fn size_and_depth_are_bounded() {
    let of_size = |bytes: usize| {
        let filler = "x".repeat(bytes);
        user_nats(&format!(r#""new":"{filler}","#))
    };
    assert!(of_size(700_000).is_ok());
    assert!(matches!(of_size(800_000), Err(DecodeError::TooLarge { limit: MAX_TOKEN_BYTES, .. })));
    assert!(matches!(Token::parse(&"a.".repeat(1 << 20)), Err(DecodeError::TooLarge { .. })));
    let deep = format!(r#""new":{}{},"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(user_nats(&deep), Err(DecodeError::Depth { limit: 64 }));
    let mut big = user_claims(own(UserRights::default()));
    big.audience = "x".repeat(1 << 20);
    assert!(matches!(encode(&big), Err(ClaimsError::TooLarge { .. })));
}

#[test]
fn only_the_issuer_signs() {
    let unsigned = encode(&user_claims(own(UserRights::default()))).unwrap();
    let token = unsigned.clone().sign(&pair(Kind::Account, 2)).unwrap();
    assert_eq!(Token::parse(token.as_str()).as_ref(), Ok(&token));
    let other = pair(Kind::Account, 9);
    let (expected, found) = (unsigned.claims().issuer, other.public_key());
    assert_eq!(unsigned.sign(&other), Err(IssuerError::Other { expected, found }));
}

#[test]
fn signatures_are_verified() {
    let unsigned = encode(&user_claims(own(UserRights::default()))).unwrap();
    let bytes = unsigned.as_str().as_bytes();
    let signature = pair(Kind::Account, 2).sign(bytes).unwrap();
    let token = unsigned.clone().with_signature(signature).unwrap();
    assert_eq!(Token::parse(token.as_str()).as_ref(), Ok(&token));
    assert_eq!((token.signature(), token.id()), (signature, unsigned.id()));
    assert_eq!(token.to_string(), format!("{}.{signature}", unsigned.as_str()));
    let foreign = pair(Kind::Account, 9).sign(bytes).unwrap();
    assert_eq!(unsigned.clone().with_signature(foreign), Err(SignatureError::Mismatch));
    let mut flipped = *signature.as_bytes();
    flipped[40] ^= 1;
    assert_eq!(unsigned.with_signature(Signature::from_bytes(flipped)), Err(SignatureError::Mismatch));
    assert_eq!(format!("{token:?}"), format!("Token({})", token.id()));
}

#[test]
fn ids_are_the_hash_of_what_is_signed() {
    let unsigned = encode(&user_claims(own(UserRights::default()))).unwrap();
    let id = unsigned.id();
    assert_eq!(id.to_string().len(), 43);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    assert_eq!("x".parse::<TokenId>(), Err(TokenIdError::Encoding));
    // The two spare bits of the last character must be zero.
    let last = id.to_string().pop().unwrap();
    let other = id.to_string().replace(last, "_");
    assert!(other.parse::<TokenId>().is_err() || last == '_' || other.matches('_').count() > 1);
}

#[test]
fn rights_that_are_all_zero_are_not_written_as_own() {
    let error = encode(&user_claims(own(UserRights::zero()))).unwrap_err();
    assert_eq!(error, ClaimsError::Member { member: "nats".to_string(), rule: Rule::LockedOut });
    assert_eq!(error.code(), "claims.locked_out");
    let scoped = User { issuer_account: Some(key(Kind::Account, 2)), ..User::default() };
    let text = payload(&encode(&user_claims(scoped)).unwrap());
    let account = key(Kind::Account, 2);
    assert!(text.ends_with(&format!(
        r#""nats":{{"pub":{{}},"sub":{{}},"issuer_account":"{account}","type":"user","version":2}}}}"#
    )));
}

#[test]
fn an_unknown_member_cannot_take_a_known_name() {
    let mut user = own(UserRights::default());
    user.unknown.insert("bearer_token".to_string(), Json::Bool(true));
    // As the known one is not written, this would be it.
    let unsigned = encode(&user_claims(user.clone())).unwrap();
    assert!(unsigned.claims().body.as_user().unwrap().grant.rights().unwrap().bearer_token);
    user.unknown.insert("subs".to_string(), Json::Number(5.into()));
    assert!(matches!(
        encode(&user_claims(user)),
        Err(ClaimsError::Unreadable(DecodeError::DuplicateMember { .. }))
    ));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z<>&.*\u{2028}\"\\\\]{0,8}"]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

prop_compose! {
    fn rights()(allow in texts(), deny in texts(), src in texts(), subs: i64, data: i64, payload: i64,
        bearer_token: bool, resp in prop::option::of((any::<i64>(), any::<i64>())), zone in text()) -> UserRights {
        UserRights {
            publish: PermissionList { allow, ..PermissionList::default() },
            subscribe: PermissionList { deny, ..PermissionList::default() },
            response: resp.map(|(max, ttl)| ResponsePermission { max, ttl, unknown: Unknown::default() }),
            src, subs, data, payload, bearer_token,
            times: vec![TimeRange { start: zone.clone(), ..TimeRange::default() }],
            times_location: zone,
            ..UserRights::default()
        }
    }
}

prop_compose! {
    fn accounts()(subject in text(), rights in rights(), bytes: [u8; 32], role in text(), at: i64, weight: u8,
        names in texts(), flag: bool) -> Account {
        Account {
            exports: vec![Export {
                response_type: if flag { ResponseType::Chunked } else { ResponseType::Unset },
                revocations: BTreeMap::from([(role.clone(), at)]),
                service_latency: flag.then(|| ServiceLatency { results: role.clone(), ..ServiceLatency::default() }),
                ..Export::new(ShareKind::Service, subject.clone())
            }],
            imports: vec![Import::new(ShareKind::Stream, PublicKey::new(Kind::Account, bytes), subject.clone())],
            limits: AccountLimits { conn: at, wildcards: flag, ..AccountLimits::default() },
            signing_keys: BTreeMap::from([
                (PublicKey::new(Kind::Account, bytes), SigningKey::Scoped(Scope { role: role.clone(), template: rights, ..Scope::default() })),
                (PublicKey::new(Kind::Account, [0; 32]), SigningKey::Plain),
            ]),
            revocations: BTreeMap::from([(role.clone(), at)]),
            mappings: BTreeMap::from([(subject, vec![WeightedMapping { weight, ..WeightedMapping::default() }])]),
            authorization: Authorization { allowed_accounts: names.clone(), ..Authorization::default() },
            trace: flag.then(|| Trace { sampling: at, ..Trace::default() }),
            cluster_traffic: if flag { ClusterTraffic::Owner } else { ClusterTraffic::Unset },
            description: role,
            tags: names,
            ..Account::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded(rights in rights(), account in accounts(), name in text(), iat: i64, exp: i64) {
        for mut claims in [user_claims(own(rights)), account_claims(account)] {
            (claims.name, claims.issued_at, claims.expires) = (name.clone(), iat, exp);
            if claims.body.as_user().and_then(|user| user.grant.rights()).is_some_and(UserRights::is_zero) {
                continue;
            }
            let unsigned = encode(&claims).unwrap();
            prop_assert_eq!(unsigned.claims(), &claims);
            prop_assert_eq!(&Unsigned::parse(unsigned.as_str()).unwrap(), &unsigned);
            // Any other reader of JSON sees the same text.
            let value: serde_json::Value = serde_json::from_str(&payload(&unsigned)).unwrap();
            prop_assert_eq!(value["name"].as_str().unwrap_or_default(), &name);
            let stored = serde_json::to_string(&claims).unwrap();
            prop_assert_eq!(serde_json::from_str::<Claims>(&stored).unwrap(), claims);
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic(text in any::<String>(), members in "[\\[\\]{}\",:0-9a-z]{0,30}") {
        let _ = read(&text);
        let _ = user_nats(&members);
        let _ = account_nats(&format!("{members},"));
        let _ = Token::parse(&text);
    }
}
