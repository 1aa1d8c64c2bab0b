//! `Consumer`: what arrives for one handler, on its way to Python and back as settled.
//!
//! `take` gives a call that is what is being handled: its message is decoded, nothing else is made before somebody asks. It runs on the
//! thread of the handler and goes to no other one.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use orkestra::{
    Error,
    broker::{Arrival, Consumer as CoreConsumer, Incoming},
    clock::{Clock, IdSource, Timestamp},
    delivery::Addressed,
    message::{MessageKind, wire::Decoded},
    ports::DeadLetterReason,
    retry::RetryPolicy,
};
use parking_lot::Mutex;
use pyo3::{
    IntoPyObjectExt, PyTraverseError, exceptions::PyException, gc::PyVisit, prelude::*,
    sync::PyOnceLock, types::PyBytes,
};

use super::{Stop, trouble::Trouble};
use crate::{
    dead_letters::DeadLetter,
    fastcall,
    registry::Inner,
    retry::PyDelivery,
    runtime::{self, Op},
    stamp::{Link, Stamp},
};

/// The arrivals of one handler.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Consumer {
    core: CoreConsumer,
    app: Py<PyAny>,
    registry: Arc<Inner>,
    policy: RetryPolicy,
    handler: String,
    kind: MessageKind,
    /// The type of a command handler: its queue holds nothing else, whatever other services call it.
    command: Option<String>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    troubles: Mutex<VecDeque<Trouble>>,
    stop: Arc<Stop>,
}

/// What a consumer is made of, beside the app.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: Arc<Inner>,
    pub(crate) policy: RetryPolicy,
    pub(crate) handler: String,
    pub(crate) kind: MessageKind,
    pub(crate) command: Option<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

static TO_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A value as JSON.
fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let py = value.py();
    if value.is_none() {
        return Ok(Bytes::from_static(b"null"));
    }
    let write = TO_JSON.get_or_try_init(py, || {
        Ok::<_, PyErr>(
            py.import("orkestra._payloads")?
                .getattr("result_json")?
                .unbind(),
        )
    })?;
    let json = write.bind(py).call1((value,))?.cast_into::<PyBytes>()?;
    Ok(Bytes::copy_from_slice(json.as_bytes()))
}

impl Consumer {
    pub(crate) fn new(core: CoreConsumer, app: Py<PyAny>, parts: Parts) -> Self {
        Self {
            core,
            app,
            registry: parts.registry,
            policy: parts.policy,
            handler: parts.handler,
            kind: parts.kind,
            command: parts.command,
            clock: parts.clock,
            ids: parts.ids,
            troubles: Mutex::default(),
            stop: Arc::default(),
        }
    }

    /// What arrived as the call that is being handled, or what is wrong with it.
    fn open<'py>(
        &self,
        py: Python<'py>,
        incoming: Box<Incoming>,
    ) -> PyResult<Result<Bound<'py, PyAny>, Trouble>> {
        let (type_name, version, json, at) = match incoming.content() {
            Decoded::Command(envelope) => {
                let command = &envelope.command;
                let at = command.metadata.issued_at;
                (&command.type_name, None, &command.params, at)
            }
            Decoded::Event(event) => {
                let version = Some(event.version);
                (&event.type_name, version, &event.data, event.occurred_at)
            }
        };
        let topic = &incoming.raw().topic;
        let known = self.command.as_deref();
        let message = match self
            .registry
            .decode_arrived(py, type_name, known, topic, version, json)
        {
            Ok(message) => message,
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return Ok(Err(self.undecodable(py, incoming, &error)));
            }
            Err(error) => return Err(error),
        };
        let stamp = Stamp {
            id: incoming.id(),
            at,
            link: Link::Full(Arc::new(incoming.metadata().clone()))
                .traced(incoming.trace().clone()),
        };
        let is_event = self.kind == MessageKind::Event;
        fastcall::handle(self.app.bind(py), &message, stamp, is_event, incoming).map(Ok)
    }

    fn undecodable(&self, py: Python<'_>, incoming: Box<Incoming>, error: &PyErr) -> Trouble {
        let record = crate::errors::record(py, error);
        let text = record.message.clone();
        let now = self.clock.now();
        let mut delivery = incoming.delivery(&self.policy);
        delivery.begin();
        // Only the count and the error matter: what does not decode now never does.
        let _ = delivery.failed(&[], vec![record], now, 0.0);
        let letter = delivery.dead_letter(
            DeadLetterReason::Undecodable,
            self.addressed(&incoming, now),
            now,
        );
        Trouble::new(text, async move { incoming.give_up(letter).await })
    }

    fn addressed(&self, incoming: &Incoming, now: Timestamp) -> Addressed {
        let type_name = match incoming.content() {
            Decoded::Command(envelope) => &envelope.command.type_name,
            Decoded::Event(event) => &event.type_name,
        };
        Addressed {
            id: self.ids.next_id(now),
            handler: self.handler.clone(),
            kind: self.kind,
            message_id: incoming.id(),
            type_name: type_name.to_string(),
            topic: incoming.raw().topic.clone(),
            body: Some(incoming.raw().body.clone()),
            correlation_id: incoming.metadata().correlation_id.to_string(),
            trace_id: None,
        }
    }

    /// Whether there may be something to take; false when nothing more comes.
    fn wait_ready(&self) -> impl Future<Output = bool> + Send + use<> {
        let core = self.core.clone();
        let stop = Arc::clone(&self.stop);
        poll_fn(move |cx| {
            if stop.is_set() {
                return Poll::Ready(false);
            }
            // Before the inbox is asked: a stop in between wakes us.
            stop.await_with(cx.waker());
            if stop.is_set() {
                return Poll::Ready(false);
            }
            let ready = core.poll_ready(cx);
            if ready.is_ready() {
                stop.forget(cx.waker());
            }
            ready
        })
    }
}

