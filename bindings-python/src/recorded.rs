//! Recorded events, and pages of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use orkestra::{aggregate::recorded_prefix, ports};
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyIndexError,
    prelude::*,
    types::{PyBytes, PyString},
};
use uuid::Uuid;

use crate::{
    convert, errors, fastcall,
    metadata::Metadata,
    registry,
    stamp::{Link, PyStamp, Stamp},
};

/// Events that were read together, and who knows their types.
#[derive(Debug)]
struct Events {
    list: Vec<ports::RecordedEvent>,
    registry: Arc<registry::Inner>,
}

/// An event as it was recorded: with its stream, revision and position.
///
/// The typed event, which is all it refers to, never refers back.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct RecordedEvent {
    /// Not a copy of its own: a batch has as many as it has events, and they come and go together.
    events: Arc<Events>,
    index: usize,
    /// Whether it stays with the others of its batch, and its typed event with it.
    stays: bool,
    event: Mutex<Option<Py<PyAny>>>,
}

impl RecordedEvent {
    fn core(&self) -> &ports::RecordedEvent {
        &self.events.list[self.index]
    }
}

#[pymethods]
impl RecordedEvent {
    /// The event as an object of its class, brought to the class's version; a `RawEvent` if the app does not know the type.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(event) = self.event.lock().as_ref() {
            return Ok(event.bind(py).clone());
        }
        // No lock is held while the class's validators run.
        let registry = &self.events.registry;
        let event = if self.stays {
            registry.decode_to_stay(py, self.core())?
        } else {
            registry.decode(py, self.core())?
        };
        Ok(self
            .event
            .lock()
            .get_or_insert_with(|| event.unbind())
            .bind(py)
            .clone())
    }

    /// The id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        convert::uuid(py, self.core().id)
    }

    /// The type name.
    #[getter]
    fn r#type(&self) -> &str {
        &self.core().type_name
    }

    /// Schema version of the payload as it was recorded.
    #[getter]
    fn version(&self) -> u32 {
        self.core().version
    }

    /// The stream.
    #[getter]
    fn stream(&self) -> &str {
        &self.core().stream
    }

    /// 0-based place in the stream.
    #[getter]
    fn revision(&self) -> u64 {
        self.core().revision
    }

    /// Place in the whole store.
    #[getter]
    fn position(&self) -> u64 {
        self.core().position.0
    }

    /// The payload as recorded: JSON, UTF-8 bytes.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core().data)
    }

    /// Who and why.
    #[getter]
    fn metadata(&self) -> PyResult<Metadata> {
        self.core()
            .metadata()
            .map(Metadata)
            .map_err(|error| errors::raise(&error))
    }

    /// When it happened, an aware `datetime` in UTC.
    #[getter]
    fn occurred_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.core().occurred_at)
    }

    fn __repr__(&self) -> String {
        format!(
            "RecordedEvent(type='{}', stream='{}', revision={}, position={}, id='{}')",
            self.core().type_name,
            self.core().stream,
            self.core().revision,
            self.core().position,
            self.core().id
        )
    }
}

/// Events that were read together.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Page {
    events: Arc<Events>,
    /// The stream's last revision, or the position that was read up to.
    pub(crate) last: Option<u64>,
    pub(crate) end: bool,
}

impl Page {
    /// These events; `last` is the stream's last revision, or the position that was read up to.
    pub(crate) fn new(
        list: Vec<ports::RecordedEvent>,
        registry: Arc<registry::Inner>,
        last: Option<u64>,
        end: bool,
    ) -> Self {
        Self {
            events: Arc::new(Events { list, registry }),
            last,
            end,
        }
    }

    /// The events.
    pub(crate) fn events(&self) -> &[ports::RecordedEvent] {
        &self.events.list
    }

    fn recorded(&self, index: usize, stays: bool) -> Option<RecordedEvent> {
        (index < self.events.list.len()).then(|| RecordedEvent {
            events: Arc::clone(&self.events),
            index,
            stays,
            event: Mutex::new(None),
        })
    }
}

