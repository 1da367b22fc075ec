//! Whoever gets into a plain server can write to the stream. What is no command of an authority is recorded with its
//! place and reason, changes nothing, and stops nobody.

use cim_keys::nats::target::Target;
use cim_keys_core::command::{Command, decide};
use cim_keys_core::context::Context;
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::{CIM_EVENT_ID, CIM_EVENT_TYPE, NATS_MSG_ID};
use cim_keys_core::jwt::{Body, SigningKey, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey, Signature};
use cim_keys_core::registry::{Entity, EntityId, Facts, Registry};
use cim_keys_core::roles::{API_PREFIX, EDGE_ACCOUNT, PipelineRole};
use cim_keys_core::stream::{KEYS_EVENTS, StreamConfig};
use cim_keys_tests::desk::{Desk, STUCK, make_streams};
use cim_keys_tests::ledger::{Audit, Ledger};
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use std::collections::BTreeMap;
use std::sync::Arc;

const CREATED: &str = "cowboyai.security.keys.user.created";

/// A published registry on a server, and a stranger who may write anything.
struct Scene {
    server: NatsServer,
    target: Target,
    settings: StreamConfig,
    desk: Desk,
    stranger: Client,
    /// What must be recorded: first sequence to code and last sequence.
    expected: BTreeMap<u64, (String, u64)>,
    users: u32,
}

impl Scene {
    fn new() -> Scene {
        let server = NatsServer::plain();
        let target = Target::open(&server.url());
        // A second, so that a message with a known id is stored soon.
        let settings = make_streams(&target, 1);
        let desk = Desk::founded();
        let stranger = Client::connect(server.address()).unwrap();
        let mut scene =
            Scene { server, target, settings, desk, stranger, expected: BTreeMap::new(), users: 0 };
        scene.goes_on();
        scene
    }

    fn last(&mut self) -> u64 {
        let subject = format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}");
        let info = self.stranger.request(&subject, &[], b"").unwrap().json();
        info["state"]["last_seq"].as_u64().unwrap()
    }

    /// Publishes as it is told, and waits until it is stored.
    fn publish(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
        let stranger = &mut self.stranger;
        wait::until("the message is stored", || {
            let ack = stranger.request(subject, headers, payload).unwrap().json();
            assert!(ack["error"].is_null(), "{ack}");
            if ack["duplicate"].is_null() { ack["seq"].as_u64() } else { None }
        })
    }

    fn envelope(&mut self, envelope: &Envelope) -> u64 {
        let headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
        self.publish(envelope.subject.as_str(), &headers, &envelope.payload)
    }

    /// What was stored is one anomaly of this code.
    fn expect(&mut self, first: u64, last: u64, code: &str) {
        self.expected.insert(first, (code.to_owned(), last));
    }

    fn anomaly(&mut self, code: &str, subject: &str, headers: &[(&str, &str)], payload: &[u8]) {
        let sequence = self.publish(subject, headers, payload);
        self.expect(sequence, sequence, code);
    }

    /// A whole command as one anomaly.
    fn command(&mut self, code: &str, decision: &Decision) {
        let all: Vec<u64> = decision.envelopes.iter().map(|envelope| self.envelope(envelope)).collect();
        self.expect(all[0], all[all.len() - 1], code);
    }

    /// A command of the host is published, and nothing but it counts.
    fn goes_on(&mut self) -> PublicKey {
        self.users += 1;
        let user = self.desk.user(&format!("user-{}", self.users));
        let run = self.desk.sync_for(&self.target, Some(self.settings.clone()), STUCK).drained();
        assert!(run.published > 0, "{run:?}");
        self.check();
        user
    }

    fn check(&self) -> Audit {
        let audit = Ledger::of(&self.server).check_with(&[&self.desk]);
        let found: BTreeMap<u64, (String, u64)> = audit
            .anomalies
            .iter()
            .map(|anomaly| {
                let (first, last) = (anomaly.sequences[0], *anomaly.sequences.last().unwrap());
                (first, (anomaly.reason.code.clone(), last))
            })
            .collect();
        assert_eq!(found, self.expected);
        audit
    }

    /// Reads, and finds the registry as it was before.
    fn unmoved(&mut self, before: &Registry) {
        let run = self.desk.sync_for(&self.target, Some(self.settings.clone()), STUCK).drained();
        assert_eq!(run.published, 0);
        assert_eq!(&self.check().registry, before);
    }

    /// Decides what the host would refuse: on facts that `twist` has changed; signed with the host's keys and `more`.
    fn forge(
        &self,
        command: &Command,
        authority: PublicKey,
        twist: impl FnOnce(&mut Facts),
        more: &[&KeyPair],
    ) -> Decision {
        let host = self.desk.host();
        let draw = |kind| KeyPair::from_entropy(kind, host.ambient().entropy().unwrap()).public_key();
        let command_id = host.ambient().command_id().unwrap();
        let context = Context {
            now: host.ambient().now(),
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: "stranger".parse().unwrap(),
            authority,
            keys: command.keys().into_iter().map(draw).collect(),
        };
        let scope = command.scope(&context, &self.desk.registry());
        let (mut facts, _) = self.desk.store().facts(&scope, true).unwrap();
        twist(&mut facts);
        let draft = decide(&facts, command, &context).unwrap();
        let signatures: Vec<Signature> = draft
            .requests()
            .iter()
            .map(|request| match more.iter().find(|pair| pair.public_key() == request.public_key) {
                Some(pair) => pair.sign(&request.bytes).unwrap(),
                None => host.key(request.public_key).unwrap().sign(&request.bytes).unwrap(),
            })
            .collect();
        draft.complete(&signatures).unwrap()
    }

    fn new_user(&self, account: PublicKey, name: &str) -> Command {
        Command::CreateUser {
            account,
            name: name.into(),
            rights: Some(UserRights::default()),
            expires: 0,
            tags: Vec::new(),
            credentials: false,
        }
    }

    fn signing_keys(&self, account: PublicKey) -> BTreeMap<PublicKey, SigningKey> {
        let account = self.desk.host().account(account).unwrap();
        account.token.claims().body.as_account().unwrap().signing_keys.clone()
    }

    fn app_key(&self) -> PublicKey {
        *self.signing_keys(self.desk.app()).keys().next().unwrap()
    }
}

