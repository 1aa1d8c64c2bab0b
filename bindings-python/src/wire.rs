//! The JSON on the wire, for Python: bodies of dead letters, and the vectors.

use bytes::Bytes;
use orkestra::message::{
    Command, CommandEnvelope, CommandStatus, Event, Metadata as CoreMetadata, parse_message_id,
    wire,
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::{
    convert, errors, fastcall,
    metadata::Metadata,
    stamp::{Link, PyStamp, Stamp},
    time,
};

/// Reads a body: a dict of `kind`, `type`, `id`, `payload`, `metadata` and the kind's own keys.
#[pyfunction]
#[pyo3(signature = (body, received_at=None))]
pub(crate) fn decode_envelope<'py>(
    py: Python<'py>,
    body: &[u8],
    received_at: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let received_at = match received_at {
        Some(time) => convert::timestamp(time)?,
        None => time::now_and_id().1,
    };
    let dict = PyDict::new(py);
    let put = |id, type_name: &str, payload: &[u8], metadata: CoreMetadata| -> PyResult<()> {
        dict.set_item("id", convert::uuid(py, id))?;
        dict.set_item("type", type_name)?;
        dict.set_item("payload", PyBytes::new(py, payload))?;
        dict.set_item("metadata", Bound::new(py, Metadata(metadata))?)
    };
    match wire::decode(body, received_at).map_err(|error| errors::raise(&error))? {
        wire::Decoded::Command(envelope) => {
            let command = envelope.command;
            put(
                command.id,
                &command.type_name,
                &command.params,
                command.metadata,
            )?;
            dict.set_item("kind", "command")?;
            dict.set_item("status", envelope.status.as_str())?;
            dict.set_item("attempts", envelope.attempts)?;
            dict.set_item("max_retries", envelope.max_retries)?;
        }
        wire::Decoded::Event(event) => {
            put(event.id, &event.type_name, &event.data, event.metadata)?;
            dict.set_item("kind", "event")?;
            dict.set_item("version", event.version)?;
            dict.set_item("occurred_at", convert::datetime(py, event.occurred_at)?)?;
        }
    }
    Ok(dict)
}

/// Writes the body of a command.
#[pyfunction]
#[pyo3(signature = (*, r#type, id, payload, metadata, status, attempts, max_retries))]
#[expect(clippy::too_many_arguments, reason = "keyword-only")]
pub(crate) fn encode_command<'py>(
    py: Python<'py>,
    r#type: &str,
    id: &str,
    payload: &[u8],
    metadata: &Metadata,
    status: &str,
    attempts: u32,
    max_retries: Option<u32>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut envelope = CommandEnvelope::new(Command {
        id: parse_message_id(id).map_err(|error| errors::raise(&error))?,
        type_name: r#type.into(),
        params: Bytes::copy_from_slice(payload),
        metadata: metadata.0.clone(),
    });
    envelope.status = CommandStatus::parse(status).unwrap_or_default();
    envelope.attempts = attempts;
    envelope.max_retries = max_retries;
    let body = wire::encode_command(&envelope).map_err(|error| errors::raise(&error))?;
    Ok(PyBytes::new(py, &body))
}

/// Writes the body of an event.
#[pyfunction]
#[pyo3(signature = (*, r#type, id, version, payload, metadata, occurred_at))]
pub(crate) fn encode_event<'py>(
    py: Python<'py>,
    r#type: &str,
    id: &str,
    version: u32,
    payload: &[u8],
    metadata: &Metadata,
    occurred_at: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let body = wire::encode_event(&Event {
        id: parse_message_id(id).map_err(|error| errors::raise(&error))?,
        type_name: r#type.into(),
        version,
        data: Bytes::copy_from_slice(payload),
        metadata: metadata.0.clone(),
        occurred_at: convert::timestamp(occurred_at)?,
    })
    .map_err(|error| errors::raise(&error))?;
    Ok(PyBytes::new(py, &body))
}

/// Puts id, time and metadata that came from outside on a message.
#[pyfunction]
pub(crate) fn put_stamp(
    message: &Bound<'_, PyAny>,
    id: &str,
    at: &Bound<'_, PyAny>,
    metadata: &Metadata,
) -> PyResult<()> {
    let stamp = PyStamp::sent(Stamp {
        id: parse_message_id(id).map_err(|error| errors::raise(&error))?,
        at: convert::timestamp(at)?,
        link: Link::Full(metadata.0.clone().into()),
    });
    fastcall::put_stamp(message, Bound::new(message.py(), stamp)?.as_any());
    Ok(())
}
