//! How events of the log reach their handlers: a named subscription each, in order per stream, retried in place.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;

use super::{Orkestra, context::Handling, deliver::Attempt, handler::Inbound};
use crate::{
    Error,
    code::Coded,
    message::{Event as EventData, MessageKind, Metadata},
    ports::{Position, RecordedEvent, StoreError},
    registry::HandlerIndex,
    subscription::{
        Batch, Poison, Start, Subscription, SubscriptionError, SubscriptionOptions, lane_of,
    },
};

/// The wait after a store failed to answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

pub(super) struct LogReader {
    app: Orkestra,
    handler: HandlerIndex,
    subscription: Subscription,
    poison: Poison,
}

impl LogReader {
    /// Finds the handler's place and goes on reading behind.
    pub(super) async fn start(
        app: &Orkestra,
        handler: HandlerIndex,
        start: Start,
        poison: Poison,
    ) -> Result<(), Error> {
        let mut subscription = app.inner.services.subscribe(
            Some(app.inner.registry.handler(handler).full_name.clone()),
            SubscriptionOptions::new(start, app.inner.registry.filter_for(handler)),
        );
        subscription.open().await?;
        let reader = Self {
            app: app.clone(),
            handler,
            subscription,
            poison,
        };
        app.inner.readers.lock().push(tokio::spawn(reader.run()));
        Ok(())
    }

    async fn run(mut self) {
        self.read().await;
        if let Err(error) = self.subscription.release().await {
            tracing::debug!(handler = self.full_name(), %error, "a lease was not given back");
        }
    }

    async fn read(&mut self) {
        while self.app.is_open() {
            let app = self.app.clone();
            let Some(batch) = app.unless_closed(self.subscription.next()).await else {
                return;
            };
            let result = match batch {
                Ok(batch) => self.handle(batch).await,
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(()) => {}
                Err(Error::Store(StoreError::Closed {})) => return,
                Err(Error::Subscription(stopped)) => {
                    tracing::error!(handler = self.full_name(), error = %stopped, "a subscription stopped");
                    let mut all = self.app.inner.stopped.lock();
                    all.insert(self.full_name().to_owned(), stopped);
                    return;
                }
                Err(error) => {
                    tracing::warn!(handler = self.full_name(), code = error.code(), %error, "the log could not be read");
                    self.app.inner.plan.clock.sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    fn full_name(&self) -> &str {
        &self.app.inner.registry.handler(self.handler).full_name
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), Error> {
        let lanes = self.app.inner.registry.handler(self.handler).concurrency as usize;
        let (app, handler, poison) = (&self.app, self.handler, self.poison);
        let events = &batch.events;
        if lanes > 1 {
            let lanes = (0..lanes).map(|lane| async move {
                for event in events {
                    if lane_of(&event.stream, lanes) == lane
                        && !deliver(app, handler, poison, event).await?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            });
            // A lane that stops leaves the whole batch to be read again: at least once.
            let results: Vec<Result<bool, Error>> = join_all(lanes).await;
            let done = results.into_iter().collect::<Result<Vec<_>, _>>();
            let done = done.inspect_err(|_| self.subscription.go_back(None))?;
            if done.contains(&false) {
                return Ok(());
            }
            return Ok(self.subscription.ack(batch.position).await?);
        }
        let mut done: Option<Position> = None;
        let mut stopped = Ok(());
        for event in events {
            match deliver(app, handler, poison, event).await {
                Ok(true) => done = Some(event.position),
                Ok(false) => break,
                Err(error) => {
                    stopped = Err(error);
                    break;
                }
            }
            if !app.is_open() {
                break;
            }
        }
        let whole = done == events.last().map(|e| e.position);
        let acked = self
            .subscription
            .ack(if whole { batch.position } else { done })
            .await;
        // The stop first: who goes on after a checkpoint that could not be saved goes past the event.
        stopped.inspect_err(|_| self.subscription.go_back(done))?;
        Ok(acked?)
    }
}

/// Hands one recorded event to its handler, to the end: success, refusal, or what `poison` says, also where its metadata is damaged. False if
/// the app was closed before that.
async fn deliver(
    app: &Orkestra,
    handler: HandlerIndex,
    poison: Poison,
    event: &RecordedEvent,
) -> Result<bool, Error> {
    let (data, damage) = match event.event() {
        Ok(data) => (data, None),
        Err(error) => (without_metadata(event), Some(error)),
    };
    let type_name = Arc::clone(&data.type_name);
    let (id, metadata) = (data.id, data.metadata.clone());
    let inbound = Inbound::Data(Arc::new(data));
    let mut parcel = app.event_parcel(handler, inbound, &type_name, id, &metadata);
    parcel.handling = Handling::traced(id, MessageKind::Event, metadata, event.trace());
    let info = app.inner.registry.handler(handler);
    let inbox = info.options.inbox.then_some(&app.inner.services.inbox);
    if let Some(inbox) = inbox
        && inbox.find(info.full_name.clone(), id).await?.is_some()
    {
        return Ok(true);
    }
    let (reason, error) = match damage {
        Some(error) => parcel.undecodable(app, error.into()),
        None => loop {
            let slot = parcel.slot(app).await;
            let attempt = parcel.attempt(app).await;
            drop(slot);
            match attempt {
                Attempt::Done(answer) => {
                    if let (Ok(_), Some(inbox)) = (answer, inbox)
                        && !parcel.handling.claimed.load(Ordering::Acquire)
                        && let Err(error) = inbox.record(info.full_name.clone(), id, None).await
                    {
                        tracing::warn!(handler = info.full_name, position = event.position.0, %error, "it could not be recorded that an event was handled");
                    }
                    return Ok(true);
                }
                Attempt::Retry(after, _) => {
                    if !parcel.wait(app, after).await {
                        return Ok(false);
                    }
                }
                Attempt::GiveUp(reason, error) => break (reason, error),
            }
        },
    };
    let name = &info.full_name;
    match poison {
        Poison::Park => {
            let letter = parcel.dead_letter(app, reason);
            // The event counts as handled once it is parked, so it has to be parked first.
            while let Err(error) = app.bury(letter.clone()).await {
                tracing::warn!(handler = name, position = event.position.0, %error, "an event could not be parked yet");
                let pause = app.inner.plan.clock.sleep(AFTER_FAILURE);
                if app.unless_closed(pause).await.is_none() {
                    return Ok(false);
                }
            }
        }
        Poison::Skip => {
            tracing::warn!(handler = name, position = event.position.0, %error, "an event is skipped");
        }
        Poison::Stop => {
            return Err(SubscriptionError::Stopped {
                name: name.clone(),
                position: event.position.0,
                reason: error.to_string(),
            }
            .into());
        }
    }
    Ok(true)
}

/// The event with metadata that begin with itself.
fn without_metadata(event: &RecordedEvent) -> EventData {
    EventData {
        id: event.id,
        type_name: Arc::clone(&event.type_name),
        version: event.version,
        data: event.data.clone(),
        metadata: Metadata::root(event.id, event.occurred_at),
        occurred_at: event.occurred_at,
    }
}
