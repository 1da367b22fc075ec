//! A registry in memory with its keys: given / when / then for decisions and admission.
#![allow(dead_code, unreachable_pub, unused_imports)]

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::command::{Command, Rejection, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::{Decision, Draft};
use cim_keys_core::envelope::{self, Envelope};
use cim_keys_core::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact, IssuedToken};
use cim_keys_core::jwt::UserRights;
use cim_keys_core::jwt::{self, Claims};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey, Signature};
use cim_keys_core::registry::{Entity, EntityId, Facts, Issued, Registry};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use std::collections::BTreeMap;
// Unit tests of the core use it too, and have no prelude of std.
use std::prelude::v1::*;
use uuid::Uuid;

pub struct Lab {
    pub registry: Registry,
    pub keys: BTreeMap<PublicKey, KeyPair>,
    pub now: i64,
    pub drawn: u8,
    pub commands: u128,
    pub sequence: u64,
    pub stream: Vec<StoredMessage>,
    pub assembler: Assembler,
    pub founding: Vec<PublicKey>,
}

/// Places of the founding's keys.
pub const OPERATOR: usize = 0;
pub const OPERATOR_SIGNING: usize = 1;
pub const EDGE: usize = 7;
pub const HOST_ROLE: usize = 8;

impl Lab {
    pub fn empty() -> Self {
        let operator = KeyPair::from_entropy(Kind::Operator, entropy(200));
        let id = RegistryId { operator: operator.public_key(), namespace: Namespace::default() };
        Self {
            registry: Registry::new(id),
            keys: BTreeMap::from([(operator.public_key(), operator)]),
            now: 1_795_423_807_000,
            drawn: 0,
            commands: 0,
            sequence: 0,
            stream: Vec::new(),
            assembler: Assembler::default(),
            founding: Vec::new(),
        }
    }

    pub fn founded() -> Self {
        let mut lab = Self::empty();
        let command = Command::FoundRegistry { name: "Test".into() };
        let mut keys = lab.draw(&command.keys()[1..]);
        keys.insert(0, lab.registry.id().operator);
        let context = lab.context(keys[0], keys.clone());
        lab.founding = keys;
        let decision = lab.decide(&command, &context).unwrap();
        lab.publish(&decision).unwrap();
        lab
    }

    pub fn draw(&mut self, kinds: &[Kind]) -> Vec<PublicKey> {
        let mut drawn = Vec::new();
        for kind in kinds {
            self.drawn += 1;
            let pair = KeyPair::from_entropy(*kind, entropy(self.drawn));
            drawn.push(pair.public_key());
            self.keys.insert(pair.public_key(), pair);
        }
        drawn
    }

    pub fn context(&mut self, authority: PublicKey, keys: Vec<PublicKey>) -> Context {
        self.commands += 1;
        self.now += 1000;
        let command_id = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + self.commands);
        Context {
            now: Timestamp::from_millis(self.now).unwrap(),
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: "lab".parse().unwrap(),
            authority,
            keys,
        }
    }

    pub fn facts(&self, command: &Command, context: &Context) -> Facts {
        self.registry.facts(&command.scope(context, self.registry.id()), true)
    }

    pub fn draft(&self, command: &Command, context: &Context) -> Result<Draft, Rejection> {
        decide(&self.facts(command, context), command, context)
    }

    pub fn sign(&self, draft: Draft) -> Decision {
        let signatures: Vec<Signature> = draft
            .requests()
            .iter()
            .map(|request| self.keys[&request.public_key].sign(&request.bytes).unwrap())
            .collect();
        draft.complete(&signatures).unwrap()
    }

    pub fn decide(&self, command: &Command, context: &Context) -> Result<Decision, Rejection> {
        Ok(self.sign(self.draft(command, context)?))
    }

    /// Decides, signs and publishes; new keys are drawn.
    pub fn run(&mut self, command: Command, authority: PublicKey) -> Result<Vec<PublicKey>, Rejection> {
        let keys = self.draw(&command.keys());
        let context = self.context(authority, keys.clone());
        let decision = self.decide(&command, &context)?;
        self.publish(&decision).unwrap();
        Ok(keys)
    }

    /// Appends the messages and reads them back. The error is the first anomaly's code.
    pub fn publish(&mut self, decision: &Decision) -> Result<(), String> {
        self.append(&decision.envelopes)
    }

    pub fn append(&mut self, envelopes: &[Envelope]) -> Result<(), String> {
        let mut outcome = Ok(());
        for envelope in envelopes {
            let read =
                self.read(envelope.subject.as_str(), envelope.headers.clone(), envelope.payload.clone());
            outcome = outcome.and(read);
        }
        outcome
    }

    pub fn read(
        &mut self,
        subject: &str,
        headers: cim_keys_core::headers::Headers,
        payload: Vec<u8>,
    ) -> Result<(), String> {
        self.sequence += 1;
        let message =
            StoredMessage { sequence: self.sequence, subject: subject.into(), headers, payload, time: None };
        self.stream.push(message.clone());
        let mut outcome = Ok(());
        for group in self.assembler.push(message) {
            match group {
                Group::Anomaly(anomaly) => outcome = Err(anomaly.reason.code),
                Group::Command(complete) => {
                    let mut facts = self.registry.facts(&complete.scope(), false);
                    match complete.admit(&mut facts).unwrap() {
                        Ok(admitted) => {
                            for id in &admitted.changed {
                                self.registry.put(facts.entity(*id).unwrap().unwrap().clone());
                            }
                            self.registry.record(admitted.recorded);
                            admitted.voided.into_iter().for_each(|void| self.registry.record(void));
                        }
                        Err(anomaly) => outcome = Err(anomaly.reason.code),
                    }
                }
            }
        }
        outcome
    }

    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.registry.entities().find(|entity| entity.id() == id).cloned()
    }

    /// An account with a plain signing key: `(account, signing key)`.
    pub fn account(&mut self, name: &str) -> (PublicKey, PublicKey) {
        let command = Command::CreateAccount { name: name.into(), limits: Default::default() };
        let keys = self.run(command, self.founding[OPERATOR_SIGNING]).unwrap();
        (keys[0], keys[1])
    }

    pub fn user(&mut self, account: (PublicKey, PublicKey), name: &str) -> Result<PublicKey, Rejection> {
        self.run(create_user(account.0, name), account.1).map(|keys| keys[0])
    }
}