/// The account's token lists this key as a plain one, in the facts alone.
fn let_sign(facts: &mut Facts, account: PublicKey, key: PublicKey) {
    let id = EntityId::Account(account);
    let Some(Entity::Account(mut entity)) = facts.entity(id).unwrap().cloned() else { panic!("{id}") };
    let mut claims = entity.token.claims().clone();
    if let Body::Account(body) = &mut claims.body {
        body.signing_keys.insert(key, SigningKey::Plain);
    }
    entity.token.jwt = encode(&claims).unwrap();
    facts.put_entity(id, Some(Entity::Account(entity)));
}

/// The same messages with other signatures in the last one.
fn signed_by_nobody(decision: &Decision, signatures: &str) -> Decision {
    let mut forged = decision.clone();
    let envelope = forged.envelopes.last_mut().unwrap();
    let text = String::from_utf8(envelope.payload.clone()).unwrap();
    let (head, _) = text.rsplit_once("\"signatures\":\"").unwrap();
    envelope.payload = format!("{head}\"signatures\":\"{signatures}\"}}").into_bytes();
    forged
}

#[test]
fn garbage_and_answers_of_the_server() {
    let mut scene = Scene::new();
    let before = scene.check().registry;
    for payload in [&b""[..], b"{}", b"garbage", b"{\"specversion\":\"1.0\"}", &[0xff; 100], &[b'['; 100_000]]
    {
        scene.anomaly("event-json", CREATED, &[], payload);
    }
    for subject in
        ["cowboyai.security.keys.x", "cowboyai.security.keys.a.b.c", "cowboyai.security.keys.user.x_Y"]
    {
        let sequence = scene.publish(subject, &[("A", "1")], b"{}");
        let code =
            Ledger::of(&scene.server).audit(&scene.desk.registry()).anomalies.pop().unwrap().reason.code;
        assert!(["event-subject", "event-json"].contains(&code.as_str()), "{code}");
        scene.expect(sequence, sequence, &code);
    }
    // The reply subject of a request is not checked: the server's own answer lands on the stream.
    let asked = format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}");
    let last = scene.last();
    scene.stranger.publish(&asked, Some(CREATED), &[], b"").unwrap();
    wait::until("the answer is stored", || (scene.last() > last).then_some(()));
    scene.expect(last + 1, last + 1, "event-json");
    scene.unmoved(&before);
    scene.goes_on();
}

