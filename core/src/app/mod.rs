//! The app: adapters picked by URL and wired together, handlers called, retries made, the log read.

mod aggregates;
mod builder;
mod checkpoint;
mod claim;
mod consume;
mod context;
mod dead_letters;
mod deliver;
mod dispatch;
mod handler;
mod health;
mod log;
mod middleware;
mod outbox;
mod projections;
mod publish;
mod read_model;
mod redact;
mod remote;
mod services;
mod traced;
mod typed;

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle};

pub use aggregates::{Aggregate, AggregateAnswer, Execute, Outcome};
pub use builder::Builder;
pub use checkpoint::Checkpoint;
pub use claim::{ClaimSql, claim_sql};
pub use context::Context;
pub use dead_letters::DeadLetters;
pub use dispatch::{Dispatch, Sending, Sent};
pub use handler::{Answer, HandlerError, Reject, RetryAfter};
pub use health::Health;
pub use middleware::{Envelope, Middleware, MiddlewareFuture, Next};
pub use outbox::{Enqueue, Outbox};
pub use projections::Rebuild;
pub use publish::{Publish, Published};
pub use read_model::{ReadModel, Recorded};
pub use services::{Backend, BusBackend, DEFAULT_STORE, Plan, Services, Settings};
pub use typed::{
    Command, CommandSet, Event, EventSet, Message, decode, decode_event, encode, spec_of,
};

use crate::{
    AppError, Error,
    outbox::RELAY,
    ports::{DeadLetter, EventStore, Position},
    registry::{HandlerIndex, Registry},
    retention::Retention,
    subscription::{Subscription, SubscriptionError, SubscriptionOptions},
};

/// An app: commands, events, handlers and stores under one name. Cheap to clone; made by [`Orkestra::builder`].
///
/// ```
/// use orkestra::{Command, Context, Message, Orkestra};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct PlaceOrder { product_id: String, quantity: u32 }
/// impl Message for PlaceOrder {
///     const TYPE_NAME: &'static str = "Shop.Orders.Commands.PlaceOrder";
/// }
/// impl Command for PlaceOrder { type Output = String; }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let app = Orkestra::builder("shop")
///     .store("memory:")
///     .command_handler(|command: PlaceOrder, _: Context| async move {
///         Ok(format!("{} x {}", command.quantity, command.product_id))
///     })
///     .start()
///     .await?;
/// let answer = app
///     .dispatch(PlaceOrder { product_id: "sku_42".into(), quantity: 3 })
///     .actor_id("user_123")
///     .await?;
/// assert_eq!(answer, "3 x sku_42");
/// app.close().await?;
/// # Ok::<(), orkestra::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Orkestra {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    registry: Arc<Registry>,
    handlers: HashMap<HandlerIndex, Registered>,
    encoders: builder::Encoders,
    aggregates: HashMap<&'static str, Arc<dyn Any + Send + Sync>>,
    projections: Vec<Arc<projections::Kept>>,
    /// Handlers that take events as data.
    data_handlers: HashSet<HandlerIndex>,
    plan: Plan,
    services: Services,
    /// The services' events as programs use them.
    store: Arc<dyn EventStore>,
    around_send: Vec<Arc<dyn Middleware>>,
    around_handle: Vec<Arc<dyn Middleware>>,
    on_dead_letter: Vec<Listener>,
    closed: AtomicBool,
    /// What is in hand is finished: nothing more can be sent, from inside a handler neither.
    sealed: AtomicBool,
    /// Tells the readers of the log and of queues to stop after what is in hand.
    closing: Arc<tokio::sync::Notify>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    stopped: Mutex<HashMap<String, SubscriptionError>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// How long closing waits for each handler at work.
const DRAIN: Duration = Duration::from_secs(10);

type Listener = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

struct Registered {
    call: handler::Erased,
    check: handler::Check,
    encode_answer: handler::EncodeAnswer,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Orkestra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Orkestra({})", self.inner.name)
    }
}

impl Orkestra {
    /// Begins an app of that name: a letter, then letters, digits, `_`, `-` and `.`.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The event store. What is appended inside a handler belongs to the handler's trace.
    ///
    /// # Errors
    /// [`AppError::Closed`].
    pub fn store(&self) -> Result<&Arc<dyn EventStore>, Error> {
        self.check()?;
        Ok(&self.inner.store)
    }

    /// All the adapters of the app.
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Lets go of what is old, while the system runs: streams, dead letters, outbox, inbox.
    pub fn retention(&self) -> Retention {
        self.inner.services.retention()
    }

