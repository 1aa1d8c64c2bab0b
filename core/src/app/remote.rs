//! Sending over a broker: the message as JSON, its answer from JSON.

use std::{any::Any, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Answer, Command, Envelope, HandlerError, Next, Orkestra, Reject, context::current, encode,
};
use crate::{
    Error,
    broker::{Broker, DEFAULT_ASK_TIMEOUT},
    message::{
        Command as CommandData, CommandEnvelope, Event as EventData, MessageKind, Metadata, wire,
    },
    ports::{BusError, Outgoing},
};

/// A command on its way to the broker.
pub(super) struct Remote<'a> {
    app: &'a Orkestra,
    broker: &'a Broker,
    envelope: Envelope,
    message: Outgoing,
}

impl<'a> Remote<'a> {
    pub(super) fn new<C: Command>(
        app: &'a Orkestra,
        broker: &'a Broker,
        command: &C,
        id: Uuid,
        metadata: Metadata,
        max_retries: Option<u32>,
    ) -> Result<Self, Error> {
        let type_name: Arc<str> = C::TYPE_NAME.into();
        let topic = app.inner.registry.topic_for(&type_name)?;
        let mut envelope = CommandEnvelope::new(CommandData {
            id,
            type_name: Arc::clone(&type_name),
            params: encode(command, app.inner.plan.limits)?,
            metadata: metadata.clone(),
        });
        envelope.max_retries = max_retries;
        envelope.dispatch(metadata.issued_at);
        let message = Outgoing {
            kind: MessageKind::Command,
            id,
            topic: topic.as_str().into(),
            correlation_id: metadata.correlation_id.to_string().into(),
            body: wire::encode_command(&envelope)?,
            issued_at: metadata.issued_at,
            max_retries,
            trace: current().map_or_else(Default::default, |cause| cause.trace.clone()),
        };
        let envelope = Envelope {
            kind: MessageKind::Command,
            id,
            type_name,
            topic,
            metadata,
            handler: None,
            attempt: 0,
        };
        Ok(Self {
            app,
            broker,
            envelope,
            message,
        })
    }

    /// Waits for the answer.
    pub(super) async fn ask<C: Command>(
        self,
        timeout: Option<Duration>,
    ) -> Result<C::Output, Error> {
        let limit = timeout.unwrap_or(DEFAULT_ASK_TIMEOUT);
        let (broker, topic) = (self.broker, self.envelope.topic.clone());
        let answer = self
            .sent(|message| async move {
                let result = broker.ask(message, limit).await.map_err(refusal)?;
                let output: C::Output = serde_json::from_slice(&result)
                    .map_err(|error| not_the_output::<C>(topic, &error.to_string()))?;
                Ok(Box::new(output) as Box<dyn Any + Send>)
            })
            .await?;
        match answer.downcast::<C::Output>() {
            Ok(output) => Ok(*output),
            Err(_) => Err(not_the_output::<C>(
                self.envelope.topic,
                "a middleware gave something else",
            )
            .into()),
        }
    }

    /// Waits until the broker has it.
    pub(super) async fn send(&self) -> Result<(), Error> {
        let broker = self.broker;
        self.sent(|message| async move {
            broker.send(message).await?;
            Ok(Box::new(()) as Box<dyn Any + Send>)
        })
        .await
        .map(drop)
    }

    async fn sent<F: Future<Output = Answer> + Send>(
        &self,
        send: impl FnOnce(Outgoing) -> F + Send,
    ) -> Result<Box<dyn Any + Send>, Error> {
        let Envelope {
            type_name,
            id,
            metadata,
            ..
        } = &self.envelope;
        let mut span = self.app.dispatch_span(type_name, *id, metadata);
        let sent = send(self.message.clone());
        let answer = self.app.sending(&self.envelope, sent).await;
        answer.map_err(|error| {
            span.fail(&error);
            error.into()
        })
    }
}

/// The error of a dispatch as a middleware knows it from a handler.
fn refusal(error: BusError) -> HandlerError {
    match error {
        BusError::Rejected { reason, data } => Reject { reason, data }.into(),
        error => error.into(),
    }
}

fn not_the_output<C: Command>(topic: String, why: &str) -> BusError {
    BusError::InvalidHandler {
        handler: topic,
        reason: format!(
            "its answer is not the command's output, {}: {why}",
            std::any::type_name::<C::Output>()
        ),
    }
}

impl Orkestra {
    /// Publishes `event` under `topic`; returns once the broker has it.
    pub(super) async fn publish_over(
        &self,
        broker: &Broker,
        topic: String,
        event: &EventData,
    ) -> Result<(), Error> {
        let message = Outgoing {
            kind: MessageKind::Event,
            id: event.id,
            topic: topic.as_str().into(),
            correlation_id: event.metadata.correlation_id.to_string().into(),
            body: wire::encode_event(event)?,
            issued_at: event.metadata.issued_at,
            max_retries: None,
            trace: current().map_or_else(Default::default, |cause| cause.trace.clone()),
        };
        let envelope = Envelope {
            kind: MessageKind::Event,
            id: event.id,
            type_name: Arc::clone(&event.type_name),
            topic,
            metadata: event.metadata.clone(),
            handler: None,
            attempt: 0,
        };
        self.sending(&envelope, async move {
            broker.send(message).await?;
            Ok(Box::new(()) as Box<dyn Any + Send>)
        })
        .await?;
        Ok(())
    }

    /// Runs `inner` within the middleware around sending.
    pub(super) async fn sending(
        &self,
        envelope: &Envelope,
        inner: impl Future<Output = Answer> + Send,
    ) -> Answer {
        if self.inner.around_send.is_empty() {
            return inner.await;
        }
        Next::new(&self.inner.around_send, envelope, || Box::pin(inner))
            .run()
            .await
    }
}
