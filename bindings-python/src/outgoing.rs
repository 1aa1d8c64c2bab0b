//! `Outgoing`: a message on its way into the outbox.

use orkestra::ports;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyBytes, PyString},
};

use crate::convert;

/// A message as it leaves the outbox.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Outgoing(pub(crate) ports::Outgoing);

#[pymethods]
impl Outgoing {
    /// The message's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        convert::uuid(py, self.0.id)
    }

    /// The parameters of the database's own function: kind, id, topic, correlation id, body, time, retries, and the three of the trace.
    fn parameters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let message = &self.0;
        (
            message.kind.as_str(),
            convert::uuid(py, message.id),
            &*message.topic,
            &*message.correlation_id,
            PyBytes::new(py, &message.body),
            convert::datetime(py, message.issued_at)?,
            message.max_retries,
            message.trace.traceparent.as_deref(),
            message.trace.tracestate.as_deref(),
            message.trace.baggage.as_deref(),
        )
            .into_py_any(py)
    }
}
