//! What servers were measured to do with permissions: a table of cases, each tried on the newest and on the oldest server,
//! and asked of the core.

use cim_keys_core::jwt::{PermissionList, Permissions, ResponsePermission, UserRights};
use cim_keys_core::why::{Action, Condition, Rule, Source};
use cim_keys_tests::permits::{Permits, Who, delivered, publishes, subscribes};
use cim_keys_tests::tools::Version;

/// A subscription: the lists, what is subscribed to, whether the server takes it, and which messages reach it.
struct Subscription {
    allow: &'static [&'static str],
    deny: &'static [&'static str],
    subject: &'static str,
    queue: Option<&'static str>,
    code: &'static str,
    reaches: &'static [(&'static str, bool)],
    /// The oldest server takes it though the newest does not, or delivers what that holds back.
    older: bool,
}

impl Subscription {
    const fn older(self) -> Subscription {
        Subscription { older: true, ..self }
    }
}

const fn sub(
    allow: &'static [&'static str],
    deny: &'static [&'static str],
    subject: &'static str,
    code: &'static str,
    reaches: &'static [(&'static str, bool)],
) -> Subscription {
    Subscription { allow, deny, subject, queue: None, code, reaches, older: false }
}

const fn queued(
    allow: &'static [&'static str],
    deny: &'static [&'static str],
    (subject, queue): (&'static str, &'static str),
    code: &'static str,
) -> Subscription {
    Subscription { allow, deny, subject, queue: Some(queue), code, reaches: &[], older: false }
}

/// Each as the server does it. `code` is that of the rule which decides.
const SUBSCRIPTIONS: &[Subscription] = &[
    // Nothing is said, or only the other list.
    sub(&[], &["x"], "a", "no-allow-list", &[("a", true)]),
    sub(&[], &["x"], ">", "no-allow-list", &[("a", true), ("x", false)]),
    // A subscription must lie inside one entry, not inside several together.
    sub(&["a.b"], &[], "a.b", "allow", &[("a.b", true)]),
    sub(&["a.b", "a.c"], &[], "a.*", "not-allowed", &[]),
    sub(&["a.>"], &[], "a.*", "allow", &[("a.b", true)]),
    sub(&["a.>"], &[], "a.*.c", "allow", &[("a.b.c", true)]),
    sub(&["a.>"], &[], "a", "not-allowed", &[]),
    sub(&["a.>"], &[], ">", "not-allowed", &[]),
    sub(&["a.*"], &[], "a.*", "allow", &[("a.b", true)]),
    sub(&["a.*"], &[], "a.b.c", "not-allowed", &[]),
    // `*` of an entry takes the token `>`: what comes through is more than the entry says.
    sub(&["a.*"], &[], "a.>", "allow", &[("a.b", true), ("a.b.c", true)]),
    sub(&["*"], &[], ">", "allow", &[("a", true), ("a.b.c", true)]),
    sub(&["*.*"], &[], ">", "not-allowed", &[]),
    // Deny wins over allow, whichever is narrower.
    sub(&["a.>"], &["a.b"], "a.b", "deny", &[]),
    sub(&["a.b"], &["a.>"], "a.b", "deny", &[]),
    sub(&["a.b"], &[">"], "a.b", "deny", &[]),
    sub(&["a.>"], &["a.*"], "a.>", "deny", &[]),
    // A denied subject inside the subscription's: taken, and those messages are held back.
    sub(&["a.>"], &["a.b"], "a.*", "allow", &[("a.b", false), ("a.c", true)]),
    sub(&["a.>"], &["a.b.>"], "a.>", "allow", &[("a.b.c", false), ("a.c", true)]),
    // One that overlaps and is not inside is held back as well; the oldest server does so only where another is inside.
    sub(&["a.>"], &["*.b"], "a.*", "allow", &[("a.b", false), ("a.c", true)]).older(),
    sub(&["a.>"], &["*.b", "a.c"], "a.*", "allow", &[("a.b", false), ("a.c", false), ("a.d", true)]),
    // So with an entry for a queue, where the subscription has it.
    Subscription {
        queue: Some("q"),
        ..sub(&["a.>"], &["a.b q"], "a.*", "allow", &[("a.b", false), ("a.c", true)]).older()
    },
    Subscription { queue: Some("r"), ..sub(&["a.>"], &["a.b q"], "a.*", "allow", &[("a.b", true)]) },
    sub(&["a.>"], &["a.b q"], "a.*", "allow", &[("a.b", true)]),
    // Queues. An entry without one has subscriptions with and without.
    queued(&["a"], &[], ("a", "q"), "allow"),
    // An entry with a queue has only those with it.
    queued(&["a q"], &[], ("a", "q"), "allow"),
    queued(&["a q"], &[], ("a", "r"), "other-queue"),
    sub(&["a q"], &[], "a", "not-allowed", &[]),
    // And takes away from an entry without one.
    queued(&["a", "a q"], &[], ("a", "q"), "allow"),
    queued(&["a", "a q"], &[], ("a", "r"), "other-queue"),
    sub(&["a", "a q"], &[], "a", "allow", &[("a", true)]),
    queued(&["a", "a.> q"], &[], ("a", "r"), "allow"),
    // Wildcards in queues.
    queued(&["a v1.*"], &[], ("a", "v1.x"), "allow"),
    queued(&["a v1.>"], &[], ("a", "v1.x.y"), "allow"),
    queued(&["a >"], &[], ("a", "x"), "allow"),
    queued(&["a v1.*"], &[], ("a", "v2.x"), "other-queue"),
    queued(&["a.> *.q"], &[], ("a.*", "x.q"), "allow"),
    // Denied queues.
    queued(&["a"], &["a q"], ("a", "q"), "deny"),
    queued(&["a"], &["a q"], ("a", "r"), "allow"),
    sub(&["a"], &["a q"], "a", "allow", &[("a", true)]),
    queued(&[], &["> q"], ("a.>", "q"), "deny"),
    // One without a queue denies subscriptions with one too; on the oldest server one for another queue undoes that.
    queued(&["a"], &["a"], ("a", "r"), "deny"),
    queued(&["a"], &["a", "a q"], ("a", "r"), "deny").older(),
    queued(&["a"], &["a", "a q"], ("a", "q"), "deny"),
    sub(&["a"], &["a", "a q"], "a", "deny", &[]),
];

