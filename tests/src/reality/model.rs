//! A script on the model.

use super::Flavour;
use super::script::{Barrier, Heard, Kept, Say, Script};
use crate::simulator::broker::{Answer, Broker, Origin};
use cim_keys_core::headers::Headers;
use cim_keys_core::stream::{StreamConfig, keys_events_stream_config};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Outgoing, Reply};

/// The model with a clock.
pub(super) struct Model {
    broker: Broker,
    subject: String,
    now: u64,
    kept: u64,
    /// Numbers of proposals whose answers are asked for.
    waiting: Vec<u64>,
}

impl Model {
    pub(super) fn new(flavour: Flavour, script: &Script, stream: &str) -> Model {
        let namespace = Namespace::default();
        let config = StreamConfig {
            name: stream.to_owned(),
            subjects: vec![format!("{stream}.>")],
            max_msg_size: i64::from(script.largest),
            duplicate_window: script.window * 1_000_000,
            allow_atomic: script.atomic,
            republish: None,
            ..keys_events_stream_config(&namespace)
        };
        let mut broker = Broker::new(&namespace, script.window, true).of(flavour.rules());
        broker.configure(config);
        Model { broker, subject: format!("{stream}.event"), now: 1, kept: 0, waiting: Vec::new() }
    }

    pub(super) fn config(&self) -> &StreamConfig {
        self.broker.config()
    }

    /// Last sequence stored.
    pub(super) fn last(&self) -> u64 {
        self.broker.last()
    }

    pub(super) fn say(&mut self, list: &[Say]) -> Vec<Heard> {
        list.iter().map(|say| self.one(say)).collect()
    }

    fn one(&mut self, say: &Say) -> Heard {
        self.now += 1;
        let message = Outgoing {
            subject: self.subject.clone(),
            headers: Headers::received(say.headers.clone()),
            payload: say.payload.clone().into_bytes(),
        };
        let answer = self.broker.publish(&message, Origin::Foreign("script"), self.now);
        if !say.asks {
            return Heard::Unasked;
        }
        match answer {
            Answer::Reply(reply) => heard(&reply),
            Answer::Taken => Heard::Taken,
            Answer::Proposed(number) => {
                self.waiting.push(number);
                Heard::Silence
            }
        }
    }

    /// Something happens; what is heard of messages that were held back.
    pub(super) fn barrier(&mut self, barrier: Barrier) -> Vec<Heard> {
        self.now += 1;
        match barrier {
            Barrier::Pause(millis) => self.now += millis,
            Barrier::Restart => self.broker.restart(self.now, 1000),
            Barrier::Keep => {
                // A server ends in order for it.
                self.broker.restart(self.now, 1000);
                self.kept = self.broker.last();
            }
            Barrier::Rewind => {
                self.broker.lose(self.kept, []);
                self.broker.restart(self.now, 1000);
            }
            Barrier::Hold | Barrier::Isolate => self.broker.slow(true),
            Barrier::Release => {
                self.broker.slow(false);
                let answers = self.broker.settle(u64::MAX, self.now);
                let asked = std::mem::take(&mut self.waiting);
                let asked = answers.iter().filter(|(number, _)| asked.contains(number));
                return asked.map(|(_, reply)| heard(reply)).collect();
            }
            Barrier::Fall => {
                // Nothing of what the leader had alone is ever heard of again.
                self.broker.slow(false);
                self.waiting.clear();
                self.broker.depose(0, self.now);
            }
            Barrier::Topple => {
                // All of it had been sent: the next leader stores it, and nobody hears of it.
                self.broker.slow(false);
                self.waiting.clear();
                self.broker.depose(usize::MAX, self.now);
            }
            Barrier::Back => {}
        }
        Vec::new()
    }

    pub(super) fn stored(&self) -> Vec<Kept> {
        let kept = |stored: &crate::simulator::broker::Stored| Kept {
            sequence: stored.message.sequence,
            headers: stored.message.headers.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            payload: String::from_utf8_lossy(&stored.message.payload).into_owned(),
        };
        self.broker.log().iter().map(kept).collect()
    }
}

fn heard(reply: &Reply) -> Heard {
    match reply {
        Reply::Ack { sequence, duplicate, .. } => Heard::Ack { sequence: *sequence, duplicate: *duplicate },
        Reply::Error { code } => Heard::Error(*code),
        Reply::NoResponders => Heard::Nobody,
        Reply::Unknown | Reply::Permission { .. } | Reply::Authorization { .. } => Heard::Silence,
    }
}
