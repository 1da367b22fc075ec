//! Odd and forged sequences of messages, odd commands, odd answers: what a hostile reader tried.

mod lab;

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::digest::Digest;
use cim_keys_core::envelope;
use cim_keys_core::event::{CommandRef, Event, Fact};
use cim_keys_core::nkey::Kind;
use lab::*;

#[test]
fn a_command_that_never_ends_is_not_waited_for() {
    let mut lab = Lab::founded();
    let key = lab.draw(&[Kind::User])[0];
    let context = lab.context(key, Vec::new());
    let text = |index: u32, count: u32| {
        let event = Event {
            id: context.event_id(index),
            time: context.now,
            correlation_id: context.correlation_id,
            causation_id: context.causation_id,
            registry: lab.registry.id().operator,
            entity: key,
            command: CommandRef {
                id: context.command_id,
                attempt: 1,
                hash: Digest::of(b""),
                actor: context.actor.clone(),
                authority: key,
                index,
                count,
            },
            fact: Fact::KeyGenerated { owner: None, label: Some("x".repeat(900_000)) },
            token: None,
        };
        StoredMessage {
            sequence: u64::from(index) + 1,
            subject: envelope::subject_of(&event, lab.registry.id()).as_str().into(),
            headers: envelope::headers_of(&event).unwrap(),
            payload: envelope::complete(&envelope::encode_draft(&event), &[]),
        }
    };
    // Given a count of nothing, when its first event comes, then it is an anomaly at once.
    let mut assembler = Assembler::default();
    assert!(matches!(assembler.push(text(0, 0))[..], [Group::Anomaly(_)]) && assembler.is_empty());
    // Given events that nobody signed, when they grow beyond the limit of a command, then they are given up.
    let mut anomalies = 0;
    for index in 0..12 {
        anomalies += assembler.push(text(index, 1000)).len();
    }
    assert!(anomalies > 0 && assembler.is_empty());
}