/// A publish: the lists, the subject, the rule's code.
const PUBLISHES: &[(&[&str], &[&str], &str, &str)] = &[
    (&[], &["x"], "a", "no-allow-list"),
    (&["a"], &[], "a", "allow"),
    (&["a"], &[], "a.b", "not-allowed"),
    (&["a.*"], &[], "a.b", "allow"),
    (&["a.*"], &[], "a.b.c", "not-allowed"),
    (&["a.>"], &[], "a.b.c", "allow"),
    (&["a.>"], &[], "a", "not-allowed"),
    (&[">"], &["a.>"], "a.b", "deny"),
    (&["a.b"], &["a.*"], "a.b", "deny"),
    (&["a.>"], &["*.b"], "a.b", "deny"),
    (&["*.b.>"], &["a.b.c"], "a.b.d", "allow"),
    // A wildcard inside a token is none.
    (&["a.b*"], &[], "a.bc", "not-allowed"),
    (&["a.b*"], &[], "a.b*", "allow"),
];

fn list(allow: &[&str], deny: &[&str]) -> PermissionList {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    PermissionList { allow: texts(allow), deny: texts(deny), ..PermissionList::default() }
}

fn subscribing(subscribe: PermissionList) -> UserRights {
    UserRights { subscribe, ..UserRights::default() }
}

fn publishing(publish: PermissionList) -> UserRights {
    UserRights { publish, ..UserRights::default() }
}

