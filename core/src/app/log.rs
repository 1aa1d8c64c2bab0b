//! How events of the log reach their handlers: a named subscription each, in order per stream, retried in place.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{Orkestra, deliver::Attempt, handler::Inbound};
use crate::{
    Error,
    code::Coded,
    ports::{Position, RecordedEvent, StoreError},
    registry::HandlerIndex,
    subscription::{Batch, Start, Subscription, SubscriptionOptions, lane_of},
};

/// The wait after a store failed to answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

pub(super) struct LogReader {
    app: Orkestra,
    handler: HandlerIndex,
    subscription: Subscription,
}

impl LogReader {
    /// Finds the handler's place and goes on reading behind.
    pub(super) async fn start(
        app: &Orkestra,
        handler: HandlerIndex,
        start: Start,
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
        };
        app.spawn(reader.run());
        Ok(())
    }

    async fn run(mut self) {
        while self.app.is_open() {
            let result = match self.subscription.next().await {
                Ok(batch) => self.handle(batch).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {}
                Err(StoreError::Closed {}) => return,
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

    async fn handle(&mut self, batch: Batch) -> Result<(), StoreError> {
        let lanes = self.app.inner.registry.handler(self.handler).concurrency as usize;
        if lanes <= 1 {
            let mut done: Option<Position> = None;
            for event in &batch.events {
                deliver(&self.app, self.handler, event).await;
                done = Some(event.position);
                if !self.app.is_open() {
                    break;
                }
            }
            let whole = done == batch.events.last().map(|e| e.position);
            return self
                .subscription
                .ack(if whole { batch.position } else { done })
                .await;
        }
        let (app, handler) = (&self.app, self.handler);
        let events = &batch.events;
        join_all((0..lanes).map(|lane| async move {
            for event in events {
                if lane_of(&event.stream, lanes) == lane {
                    deliver(app, handler, event).await;
                }
            }
        }))
        .await;
        self.subscription.ack(batch.position).await
    }
}

/// Hands one recorded event to its handler, to the end: success, refusal or dead letter.
async fn deliver(app: &Orkestra, handler: HandlerIndex, event: &RecordedEvent) {
    let data = match event.event() {
        Ok(data) => data,
        Err(error) => {
            tracing::error!(position = event.position.0, %error, "a recorded event has damaged metadata");
            return;
        }
    };
    let type_name = Arc::clone(&data.type_name);
    let (id, metadata) = (data.id, data.metadata.clone());
    let mut parcel = app.event_parcel(
        handler,
        Inbound::Data(Arc::new(data)),
        &type_name,
        id,
        &metadata,
    );
    loop {
        let slot = parcel.slot(app).await;
        let attempt = parcel.attempt(app).await;
        drop(slot);
        match attempt {
            Attempt::Done(_) => return,
            Attempt::Retry(after) => parcel.wait(app, after).await,
            Attempt::GiveUp(reason, _) => return parcel.give_up(app, reason).await,
        }
    }
}
