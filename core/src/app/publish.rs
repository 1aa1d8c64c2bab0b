//! Publishing an event: now, to every handler that wants it, each for itself.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Envelope, Event, Orkestra,
    context::{Handling, Stamping, current, stamping_options},
    deliver::{Attempt, Parcel},
    handler::Inbound,
    typed::encode,
};
use crate::{
    Error,
    delivery::Delivery,
    message::{Event as EventData, EventStatus, HandlerState, MessageKind, Metadata},
    ports::DeadLetterReason,
    registry::HandlerIndex,
    telemetry::names,
};

/// An event about to be published: `await` it.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Publish<E> {
    app: Orkestra,
    event: E,
    stamping: Stamping,
}

impl<E: Event> Publish<E> {
    stamping_options!(
        "The event's id, a UUID. Default: a new one, or derived from the command being handled."
    );
}

impl<E: Event> IntoFuture for Publish<E> {
    type Output = Result<Published, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.app.check()?;
            let now = self.app.inner.plan.clock.now();
            let (id, metadata) = self.stamping.stamp(&self.app, MessageKind::Event, now)?;
            self.app.publish_event(self.event, id, metadata).await
        })
    }
}

/// What becomes of a published event.
#[derive(Debug, Clone)]
pub struct Published {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    id: Uuid,
    metadata: Metadata,
    handlers: Mutex<Vec<(String, HandlerState)>>,
    changed: Notify,
    /// The app was closed before a handler was done.
    ended: AtomicBool,
    /// A broker has it.
    is_remote: bool,
}

impl Published {
    fn new(
        id: Uuid,
        metadata: Metadata,
        handlers: Vec<(String, HandlerState)>,
        is_remote: bool,
    ) -> Self {
        Self {
            state: Arc::new(State {
                id,
                metadata,
                handlers: Mutex::new(handlers),
                changed: Notify::new(),
                ended: AtomicBool::new(is_remote),
                is_remote,
            }),
        }
    }

    /// The event's id.
    pub fn id(&self) -> Uuid {
        self.state.id
    }

    /// The event's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.state.metadata
    }

    /// Each handler's full name and state, in order of registration; none over a broker.
    pub fn handlers(&self) -> Vec<(String, HandlerState)> {
        self.state.handlers.lock().clone()
    }

    /// Where the event stands. Over a broker that is [`EventStatus::Published`]: the broker has it, and knows nothing of handlers.
    pub fn status(&self) -> EventStatus {
        if self.state.is_remote {
            return EventStatus::Published;
        }
        EventStatus::of(self.state.handlers.lock().iter().map(|(_, s)| *s))
    }

    /// Waits until every handler has succeeded or given up, and returns where the event stands then: [`EventStatus::Published`] if the app was
    /// closed before, and at once over a broker.
    pub async fn settled(&self) -> EventStatus {
        loop {
            let changed = self.state.changed.notified();
            let status = self.status();
            if status != EventStatus::Published || self.state.ended.load(Ordering::Acquire) {
                return status;
            }
            changed.await;
        }
    }

    fn set(&self, index: usize, state: HandlerState) {
        if let Some(entry) = self.state.handlers.lock().get_mut(index) {
            entry.1 = state;
        }
        self.state.changed.notify_waiters();
    }
}

/// What is left to do for one handler. Dropped before that is done, it tells those who wait.
struct Rest(Published, usize);

impl Drop for Rest {
    fn drop(&mut self) {
        let Self(published, index) = self;
        let state = published.state.handlers.lock().get(*index).map(|h| h.1);
        if matches!(
            state,
            Some(HandlerState::Pending | HandlerState::Processing)
        ) {
            published.state.ended.store(true, Ordering::Release);
            published.state.changed.notify_waiters();
        }
    }
}

impl Orkestra {
    /// Publishes `event` through the bus, now, not stored. In process it waits for the first attempt of each handler, and retries go on behind;
    /// over a broker it waits until the broker has it safely. It does not fail because a handler does.
    pub fn publish<E: Event>(&self, event: E) -> Publish<E> {
        Publish {
            app: self.clone(),
            event,
            stamping: Stamping::default(),
        }
    }

