//! `cim-keys why --at`: at any place of a mixed history it says what a registry says that knows the stream up to there.

use std::collections::BTreeMap;

use cim_keys::nats::target::Target;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Account, Entity, EntityId, Operator, Registry, User};
use cim_keys_core::time::ServerTime;
use cim_keys_core::why::{Action, Answer, Parties, Question, why};
use cim_keys_tests::desk::{Desk, STUCK, make_streams};
use cim_keys_tests::ledger::{Audit, Ledger};
use cim_keys_tests::permits::history::History;
use cim_keys_tests::program::{Person, Said, said};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use serde_json::{Value, json};

const SUBJECTS: [&str; 6] = ["a", "a.b", "b.c", "orders.new", "orders.new.eu", "c"];

/// What the stream says up to a sequence.
struct Prefix {
    audit: Audit,
    time: i64,
}

impl Prefix {
    fn of(ledger: &Ledger, sequence: u64, desk: &Desk) -> Prefix {
        let messages = ledger.messages[..usize::try_from(sequence).unwrap()].to_vec();
        let stored: ServerTime = ledger.at(sequence).time.as_ref().unwrap().parse().unwrap();
        Prefix { audit: Ledger { messages }.audit(&desk.registry()), time: stored.seconds() }
    }

    fn registry(&self) -> &Registry {
        &self.audit.registry
    }

    fn entity(&self, id: EntityId) -> Option<Entity> {
        self.registry().entities().find(|entity| entity.id() == id).cloned()
    }

    fn parents(&self, user: &User) -> (Operator, Account) {
        let operator = EntityId::Operator(self.registry().id().operator);
        match (self.entity(operator), self.entity(EntityId::Account(user.account))) {
            (Some(Entity::Operator(operator)), Some(Entity::Account(account))) => (operator, account),
            parents => panic!("{parents:?}"),
        }
    }

    fn users(&self) -> Vec<User> {
        let users = self.registry().entities().filter_map(|entity| match entity {
            Entity::User(user) => Some(user.clone()),
            _ => None,
        });
        users.collect()
    }

    fn answer(&self, user: &User, action: Action, subject: &str) -> Answer {
        let (operator, account) = self.parents(user);
        let parties = Parties { operator: &operator, account: &account, user };
        why(&parties, &Question { action, subject: subject.into(), queue: None, at: self.time }).unwrap()
    }

    /// The user that is meant, or the code of why there is none.
    fn meant(&self, account: PublicKey, name: &str) -> Result<User, &'static str> {
        if self.entity(EntityId::Account(account)).is_none() {
            return Err("unknown-account");
        }
        let mut found = self.users();
        found.retain(|user| user.account == account && user.token.claims().name == name);
        if found.iter().any(|user| user.revoked_at.is_none()) {
            found.retain(|user| user.revoked_at.is_none());
        }
        match found.len() {
            0 => Err("unknown-user"),
            1 => Ok(found.remove(0)),
            _ => Err("ambiguous"),
        }
    }
}

fn failure(said: &Said) -> (i32, String, Value) {
    let error: Value = serde_json::from_str(said.stderr.lines().last().unwrap_or_default()).unwrap();
    let code = error["error"]["code"].as_str().unwrap().to_owned();
    (said.status.unwrap(), code, error["error"]["hints"].clone())
}

fn ask(person: &Person, words: &[&str]) -> Said {
    person.run(&[&["why"][..], words, &["--output", "json"]].concat())
}

/// A server, the history on it, and somebody who has read all of it.
fn told(seed: u64) -> (History, NatsServer, Ledger, Person) {
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    let streams = make_streams(&target, 120);
    let mut history = History::new(seed);
    for _ in 0..30 {
        for _ in 0..=history.below(4) {
            history.step();
        }
        history.desk.sync_for(&target, Some(streams.clone()), STUCK).drained();
    }
    let ledger = Ledger::of(&server);
    let reader = Person::new();
    let operator = history.desk.registry().operator.to_string();
    let cloned = reader.run(&["clone", "--server", &server.url(), "--operator", &operator]);
    assert_eq!(cloned.status, Some(0), "{cloned:?}");
    (history, server, ledger, reader)
}

