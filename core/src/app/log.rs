//! How events of the log reach their handlers: a named subscription each, in order per stream, retried in place.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{Orkestra, deliver::Attempt, handler::Inbound};
use crate::{
    Error,
    code::Coded,
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
        let services = &app.inner.services;
        let mut subscription = Subscription::durable(
            Arc::clone(&services.events),
            Arc::clone(&services.checkpoints),
            app.inner.registry.handler(handler).full_name.clone(),
            SubscriptionOptions::new(start, app.inner.registry.filter_for(handler)),
        );
        subscription.open().await?;
        let reader = Self {
            app: app.clone(),
            handler,
            subscription,
            poison,
        };
        app.spawn(reader.run());
        Ok(())
    }

    async fn run(mut self) {
        while self.app.is_open() {
            let result = match self.subscription.next().await {
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
                    if lane_of(&event.stream, lanes) == lane {
                        deliver(app, handler, poison, event).await?;
                    }
                }
                Ok(())
            });
            // A lane that stops leaves the whole batch to be read again: at least once.
            let results: Vec<Result<(), SubscriptionError>> = join_all(lanes).await;
            results.into_iter().collect::<Result<(), _>>()?;
            return Ok(self.subscription.ack(batch.position).await?);
        }
        let mut done: Option<Position> = None;
        let mut stopped = Ok(());
        for event in events {
            stopped = deliver(app, handler, poison, event).await;
            if stopped.is_err() {
                break;
            }
            done = Some(event.position);
            if !app.is_open() {
                break;
            }
        }
        let whole = done == events.last().map(|e| e.position);
        self.subscription
            .ack(if whole { batch.position } else { done })
            .await?;
        Ok(stopped?)
    }
}

/// Hands one recorded event to its handler, to the end: success, refusal, or what `poison` says.
async fn deliver(
    app: &Orkestra,
    handler: HandlerIndex,
    poison: Poison,
    event: &RecordedEvent,
) -> Result<(), SubscriptionError> {
    let data = match event.event() {
        Ok(data) => data,
        Err(error) => {
            tracing::error!(position = event.position.0, %error, "a recorded event has damaged metadata");
            return Ok(());
        }
    };
    let type_name = Arc::clone(&data.type_name);
    let (id, metadata) = (data.id, data.metadata.clone());
    let inbound = Inbound::Data(Arc::new(data));
    let mut parcel = app.event_parcel(handler, inbound, &type_name, id, &metadata);
    loop {
        let slot = parcel.slot(app).await;
        let attempt = parcel.attempt(app).await;
        drop(slot);
        let (reason, error) = match attempt {
            Attempt::Done(_) => return Ok(()),
            Attempt::Retry(after) => {
                parcel.wait(app, after).await;
                continue;
            }
            Attempt::GiveUp(reason, error) => (reason, error),
        };
        let name = &app.inner.registry.handler(handler).full_name;
        match poison {
            Poison::Park => parcel.give_up(app, reason).await,
            Poison::Skip => {
                tracing::warn!(handler = name, position = event.position.0, %error, "an event is skipped");
            }
            Poison::Stop => {
                return Err(SubscriptionError::Stopped {
                    name: name.clone(),
                    position: event.position.0,
                    reason: error.to_string(),
                });
            }
        }
        return Ok(());
    }
}
