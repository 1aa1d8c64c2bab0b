//! `EventEnvelope`: a published event and what its handlers made of it.

use orkestra::{
    clock::Timestamp,
    message::{EventStatus, HandlerState},
};
use parking_lot::Mutex;
use pyo3::{
    PyTraverseError,
    exceptions::PyValueError,
    gc::PyVisit,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use crate::{convert, fastcall, metadata::Metadata};

/// What became of a published event.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct EventEnvelope {
    event: Py<PyAny>,
    /// The routes, each with a `name`.
    handlers: Py<PyTuple>,
    published_at: Timestamp,
    /// `None` as long as all have succeeded.
    states: Mutex<Option<Vec<HandlerState>>>,
    /// Awaits what goes on behind; `None` when nothing does.
    settling: Mutex<Option<Py<PyAny>>>,
    context: Mutex<Option<Py<PyDict>>>,
    /// Whether it went to a broker: what its handlers make of it is not known here.
    elsewhere: bool,
}

impl EventEnvelope {
    /// The envelope of an event that every handler took at once.
    pub(crate) fn handled(
        event: Py<PyAny>,
        handlers: Py<PyTuple>,
        published_at: Timestamp,
    ) -> Self {
        Self {
            event,
            handlers,
            published_at,
            states: Mutex::new(None),
            settling: Mutex::new(None),
            context: Mutex::new(None),
            elsewhere: false,
        }
    }

    /// The envelope of an event that the broker has.
    pub(crate) fn published(py: Python<'_>, event: Py<PyAny>, published_at: Timestamp) -> Self {
        Self {
            elsewhere: true,
            ..Self::handled(event, PyTuple::empty(py).unbind(), published_at)
        }
    }

    fn states(&self, py: Python<'_>) -> Vec<HandlerState> {
        let count = self.handlers.bind(py).len();
        self.states
            .lock()
            .clone()
            .unwrap_or_else(|| vec![HandlerState::Succeeded; count])
    }
}

#[pymethods]
impl EventEnvelope {
    /// Makes the envelope of an event whose handlers have not been called; `elsewhere` says that it goes to a broker.
    #[new]
    #[pyo3(signature = (event, handlers, published_at, *, elsewhere=false))]
    fn new(
        event: Py<PyAny>,
        handlers: &Bound<'_, PyTuple>,
        published_at: i64,
        elsewhere: bool,
    ) -> Self {
        Self {
            elsewhere,
            states: Mutex::new(Some(vec![HandlerState::Pending; handlers.len()])),
            ..Self::handled(
                event,
                handlers.clone().unbind(),
                Timestamp::from_micros(published_at),
            )
        }
    }

    /// The event.
    #[getter]
    fn event(&self, py: Python<'_>) -> Py<PyAny> {
        self.event.clone_ref(py)
    }

    /// The event's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        fastcall::stamp_of(self.event.bind(py)).map(|stamp| convert::uuid(py, stamp.id))
    }

    /// The event's metadata.
    #[getter]
    fn metadata(&self, py: Python<'_>) -> Option<Metadata> {
        fastcall::stamp_of(self.event.bind(py)).map(|stamp| Metadata(stamp.metadata()))
    }

    /// For middleware: what one leaves here the next one finds.
    #[getter]
    fn context(&self, py: Python<'_>) -> Py<PyDict> {
        self.context
            .lock()
            .get_or_insert_with(|| PyDict::new(py).unbind())
            .clone_ref(py)
    }

    /// When it was published, an aware `datetime` in UTC.
    #[getter]
    fn published_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.published_at)
    }

    /// `published`, `handled`, `partially_handled` or `failed`.
    #[getter]
    fn status(&self, py: Python<'_>) -> &'static str {
        if self.elsewhere {
            return EventStatus::Published.as_str();
        }
        EventStatus::of(self.states(py)).as_str()
    }

    /// Each handler's state by its name: `pending`, `processing`, `succeeded`, `failed` or `skipped`.
    #[getter]
    fn handlers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (route, state) in self.handlers.bind(py).iter().zip(self.states(py)) {
            dict.set_item(route.getattr("name")?, state.as_str())?;
        }
        Ok(dict)
    }

    /// Records the state of the handler at `index`. The package's own.
    fn record(&self, py: Python<'_>, index: usize, state: &str) -> PyResult<()> {
        let states = [
            HandlerState::Pending,
            HandlerState::Processing,
            HandlerState::Succeeded,
            HandlerState::Failed,
            HandlerState::Skipped,
        ];
        let state = states
            .into_iter()
            .find(|s| s.as_str() == state)
            .ok_or_else(|| PyValueError::new_err("no such state"))?;
        let mut all = self.states(py);
        if let Some(place) = all.get_mut(index) {
            *place = state;
        }
        *self.states.lock() = Some(all);
        Ok(())
    }

    /// Sets what `settled` gives. The package's own.
    fn settle_with(&self, settling: Py<PyAny>) {
        *self.settling.lock() = Some(settling);
    }

    /// What `settle_with` was given.
    #[getter(_settling)]
    fn settling(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settling.lock().as_ref().map(|s| s.clone_ref(py))
    }

    /// Waits until no handler is tried again any more, and returns this envelope.
    fn settled<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        py.import("orkestra._publishing")?
            .getattr("settled")?
            .call1((slf,))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "EventEnvelope(event={}, status='{}', handlers={})",
            self.event.bind(py).repr()?,
            self.status(py),
            self.handlers(py)?.repr()?,
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event)?;
        visit.call(&self.handlers)?;
        // A lock that is held belongs to a call in progress, which keeps what it holds alive.
        if let Some(settling) = self.settling.try_lock()
            && let Some(settling) = settling.as_ref()
        {
            visit.call(settling)?;
        }
        Ok(())
    }
}