#[test]
fn at_any_place_it_is_what_the_stream_says_up_to_there() {
    let (mut history, _server, ledger, reader) = told(1);
    let mut prefixes: BTreeMap<u64, Prefix> = BTreeMap::new();
    let mut codes: BTreeMap<String, u32> = BTreeMap::new();
    for turn in 0..200 {
        let sequence = history.between(1, ledger.last());
        let (account, key) = history.some_user();
        let name = format!("user{}", history.below(12));
        let subject = SUBJECTS[usize::try_from(history.below(6)).unwrap()];
        let (action, flag) =
            if turn % 2 == 0 { (Action::Publish, "--publish") } else { (Action::Subscribe, "--subscribe") };
        let prefix = prefixes.entry(sequence).or_insert_with(|| Prefix::of(&ledger, sequence, &history.desk));
        let (at, key_text, account_text) = (sequence.to_string(), key.to_string(), account.to_string());
        let mut words = vec![subject, flag, "--at", &at];
        let meant = if turn % 3 == 0 {
            words.extend(["--user", &name, "--account", &account_text]);
            prefix.meant(account, &name)
        } else {
            words.extend(["--user", &key_text]);
            let user = prefix.users().into_iter().find(|user| user.key == key);
            user.ok_or("unknown-user")
        };
        let said = ask(&reader, &words);
        let code = match meant {
            Ok(user) => {
                let answer = prefix.answer(&user, action, subject);
                assert_eq!(said.status, Some(if answer.allowed { 0 } else { 10 }), "{words:?} {said:?}");
                let told: Value = serde_json::from_str(&said.stdout).unwrap();
                let expected = serde_json::to_value(&answer).unwrap();
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(&told[name], value, "{name} of {words:?}");
                }
                assert_eq!(
                    (&told["at"], &told["as_of"]["sequence"], &told["user_key"], &told["confirmed"]),
                    (&json!(prefix.time), &json!(sequence), &json!(user.key), &json!(true))
                );
                answer.rule.code().to_owned()
            }
            Err(code) => {
                let (status, found, hints) = failure(&said);
                assert_eq!(
                    (status, found.as_str()),
                    (if code == "ambiguous" { 5 } else { 4 }, code),
                    "{words:?}"
                );
                assert!(hints[0].is_string(), "{words:?} {hints}");
                code.to_owned()
            }
        };
        *codes.entry(code).or_default() += 1;
    }
    for code in ["allow", "not-allowed", "deny", "user-revoked", "user-term", "unknown-user", "signing-key"] {
        assert!(codes.contains_key(code), "{code} never came: {codes:?}");
    }
    // All who may, at a few places.
    for _ in 0..10 {
        let sequence = history.between(15, ledger.last());
        let prefix = Prefix::of(&ledger, sequence, &history.desk);
        let said = ask(&reader, &["a.b", "--publish", "--who", "--at", &sequence.to_string()]);
        let who: Value = said.json();
        let mut keys: Vec<&str> =
            who["users"].as_array().unwrap().iter().map(|told| told["user_key"].as_str().unwrap()).collect();
        let users = prefix.users();
        let may = users.iter().filter(|user| prefix.answer(user, Action::Publish, "a.b").allowed);
        let mut expected: Vec<String> = may.map(|user| user.key.to_string()).collect();
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            (who["asked"].as_u64().unwrap(), keys),
            (users.len() as u64, expected.iter().map(String::as_str).collect()),
            "at {sequence}"
        );
    }
}

#[test]
fn what_has_ended_since_had_not_ended_then() {
    let server = NatsServer::plain();
    let (person, url) = (Person::new(), server.url());
    let run = |words: &[&str]| {
        let done = person.run(words);
        assert_eq!(done.status, Some(0), "{words:?} {done:?}");
        done
    };
    run(&["init", "--name", "Example"]);
    run(&["account", "create", "app"]);
    run(&["user", "create", "ann", "-a", "app", "--allow-pub", "a"]);
    run(&["sync", "--server", &url]);
    let soon = cim_keys::ambient::Ambient::system().now().seconds() + 2;
    let end = cim_keys_core::time::Timestamp::from_millis(soon * 1000).unwrap().to_string();
    run(&["user", "create", "soon", "-a", "app", "--allow-pub", "a", "--expiry", &end]);
    run(&["sync", "--server", &url]);
    let ask = |words: &[&str], url: Option<&str>| {
        let words = [&["why", "a", "--publish", "--output", "json", "--user"][..], words].concat();
        said(person.command(&words).envs(url.map(|url| ("NATS_URL", url))).output().unwrap())
    };
    let now = || cim_keys::ambient::Ambient::system().now().seconds();
    wait::until("the token ends", || (now() > soon).then_some(()));
    assert_eq!(ask(&["soon"], None).status, Some(10));
    // This host appended it, and an acknowledgement does not say when: it matters for tokens that end, and for no others.
    let ann = ask(&["ann", "--at", "18"], None).json();
    assert_eq!((&ann["allowed"], &ann["as_of"]), (&json!(true), &json!({ "sequence": 18 })));
    let unknown = ask(&["soon", "--at", "18"], None);
    let (status, code, hints) = failure(&unknown);
    assert_eq!((status, code.as_str()), (4, "times-unknown"));
    assert!(hints[0].as_str().unwrap().contains("NATS_URL") && hints[1].as_str().unwrap().contains("--when"));
    let then = ask(&["soon", "--at", "18"], Some(&url)).json();
    assert_eq!(then["allowed"], true, "{then}");
    // What was asked is known from then on.
    let all = person
        .run(&["why", "a", "--publish", "--who", "--account", "app", "--at", "18", "--output", "json"])
        .json();
    assert_eq!((all["users"].as_array().unwrap().len(), &all["at"]), (2, &then["at"]), "{all}");
    let known = ask(&["soon", "--at", "18"], None).json();
    assert_eq!(known, then);
    assert!(then["as_of"]["time"].is_string(), "{then}");
    // A time is the one at which it is judged, whatever was stored last by then.
    let late = cim_keys_core::time::Timestamp::from_millis(now() * 1000).unwrap().to_string();
    let late = ask(&["soon", "--at", &late], Some(&url));
    let told: Value = serde_json::from_str(&late.stdout).unwrap();
    assert_eq!((late.status, &told["rule"]["code"]), (Some(10), &json!("user-term")), "{told}");
    let judged = ask(&["soon", "--at", "18", "--when", "2200-01-01"], None);
    assert_eq!(judged.status, Some(10), "{judged:?}");
}