#[test]
fn header_blocks_that_no_client_would_write() {
    let mut scene = Scene::new();
    let before = scene.check().registry;
    let raw = |scene: &mut Scene, block: &str, code: &str| {
        let last = scene.last();
        let line = format!("HPUB {CREATED} {} {}\r\n{block}{{}}\r\n", block.len(), block.len() + 2);
        scene.stranger.send(line.as_bytes()).unwrap();
        wait::until("the message is stored", || (scene.last() > last).then_some(()));
        scene.expect(last + 1, last + 1, code);
    };
    // Always two of them behind what is known.
    // The first is one that makes a client drop its connection.
    for block in [
        "NATS/1.0\r\nno colon\r\n\r\n",
        "NATS/1.0\r\n: empty\r\n\r\n",
        "NATS/1.0 503\r\n\r\n",
        "NATS/1.0\r\nA b: 1\r\n\r\n",
        "NATS/1.0\r\nA:\u{1}\u{2}\r\n\r\n",
        "NATS/1.0\r\nNats-Sequence: x\r\n\r\n",
        "NATS/1.0\r\n\r\n",
    ] {
        let code = if block.contains("Nats-") { "event-headers" } else { "event-json" };
        raw(&mut scene, block, code);
        raw(&mut scene, block, code);
        scene.unmoved(&before);
    }
    scene.goes_on();
}

#[test]
fn genuine_events_again_and_in_other_places() {
    let mut scene = Scene::new();
    let user = scene.goes_on();
    scene.desk.revoke(user);
    scene.goes_on();
    let before = scene.check().registry;
    let ledger = Ledger::of(&scene.server);
    let old = |entity: &str| {
        let subject = format!("cowboyai.security.keys.{entity}");
        let message = ledger.messages.iter().rfind(|message| message.subject == subject).unwrap();
        let seven =
            message.headers.iter().filter(|(name, _)| !name.starts_with("Nats-") || *name == NATS_MSG_ID);
        let headers: Vec<(&str, &str)> = seven.collect();
        (subject, headers, message.payload.as_slice())
    };
    // A whole command of one event, under its own subject and under others.
    let (subject, headers, payload) = old("user.created");
    scene.anomaly("command-known", &subject, &headers, payload);
    scene.anomaly("event-disagrees", "cowboyai.security.keys.user.revoked", &headers, payload);
    scene.anomaly("event-disagrees", "cowboyai.security.keys.account.created", &headers, payload);
    // The first and the last event of a command of two.
    let (subject, headers, payload) = old("user.revoked");
    scene.anomaly("incomplete", &subject, &headers, payload);
    scene.anomaly("event-json", CREATED, &[], b"in between");
    let (subject, headers, payload) = old("account.updated");
    scene.anomaly("incomplete", &subject, &headers, payload);
    // Without the id that the server would know it by, or with another one.
    let (subject, headers, payload) = old("user.created");
    let bare: Vec<(&str, &str)> = headers.iter().copied().filter(|(name, _)| *name != NATS_MSG_ID).collect();
    scene.anomaly("event-headers", &subject, &bare, payload);
    let other: Vec<(&str, &str)> = bare.iter().copied().chain([(NATS_MSG_ID, "another")]).collect();
    scene.anomaly("event-headers", &subject, &other, payload);
    scene.unmoved(&before);
    scene.goes_on();
}

#[test]
fn keys_that_are_no_authority() {
    let mut scene = Scene::new();
    let app = scene.desk.app();
    let app_key = scene.app_key();
    let before = scene.check().registry;

    // Nobody.
    let genuine = scene.forge(&scene.new_user(app, "mallory"), app_key, |_| {}, &[]);
    let nobody = Signature::from_bytes([7; 64]).to_string();
    scene.command("signature", &signed_by_nobody(&genuine, &format!("{nobody}.{nobody}")));
    scene.command("event-signatures", &signed_by_nobody(&genuine, ""));

    // A foreign operator: a whole founding, and a user in our account.
    let stranger = Desk::founded();
    let founding = stranger.store().promised(stranger.commands()[0]).unwrap().unwrap();
    let all: Vec<u64> = founding.envelopes.iter().map(|envelope| scene.envelope(envelope)).collect();
    scene.expect(all[0], all[all.len() - 1], "foreign-registry");
    let account = stranger.account("APP2");
    let created = stranger.store().promised(*stranger.commands().last().unwrap()).unwrap().unwrap();
    let all: Vec<u64> = created.envelopes.iter().map(|envelope| scene.envelope(envelope)).collect();
    scene.expect(all[0], all[all.len() - 1], "foreign-registry");
    let foreign: Arc<KeyPair> = stranger.host().key(account).unwrap();
    let let_foreign = |facts: &mut Facts| let_sign(facts, app, foreign.public_key());
    let decision =
        scene.forge(&scene.new_user(app, "mallory"), foreign.public_key(), let_foreign, &[&foreign]);
    scene.command("not-listed", &decision);

    // A scoped key outside its role.
    let accounts = scene.desk.store().accounts().unwrap();
    let edge = accounts.iter().find(|listed| listed.entity.name() == EDGE_ACCOUNT).unwrap().entity.key();
    let role = |key: &SigningKey| key.scope().is_some_and(|scope| scope.role == PipelineRole::Host.as_str());
    let scoped = scene.signing_keys(edge).into_iter().find(|(_, key)| role(key)).unwrap().0;
    let decision =
        scene.forge(&scene.new_user(edge, "mallory"), scoped, |facts| let_sign(facts, edge, scoped), &[]);
    scene.command("scope", &decision);
    // An account's key vouches for what only the operator's may.
    let user = scene.desk.store().users(Some(app)).unwrap()[0].entity.key();
    let operator_key = scene.desk.host().store().operators().unwrap()[0].entity.clone();
    let listed = operator_key.token().unwrap().claims().body.as_operator().unwrap().signing_keys[0];
    let revoke = Command::RevokeUser { account: app, user };
    let genuine = scene.forge(&revoke, listed, |_| {}, &[]);
    let mut claimed = genuine.clone();
    for envelope in &mut claimed.envelopes {
        let text = String::from_utf8(envelope.payload.clone()).unwrap();
        envelope.payload = text.replace(&listed.to_string(), &app_key.to_string()).into_bytes();
    }
    scene.command("signature", &claimed);
    scene.unmoved(&before);

    // A key no longer listed: what it signed before comes too late.
    let late = scene.forge(&scene.new_user(app, "late"), app_key, |_| {}, &[]);
    let owner = Some(app);
    scene.desk.act(Command::GenerateKey { kind: Kind::Account, owner, label: None, role: None });
    scene.desk.act(Command::RevokeKey { key: app_key, owner });
    scene.goes_on();
    let before = scene.check().registry;
    scene.command("not-listed", &late);
    scene.unmoved(&before);
    scene.goes_on();
}