#[pymethods]
impl Consumer {
    /// The next one, entered as what is being handled; `None` when there is nothing now, or something is wrong.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.stop.is_set() {
            return Ok(None);
        }
        let trouble = match self.core.try_take() {
            None => return Ok(None),
            Some(Arrival::Message(incoming)) => match self.open(py, incoming)? {
                Ok(call) => return Ok(Some(call)),
                Err(trouble) => trouble,
            },
            Some(Arrival::Doomed(doomed)) => {
                let text = doomed
                    .letter()
                    .errors
                    .first()
                    .map_or_else(String::new, |error| error.message.clone());
                Trouble::new(text, async move { doomed.bury().await })
            }
        };
        self.troubles.lock().push_back(trouble);
        Ok(None)
    }

    /// What is to be buried before the next one is taken.
    fn trouble(&self) -> Option<Trouble> {
        self.troubles.lock().pop_front()
    }

    /// Until there may be something to take; `False` when nothing more comes.
    fn ready(&self) -> Op {
        let ready = self.wait_ready();
        Op::value(async move { Ok(ready.await) })
    }

    /// The same for a thread of its own, which it blocks.
    fn wait(&self, py: Python<'_>) -> bool {
        let ready = self.wait_ready();
        py.detach(|| runtime::park_on(ready))
    }

    /// Nothing more is taken, and nobody waits any more.
    fn stop(&self) {
        self.stop.set();
    }

    /// Whether nothing more comes.
    #[getter]
    fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }

    /// Handled. `result` is for whoever waits for it.
    #[staticmethod]
    fn done(call: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let incoming = fastcall::take_incoming(call)?;
        if !incoming.wants_reply() {
            incoming.done(None);
            return Ok(());
        }
        match to_json(result) {
            Ok(json) => {
                incoming.done(Some(json));
                Ok(())
            }
            Err(error) => {
                incoming.unanswerable(crate::errors::record(result.py(), &error));
                Err(error)
            }
        }
    }

    /// Refused.
    #[staticmethod]
    fn rejected(call: &Bound<'_, PyAny>, reason: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let incoming = fastcall::take_incoming(call)?;
        let data = to_json(data)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        incoming.rejected(reason, data);
        Ok(())
    }

    /// Where the message stands: goes on where its last attempt ended, with this one begun.
    fn delivery(&self, call: &Bound<'_, PyAny>) -> PyResult<PyDelivery> {
        let mut delivery = fastcall::with_incoming(call, |i| i.delivery(&self.policy))?;
        delivery.begin();
        Ok(PyDelivery::of(delivery, self.kind))
    }

    /// The number of this attempt, from 1.
    #[staticmethod]
    fn attempt(call: &Bound<'_, PyAny>) -> PyResult<u32> {
        fastcall::with_incoming(call, |i| i.raw().attempts.saturating_add(1))
    }

    /// Retries that the sender wants.
    #[staticmethod]
    fn max_retries(call: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
        fastcall::with_incoming(call, Incoming::max_retries)
    }

    /// To come again after so many seconds.
    #[staticmethod]
    fn retry(call: &Bound<'_, PyAny>, delivery: &PyDelivery, seconds: f64) -> PyResult<()> {
        let incoming = fastcall::take_incoming(call)?;
        let after = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        incoming.retry(&delivery.core(), after);
        Ok(())
    }

    /// Given up, and recorded as a dead letter.
    fn give_up(
        &self,
        call: &Bound<'_, PyAny>,
        delivery: &PyDelivery,
        reason: &str,
    ) -> PyResult<Op> {
        let incoming = fastcall::take_incoming(call)?;
        let now = self.clock.now();
        let reason = DeadLetterReason::parse(reason).unwrap_or(DeadLetterReason::RetriesExhausted);
        let addressed = self.addressed(&incoming, now);
        let letter = delivery.core().dead_letter(reason, addressed, now);
        Ok(Op::new(
            async move { Ok::<_, Error>(incoming.give_up(letter).await) },
            |py, letter| DeadLetter(letter).into_py_any(py),
        ))
    }

    /// Not handled: back to where it was. One that is settled stays so.
    #[staticmethod]
    fn give_back(call: &Bound<'_, PyAny>) {
        if let Ok(incoming) = fastcall::take_incoming(call) {
            incoming.give_back();
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)
    }
}
