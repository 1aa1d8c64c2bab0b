//! Messages given up on: to be looked at, handed over again, mended or thrown away.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Orkestra, context::Handling, deliver::Parcel, handler::Inbound};
use crate::{
    Error,
    broker::Broker,
    delivery::Delivery,
    message::{
        Command as CommandData, CommandEnvelope, Event as EventData, MessageError, MessageKind,
        wire,
    },
    ports::{
        BusError, DeadLetter, DeadLetterFilter, DeadLetterPage, HandlerAddress, Outgoing,
        TraceContext,
    },
    registry::HandlerIndex,
};

/// The dead letters of an app's state store. Made by [`Orkestra::dead_letters`].
///
/// Where there is a broker and the state store is in memory, dead letters lie at the broker, where every process sees them:
/// [`DeadLetters::broker`] lists them, [`DeadLetters::drain`] brings them here, and [`DeadLetters::list`] shows only what is here.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    app: Orkestra,
}

impl DeadLetters {
    pub(super) fn new(app: Orkestra) -> Self {
        Self { app }
    }

    /// The entries that `filter` finds, the last failed first, and how many there are in all.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, filter: DeadLetterFilter) -> Result<DeadLetterPage, Error> {
        self.app.check()?;
        Ok(self.app.inner.services.dead_letters.list(filter).await?)
    }

    /// The entry `id`.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`](crate::ports::StoreError::NoDeadLetter).
    pub async fn show(&self, id: Uuid) -> Result<DeadLetter, Error> {
        self.app.check()?;
        Ok(self.app.inner.services.dead_letters.get(id).await?)
    }

    /// Hands the message to its handler again, with the same id.
    ///
    /// In process it waits until the handler succeeds, refuses or the message is given up again, and returns whether the entry is gone.
    ///
    /// Over a broker the message goes into the queue of that handler alone, which need not be of this app: handed over, so false. The
    /// entry is marked as requeued, and is gone when the handler succeeds; where the state store is in memory, it is gone at once, and a
    /// message that fails again lies at the broker. What the relay ([`RELAY`](crate::outbox::RELAY)) could not publish is published, and is
    /// gone.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`](crate::ports::StoreError::NoDeadLetter); [`BusError::InvalidHandler`] if in process this app has no such handler, or the body cannot be handed over; what the
    /// broker says, [`BusError::TopologyMissing`] if it has no queue of that handler.
    pub async fn requeue(&self, id: Uuid) -> Result<bool, Error> {
        self.requeue_with(id, None).await
    }

    /// As [`DeadLetters::requeue`] with another payload, which must fit the message's type where the handler is of this app.
    ///
    /// # Errors
    /// As [`DeadLetters::requeue`], and what is wrong with the payload.
    pub async fn edit(&self, id: Uuid, payload: Bytes) -> Result<bool, Error> {
        self.requeue_with(id, Some(payload)).await
    }

    /// Throws the entry away; returns whether there was one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn discard(&self, id: Uuid) -> Result<bool, Error> {
        self.app.check()?;
        Ok(self.app.inner.services.dead_letters.discard(id).await?)
    }

    /// The app's dead letters that lie at the broker, oldest first: what was given up where no durable state store is, and what the broker
    /// itself gave up. They stay there. None without a broker.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn broker(&self, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        self.app.check()?;
        match &self.app.inner.services.broker {
            Some(broker) => Ok(broker.letters(limit).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Moves the app's dead letters from the broker into the state store, oldest first: all that are there now, or `limit` at most. Returns
    /// how many. Each leaves the broker once it is recorded.
    ///
    /// # Errors
    /// What the broker says, or the store: the letters before that are moved, the rest is where it was.
    pub async fn drain(&self, limit: Option<usize>) -> Result<usize, Error> {
        self.app.check()?;
        let services = &self.app.inner.services;
        let Some(broker) = &services.broker else {
            return Ok(0);
        };
        let store = Arc::clone(&services.dead_letters);
        let drained = broker
            .drain_letters(store, limit.unwrap_or(usize::MAX))
            .await?;
        match drained.refused {
            None => Ok(drained.moved),
            Some(error) => Err(error.into()),
        }
    }

    async fn requeue_with(&self, id: Uuid, payload: Option<Bytes>) -> Result<bool, Error> {
        self.app.check()?;
        let app = &self.app;
        let store = &app.inner.services.dead_letters;
        let letter = store.get(id).await?;
        let handler = self.handler_of(&letter)?;
        let (mut data, max_retries) = decode(&letter, app)?;
        let mut body = None;
        if let Some(payload) = payload {
            app.inner.plan.limits.check(&letter.type_name, &payload)?;
            data.data = payload;
            if let Some(handler) = handler {
                // Before the entry is touched: a payload that does not fit must not replace the one that is there.
                (app.inner.handlers[&handler].check)(&data)?;
            }
            body = Some(encode(&data, letter.kind, max_retries)?);
        }
        let requeued = store.requeue(id, body).await?;
        match (&app.inner.services.broker, handler) {
            (Some(broker), _) => {
                let sent = self.hand_over(broker, &requeued, &data, max_retries).await;
                if sent.is_err()
                    && let Err(error) = store.take_back(id, letter.body).await
                {
                    tracing::warn!(entry = %id, %error, "an entry that was not handed over stays marked as requeued");
                }
                sent.map(|()| false)
            }
            (None, Some(handler)) => self.handle(handler, &requeued, data).await,
            // There is none only where there is a broker.
            (None, None) => Ok(false),
        }
    }

    /// Puts the message into the queue of its handler.
    async fn hand_over(
        &self,
        broker: &Broker,
        letter: &DeadLetter,
        data: &EventData,
        max_retries: Option<u32>,
    ) -> Result<(), Error> {
        let message = Outgoing {
            kind: letter.kind,
            id: data.id,
            topic: letter.topic.as_str().into(),
            correlation_id: data.metadata.correlation_id.to_string().into(),
            body: letter.body.clone(),
            issued_at: data.metadata.issued_at,
            max_retries,
            trace: TraceContext::default(),
        };
        let registry = &self.app.inner.registry;
        let to = match registry.handler_named(&letter.handler) {
            Some(handler) => registry.consumer_spec(handler).address,
            None => HandlerAddress {
                kind: letter.kind,
                topic: letter.topic.clone(),
                handler: letter.handler.clone(),
            },
        };
        Ok(broker.requeue(to, message, Some(letter.id)).await?)
    }

    /// Handles the message here, to the end; true if the entry is gone.
    async fn handle(
        &self,
        handler: HandlerIndex,
        letter: &DeadLetter,
        data: EventData,
    ) -> Result<bool, Error> {
        let app = &self.app;
        let options = &app.inner.registry.handler(handler).options;
        let mut parcel = Parcel {
            handler,
            type_name: Arc::clone(&data.type_name),
            delivery: Delivery::new(&options.policy, letter.kind, None),
            handling: Handling::of(data.id, letter.kind, data.metadata.clone()),
            inbound: Inbound::Data(Arc::new(data)),
        };
        match parcel.run_to_the_end(app).await {
            Ok(_) => {
                app.inner.services.dead_letters.discard(letter.id).await?;
                Ok(true)
            }
            Err((reason, _)) => {
                parcel.give_up(app, reason).await;
                Ok(false)
            }
        }
    }

    /// The handler's place in this app; `None` if it is another's and there is a broker to reach it.
    fn handler_of(&self, letter: &DeadLetter) -> Result<Option<HandlerIndex>, Error> {
        let refuse = |reason: &str| {
            Err(BusError::InvalidHandler {
                handler: letter.handler.clone(),
                reason: reason.to_owned(),
            }
            .into())
        };
        if !letter.requeueable {
            return refuse(
                "the dead letter cannot be requeued: its body could not be encoded, or it is a projection's, which is rebuilt instead",
            );
        }
        let handler = self.app.inner.registry.handler_named(&letter.handler);
        if handler.is_none() && self.app.inner.services.broker.is_none() {
            return refuse("this app has no such handler");
        }
        Ok(handler)
    }
}

/// The message of an entry, and the retries that its sender wanted.
fn decode(letter: &DeadLetter, app: &Orkestra) -> Result<(EventData, Option<u32>), Error> {
    let now = app.inner.plan.clock.now();
    Ok(match wire::decode(&letter.body, now)? {
        wire::Decoded::Event(event) => (*event, None),
        wire::Decoded::Command(envelope) => {
            let data = EventData {
                id: envelope.command.id,
                type_name: envelope.command.type_name,
                version: 1,
                data: envelope.command.params,
                occurred_at: envelope.command.metadata.issued_at,
                metadata: envelope.command.metadata,
            };
            (data, envelope.max_retries)
        }
    })
}

fn encode(
    data: &EventData,
    kind: MessageKind,
    max_retries: Option<u32>,
) -> Result<Bytes, MessageError> {
    if kind == MessageKind::Event {
        return wire::encode_event(data);
    }
    let mut envelope = CommandEnvelope::new(CommandData {
        id: data.id,
        type_name: Arc::clone(&data.type_name),
        params: data.data.clone(),
        metadata: data.metadata.clone(),
    });
    envelope.max_retries = max_retries;
    envelope.dispatch(data.metadata.issued_at);
    wire::encode_command(&envelope)
}
