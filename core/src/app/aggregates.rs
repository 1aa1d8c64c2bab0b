//! Aggregates in Rust: the host of [`Execution`].

use std::{
    any::type_name,
    collections::HashMap,
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::Arc,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    CommandSet, EventSet, Orkestra, Reject,
    context::{Handling, Stamping, stamping_options},
    handler::HandlerError,
};
use crate::{
    Error,
    aggregate::{Action, AggregateError, Execution, ExecutionOptions},
    clock::derive_event_id,
    message::{Event as EventData, MessageKind},
    ports::{
        Direction, NewEvent, Position, ReadStream, RecordedEvent, Snapshot, StreamName,
        stream_events,
    },
    telemetry::names,
};

/// A thing that decides: its state is folded from one stream, and its functions are pure.
pub trait Aggregate: Sized + Send + Sync + 'static {
    /// Its name, for errors and spans.
    const NAME: &'static str;
    /// Take a snapshot after this many events. Default never.
    const SNAPSHOT_EVERY: Option<u64> = None;
    /// The version of the state's shape; raise it when the shape changes, so that old snapshots are rebuilt.
    const SCHEMA_VERSION: u32 = 1;
    /// Keep the states of this many streams folded. Default 0: none. They are checked by their revision at the append, which says nothing of
    /// a deletion: a stream that is deleted softly, or for good and grown again, goes on from the cached state until the app restarts.
    const CACHE: usize = 0;
    /// The state.
    type State: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The commands it takes: one type, or a [`command_set!`](crate::command_set).
    type Command: CommandSet;
    /// The events in its stream: one type, or an [`event_set!`](crate::event_set).
    type Event: EventSet;

    /// The state of a stream without events.
    fn initial() -> Self::State;
    /// The whole name of the stream that `command` is for.
    fn stream_id(command: &Self::Command) -> String;
    /// The events that follow from `command`, none if nothing is to happen.
    ///
    /// # Errors
    /// [`Reject`] refuses the command.
    fn decide(state: &Self::State, command: &Self::Command) -> Result<Vec<Self::Event>, Reject>;
    /// The state after `event`.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// What a dispatched command of an aggregate answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateAnswer {
    /// The stream.
    pub stream: String,
    /// The stream's last revision after the command; `None` if it has no events.
    pub revision: Option<u64>,
}

/// What [`Orkestra::execute`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<A: Aggregate> {
    /// The stream.
    pub stream: String,
    /// The events that the command made, now or when it was executed before.
    pub events: Vec<A::Event>,
    /// The state after them.
    pub state: A::State,
    /// The stream's last revision that belongs to the answer; `None` if it has no events.
    pub revision: Option<u64>,
    /// The position of the command's last event, `None` if it made none: what a projection is waited for with.
    pub position: Option<Position>,
    /// Whether the command had been executed before and nothing was appended now.
    pub repeated: bool,
}

/// A state and the revision that it is folded to.
type Folded<A> = (<A as Aggregate>::State, Option<u64>);

/// The folded states of hot streams.
pub(super) struct Cache<A: Aggregate> {
    limit: usize,
    states: Mutex<HashMap<String, Folded<A>>>,
}

impl<A: Aggregate> Cache<A> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            states: Mutex::default(),
        }
    }

    fn get(&self, stream: &str) -> Option<Folded<A>> {
        self.states.lock().get(stream).cloned()
    }

    fn put(&self, stream: &str, state: &A::State, revision: Option<u64>) {
        if self.limit == 0 {
            return;
        }
        let mut states = self.states.lock();
        if states.len() >= self.limit && !states.contains_key(stream) {
            // Any of them will do: a state that is missed is folded again.
            if let Some(key) = states.keys().next().cloned() {
                states.remove(&key);
            }
        }
        states.insert(stream.to_owned(), (state.clone(), revision));
    }

    fn forget(&self, stream: &str) {
        self.states.lock().remove(stream);
    }
}

/// A command about to be executed on an aggregate: `await` it.
#[must_use = "nothing is executed until this is awaited"]
pub struct Execute<A: Aggregate> {
    app: Orkestra,
    command: A::Command,
    stamping: Stamping,
}

impl<A: Aggregate> std::fmt::Debug for Execute<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Execute({})", A::NAME)
    }
}

impl<A: Aggregate> Execute<A> {
    stamping_options!(
        "The command's id, a UUID: the same id again appends nothing and gives the recorded answer."
    );
}

