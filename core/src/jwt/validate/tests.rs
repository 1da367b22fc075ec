//! Each rule, broken once.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::super::*;
use super::*;
use crate::nkey::KeyPair;

fn key(kind: Kind, value: u8) -> PublicKey {
    KeyPair::from_entropy(kind, [value; 32]).public_key()
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

fn claims(issuer: PublicKey, subject: PublicKey, body: Body) -> Claims {
    Claims {
        audience: String::new(),
        expires: 0,
        issued_at: 1_795_423_807,
        issuer,
        name: "name".to_string(),
        not_before: 0,
        subject,
        body,
        unknown: Unknown::default(),
    }
}

fn operator(operator: Operator) -> Claims {
    claims(key(Kind::Operator, 1), key(Kind::Operator, 1), Body::Operator(operator))
}

fn account(account: Account) -> Claims {
    claims(key(Kind::Operator, 1), key(Kind::Account, 2), Body::Account(Box::new(account)))
}

fn user(user: User) -> Claims {
    claims(key(Kind::Account, 2), key(Kind::User, 3), Body::User(user))
}

fn own(rights: UserRights) -> Claims {
    user(User { grant: Grant::Own(Box::new(rights)), ..User::default() })
}

fn template(rights: UserRights) -> Claims {
    let scope = Scope { role: "r".to_string(), template: rights, ..Scope::default() };
    account(Account {
        signing_keys: BTreeMap::from([(key(Kind::Account, 4), SigningKey::Scoped(scope))]),
        ..Account::default()
    })
}

#[track_caller]
fn broken(claims: &Claims, member: &str, rule: Rule) {
    let error = validate(claims).unwrap_err();
    assert_eq!(error, ClaimsError::Member { member: member.to_string(), rule });
    assert!(error.code().starts_with("claims."));
    assert!(!format!("{error}").is_empty());
}

#[track_caller]
fn fine(claims: &Claims) {
    assert_eq!(validate(claims), Ok(()));
}

#[test]
fn names_tags_and_times() {
    let with = |edit: &dyn Fn(&mut Claims)| {
        let mut claims = own(UserRights::default());
        edit(&mut claims);
        claims
    };
    fine(&with(&|_| {}));
    fine(&with(&|claims| claims.name = "é".repeat(64)));
    let seed = KeyPair::from_entropy(Kind::User, [9; 32]).seed();
    let seed = seed.expose();
    for name in ["a\nb", "a/b", "a\\b", "\u{7f}", "\u{85}", " a", "a ", "a\u{200b}", "\u{202e}a", seed] {
        broken(&with(&|claims| claims.name = name.to_string()), "name", Rule::Name);
    }
    broken(&with(&|claims| claims.name = "x".repeat(129)), "name", Rule::Name);
    broken(&with(&|claims| claims.expires = -1), "exp", Rule::Time);
    broken(&with(&|claims| claims.issued_at = -1), "iat", Rule::Time);
    broken(&with(&|claims| claims.expires = claims.issued_at), "exp", Rule::Lifetime);
    let late = with(&|claims| {
        claims.not_before = claims.issued_at + 10;
        claims.expires = claims.issued_at + 10;
    });
    broken(&late, "exp", Rule::Lifetime);
    let tagged = |tag: &str| {
        let mut claims = user(User { tags: list(&["ok", tag]), ..User::default() });
        claims.issuer = key(Kind::Account, 4);
        if let Body::User(user) = &mut claims.body {
            user.issuer_account = Some(key(Kind::Account, 2));
        }
        claims
    };
    fine(&tagged("team:blue"));
    broken(&tagged(""), "tags[1]", Rule::Tag);
    broken(&tagged("a\tb"), "tags[1]", Rule::Tag);
    broken(&tagged(seed), "tags[1]", Rule::Tag);
    broken(&tagged("a\u{2066}"), "tags[1]", Rule::Tag);
    broken(&user(User::default()), "issuer_account", Rule::Scoped);
}

#[test]
fn operators() {
    fine(&operator(Operator::default()));
    let url =
        |address: &str| operator(Operator { account_server_url: address.to_string(), ..Operator::default() });
    for good in ["nats://localhost:4222", "https://u:p@h/jwt/v1", "nats://[::1]:4222", "x://h"] {
        fine(&url(good));
    }
    for bad in [
        "localhost",
        "://h",
        "http://",
        "http://:80",
        "1x://h",
        "http://a b",
        "http://h:99999",
        "http://[::1",
        "http://h:x",
    ] {
        broken(&url(bad), "account_server_url", Rule::Url);
    }
    let service =
        |address: &str| operator(Operator { operator_service_urls: list(&[address]), ..Operator::default() });
    for good in ["nats://h", "tls://h:1", "ws://h", "wss://h:443"] {
        fine(&service(good));
    }
    for bad in ["http://h", "nats://u@h", "nats://h/", "nats://h/p", "nats://h?x", "h:4222", ""] {
        broken(&service(bad), "operator_service_urls[0]", Rule::ServiceUrl);
    }
    let version =
        |text: &str| operator(Operator { assert_server_version: text.to_string(), ..Operator::default() });
    fine(&version("2.10.0"));
    for bad in ["2.10", "2.10.0.1", "v2.10.0", "2.-1.0", "2..0", "+2.1.1"] {
        broken(&version(bad), "assert_server_version", Rule::Version);
    }
    let keys = |keys: Vec<PublicKey>| operator(Operator { signing_keys: keys, ..Operator::default() });
    fine(&keys(vec![key(Kind::Operator, 5)]));
    broken(&keys(vec![key(Kind::Operator, 5); 2]), "signing_keys[1]", Rule::DuplicateKey);
    broken(&keys(vec![key(Kind::Operator, 1)]), "signing_keys[0]", Rule::OwnKey);
    assert!(matches!(validate(&keys(vec![key(Kind::Account, 5)])), Err(ClaimsError::Unreadable(_))));
    let mut foreign = operator(Operator::default());
    foreign.subject = key(Kind::User, 3);
    assert!(matches!(validate(&foreign), Err(ClaimsError::SubjectKind { .. })));
}

#[test]
fn permissions_and_rights() {
    let publish = |entry: &str| {
        let publish = PermissionList { allow: list(&["ok", entry]), ..PermissionList::default() };
        own(UserRights { publish, ..UserRights::default() })
    };
    let subscribe = |entry: &str| {
        let subscribe = PermissionList { deny: list(&[entry]), ..PermissionList::default() };
        own(UserRights { subscribe, ..UserRights::default() })
    };
    fine(&publish("a.*.>"));
    fine(&subscribe("a.b queue.*"));
    for bad in ["", "a..b", ".a", "a.", "a.>.b", "a\tb"] {
        broken(&publish(bad), "pub.allow[1]", Rule::Subject);
        broken(&subscribe(bad), "sub.deny[0]", Rule::Subject);
    }
    broken(&publish("a queue"), "pub.allow[1]", Rule::Queue);
    for bad in ["a q r", "a  q", "a "] {
        broken(&subscribe(bad), "sub.deny[0]", Rule::Queue);
    }
    broken(&subscribe(" q"), "sub.deny[0]", Rule::Subject);
    let with = |edit: &dyn Fn(&mut UserRights)| {
        let mut rights = UserRights::default();
        edit(&mut rights);
        own(rights)
    };
    for good in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::1/128"] {
        fine(&with(&|rights| rights.src = list(&[good])));
    }
    for bad in [
        "10.0.0.0",
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "a/8",
        "10.0.0.0/",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "",
    ] {
        broken(&with(&|rights| rights.src = list(&[bad])), "src[0]", Rule::Cidr);
    }
    let range = |start: &str, end: &str| TimeRange {
        start: start.to_string(),
        end: end.to_string(),
        ..TimeRange::default()
    };
    fine(&with(&|rights| rights.times = vec![range("23:59:59", "00:00:00")]));
    for bad in ["", "24:00:00", "1:00:00", "00:60:00", "00:00", "00:00:00:00", "00:00:0a"] {
        broken(
            &with(&|rights| rights.times = vec![range(bad, "00:00:00")]),
            "times[0].start",
            Rule::TimeOfDay,
        );
        broken(&with(&|rights| rights.times = vec![range("00:00:00", bad)]), "times[0].end", Rule::TimeOfDay);
    }
    fine(&with(&|rights| rights.times_location = "America/Port-au-Prince".to_string()));
    fine(&with(&|rights| rights.times_location = "Etc/GMT+5".to_string()));
    for bad in ["/etc/passwd", "../x", "Europe/", "a b"] {
        broken(&with(&|rights| rights.times_location = bad.to_string()), "times_location", Rule::TimeZone);
    }
    broken(&with(&|rights| rights.payload = -2), "payload", Rule::Limit);
    broken(&with(&|rights| (rights.subs, rights.data, rights.payload) = (0, 0, 0)), "subs", Rule::LockedOut);
    fine(&with(&|rights| rights.allowed_connection_types = list(&["WEBSOCKET", "mqtt"])));
    broken(
        &with(&|rights| rights.allowed_connection_types = list(&["TCP"])),
        "allowed_connection_types[0]",
        Rule::ConnectionType,
    );
    let response = |max, ttl| ResponsePermission { max, ttl, ..ResponsePermission::default() };
    fine(&with(&|rights| rights.response = Some(response(-1, 0))));
    broken(&with(&|rights| rights.response = Some(response(-2, 0))), "resp", Rule::Response);
    broken(&with(&|rights| rights.response = Some(response(0, -1))), "resp", Rule::Response);
}