/// 32 bytes that look drawn. **No secret**: keys made of them stand in this repository.
pub fn entropy(number: u8) -> [u8; 32] {
    *Digest::of(&[number]).as_bytes()
}

pub fn create_user(account: PublicKey, name: &str) -> Command {
    Command::CreateUser {
        account,
        name: name.into(),
        rights: Some(UserRights::default()),
        expires: 0,
        tags: Vec::new(),
        credentials: true,
    }
}

/// Of whom, what, and with which token in the place of which.
pub type Said = (PublicKey, Fact, Option<(Claims, Option<Issued>)>);

/// Writes a command of any events and signs it with the keys of the lab: what somebody with those keys, and without
/// `decide`, can put onto the stream.
pub fn forge(lab: &Lab, context: &Context, events: Vec<Said>) -> Vec<Envelope> {
    forge_in(FOUNDING_SCHEMA, lab, context, events)
}

/// The same in another version of the schema, whose forms are those of the first: there is no other one yet.
pub fn forge_in(schema: u32, lab: &Lab, context: &Context, events: Vec<Said>) -> Vec<Envelope> {
    let count = u32::try_from(events.len()).unwrap();
    let registry = lab.registry.id();
    let events: Vec<Event> = (0..)
        .zip(events)
        .map(|(index, (entity, fact, token))| Event {
            schema,
            id: context.event_id(index),
            time: context.now,
            correlation_id: context.correlation_id,
            causation_id: context.causation_id,
            registry: registry.operator,
            entity,
            command: CommandRef {
                id: context.command_id,
                attempt: context.attempt,
                hash: Digest::of(b"forged"),
                actor: context.actor.clone(),
                authority: context.authority,
                index,
                count,
            },
            fact,
            token: token.map(|(claims, replaces)| IssuedToken {
                jwt: jwt::encode(&claims).unwrap(),
                replaces: replaces.as_ref().map(Issued::id),
                signature: None,
            }),
        })
        .collect();
    let drafts: Vec<_> = events
        .iter()
        .map(|event| (envelope::subject_of(event, registry), envelope::encode_draft(event)))
        .collect();
    let hash = cim_keys_core::draft::draft_hash(
        drafts.iter().map(|(subject, draft)| (subject.as_str(), &draft[..])),
    );
    let message = cim_keys_core::draft::authority_message(&hash);
    events
        .iter()
        .zip(drafts)
        .map(|(event, (subject, draft))| {
            let mut signatures = Vec::new();
            if let Some(token) = &event.token {
                let issuer = &lab.keys[&token.jwt.claims().issuer];
                signatures.push(issuer.sign(token.jwt.as_str().as_bytes()).unwrap());
            }
            if event.is_last() {
                signatures.push(lab.keys[&context.authority].sign(&message).unwrap());
            }
            let headers = envelope::headers_of(event).unwrap();
            Envelope { subject, headers, payload: envelope::complete(&draft, &signatures) }
        })
        .collect()
}
