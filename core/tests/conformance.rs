//! Equal inputs give equal bytes: every command, every event, every kind of token, creds and the envelope, against one
//! file. The same file is checked natively, on `wasm32-wasip1`, in Node and in a browser. `UPDATE_VECTORS=1` writes it
//! anew, for a person to look at the difference.

mod lab;

use cim_keys_core::command::{Command, HandedOut, Role};
use cim_keys_core::context::Context;
use cim_keys_core::creds;
use cim_keys_core::draft::Decision;
use cim_keys_core::event::Fact;
use cim_keys_core::jwt::{PermissionList, ResponsePermission, TimeRange, Token, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use lab::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

const FILE: &str = include_str!("data/conformance.json");

/// What happened, as it is written down.
struct Story {
    lab: Lab,
    keys: Vec<Value>,
    steps: Vec<Value>,
    creds: Vec<Value>,
    commands: BTreeSet<usize>,
    facts: BTreeSet<usize>,
}

impl Story {
    fn new() -> Self {
        let lab = Lab::empty();
        let operator = lab.registry.id().operator;
        let mut story = Self {
            lab,
            keys: Vec::new(),
            steps: Vec::new(),
            creds: Vec::new(),
            commands: BTreeSet::new(),
            facts: BTreeSet::new(),
        };
        story.note_key(operator, 200);
        let command = Command::FoundRegistry { name: "Test é".into() };
        let mut keys = story.draw(&command.keys()[1..]);
        keys.insert(0, operator);
        story.lab.founding = keys.clone();
        story.decide(command, operator, keys);
        story
    }

    fn draw(&mut self, kinds: &[Kind]) -> Vec<PublicKey> {
        let first = self.lab.drawn + 1;
        let keys = self.lab.draw(kinds);
        keys.iter().zip(first..).for_each(|(key, number)| self.note_key(*key, number));
        keys
    }

    fn note_key(&mut self, key: PublicKey, number: u8) {
        let seed = self.lab.keys[&key].seed();
        self.keys.push(json!({
            "kind": key.kind(), "entropy": hex(&entropy(number)), "public_key": key, "seed": seed.expose(),
        }));
    }

    /// Draws keys, decides, and reads what it wrote.
    fn act(&mut self, command: Command, authority: PublicKey) -> Vec<PublicKey> {
        let keys = self.draw(&command.keys());
        self.decide(command, authority, keys.clone());
        keys
    }

    fn decide(&mut self, command: Command, authority: PublicKey, keys: Vec<PublicKey>) {
        let context = self.lab.context(authority, keys);
        let facts = self.lab.facts(&command, &context);
        let decision = self.lab.decide(&command, &context).unwrap();
        self.commands.insert(place_of_command(&command));
        self.facts.extend(decision.events.iter().map(|event| place_of_fact(&event.fact)));
        self.steps.push(json!({
            "name": command.name(),
            "command": command,
            "context": context,
            "scope": command.scope(&context, self.lab.registry.id()),
            "keys": command.keys(),
            "facts": facts,
            "decision": written(&decision),
        }));
        self.hand_out(&decision, &context);
        self.lab.publish(&decision).unwrap();
    }

    fn hand_out(&mut self, decision: &Decision, context: &Context) {
        for token in tokens(decision) {
            let claims = token.claims();
            let key = claims.subject;
            if claims.body.as_user().is_some() && context.keys.contains(&key) {
                let text = creds::format(&token, &self.lab.keys[&key]).unwrap();
                self.creds
                    .push(json!({ "token": token.as_str(), "public_key": key, "creds": text.expose() }));
            }
        }
    }

    fn written(self) -> String {
        let story = json!({
            "registry": self.lab.registry.id(),
            "keys": self.keys,
            "steps": self.steps,
            "creds": self.creds,
            "stream": self.lab.stream,
        });
        serde_json::to_string_pretty(&story).unwrap() + "\n"
    }
}

fn written(decision: &Decision) -> Value {
    json!({
        "command_id": decision.command_id,
        "draft_hash": decision.draft_hash,
        "messages_hash": decision.messages_hash,
        "envelopes": decision.envelopes,
        "tokens": tokens(decision).iter().map(|token| token.as_str().to_owned()).collect::<Vec<_>>(),
    })
}

fn tokens(decision: &Decision) -> Vec<Token> {
    let issued = decision.events.iter().filter_map(|event| event.token.as_ref());
    issued.map(|token| token.jwt.clone().with_signature(token.signature.unwrap()).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new variant does not compile until it has a place here, and the test fails until it is in the story.
fn place_of_command(command: &Command) -> usize {
    match command {
        Command::FoundRegistry { .. } => 0,
        Command::CreateAccount { .. } => 1,
        Command::CreateUser { .. } => 2,
        Command::SetPermissions { .. } => 3,
        Command::RevokeUser { .. } => 4,
        Command::GenerateCredentials { .. } => 5,
        Command::GenerateKey { .. } => 6,
        Command::RevokeKey { .. } => 7,
        Command::VoidCommand { .. } => 8,
        // No version can decide it while there is one schema: `tests/schema.rs` has it, and its event.
        Command::RaiseSchema { .. } => 9,
    }
}

fn place_of_fact(fact: &Fact) -> usize {
    match fact {
        Fact::OperatorCreated => 0,
        Fact::OperatorUpdated => 1,
        Fact::AccountCreated => 2,
        Fact::AccountUpdated => 3,
        Fact::UserCreated { .. } => 4,
        Fact::UserUpdated => 5,
        Fact::UserRevoked { .. } => 6,
        Fact::KeyGenerated { .. } => 7,
        Fact::KeyRevoked { .. } => 8,
        Fact::CredentialsIssued => 9,
        Fact::CommandVoided { .. } => 10,
        Fact::SchemaRaised { .. } => 11,
    }
}

fn story() -> Story {
    let mut story = Story::new();
    let (operator, signing) = (story.lab.founding[OPERATOR], story.lab.founding[OPERATOR_SIGNING]);
    let account = Command::CreateAccount { name: "APP".into(), limits: Default::default() };
    let app = story.act(account, signing);
    let user = create_user(app[0], "alice <&> é 😀");
    let alice = story.act(user, app[1])[0];
    let rights = UserRights {
        publish: PermissionList { allow: vec!["orders.>".into()], ..Default::default() },
        subscribe: PermissionList { deny: vec!["secret.*".into()], ..Default::default() },
        response: Some(ResponsePermission { max: 1, ttl: 5_000_000_000, ..Default::default() }),
        src: vec!["192.0.2.0/24".into()],
        times: vec![TimeRange { start: "08:00:00".into(), end: "18:00:00".into(), ..Default::default() }],
        times_location: "Europe/Berlin".into(),
        allowed_connection_types: vec!["WEBSOCKET".into()],
        ..Default::default()
    };
    let set = Command::SetPermissions { account: app[0], user: alice, rights: rights.clone() };
    story.act(set, app[1]);
    let again = Command::GenerateCredentials { account: app[0], user: alice, expires: 4_102_444_800 };
    story.act(again, app[1]);
    let scoped = Command::GenerateKey {
        kind: Kind::Account,
        owner: Some(app[0]),
        label: Some("ci".into()),
        role: Some(Role {
            name: "svc".into(),
            template: UserRights { times: Vec::new(), times_location: String::new(), ..rights },
        }),
    };
    let scoped = story.act(scoped, signing)[0];
    let user = Command::CreateUser {
        account: app[0],
        name: "ci".into(),
        rights: None,
        expires: 4_102_444_800,
        tags: vec!["team:blue".into()],
        credentials: false,
    };
    story.act(user, scoped);
    let key = Command::GenerateKey { kind: Kind::Operator, owner: Some(operator), label: None, role: None };
    story.act(key, operator);
    let free = Command::GenerateKey { kind: Kind::Curve, owner: None, label: Some("box".into()), role: None };
    let free = story.act(free, signing)[0];
    story.act(Command::RevokeKey { key: free, owner: None }, signing);
    story.act(Command::RevokeKey { key: scoped, owner: Some(app[0]) }, signing);
    story.act(Command::RevokeUser { account: app[0], user: alice }, signing);
    // One that nobody saw, by the key that would have vouched for it; and one whose creds are out.
    let nowhere =
        Command::VoidCommand { command_id: Uuid::from_u128(7), account: Some(app[0]), revoke: None };
    story.act(nowhere, app[1]);
    let user = story.draw(&[Kind::User])[0];
    let handed_out = HandedOut { account: app[0], user, issued_at: 1_795_423_000 };
    let command_id = Uuid::from_u128(8);
    story.act(Command::VoidCommand { command_id, account: None, revoke: Some(handed_out) }, signing);
    story
}

// Only a person who asks for it lets the test write.
#[allow(clippy::disallowed_methods)]
#[test]
fn every_byte_is_the_same_everywhere() {
    let text = story().written();
    #[cfg(not(target_family = "wasm"))]
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conformance.json");
        std::fs::write(path, &text).unwrap();
        return;
    }
    for (place, (found, expected)) in text.lines().zip(FILE.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", place + 1);
    }
    assert_eq!(text.len(), FILE.len());
}

#[test]
fn every_command_and_every_fact_is_in_it() {
    let story = story();
    assert_eq!(story.commands, (0..9).collect());
    assert_eq!(story.facts, (0..11).collect());
}
