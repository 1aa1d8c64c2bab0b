//! The bus's health, the relay, and dead letters on their way back, for Python.

use orkestra::{
    message::wire,
    ports::{self, BusHealth, HandlerAddress, Outgoing, TraceContext},
};
use pyo3::{prelude::*, types::PyDict};

use crate::{errors, registry::Registry, time};

/// The bus's health as a dict.
pub(crate) fn health<'py>(py: Python<'py>, health: &BusHealth) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("connected", health.connected)?;
    dict.set_item("blocked", &health.blocked)?;
    dict.set_item("error", &health.error)?;
    let consumers = health
        .consumers
        .iter()
        .map(|consumer| {
            let dict = PyDict::new(py);
            dict.set_item("handler", &consumer.handler)?;
            dict.set_item("queue", &consumer.queue)?;
            dict.set_item("consuming", consumer.consuming)?;
            dict.set_item("error", &consumer.error)?;
            Ok(dict)
        })
        .collect::<PyResult<Vec<_>>>()?;
    dict.set_item("consumers", consumers)?;
    Ok(dict)
}

/// Where the message of a dead letter goes, and the message.
pub(crate) fn requeue_address(
    registry: &Registry,
    letter: &ports::DeadLetter,
    body: Option<bytes::Bytes>,
) -> PyResult<(HandlerAddress, Outgoing)> {
    let body = body.unwrap_or_else(|| letter.body.clone());
    let decoded =
        wire::decode(&body, time::now_and_id().1).map_err(|error| errors::raise(&error))?;
    let (id, metadata, max_retries) = match decoded {
        wire::Decoded::Command(envelope) => {
            let command = envelope.command;
            (command.id, command.metadata, envelope.max_retries)
        }
        wire::Decoded::Event(event) => (event.id, event.metadata, None),
    };
    let own = registry.0.address_of(&letter.handler);
    let address = own.unwrap_or_else(|| HandlerAddress {
        kind: letter.kind,
        topic: letter.topic.clone(),
        handler: letter.handler.clone(),
    });
    let outgoing = Outgoing {
        kind: letter.kind,
        id,
        topic: letter.topic.as_str().into(),
        correlation_id: metadata.correlation_id.to_string().into(),
        body,
        issued_at: metadata.issued_at,
        max_retries,
        trace: TraceContext::default(),
    };
    Ok((address, outgoing))
}
