//! Payloads as JSON bytes: written by pydantic, checked by the core.

use bytes::Bytes;
use orkestra::{
    message::wire,
    message::{MAX_DEPTH, MessageError, PayloadLimits},
    ports::NewEvent,
};
use pyo3::{
    exceptions::PyRecursionError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyTuple, PyType},
};

use crate::{errors, fastcall};

static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

/// The payload of `message` as JSON, within the limits.
pub(crate) fn encode<'py>(
    message: &Bound<'py, PyAny>,
    type_name: &str,
    limits: PayloadLimits,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = message.py();
    let names = NAMES.get_or_try_init(py, || {
        PyTuple::new(py, ["by_alias", "round_trip"]).map(Bound::unbind)
    })?;
    let yes = true.into_pyobject(py)?.to_owned().into_any();
    let write = message
        .getattr(pyo3::intern!(py, "__pydantic_serializer__"))?
        .getattr(pyo3::intern!(py, "to_json"))?;
    let json = fastcall::call(&write, [message, &yes, &yes], Some(names.bind(py)))
        .map_err(|error| not_json(py, type_name, error))?
        .cast_into::<PyBytes>()?;
    limits
        .check(type_name, json.as_bytes())
        .map_err(|error| errors::raise(&error))?;
    Ok(json)
}

fn not_json(py: Python<'_>, type_name: &str, error: PyErr) -> PyErr {
    let reason = error.value(py).to_string();
    let too_deep =
        error.is_instance_of::<PyRecursionError>(py) || reason.contains("depth exceeded");
    let made = if too_deep {
        errors::raise(&MessageError::TooDeep {
            type_name: type_name.to_owned(),
            limit: MAX_DEPTH as u64,
        })
    } else if error.is_instance_of::<pyo3::exceptions::PyException>(py) {
        errors::raise(&MessageError::NotJson {
            type_name: type_name.to_owned(),
            path: "$".to_owned(),
            reason,
        })
    } else {
        return error;
    };
    made.set_cause(py, Some(error));
    made
}

/// `event` as a fact to append to a store of `app`; one that has no stamp is given one.
pub(crate) fn new_event(
    app: &Bound<'_, PyAny>,
    event: &Bound<'_, PyAny>,
    limits: PayloadLimits,
) -> PyResult<NewEvent> {
    let py = app.py();
    let info = event
        .getattr(pyo3::intern!(py, "__orkestra_type__"))
        .ok()
        // The class itself has it, too.
        .filter(|_| !event.is_instance_of::<PyType>())
        .filter(|info| {
            info.getattr(pyo3::intern!(py, "kind"))
                .is_ok_and(|kind| kind.eq("event").unwrap_or(false))
        })
        .ok_or_else(|| {
            errors::raise(&orkestra::ports::BusError::WrongKind {
                expected: "an event".into(),
                found: event
                    .get_type()
                    .qualname()
                    .map(|name| name.to_string())
                    .unwrap_or_default(),
            })
        })?;
    let type_name: String = info.getattr(pyo3::intern!(py, "type_name"))?.extract()?;
    let data = encode(event, &type_name, limits)?;
    let stamp = fastcall::stamp_fact(app, event)?;
    let metadata = match &stamp.link {
        crate::stamp::Link::Stored(json) => Bytes::copy_from_slice(json),
        _ => wire::encode_metadata(&stamp.metadata()),
    };
    Ok(NewEvent {
        id: stamp.id,
        type_name: type_name.into(),
        version: info.getattr(pyo3::intern!(py, "version"))?.extract()?,
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata,
        occurred_at: stamp.at,
    }
    .traced(&stamp.trace()))
}

/// The payload of `message` as JSON, at most `max_bytes` of it.
#[pyfunction]
pub(crate) fn encode_payload<'py>(
    message: &Bound<'py, PyAny>,
    max_bytes: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let type_name: String = message
        .getattr("__orkestra_type__")?
        .getattr("type_name")?
        .extract()?;
    encode(message, &type_name, PayloadLimits { max_bytes })
}
