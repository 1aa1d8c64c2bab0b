//! What a projection is made of: its events, its handler, and what keeps its tables.

use std::{fmt, future::Future, sync::Arc};

use super::{Checkpoint, EventSet, HandlerError, handler::BoxFuture};
use crate::{
    message::MessageError,
    ports::RecordedEvent,
    registry::TypeSpec,
    retry::RetryPolicy,
    subscription::{Poison, Start},
};

/// An event of the log with its place in it.
#[derive(Debug, Clone)]
pub struct Recorded<E> {
    /// The event.
    pub event: E,
    /// Id, stream, revision, position, metadata, time.
    pub recorded: RecordedEvent,
}

type Outcome = Result<(), HandlerError>;

pub(super) type Handle = Arc<
    dyn Fn(&[RecordedEvent], Checkpoint) -> Result<BoxFuture<Outcome>, MessageError> + Send + Sync,
>;
pub(super) type Tend = Arc<dyn Fn(Checkpoint) -> BoxFuture<Outcome> + Send + Sync>;

/// A projection: a handler that builds a read model from the log, batch by batch. Given to [`Builder::projection`](super::Builder::projection).
///
/// ```
/// use orkestra::{Checkpoint, Event, Message, ReadModel, Recorded};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Serialize, Deserialize)] struct OrderPlaced { order_id: String }
/// # impl Message for OrderPlaced { const TYPE_NAME: &'static str = "Shop.Orders.Events.OrderPlaced"; }
/// # impl Event for OrderPlaced {}
///
/// let board = ReadModel::new("board", |events: Vec<Recorded<OrderPlaced>>, checkpoint: Checkpoint| async move {
///     let mut view = rusqlite::Connection::open("board.db")?;
///     let tx = view.transaction()?;
///     for Recorded { event, .. } in events {
///         tx.execute("INSERT INTO board VALUES (?1)", [event.order_id])?;
///     }
///     checkpoint.save_sqlite(&tx)?;
///     Ok(tx.commit()?)
/// })
/// .batch_size(100);
/// ```
#[derive(Clone)]
#[must_use = "a read model is kept by an app"]
pub struct ReadModel {
    pub(super) name: String,
    pub(super) types: Vec<TypeSpec>,
    pub(super) patterns: Vec<String>,
    pub(super) stream_prefix: Option<String>,
    pub(super) start: Start,
    pub(super) batch_size: usize,
    pub(super) poison: Poison,
    pub(super) policy: RetryPolicy,
    pub(super) handle: Handle,
    pub(super) prepare: Option<Tend>,
    pub(super) switch: Option<Tend>,
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadModel({})", self.name)
    }
}

impl ReadModel {
    /// A read model of the event type `S`, or of an [`event_set!`](crate::event_set) of them. Its handler gets at least one event, in the log's order.
    pub fn new<S, F, Fut>(name: impl Into<String>, handler: F) -> Self
    where
        S: EventSet,
        F: Fn(Vec<Recorded<S>>, Checkpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let handle: Handle = Arc::new(move |events, checkpoint| {
            let mut typed = Vec::with_capacity(events.len());
            for recorded in events {
                let read = S::from_json(&recorded.type_name, recorded.version, &recorded.data)?;
                typed.extend(read.map(|event| Recorded {
                    event,
                    recorded: recorded.clone(),
                }));
            }
            Ok(Box::pin(handler(typed, checkpoint)))
        });
        Self::of(name.into(), S::types(), Vec::new(), handle)
    }

    /// A read model of every event whose topic matches one of `patterns`, as data.
    pub fn of_topics<F, Fut>(
        name: impl Into<String>,
        patterns: impl IntoIterator<Item = impl Into<String>>,
        handler: F,
    ) -> Self
    where
        F: Fn(Vec<RecordedEvent>, Checkpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let handle: Handle =
            Arc::new(move |events, checkpoint| Ok(Box::pin(handler(events.to_vec(), checkpoint))));
        let patterns = patterns.into_iter().map(Into::into).collect();
        Self::of(name.into(), Vec::new(), patterns, handle)
    }

    fn of(name: String, types: Vec<TypeSpec>, patterns: Vec<String>, handle: Handle) -> Self {
        Self {
            name,
            types,
            patterns,
            stream_prefix: None,
            start: Start::Origin,
            batch_size: 0,
            poison: Poison::Park,
            policy: RetryPolicy::default(),
            handle,
            prepare: None,
            switch: None,
        }
    }

    /// Makes the tables `…` + [`Checkpoint::suffix`] if they are missing; those of a rebuild are empty afterwards. Called before the first batch of each
    /// term of the live view, and when a rebuild begins.
    pub fn prepare<F, Fut>(mut self, prepare: F) -> Self
    where
        F: Fn(Checkpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.prepare = Some(Arc::new(move |checkpoint| Box::pin(prepare(checkpoint))));
        self
    }

    /// Puts a rebuilt view in the place of the live one: renames the tables and says [`Checkpoint::switch_sqlite`] or its like in the same transaction.
    /// Without it the projection cannot be rebuilt beside the live view.
    pub fn switch<F, Fut>(mut self, switch: F) -> Self
    where
        F: Fn(Checkpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.switch = Some(Arc::new(move |checkpoint| Box::pin(switch(checkpoint))));
        self
    }

    /// Only streams whose names begin so.
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.stream_prefix = Some(prefix.into());
        self
    }

    /// Where in the log it begins at its first start. Default [`Start::Origin`].
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Events that the handler gets at most at once. Default 500.
    pub fn batch_size(mut self, events: usize) -> Self {
        self.batch_size = events;
        self
    }

    /// What becomes of an event that the handler cannot handle. Default [`Poison::Park`].
    pub fn poison(mut self, poison: Poison) -> Self {
        self.poison = poison;
        self
    }

    /// When to try again. Default 3 retries.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }
}
