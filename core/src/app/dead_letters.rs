//! Messages given up on: to be looked at, handed over again, mended or thrown away.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Orkestra, context::Handling, deliver::Parcel, handler::Inbound};
use crate::{
    Error,
    delivery::Delivery,
    message::{CommandEnvelope, Event as EventData, MessageKind, wire},
    ports::{BusError, DeadLetter, DeadLetterFilter, DeadLetterPage},
    registry::HandlerIndex,
};

/// The dead letters of an app's state store. Made by [`Orkestra::dead_letters`].
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

    /// Hands the message to its handler again, with the same id, and waits until it succeeds, is refused or is given up again.
    /// Returns whether the entry is gone.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`](crate::ports::StoreError::NoDeadLetter); [`BusError::InvalidHandler`] if this app has no such handler, or the body cannot be handed over.
    pub async fn requeue(&self, id: Uuid) -> Result<bool, Error> {
        self.requeue_with(id, None).await
    }

    /// As [`DeadLetters::requeue`] with another payload, which must fit the message's type.
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

    async fn requeue_with(&self, id: Uuid, payload: Option<Bytes>) -> Result<bool, Error> {
        self.app.check()?;
        let app = &self.app;
        let store = &app.inner.services.dead_letters;
        let letter = store.get(id).await?;
        let handler = self.handler_of(&letter)?;
        let mut data = decode(&letter, app)?;
        if let Some(payload) = payload {
            app.inner.plan.limits.check(&letter.type_name, &payload)?;
            data.data = payload;
            // Before the entry is touched: a payload that does not fit must not replace the one that is there.
            (app.inner.handlers[&handler].check)(&data)?;
        }
        let body = match letter.kind {
            MessageKind::Event => wire::encode_event(&data)?,
            MessageKind::Command => {
                wire::encode_command(&CommandEnvelope::new(crate::message::Command {
                    id: data.id,
                    type_name: Arc::clone(&data.type_name),
                    params: data.data.clone(),
                    metadata: data.metadata.clone(),
                }))?
            }
        };
        let letter = store.requeue(id, Some(body)).await?;
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
                store.discard(letter.id).await?;
                Ok(true)
            }
            Err((reason, _)) => {
                parcel.give_up(app, reason).await;
                Ok(false)
            }
        }
    }

    fn handler_of(&self, letter: &DeadLetter) -> Result<HandlerIndex, Error> {
        let handlers = self.app.inner.registry.handlers();
        let refuse = |reason: &str| {
            Err(BusError::InvalidHandler {
                handler: letter.handler.clone(),
                reason: reason.to_owned(),
            }
            .into())
        };
        if !letter.requeueable {
            return refuse("the body of the dead letter could not be encoded");
        }
        match handlers.iter().position(|h| h.full_name == letter.handler) {
            Some(index) => Ok(HandlerIndex(index)),
            None => refuse("this app has no such handler"),
        }
    }
}

fn decode(letter: &DeadLetter, app: &Orkestra) -> Result<EventData, Error> {
    let now = app.inner.plan.clock.now();
    Ok(match wire::decode(&letter.body, now)? {
        wire::Decoded::Event(event) => *event,
        wire::Decoded::Command(envelope) => EventData {
            id: envelope.command.id,
            type_name: envelope.command.type_name,
            version: 1,
            data: envelope.command.params,
            occurred_at: envelope.command.metadata.issued_at,
            metadata: envelope.command.metadata,
        },
    })
}
