//! A machine over a journal in memory, and a stream that answers as told.

use crate::lab::*;
use cim_keys_core::command::Command;
use cim_keys_core::context::Context;
use cim_keys_core::journal::{Hold, Pending, Progress, State, StreamIdentity};
use cim_keys_core::registry::{Facts, Lookup};
use cim_keys_core::rules::Reason;
use cim_keys_core::stream::{KEYS_ARCHIVE, keys_archive_stream_config, keys_events_stream_config};
use cim_keys_core::sync::{
    Failure, Input, Machine, Moment, Output, Persist, Persisted, Read, Send, Status, StreamInfo,
};

pub(crate) const NOW: Moment = Moment { millis: 0, random: [7; 16] };

pub(crate) struct Desk {
    pub(crate) lab: Lab,
    pub(crate) app: (cim_keys_core::nkey::PublicKey, cim_keys_core::nkey::PublicKey),
    pub(crate) pending: Vec<Pending>,
    pub(crate) held: Vec<Hold>,
    pub(crate) persisted: Vec<Persist>,
    pub(crate) stale: bool,
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) machine: Machine,
    /// The archive, where there is one: as its leader says it stands.
    pub(crate) archive: Option<StreamInfo>,
    /// What asking for it gives where there is none.
    pub(crate) silence: Failure,
}

impl Desk {
    /// A founded registry with an account, read up to its end.
    pub(crate) fn new() -> Self {
        let mut lab = Lab::founded();
        let app = lab.account("APP");
        let progress = Progress {
            stream: Some(StreamIdentity { name: "KEYS_EVENTS".into(), created: "then".into() }),
            head: lab.sequence,
            head_digest: lab.stream.last().map(|message| message.digest()),
            ..Progress::default()
        };
        let machine = Machine::new(lab.registry.id().clone(), progress);
        Self {
            lab,
            app,
            pending: vec![],
            held: vec![],
            persisted: vec![],
            stale: false,
            now: 0,
            machine,
            archive: None,
            silence: Failure::StreamMissing,
        }
    }

    /// Writes a command into the journal.
    pub(crate) fn write(&mut self, command: Command, context: Context) {
        let facts: Facts = self.lab.facts(&command, &context);
        let decision = self.lab.decide(&command, &context).unwrap();
        let facts_hash = facts.hash();
        let position = self.pending.len() as u64 + 1;
        let (draft_hash, envelopes) = (decision.draft_hash, decision.envelopes);
        let messages_hash = Some(decision.messages_hash);
        let pending =
            Pending { position, command, context, facts_hash, draft_hash, envelopes, messages_hash };
        self.pending.push(pending);
    }

    pub(crate) fn user(&mut self, name: &str) {
        let keys = self.lab.draw(&[cim_keys_core::nkey::Kind::User]);
        let context = self.lab.context(self.app.1, keys);
        self.write(create_user(self.app.0, name), context);
    }

    /// Hands something in and answers for the store, until the stream is asked or something is waited for.
    pub(crate) fn hand_in(&mut self, input: Input) -> Vec<Output> {
        let now = Moment { millis: self.now, ..NOW };
        let mut outputs = self.machine.handle(input, now);
        let mut sent = Vec::new();
        for _ in 0..100 {
            let Some(answer) = outputs.iter().find_map(|output| self.answer(output)) else {
                outputs.extend(sent);
                return outputs;
            };
            // While it is on its way, the next one is made ready.
            sent.extend(outputs.into_iter().filter(|output| matches!(output, Output::Send(_))));
            outputs = self.machine.handle(answer, now);
        }
        panic!("the store is asked again and again");
    }

