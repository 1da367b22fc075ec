//! Durable consumption: consumers, deliveries, dead letters.

use std::str::FromStr;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::consumer::{ConsumerConfig, declared};
use cim_keys_core::dead::{DeadLetters, Entry, Letter, Place, Word};
use cim_keys_core::delivery::{self, Acknowledgement};
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;

use crate::exports;

exports! {
    consumer_declared(namespace: Namespace) { declared(&namespace) }
    consumer_durable(stream: String, name: String, filter: String) {
        ConsumerConfig::durable(&stream, &name, filter).giving_up().in_order()
    }
    consumer_differences(expected: ConsumerConfig, found: ConsumerConfig) { expected.differences(&found) }

    delivery_next(count: u64) { delivery::next(count) }
    delivery_heard(status: u16, description: String) { delivery::heard(status, &description) }
    delivery_delivered(reply: String, subject: String, list: Vec<(String, String)>, payload: String) {
        delivery::delivered(&reply, subject, list, payload.into_bytes())
    }
    delivery_said(said: Acknowledgement) { said.payload() }
    delivery_confirms(status: Option<u16>, payload: String) { delivery::confirms(status, payload.as_bytes()) }
    delivery_consumer_info(answer: String) { delivery::consumer_info(answer.as_bytes())? }

    dead_place(text: String, namespace: Namespace, after: u64) {
        let place = Place::from_str(&text)?;
        let subject = place.subject(&namespace);
        let same = Place::of_subject(&subject, &namespace);
        (same, subject, place.message_id(after))
    }
    dead_letter(message: StoredMessage, at: Timestamp, delivered: u64, code: String, reason: String) {
        Letter::new(&message, at, delivered, &code, &reason, at)
    }
    dead_word(payload: String) { Word::decode(payload.as_bytes())?.encode()? }
    dead_fold(namespace: Namespace, messages: Vec<StoredMessage>) {
        let mut letters = DeadLetters::default();
        for message in &messages {
            letters.apply(&namespace, message);
        }
        let first = letters.entries().next().and_then(|entry| letters.get(&entry.place)).cloned();
        (letters.entries().cloned().collect::<Vec<_>>(), first, letters.unreadable().to_vec(), letters.head())
    }
    dead_takes(entry: Entry, word: Word) { entry.takes(&word) }
}
