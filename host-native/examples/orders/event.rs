//! The events of the service: types of its own as JSON, with the seven headers that every CIM event has.

use cim_keys::consume::Delivery;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::context::event_id;
use cim_keys_core::headers::{CIM_CORRELATION_ID, CIM_EVENT_ID, CIM_EVENT_TYPE, CimEvent};
use cim_keys_core::outbox::DomainEvent;
use cim_keys_core::time::Timestamp;
use cim_keys_core::trace::TraceParent;
use serde::{Deserialize, Serialize};
use std::error::Error;
use uuid::Uuid;

/// Cents of one order at most: no sum of them overflows.
const MOST: i64 = 100_000_000_000;

/// Somebody ordered something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderPlaced {
    /// The order.
    pub order: Uuid,
    /// Who.
    pub customer: String,
    /// For how much.
    pub cents: i64,
}

/// What this service says in turn: somebody shall write an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceRequested {
    /// For this order.
    pub order: Uuid,
    /// To whom.
    pub customer: String,
}

/// All events of the domain `orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `orders.order.placed`
    OrderPlaced(OrderPlaced),
    /// `orders.invoice.requested`
    InvoiceRequested(InvoiceRequested),
}

impl Event {
    /// `<domain>.<entity>.<operation>`, as the header `CIM-Event-Type` has it.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::OrderPlaced(_) => "orders.order.placed",
            Self::InvoiceRequested(_) => "orders.invoice.requested",
        }
    }

    /// Reads what the stream has: whoever may publish may put anything there.
    pub fn read(message: &StoredMessage) -> Result<Self, Box<dyn Error>> {
        id(message, CIM_EVENT_ID)?;
        id(message, CIM_CORRELATION_ID)?;
        match message.headers.only(CIM_EVENT_TYPE) {
            Some("orders.order.placed") => {
                let placed: OrderPlaced = serde_json::from_slice(&message.payload)?;
                if !(0..=MOST).contains(&placed.cents) {
                    return Err(format!("an order for {} cents", placed.cents).into());
                }
                Ok(Self::OrderPlaced(placed))
            }
            Some("orders.invoice.requested") => {
                Ok(Self::InvoiceRequested(serde_json::from_slice(&message.payload)?))
            }
            Some(other) => Err(format!("an event of the unknown type {other}").into()),
            None => Err("it does not say what it is".into()),
        }
    }

    /// As it is published.
    fn published(
        &self,
        identity: (Uuid, Uuid, Uuid),
        timestamp: Timestamp,
        trace: Option<TraceParent>,
    ) -> Result<DomainEvent, Box<dyn Error>> {
        let (message_id, correlation_id, causation_id) = identity;
        let payload = match self {
            Self::OrderPlaced(placed) => serde_json::to_vec(placed)?,
            Self::InvoiceRequested(requested) => serde_json::to_vec(requested)?,
        };
        Ok(DomainEvent {
            subject: format!("cowboyai.security.{}", self.event_type()).parse()?,
            event: CimEvent {
                correlation_id,
                causation_id,
                event_type: self.event_type().to_owned(),
                timestamp,
                message_id,
            },
            source: "orders".to_owned(),
            trace,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            payload,
            expected: None,
        })
    }

    /// An event that nothing of ours caused: it begins a conversation.
    pub fn first(
        &self,
        id: Uuid,
        now: Timestamp,
        trace: Option<TraceParent>,
    ) -> Result<DomainEvent, Box<dyn Error>> {
        self.published((id, id, id), now, trace)
    }

    /// An event that a message caused: of the same conversation and trace. Its id and time come of that message, so that it is
    /// the same event, byte for byte, however often the message is handled.
    pub fn in_turn(
        &self,
        cause: &Delivery,
        trace: Option<TraceParent>,
    ) -> Result<DomainEvent, Box<dyn Error>> {
        let (causation, correlation) =
            (id(cause.message(), CIM_EVENT_ID)?, id(cause.message(), CIM_CORRELATION_ID)?);
        let when = cause.stored();
        self.published((event_id(when, causation, 1, 0), correlation, causation), when, trace)
    }
}

fn id(message: &StoredMessage, name: &str) -> Result<Uuid, Box<dyn Error>> {
    let text = message.headers.only(name).ok_or_else(|| format!("the header {name} is missing"))?;
    Ok(text.parse()?)
}
