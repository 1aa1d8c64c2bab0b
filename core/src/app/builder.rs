//! Building an app.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    Aggregate, AggregateAnswer, Command, CommandSet, Context, EventSet, HandlerError, Inner,
    Listener, Middleware, Orkestra, ReadModel, Registered, Settings, consume,
    handler::{BoxFuture, Check, EncodeAnswer, Erased, Inbound, encode_answer, erase_event},
    log::LogReader,
    projections::{self, Kept},
    services::Plan,
    spec_of,
    traced::Traced,
};
use crate::{
    Error,
    clock::{Clock, IdSource},
    message::{Event as EventData, MessageKind, PayloadLimits},
    ports::DeadLetter,
    projection::ProjectionOptions,
    registry::{HandlerIndex, HandlerOptions, HandlerSpec, Registry, TypeSpec},
    retry::RetryPolicy,
    subscription::{Poison, Start},
    telemetry::Telemetry,
    topic::Pattern,
};

type Encode = Arc<
    dyn Fn(
            &(dyn Any + Send + Sync),
            PayloadLimits,
        ) -> Option<Result<(u32, bytes::Bytes), crate::message::MessageError>>
        + Send
        + Sync,
>;

struct Pending {
    kind: MessageKind,
    name: Option<String>,
    types: Vec<TypeSpec>,
    patterns: Vec<String>,
    options: HandlerOptions,
    start: Start,
    poison: Poison,
    call: Erased,
    check: Check,
    encode_answer: EncodeAnswer,
}

/// Collects what an app is made of. Mistakes are reported by [`Builder::start`].
#[must_use = "an app is made by `start`"]
pub struct Builder {
    name: String,
    app_prefix: Option<String>,
    settings: Settings,
    pending: Vec<Pending>,
    types: Vec<TypeSpec>,
    around_send: Vec<Arc<dyn Middleware>>,
    around_handle: Vec<Arc<dyn Middleware>>,
    on_dead_letter: Vec<Listener>,
    aggregates: HashMap<&'static str, Arc<dyn Any + Send + Sync>>,
    projections: Vec<ReadModel>,
    encoders: HashMap<String, Encode>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builder({}, {} handlers)", self.name, self.pending.len())
    }
}

