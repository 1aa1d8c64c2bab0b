//! Messages between processes: what a host does with a [`Bus`], and what it does with what arrives.
//!
//! Sending is [`Broker::send`] and [`Broker::ask`]. For each handler there is a [`Consumer`]: the host takes an [`Arrival`], runs the handler under
//! a [`Delivery`](crate::delivery::Delivery) that goes on where the last attempt ended ([`Incoming::delivery`]), and settles it. A retry is
//! not waited for here: the broker keeps the message meanwhile.

mod consumer;
mod desk;
mod once;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use uuid::Uuid;

pub use consumer::{Arrival, Consumer, Doomed, Incoming};
pub(crate) use desk::Desk;

use crate::{
    background::Background,
    clock::{Clock, IdSource},
    message::{MessageError, Reply},
    ports::{
        Bus, BusError, BusHealth, ConsumerSpec, DeadLetter, DeadLetterStore, HandlerAddress,
        InboxStore, Outgoing, RELAY, StoreError, TakeLetter,
    },
    telemetry::{Span, Telemetry, names},
};

/// How long a command's answer is waited for when nobody says.
pub const DEFAULT_ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of the dead letters at the broker.
#[derive(Debug)]
pub struct Drained {
    /// So many are in the store now.
    pub moved: usize,
    /// Why the store did not take the next one: it and the rest are still at the broker.
    pub refused: Option<StoreError>,
}

/// A bus between processes with what a host needs around it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) bus: Arc<dyn Bus>,
    /// Where letters are that somebody requeues: where they are recorded, or a store that does not outlive the process.
    entries: Option<Arc<dyn DeadLetterStore>>,
    pub(crate) desk: Desk,
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
            entries: dead_letters.clone(),
            desk: Desk {
                dead_letters,
                handled: None,
                clock,
                ids,
                background,
                telemetry: Telemetry::off(),
            },
        }
    }

    /// The same with a state store that does not outlive the process, out of which letters are requeued.
    #[must_use]
    pub fn with_entries(mut self, entries: Arc<dyn DeadLetterStore>) -> Self {
        self.entries = Some(entries);
        self
    }

    /// The same with `handled`, where it is recorded what was handled, for handlers with an [inbox](ConsumerSpec::inbox).
    #[must_use]
    pub fn with_inbox(mut self, handled: Arc<dyn InboxStore>) -> Self {
        self.desk.handled = Some(handled);
        self
    }

    /// The same with spans for what is published and what is consumed.
    #[must_use]
    pub fn traced(mut self, telemetry: Telemetry) -> Self {
        self.desk.telemetry = telemetry;
        self
    }

    /// Publishes a message; the broker has it when this returns.
    ///
    /// # Errors
    /// As [`Bus::send`].
    pub async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        let mut span = self.publishing(&message, &message.topic);
        let sent = self.bus.send(message).await;
        sent.inspect_err(|error| span.fail(error))
    }

    /// Sends a command and waits for its answer, `timeout` at most: the result as JSON.
    ///
    /// # Errors
    /// [`BusError::DispatchTimeout`], after which the command may still be handled; [`BusError::Rejected`]; [`BusError::HandlerFailed`]; as
    /// [`Bus::send`].
    pub async fn ask(&self, command: Outgoing, timeout: Duration) -> Result<Bytes, BusError> {
        let topic = Arc::clone(&command.topic);
        let mut span = self.publishing(&command, &topic);
        let answer = self.bus.ask(command);
        let body = match select(answer, self.desk.clock.sleep(timeout)).await {
            Either::Left((body, _)) => body,
            Either::Right(((), _)) => Err(BusError::DispatchTimeout {
                topic: topic.to_string(),
                seconds: timeout.as_secs_f64(),
            }),
        };
        let body = body.inspect_err(|error| span.fail(error))?;
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
        let inbox = self.bus.consume(spec.clone()).await?;
        Ok(self.desk.consumer(spec, inbox))
    }

    /// Puts the message of the dead letter `entry` into the queue of its handler alone; what the relay parked is published.
    ///
    /// The entry is removed when its handler succeeds. It is removed here if that is not to be waited for: if the relay parked it, or if it is
    /// in a store that only this process has.
    ///
    /// # Errors
    /// As [`Bus::requeue`].
    pub async fn requeue(
        &self,
        to: HandlerAddress,
        message: Outgoing,
        entry: Option<Uuid>,
    ) -> Result<(), BusError> {
        if to.handler == RELAY {
            self.send(message).await?;
            self.forget(entry).await;
            return Ok(());
        }
        let mut span = self.publishing(&message, &to.handler);
        let marked = entry.filter(|_| self.desk.dead_letters.is_some());
        let sent = self.bus.requeue(to, message, marked).await;
        sent.inspect_err(|error| span.fail(error))?;
        if marked.is_none() {
            self.forget(entry).await;
        }
        Ok(())
    }

    /// Removes an entry whose message is on its way.
    async fn forget(&self, entry: Option<Uuid>) {
        let (Some(entry), Some(store)) = (entry, &self.entries) else {
            return;
        };
        if let Err(error) = store.discard(entry).await {
            tracing::warn!(%entry, %error, "a dead letter that was handed over stays marked as requeued");
        }
    }

    /// Dead letters that lie at the broker and belong to the app. They stay there.
    ///
    /// # Errors
    /// As [`Bus::letters`].
    pub async fn letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        let letters = self.bus.letters(limit).await?;
        let now = self.desk.clock.now();
        Ok(letters
            .into_iter()
            .map(|letter| consumer::letter_of(letter, now))
            .collect())
    }

    /// Moves the app's dead letters from the broker into `store`, `limit` at most, oldest first. Each leaves the broker once it is recorded.
    ///
    /// # Errors
    /// As [`Bus::drain_letters`].
    pub async fn drain_letters(
        &self,
        store: Arc<dyn DeadLetterStore>,
        limit: usize,
    ) -> Result<Drained, BusError> {
        let refused = Arc::new(Mutex::new(None));
        let (note, clock) = (Arc::clone(&refused), Arc::clone(&self.desk.clock));
        let take: TakeLetter = Box::new(move |letter| {
            let letter = consumer::letter_of(letter, clock.now());
            let (store, note) = (Arc::clone(&store), Arc::clone(&note));
            Box::pin(async move {
                match store.record(letter).await {
                    Ok(_) => true,
                    Err(error) => {
                        *note.lock() = Some(error);
                        false
                    }
                }
            })
        });
        let moved = self.bus.drain_letters(limit, take).await?;
        let refused = refused.lock().take();
        Ok(Drained { moved, refused })
    }

    fn publishing(&self, message: &Outgoing, routing_key: &str) -> Span {
        self.desk.telemetry.span(names::RABBITMQ_PUBLISH, || {
            vec![
                (names::MESSAGING_SYSTEM, "rabbitmq".into()),
                (names::MESSAGING_OPERATION, "publish".into()),
                (names::MESSAGING_ROUTING_KEY, routing_key.to_owned()),
                (names::MESSAGING_MESSAGE_ID, message.id.to_string()),
                (
                    names::MESSAGING_CONVERSATION_ID,
                    message.correlation_id.to_string(),
                ),
            ]
        })
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