#[test]
fn templates() {
    let at = |entry: &str| {
        let subscribe = PermissionList { allow: list(&[entry]), ..PermissionList::default() };
        template(UserRights { subscribe, ..UserRights::default() })
    };
    const PLACE: &str = "signing_keys[0].template.sub.allow[0]";
    for good in ["p.{{name()}}.>", "_INBOX_{{subject()}}.>", "{{ tag(team) }}.a", "a q", "{{account-tag(x)}}"]
    {
        fine(&at(good));
    }
    broken(&at("p.{{user()}}"), PLACE, Rule::Template);
    broken(&at("p.{{name()"), PLACE, Rule::Template);
    broken(&at("p.{{name()}} q"), PLACE, Rule::TemplateQueue);
    broken(&at("p..{{name()}}"), PLACE, Rule::Subject);
    let proxy = template(UserRights { proxy_required: true, ..UserRights::default() });
    broken(&proxy, "signing_keys[0].template.proxy_required", Rule::TemplateProxy);
    broken(&template(UserRights::zero()), "signing_keys[0].template.subs", Rule::LockedOut);
}

#[test]
fn account_limits_keys_and_revocations() {
    let limits = |limits: AccountLimits| account(Account { limits, ..Account::default() });
    fine(&account(Account::default()));
    fine(&limits(AccountLimits { conn: 0, ..AccountLimits::default() }));
    broken(&limits(AccountLimits::zero()), "limits.conn", Rule::LockedOut);
    broken(&limits(AccountLimits { leaf: -2, ..AccountLimits::default() }), "limits.leaf", Rule::Limit);
    broken(&limits(AccountLimits { streams: -2, ..AccountLimits::default() }), "limits.streams", Rule::Limit);
    let tier = |name: &str, streams| {
        BTreeMap::from([(name.to_string(), JetStreamLimits { streams, ..JetStreamLimits::default() })])
    };
    fine(&limits(AccountLimits { tiered_limits: tier("R1", 1), ..AccountLimits::default() }));
    broken(
        &limits(AccountLimits { tiered_limits: tier("", 1), ..AccountLimits::default() }),
        "limits.tiered_limits",
        Rule::Tiers,
    );
    broken(
        &limits(AccountLimits { tiered_limits: tier("R1", -2), ..AccountLimits::default() }),
        "limits.tiered_limits.R1.streams",
        Rule::Limit,
    );
    broken(
        &limits(AccountLimits { tiered_limits: tier("R1", 1), disk_storage: 1, ..AccountLimits::default() }),
        "limits.tiered_limits",
        Rule::Tiers,
    );
    let own_key = BTreeMap::from([(key(Kind::Account, 2), SigningKey::Plain)]);
    broken(
        &account(Account { signing_keys: own_key, ..Account::default() }),
        "signing_keys[0]",
        Rule::OwnKey,
    );
    let revoked = |name: &str, at| {
        account(Account { revocations: BTreeMap::from([(name.to_string(), at)]), ..Account::default() })
    };
    fine(&revoked("*", 1));
    fine(&revoked(&key(Kind::User, 3).to_string(), 1));
    let stranger = key(Kind::Account, 3).to_string();
    broken(&revoked(&stranger, 1), &format!("revocations.{stranger}"), Rule::Key);
    broken(&revoked("*", -1), "revocations.*", Rule::Time);
}

