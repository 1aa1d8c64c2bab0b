//! `DeadLetter`: a message given up on, as Python sees it.

use orkestra::{clock::Timestamp, message::MessageKind, ports};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

use crate::convert;

/// A message given up on, for one handler.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct DeadLetter(pub(crate) ports::DeadLetter);

fn errors<'py>(
    py: Python<'py>,
    records: &[ports::ErrorRecord],
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    records
        .iter()
        .map(|record| {
            let dict = PyDict::new(py);
            dict.set_item("type", &record.error_type)?;
            dict.set_item("message", &record.message)?;
            dict.set_item("trace", &record.trace)?;
            Ok(dict)
        })
        .collect()
}

#[pymethods]
impl DeadLetter {
    /// The entry's id: stays the same when the message fails again.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        convert::uuid(py, self.0.id)
    }

    /// The full name of the handler, `<app>.<handler>`.
    #[getter]
    fn handler(&self) -> &str {
        &self.0.handler
    }

    /// `command` or `event`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.as_str()
    }

    /// The message's id.
    #[getter]
    fn message_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        convert::uuid(py, self.0.message_id)
    }

    /// The message's type name.
    #[getter]
    fn r#type(&self) -> &str {
        &self.0.type_name
    }

    /// The message's topic.
    #[getter]
    fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The body as on the wire.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }

    /// Whether it can be handed to its handler again.
    #[getter]
    fn requeueable(&self) -> bool {
        self.0.requeueable
    }

    /// `retries_exhausted`, `not_retryable`, `undecodable`, `crash_limit` or `broker`.
    #[getter]
    fn reason(&self) -> &'static str {
        self.0.reason.as_str()
    }

    /// The last error and its causes, each a dict of `type`, `message` and `trace`.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        errors(py, &self.0.errors)
    }

    /// Attempts in all.
    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// When the first attempt failed, UTC.
    #[getter]
    fn first_failed_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.0.first_failed_at)
    }

    /// When the last attempt failed, UTC.
    #[getter]
    fn last_failed_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.0.last_failed_at)
    }

    /// The message's correlation id.
    #[getter]
    fn correlation_id(&self) -> &str {
        &self.0.correlation_id
    }

    /// The trace that the message belonged to.
    #[getter]
    fn trace_id(&self) -> Option<&str> {
        self.0.trace_id.as_deref()
    }

    /// `dead` or `requeued`.
    #[getter]
    fn status(&self) -> &'static str {
        self.0.status.as_str()
    }

    /// The earlier times that it was given up, oldest first.
    #[getter]
    fn history<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.0
            .history
            .iter()
            .map(|time| {
                let dict = PyDict::new(py);
                dict.set_item("reason", time.reason.as_str())?;
                dict.set_item("errors", errors(py, &time.errors)?)?;
                dict.set_item("attempts", time.attempts)?;
                for (key, text) in [
                    ("first_failed_at", &time.first_failed_at),
                    ("last_failed_at", &time.last_failed_at),
                ] {
                    let at = Timestamp::parse(text).unwrap_or_default();
                    dict.set_item(key, convert::datetime(py, at)?)?;
                }
                Ok(dict)
            })
            .collect()
    }

    fn __repr__(&self) -> String {
        let letter = &self.0;
        let kind = match letter.kind {
            MessageKind::Command => "command",
            MessageKind::Event => "event",
        };
        format!(
            "DeadLetter(id='{}', handler='{}', {kind}='{}', reason='{}', attempts={}, error={:?})",
            letter.id,
            letter.handler,
            letter.type_name,
            letter.reason.as_str(),
            letter.attempts,
            letter
                .errors
                .first()
                .map(|e| format!("{}: {}", e.error_type, e.message))
                .unwrap_or_default(),
        )
    }
}