impl<A: Aggregate> IntoFuture for Execute<A> {
    type Output = Result<Outcome<A>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.app.check()?;
            let now = self.app.inner.plan.clock.now();
            let (id, metadata) = self.stamping.stamp(&self.app, MessageKind::Command, now)?;
            let handling = Handling::of(id, MessageKind::Command, metadata);
            Ok(run::<A>(&self.app, &self.command, &handling).await?)
        })
    }
}

impl Orkestra {
    /// Loads the aggregate, decides, appends at the loaded revision, and decides again when somebody else was faster, 3 times at most.
    pub fn execute<A: Aggregate>(&self, command: impl Into<A::Command>) -> Execute<A> {
        Execute {
            app: self.clone(),
            command: command.into(),
            stamping: Stamping::default(),
        }
    }
}

/// Executes `command`, which is being handled as `handling`.
pub(super) async fn run<A: Aggregate>(
    app: &Orkestra,
    command: &A::Command,
    handling: &Handling,
) -> Result<Outcome<A>, HandlerError> {
    let stream = StreamName::new(&A::stream_id(command))?;
    let mut span = app.inner.plan.telemetry.span(names::AGGREGATE_EXECUTE, || {
        vec![(names::COMMAND_ID, handling.id.to_string())]
    });
    let cache = app
        .inner
        .aggregates
        .get(A::NAME)
        .and_then(|cache| Arc::clone(cache).downcast::<Cache<A>>().ok())
        .ok_or_else(|| AggregateError::InvalidDefinition {
            aggregate: A::NAME.into(),
            reason: "it was not added to the app".into(),
        })?;
    let result = Host::<A> {
        app,
        command,
        handling,
        stream: &stream,
        cache: &cache,
        state: A::initial(),
        events: Vec::new(),
        refusal: None,
    }
    .run()
    .await;
    if let Err(error) = &result {
        cache.forget(&stream);
        span.fail(error);
    }
    result
}

struct Host<'a, A: Aggregate> {
    app: &'a Orkestra,
    command: &'a A::Command,
    handling: &'a Handling,
    stream: &'a StreamName,
    cache: &'a Cache<A>,
    state: A::State,
    events: Vec<A::Event>,
    refusal: Option<HandlerError>,
}

