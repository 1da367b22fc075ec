//! What is under way over a connection: one question, one append, the log.

use crate::crash::{self, Step};
use crate::nats::append;
use crate::nats::link::{Link, LinkError, Listening};
use crate::nats::read::Reader;
use crate::nats::target::Target;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, Input, Reply, Send};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A question whose answer comes later.
enum Question {
    Read(BoxFuture<'static, Done>),
    Pause(std::pin::Pin<Box<tokio::time::Sleep>>),
}

/// What came of a read, with what it used.
struct Done {
    link: Result<Arc<Link>, LinkError>,
    reader: Reader,
    listening: Option<Listening>,
    input: Input,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Work {
    pub(super) link: Option<Arc<Link>>,
    /// What the last connection came to: an error, or none since there is one.
    pub(super) trouble: Option<Option<LinkError>>,
    reader: Reader,
    question: Option<Question>,
    flight: Option<JoinHandle<Reply>>,
    /// Whose log is listened to; none where none is.
    follows: Option<Namespace>,
    listening: Option<Listening>,
}

impl Work {
    /// Whether anything is under way that will bring an input.
    pub(super) fn is_at_work(&self) -> bool {
        self.question.is_some() || self.flight.is_some()
    }

    /// Whether nothing can be asked of the connection.
    pub(super) fn is_cut(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.is_closed())
    }

    /// Ends the connection with all that is queued in it.
    pub(super) fn drop_link(&mut self) {
        self.ground();
        self.follows = None;
        if let Some(link) = self.link.take() {
            link.close();
        }
    }

    /// Waits for nothing any more.
    pub(super) fn ground(&mut self) {
        self.question = None;
        self.listening = None;
        if let Some(flight) = self.flight.take() {
            flight.abort();
            // It may be half sent: nothing more of it may go out.
            if let Some(link) = self.link.take() {
                link.close();
            }
        }
    }

    pub(super) fn pause(&mut self, millis: Duration) {
        self.question = Some(Question::Pause(Box::pin(tokio::time::sleep(millis))));
    }

    /// Ends a pause. False where there is none.
    pub(super) fn end_pause(&mut self) -> bool {
        let pauses = matches!(self.question, Some(Question::Pause(_)));
        if pauses {
            self.question = None;
        }
        pauses
    }

    /// Publishes on a connection that is there.
    pub(super) fn send(&mut self, send: Send) {
        if let Some(link) = self.link.clone() {
            self.flight = Some(Arc::clone(&link).spawn(async move {
                crash::reach(Step::SendBegun);
                let reply = append::send(&link, send).await;
                crash::reach(Step::ReplyCame);
                reply
            }));
        }
    }

    /// Listens to the log on this connection, or once there is one.
    pub(super) fn follow(&mut self, on: bool, namespace: Namespace) {
        self.listening = None;
        self.follows = on.then_some(namespace);
    }

    /// Reads, on a new connection where there is none.
    pub(super) fn read(&mut self, target: &Target, now: i64, stream: String, after: u64, limit: u32) {
        let (link, target) = (self.link.clone(), target.clone());
        let mut reader = std::mem::take(&mut self.reader);
        // The log is listened to from before the first look on: nothing falls between.
        let listens = self.follows.clone().filter(|_| self.listening.is_none());
        self.question = Some(Question::Read(Box::pin(async move {
            let link = match link {
                Some(link) => Ok(link),
                None => Link::connect(&target, now).await.map(Arc::new),
            };
            let mut listening = None;
            let read = match &link {
                Ok(link) => {
                    if let Some(namespace) = listens {
                        listening = link.listen(namespace).await.ok();
                    }
                    crash::reach(Step::ReadBegun);
                    let read = reader.read_from(link, &stream, after, limit).await;
                    crash::reach(Step::ReadCame);
                    read
                }
                Err(error) => Err(Failure::from(error)),
            };
            let input = read.map_or_else(Input::ReadFailed, Input::Read);
            Done { link, reader, listening, input }
        })));
    }

    /// Waits for whatever comes first of all that is under way. For ever, where nothing is.
    pub(super) async fn next(&mut self) -> Input {
        let Self { link, question, flight, listening, .. } = self;
        let answered = async {
            match question {
                Some(Question::Read(read)) => Some(read.await),
                Some(Question::Pause(pause)) => {
                    pause.await;
                    None
                }
                None => std::future::pending().await,
            }
        };
        let landed = async {
            match flight {
                // A task that was ended answers nothing.
                Some(flight) => flight.await.unwrap_or(Reply::Unknown),
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match listening {
                Some(listening) => listening.next().await,
                None => std::future::pending().await,
            }
        };
        let closed = async {
            match link {
                Some(link) => link.closed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = landed => {
                self.flight = None;
                Input::Reply(reply)
            }
            done = answered => {
                self.question = None;
                match done {
                    Some(done) => self.take(done),
                    None => Input::Tick,
                }
            }
            message = heard => match message {
                Some(message) => Input::Tail(message),
                None => {
                    self.drop_link();
                    Input::Disconnected
                }
            },
            _ = closed => {
                // A pause is the machine's, not the connection's.
                let pause = self.question.take().filter(|question| matches!(question, Question::Pause(_)));
                self.drop_link();
                self.question = pause;
                Input::Disconnected
            }
        }
    }

    fn take(&mut self, done: Done) -> Input {
        self.reader = done.reader;
        if done.listening.is_some() {
            self.listening = done.listening;
        }
        match done.link {
            Ok(link) => {
                self.link = Some(link);
                self.trouble = Some(None);
            }
            Err(error) => self.trouble = Some(Some(error)),
        }
        done.input
    }
}