#[test]
fn mappings_authorization_trace_and_info() {
    let to = |subject: &str, weight, cluster: &str| WeightedMapping {
        subject: subject.to_string(),
        weight,
        cluster: cluster.to_string(),
        ..WeightedMapping::default()
    };
    let mapped = |source: &str, to: Vec<WeightedMapping>| {
        account(Account { mappings: BTreeMap::from([(source.to_string(), to)]), ..Account::default() })
    };
    fine(&mapped("m.*", vec![to("n.$1", 40, "c"), to("o.{{wildcard(1)}}", 0, ""), to("p", 60, "c")]));
    broken(&mapped("m..x", vec![]), "mappings.m..x", Rule::Subject);
    broken(&mapped("m", vec![to("", 0, "")]), "mappings.m.[0]", Rule::Subject);
    broken(&mapped("m", vec![to("n", 101, "")]), "mappings.m.[0]", Rule::Percent);
    broken(&mapped("m", vec![to("n", 60, ""), to("o", 41, "")]), "mappings.m.[1]", Rule::Weight);
    broken(&mapped("m", vec![to("n", 0, ""), to("o", 1, "")]), "mappings.m.[1]", Rule::Weight);
    broken(&mapped("m", vec![to("n", 1, ""), to("n", 1, "c")]), "mappings.m.[1]", Rule::DuplicateDestination);

    let authorized = |users: Vec<PublicKey>, accounts: &[&str]| {
        let authorization =
            Authorization { auth_users: users, allowed_accounts: list(accounts), ..Authorization::default() };
        account(Account { authorization, ..Account::default() })
    };
    let other = key(Kind::Account, 6).to_string();
    fine(&authorized(vec![key(Kind::User, 3)], &["*"]));
    fine(&authorized(vec![key(Kind::User, 3)], &[&other]));
    broken(&authorized(vec![], &["*"]), "authorization.allowed_accounts", Rule::Authorization);
    broken(
        &authorized(vec![key(Kind::User, 3)], &[&other, "*"]),
        "authorization.allowed_accounts[1]",
        Rule::Authorization,
    );
    broken(&authorized(vec![key(Kind::User, 3)], &["x"]), "authorization.allowed_accounts[0]", Rule::Key);

    let traced = |dest: &str, sampling| {
        let trace = Some(Trace { dest: dest.to_string(), sampling, ..Trace::default() });
        account(Account { trace, ..Account::default() })
    };
    fine(&traced("t", 100));
    broken(&traced("t.*", 0), "trace.dest", Rule::Wildcard);
    broken(&traced("", 0), "trace.dest", Rule::Subject);
    broken(&traced("t", 101), "trace.sampling", Rule::Percent);
    broken(
        &account(Account { description: "x".repeat(8193), ..Account::default() }),
        "description",
        Rule::TooLong,
    );
    broken(&account(Account { info_url: "x".to_string(), ..Account::default() }), "info_url", Rule::Url);
}