impl<A: Aggregate> Host<'_, A> {
    async fn run(mut self) -> Result<Outcome<A>, HandlerError> {
        let services = &self.app.inner.services;
        let telemetry = &self.app.inner.plan.telemetry;
        let cached = self.cache.get(self.stream);
        let mut execution = Execution::new(ExecutionOptions {
            command_id: self.handling.id,
            snapshot_every: A::SNAPSHOT_EVERY,
            schema_version: A::SCHEMA_VERSION,
            conflict_retries: 3,
            cached: cached.as_ref().map(|(_, revision)| *revision),
        });
        if let Some((state, _)) = cached {
            self.state = state;
        }
        loop {
            match execution.action() {
                Action::Start => {
                    self.state = A::initial();
                    execution.started();
                }
                Action::LoadSnapshot => self.load_snapshot(&mut execution).await?,
                Action::Load { from, limit } => {
                    let span = telemetry.span(names::AGGREGATE_LOAD, Vec::new);
                    let page = services
                        .events
                        .read_stream(self.stream.clone(), ReadStream::from(from).limit(limit))
                        .await?;
                    drop(span);
                    let _span = telemetry.span(names::AGGREGATE_FOLD, Vec::new);
                    for event in &page.events {
                        let event = Self::decode(event)?;
                        self.state = A::evolve(self.state, &event);
                    }
                    execution.loaded(&page);
                }
                Action::Decide => {
                    let span = telemetry.span(names::AGGREGATE_DECIDE, Vec::new);
                    match A::decide(&self.state, self.command) {
                        Ok(events) => {
                            self.events = events;
                            execution.decided(self.events.len());
                        }
                        Err(reject) => {
                            self.refusal = Some(reject.into());
                            execution.refused();
                        }
                    }
                    drop(span);
                }
                Action::Append { expected } => {
                    let _span = telemetry.span(names::AGGREGATE_APPEND, Vec::new);
                    let events = self.stamped()?;
                    let result = services
                        .events
                        .append(self.stream.clone(), events, expected)
                        .await;
                    self.refusal = result.as_ref().err().cloned().map(HandlerError::from);
                    if let Ok(appended) = &result
                        && !appended.repeated
                    {
                        for event in &self.events {
                            self.state = A::evolve(self.state, event);
                        }
                        self.cache.put(self.stream, &self.state, appended.revision);
                    }
                    execution.appended(result)?;
                }
                Action::FindRecorded { event_id } => {
                    let stream = self.stream.clone();
                    let found = services.events.find_in_stream(stream, event_id).await?;
                    execution.found(found.as_ref());
                }
                Action::ReadRecorded { from, .. } => {
                    let last = self.read_as_recorded(from).await?;
                    execution.read_recorded(self.events.len(), last);
                }
                Action::SaveSnapshot { revision } => {
                    self.save_snapshot(revision).await;
                    execution.saved();
                }
                Action::Refuse => {
                    return Err(self
                        .refusal
                        .unwrap_or_else(|| HandlerError::text("the command was refused")));
                }
                Action::Done(done) => {
                    return Ok(Outcome {
                        stream: self.stream.to_string(),
                        events: self.events,
                        state: self.state,
                        revision: done.revision,
                        position: done.position,
                        repeated: done.repeated,
                    });
                }
            }
        }
    }

    /// The events that the command made from revision `from` on, and the state of then: the stream folded up to them. Returns the revision
    /// and the position of the last one.
    async fn read_as_recorded(
        &mut self,
        from: u64,
    ) -> Result<Option<(u64, Position)>, HandlerError> {
        let events = Arc::clone(&self.app.inner.services.events);
        let all = stream_events(events, self.stream.clone(), None, Direction::Forwards, None);
        let mut all = pin!(all);
        let mut last = None;
        self.state = A::initial();
        self.events.clear();
        let mut own = 0..;
        while let Some(recorded) = all.next().await {
            let recorded = recorded?;
            let event = Self::decode(&recorded)?;
            if recorded.revision >= from {
                let expected = own.next().map(|n| derive_event_id(self.handling.id, n));
                if expected != Some(recorded.id) {
                    break;
                }
                last = Some((recorded.revision, recorded.position));
                self.events.push(event.clone());
            }
            self.state = A::evolve(self.state.clone(), &event);
        }
        Ok(last)
    }

    fn decode(event: &RecordedEvent) -> Result<A::Event, HandlerError> {
        A::Event::from_json(&event.type_name, event.version, &event.data)?.ok_or_else(|| {
            AggregateError::UnknownEvent {
                aggregate: A::NAME.into(),
                stream: event.stream.to_string(),
                revision: event.revision,
                type_name: event.type_name.to_string(),
            }
            .into()
        })
    }

    fn stamped(&self) -> Result<Vec<NewEvent>, HandlerError> {
        let now = self.app.inner.plan.clock.now();
        (0_u32..)
            .zip(&self.events)
            .map(|(index, event)| {
                let (type_name, version, data) = event.to_json(self.app.inner.plan.limits)?;
                let event = EventData {
                    id: derive_event_id(self.handling.id, index),
                    type_name: type_name.into(),
                    version,
                    data,
                    metadata: self.handling.metadata.derive(self.handling.id, now),
                    occurred_at: now,
                };
                Ok(NewEvent::from(event).traced(&self.handling.trace))
            })
            .collect()
    }

    async fn load_snapshot(&mut self, execution: &mut Execution) -> Result<(), HandlerError> {
        let snapshots = &self.app.inner.services.snapshots;
        let found = match snapshots.load(self.stream.clone()).await {
            Ok(found) => found,
            Err(error) if !crate::code::Coded::is_transient(&error) => {
                tracing::warn!(stream = %self.stream, %error, "a snapshot is ignored");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let state = found.as_ref().and_then(|snapshot| {
            serde_json::from_slice::<A::State>(&snapshot.state)
                .inspect_err(|error| {
                    tracing::warn!(stream = %self.stream, %error, state = type_name::<A::State>(), "a snapshot is ignored");
                })
                .ok()
        });
        let usable = found
            .filter(|_| state.is_some())
            .map(|s| (s.revision, s.schema_version));
        if execution.snapshot(usable)
            && let Some(state) = state
        {
            self.state = state;
        }
        Ok(())
    }

    /// A snapshot saves time; without it nothing is lost, so its failure is only logged.
    async fn save_snapshot(&self, revision: u64) {
        let _span = self
            .app
            .inner
            .plan
            .telemetry
            .span(names::AGGREGATE_SNAPSHOT, Vec::new);
        let saved = match serde_json::to_vec(&self.state) {
            Ok(state) => {
                let snapshot = Snapshot {
                    stream: self.stream.clone(),
                    revision,
                    schema_version: A::SCHEMA_VERSION,
                    state: state.into(),
                    taken_at: self.app.inner.plan.clock.now(),
                };
                let saved = self.app.inner.services.snapshots.save(snapshot).await;
                saved.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = saved {
            tracing::warn!(stream = %self.stream, %error, "a snapshot could not be saved");
        }
    }
}
