//! Whoever gets into a plain server can write to the stream.

use super::{NotRun, Run};
use crate::desk::{Desk, STUCK, make_streams};
use crate::ledger::Ledger;
use crate::server::NatsServer;
use crate::wait;
use crate::wire::Client;
use cim_keys::nats::target::Target;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::NATS_MSG_ID;
use cim_keys_core::roles::API_PREFIX;
use cim_keys_core::stream::{KEYS_EVENTS, StreamConfig};
use std::collections::{BTreeMap, BTreeSet};

const CREATED: &str = "cowboyai.security.keys.user.created";

/// A published registry, and a stranger who may write anything.
struct Scene {
    server: NatsServer,
    target: Target,
    settings: StreamConfig,
    desk: Desk,
    stranger: Client,
    foreign: BTreeSet<u64>,
}

impl Scene {
    fn new() -> Scene {
        let server = NatsServer::plain();
        let target = Target::open(&server.url());
        // A second, so that a message with a known id is stored soon.
        let settings = make_streams(&target, 1);
        let stranger = Client::connect(server.address()).expect("a connection");
        Scene { server, target, settings, desk: Desk::founded(), stranger, foreign: BTreeSet::new() }
    }

    fn last(&mut self) -> u64 {
        let subject = format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}");
        let info = self.stranger.request(&subject, &[], b"").expect("an answer").json();
        info["state"]["last_seq"].as_u64().expect("a last sequence")
    }

    /// Publishes as it is told, and waits until it is stored.
    fn publish(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) {
        let stranger = &mut self.stranger;
        let sequence = wait::until("the message is stored", || {
            let ack = stranger.request(subject, headers, payload).expect("an answer").json();
            assert!(ack["error"].is_null(), "{ack}");
            if ack["duplicate"].is_null() { ack["seq"].as_u64() } else { None }
        });
        self.foreign.insert(sequence);
    }

    fn envelope(&mut self, envelope: &Envelope, payload: &[u8]) {
        let headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
        self.publish(envelope.subject.as_str(), &headers, payload);
    }

    /// The reply subject of a request is not checked: the server's own answer lands on the stream.
    fn answer(&mut self, asked: &str, body: &[u8]) {
        let last = self.last();
        self.stranger.publish(asked, Some(CREATED), &[], body).expect("a connection");
        wait::until("the answer is stored", || (self.last() > last).then_some(()));
        self.foreign.insert(last + 1);
    }

    fn sync(&self) -> u64 {
        self.desk.sync_for(&self.target, Some(self.settings.clone()), STUCK).drained().published
    }
}

/// Row 22.
pub(super) fn messages(run: &mut Run) -> Result<(), NotRun> {
    let mut scene = Scene::new();
    let foreigner = Desk::founded();
    let founding = foreigner.store().promised(foreigner.commands()[0]).expect("a store").expect("a founding");
    scene.sync();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..run.tries {
        if number % 8 == 0 {
            // The registry goes on between them.
            let user = scene.desk.user(&format!("user-{number}"));
            scene.desk.revoke(user);
            run.healed(|| assert!(scene.sync() > 0, "sync goes on"));
        }
        let before = Ledger::of(&scene.server);
        let registry = before.audit(&scene.desk.registry()).registry;
        let genuine = |subject: &str| -> StoredMessage {
            let mut own = before.messages.iter().filter(|message| !scene.foreign.contains(&message.sequence));
            own.rfind(|message| message.subject.ends_with(subject)).expect("an event").clone()
        };
        let kind = match number % 8 {
            0 => {
                let size = usize::try_from(run.between(0, 4000)).expect("a small number");
                let bytes: Vec<u8> = (0..size).map(|_| run.between(0, 255).to_le_bytes()[0]).collect();
                scene.publish(CREATED, &[], &bytes);
                "garbage"
            }
            1 => {
                let event = genuine("user.created");
                again(&mut scene, &event, &event.subject);
                "a genuine old event under its own subject"
            }
            2 => {
                let event = genuine("user.created");
                again(&mut scene, &event, "cowboyai.security.keys.user.revoked");
                "a genuine old event under another subject"
            }
            3 => {
                scene.answer(&format!("{API_PREFIX}.STREAM.INFO.{KEYS_EVENTS}"), b"");
                "how the stream stands, an answer of the JetStream API"
            }
            4 => {
                // An event that was decided here, and that others have changed on its way.
                let twin = scene.desk.twin();
                twin.user(&format!("forged-{number}"));
                let made = twin.store().promised(*twin.commands().last().expect("a command"));
                let envelope = made.expect("a store").expect("its command").envelopes.remove(0);
                let text = String::from_utf8(envelope.payload.clone()).expect("text");
                let forged = text.replace("\"actor\":\"two\"", "\"actor\":\"one\"");
                assert_ne!(forged, text);
                scene.envelope(&envelope, forged.as_bytes());
                "an event that names another actor"
            }
            5 => {
                let envelope = founding.envelopes[number / 8 % founding.envelopes.len()].clone();
                scene.envelope(&envelope, &envelope.payload);
                "an event of another registry"
            }
            6 => {
                // Half a command that stands on the stream as a whole.
                let event = genuine("user.revoked");
                again(&mut scene, &event, &event.subject);
                "half of a genuine command"
            }
            _ => {
                scene.answer(&format!("{API_PREFIX}.STREAM.MSG.GET.{KEYS_EVENTS}"), b"{\"seq\":1}");
                "a stored message inside an answer of the JetStream API"
            }
        };
        *kinds.entry(kind).or_default() += 1;
        scene.sync();
        let after = Ledger::of(&scene.server).audit(&scene.desk.registry());
        assert_eq!(after.registry, registry, "I5: {kind} has changed the registry");
        run.happened(1);
        if number % 8 == 7 {
            quarantined(run, &scene);
        }
    }
    scene.desk.user("last");
    run.healed(|| assert_eq!(scene.sync(), 1, "sync goes on"));
    quarantined(run, &scene);
    let told: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    run.did(format!("{}: recorded as anomalies, the registry as it was", told.join(", ")));
    run.search(&[&scene.desk], &[&scene.server], &[]);
    Ok(())
}

/// A stored message once more, without what the server put to it.
fn again(scene: &mut Scene, event: &StoredMessage, subject: &str) {
    let own = event.headers.iter().filter(|(name, _)| !name.starts_with("Nats-") || *name == NATS_MSG_ID);
    let headers: Vec<(&str, &str)> = own.collect();
    scene.publish(subject, &headers, &event.payload);
}

/// Each foreign message is part of an anomaly, by an auditor and by the host.
fn quarantined(run: &mut Run, scene: &Scene) {
    let audit = run.judge(&Ledger::of(&scene.server), &scene.foreign, &[&scene.desk]);
    let named: BTreeSet<u64> = audit.anomalies.iter().flat_map(|anomaly| anomaly.sequences.clone()).collect();
    assert_eq!(named, scene.foreign, "each is recorded with its place");
}
