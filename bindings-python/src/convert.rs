//! Values from one language to the other.

use orkestra::clock::{Clock, SystemClock, Timestamp};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyFloat, PyInt, PyList, PyString},
};
use serde_json::Value;
use uuid::Uuid;

/// A UUID in its canonical spelling.
pub(crate) fn uuid(py: Python<'_>, id: Uuid) -> Bound<'_, PyString> {
    let mut buffer = Uuid::encode_buffer();
    PyString::new(py, id.hyphenated().encode_lower(&mut buffer))
}

static FROM_MICROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static TO_MICROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn helper<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let function = cell.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("orkestra._times")?.getattr(name)?.unbind())
    })?;
    Ok(function.bind(py).clone())
}

/// An aware `datetime` in UTC.
pub(crate) fn datetime(py: Python<'_>, at: Timestamp) -> PyResult<Bound<'_, PyAny>> {
    helper(py, &FROM_MICROS, "from_micros")?.call1((at.as_micros(),))
}

/// The moment of an aware `datetime`.
pub(crate) fn timestamp(time: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    let micros = helper(time.py(), &TO_MICROS, "to_micros")?.call1((time,))?;
    Ok(Timestamp::from_micros(micros.extract()?))
}

/// The machine's time, for what is made outside of an app.
pub(crate) fn now() -> Timestamp {
    SystemClock::default().now()
}

/// A JSON value as Python's own.
pub(crate) fn json_to_py<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => PyInt::new(py, n).into_any(),
            (None, Some(n)) => PyInt::new(py, n).into_any(),
            _ => PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(json_to_py(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (key, item) in fields {
                dict.set_item(key, json_to_py(py, item)?)?;
            }
            dict.into_any()
        }
    })
}

/// A duration in seconds, or a `timedelta`, in seconds.
#[pyfunction]
pub(crate) fn seconds(value: &Bound<'_, PyAny>, argument: &str) -> PyResult<f64> {
    let seconds: f64 = if let Ok(method) = value.getattr("total_seconds") {
        method.call0()?.extract()?
    } else {
        value.extract().map_err(|_| {
            PyTypeError::new_err(format!("{argument}: expected seconds or a timedelta"))
        })?
    };
    if seconds.is_finite() && seconds >= 0.0 {
        Ok(seconds)
    } else {
        Err(PyValueError::new_err(format!(
            "{argument}: expected 0 or more seconds, found {seconds}"
        )))
    }
}
