//! The core's errors as Python's exceptions: the one place that makes them.

use orkestra::{code::Coded, ports::ErrorRecord};
use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict};
use serde_json::Value;

use crate::convert;

static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception for `error`, of the class that its code names.
pub(crate) fn raise(error: &(impl Coded + ?Sized)) -> PyErr {
    coded(error.code(), &error.to_string(), &error.details())
}

/// The exception for a code, its message and its facts.
pub(crate) fn coded(code: &str, message: &str, details: &Value) -> PyErr {
    Python::attach(|py| {
        exception(py, code, message, details).map_or_else(|error| error, PyErr::from_value)
    })
}

fn exception<'py>(
    py: Python<'py>,
    code: &str,
    message: &str,
    details: &Value,
) -> PyResult<Bound<'py, PyAny>> {
    let build = BUILD.get_or_try_init(py, || {
        Ok::<_, PyErr>(
            py.import("orkestra.errors")?
                .getattr("from_native")?
                .unbind(),
        )
    })?;
    let facts = match details {
        Value::Object(_) => convert::json_to_py(py, details)?,
        _ => PyDict::new(py).into_any(),
    };
    build.bind(py).call1((code, message, facts))
}

/// A Python error as data, without its trace.
pub(crate) fn record(py: Python<'_>, error: &PyErr) -> ErrorRecord {
    let value = error.value(py);
    let code = value.getattr("code").and_then(|code| code.extract());
    ErrorRecord {
        error_type: code.unwrap_or_else(|_| {
            value
                .get_type()
                .qualname()
                .map(|name| name.to_string())
                .unwrap_or_default()
        }),
        message: value
            .str()
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default(),
        trace: String::new(),
    }
}

/// The error of a `wait` inside a running loop.
pub(crate) fn wait_in_loop(_what: &str) -> PyErr {
    raise(&orkestra::AppError::WaitInLoop {})
}
