//! The relay: a named reader of the log that publishes every event of it, in order, at least once; beside it the outbox's messages go out.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, FusedFuture, join, join_all, maybe_done, select},
    poll,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    OutboxReader, OutboxRelay,
    parking::{Listener, Parked, Parking},
};
use crate::{
    background::{Background, Running},
    broker::Broker,
    clock::Clock,
    code::Coded,
    message::{Event, MessageKind, Metadata, wire},
    ports::{
        BusError, DeadLetter, DeadLetterReason, DeadLetterStore, Outgoing, Position, RELAY,
        RecordedEvent, StoreError, TraceContext,
    },
    subscription::{Batch, Subscription},
};

/// Events that are on their way to the broker at once.
pub(crate) const WINDOW: usize = 256;

/// The wait after the first failure in a row; each further one is twice as long.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The topic of a type name, `None` if it has none. [`Registry::topic_for`](crate::registry::Registry::topic_for) knows it.
pub type Topics = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a relay is started with.
#[derive(Clone)]
pub struct RelayOptions {
    topics: Topics,
    on_dead_letter: Option<Listener>,
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayOptions")
    }
}

impl RelayOptions {
    /// Publishes each event under its topic.
    pub fn new(topics: Topics) -> Self {
        Self {
            topics,
            on_dead_letter: None,
        }
    }

    /// Called, on a thread of the core, with every message that was parked because the broker never takes it.
    #[must_use]
    pub fn on_dead_letter(mut self, f: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        self.on_dead_letter = Some(Arc::new(f));
        self
    }
}

/// How a relay is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayHealth {
    /// How far this process has published the log; `None` before the first event, and where another process does it.
    pub position: Option<Position>,
    /// Why it does not go on now. It tries again by itself.
    pub error: Option<String>,
}

/// The reader. Made with a subscription that is [`owned`](Subscription::owned), so that of all processes one publishes.
pub struct Relay {
    subscription: Subscription,
    broker: Broker,
    parking: Parking,
    topics: Topics,
    health: Arc<Mutex<RelayHealth>>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({:?})", self.health.lock())
    }
}

/// A relay at work. Dropped, it stops at once.
#[derive(Debug)]
pub(crate) struct RunningRelay {
    stops: Vec<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
    health: Arc<Mutex<RelayHealth>>,
    /// What keeps the outbox from being published.
    outbox_error: Arc<Mutex<Option<String>>>,
    _running: Running,
}

impl RunningRelay {
    pub(crate) fn health(&self) -> RelayHealth {
        let mut health = self.health.lock().clone();
        if health.error.is_none() {
            health.error.clone_from(&self.outbox_error.lock());
        }
        health
    }

    /// Publishes what is in the log and the outbox by now, `deadline` at most, and ends.
    pub(crate) async fn stop(self, clock: &dyn Clock, deadline: Duration) {
        for stop in self.stops {
            let _ = stop.send(());
        }
        if let Either::Right(_) = select(self.ended, clock.sleep(deadline)).await {
            tracing::warn!("the relay did not end in time; it goes on at the next start");
        }
    }
}

/// How an attempt to publish events ended.
struct Passed {
    /// So many of them, from the first on, are done with.
    count: usize,
    /// What is in the way of the next one.
    obstacle: Option<String>,
    /// The bus or the store is closed.
    over: bool,
}

impl Relay {
    /// A relay that reads with `subscription`, publishes through `broker` and parks in `dead_letters` what the broker refuses for good.
    pub fn new(
        subscription: Subscription,
        broker: Broker,
        dead_letters: Arc<dyn DeadLetterStore>,
        options: RelayOptions,
    ) -> Self {
        Self {
            subscription,
            parking: Parking {
                clock: Arc::clone(&broker.desk.clock),
                ids: Arc::clone(&broker.desk.ids),
                dead_letters,
                listener: options.on_dead_letter,
            },
            broker,
            topics: options.topics,
            health: Arc::default(),
        }
    }

