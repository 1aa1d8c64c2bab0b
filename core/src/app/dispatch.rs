//! Sending a command.

use std::{
    any::Any,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::{
    Command, Envelope, HandlerError, Orkestra,
    context::{Handling, Stamping, inherited, stamping_options},
    deliver::Parcel,
    handler::{Answer, Inbound},
    remote::Remote,
};
use crate::{
    AppError, Error,
    delivery::Delivery,
    message::{
        Command as CommandData, CommandEnvelope, Event as EventData, MessageKind, Metadata, wire,
    },
    ports::BusError,
    telemetry::{Span, names},
};

/// A command about to be dispatched: `await` it for its handler's answer.
#[derive(Debug)]
#[must_use = "nothing is dispatched until this is awaited"]
pub struct Dispatch<C> {
    app: Orkestra,
    command: C,
    stamping: Stamping,
    max_retries: Option<u32>,
    timeout: Option<Duration>,
}

impl<C: Command> Dispatch<C> {
    stamping_options!("The command's id, a UUID. Default: a new one.");

    /// Retries, whatever the handler says.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// The longest to wait for the answer. After it the command is still handled, retries included, and a late answer is dropped. Default: as
    /// long as it takes in process, 60 s over a broker.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<C::Output, Error> {
        let Self {
            app,
            command,
            stamping,
            max_retries,
            timeout,
        } = self;
        app.check()?;
        let now = app.inner.plan.clock.now();
        let (id, metadata) = stamping.stamp(&app, MessageKind::Command, now)?;
        if let Some(broker) = &app.inner.services.broker {
            let sending = Remote::new(&app, broker, &command, id, metadata, max_retries)?;
            return sending.ask::<C>(timeout).await;
        }
        let work = {
            let (app, inbound) = (app.clone(), Inbound::Typed(Arc::new(command)));
            let type_name = C::TYPE_NAME.into();
            async move {
                app.dispatch_inbound(inbound, type_name, id, metadata, max_retries)
                    .await
            }
        };
        let answer = match timeout {
            None => work.await,
            Some(limit) => {
                // A task of its own: when the time is over, the waiting ends and not the handling.
                let (report, answer) = tokio::sync::oneshot::channel();
                app.spawn(inherited(async move {
                    let _ = report.send(work.await);
                }));
                match select(answer, app.inner.plan.clock.sleep(limit)).await {
                    Either::Left((Ok(answer), _)) => answer,
                    Either::Left((Err(_), _)) => {
                        return Err(AppError::Closed {
                            app: app.name().to_owned(),
                        }
                        .into());
                    }
                    Either::Right(((), _)) => {
                        return Err(BusError::DispatchTimeout {
                            topic: app.topic_for::<C>()?,
                            seconds: limit.as_secs_f64(),
                        }
                        .into());
                    }
                }
            }
        }?;
        match answer.downcast::<C::Output>() {
            Ok(output) => Ok(*output),
            Err(_) => Err(BusError::InvalidHandler {
                handler: app.topic_for::<C>()?,
                reason: format!(
                    "its answer is not the command's output, {}",
                    std::any::type_name::<C::Output>()
                ),
            }
            .into()),
        }
    }
}

impl<C: Command> IntoFuture for Dispatch<C> {
    type Output = Result<C::Output, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A command about to be sent: `await` it until it is accepted.
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Sending<C> {
    app: Orkestra,
    command: C,
    stamping: Stamping,
    max_retries: Option<u32>,
}

impl<C: Command> Sending<C> {
    stamping_options!("The command's id, a UUID. Default: a new one.");

    /// Retries, whatever the handler says.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    async fn run(self) -> Result<Sent, Error> {
        let Self {
            app,
            command,
            stamping,
            max_retries,
        } = self;
        app.check()?;
        let now = app.inner.plan.clock.now();
        let (id, metadata) = stamping.stamp(&app, MessageKind::Command, now)?;
        if let Some(broker) = &app.inner.services.broker {
            let sending = Remote::new(&app, broker, &command, id, metadata, max_retries)?;
            sending.send().await?;
            return Ok(Sent { id, answer: None });
        }
        app.inner.registry.command_handler(C::TYPE_NAME)?;
        let (report, answer) = tokio::sync::oneshot::channel();
        let behind = app.clone();
        app.spawn(async move {
            let inbound = Inbound::Typed(Arc::new(command));
            let type_name = C::TYPE_NAME.into();
            let handled = behind.dispatch_inbound(inbound, type_name, id, metadata, max_retries);
            // Nobody has to ask how it ended.
            let _ = report.send(handled.await.map(drop));
        });
        let answer = Some(answer);
        Ok(Sent { id, answer })
    }
}