    async fn publish_event<E: Event>(
        &self,
        event: E,
        id: Uuid,
        metadata: Metadata,
    ) -> Result<Published, Error> {
        let type_name: Arc<str> = E::TYPE_NAME.into();
        let _span = self.inner.plan.telemetry.span(names::EVENT_PUBLISH, || {
            vec![
                (names::EVENT_TYPE, type_name.to_string()),
                (names::EVENT_ID, id.to_string()),
                (names::CORRELATION_ID, metadata.correlation_id.to_string()),
            ]
        });
        if let Some(broker) = &self.inner.services.broker {
            let topic = self.inner.registry.topic_for(&type_name)?;
            let data = EventData {
                id,
                type_name,
                version: E::VERSION,
                data: encode(&event, self.inner.plan.limits)?,
                occurred_at: metadata.issued_at,
                metadata,
            };
            self.publish_over(broker, topic, &data).await?;
            return Ok(Published::new(id, data.metadata, Vec::new(), true));
        }
        let handlers = self.inner.registry.event_handlers(&type_name);
        let inbound = Inbound::Typed(Arc::new(event.clone()));
        let names = handlers.iter().map(|h| {
            let info = self.inner.registry.handler(*h);
            (info.full_name.clone(), HandlerState::Pending)
        });
        let published = Published::new(id, metadata.clone(), names.collect(), false);
        // A handler of patterns takes the event as data; it is encoded once, and only if there is one.
        let mut data = None;
        let mut parcels = Vec::with_capacity(handlers.len());
        for handler in handlers {
            let inbound = if self.inner.data_handlers.contains(&handler) {
                if data.is_none() {
                    data = Some(Arc::new(EventData {
                        id,
                        type_name: Arc::clone(&type_name),
                        version: E::VERSION,
                        data: encode(&event, self.inner.plan.limits)?,
                        metadata: metadata.clone(),
                        occurred_at: metadata.issued_at,
                    }));
                }
                data.as_ref()
                    .map_or_else(|| inbound.clone(), |data| Inbound::Data(Arc::clone(data)))
            } else {
                inbound.clone()
            };
            parcels.push(self.event_parcel(handler, inbound, &type_name, id, &metadata));
        }
        if self.inner.around_send.is_empty() {
            self.first_attempts(parcels, &published).await;
            return Ok(published);
        }
        let envelope = Envelope {
            kind: MessageKind::Event,
            id,
            topic: self.inner.registry.topic_for(&type_name)?,
            type_name,
            metadata,
            handler: None,
            attempt: 0,
        };
        let inner = published.clone();
        self.sending(&envelope, async move {
            self.first_attempts(parcels, &inner).await;
            Ok(Box::new(()) as Box<dyn std::any::Any + Send>)
        })
        .await?;
        Ok(published)
    }

    pub(super) fn event_parcel(
        &self,
        handler: HandlerIndex,
        inbound: Inbound,
        type_name: &Arc<str>,
        id: Uuid,
        metadata: &Metadata,
    ) -> Parcel {
        let options = &self.inner.registry.handler(handler).options;
        Parcel {
            handler,
            inbound,
            type_name: Arc::clone(type_name),
            delivery: Delivery::new(&options.policy, MessageKind::Event, None),
            handling: Handling::of(id, MessageKind::Event, metadata.clone()),
        }
    }

    async fn first_attempts(&self, parcels: Vec<Parcel>, published: &Published) {
        let nested = current().is_some();
        for (index, mut parcel) in parcels.into_iter().enumerate() {
            let slot = match parcel.try_slot(self) {
                Some(slot) => Some(slot),
                // Inside a handler waiting for a busy one could wait for oneself: the delivery queues behind it.
                None if nested => {
                    let (app, rest) = (self.clone(), Rest(published.clone(), index));
                    self.spawn(async move { app.go_on(parcel, &rest).await });
                    continue;
                }
                None => parcel.slot(self).await,
            };
            published.set(index, HandlerState::Processing);
            let attempt = parcel.attempt(self).await;
            drop(slot);
            match attempt {
                Attempt::Retry(after, error) => {
                    published.set(index, HandlerState::Pending);
                    let (app, rest) = (self.clone(), Rest(published.clone(), index));
                    self.spawn(async move {
                        if parcel.wait(&app, after).await {
                            return app.go_on(parcel, &rest).await;
                        }
                        let done = Attempt::GiveUp(DeadLetterReason::RetriesExhausted, error);
                        app.settle(&parcel, index, &rest.0, done).await;
                    });
                }
                done => self.settle(&parcel, index, published, done).await,
            }
        }
    }

    async fn go_on(&self, mut parcel: Parcel, Rest(published, index): &Rest) {
        let index = *index;
        loop {
            let slot = parcel.slot(self).await;
            published.set(index, HandlerState::Processing);
            let attempt = parcel.attempt(self).await;
            drop(slot);
            match attempt {
                Attempt::Retry(after, error) => {
                    published.set(index, HandlerState::Pending);
                    if !parcel.wait(self, after).await {
                        let done = Attempt::GiveUp(DeadLetterReason::RetriesExhausted, error);
                        return self.settle(&parcel, index, published, done).await;
                    }
                }
                done => return self.settle(&parcel, index, published, done).await,
            }
        }
    }

    async fn settle(&self, parcel: &Parcel, index: usize, published: &Published, done: Attempt) {
        let state = match done {
            Attempt::Done(Ok(_)) => HandlerState::Succeeded,
            // An event handler that refuses an event passes it over.
            Attempt::Done(Err(_)) | Attempt::Retry(..) => HandlerState::Skipped,
            Attempt::GiveUp(reason, _) => {
                parcel.give_up(self, reason).await;
                HandlerState::Failed
            }
        };
        published.set(index, state);
    }
}