#[test]
fn a_place_that_is_none_is_said_to_be_none() {
    let server = NatsServer::plain();
    let (person, url) = (Person::new(), server.url());
    let run = |words: &[&str]| {
        let done = person.run(words);
        assert_eq!(done.status, Some(0), "{words:?} {done:?}");
    };
    run(&["init", "--name", "Example"]);
    run(&["account", "create", "app"]);
    run(&["user", "create", "ann", "-a", "app", "--allow-pub", "a"]);
    let fails = |words: &[&str]| failure(&ask(&person, &[&["a", "--publish"][..], words].concat()));
    assert_eq!(fails(&["-u", "ann", "--at", "1"]).1, "nothing-published");
    run(&["sync", "--server", &url]);
    run(&["user", "create", "late", "-a", "app", "--allow-pub", "a"]);
    for (words, code, hint) in [
        (&["-u", "ann", "--at", "18"][..], "beyond-head", "sync"),
        (&["-u", "ann", "--at", "0"], "before-first", "log"),
        (&["-u", "ann", "--at", "2200-01-01T00:00:00Z"], "beyond-now", "--at"),
        // The account is made by 15 and 16, the user by 17.
        (&["-u", "ann", "--at", "16"], "unknown-user", "from sequence 17 on"),
        (&["-u", "ann", "-a", "app", "--at", "14"], "unknown-account", "list accounts --at 14"),
        (&["-u", "late", "--at", "17"], "unknown-user", "it is pending"),
        (&["-u", "nobody", "--at", "17"], "unknown-user", "list users --at 17"),
    ] {
        let (status, found, hints) = fails(words);
        assert_eq!((status, found.as_str()), (if code == "beyond-now" { 3 } else { 4 }, code), "{words:?}");
        assert!(hints[0].as_str().unwrap().contains(hint), "{words:?}: {hints}");
    }
    let before = ask(&person, &["a", "--publish", "-u", "ann", "--at", "yesterday"]);
    assert_eq!(before.status, Some(2), "{before:?}");
    let early = said(
        person
            .command(&[
                "why",
                "a",
                "--publish",
                "-u",
                "ann",
                "--at",
                "2020-01-01T00:00:00Z",
                "--output",
                "json",
            ])
            .env("NATS_URL", &url)
            .output()
            .unwrap(),
    );
    assert_eq!(failure(&early).1, "before-first");
    // Without --at it is there, and pending.
    let late = ask(&person, &["a", "--publish", "-u", "late"]).json();
    assert_eq!(
        (&late["allowed"], &late["confirmed"], late.get("as_of")),
        (&json!(true), &json!(false), None)
    );
    let text = person.run(&["why", "a", "--publish", "-u", "ann", "--at", "17"]);
    assert!(text.stderr.contains("as of sequence 17") && text.stdout.starts_with("ALLOWED"), "{text:?}");
    let rows =
        person.run(&["why", "a", "--publish", "--who", "-a", "app", "--at", "17", "--output", "jsonl"]);
    assert_eq!(rows.stdout.lines().count(), 1, "{rows:?}");
    assert_eq!(serde_json::from_str::<Value>(&rows.stdout).unwrap()["as_of"]["sequence"], 17);
}