impl<C: Command> IntoFuture for Sending<C> {
    type Output = Result<Sent, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A command that was accepted and is handled behind.
#[derive(Debug)]
pub struct Sent {
    id: Uuid,
    /// `None` over a broker.
    answer: Option<tokio::sync::oneshot::Receiver<Result<(), Error>>>,
}

impl Sent {
    /// The command's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Waits until the command is handled, refused or given up. Over a broker it returns at once: whoever wants to know how it ended
    /// dispatches.
    ///
    /// # Errors
    /// The handler's error.
    pub async fn settled(self) -> Result<(), Error> {
        let Some(answer) = self.answer else {
            return Ok(());
        };
        answer.await.unwrap_or_else(|_| {
            Err(crate::AppError::Closed {
                app: "the app".into(),
            }
            .into())
        })
    }
}

impl Orkestra {
    /// Sends `command` to its handler and waits for the answer, retries included.
    ///
    /// In process an error is the handler's own; over a broker it is [`BusError::HandlerFailed`], with the handler's error as data. There a
    /// handler that dispatches waits for a worker of the other handler as anybody does: one that dispatches to itself can wait for itself.
    pub fn dispatch<C: Command>(&self, command: C) -> Dispatch<C> {
        Dispatch {
            app: self.clone(),
            command,
            stamping: Stamping::default(),
            max_retries: None,
            timeout: None,
        }
    }

    /// Accepts `command`; it is handled behind. In process accepted means queued: it is lost when the process ends first. Over a broker it
    /// means that the broker has it safely.
    ///
    /// It fails with [`BusError::NoHandler`], and over a broker also with what keeps the broker from taking it.
    pub fn send<C: Command>(&self, command: C) -> Sending<C> {
        Sending {
            app: self.clone(),
            command,
            stamping: Stamping::default(),
            max_retries: None,
        }
    }

    async fn dispatch_inbound(
        &self,
        inbound: Inbound,
        type_name: Arc<str>,
        id: Uuid,
        metadata: Metadata,
        max_retries: Option<u32>,
    ) -> Result<Box<dyn Any + Send>, Error> {
        let mut span = self.dispatch_span(&type_name, id, &metadata);
        let handler = self.inner.registry.command_handler(&type_name)?;
        let options = &self.inner.registry.handler(handler).options;
        let mut parcel = Parcel {
            handler,
            inbound,
            type_name: Arc::clone(&type_name),
            delivery: Delivery::new(&options.policy, MessageKind::Command, max_retries),
            handling: Handling::of(id, MessageKind::Command, metadata.clone()),
        };
        let answer: Answer = if self.inner.around_send.is_empty() {
            self.to_the_end(&mut parcel).await
        } else {
            let envelope = Envelope {
                kind: MessageKind::Command,
                id,
                topic: self.inner.registry.topic_for(&type_name)?,
                type_name,
                metadata,
                handler: None,
                attempt: 0,
            };
            self.sending(&envelope, self.to_the_end(&mut parcel)).await
        };
        answer.map_err(|error| {
            span.fail(&error);
            Error::from(error)
        })
    }

    pub(super) fn dispatch_span(&self, type_name: &str, id: Uuid, metadata: &Metadata) -> Span {
        self.inner.plan.telemetry.span(names::COMMAND_DISPATCH, || {
            vec![
                (names::COMMAND_TYPE, type_name.to_owned()),
                (names::COMMAND_ID, id.to_string()),
                (names::CORRELATION_ID, metadata.correlation_id.to_string()),
            ]
        })
    }

    async fn to_the_end(&self, parcel: &mut Parcel) -> Answer {
        match parcel.run_to_the_end(self).await {
            Ok(answer) => answer,
            Err((reason, error)) => {
                parcel.give_up(self, reason).await;
                Err(error)
            }
        }
    }

    /// The body of a message as on the wire.
    pub(super) fn encode_inbound(
        &self,
        inbound: &Inbound,
        kind: MessageKind,
        type_name: &Arc<str>,
        id: Uuid,
        metadata: &Metadata,
    ) -> Result<Bytes, Error> {
        let data = self.data_of(inbound, type_name, id, metadata)?;
        Ok(match kind {
            MessageKind::Event => wire::encode_event(&data)?,
            MessageKind::Command => wire::encode_command(&CommandEnvelope::new(CommandData {
                id: data.id,
                type_name: Arc::clone(&data.type_name),
                params: data.data.clone(),
                metadata: data.metadata.clone(),
            }))?,
        })
    }

    /// A message as data, encoded if it is not yet.
    pub(super) fn data_of(
        &self,
        inbound: &Inbound,
        type_name: &Arc<str>,
        id: Uuid,
        metadata: &Metadata,
    ) -> Result<Arc<EventData>, Error> {
        match inbound {
            Inbound::Data(data) => Ok(Arc::clone(data)),
            Inbound::Typed(value) => {
                let encoded = self
                    .inner
                    .encoders
                    .get(&**type_name)
                    .and_then(|encode| encode(value.as_ref(), self.inner.plan.limits));
                let (version, data) = encoded.ok_or_else(|| {
                    HandlerError::text(format!("{type_name} is not known to the app"))
                })??;
                Ok(Arc::new(EventData {
                    id,
                    type_name: Arc::clone(type_name),
                    version,
                    data,
                    metadata: metadata.clone(),
                    occurred_at: metadata.issued_at,
                }))
            }
        }
    }
}