    /// Messages given up on: list, show, requeue, edit, discard.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.clone())
    }

    /// The topic of `M` in this app.
    ///
    /// # Errors
    /// [`MessageError`](crate::message::MessageError) if its type name has none.
    pub fn topic_for<M: Message>(&self) -> Result<String, Error> {
        Ok(self.inner.registry.topic_for(M::TYPE_NAME)?)
    }

    /// Whether the handler or subscription `name` has handled the log up to `position`; waits for it, `timeout` at most.
    ///
    /// Over a broker no handler reads the log; [`RELAY`] says how far the log is published.
    ///
    /// # Errors
    /// [`SubscriptionError::NotCaughtUp`] when the time is over; [`SubscriptionError::Stopped`] if it has stopped.
    pub async fn caught_up(
        &self,
        name: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<(), Error> {
        self.check()?;
        let full_name = match name {
            RELAY => RELAY.to_owned(),
            name => format!("{}.{name}", self.inner.registry.app()),
        };
        if let Some(stopped) = self.inner.stopped.lock().get(&full_name) {
            return Err(stopped.clone().into());
        }
        let checkpoints = &self.inner.services.checkpoints;
        let reached = checkpoints.wait_until(full_name.clone(), position);
        match select(reached, self.inner.plan.clock.sleep(timeout)).await {
            Either::Left((reached, _)) => Ok(reached?),
            Either::Right(((), _)) => Err(SubscriptionError::NotCaughtUp {
                name: full_name,
                position: position.0,
                seconds: timeout.as_secs_f64(),
            }
            .into()),
        }
    }

    /// A reader of the log with a place of its own: `name`d and kept in the state store, or transient without a name.
    ///
    /// # Errors
    /// [`AppError::Closed`].
    pub fn subscribe(
        &self,
        name: Option<&str>,
        options: SubscriptionOptions,
    ) -> Result<Subscription, Error> {
        self.check()?;
        let name = name.map(|name| format!("{}.{name}", self.inner.registry.app()));
        Ok(self.inner.services.subscribe(name, options))
    }

    /// Subscriptions of event handlers that have stopped, and why.
    pub fn stopped_subscriptions(&self) -> Vec<(String, SubscriptionError)> {
        let stopped = self.inner.stopped.lock();
        stopped
            .iter()
            .map(|(n, e)| (n.clone(), e.clone()))
            .collect()
    }

    /// Whether the app takes calls.
    pub fn is_open(&self) -> bool {
        !self.inner.closed.load(Ordering::Acquire)
    }

    /// Stops the log subscriptions and the consumers, finishes what was accepted, and closes the stores and the bus. Safe to call again.
    ///
    /// Handlers at work are waited for, 10 s at most; over a broker they may go on sending meanwhile, and what has not begun goes back to
    /// its queue. What waits for a retry in process becomes a dead letter; an event of the log that does is read again at the next start
    /// instead, and what waits in the broker waits on.
    ///
    /// # Errors
    /// What a store says on closing.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.closing.notify_waiters();
        if let Some(broker) = &self.inner.services.broker {
            let late = self.inner.plan.clock.sleep(DRAIN);
            select(pin!(broker.pause()), late).await;
        }
        // A reader ends after the message in hand and gives its lease back; a task goes on behind a call that has returned.
        let mut tasks = std::mem::take(&mut *self.inner.readers.lock());
        tasks.append(&mut self.inner.tasks.lock());
        let late = self.inner.plan.clock.sleep(DRAIN);
        let in_time = matches!(select(join_all(&mut tasks), late).await, Either::Left(_));
        if !in_time {
            tracing::warn!(
                app = self.inner.name,
                "a handler did not end in time and is left"
            );
            for task in &tasks {
                task.abort();
            }
        }
        self.inner.sealed.store(true, Ordering::Release);
        self.inner.services.close().await
    }

    /// What `work` gives, `None` if the app is closed before that.
    async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let closing = pin!(self.inner.closing.notified());
        if !self.is_open() {
            return None;
        }
        match select(pin!(work), closing).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    fn check(&self) -> Result<(), Error> {
        // A handler that is finished while the app closes may still send, where that takes nothing of the app's own.
        let finishing = || {
            self.inner.services.broker.is_some()
                && context::current().is_some()
                && !self.inner.sealed.load(Ordering::Acquire)
        };
        if self.is_open() || finishing() {
            Ok(())
        } else {
            Err(AppError::Closed {
                app: self.inner.name.clone(),
            }
            .into())
        }
    }

    /// Runs `task` until it ends or the app is closed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.inner.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }
}
