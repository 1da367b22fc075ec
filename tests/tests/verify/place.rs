//! A published registry on a server that lets everybody in, a stranger who may write anything, and `verify` as a person runs it.

use std::collections::BTreeMap;

use cim_keys::nats::target::Target;
use cim_keys_core::command::{Command, decide};
use cim_keys_core::context::Context;
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::jwt::UserRights;
use cim_keys_core::nkey::{KeyPair, PublicKey, Signature};
use cim_keys_core::registry::Facts;
use cim_keys_core::stream::StreamConfig;
use cim_keys_tests::desk::{Desk, STUCK, make_streams};
use cim_keys_tests::program::Person;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use serde_json::Value;

pub(crate) struct Place {
    pub(crate) server: NatsServer,
    pub(crate) desk: Desk,
    pub(crate) stranger: Client,
    target: Target,
    settings: StreamConfig,
    person: Person,
}

/// What a run of `verify` said.
pub(crate) struct Verified {
    pub(crate) status: i32,
    /// First sequence, code, last sequence, whether known; entities have 0 for sequences.
    pub(crate) findings: Vec<(u64, String, u64, bool)>,
    pub(crate) summary: Value,
}

impl Verified {
    /// The same by place.
    pub(crate) fn by_place(&self) -> BTreeMap<u64, (String, u64, bool)> {
        let all = self.findings.iter();
        all.map(|(first, code, last, known)| (*first, (code.clone(), *last, *known))).collect()
    }

    pub(crate) fn codes(&self) -> Vec<&str> {
        self.findings.iter().map(|(_, code, _, _)| code.as_str()).collect()
    }
}

impl Place {
    pub(crate) fn new() -> Place {
        let server = NatsServer::plain();
        let target = Target::open(&server.url());
        // A second, so that a message with a known id is stored soon.
        let settings = make_streams(&target, 1);
        let stranger = Client::connect(server.address()).expect("a connection");
        let (desk, person) = (Desk::founded(), Person::new());
        let place = Place { server, desk, stranger, target, settings, person };
        place.desk.user("ann");
        place.sync();
        place
    }

    pub(crate) fn sync(&self) {
        self.desk.sync_for(&self.target, Some(self.settings.clone()), STUCK).drained();
    }

    /// Runs `verify` on this desk's store; with the stream, where its server is named.
    pub(crate) fn verify(&self, desk: &Desk, stream: bool) -> Verified {
        let (data, url) = (desk.folder().display().to_string(), self.server.url());
        let mut words = vec!["verify", "--data", &data, "--output", "jsonl"];
        if stream {
            words.extend(["--server", &url]);
        }
        let said = self.person.run(&words);
        let mut rows: Vec<Value> =
            said.stdout.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
        let summary = rows.pop().unwrap_or_else(|| panic!("{said:?}"));
        let findings = rows.iter().map(|row| {
            let number = |name: &str| row[name].as_u64().expect("a number");
            let code = row["code"].as_str().expect("a code").to_owned();
            (number("first"), code, number("last"), row["known"] == true)
        });
        Verified { status: said.status.expect("an end"), findings: findings.collect(), summary }
    }

    /// As text.
    pub(crate) fn text(&self, desk: &Desk) -> String {
        let data = desk.folder().display().to_string();
        self.person.run(&["verify", "--data", &data]).stdout
    }

    /// Publishes as it is told, and waits until it is stored.
    pub(crate) fn publish(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
        let stranger = &mut self.stranger;
        wait::until("the message is stored", || {
            let ack = stranger.request(subject, headers, payload).expect("an answer").json();
            assert!(ack["error"].is_null(), "{ack}");
            if ack["duplicate"].is_null() { ack["seq"].as_u64() } else { None }
        })
    }

    pub(crate) fn envelope(&mut self, envelope: &Envelope) -> u64 {
        let headers: Vec<(&str, &str)> = envelope.headers.iter().collect();
        self.publish(envelope.subject.as_str(), &headers, &envelope.payload)
    }

    /// A whole command; its first and last sequence.
    pub(crate) fn command(&mut self, envelopes: &[Envelope]) -> (u64, u64) {
        let all: Vec<u64> = envelopes.iter().map(|envelope| self.envelope(envelope)).collect();
        (all[0], all[all.len() - 1])
    }

    /// Decides what the host would refuse: on facts that `twist` has changed; signed with the host's keys and `more`.
    pub(crate) fn forge(
        &self,
        command: &Command,
        authority: PublicKey,
        twist: impl FnOnce(&mut Facts),
        more: &[&KeyPair],
    ) -> Decision {
        let host = self.desk.host();
        let draw = |kind| {
            let entropy = host.ambient().entropy().expect("entropy");
            KeyPair::from_entropy(kind, entropy).public_key()
        };
        let command_id = host.ambient().command_id().expect("an id");
        let context = Context {
            now: host.ambient().now(),
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: "stranger".parse().expect("an actor"),
            authority,
            keys: command.keys().into_iter().map(draw).collect(),
        };
        let scope = command.scope(&context, &self.desk.registry());
        let (mut facts, _) = self.desk.store().facts(&scope, true).expect("facts");
        twist(&mut facts);
        let draft = decide(&facts, command, &context).expect("a draft");
        let sign = |key: PublicKey, bytes: &[u8]| match more.iter().find(|pair| pair.public_key() == key) {
            Some(pair) => pair.sign(bytes).expect("a signature"),
            None => host.key(key).expect("a key of the host").sign(bytes).expect("a signature"),
        };
        let signatures: Vec<Signature> =
            draft.requests().iter().map(|request| sign(request.public_key, &request.bytes)).collect();
        draft.complete(&signatures).expect("a decision")
    }

    pub(crate) fn new_user(&self, name: &str) -> Command {
        Command::CreateUser {
            account: self.desk.app(),
            name: name.into(),
            rights: Some(UserRights::default()),
            expires: 0,
            tags: Vec::new(),
            credentials: false,
        }
    }

    /// The account's signing key.
    pub(crate) fn app_key(&self) -> PublicKey {
        let account = self.desk.host().account(self.desk.app()).expect("an account");
        let body = account.token.claims().body.as_account().expect("an account").clone();
        *body.signing_keys.keys().next().expect("a signing key")
    }
}

impl Place {
    /// `verify` of another desk on this place's server: status and what it said.
    pub(crate) fn verify_elsewhere(&self, desk: &Desk) -> (i32, String) {
        let (data, url) = (desk.folder().display().to_string(), self.server.url());
        let said = self.person.run(&["verify", "--data", &data, "--server", &url]);
        (said.status.expect("an end"), said.stderr)
    }
}
