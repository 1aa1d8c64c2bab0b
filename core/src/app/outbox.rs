//! Messages that leave once what they belong to is committed.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Command, Event, Orkestra,
    context::{Stamping, current, stamping_options},
    encode,
};
use crate::{
    Error,
    message::{
        Command as CommandData, CommandEnvelope, Event as EventData, MessageError, MessageKind,
        wire,
    },
    ports::{OutboxBacklog, Outgoing},
};

/// The outbox of an app. Made by [`Orkestra::outbox`].
#[derive(Debug, Clone)]
pub struct Outbox {
    app: Orkestra,
}

/// A message about to be put into the outbox: `await` it until it is there, and then it leaves.
#[derive(Debug)]
#[must_use = "nothing is put into the outbox until this is awaited"]
pub struct Enqueue {
    app: Orkestra,
    payload: Result<Payload, MessageError>,
    stamping: Stamping,
    max_retries: Option<u32>,
}

#[derive(Debug)]
struct Payload {
    kind: MessageKind,
    type_name: &'static str,
    version: u32,
    json: Bytes,
}

impl Orkestra {
    /// Messages that leave once what they belong to is committed.
    pub fn outbox(&self) -> Outbox {
        Outbox { app: self.clone() }
    }
}

impl Outbox {
    /// Puts an event in: it is published to the broker, or handed to its handlers where there is none, at least once, after this.
    pub fn add_event<E: Event>(&self, event: &E) -> Enqueue {
        self.add(MessageKind::Event, E::TYPE_NAME, E::VERSION, event)
    }

    /// Puts a command in: it is sent to its handler, at least once, after this. Nobody waits for its answer.
    pub fn add_command<C: Command>(&self, command: &C) -> Enqueue {
        self.add(MessageKind::Command, C::TYPE_NAME, 1, command)
    }

    fn add<M: super::Message>(
        &self,
        kind: MessageKind,
        type_name: &'static str,
        version: u32,
        message: &M,
    ) -> Enqueue {
        let json = encode(message, self.app.inner.plan.limits);
        Enqueue {
            app: self.app.clone(),
            payload: json.map(|json| Payload {
                kind,
                type_name,
                version,
                json,
            }),
            stamping: Stamping::default(),
            max_retries: None,
        }
    }

    /// How many messages are in it, and since when the oldest.
    ///
    /// # Errors
    /// What the state store says.
    pub async fn pending(&self) -> Result<OutboxBacklog, Error> {
        self.app.check()?;
        Ok(self.app.inner.services.outbox.backlog().await?)
    }
}

impl Enqueue {
    stamping_options!(
        "The message's id, a UUID. Default: a new one; of an event derived from the command being handled. A message whose id is in the outbox already is kept once."
    );

    /// Retries, whatever the handler says; for a command.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    pub(super) fn app(&self) -> &Orkestra {
        &self.app
    }

    /// The message as it is put in, stamped now: for whoever puts it in by other means.
    ///
    /// # Errors
    /// [`MessageError`] for what cannot be a message.
    pub fn message(self) -> Result<Outgoing, Error> {
        let payload = self.payload?;
        let now = self.app.inner.plan.clock.now();
        let (id, metadata) = self.stamping.stamp(&self.app, payload.kind, now)?;
        let topic = self.app.inner.registry.topic_for(payload.type_name)?;
        let correlation_id = metadata.correlation_id.to_string().into();
        let body = match payload.kind {
            MessageKind::Event => wire::encode_event(&EventData {
                id,
                type_name: payload.type_name.into(),
                version: payload.version,
                data: payload.json,
                metadata,
                occurred_at: now,
            })?,
            MessageKind::Command => {
                let mut envelope = CommandEnvelope::new(CommandData {
                    id,
                    type_name: payload.type_name.into(),
                    params: payload.json,
                    metadata,
                });
                envelope.max_retries = self.max_retries;
                envelope.dispatch(now);
                wire::encode_command(&envelope)?
            }
        };
        Ok(Outgoing {
            kind: payload.kind,
            id,
            topic: Arc::from(topic),
            correlation_id,
            body,
            issued_at: now,
            max_retries: self.max_retries,
            trace: current().map_or_else(Default::default, |cause| cause.trace.clone()),
        })
    }

    async fn run(self) -> Result<Uuid, Error> {
        self.app.check()?;
        let store = Arc::clone(&self.app.inner.services.outbox);
        let message = self.message()?;
        let id = message.id;
        store.enqueue(vec![message]).await?;
        Ok(id)
    }
}

impl IntoFuture for Enqueue {
    /// The message's id.
    type Output = Result<Uuid, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
