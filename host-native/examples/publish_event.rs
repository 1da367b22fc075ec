//! A service that publishes an event of its own domain. It needs a stream of its own that captures the subject:
//! `nats stream add ORDERS --subjects 'cowboyai.security.orders.>' --defaults`
//!
//! `publish_event FILE URL`

#![allow(clippy::print_stdout)]

use cim_keys::ambient::Ambient;
use cim_keys::nats::target::Target;
use cim_keys::outbox::{Outbox, OutboxPump, Published};
use cim_keys::ports::JetStreamPort;
use cim_keys_core::headers::CimEvent;
use cim_keys_core::outbox::DomainEvent;
use std::error::Error;
use std::path::Path;

/// Journals one event, and waits until it is on the stream.
pub async fn place_order(file: &Path, url: &str) -> Result<Published, Box<dyn Error>> {
    let ambient = Ambient::system();
    let (now, id) = (ambient.now(), ambient.command_id()?);
    let outbox = Outbox::open(file, "ORDERS".parse()?, "cowboyai.security".parse()?, ambient)?;

    let receipt = outbox.publish_event(&DomainEvent {
        subject: "cowboyai.security.orders.order.placed".parse()?,
        event: CimEvent {
            // What this event belongs to, and what caused it: here it begins a conversation.
            correlation_id: id,
            causation_id: id,
            event_type: "orders.order.placed".into(),
            timestamp: now,
            message_id: id,
        },
        source: "orders".into(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        payload: br#"{"order":4711}"#.to_vec(),
        expected: None,
    })?;
    // From here on it is on the disk, and will be published whatever happens to this process.

    // A service keeps one pump running; another process may do it as well.
    let mut pump = OutboxPump::new(&outbox, Target::open(url))?;
    tokio::select! {
        published = receipt.published() => Ok(published?),
        end = pump.stay(std::future::pending(), |status| println!("{status:?}")) => Err(format!("{end:?}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, url] = words.as_slice() else { return Err("usage: publish_event FILE URL".into()) };
    let published = place_order(Path::new(file), url).await?;
    println!("{} {}", published.stream, published.sequence);
    Ok(())
}