    /// Finds the place to begin at: what is appended after this is published.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn open(&mut self) -> Result<(), StoreError> {
        self.subscription.open().await
    }

    /// Runs in the background until it is stopped, and publishes what `outbox` reads beside.
    pub(crate) fn start(self, outbox: OutboxReader, background: &Background) -> RunningRelay {
        let outbox_error = Arc::default();
        let rows = OutboxRelay {
            reader: outbox,
            broker: self.broker.clone(),
            parking: self.parking.clone(),
            error: Arc::clone(&outbox_error),
        };
        let (stop_log, log_stopped) = oneshot::channel();
        let (stop_rows, rows_stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let health = Arc::clone(&self.health);
        let running = background.run(async move {
            join(self.run(log_stopped), rows.run(rows_stopped)).await;
            let _ = end.send(());
        });
        RunningRelay {
            stops: vec![stop_log, stop_rows],
            ended,
            health,
            outbox_error,
            _running: running,
        }
    }

    /// Publishes until `stop` is sent or dropped; then what is in the log by then, if nothing is in the way.
    pub async fn run(mut self, stop: oneshot::Receiver<()>) {
        let mut stop = pin!(stop.fuse());
        let mut wait = FIRST_WAIT;
        loop {
            let batch = if stop.is_terminated() {
                self.subscription.try_next().await
            } else {
                match select(pin!(self.subscription.next()), &mut stop).await {
                    Either::Left((batch, _)) => batch.map(Some),
                    Either::Right(_) => continue,
                }
            };
            let failed = match batch {
                Ok(Some(batch)) => self.pass_on(batch, &mut stop).await,
                Ok(None) => break,
                Err(StoreError::Closed {}) => return,
                Err(error) => Some(error.to_string()),
            };
            let Some(error) = failed else {
                wait = FIRST_WAIT;
                self.health.lock().error = None;
                continue;
            };
            if stop.is_terminated() {
                break;
            }
            self.pause(error, &mut wait, &mut stop).await;
        }
        if let Err(error) = self.subscription.release().await {
            tracing::debug!(name = RELAY, %error, "a lease was not given back");
        }
    }

    /// Notes what is in the way and waits, longer each time, until `stop` at most.
    async fn pause(
        &self,
        error: String,
        wait: &mut Duration,
        stop: &mut (impl FusedFuture + Unpin),
    ) {
        tracing::warn!(name = RELAY, error, "the log is not published now");
        self.health.lock().error = Some(error);
        let sleep = self.broker.desk.clock.sleep(*wait);
        *wait = (*wait * 2).min(LONGEST_WAIT);
        if !stop.is_terminated() {
            select(sleep, stop).await;
        }
    }

    /// Publishes the whole batch, again and again until that is done or `stop` comes; returns what the stores say against it.
    async fn pass_on(
        &mut self,
        batch: Batch,
        stop: &mut (impl FusedFuture + Unpin),
    ) -> Option<String> {
        let mut wait = FIRST_WAIT;
        let mut rest = &batch.events[..];
        loop {
            let passed = self.publish(rest).await;
            let last = passed.count.checked_sub(1).map(|n| rest[n].position);
            rest = &rest[passed.count..];
            let position = if rest.is_empty() {
                batch.position
            } else {
                last
            };
            if position.is_some() {
                self.health.lock().position = position;
            }
            // Before the wait: what is out shall not go out again.
            let acked = match self.subscription.ack(position).await {
                Ok(()) => None,
                Err(StoreError::Closed {}) => return Some("the store is closed".into()),
                Err(error) => Some(error.to_string()),
            };
            let Some(obstacle) = passed.obstacle else {
                return acked;
            };
            if passed.over || stop.is_terminated() {
                return Some(obstacle);
            }
            self.pause(obstacle, &mut wait, stop).await;
        }
    }

    /// Starts publishing `events` in their order, without waiting for each other, then waits for all.
    async fn publish(&self, events: &[RecordedEvent]) -> Passed {
        let mut sendings = Vec::with_capacity(events.len());
        for event in events {
            let mut sending = Box::pin(maybe_done(self.send(event)));
            // The first poll hands it over: before the next one's, so that they arrive in order.
            let _ = poll!(&mut sending);
            sendings.push(sending);
        }
        join_all(&mut sendings).await;
        for (count, (sending, event)) in sendings.iter_mut().zip(events).enumerate() {
            let sent = sending.as_mut().take_output().unwrap_or(Ok(()));
            let obstacle = match sent {
                Ok(()) => continue,
                Err(Refusal::Parked(letter)) => match self.parking.park(*letter).await {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                Err(Refusal::Bus(error)) => {
                    let over = matches!(error, BusError::Closed {});
                    return Passed {
                        count,
                        obstacle: Some(error.to_string()),
                        over,
                    };
                }
            };
            return Passed {
                count,
                obstacle: Some(format!("event {}: {obstacle}", event.id)),
                over: false,
            };
        }
        Passed {
            count: events.len(),
            obstacle: None,
            over: false,
        }
    }

    async fn send(&self, recorded: &RecordedEvent) -> Result<(), Refusal> {
        // What has no topic can be wanted by nobody.
        let Some(topic) = (self.topics)(&recorded.type_name) else {
            return Ok(());
        };
        let topic: Arc<str> = topic.into();
        let trace = recorded.trace();
        let event = match recorded.event() {
            Ok(event) => event,
            Err(error) => {
                let reason = DeadLetterReason::Undecodable;
                return Err(self.refuse(
                    &without_metadata(recorded),
                    &topic,
                    &trace,
                    reason,
                    &error,
                ));
            }
        };
        let body = match wire::encode_event(&event) {
            Ok(body) => body,
            Err(error) => {
                let reason = DeadLetterReason::Undecodable;
                return Err(self.refuse(&event, &topic, &trace, reason, &error));
            }
        };
        let sent = self.broker.send(Outgoing {
            kind: MessageKind::Event,
            id: event.id,
            topic: Arc::clone(&topic),
            correlation_id: event.metadata.correlation_id.to_string().into(),
            body,
            issued_at: event.metadata.issued_at,
            max_retries: None,
            trace: trace.clone(),
        });
        match sent.await {
            Ok(()) => Ok(()),
            // Only this is about the message; all else is about the broker, and passes.
            Err(error @ BusError::MessageTooLarge { .. }) => {
                let reason = DeadLetterReason::NotRetryable;
                Err(self.refuse(&event, &topic, &trace, reason, &error))
            }
            Err(error) => Err(Refusal::Bus(error)),
        }
    }

    fn refuse<E: Coded + fmt::Display>(
        &self,
        event: &Event,
        topic: &str,
        trace: &TraceContext,
        reason: DeadLetterReason,
        error: &E,
    ) -> Refusal {
        let parked = Parked {
            kind: MessageKind::Event,
            id: event.id,
            type_name: &event.type_name,
            topic,
            body: wire::encode_event(event).ok(),
            correlation_id: event.metadata.correlation_id.to_string(),
            trace,
        };
        Refusal::Parked(Box::new(self.parking.letter(parked, reason, error)))
    }
}

/// Why an event was not published.
enum Refusal {
    /// It never will be.
    Parked(Box<DeadLetter>),
    /// It cannot be now.
    Bus(BusError),
}

/// The event with metadata that begin with itself.
fn without_metadata(event: &RecordedEvent) -> Event {
    Event {
        id: event.id,
        type_name: Arc::clone(&event.type_name),
        version: event.version,
        data: event.data.clone(),
        metadata: Metadata::root(event.id, event.occurred_at),
        occurred_at: event.occurred_at,
    }
}

#[cfg(test)]
mod tests;