#[test]
fn exports() {
    let of = |exports: Vec<Export>| account(Account { exports, ..Account::default() });
    let one = |kind, edit: &dyn Fn(&mut Export)| {
        let mut export = Export::new(kind, "a.*.b");
        edit(&mut export);
        of(vec![export])
    };
    let latency = |results: &str, sampling| {
        Some(ServiceLatency { sampling, results: results.to_string(), ..ServiceLatency::default() })
    };
    let (stream, service) = (ShareKind::Stream, ShareKind::Service);
    fine(&one(service, &|export| {
        export.service_latency = latency("r", Sampling::Percent(100));
        export.account_token_position = 2;
        export.response_threshold = 1;
        export.allow_trace = true;
    }));
    broken(&one(stream, &|export| export.subject = "a..b".to_string()), "exports[0].subject", Rule::Subject);
    broken(
        &one(stream, &|export| export.response_type = ResponseType::Singleton),
        "exports[0].response_type",
        Rule::NotForStreams,
    );
    broken(&one(stream, &|export| export.allow_trace = true), "exports[0].allow_trace", Rule::NotForStreams);
    broken(
        &one(stream, &|export| export.service_latency = latency("r", Sampling::Headers)),
        "exports[0].service_latency",
        Rule::NotForStreams,
    );
    broken(
        &one(stream, &|export| export.response_threshold = 1),
        "exports[0].response_threshold",
        Rule::NotForStreams,
    );
    broken(
        &one(service, &|export| export.response_threshold = -1),
        "exports[0].response_threshold",
        Rule::Duration,
    );
    broken(
        &one(service, &|export| export.service_latency = latency("r.*", Sampling::Headers)),
        "exports[0].service_latency.results",
        Rule::Wildcard,
    );
    broken(
        &one(service, &|export| export.service_latency = latency("", Sampling::Headers)),
        "exports[0].service_latency.results",
        Rule::Subject,
    );
    broken(
        &one(service, &|export| export.service_latency = latency("r", Sampling::Percent(101))),
        "exports[0].service_latency.sampling",
        Rule::Percent,
    );
    broken(
        &one(service, &|export| {
            export.service_latency = latency("r", Sampling::Headers);
            export.response_type = ResponseType::Stream;
        }),
        "exports[0].service_latency",
        Rule::LatencyResponse,
    );
    for position in [1, 3, 4, u64::MAX] {
        broken(
            &one(stream, &|export| export.account_token_position = position),
            "exports[0].account_token_position",
            Rule::TokenPosition,
        );
    }
    let user = key(Kind::User, 3).to_string();
    broken(
        &one(stream, &|export| export.revocations = BTreeMap::from([(user.clone(), 1)])),
        &format!("exports[0].revocations.{user}"),
        Rule::Key,
    );
    let pair =
        |a: (ShareKind, &str), b: (ShareKind, &str)| of(vec![Export::new(a.0, a.1), Export::new(b.0, b.1)]);
    fine(&pair((stream, "a.>"), (service, "a.b")));
    for (a, b) in [("a.>", "a.b"), ("a.b", "a.>"), ("a", "a"), ("*.*", "a.>")] {
        broken(&pair((stream, a), (stream, b)), "exports[1]", Rule::Overlap);
    }
    let limits = |exports, wildcards| AccountLimits { exports, wildcards, ..AccountLimits::default() };
    let with =
        |limits| account(Account { limits, exports: vec![Export::new(stream, "a.*")], ..Account::default() });
    broken(&with(limits(0, true)), "exports", Rule::TooMany);
    // The reference would let this pass, as exports are unlimited.
    broken(&with(limits(-1, false)), "exports[0]", Rule::WildcardExport);
}

