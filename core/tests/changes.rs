//! Differences between two states of an entity, in words: each has some, and equal states have none.

mod lab;

use cim_keys_core::changes::{Change, changes};
use cim_keys_core::jwt::{
    self, Account, Body, Claims, ClusterTraffic, Export, Grant, Import, JetStreamLimits, Operator,
    PermissionList, ResponsePermission, Scope, ShareKind, SigningKey, TimeRange, Trace, User, UserRights,
};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey, Signature};
use cim_keys_core::registry::{self, Entity, Issued};
use cim_keys_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

fn key(kind: Kind, number: u8) -> PublicKey {
    KeyPair::from_entropy(kind, lab::entropy(number)).public_key()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_423_807_000 + seconds * 1000).unwrap()
}

fn issued(claims: &Claims, signature: u8) -> Issued {
    let signature = Signature::from_bytes([signature; 64]);
    Issued { jwt: jwt::encode(claims).unwrap(), signature: Some(signature) }
}

/// A number drawn for each member: mostly 0, so that two states differ in a few.
type Drawn = Vec<u8>;

struct Draws(std::vec::IntoIter<u8>);

impl Draws {
    fn next(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn one<T: Clone>(&mut self, values: &[T]) -> T {
        values[usize::from(self.next()) % values.len()].clone()
    }

    fn list(&mut self, texts: &[&str]) -> Vec<String> {
        let bits = self.next();
        let some = texts.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
        let mut list: Vec<String> = some.map(|(_, text)| (*text).to_owned()).collect();
        if bits & 16 != 0 {
            list.reverse();
        }
        list
    }

    fn permissions(&mut self) -> PermissionList {
        PermissionList {
            allow: self.list(&["orders.>", "new.*", "x"]),
            deny: self.list(&["secret.>", "y"]),
            ..PermissionList::default()
        }
    }

    fn response(&mut self) -> Option<ResponsePermission> {
        let some = |max, ttl| Some(ResponsePermission { max, ttl, ..ResponsePermission::default() });
        self.one(&[None, some(1, 0), some(3, 0), some(3, 5)])
    }

    fn rights(&mut self) -> UserRights {
        let range =
            |start: &str| TimeRange { start: start.into(), end: "23:00:00".into(), ..TimeRange::default() };
        UserRights {
            publish: self.permissions(),
            subscribe: self.permissions(),
            response: self.response(),
            src: self.list(&["10.0.0.0/8", "192.168.0.0/16"]),
            times: self.one(&[vec![], vec![range("07:00:00")], vec![range("08:00:00"), range("07:00:00")]]),
            times_location: self.one(&["", "Europe/Berlin"]).into(),
            subs: self.one(&[-1, 10]),
            data: self.one(&[-1, 11]),
            payload: self.one(&[-1, 12]),
            bearer_token: self.one(&[false, true]),
            proxy_required: self.one(&[false, true]),
            allowed_connection_types: self.list(&["STANDARD", "WEBSOCKET"]),
            ..UserRights::default()
        }
    }

    fn claims(&mut self, subject: PublicKey, issuer: Kind, body: Body) -> Claims {
        let issuer = self.one(&[key(issuer, 1), key(issuer, 2)]);
        let mut claims = Claims {
            audience: self.one(&["", "somebody"]).into(),
            expires: self.one(&[0, 1_900_000_000]),
            issued_at: self.one(&[1_795_423_807, 1_795_423_808]),
            issuer,
            name: self.one(&["billing", "billing2"]).into(),
            not_before: self.one(&[0, 1_800_000_000]),
            subject,
            body,
            unknown: Default::default(),
        };
        if self.next() % 4 == 3 {
            claims.unknown.insert("newer".into(), cim_keys_core::json::Json::Bool(true));
        }
        claims
    }

    fn times(&mut self) -> (Timestamp, u8) {
        (time(self.one(&[0, 1])), self.one(&[1, 2]))
    }
}

fn user(drawn: Drawn) -> Entity {
    let mut draws = Draws(drawn.into_iter());
    let rights = draws.rights();
    let grant = draws.one(&[Grant::Own(Box::new(rights)), Grant::Scoped]);
    let account = key(Kind::Account, 3);
    let body =
        User { issuer_account: Some(account), grant, tags: draws.list(&["team:a", "b"]), ..User::default() };
    let claims = draws.claims(key(Kind::User, 4), Kind::Account, Body::User(body));
    let (updated, signature) = draws.times();
    Entity::User(registry::User {
        account,
        key: claims.subject,
        token: issued(&claims, signature),
        revoked_at: draws.one(&[None, Some(1_795_423_900), Some(1_795_423_901)]),
        credentials: draws.one(&[false, true]),
        created: time(0),
        updated,
    })
}

fn account(drawn: Drawn) -> Entity {
    let mut draws = Draws(drawn.into_iter());
    let mut body = Account::default();
    for limit in [
        &mut body.limits.subs,
        &mut body.limits.data,
        &mut body.limits.payload,
        &mut body.limits.imports,
        &mut body.limits.exports,
        &mut body.limits.conn,
        &mut body.limits.leaf,
    ] {
        *limit = draws.one(&[-1, 10, 0]);
    }
    for switch in [&mut body.limits.wildcards, &mut body.limits.disallow_bearer] {
        *switch = draws.one(&[false, true]);
    }
    if draws.next().is_multiple_of(2) {
        for limit in [
            &mut body.limits.mem_storage,
            &mut body.limits.disk_storage,
            &mut body.limits.streams,
            &mut body.limits.consumer,
            &mut body.limits.max_ack_pending,
            &mut body.limits.mem_max_stream_bytes,
            &mut body.limits.disk_max_stream_bytes,
        ] {
            *limit = draws.one(&[0, 5]);
        }
        body.limits.max_bytes_required = draws.one(&[false, true]);
    } else {
        let streams = draws.one(&[1, 2]);
        let tier = JetStreamLimits { streams, disk_storage: 9, ..JetStreamLimits::default() };
        body.limits.tiered_limits.insert(draws.one(&["R1", "R3"]).into(), tier);
    }
    for number in [5, 6] {
        let scope = Scope {
            role: draws.one(&["svc", "other"]).into(),
            template: draws.rights(),
            description: draws.one(&["", "a role"]).into(),
            ..Scope::default()
        };
        match draws.next() % 3 {
            1 => drop(body.signing_keys.insert(key(Kind::Account, number), SigningKey::Plain)),
            2 => drop(body.signing_keys.insert(key(Kind::Account, number), SigningKey::Scoped(scope))),
            _ => {}
        }
    }
    for user in ["*", "UAAA"] {
        let at = draws.one(&[0, 1_795_423_900, 1_795_423_901]);
        if at > 0 {
            body.revocations.insert(user.into(), at);
        }
    }
    body.default_permissions.publish = draws.permissions();
    body.default_permissions.subscribe = draws.permissions();
    body.default_permissions.response = draws.response();
    for subject in draws.list(&["a", "b"]) {
        let share = draws.one(&[false, true]);
        let import =
            Import { share, ..Import::new(ShareKind::Service, key(Kind::Account, 7), subject.clone()) };
        body.imports.push(import);
        let advertise = draws.one(&[false, true]);
        body.exports.push(Export { advertise, ..Export::new(ShareKind::Stream, format!("out.{subject}")) });
        let weight = draws.one(&[0, 50]);
        let mapping =
            jwt::WeightedMapping { subject: "to".into(), weight, ..jwt::WeightedMapping::default() };
        body.mappings.insert(subject, vec![mapping]);
    }
    body.authorization.auth_users = draws.one(&[vec![], vec![key(Kind::User, 8)]]);
    body.authorization.allowed_accounts = draws.list(&["*"]);
    body.authorization.xkey = draws.one(&[None, Some(key(Kind::Curve, 9))]);
    let trace = |dest: &str| Some(Trace { dest: dest.into(), ..Trace::default() });
    body.trace = draws.one(&[None, trace("a"), trace("b")]);
    body.cluster_traffic = draws.one(&[ClusterTraffic::Unset, ClusterTraffic::Owner]);
    body.description = draws.one(&["", "what for"]).into();
    body.info_url = draws.one(&["", "https://example.com"]).into();
    body.tags = draws.list(&["x", "y"]);
    let claims = draws.claims(key(Kind::Account, 3), Kind::Operator, Body::Account(Box::new(body)));
    let (updated, signature) = draws.times();
    let (key, token) = (claims.subject, issued(&claims, signature));
    Entity::Account(registry::Account { key, token, created: time(0), updated })
}

fn operator(drawn: Drawn) -> Entity {
    let mut draws = Draws(drawn.into_iter());
    let keys = [vec![], vec![key(Kind::Operator, 5)], vec![key(Kind::Operator, 6), key(Kind::Operator, 5)]];
    let body = Operator {
        signing_keys: draws.one(&keys),
        account_server_url: draws.one(&["", "nats://a"]).into(),
        operator_service_urls: draws.list(&["nats://a", "nats://b"]),
        system_account: draws.one(&[None, Some(key(Kind::Account, 7))]),
        assert_server_version: draws.one(&["", "2.12.1"]).into(),
        strict_signing_key_usage: draws.one(&[false, true]),
        tags: draws.list(&["x"]),
        ..Operator::default()
    };
    let claims = draws.claims(key(Kind::Operator, 1), Kind::Operator, Body::Operator(body));
    let (updated, signature) = draws.times();
    let (schema, key) = (draws.one(&[1, 2]), claims.subject);
    Entity::Operator(registry::Operator {
        key,
        token: issued(&claims, signature),
        created: time(0),
        updated,
        schema,
    })
}

fn signing_key(drawn: Drawn) -> Entity {
    let mut draws = Draws(drawn.into_iter());
    Entity::Key(registry::Key {
        key: key(Kind::Account, 5),
        owner: draws.one(&[None, Some(key(Kind::Account, 3)), Some(key(Kind::Operator, 1))]),
        label: draws.one(&[None, Some("daily".to_owned()), Some("old".to_owned())]),
        revoked_at: draws.one(&[None, Some(1_795_423_900)]),
        created: time(0),
        updated: time(draws.one(&[0, 1])),
    })
}

/// Members of the token that differ.
fn differing(before: &Entity, after: &Entity) -> Vec<String> {
    let claims = |entity: &Entity| -> Value {
        entity.token().map_or(Value::Null, |token| serde_json::to_value(token.claims()).unwrap())
    };
    let (before, after) = (claims(before), claims(after));
    let mut names = Vec::new();
    for place in ["", "/nats"] {
        let at = |value: &Value| value.pointer(place).and_then(Value::as_object).cloned().unwrap_or_default();
        let (before, after) = (at(&before), at(&after));
        for name in before.keys().chain(after.keys()) {
            if before.get(name) != after.get(name) && name != "nats" && name != "iat" {
                names.push(name.clone());
            }
        }
    }
    names
}

fn check(before: &Entity, after: &Entity) -> Result<(), TestCaseError> {
    let found = changes(Some(before), Some(after), Some("app"));
    prop_assert_eq!(found.is_empty(), before == after, "{:?}", found);
    for change in &found {
        prop_assert!(change.words.len() > 10 && !change.words.contains("  "), "{}", change.words);
        prop_assert_ne!(&change.before, &change.after, "{}", change.words);
        prop_assert_eq!(change.entity, after.id());
    }
    let regranted = found.iter().any(|change| change.member == "rights");
    for name in differing(before, after) {
        let told = found.iter().any(|change| change.member.split('.').next() == Some(name.as_str()));
        let limit = regranted && ["subs", "data", "payload"].contains(&name.as_str());
        prop_assert!(told || limit, "{} is not told in {:?}", name, found);
    }
    prop_assert!(changes(Some(after), Some(after), None).is_empty());
    Ok(())
}

/// Two draws of which most are equal.
fn two() -> impl Strategy<Value = (Drawn, Drawn)> {
    let drawn = proptest::collection::vec(prop_oneof![3 => Just(0u8), 2 => any::<u8>()], 90);
    let other = proptest::collection::vec(prop_oneof![9 => Just(None), 1 => any::<u8>().prop_map(Some)], 90);
    (drawn, other).prop_map(|(drawn, other)| {
        let changed = drawn.iter().zip(other).map(|(drawn, other)| other.unwrap_or(*drawn)).collect();
        (drawn, changed)
    })
}

proptest! {
    #[test]
    fn every_difference_of_users_has_words((a, b) in two()) {
        check(&user(a), &user(b))?;
    }

    #[test]
    fn every_difference_of_accounts_has_words((a, b) in two()) {
        check(&account(a), &account(b))?;
    }

    #[test]
    fn every_difference_of_operators_has_words((a, b) in two()) {
        check(&operator(a), &operator(b))?;
    }

    #[test]
    fn every_difference_of_keys_has_words((a, b) in two()) {
        check(&signing_key(a), &signing_key(b))?;
    }
}

fn words(found: &[Change]) -> Vec<&str> {
    found.iter().map(|change| change.words.as_str()).collect()
}

fn user_with(rights: UserRights) -> Entity {
    let Entity::User(user) = user(Vec::new()) else { panic!("a user") };
    let mut claims = user.token.claims().clone();
    let Body::User(body) = &mut claims.body else { panic!("of a user") };
    body.grant = Grant::Own(Box::new(rights));
    Entity::User(registry::User { token: issued(&claims, 1), ..user })
}

fn allow(subjects: &[&str]) -> UserRights {
    let allow = subjects.iter().map(ToString::to_string).collect();
    UserRights { publish: PermissionList { allow, ..PermissionList::default() }, ..UserRights::default() }
}

#[test]
fn permissions_are_gained_and_lost() {
    let found =
        changes(Some(&user_with(allow(&["a"]))), Some(&user_with(allow(&["a", "orders.>"]))), Some("app"));
    assert_eq!(words(&found), ["user billing of account app gained publish on orders.>"]);
    let back =
        changes(Some(&user_with(allow(&["a", "orders.>"]))), Some(&user_with(allow(&["a"]))), Some("app"));
    assert_eq!(words(&back), ["user billing of account app lost publish on orders.>"]);
    // No list is no less than one: it is everything.
    let first = changes(Some(&user_with(allow(&[]))), Some(&user_with(allow(&["a"]))), Some("app"));
    assert_eq!(
        words(&first),
        ["user billing of account app may publish on a alone, where no list said so before"]
    );
}

#[test]
fn what_came_and_what_is_revoked_is_said() {
    let new = user_with(allow(&["orders.>"]));
    assert_eq!(
        words(&changes(None, Some(&new), Some("app"))),
        [
            "user billing of account app was created",
            "user billing of account app may publish on orders.> alone, where no list said so before"
        ]
    );
    let Entity::User(user) = new.clone() else { panic!("a user") };
    let revoked = Entity::User(registry::User { revoked_at: Some(1_795_423_900), ..user });
    let found = changes(Some(&new), Some(&revoked), Some("app"));
    assert_eq!(
        words(&found),
        ["user billing of account app was revoked: what was issued until 2026-11-23T08:51:40.000Z is dead"]
    );
    assert_eq!(
        words(&changes(Some(&new), None, Some("app"))),
        ["user billing of account app is not there any more"]
    );
    assert!(changes(None, None, None).is_empty());
}

#[test]
fn limits_of_an_account_are_named() {
    let before = account(Vec::new());
    let Entity::Account(entity) = before.clone() else { panic!("an account") };
    let mut claims = entity.token.claims().clone();
    let Body::Account(body) = &mut claims.body else { panic!("of an account") };
    body.limits.conn = 10;
    body.signing_keys
        .insert(key(Kind::Account, 5), SigningKey::Scoped(Scope { role: "svc".into(), ..Scope::default() }));
    let after = Entity::Account(registry::Account { token: issued(&claims, 1), ..entity });
    let gained = format!("account billing gained the signing key {} of the role svc", key(Kind::Account, 5));
    let found = changes(Some(&before), Some(&after), None);
    assert_eq!(
        words(&found),
        ["account billing's limit of connections went from unlimited to 10", gained.as_str()]
    );
}
