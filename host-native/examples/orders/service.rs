//! What the service does: publishes orders, and does something about each event of its stream.

use super::event::{Event, InvoiceRequested, OrderPlaced};
use super::projection::Projection;
use cim_keys::ambient::Ambient;
use cim_keys::consume::{ConsumerName, Delivery, Next};
use cim_keys::nats::link::Link;
use cim_keys::nats::target::Target;
use cim_keys::nats::{consumers, streams};
use cim_keys::outbox::{Outbox, OutboxPump, Published};
use cim_keys::ports::JetStreamPort;
use cim_keys_core::consumer::ConsumerConfig;
use cim_keys_core::stream::StreamConfig;
use cim_keys_core::trace::TraceParent;
use serde_json::{Value, json};
use std::error::Error;
use std::future::{Future, pending};
use std::path::Path;

/// The service's own stream.
const STREAM: &str = "ORDERS";
/// Who keeps orders by customer.
const CONSUMER: &str = "orders-by-customer";
/// Everything of its domain.
const SUBJECTS: &str = "cowboyai.security.orders.>";

/// Makes stream and consumer where they are missing, and says what is different where they are there.
///
/// The consumer has one message out at a time. A projection must have them in order: were there more, those of a worker that
/// is killed would come again behind later ones, and what is not newer than the sequence reached counts as folded.
pub async fn set_up(url: &str) -> Result<(), Box<dyn Error>> {
    let link = Link::connect(&Target::open(url), Ambient::system().now().seconds()).await?;
    streams::ensure_one(&link, &StreamConfig::durable(STREAM, vec![SUBJECTS.to_owned()]), None).await?;
    let consumer = ConsumerConfig::durable(STREAM, CONSUMER, SUBJECTS.to_owned()).in_order();
    consumers::ensure_one(&link, &consumer).await?;
    Ok(())
}

/// Publishes an order, and waits until it is on the stream. A service keeps one pump running instead.
pub async fn place(
    folder: &Path,
    url: &str,
    customer: &str,
    cents: i64,
    trace: Option<TraceParent>,
) -> Result<Published, Box<dyn Error>> {
    let ambient = Ambient::system();
    let (id, now) = (ambient.command_id()?, ambient.now());
    let order = OrderPlaced { order: id, customer: customer.to_owned(), cents };
    let outbox = open(&folder.join("orders.outbox"), ambient)?;
    // On the disk when this returns: it will be published whatever happens to this process.
    let receipt = outbox.publish_event(&Event::OrderPlaced(order).first(id, now, trace)?)?;
    let mut pump = OutboxPump::new(&outbox, Target::open(url))?;
    tokio::select! {
        published = receipt.published() => Ok(published?),
        end = pump.stay(pending(), |_| {}) => Err(format!("{end:?}").into()),
    }
}

/// Follows the stream until `stop`: keeps the projection, and asks for an invoice for each order. `tell` hears of each message.
pub async fn follow(
    folder: &Path,
    url: &str,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(Value),
) -> Result<(), Box<dyn Error>> {
    let outbox = open(&folder.join("invoices.outbox"), Ambient::system())?;
    let mut projection = Projection::open(&folder.join("orders.db"))?;
    let mut pump = OutboxPump::new(&outbox, Target::open(url))?;
    let mut messages = outbox.subscribe(ConsumerName::new(STREAM, CONSUMER)?, Target::open(url));
    let work = async {
        loop {
            match messages.next().await {
                Next::Delivery(delivery) => tell(handle(&outbox, &mut projection, &delivery).await?),
                Next::State(state) => tell(json!({ "state": format!("{state:?}") })),
            }
        }
    };
    tokio::select! {
        () = stop => Ok(()),
        end = pump.stay(pending(), |_| {}) => Err(format!("{end:?}").into()),
        end = work => end,
    }
}

/// One message, from its delivery to its acknowledgement. What is done is the same however often it is done.
async fn handle(
    outbox: &Outbox,
    projection: &mut Projection,
    delivery: &Delivery,
) -> Result<Value, Box<dyn Error>> {
    // Whoever writes a trace that is none says nothing of the event: it is handled without one.
    let (trace, no_trace) = match delivery.trace() {
        Ok(trace) => (trace, None),
        Err(error) => (None, Some(error.code())),
    };
    let event = Event::read(delivery.message());
    // First what is said in turn: its id is that of the message before, so that it is journalled once.
    if let Ok(Event::OrderPlaced(OrderPlaced { order, customer, .. })) = &event {
        let in_turn = InvoiceRequested { order: *order, customer: customer.clone() };
        outbox.publish_event(&Event::InvoiceRequested(in_turn).in_turn(delivery, trace)?)?;
    }
    let read = event.as_ref().map_err(|error| error.to_string());
    let is_new = projection.apply(delivery.sequence(), read)?;
    // Last: where it is not heard, the message comes again, and changes nothing.
    let ack = delivery.ack().await;
    Ok(json!({
        "sequence": delivery.sequence(),
        "type": event.as_ref().ok().map(Event::event_type),
        "folded": is_new,
        "acknowledged": ack.is_ok(),
        "traceparent": trace.map(|trace| trace.to_string()),
        "no_trace": no_trace,
    }))
}

fn open(file: &Path, ambient: Ambient) -> Result<Outbox, Box<dyn Error>> {
    Ok(Outbox::open(file, STREAM.parse()?, "cowboyai.security".parse()?, ambient)?)
}
