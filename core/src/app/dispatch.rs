//! Sending a command.

use std::{
    any::Any,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::{
    Command, Envelope, HandlerError, Next, Orkestra,
    context::{Handling, Stamping, inherited, stamping_options},
    deliver::Parcel,
    handler::{Answer, Inbound},
};
use crate::{
    AppError, Error,
    delivery::Delivery,
    message::{
        Command as CommandData, CommandEnvelope, Event as EventData, MessageKind, Metadata, wire,
    },
    ports::BusError,
    telemetry::names,
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

    /// The longest to wait for the answer. After it the command is still handled, retries included, and a late answer is dropped.
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

/// A command that was accepted and is handled behind.
#[derive(Debug)]
pub struct Sent {
    id: Uuid,
    answer: tokio::sync::oneshot::Receiver<Result<(), Error>>,
}

impl Sent {
    /// The command's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Waits until the command is handled, refused or given up.
    ///
    /// # Errors
    /// The handler's error.
    pub async fn settled(self) -> Result<(), Error> {
        self.answer.await.unwrap_or_else(|_| {
            Err(crate::AppError::Closed {
                app: "the app".into(),
            }
            .into())
        })
    }
}

impl Orkestra {
    /// Sends `command` to its handler and waits for the answer, retries included.
    pub fn dispatch<C: Command>(&self, command: C) -> Dispatch<C> {
        Dispatch {
            app: self.clone(),
            command,
            stamping: Stamping::default(),
            max_retries: None,
            timeout: None,
        }
    }

    /// Accepts `command` and returns; it is handled behind. In process that means: it is lost when the process ends first.
    ///
    /// # Errors
    /// [`BusError::NoHandler`], [`AppError::Closed`](crate::AppError::Closed).
    pub fn send<C: Command>(&self, command: C) -> Result<Sent, Error> {
        self.check()?;
        self.inner.registry.command_handler(C::TYPE_NAME)?;
        let now = self.inner.plan.clock.now();
        let (id, metadata) = Stamping::default().stamp(self, MessageKind::Command, now)?;
        let (report, answer) = tokio::sync::oneshot::channel();
        let app = self.clone();
        self.spawn(async move {
            let result = app
                .dispatch_inbound(
                    Inbound::Typed(Arc::new(command)),
                    C::TYPE_NAME.into(),
                    id,
                    metadata,
                    None,
                )
                .await;
            // Nobody has to ask how it ended.
            let _ = report.send(result.map(drop));
        });
        Ok(Sent { id, answer })
    }

    async fn dispatch_inbound(
        &self,
        inbound: Inbound,
        type_name: Arc<str>,
        id: Uuid,
        metadata: Metadata,
        max_retries: Option<u32>,
    ) -> Result<Box<dyn Any + Send>, Error> {
        let mut span = self.inner.plan.telemetry.span(names::COMMAND_DISPATCH, || {
            vec![
                (names::COMMAND_TYPE, type_name.to_string()),
                (names::COMMAND_ID, id.to_string()),
                (names::CORRELATION_ID, metadata.correlation_id.to_string()),
            ]
        });
        let handler = self.inner.registry.command_handler(&type_name)?;
        let options = &self.inner.registry.handler(handler).options;
        let mut parcel = Parcel {
            handler,
            inbound,
            type_name: Arc::clone(&type_name),
            delivery: Delivery::new(&options.policy, MessageKind::Command, max_retries),
            handling: Arc::new(Handling {
                id,
                kind: MessageKind::Command,
                metadata: metadata.clone(),
                events: AtomicU32::new(0),
            }),
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
            Next::new(&self.inner.around_send, &envelope, || {
                Box::pin(self.to_the_end(&mut parcel))
            })
            .run()
            .await
        };
        answer.map_err(|error| {
            span.fail(&error);
            Error::from(error)
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