#[test]
fn half_a_command() {
    let mut scene = Scene::new();
    let user = scene.goes_on();
    let before = scene.check().registry;
    let operator = scene.desk.store().operators().unwrap()[0].entity.clone();
    let key = operator.token().unwrap().claims().body.as_operator().unwrap().signing_keys[0];
    let revoke = Command::RevokeUser { account: scene.desk.app(), user };
    let decision = scene.forge(&revoke, key, |_| {}, &[]);
    assert_eq!(decision.envelopes.len(), 2);
    // Read while it is the last there is: not an anomaly yet. Then the host writes over it.
    let half = scene.envelope(&decision.envelopes[0]);
    scene.unmoved(&before);
    scene.expect(half, half, "incomplete");
    scene.goes_on();
    // The rest comes too late, and so does the rest behind another half.
    let rest = scene.envelope(&decision.envelopes[1]);
    scene.expect(rest, rest, "incomplete");
    let half = scene.envelope(&decision.envelopes[0]);
    scene.expect(half, half, "incomplete");
    scene.anomaly("event-json", CREATED, &[], b"garbage");
    let rest = scene.envelope(&decision.envelopes[1]);
    scene.expect(rest, rest, "incomplete");
    scene.goes_on();
    // A half that another host read as the last there is, and its rest: whole for everybody.
    let before = scene.check().registry;
    scene.envelope(&decision.envelopes[0]);
    let twin = scene.desk.twin();
    scene.unmoved(&before);
    scene.envelope(&decision.envelopes[1]);
    for desk in [&scene.desk, &twin] {
        let run = desk.sync_for(&scene.target, Some(scene.settings.clone()), STUCK).drained();
        assert_eq!((run.admitted, run.anomalies), (1, 0));
    }
    let audit = Ledger::of(&scene.server).audit(&scene.desk.registry());
    let entity = audit.registry.entities().find(|entity| entity.key() == user).unwrap();
    assert!(entity.revoked_at().is_some());
}

#[test]
fn headers_that_stand_twice() {
    let mut scene = Scene::new();
    let (app, app_key) = (scene.desk.app(), scene.app_key());
    let before = scene.check().registry;
    let doubled = [
        (CIM_EVENT_ID, "1"),
        (CIM_EVENT_TYPE, "keys.user.created"),
        ("cim-event-id", "1"),
        ("Nats-Sequence", "1"),
        ("Nats-Subject", CREATED),
        ("Nats-Stream", KEYS_EVENTS),
        ("Nats-Time-Stamp", "2026-01-01T00:00:00Z"),
        ("Nats-Last-Sequence", "0"),
        ("nats-sequence", "2"),
    ];
    for (place, (name, value)) in doubled.into_iter().enumerate() {
        let decision = scene.forge(&scene.new_user(app, &format!("mallory-{place}")), app_key, |_| {}, &[]);
        let envelope = &decision.envelopes[0];
        let mut headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
        headers.push((name, value));
        let sequence = scene.publish(envelope.subject.as_str(), &headers, &envelope.payload);
        scene.expect(sequence, sequence, "event-headers");
    }
    scene.unmoved(&before);
    scene.goes_on();
}