#[test]
fn imports() {
    let other = key(Kind::Account, 6);
    let of = |imports: Vec<Import>| account(Account { imports, ..Account::default() });
    let one = |kind, edit: &dyn Fn(&mut Import)| {
        let mut import = Import::new(kind, other, "q.*.*");
        edit(&mut import);
        of(vec![import])
    };
    let (stream, service) = (ShareKind::Stream, ShareKind::Service);
    let local = |text: &str| one(service, &|import| import.local_subject = text.to_string());
    for good in ["l.$2.$1", "*.*", "l.*.$2.x"] {
        fine(&local(good));
    }
    for bad in
        ["l", "l.$1", "l.$1.$1", "l.$1.$3", "l.$0.$1", "l.*.*.*", "l.$1.$2.>", "l.$99999999999999999999999.*"]
    {
        broken(&local(bad), "imports[0].local_subject", Rule::LocalSubject);
    }
    broken(&local("l. .x"), "imports[0].local_subject", Rule::Subject);
    broken(
        &one(stream, &|import| import.account = key(Kind::Account, 2)),
        "imports[0].account",
        Rule::SelfImport,
    );
    broken(&one(stream, &|import| import.subject = String::new()), "imports[0].subject", Rule::Subject);
    broken(&one(stream, &|import| import.share = true), "imports[0].share", Rule::NotForStreams);
    broken(
        &one(service, &|import| import.allow_trace = true),
        "imports[0].allow_trace",
        Rule::NotForServices,
    );
    broken(
        &one(stream, &|import| (import.to, import.local_subject) = ("t".to_string(), "l.*.*".to_string())),
        "imports[0].to",
        Rule::BothLocal,
    );
    broken(
        &one(stream, &|import| import.token = "https://x".to_string()),
        "imports[0].token",
        Rule::Activation,
    );
    let two = |kind, b: &str, from: PublicKey| {
        of(vec![Import::new(kind, other, "a.*"), Import::new(kind, from, b)])
    };
    fine(&two(service, "a.b", key(Kind::Account, 7)));
    fine(&two(stream, "a.b", other));
    broken(&two(service, "a.b", other), "imports[1]", Rule::Overlap);
    broken(&two(stream, "a.*", other), "imports[1]", Rule::Overlap);
    let mut few = two(stream, "b", other);
    if let Body::Account(account) = &mut few.body {
        account.limits.imports = 1;
    }
    broken(&few, "imports", Rule::TooMany);
}