    pub(crate) fn answer(&mut self, output: &Output) -> Option<Input> {
        Some(match output {
            Output::ReadFrom { stream, after, limit } if stream == KEYS_ARCHIVE => match self.archive.clone()
            {
                Some(info) => {
                    let there = (after + 1).max(info.first)..=info.last.min(after + u64::from(*limit));
                    let messages =
                        self.lab.stream.iter().filter(|m| there.contains(&m.sequence)).cloned().collect();
                    Input::Read(Read { info, messages })
                }
                None => Input::ReadFailed(self.silence.clone()),
            },
            Output::LoadFacts { scopes } => {
                let facts = self.lab.registry.facts(scopes, false);
                let asked = |p: &&Pending| scopes.contains(&Lookup::Command(p.context.command_id));
                Input::Facts {
                    facts,
                    own: self
                        .pending
                        .iter()
                        .filter(asked)
                        .map(|pending| pending.own(State::Pending))
                        .collect(),
                }
            }
            Output::Load { after, .. } => {
                let commands = self.pending.iter().filter(|p| p.position > *after).cloned().collect();
                Input::Loaded { commands, more: false, held_revocations: Vec::new(), revision: 1 }
            }
            Output::Gather { after, .. } => {
                let commands =
                    self.pending.iter().filter(|p| p.position > *after).map(Pending::ready).collect();
                Input::Gathered { commands, held_revocations: Vec::new() }
            }
            Output::Persist(_) if self.stale => Input::Persisted(Persisted::Stale),
            Output::Persist(persist) => {
                for entity in &persist.entities {
                    self.lab.registry.put(entity.clone());
                }
                for recorded in &persist.recorded {
                    self.lab.registry.record(recorded.clone());
                }
                let gone = |p: &Pending| {
                    let id = p.context.command_id;
                    persist.confirmed.iter().any(|landed| landed.command_id == id)
                        || persist.held.iter().any(|h| h.command_id == id)
                };
                self.pending.retain(|pending| !gone(pending));
                self.held.extend(persist.held.iter().cloned());
                self.persisted.push((**persist).clone());
                Input::Persisted(Persisted::Ok)
            }
            _ => return None,
        })
    }

    /// Answers a read with what the stream has behind it.
    pub(crate) fn read(&self, outputs: &[Output]) -> Input {
        let Some(after) = asked(outputs) else { panic!("no read in {outputs:?}") };
        let messages = self.lab.stream.iter().filter(|m| m.sequence > after).cloned().collect();
        Input::Read(Read { info: self.info(self.lab.sequence), messages })
    }

    pub(crate) fn info(&self, last: u64) -> StreamInfo {
        StreamInfo {
            identity: StreamIdentity { name: "KEYS_EVENTS".into(), created: "then".into() },
            config: keys_events_stream_config(&self.lab.registry.id().namespace),
            first: 1,
            last,
            first_age: None,
            server: Some((2, 15, 1)),
        }
    }

    /// The same of its archive.
    pub(crate) fn archive(&self, first: u64, last: u64) -> StreamInfo {
        StreamInfo {
            identity: StreamIdentity { name: KEYS_ARCHIVE.into(), created: "then".into() },
            config: keys_archive_stream_config(&self.lab.registry.id().namespace),
            first,
            ..self.info(last)
        }
    }

    /// Begins anew with an empty journal.
    pub(crate) fn fresh(&mut self) {
        self.machine = Machine::new(self.lab.registry.id().clone(), Progress::default());
        let id = self.lab.registry.id().clone();
        self.lab.registry = cim_keys_core::registry::Registry::new(id);
    }

    /// Answers reads of the stream, which has forgotten what comes before `first`, until it does not ask any more.
    pub(crate) fn read_all(&mut self, first: u64) -> Vec<Output> {
        let mut outputs = self.hand_in(Input::Tick);
        while let Some(after) = asked(&outputs) {
            let info = StreamInfo { first, ..self.info(self.lab.sequence) };
            let from = first.max(after + 1);
            let messages = self.lab.stream.iter().filter(|m| m.sequence >= from).cloned().collect();
            outputs = self.hand_in(Input::Read(Read { info, messages }));
        }
        outputs
    }

    /// Ticks until something is sent.
    pub(crate) fn sent(&mut self) -> Send {
        let outputs = self.hand_in(Input::Tick);
        let read = self.read(&outputs);
        let outputs = self.hand_in(read);
        send(&outputs).unwrap_or_else(|| panic!("nothing is sent: {outputs:?}"))
    }
}

pub(crate) fn asked(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::ReadFrom { after, .. } => Some(*after),
        _ => None,
    })
}

pub(crate) fn send(outputs: &[Output]) -> Option<Send> {
    outputs.iter().find_map(|output| match output {
        Output::Send(send) => Some(send.clone()),
        _ => None,
    })
}

pub(crate) fn reasons(outputs: &[Output]) -> Vec<(bool, &Reason)> {
    let mut found = Vec::new();
    for output in outputs {
        match output {
            Output::Report(Status::Blocked { reason }) => found.push((true, reason)),
            Output::Report(Status::Waiting { reason, .. }) => found.push((false, reason)),
            _ => {}
        }
    }
    found
}
