//! Messages between processes: what a host does with a [`Bus`], and what it does with what arrives.
//!
//! Sending is [`Broker::send`] and [`Broker::ask`]. For each handler there is a [`Consumer`]: the host takes an [`Arrival`], runs the handler under
//! a [`Delivery`](crate::delivery::Delivery) that goes on where the last attempt ended ([`Incoming::delivery`]), and settles it. A retry is
//! not waited for here: the broker keeps the message meanwhile.

mod consumer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use uuid::Uuid;

pub use consumer::{Arrival, Consumer, Doomed, Incoming};

use crate::{
    background::Background,
    clock::{Clock, IdSource},
    message::{MessageError, Reply},
    ports::{
        Bus, BusError, BusHealth, ConsumerSpec, DeadLetter, DeadLetterStore, HandlerAddress,
        Outgoing,
    },
};

/// How long a command's answer is waited for when nobody says.
pub const DEFAULT_ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// A bus between processes with what a host needs around it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) bus: Arc<dyn Bus>,
    /// Where dead letters are recorded; `None` if that store does not outlive the process, so that they go to the broker's.
    pub(crate) dead_letters: Option<Arc<dyn DeadLetterStore>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) background: Background,
}

impl Broker {
    /// A broker of `bus`. `dead_letters` is the state store if it is durable.
    pub fn new(
        bus: Arc<dyn Bus>,
        dead_letters: Option<Arc<dyn DeadLetterStore>>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        background: Background,
    ) -> Self {
        Self {
            bus,
            dead_letters,
            clock,
            ids,
            background,
        }
    }

    /// Publishes a message; the broker has it when this returns.
    ///
    /// # Errors
    /// As [`Bus::send`].
    pub async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        self.bus.send(message).await
    }

    /// Sends a command and waits for its answer, `timeout` at most: the result as JSON.
    ///
    /// # Errors
    /// [`BusError::DispatchTimeout`], after which the command may still be handled; [`BusError::Rejected`]; [`BusError::HandlerFailed`]; as
    /// [`Bus::send`].
    pub async fn ask(&self, command: Outgoing, timeout: Duration) -> Result<Bytes, BusError> {
        let topic = Arc::clone(&command.topic);
        let answer = self.bus.ask(command);
        let body = match select(answer, self.clock.sleep(timeout)).await {
            Either::Left((body, _)) => body?,
            Either::Right(((), _)) => {
                return Err(BusError::DispatchTimeout {
                    topic: topic.to_string(),
                    seconds: timeout.as_secs_f64(),
                });
            }
        };
        let reply = match Reply::decode(&body) {
            Ok((_, reply)) => reply,
            // Somebody else's answer in our queue: the handler's end is not known.
            Err(error) => unreadable(&topic, &error),
        };
        match reply {
            Reply::Succeeded { result } => Ok(result),
            Reply::Rejected { reason, data } => Err(BusError::Rejected { reason, data }),
            Reply::Failed {
                handler,
                error_type,
                message,
                trace,
            } => Err(BusError::HandlerFailed {
                handler,
                error_type,
                message,
                trace,
            }),
        }
    }

    /// Consumes the queue of one handler.
    ///
    /// # Errors
    /// As [`Bus::consume`].
    pub async fn consume(&self, spec: ConsumerSpec) -> Result<Consumer, BusError> {
        let address = spec.address.clone();
        let inbox = self.bus.consume(spec).await?;
        Ok(Consumer::new(self.clone(), address, inbox))
    }

    /// Puts the message of the dead letter `entry` into the queue of its handler alone.
    ///
    /// # Errors
    /// As [`Bus::requeue`].
    pub async fn requeue(
        &self,
        to: HandlerAddress,
        message: Outgoing,
        entry: Option<Uuid>,
    ) -> Result<(), BusError> {
        self.bus.requeue(to, message, entry).await
    }

    /// Dead letters that lie at the broker and belong to the app. They stay there.
    ///
    /// # Errors
    /// As [`Bus::letters`].
    pub async fn letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        let letters = self.bus.letters(limit).await?;
        let now = self.clock.now();
        Ok(letters
            .into_iter()
            .map(|letter| consumer::letter_of(letter, now))
            .collect())
    }

    /// How the bus is, now.
    pub fn health(&self) -> BusHealth {
        self.bus.health()
    }

    /// As [`Bus::pause`].
    pub async fn pause(&self) {
        self.bus.pause().await;
    }

    /// As [`Bus::close`].
    pub async fn close(&self, deadline: Duration) {
        self.bus.close(deadline).await;
    }
}

fn unreadable(topic: &str, error: &MessageError) -> Reply {
    Reply::Failed {
        handler: topic.to_owned(),
        error_type: "ORK_MESSAGE_MALFORMED".into(),
        message: format!("the answer cannot be read: {error}"),
        trace: String::new(),
    }
}
