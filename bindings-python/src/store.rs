//! `Plan` and `Services`: the adapters of an app, and their calls.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    future::{Either, select},
    lock::Mutex,
};
use orkestra::{
    Backend, Plan as CorePlan, Services as CoreServices, Settings,
    broker::Broker,
    message::{MessageKind, PayloadLimits},
    outbox::RelayOptions,
    ports::{
        self, Append, Appended, ConsumerSpec, DeadLetterFilter, DeadLetterStatus, DeleteMode,
        EventStore, ExpectedRevision, Position, ReadAll, ReadStream, Snapshot, StoreError,
        StreamName,
    },
    subscription::Ahead,
    topic::Pattern,
};
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyIterator, PyString},
};

use crate::{
    broker::{self, Consumer, Outbound, Parts, Sender},
    convert,
    dead_letters::DeadLetter,
    errors, fastcall,
    outgoing::Outgoing,
    payload,
    recorded::Page,
    registry::{self, Registry},
    runtime::{Gate, Op},
    time::{PyClock, PyIds},
};

/// The checked settings of an app: nothing is opened yet.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Plan(CorePlan);

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (*, bus, store, state, max_payload_bytes, clock, ids))]
    fn new(
        bus: Option<String>,
        store: Option<String>,
        state: Option<String>,
        max_payload_bytes: Option<usize>,
        clock: Option<&PyClock>,
        ids: &PyIds,
    ) -> PyResult<Self> {
        let mut settings = Settings::default();
        settings.bus = bus;
        settings.store = store;
        settings.state = state;
        settings.max_payload_bytes = max_payload_bytes;
        // A database goes by its own clock unless somebody names another one.
        settings.clock = clock.map(|clock| Arc::clone(&clock.0));
        settings.ids = Some(Arc::clone(&ids.0));
        CorePlan::new(settings)
            .map(Self)
            .map_err(|error| errors::raise(&error))
    }

    /// The most bytes that a payload may have.
    #[getter]
    fn max_payload_bytes(&self) -> usize {
        self.0.limits.max_bytes
    }

    /// Whether messages go through a broker.
    #[getter]
    fn has_broker(&self) -> bool {
        self.0.has_broker()
    }

    /// The files of SQLite stores, which nothing else may open.
    #[getter]
    fn sqlite_files(&self) -> Vec<String> {
        [Some(&self.0.store), self.0.state.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|backend| {
                let Backend::Sqlite(path) = backend else {
                    return None;
                };
                Some(path.display().to_string())
            })
            .collect()
    }

    /// The schema of the state store in PostgreSQL, `None` if it is elsewhere.
    #[getter]
    fn state_schema(&self) -> Option<&str> {
        self.0.state_schema()
    }

    /// Whether nothing of the app outlives its process.
    #[getter]
    fn is_memory_only(&self) -> bool {
        self.0.is_memory_only()
    }

    /// Opens the adapters. This may block on the disk.
    fn open(&self, py: Python<'_>, registry: &Registry) -> PyResult<Services> {
        let app = registry.0.app();
        let core = py
            .detach(|| self.0.open(&app))
            .map_err(|error| errors::raise(&error))?;
        Ok(Services {
            core,
            registry: registry.clone(),
            limits: self.0.limits,
        })
    }
}

/// The opened adapters of an app.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) core: CoreServices,
    pub(crate) registry: Registry,
    limits: PayloadLimits,
}

/// Reads the whole store page by page.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Log {
    store: Arc<dyn EventStore>,
    registry: Arc<registry::Inner>,
    ahead: Arc<Mutex<Ahead>>,
    options: ReadAll,
}

#[pymethods]
impl Log {
    /// The page after a position. Unless `then` is 0 the one after it is read, too, with that limit, for the next call.
    #[pyo3(signature = (after, limit, then))]
    fn read(&self, after: Option<u64>, limit: usize, then: usize) -> Op {
        let mut options = self.options.clone().limit(limit);
        options.after = after.map(Position);
        let (store, reader) = (Arc::clone(&self.store), Arc::clone(&self.ahead));
        let registry = Arc::clone(&self.registry);
        Op::new(
            async move {
                let mut reader = reader.lock().await;
                let page = reader.take(&store, options.clone()).await?;
                if then > 0 && !page.end {
                    options.after = page.position;
                    reader.begin(&store, options.limit(then));
                }
                Ok::<_, StoreError>(page)
            },
            move |py, page| {
                let last = page.position.map(|p| p.0);
                Page::new(page.events, registry, last, page.end).into_py_any(py)
            },
        )
    }
}