#[test]
fn subscriptions_and_publishes() {
    let mut permits = Permits::found(11);
    let team = permits.identities.account("TEAM");
    let observer = permits.user(team, "observer", Some(UserRights::default()), &[]);
    let mut who = |place: usize, kind: &str, rights: UserRights| {
        permits.user(team, &format!("{kind}{place}"), Some(rights), &[])
    };
    let subscribers: Vec<Who> = SUBSCRIPTIONS
        .iter()
        .enumerate()
        .map(|(place, case)| who(place, "s", subscribing(list(case.allow, case.deny))))
        .collect();
    let publishers: Vec<Who> = PUBLISHES
        .iter()
        .enumerate()
        .map(|(place, (allow, deny, ..))| who(place, "p", publishing(list(allow, deny))))
        .collect();
    let mut wrong = Vec::new();
    for version in [Version::Newest, Version::Oldest] {
        let server = permits.serve(version);
        let mut observer = permits.connect(&server, observer).expect("the observer connects");
        for (case, who) in SUBSCRIPTIONS.iter().zip(&subscribers) {
            let words = format!(
                "{} +{:?} -{:?} {} {:?}",
                version.number(),
                case.allow,
                case.deny,
                case.subject,
                case.queue
            );
            let mut user = permits.connect(&server, *who).expect("a user connects");
            let taken = subscribes(&mut user, case.subject, case.queue).is_some();
            let answer = permits.why(*who, Action::Subscribe, case.subject, case.queue).expect("an answer");
            // What differs there is listed, and must differ.
            let older = case.older && version == Version::Oldest;
            if taken != (answer.allowed || older) || answer.rule.code() != case.code {
                wrong.push(format!("{words}: server {taken}, core {:?}, table {}", answer.rule, case.code));
                continue;
            }
            assert_eq!(case.older && answer.allowed, !answer.not_by_older.is_empty(), "{words}");
            let subjects: Vec<&str> = case.reaches.iter().map(|(subject, _)| *subject).collect();
            let seen = delivered(&mut user, &mut observer, &subjects);
            for (subject, reaches) in case.reaches {
                let held = answer.withheld.iter().any(|entry| is_in(entry, subject));
                let seen = seen.iter().any(|seen| seen == subject);
                if seen != (*reaches || older) || *reaches == held {
                    wrong.push(format!(
                        "{words} message {subject}: server {seen}, table {reaches}, core withholds {:?}",
                        answer.withheld
                    ));
                }
            }
        }
        subscribes(&mut observer, ">", None).expect("the observer may");
        for ((allow, deny, subject, code), who) in PUBLISHES.iter().zip(&publishers) {
            let mut user = permits.connect(&server, *who).expect("a user connects");
            let taken = publishes(&mut user, &mut observer, subject, None);
            let answer = permits.why(*who, Action::Publish, subject, None).expect("an answer");
            if taken != answer.allowed || answer.rule.code() != *code {
                wrong.push(format!(
                    "+{allow:?} -{deny:?} {subject}: server {taken}, core {:?}, table {code}",
                    answer.rule
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Matching in the tests' own words.
pub(super) fn is_in(pattern: &str, subject: &str) -> bool {
    let pattern = pattern.split(' ').next().unwrap_or_default();
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Roles: entries of the publish list, tags of the user, what is published, the rule's code.
type Templated =
    (&'static [&'static str], &'static [&'static str], &'static [&'static str], &'static str, &'static str);

/// The user is called `ann`, the account `TEAM`.
const TEMPLATES: &[Templated] = &[
    (&["u.{{name()}}.>"], &[], &[], "u.ann.x", "allow"),
    (&["u.{{name()}}.>"], &[], &[], "u.bob.x", "not-allowed"),
    (&["u.{{ Account-Name() }}"], &[], &[], "u.TEAM", "allow"),
    (&["u.x{{name()}}y.{{name()}}"], &[], &[], "u.xanny.ann", "allow"),
    (&["t.{{tag(team)}}"], &[], &["team:red", "team:blue", "unit:x"], "t.blue", "allow"),
    (&["t.{{tag(team)}}.{{tag(unit)}}"], &[], &["team:red", "team:blue", "unit:x"], "t.blue.x", "allow"),
    (&["t.{{tag(team)}}.{{tag(team)}}"], &[], &["team:red", "team:blue"], "t.red.blue", "not-allowed"),
    (&["t.{{tag(team)}}.{{tag(team)}}"], &[], &["team:red", "team:blue"], "t.red.red", "allow"),
    // No value: the entry falls away; where nothing is left of an allow list, nothing is allowed.
    (&["t.{{tag(team)}}", "a"], &[], &["unit:x"], "a", "allow"),
    (&["t.{{tag(team)}}"], &[], &["unit:x"], "a", "deny"),
    // Deny lists as well.
    (&[">"], &["u.{{name()}}"], &[], "u.ann", "deny"),
    (&[">"], &["u.{{name()}}"], &[], "u.bob", "allow"),
    (&[], &["t.{{tag(team)}}"], &["team:red"], "t.red", "deny"),
    (&[], &["t.{{tag(team)}}"], &["team:red"], "t.blue", "no-allow-list"),
];

#[test]
fn templates_of_roles() {
    let mut permits = Permits::found(12);
    let mut cases = Vec::new();
    for (place, (allow, deny, tags, subject, code)) in TEMPLATES.iter().enumerate() {
        // Each in an account of its own of the same length of name, for the account's name stands in some.
        let team = permits.identities.account(if place == 2 {
            "TEAM"
        } else {
            ["T", &place.to_string()].concat().leak()
        });
        let observer = permits.user(team, "observer", Some(UserRights::default()), &[]);
        let role = permits.role(team.account, "work", publishing(list(allow, deny)));
        cases.push((permits.user(role, "ann", None, tags), observer, *subject, *code));
    }
    let server = permits.serve(Version::Newest);
    for (who, observer, subject, code) in cases {
        let mut user = permits.connect(&server, who).expect("a user connects");
        let mut observer = permits.connect(&server, observer).expect("the observer connects");
        subscribes(&mut observer, ">", None).expect("the observer may");
        let taken = publishes(&mut user, &mut observer, subject, None);
        let answer = permits.why(who, Action::Publish, subject, None).expect("an answer");
        assert_eq!((answer.allowed, answer.rule.code()), (taken, code), "{subject} {answer:?}");
        assert!(matches!(&answer.source, Some(Source::Role { role, .. }) if role == "work"), "{answer:?}");
    }
}

#[test]
fn an_entry_with_a_queue_falls_away_beside_a_template() {
    let mut permits = Permits::found(13);
    let team = permits.identities.account("TEAM");
    let mixed = permits.role(team.account, "mixed", subscribing(list(&["a q", "u.{{name()}}"], &[])));
    let plain = permits.role(team.account, "plain", subscribing(list(&["a q", "u"], &[])));
    let denied = permits.role(team.account, "denied", subscribing(list(&["a"], &["x q", "u.{{name()}}"])));
    let (mixed, plain) = (permits.user(mixed, "ann", None, &[]), permits.user(plain, "bob", None, &[]));
    let denied = permits.user(denied, "cid", None, &[]);
    let server = permits.serve(Version::Newest);
    for (who, taken) in [(mixed, false), (plain, true)] {
        let mut user = permits.connect(&server, who).expect("a user connects");
        assert_eq!(subscribes(&mut user, "a", Some("q")).is_some(), taken);
        assert_eq!(permits.why(who, Action::Subscribe, "a", Some("q")).expect("an answer").allowed, taken);
    }
    // In a deny list the server does not let the user in at all.
    assert!(permits.connect(&server, denied).is_err());
    let answer = permits.why(denied, Action::Subscribe, "a", None).expect("an answer");
    assert_eq!(answer.rule, Rule::Template { entry: "x q".into() });
    assert!(!answer.allowed && answer.source.is_none());
}

#[test]
fn defaults_count_where_nothing_else_is_said() {
    let mut permits = Permits::found(14);
    let team = permits.identities.account("TEAM");
    let observer = permits.user(team, "observer", Some(publishing(list(&[">"], &[]))), &[]);
    let bare = permits.user(team, "bare", Some(UserRights::default()), &[]);
    // Any permission of its own, and the default does not count.
    let own = permits.user(team, "own", Some(subscribing(list(&["s"], &[]))), &[]);
    let role = permits.role(team.account, "bare", UserRights::default());
    let scoped = permits.user(role, "scoped", None, &[]);
    let replies = UserRights { response: Some(ResponsePermission::default()), ..UserRights::default() };
    let replies = permits.user(team, "replies", Some(replies), &[]);
    let permissions = Permissions { publish: list(&["d"], &["d.x"]), ..Permissions::default() };
    permits.defaults(team.account, permissions);
    let server = permits.serve(Version::Newest);
    let mut observer = permits.connect(&server, observer).expect("the observer connects");
    subscribes(&mut observer, ">", None).expect("the observer may");
    for (who, subject, code, source) in [
        (bare, "d", "allow", Source::Default),
        (bare, "e", "not-allowed", Source::Default),
        (scoped, "d", "allow", Source::Default),
        (scoped, "e", "not-allowed", Source::Default),
        (own, "e", "no-allow-list", Source::Own),
        (replies, "d", "replies-only", Source::Own),
    ] {
        let mut user = permits.connect(&server, who).expect("a user connects");
        let taken = publishes(&mut user, &mut observer, subject, None);
        let answer = permits.why(who, Action::Publish, subject, None).expect("an answer");
        assert_eq!((answer.allowed, answer.rule.code()), (taken, code), "{subject} {answer:?}");
        assert_eq!(answer.source, Some(source), "{subject}");
    }
}

#[test]
fn a_reply_is_allowed_though_denied() {
    let mut permits = Permits::found(15);
    let team = permits.identities.account("TEAM");
    let observer = permits.user(team, "observer", Some(UserRights::default()), &[]);
    let max = ResponsePermission { max: 2, ..ResponsePermission::default() };
    for (place, publish) in [list(&[], &[]), list(&["a"], &[]), list(&["a"], &[">"])].into_iter().enumerate()
    {
        let rights = UserRights { publish, response: Some(max.clone()), ..UserRights::default() };
        permits.user(team, &format!("responder{place}"), Some(rights), &[]);
    }
    let users: Vec<Who> =
        (0..3).map(|place| find(&permits, team.account, &format!("responder{place}"))).collect();
    let server = permits.serve(Version::Newest);
    let mut observer = permits.connect(&server, observer).expect("the observer connects");
    subscribes(&mut observer, "reply.>", None).expect("the observer may");
    for who in users {
        let mut user = permits.connect(&server, who).expect("a user connects");
        let answer = permits.why(who, Action::Publish, "reply.1", None).expect("an answer");
        assert!(!answer.allowed, "{answer:?}");
        let replies = Condition::Replies { max: 2, ttl: 120_000_000_000 };
        assert!(answer.conditions.contains(&replies), "{answer:?}");
        assert!(!publishes(&mut user, &mut observer, "reply.1", None));
        subscribes(&mut user, "work", None).expect("it may subscribe");
        observer.publish("work", Some("reply.1"), &[], b"request").expect("a connection");
        observer.settle().expect("a connection");
        user.settle().expect("a connection");
        let sent: Vec<bool> = (0..3).map(|_| publishes(&mut user, &mut observer, "reply.1", None)).collect();
        assert_eq!(sent, [true, true, false], "two messages for each request");
        assert!(!publishes(&mut user, &mut observer, "reply.2", None));
    }
}

fn find(permits: &Permits, account: cim_keys_core::nkey::PublicKey, name: &str) -> Who {
    let mut entities = permits.identities.registry().entities();
    let found = entities.find(|entity| entity.name() == name).expect("a user of this name");
    (account, found.key())
}
