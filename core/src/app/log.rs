//! How events of the log reach their handlers: a named subscription each, in order per stream, retried in place.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, join_all, select};

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
        let clock = &app.inner.plan.clock;
        let owner = app.inner.plan.ids.next_id(clock.now()).to_string();
        let mut subscription = Subscription::durable(
            Arc::clone(&services.events),
            Arc::clone(&services.checkpoints),
            app.inner.registry.handler(handler).full_name.clone(),
            SubscriptionOptions::new(start, app.inner.registry.filter_for(handler)),
        )
        .owned(Arc::clone(&services.leases), owner, Arc::clone(clock));
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
        let closing = Arc::clone(&self.app.inner.closing);
        while self.app.is_open() {
            let batch = {
                let stop = std::pin::pin!(closing.notified());
                if !self.app.is_open() {
                    return;
                }
                let next = std::pin::pin!(self.subscription.next());
                match select(next, stop).await {
                    Either::Left((batch, _)) => batch,
                    Either::Right(_) => return,
                }
            };
            let result = match batch {
                Ok(batch) => {
                    let keeper = std::pin::pin!(self.subscription.keeper());
                    let handling = std::pin::pin!(self.handle(batch));
                    match select(handling, keeper).await {
                        Either::Left((result, _)) => result,
                        Either::Right(_) => Ok(()),
                    }
                }
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
            let results: Vec<Result<bool, SubscriptionError>> = join_all(lanes).await;
            let done = results.into_iter().collect::<Result<Vec<_>, _>>()?;
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
        self.subscription
            .ack(if whole { batch.position } else { done })
            .await?;
        Ok(stopped?)
    }
}

/// Hands one recorded event to its handler, to the end: success, refusal, or what `poison` says. False if the app was closed before that.
async fn deliver(
    app: &Orkestra,
    handler: HandlerIndex,
    poison: Poison,
    event: &RecordedEvent,
) -> Result<bool, SubscriptionError> {
    let data = match event.event() {
        Ok(data) => data,
        Err(error) => {
            tracing::error!(position = event.position.0, %error, "a recorded event has damaged metadata");
            return Ok(true);
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
            Attempt::Done(_) => return Ok(true),
            Attempt::Retry(after) => {
                let closing = std::pin::pin!(app.inner.closing.notified());
                if !app.is_open() {
                    return Ok(false);
                }
                match select(std::pin::pin!(parcel.wait(app, after)), closing).await {
                    Either::Left(_) => continue,
                    Either::Right(_) => return Ok(false),
                }
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
        return Ok(true);
    }
}