/// The name of a stream that a user gave.
struct Named(StreamName);

impl<'py> FromPyObject<'_, 'py> for Named {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(text) = given.cast::<PyString>() else {
            let found = given.get_type().qualname()?;
            return Err(PyTypeError::new_err(format!(
                "stream: expected a str, found {found}"
            )));
        };
        let name = match text.to_str() {
            Ok(name) => StreamName::new(name),
            // Python's strings may hold what no encoding can.
            Err(_) => Err(StoreError::InvalidStreamName {
                stream: text.to_string_lossy().chars().take(80).collect(),
                reason: "it has half a surrogate pair".into(),
            }),
        };
        name.map(Self).map_err(|error| errors::raise(&error))
    }
}

fn stream_name(name: &str) -> PyResult<StreamName> {
    StreamName::new(name).map_err(|error| errors::raise(&error))
}

/// The events that are to be appended. Not one event by itself, which pydantic lets iterate over its fields: without any it would be no events.
fn each<'py>(events: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let is_one = events.is_instance_of::<PyString>()
        || events.hasattr(pyo3::intern!(events.py(), "__orkestra_type__"))?;
    let found = || events.get_type().qualname();
    if is_one {
        return Err(errors::raise(&ports::BusError::WrongKind {
            expected: "a list of events".into(),
            found: found()?.to_string(),
        }));
    }
    events.try_iter().or_else(|_| {
        let found = found()?;
        Err(PyTypeError::new_err(format!(
            "events: expected a list of events, found {found}"
        )))
    })
}

/// `"any"`, `"no_stream"`, `"stream_exists"` or a revision.
fn expected(value: &Bound<'_, PyAny>) -> PyResult<ExpectedRevision> {
    let wrong = || {
        PyTypeError::new_err(
            "expected: expected 'any', 'no_stream', 'stream_exists' or a revision from 0",
        )
    };
    if let Ok(text) = value.cast::<PyString>() {
        return match &*text.to_string_lossy() {
            "any" => Ok(ExpectedRevision::Any),
            "no_stream" => Ok(ExpectedRevision::NoStream),
            "stream_exists" => Ok(ExpectedRevision::StreamExists),
            _ => Err(wrong()),
        };
    }
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    value
        .extract()
        .map(ExpectedRevision::Exact)
        .map_err(|_| wrong())
}

type AppendedFields = (Option<u64>, Option<u64>, bool);

fn appended(result: &Appended) -> AppendedFields {
    (
        result.revision,
        result.position.map(|p| p.0),
        result.repeated,
    )
}

impl Services {
    /// What sends over the broker, `None` if there is none.
    pub(crate) fn sender(&self) -> Option<Sender> {
        let broker = self.core.broker.clone()?;
        Some(Sender::new(broker, self.registry.clone(), self.limits))
    }

    fn broker(&self) -> PyResult<Broker> {
        self.core
            .broker
            .clone()
            .ok_or_else(|| PyRuntimeError::new_err("the app has no broker"))
    }

    /// What the consumer of a handler is made of.
    fn parts(&self, index: usize) -> (ConsumerSpec, Parts) {
        let registry = &self.registry.0;
        let spec = registry.consumer_spec(index);
        let parts = Parts {
            registry: Arc::clone(registry),
            policy: registry.policy(index),
            handler: spec.address.handler.clone(),
            kind: spec.address.kind,
            command: registry.command_of(index),
            clock: Arc::clone(&self.core.clock),
            ids: Arc::clone(&self.core.ids),
        };
        (spec, parts)
    }

