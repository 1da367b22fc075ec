//! Requests for messages of a durable consumer, by its name alone: nothing is made and nothing is looked up.

use super::link::{Link, Trouble, header_list};
use async_nats::{Message, Subscriber};
use cim_keys_core::delivery::{self, Delivered, HEARTBEAT, Heard};
use std::time::Duration;

/// A server that says nothing for so long is not there any more: the second heartbeat is missed.
const SILENCE: Duration = Duration::from_millis(2 * HEARTBEAT);

/// With the end of a request: how many messages of it were not sent.
const UNSENT: &str = "Nats-Pending-Messages";

/// One request under way.
pub(crate) struct Pull {
    messages: Subscriber,
    subject: String,
    /// Messages that may still come.
    left: u64,
    came: u64,
    /// Whether the server has ended it. That is said beside the messages, and on a consumer with replicas before them.
    ended: bool,
}

/// What came of it so far.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// A message.
    Delivered(Box<Delivered>),
    /// Something else.
    Heard(Heard),
    /// Nothing, not even a heartbeat.
    Silence,
}

impl Pull {
    /// Asks for up to `count` messages.
    pub(crate) async fn ask(link: &Link, stream: &str, consumer: &str, count: u64) -> Result<Self, Trouble> {
        let subject = link.api(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}"));
        let messages = link.answers(&subject, delivery::next(count).into_bytes()).await?;
        Ok(Self { messages, subject, left: count, came: 0, ended: false })
    }

    /// Messages that came so far.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// The next thing that comes. Ending the wait loses nothing.
    pub(crate) async fn next(&mut self, link: &Link) -> Result<Pulled, Trouble> {
        use futures::StreamExt;
        if self.left == 0 {
            return Ok(Pulled::Heard(Heard::Over));
        }
        tokio::select! {
            biased;
            message = self.messages.next() => message.map(|message| self.read(message)).ok_or(Trouble::Closed),
            trouble = link.trouble(Some(&self.subject)) => Err(trouble),
            // What is still to come of one that has ended is lost: it comes again.
            () = tokio::time::sleep(SILENCE) => Ok(if self.ended { Pulled::Heard(Heard::Over) } else { Pulled::Silence }),
        }
    }

    /// What has come already, without waiting.
    pub(crate) fn at_hand(&mut self) -> Option<Delivered> {
        use futures::{FutureExt, StreamExt};
        loop {
            let message = self.messages.next().now_or_never()??;
            if let Pulled::Delivered(delivered) = self.read(message) {
                return Some(*delivered);
            }
        }
    }

    fn read(&mut self, message: Message) -> Pulled {
        if let Some(status) = message.status {
            let description = message.description.as_deref().unwrap_or_default();
            let heard = delivery::heard(status.as_u16(), description);
            if heard != Heard::Over {
                return Pulled::Heard(heard);
            }
            self.ended = true;
            // How many of those that were asked for were not sent.
            let unsent =
                message.headers.as_ref().and_then(|headers| headers.get(UNSENT)?.as_str().parse().ok());
            self.left = self.left.saturating_sub(unsent.unwrap_or_default());
            return Pulled::Heard(if self.left == 0 { Heard::Over } else { Heard::Heartbeat });
        }
        let list = message.headers.as_ref().map(header_list).unwrap_or_default();
        let subject = message.subject.to_string();
        let reply = message.reply.as_deref().unwrap_or_default();
        match delivery::delivered(reply, subject, list, message.payload.to_vec()) {
            Some(delivered) => {
                self.left = self.left.saturating_sub(1);
                self.came += 1;
                Pulled::Delivered(Box::new(delivered))
            }
            // Whoever may publish into this user's inbox: it can be acknowledged nowhere.
            None => Pulled::Heard(Heard::Heartbeat),
        }
    }
}
