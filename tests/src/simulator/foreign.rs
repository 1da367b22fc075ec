//! Messages that no machine of ours sent.

use super::broker::{Answer, Origin};
use super::scenario::Fault;
use super::world::World;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::headers::{Headers, NATS_MSG_ID};
use cim_keys_core::journal::State;
use cim_keys_core::subjects::{ACCOUNT_CREATED, USER_CREATED};
use cim_keys_core::sync::Outgoing;

/// What an answer of the JS API looks like when it lands on the stream.
const ANSWER: &[u8] =
    br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0,"offset":0,"limit":0}"#;

impl World {
    /// Somebody else appends something, without an expectation.
    pub(super) fn foreign(&mut self, fault: Fault) {
        match fault {
            Fault::Garbage => self.garbage(),
            Fault::ThirdWriter => self.third_writer(),
            Fault::Import => self.import(),
            _ => {}
        }
    }

    fn append(&mut self, what: &'static str, message: &Outgoing) {
        let answer = self.broker.publish(message, Origin::Foreign(what), self.now);
        self.trace.line(self.now, "foreign", format_args!("{what} on {}: {answer:?}", message.subject));
        if let Answer::Proposed(number) = answer {
            self.propose(number, None);
        }
    }

    fn garbage(&mut self) {
        let old = usize::try_from(self.dice.below(self.broker.last())).ok();
        let old = old.and_then(|place| self.broker.log().get(place)).map(|stored| stored.message.clone());
        let kind = self.dice.below(10);
        let Some(old) = old.filter(|_| kind > 1) else {
            let payload = if kind == 0 { ANSWER.to_vec() } else { self.dice.bytes::<24>().to_vec() };
            let subject = if kind == 0 { ACCOUNT_CREATED } else { USER_CREATED };
            self.append(
                "garbage",
                &Outgoing { subject: subject.to_owned(), headers: Headers::default(), payload },
            );
            return;
        };
        // Without its transport headers and message id: nothing of the server stops it.
        match kind {
            2 => self.append("old event", &again(&old, true, &[])),
            3 => self.append("old event, other headers", &again(&old, false, &[(NATS_MSG_ID, "other")])),
            4 => {
                let message = again(&old, true, &[]);
                self.append(
                    "old event, other subject",
                    &Outgoing { subject: ACCOUNT_CREATED.to_owned(), ..message },
                );
            }
            5 => self.append("doubled header", &again(&old, true, &[("cim-event-id", "x")])),
            6 => self.append("server's header", &again(&old, true, &[("Nats-Sequence", "1")])),
            7 => {
                let mut message = again(&old, true, &[]);
                let place = usize::try_from(self.dice.below(message.payload.len() as u64)).unwrap_or(0);
                if let Some(byte) = message.payload.get_mut(place) {
                    *byte ^= 1;
                }
                self.append("one bit off", &message);
            }
            8 => {
                // An old command once more, perhaps not to its end.
                let first = old.sequence;
                for sequence in first..first + self.dice.between(1, 4) {
                    let Some(message) =
                        self.broker.at(sequence).map(|stored| again(&stored.message, true, &[]))
                    else {
                        break;
                    };
                    self.append("old command", &message);
                }
            }
            _ => {
                // Founded by somebody else's operator. Before ours it would be another's stream for ever.
                if self.auditor.registry().entities().next().is_none() {
                    return;
                }
                let seed = self.dice.next();
                let Ok(other) = super::host::Host::found(seed) else { return };
                let messages: Vec<Outgoing> =
                    other.store.entries().flat_map(|e| &e.pending.envelopes).map(fresh).collect();
                let count = usize::try_from(self.dice.between(1, messages.len() as u64)).unwrap_or(1);
                for message in messages.iter().take(count) {
                    self.append("foreign operator", message);
                }
            }
        }
    }

    /// Somebody with a host's keys and its view of things appends a command, whole or in part.
    fn third_writer(&mut self) {
        let number = usize::try_from(self.dice.below(self.hosts.len() as u64)).unwrap_or(0);
        let now = self.now;
        let host = &mut self.hosts[number];
        // Now and then under an id that the host is about to use.
        let pending = host.store.entries().filter(|entry| entry.state == State::Pending);
        let pending: Vec<uuid::Uuid> = pending.map(|entry| entry.pending.context.command_id).collect();
        let id = if self.dice.chance(300) { self.dice.pick(&pending).copied() } else { None };
        let Some(decision) = host.want(now).and_then(|wish| host.foreign(now, wish, id)) else { return };
        let mut messages: Vec<Outgoing> = decision.envelopes.iter().map(fresh).collect();
        if self.dice.chance(300) {
            messages.pop();
        }
        if self.dice.chance(100) {
            messages.reverse();
        }
        for message in &messages {
            self.append("third writer", message);
        }
    }

    /// Somebody appends what a host has pending, holds, or had as an earlier attempt.
    fn import(&mut self) {
        let number = usize::try_from(self.dice.below(self.hosts.len() as u64)).unwrap_or(0);
        // What was given up before it left anywhere is gone.
        let entries = self.hosts[number]
            .store
            .entries()
            .filter(|entry| entry.state != State::Confirmed && (entry.state != State::Dropped || entry.left));
        let mut commands: Vec<(uuid::Uuid, &[Envelope])> = Vec::new();
        for entry in entries {
            let id = entry.pending.context.command_id;
            commands.push((id, &entry.pending.envelopes));
            commands.extend(entry.earlier.iter().map(|envelopes| (id, envelopes.as_slice())));
        }
        // A command that was decided more than once is the interesting one.
        let place = if self.dice.chance(500) { commands.len().checked_sub(1) } else { None };
        let chosen = place.and_then(|place| commands.get(place)).or_else(|| self.dice.pick(&commands));
        let Some((id, chosen)) = chosen.copied() else { return };
        let mut messages: Vec<Outgoing> = chosen.iter().map(fresh).collect();
        self.hosts[number].store.note_left([id]);
        if self.dice.chance(300) {
            messages.pop();
        }
        for message in &messages {
            self.append("import", message);
        }
    }

    /// Garbage under the message id of an event that is about to be sent.
    pub(super) fn squat(&mut self, messages: &[Outgoing]) {
        let Some(id) = self.dice.pick(messages).and_then(|message| message.headers.only(NATS_MSG_ID)) else {
            return;
        };
        if self.trouble.is_down(self.now) {
            return;
        }
        let headers = Headers::received(vec![(NATS_MSG_ID.to_owned(), id.to_owned())]);
        self.append(
            "squat",
            &Outgoing { subject: USER_CREATED.to_owned(), headers, payload: b"mine".to_vec() },
        );
    }
}

/// A message as its maker would publish it, without an expectation.
fn fresh(envelope: &Envelope) -> Outgoing {
    Outgoing {
        subject: envelope.subject.as_str().to_owned(),
        headers: envelope.headers.clone(),
        payload: envelope.payload.clone(),
    }
}

/// A stored message once more: its own headers with or without the message id, and others behind them.
fn again(old: &StoredMessage, keep_id: bool, more: &[(&str, &str)]) -> Outgoing {
    let own =
        old.headers.iter().filter(|(name, _)| name.starts_with("CIM-") || (keep_id && *name == NATS_MSG_ID));
    let list = own.chain(more.iter().copied()).map(|(name, value)| (name.to_owned(), value.to_owned()));
    Outgoing {
        subject: old.subject.clone(),
        headers: Headers::received(list.collect()),
        payload: old.payload.clone(),
    }
}