    fn batch(
        &self,
        app: &Bound<'_, PyAny>,
        stream: Named,
        events: &Bound<'_, PyAny>,
        expecting: &Bound<'_, PyAny>,
    ) -> PyResult<Append> {
        Ok(Append {
            stream: stream.0,
            events: each(events)?
                .map(|event| payload::new_event(app, &event?, self.limits))
                .collect::<PyResult<_>>()?,
            expected: expected(expecting)?,
        })
    }
}

/// Tells Python of a dead letter, from a thread of the core.
fn tell(gave_up: &Py<PyAny>, letter: &ports::DeadLetter) {
    // An interpreter that ends has nobody to tell.
    Python::try_attach(|py| {
        let told = Bound::new(py, DeadLetter(letter.clone()))
            .and_then(|letter| gave_up.bind(py).call1((letter,)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    });
}

#[pymethods]
impl Services {
    /// A message for the outbox, stamped now.
    fn outgoing(
        &self,
        app: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Outgoing> {
        let outbound = Outbound::of(&self.registry, &message.get_type(), MessageKind::Event)?;
        let json = payload::encode(message, outbound.type_name(), self.limits)?;
        let is_event = outbound.kind() == MessageKind::Event;
        let (stamp, max_retries, trace) = fastcall::stamp_sending(app, message, options, is_event)?;
        outbound
            .outgoing(&json, &stamp, max_retries, trace)
            .map(Outgoing)
            .map_err(|error| errors::raise(&error))
    }

    /// Puts a message into the outbox.
    fn enqueue(&self, outgoing: &Outgoing) -> Op {
        let outbox = Arc::clone(&self.core.outbox);
        let outgoing = outgoing.0.clone();
        Op::value(async move { Ok(outbox.enqueue(vec![outgoing]).await?) })
    }

    /// How many messages are in the outbox, and since when the oldest.
    fn outbox_backlog(&self) -> Op {
        let outbox = Arc::clone(&self.core.outbox);
        Op::new(async move { outbox.backlog().await }, |py, backlog| {
            let oldest = backlog.oldest.map(|at| convert::datetime(py, at));
            (backlog.messages, oldest.transpose()?).into_py_any(py)
        })
    }

    /// Whether a handler has handled a message.
    fn was_handled(&self, handler: String, id: &str) -> PyResult<Op> {
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let inbox = Arc::clone(&self.core.inbox);
        Ok(Op::value(async move {
            Ok(inbox.find(handler, id).await?.is_some())
        }))
    }

    /// Records that a handler has handled a message.
    fn record_handled(&self, handler: String, id: &str) -> PyResult<Op> {
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let inbox = Arc::clone(&self.core.inbox);
        Ok(Op::value(async move {
            Ok(inbox.record(handler, id, None).await?)
        }))
    }

    /// Appends; gives revision, position and whether it was a repetition.
    fn append(
        &self,
        app: &Bound<'_, PyAny>,
        stream: Named,
        events: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
    ) -> PyResult<Op> {
        let batch = self.batch(app, stream, events, expected)?;
        let store = Arc::clone(&self.core.events);
        Ok(Op::new(
            async move {
                store
                    .append(batch.stream, batch.events, batch.expected)
                    .await
            },
            |py, result| appended(&result).into_py_any(py),
        ))
    }

    /// Appends to several streams in one transaction.
    fn append_many(
        &self,
        app: &Bound<'_, PyAny>,
        appends: Vec<(Named, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    ) -> PyResult<Op> {
        let batches: Vec<Append> = appends
            .into_iter()
            .map(|(stream, events, expected)| self.batch(app, stream, &events, &expected))
            .collect::<PyResult<_>>()?;
        let store = Arc::clone(&self.core.events);
        Ok(Op::new(
            async move { store.append_many(batches).await },
            |py, results| {
                let fields: Vec<AppendedFields> = results.iter().map(appended).collect();
                fields.into_py_any(py)
            },
        ))
    }

    /// Reads a page of a stream.
    #[pyo3(signature = (stream, from_revision, limit, backwards=false))]
    fn read_stream(
        &self,
        stream: Named,
        from_revision: Option<u64>,
        limit: usize,
        backwards: bool,
    ) -> Op {
        let stream = stream.0;
        let mut options = ReadStream::default().limit(limit);
        options.from_revision = from_revision;
        if backwards {
            options = options.backwards();
        }
        let store = Arc::clone(&self.core.events);
        let registry = Arc::clone(&self.registry.0);
        Op::new(
            async move { store.read_stream(stream, options).await },
            move |py, page| {
                Page::new(page.events, registry, page.last_revision, page.end).into_py_any(py)
            },
        )
    }

    /// A reader of the whole store.
    #[pyo3(signature = (topics, stream_prefix))]
    fn log(&self, topics: Option<Vec<String>>, stream_prefix: Option<String>) -> PyResult<Log> {
        let mut options = ReadAll::default().types(self.registry.0.filter(topics)?);
        options.stream_prefix = stream_prefix;
        Ok(Log {
            store: Arc::clone(&self.core.events),
            registry: Arc::clone(&self.registry.0),
            ahead: Arc::default(),
            options,
        })
    }

    /// The position of the last event.
    fn head(&self) -> Op {
        let store = Arc::clone(&self.core.events);
        Op::value(async move { Ok(store.head().await?.map(|p| p.0)) })
    }

    /// Where an event is recorded in a stream: stream, revision, position.
    fn find_in_stream(&self, stream: &str, id: &str) -> PyResult<Op> {
        let stream = stream_name(stream)?;
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let store = Arc::clone(&self.core.events);
        Ok(Op::value(async move {
            let found = store.find_in_stream(stream, id).await?;
            Ok(found.map(|e| (e.stream.to_string(), e.revision, e.position.0)))
        }))
    }

    /// Deletes a stream.
    fn delete_stream(
        &self,
        stream: Named,
        expecting: &Bound<'_, PyAny>,
        hard: bool,
    ) -> PyResult<Op> {
        let stream = stream.0;
        let expecting = expected(expecting)?;
        let mode = if hard {
            DeleteMode::Hard
        } else {
            DeleteMode::Soft
        };
        let store = Arc::clone(&self.core.events);
        Ok(Op::value(async move {
            Ok(store.delete_stream(stream, expecting, mode).await?)
        }))
    }

    /// The snapshot of a stream: revision, schema version and state; `None` also for one that is damaged.
    fn load_snapshot(&self, stream: &str) -> PyResult<Op> {
        let stream = stream_name(stream)?;
        let snapshots = Arc::clone(&self.core.snapshots);
        Ok(Op::new(
            async move {
                match snapshots.load(stream).await {
                    Ok(found) => Ok((found, None)),
                    Err(error @ StoreError::Corrupt { .. }) => Ok((None, Some(error.to_string()))),
                    Err(error) => Err(error),
                }
            },
            |py, (found, damage)| {
                let found = found.map(|s| {
                    let state = PyBytes::new(py, &s.state).unbind();
                    (s.revision, s.schema_version, state)
                });
                (found, damage).into_py_any(py)
            },
        ))
    }

    /// Saves a snapshot.
    fn save_snapshot(
        &self,
        stream: &str,
        revision: u64,
        schema_version: u32,
        state: &Bound<'_, PyBytes>,
        clock: &PyClock,
    ) -> PyResult<Op> {
        let snapshot = Snapshot {
            stream: stream_name(stream)?,
            revision,
            schema_version,
            state: Bytes::copy_from_slice(state.as_bytes()),
            taken_at: clock.0.now(),
        };
        let snapshots = Arc::clone(&self.core.snapshots);
        Ok(Op::value(
            async move { Ok(snapshots.save(snapshot).await?) },
        ))
    }

    /// Where a named reader stands.
    fn checkpoint(&self, name: String) -> Op {
        let checkpoints = Arc::clone(&self.core.checkpoints);
        Op::value(async move {
            let found = checkpoints.load(name).await?;
            Ok(found.and_then(|c| c.position).map(|p| p.0))
        })
    }

    /// How far a projection is: position, head, lag, and the position of a rebuild.
    fn projection_state(&self, name: String) -> Op {
        let core = self.core.clone();
        Op::value(async move {
            let state = core.projection_state(&name).await?;
            let at = |position: Option<Position>| position.map(|p| p.0);
            Ok((
                at(state.position),
                at(state.head),
                state.lag,
                at(state.rebuild),
            ))
        })
    }

    /// Waits until a named reader stands at a position; `False` when `seconds` are over first, or `stopped` is open.
    fn wait_for_checkpoint(
        &self,
        name: String,
        position: u64,
        clock: &PyClock,
        seconds: f64,
        stopped: &Gate,
    ) -> Op {
        let checkpoints = Arc::clone(&self.core.checkpoints);
        let limit = clock
            .0
            .sleep(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let stopped = stopped.opened();
        Op::value(async move {
            let reached = checkpoints.wait_until(name, Position(position));
            match select(reached, select(limit, stopped)).await {
                Either::Left((reached, _)) => Ok(reached.map(|()| true)?),
                Either::Right(_) => Ok(false),
            }
        })
    }

    /// Records a dead letter and gives the entry as it is now.
    fn record_dead_letter(&self, letter: &DeadLetter) -> Op {
        let letter = letter.0.clone();
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Op::new(
            async move { dead_letters.record(letter).await },
            |py, letter| DeadLetter(letter).into_py_any(py),
        )
    }

    /// A page of dead letters, and how many there are in all.
    #[pyo3(signature = (*, handler, topic, since, until, text, status, limit, offset))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called at one place"
    )]
    fn list_dead_letters(
        &self,
        handler: Option<String>,
        topic: Option<&str>,
        since: Option<Bound<'_, PyAny>>,
        until: Option<Bound<'_, PyAny>>,
        text: Option<String>,
        status: Option<&str>,
        limit: usize,
        offset: usize,
    ) -> PyResult<Op> {
        let mut filter = DeadLetterFilter::default();
        filter.handler = handler;
        filter.topic = topic
            .map(Pattern::new)
            .transpose()
            .map_err(|error| errors::raise(&error))?;
        filter.since = since.as_ref().map(convert::timestamp).transpose()?;
        filter.until = until.as_ref().map(convert::timestamp).transpose()?;
        filter.text = text;
        filter.status = match status {
            None => None,
            Some("dead") => Some(DeadLetterStatus::Dead),
            Some("requeued") => Some(DeadLetterStatus::Requeued),
            Some(other) => {
                return Err(pyo3::exceptions::PyValueError::new_err(format!(
                    "status: expected 'dead' or 'requeued', found '{other}'"
                )));
            }
        };
        filter.limit = limit;
        filter.offset = offset;
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Ok(Op::new(
            async move { dead_letters.list(filter).await },
            |py, page| {
                let items = page
                    .items
                    .into_iter()
                    .map(|letter| Py::new(py, DeadLetter(letter)))
                    .collect::<PyResult<Vec<_>>>()?;
                (items, page.total).into_py_any(py)
            },
        ))
    }

    /// One dead letter.
    fn get_dead_letter(&self, id: &str) -> PyResult<Op> {
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Ok(Op::new(
            async move { dead_letters.get(id).await },
            |py, letter| DeadLetter(letter).into_py_any(py),
        ))
    }

    /// Marks a dead letter as requeued, with another body if one is given.
    #[pyo3(signature = (id, body=None))]
    fn requeue_dead_letter(&self, id: &str, body: Option<&Bound<'_, PyBytes>>) -> PyResult<Op> {
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Ok(Op::new(
            async move { dead_letters.requeue(id, body).await },
            |py, letter| DeadLetter(letter).into_py_any(py),
        ))
    }

    /// Marks a dead letter as dead again, as `letter` was.
    fn take_back_dead_letter(&self, letter: &DeadLetter) -> Op {
        let (id, body) = (letter.0.id, letter.0.body.clone());
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Op::new(
            async move { dead_letters.take_back(id, body).await },
            |py, letter| DeadLetter(letter).into_py_any(py),
        )
    }

    /// Removes a dead letter.
    fn discard_dead_letter(&self, id: &str) -> PyResult<Op> {
        let id = orkestra::message::parse_message_id(id).map_err(|e| errors::raise(&e))?;
        let dead_letters = Arc::clone(&self.core.dead_letters);
        Ok(Op::value(
            async move { Ok(dead_letters.discard(id).await?) },
        ))
    }

    /// Consumes the queue of the handler at `index`.
    fn consume(&self, app: Py<PyAny>, index: usize) -> PyResult<Op> {
        let broker = self.broker()?;
        let (spec, parts) = self.parts(index);
        Ok(Op::new(
            async move { broker.consume(spec).await },
            |py, core| Consumer::new(core, app, parts).into_py_any(py),
        ))
    }

    /// Begins to consume what is in the outbox for a handler, where there is no broker. `gave_up` is called, on a thread of the core, with
    /// each message that nobody handles.
    fn consume_outbox(
        &self,
        app: Py<PyAny>,
        index: usize,
        gave_up: Py<PyAny>,
    ) -> PyResult<Consumer> {
        let outbox = self
            .core
            .local_outbox(move |letter| tell(&gave_up, letter))
            .ok_or_else(|| PyRuntimeError::new_err("the app has a broker"))?;
        let (spec, parts) = self.parts(index);
        Ok(Consumer::new(outbox.consume(spec), app, parts))
    }

    /// Begins to hand out what is in the outbox, where there is no broker.
    fn start_outbox(&self, gave_up: Py<PyAny>) {
        if let Some(outbox) = self.core.local_outbox(move |letter| tell(&gave_up, letter)) {
            outbox.start();
        }
    }

    /// Starts publishing the log to the broker. `gave_up` is called, on a thread of the core, with each event that the broker never takes.
    fn start_relay(&self, gave_up: Py<PyAny>) -> Op {
        let registry = Arc::clone(&self.registry.0);
        let options = RelayOptions::new(Arc::new(move |name| registry.topic_for(name).ok()));
        let options = options.on_dead_letter(move |letter| tell(&gave_up, letter));
        let core = self.core.clone();
        Op::value(async move { core.start_relay(options).await })
    }

    /// How the relay is: how far it has published, and why it does not go on; `None` if there is none.
    fn relay_health(&self) -> Option<(Option<u64>, Option<String>)> {
        let health = self.core.relay_health()?;
        Some((health.position.map(|p| p.0), health.error))
    }

    /// Stops the broker's deliveries; what is in hand can still be settled.
    fn pause(&self) -> Op {
        let broker = self.core.broker.clone();
        Op::value(async move {
            if let Some(broker) = broker {
                broker.pause().await;
            }
            Ok(())
        })
    }

    /// How the bus is, `None` in process.
    fn bus_health<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let health = self.core.broker.as_ref().map(Broker::health);
        health.map(|h| broker::health(py, &h)).transpose()
    }

    /// Puts the message of a dead letter, with another body if one is given, into its handler's queue.
    #[pyo3(signature = (letter, body=None))]
    fn requeue_to_broker(
        &self,
        letter: &DeadLetter,
        body: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<Op> {
        let broker = self.broker()?;
        let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let (address, outgoing) = broker::requeue_address(&self.registry, &letter.0, body)?;
        let entry = letter.0.id;
        Ok(Op::new(
            async move { broker.requeue(address, outgoing, Some(entry)).await },
            |py, ()| Ok(py.None()),
        ))
    }

    /// The app's dead letters that lie at the broker.
    fn broker_letters(&self, limit: usize) -> PyResult<Op> {
        let broker = self.broker()?;
        Ok(Op::new(
            async move { broker.letters(limit).await },
            |py, letters| {
                letters
                    .into_iter()
                    .map(|letter| Py::new(py, DeadLetter(letter)))
                    .collect::<PyResult<Vec<_>>>()?
                    .into_py_any(py)
            },
        ))
    }

    /// Moves the app's dead letters from the broker into the state store; gives how many.
    #[pyo3(signature = (limit))]
    fn drain_letters(&self, limit: Option<usize>) -> PyResult<Op> {
        let broker = self.broker()?;
        let store = Arc::clone(&self.core.dead_letters);
        Ok(Op::value(async move {
            let drained = broker
                .drain_letters(store, limit.unwrap_or(usize::MAX))
                .await?;
            match drained.refused {
                None => Ok(drained.moved),
                Some(error) => Err(error.into()),
            }
        }))
    }

    /// Closes the adapters.
    fn close(&self) -> Op {
        let core = self.core.clone();
        Op::value(async move { core.close().await })
    }
}