#[pymethods]
impl Page {
    /// The recorded events.
    fn records(&self, py: Python<'_>) -> PyResult<Vec<Py<RecordedEvent>>> {
        (0..self.events().len())
            .filter_map(|index| self.recorded(index, true))
            .map(|event| {
                let event = Bound::new(py, event)?;
                fastcall::hide(&event);
                Ok(event.unbind())
            })
            .collect()
    }

    /// The recorded events one by one, each made when it is asked for: what is let go at once never burdens the garbage collector.
    fn __iter__(slf: Py<Self>) -> Records {
        Records {
            page: slf,
            next: AtomicUsize::new(0),
        }
    }

    /// The recorded event at `index`.
    fn record(&self, index: usize) -> PyResult<RecordedEvent> {
        self.recorded(index, false)
            .ok_or_else(|| PyIndexError::new_err(index))
    }

    /// The typed events of the first `count`.
    #[pyo3(signature = (count=None))]
    fn typed<'py>(
        &self,
        py: Python<'py>,
        count: Option<usize>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.events()
            .iter()
            .take(count.unwrap_or(usize::MAX))
            .map(|event| self.events.registry.decode_to_stay(py, event))
            .collect()
    }

    /// Folds the events into `state` with `evolve(state, event)`.
    fn fold<'py>(
        &self,
        py: Python<'py>,
        evolve: &Bound<'py, PyAny>,
        state: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut state = state;
        let registry = &self.events.registry;
        for event in self.events() {
            if !registry.knows(&event.type_name) {
                return Err(errors::raise(
                    &orkestra::aggregate::AggregateError::UnknownEvent {
                        aggregate: String::new(),
                        stream: event.stream.to_string(),
                        revision: event.revision,
                        type_name: event.type_name.to_string(),
                    },
                ));
            }
            let typed = registry.decode(py, event)?;
            state = fastcall::call(evolve, [&state, &typed], None)?;
        }
        Ok(state)
    }

    /// How many of the first events the command made.
    fn recorded_prefix(&self, command_id: &str) -> usize {
        Uuid::try_parse(command_id).map_or(0, |id| recorded_prefix(id, self.events()))
    }

    /// The revision of the event at `index`, counted from the end when negative.
    fn revision_at(&self, index: isize) -> Option<u64> {
        let index = if index < 0 {
            self.events().len().checked_add_signed(index)
        } else {
            usize::try_from(index).ok()
        };
        index
            .and_then(|index| self.events().get(index))
            .map(|event| event.revision)
    }

    /// The revision and the position of the event at `index`.
    fn place_at(&self, index: usize) -> Option<(u64, u64)> {
        self.events()
            .get(index)
            .map(|event| (event.revision, event.position.0))
    }

    /// The stream's last revision, or the position that was read up to.
    #[getter]
    fn last(&self) -> Option<u64> {
        self.last
    }

    /// Whether nothing follows.
    #[getter]
    fn end(&self) -> bool {
        self.end
    }

    fn __len__(&self) -> usize {
        self.events().len()
    }
}

/// The recorded events of a page.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Records {
    page: Py<Page>,
    next: AtomicUsize,
}

#[pymethods]
impl Records {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<RecordedEvent> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.page.get().recorded(next, false)
    }
}

/// Puts id, time and metadata of a recorded event on `message`.
#[pyfunction]
pub(crate) fn put_recorded_stamp(
    recorded: &RecordedEvent,
    message: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let core = recorded.core();
    let stamp = PyStamp::sent(Stamp {
        id: core.id,
        at: core.occurred_at,
        link: Link::Stored(core.metadata.as_ref().into()),
    });
    fastcall::put_stamp(message, Bound::new(message.py(), stamp)?.as_any());
    Ok(())
}

/// Which of `lanes` workers handles the events of `stream`.
#[pyfunction]
pub(crate) fn lane_of(stream: &str, lanes: usize) -> usize {
    orkestra::subscription::lane_of(stream, lanes)
}