#[test]
fn go_made_claims_keep_the_rules() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/nats-jwt.json")).unwrap();
    let mut seen = 0;
    for vector in file["vectors"].as_array().unwrap() {
        if let Ok(token) = Token::parse(vector["token"].as_str().unwrap()) {
            fine(token.claims());
            seen += 1;
        }
    }
    assert_eq!(seen, 5);
}

fn account_with_scope(entry: &str, denies: bool) -> Claims {
    let mut list_of = PermissionList::default();
    if denies { &mut list_of.deny } else { &mut list_of.allow }.push(entry.to_string());
    template(UserRights { publish: list_of, ..UserRights::default() })
}

fn scoped_user(name: &str, tags: &[&str]) -> Claims {
    let mut claims =
        user(User { issuer_account: Some(key(Kind::Account, 2)), tags: list(tags), ..User::default() });
    claims.issuer = key(Kind::Account, 4);
    claims.name = name.to_string();
    claims
}

#[test]
fn users_under_their_account() {
    let broken = |user: &Claims, account: &Claims, strict, member: &str, rule| {
        let error = validate_user(user, account, strict).unwrap_err();
        assert_eq!(error, ClaimsError::Member { member: member.to_string(), rule });
    };
    let plain = account(Account {
        signing_keys: BTreeMap::from([(key(Kind::Account, 5), SigningKey::Plain)]),
        ..Account::default()
    });
    let by_account = own(UserRights::default());
    assert_eq!(validate_user(&by_account, &plain, false), Ok(()));
    broken(&by_account, &plain, true, "iss", Rule::Signer);
    let mut by_key = by_account.clone();
    by_key.issuer = key(Kind::Account, 5);
    broken(&by_key, &plain, false, "issuer_account", Rule::Signer);
    if let Body::User(user) = &mut by_key.body {
        user.issuer_account = Some(key(Kind::Account, 2));
    }
    assert_eq!(validate_user(&by_key, &plain, true), Ok(()));
    by_key.issuer = key(Kind::Account, 8);
    broken(&by_key, &plain, true, "iss", Rule::Signer);

    let scope = account_with_scope("a.{{name()}}", false);
    assert_eq!(validate_user(&scoped_user("u", &[]), &scope, true), Ok(()));
    let mut carries = by_key.clone();
    carries.issuer = key(Kind::Account, 4);
    broken(&carries, &scope, true, "iss", Rule::Scoped);
    let mut unscoped = scoped_user("u", &[]);
    unscoped.issuer = key(Kind::Account, 5);
    broken(&unscoped, &plain, true, "iss", Rule::Scoped);

    for name in ["*", ">", "a.b", "a b", "", "a>"] {
        broken(&scoped_user(name, &[]), &scope, true, "name", Rule::TemplateValue);
    }
    let tagged = account_with_scope("a.{{tag(team)}}", false);
    assert_eq!(
        validate_user(&scoped_user("*", &["team:blue", "team:red", "other:>"]), &tagged, true),
        Ok(())
    );
    assert_eq!(validate_user(&scoped_user("u", &[]), &tagged, true), Ok(()));
    broken(&scoped_user("u", &["team:>"]), &tagged, true, "tags", Rule::TemplateValue);
    let denied = account_with_scope("a.{{tag(team)}}", true);
    broken(&scoped_user("u", &[]), &denied, true, "tags", Rule::TemplateTag);

    let mut no_bearer = plain.clone();
    if let Body::Account(account) = &mut no_bearer.body {
        account.limits.disallow_bearer = true;
    }
    let bearer = own(UserRights { bearer_token: true, ..UserRights::default() });
    assert_eq!(validate_user(&bearer, &plain, false), Ok(()));
    broken(&bearer, &no_bearer, false, "bearer_token", Rule::Bearer);
}
