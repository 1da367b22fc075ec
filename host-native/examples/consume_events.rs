//! A service that does something about each event of the keys: at least once, whatever is killed meanwhile.
//!
//! `consume_events CONTEXT`: a context as `cim-keys access renew --role service` writes it.

#![allow(clippy::print_stdout)]

use cim_keys::ambient::Ambient;
use cim_keys::consume::{ConsumerName, Delivery, HandlerError, LetterBox, Processor, Tally, Told};
use cim_keys::nats::target::{Layer, Target};
use cim_keys_core::consumer::{KEYS_SERVICE, KEYS_SERVICE_RETRY};
use cim_keys_core::headers::CIM_EVENT_TYPE;
use cim_keys_core::stream::{KEYS_DEAD, KEYS_EVENTS};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

/// Handles messages until `stop`, and for at most 5 seconds longer.
pub async fn greet_users(
    context: &str,
    stop: impl Future<Output = ()>,
    tell: impl FnMut(&Told<'_>),
) -> Result<Tally, Box<dyn Error>> {
    let target = Target::resolve(Layer::default(), Some(context), &|_| None, None)?.ok_or("no server")?;
    let letters = LetterBox::new("cowboyai.security".parse()?);
    let consumer = ConsumerName::new(KEYS_EVENTS, KEYS_SERVICE)?;
    let retries = ConsumerName::new(KEYS_DEAD, KEYS_SERVICE_RETRY)?;
    let mut processor =
        Processor::new(consumer, letters, target, Arc::new(Ambient::system())).retrying(retries);

    // Doing it twice must be the same as doing it once.
    let mut handler = async |delivery: &Delivery| match delivery.message().headers.only(CIM_EVENT_TYPE) {
        Some("keys.user.created") => greet(delivery).await,
        Some(_) => Ok(()),
        None => Err(HandlerError::poison("it does not say what it is")),
    };
    Ok(processor.run(&mut handler, stop, tell).await)
}

async fn greet(delivery: &Delivery) -> Result<(), HandlerError> {
    println!("a user was created at {}", delivery.sequence());
    // What may work later is `HandlerError::retry("the mail server is away")`: tried again, longer apart each time, and after
    // five tries a dead letter.
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [context] = words.as_slice() else { return Err("usage: consume_events CONTEXT".into()) };
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let tally = greet_users(context, stop, |told| println!("{told:?}")).await?;
    println!("{tally:?}");
    Ok(())
}