impl Builder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            app_prefix: None,
            settings: Settings::default(),
            pending: Vec::new(),
            types: Vec::new(),
            around_send: Vec::new(),
            around_handle: Vec::new(),
            on_dead_letter: Vec::new(),
            aggregates: HashMap::new(),
            projections: Vec::new(),
            encoders: HashMap::new(),
        }
    }

    /// The bus: `memory:`, which is the default, or `amqp[s]://user:password@host:port/vhost?…` for RabbitMQ.
    pub fn bus(mut self, url: impl Into<String>) -> Self {
        self.settings.bus = Some(url.into());
        self
    }

    /// The store: `sqlite:<path>` or `memory:`. Default `sqlite:orkestra.db`.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.settings.store = Some(url.into());
        self
    }

    /// Where checkpoints, leases and dead letters are kept. Default: in the store.
    pub fn state(mut self, url: impl Into<String>) -> Self {
        self.settings.state = Some(url.into());
        self
    }

    /// The leading segments of type names that topics leave out. Default: the camelised name; empty for none.
    pub fn app_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.app_prefix = Some(prefix.into());
        self
    }

    /// The longest payload in bytes. Default 1 MiB.
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_payload_bytes = Some(bytes);
        self
    }

    /// Another clock: for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = Some(clock);
        self
    }

    /// Another source of ids: for tests.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.settings.ids = Some(ids);
        self
    }

    /// Where spans go. Default: nowhere.
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.settings.telemetry = telemetry;
        self
    }

    /// The handler of `C`; named after its topic.
    pub fn command_handler<C, F, Fut>(mut self, handler: F) -> Self
    where
        C: Command,
        F: Fn(C, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Output, HandlerError>> + Send + 'static,
    {
        self.learn_commands::<C>();
        let handler = Arc::new(handler);
        let call: Erased = Arc::new(move |inbound, context| {
            let command = match &inbound {
                Inbound::Typed(value) => value.downcast_ref::<C>().cloned(),
                Inbound::Data(data) => <C as CommandSet>::from_json(&data.type_name, &data.data)?,
            };
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move {
                let command = command.ok_or_else(another_type)?;
                let output = handler(command, context).await?;
                Ok(Box::new(output) as Box<dyn Any + Send>)
            }))
        });
        self.pending.push(Pending {
            kind: MessageKind::Command,
            name: None,
            types: vec![spec_of::<C>(MessageKind::Command, 1)],
            patterns: Vec::new(),
            options: HandlerOptions::default(),
            start: Start::Now,
            poison: Poison::Park,
            call,
            check: Arc::new(|data| {
                <C as CommandSet>::from_json(&data.type_name, &data.data).map(drop)
            }),
            encode_answer: encode_answer::<C::Output>(),
        });
        self
    }

    /// A handler of the event type `S`, or of an [`event_set!`](crate::event_set) of them. Of the log it first gets what is appended after
    /// its first start.
    pub fn event_handler<S, F, Fut>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        S: EventSet,
        F: Fn(S, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.learn_events::<S>();
        self.pending.push(Pending {
            kind: MessageKind::Event,
            name: Some(name.into()),
            types: S::types(),
            patterns: Vec::new(),
            options: HandlerOptions::default(),
            start: Start::Now,
            poison: Poison::Park,
            call: erase_event(handler),
            check: Arc::new(|data| {
                S::from_json(&data.type_name, data.version, &data.data).map(drop)
            }),
            encode_answer: encode_answer::<()>(),
        });
        self
    }

    /// A handler of every event whose topic matches `pattern`; it gets the event as data.
    pub fn topic_handler<F, Fut>(
        mut self,
        name: impl Into<String>,
        pattern: impl Into<String>,
        handler: F,
    ) -> Self
    where
        F: Fn(Arc<EventData>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let call: Erased = Arc::new(move |inbound, context| {
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move {
                let Inbound::Data(data) = inbound else {
                    return Err(HandlerError::text("expected the event as data"));
                };
                handler(data, context).await?;
                Ok(Box::new(()) as Box<dyn Any + Send>)
            }))
        });
        self.pending.push(Pending {
            kind: MessageKind::Event,
            name: Some(name.into()),
            types: Vec::new(),
            patterns: vec![pattern.into()],
            options: HandlerOptions::default(),
            start: Start::Now,
            poison: Poison::Park,
            call,
            check: Arc::new(|_| Ok(())),
            encode_answer: encode_answer::<()>(),
        });
        self
    }

    /// An aggregate: its commands can be dispatched and executed, its events are known.
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        for spec in A::Event::types() {
            self.types.push(spec);
        }
        self.learn_events::<A::Event>();
        self.learn_commands::<A::Command>();
        for spec in A::Command::types() {
            let call: Erased = Arc::new(move |inbound, context: Context| {
                let command = match &inbound {
                    Inbound::Typed(value) => A::Command::from_typed(value.as_ref()),
                    Inbound::Data(data) => A::Command::from_json(&data.type_name, &data.data)?,
                };
                Ok(Box::pin(async move {
                    let command = command.ok_or_else(another_type)?;
                    let app = context.app().clone();
                    let outcome =
                        super::aggregates::run::<A>(&app, &command, &context.handling).await?;
                    Ok(Box::new(AggregateAnswer {
                        stream: outcome.stream,
                        revision: outcome.revision,
                    }) as Box<dyn Any + Send>)
                }) as BoxFuture<_>)
            });
            self.pending.push(Pending {
                kind: MessageKind::Command,
                name: None,
                types: vec![spec],
                patterns: Vec::new(),
                options: HandlerOptions::default(),
                start: Start::Now,
                poison: Poison::Park,
                call,
                check: Arc::new(|data| {
                    A::Command::from_json(&data.type_name, &data.data).map(drop)
                }),
                encode_answer: encode_answer::<AggregateAnswer>(),
            });
        }
        self.aggregates.insert(
            A::NAME,
            Arc::new(super::aggregates::Cache::<A>::new(A::CACHE)),
        );
        self
    }

    /// A projection: its live view is kept from the start on, by one of the processes that have it.
    pub fn projection(mut self, model: ReadModel) -> Self {
        self.projections.push(model);
        self
    }

    /// The retry policy of the handler registered last.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.policy = policy;
        }
        self
    }

    /// The retries of the handler registered last.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.policy.max_retries = Some(max_retries);
        }
        self
    }

    /// The longest that an attempt of the handler registered last may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.timeout = Some(timeout);
        }
        self
    }

    /// Calls at the same time of the handler registered last. Default 16 for commands, 1 for events.
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.concurrency = Some(concurrency);
        }
        self
    }

    /// Messages of a broker that the handler registered last has in hand at most: more than the concurrency keeps them at hand. Default: the
    /// `prefetch` of the bus's URL. Without a broker it has no meaning.
    pub fn prefetch(mut self, prefetch: u32) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.prefetch = Some(prefetch);
        }
        self
    }

    /// The handler registered last handles no message twice that came over the broker or from the log or the outbox: what it has handled is
    /// recorded in the state store. See [`HandlerOptions::inbox`].
    pub fn inbox(mut self) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.options.inbox = true;
        }
        self
    }

    /// The name of the handler registered last.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.name = Some(name.into());
        }
        self
    }

    /// Where in the log the event handler registered last begins at its first start. Default [`Start::Now`]. Over a broker it has no meaning:
    /// there the relay publishes the log, and the handler's queue gets what is published from the time that it exists.
    pub fn from(mut self, start: Start) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.start = start;
        }
        self
    }

    /// What becomes of an event of the log that the event handler registered last cannot handle. Default [`Poison::Park`]. Over a broker it
    /// has no meaning: there every message that is given up is parked.
    pub fn poison(mut self, poison: Poison) -> Self {
        if let Some(last) = self.pending.last_mut() {
            last.poison = poison;
        }
        self
    }

    /// Code around each sending, in order of registration.
    pub fn around_send(mut self, middleware: impl Middleware + 'static) -> Self {
        self.around_send.push(Arc::new(middleware));
        self
    }

    /// Code around each attempt to handle, in order of registration.
    pub fn around_handle(mut self, middleware: impl Middleware + 'static) -> Self {
        self.around_handle.push(Arc::new(middleware));
        self
    }

    /// Called with every dead letter, after it is recorded.
    pub fn on_dead_letter(mut self, f: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        self.on_dead_letter.push(Arc::new(f));
        self
    }

    fn learn_commands<S: CommandSet>(&mut self) {
        for spec in S::types() {
            let encoder: Encode = Arc::new(|value, limits| {
                let command = S::from_typed(value)?;
                Some(command.to_json(limits).map(|(_, bytes)| (1, bytes)))
            });
            self.encoders.insert(spec.type_name, encoder);
        }
    }

    fn learn_events<S: EventSet>(&mut self) {
        for spec in S::types() {
            let encoder: Encode = Arc::new(|value, limits| {
                let event = S::from_typed(value)?;
                Some(
                    event
                        .to_json(limits)
                        .map(|(_, version, bytes)| (version, bytes)),
                )
            });
            self.encoders.insert(spec.type_name, encoder);
        }
    }

    /// Checks everything, opens the stores and starts reading the log; with a broker, starts consuming the handlers' queues and publishing
    /// the log.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with a name, a handler, a setting or a store; what the broker says, if there are handlers to consume for.
    pub async fn start(self) -> Result<Orkestra, Error> {
        let mut registry = Registry::new(&self.name, self.app_prefix.as_deref())?;
        for spec in self.types {
            registry.add_type(spec)?;
        }
        let mut handlers = HashMap::new();
        let mut data_handlers = HashSet::new();
        let mut readers: Vec<(HandlerIndex, Start, Poison)> = Vec::new();
        for pending in self.pending {
            let mut types = Vec::new();
            for spec in pending.types {
                types.push(registry.add_type(spec)?);
            }
            let patterns = pending
                .patterns
                .iter()
                .map(|p| Pattern::new(p))
                .collect::<Result<Vec<_>, _>>()?;
            let takes_data = !patterns.is_empty();
            let spec = HandlerSpec {
                name: pending.name,
                types,
                patterns,
                options: pending.options,
            };
            let index = match pending.kind {
                MessageKind::Command => registry.add_command_handler(spec)?,
                MessageKind::Event => registry.add_event_handler(spec)?,
            };
            if pending.kind == MessageKind::Event {
                readers.push((index, pending.start, pending.poison));
                if takes_data {
                    data_handlers.insert(index);
                }
            }
            let slots = registry.handler(index).concurrency as usize;
            handlers.insert(
                index,
                Registered {
                    call: pending.call,
                    check: pending.check,
                    encode_answer: pending.encode_answer,
                    slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
                },
            );
        }
        let mut projections = Vec::new();
        for mut model in self.projections {
            let mut types = Vec::new();
            for spec in std::mem::take(&mut model.types) {
                types.push(registry.add_type(spec)?);
            }
            let patterns = model
                .patterns
                .iter()
                .map(|p| Pattern::new(p))
                .collect::<Result<Vec<_>, _>>()?;
            model.policy.check()?;
            let (full_name, patterns) = registry.add_projection(&model.name, &types, patterns)?;
            projections.push((full_name, patterns, model));
        }
        let projections = projections
            .into_iter()
            .map(|(full_name, patterns, model)| {
                let mut options = ProjectionOptions::new(registry.filter(&patterns));
                options.stream_prefix.clone_from(&model.stream_prefix);
                options.start = model.start;
                options.batch_size = model.batch_size;
                options.poison = model.poison;
                options.retry = model.policy.clone();
                Arc::new(Kept::new(full_name, model, options))
            })
            .collect();
        let plan = Plan::new(self.settings)?;
        let services = plan.open(registry.app())?;
        let app = Orkestra {
            inner: Arc::new(Inner {
                name: self.name,
                registry: Arc::new(registry),
                handlers,
                encoders: self.encoders,
                aggregates: self.aggregates,
                projections,
                data_handlers,
                plan,
                store: Arc::new(Traced(Arc::clone(&services.events))),
                services,
                around_send: self.around_send,
                around_handle: self.around_handle,
                on_dead_letter: self.on_dead_letter,
                closed: false.into(),
                sealed: false.into(),
                closing: Arc::default(),
                readers: parking_lot::Mutex::default(),
                stopped: parking_lot::Mutex::default(),
                tasks: parking_lot::Mutex::default(),
            }),
        };
        let started = if app.inner.services.broker.is_some() {
            consume::start(&app).await
        } else {
            consume::start_local(&app);
            read_log(&app, readers).await
        };
        let started = match started {
            Ok(()) => projections::start(&app).await,
            failed => failed,
        };
        if let Err(error) = started {
            // Some are at work already.
            let _ = app.close().await;
            return Err(error);
        }
        Ok(app)
    }
}

async fn read_log(
    app: &Orkestra,
    readers: Vec<(HandlerIndex, Start, Poison)>,
) -> Result<(), Error> {
    for (handler, start, poison) in readers {
        LogReader::start(app, handler, start, poison).await?;
    }
    Ok(())
}

pub(super) type Encoders = HashMap<String, Encode>;

fn another_type() -> HandlerError {
    HandlerError::text("the command is of another type")
}
