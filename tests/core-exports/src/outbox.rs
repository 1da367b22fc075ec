//! The machine that publishes a service's own events: each input by its own export, on one machine.

use std::cell::RefCell;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::headers::CimEvent;
use cim_keys_core::outbox::{DomainEvent, Found, Input, Output, Publisher, Waiting, check_place};
use cim_keys_core::subjects::{Namespace, Subject};
use cim_keys_core::sync::{Failure, Moment, Persisted, Reply, StreamInfo};

use crate::{Failed, exports};

thread_local! {
    static PUBLISHER: RefCell<Option<Publisher>> = const { RefCell::new(None) };
}

/// The milliseconds and the random bytes of a moment.
type Now = (u64, [u8; 16]);

fn handle(input: Input, (millis, random): Now) -> Result<Vec<Output>, Failed> {
    PUBLISHER.with_borrow_mut(|publisher| match publisher {
        Some(publisher) => Ok(publisher.handle(input, Moment { millis, random })),
        None => Err(Failed::from("no machine: outbox_new first")),
    })
}

exports! {
    outbox_event(namespace: Namespace, subject: Subject, event: CimEvent, source: String, trace: String, payload: String) {
        let (payload, trace) = (payload.into_bytes(), Some(trace.parse()?));
        let event = DomainEvent { subject, event, source, trace, headers: Vec::new(), payload, expected: None };
        let message = event.check(&namespace)?;
        (message.digest(), message)
    }
    outbox_place(stream: String) { check_place(&stream.parse()?)? }
    outbox_new(stream: String) { PUBLISHER.set(Some(Publisher::new(stream.parse()?))); }
    outbox_tick(now: Now) { handle(Input::Tick, now)? }
    outbox_loaded(now: Now, events: Vec<Waiting>) { handle(Input::Loaded(events), now)? }
    outbox_looked(now: Now, info: StreamInfo) { handle(Input::Looked(info), now)? }
    outbox_found(now: Now, found: Found) { handle(Input::Found(found), now)? }
    outbox_got(now: Now, stored: Option<StoredMessage>) { handle(Input::Got(stored), now)? }
    outbox_failed(now: Now, failure: Failure) { handle(Input::Failed(failure), now)? }
    outbox_persisted(now: Now, persisted: Persisted) { handle(Input::Persisted(persisted), now)? }
    outbox_reply(now: Now, reply: Reply) { handle(Input::Reply(reply), now)? }
    outbox_disconnected(now: Now) { handle(Input::Disconnected, now)? }
}
