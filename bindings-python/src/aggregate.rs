//! `Execution`: the core's steps of executing one command on one aggregate, as Python drives them.

use orkestra::{
    aggregate::{Action, Execution, ExecutionOptions},
    message::parse_message_id,
    ports::{Appended, EventRef, ExpectedRevision, Position, StoreError},
};
use parking_lot::Mutex;
use pyo3::{IntoPyObjectExt, prelude::*};

use crate::{convert, errors, recorded::Page};

/// One command on its way through one aggregate.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Execution")]
#[derive(Debug)]
pub(crate) struct PyExecution(Mutex<Execution>);

#[pymethods]
impl PyExecution {
    /// `cached` says that the state is folded to `cached_revision` already.
    #[new]
    #[pyo3(signature = (command_id, *, snapshot_every, schema_version, conflict_retries, cached, cached_revision))]
    fn new(
        command_id: &str,
        snapshot_every: Option<u64>,
        schema_version: u32,
        conflict_retries: u32,
        cached: bool,
        cached_revision: Option<u64>,
    ) -> PyResult<Self> {
        let command_id = parse_message_id(command_id).map_err(|error| errors::raise(&error))?;
        Ok(Self(Mutex::new(Execution::new(ExecutionOptions {
            command_id,
            snapshot_every,
            schema_version,
            conflict_retries,
            cached: cached.then_some(cached_revision),
        }))))
    }

    /// What to do now: a tuple of the action's name and its arguments.
    fn action(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.0.lock().action() {
            Action::Start => ("start",).into_py_any(py),
            Action::LoadSnapshot => ("load_snapshot",).into_py_any(py),
            Action::Load { from, limit } => ("load", from, limit).into_py_any(py),
            Action::Decide => ("decide",).into_py_any(py),
            Action::Append { expected } => match expected {
                ExpectedRevision::Exact(revision) => ("append", revision).into_py_any(py),
                ExpectedRevision::NoStream => ("append", "no_stream").into_py_any(py),
                ExpectedRevision::StreamExists => ("append", "stream_exists").into_py_any(py),
                ExpectedRevision::Any => ("append", "any").into_py_any(py),
            },
            Action::FindRecorded { event_id } => {
                ("find_recorded", convert::uuid(py, event_id)).into_py_any(py)
            }
            Action::ReadRecorded { from, limit } => ("read_recorded", from, limit).into_py_any(py),
            Action::SaveSnapshot { revision } => ("save_snapshot", revision).into_py_any(py),
            Action::Refuse => ("refuse",).into_py_any(py),
            Action::Done(done) => {
                let position = done.position.map(|p| p.0);
                ("done", done.revision, position, done.repeated).into_py_any(py)
            }
        }
    }

    /// The revision that the state is folded to.
    #[getter]
    fn revision(&self) -> Option<u64> {
        self.0.lock().revision()
    }

    /// The state is the initial one.
    fn started(&self) {
        self.0.lock().started();
    }

    /// A snapshot was found, or none. Returns whether its state is to be used.
    #[pyo3(signature = (revision=None, schema_version=0))]
    fn snapshot(&self, revision: Option<u64>, schema_version: u32) -> bool {
        self.0
            .lock()
            .snapshot(revision.map(|r| (r, schema_version)))
    }

    /// A page was folded.
    fn folded(&self, page: &Page) {
        let revision = page.events().last().map(|e| e.revision);
        self.0.lock().folded(revision, page.last, page.end);
    }

    /// `decide` returned this many events.
    fn decided(&self, events: usize) {
        self.0.lock().decided(events);
    }

    /// `decide` refused or failed.
    fn refused(&self) {
        self.0.lock().refused();
    }

    /// The append went well.
    fn appended(&self, revision: Option<u64>, position: Option<u64>, repeated: bool) {
        // Only errors are answered with errors.
        let _ = self.0.lock().appended(Ok(Appended {
            revision,
            position: position.map(Position),
            repeated,
        }));
    }

    /// The append met another writer; `False` if the attempts are used up.
    fn conflicted(&self, stream: &str, actual: Option<u64>) -> bool {
        self.0
            .lock()
            .appended(Err(StoreError::RevisionConflict {
                stream: stream.to_owned(),
                expected: ExpectedRevision::Any,
                actual,
            }))
            .is_ok()
    }

    /// The append met its own events.
    fn duplicate(&self, stream: &str, event_id: &str) {
        let _ = self.0.lock().appended(Err(StoreError::DuplicateEvent {
            event_id: event_id.to_owned(),
            stream: stream.to_owned(),
        }));
    }

    /// The snapshot was saved, or could not be.
    fn saved(&self) {
        self.0.lock().saved();
    }

    /// The lookup gave this: stream, revision, position; or nothing.
    fn found(&self, event: Option<(String, u64, u64)>) {
        let event = event.map(|(stream, revision, position)| EventRef {
            stream: stream.into(),
            revision,
            position: Position(position),
        });
        self.0.lock().found(event.as_ref());
    }

    /// The first `count` events that were read are the command's, the last of them at this revision and position.
    fn read_recorded(&self, count: usize, last: Option<(u64, u64)>) {
        let last = last.map(|(revision, position)| (revision, Position(position)));
        self.0.lock().read_recorded(count, last);
    }
}
