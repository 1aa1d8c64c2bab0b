//! `RetryPolicy` and `Delivery`: when to try again, when to give up.

use std::time::Duration;

use bytes::Bytes;
use orkestra::{
    delivery::{Addressed, Delivery, Next},
    message::{Command, CommandEnvelope, Event, MessageKind, wire},
    ports::{DeadLetterReason, ErrorRecord},
    retry::RetryPolicy,
};
use parking_lot::Mutex;
use pyo3::{prelude::*, types::PyBytes};

use crate::{
    dead_letters::DeadLetter,
    errors, fastcall,
    time::{PyClock, PyIds},
};

/// The core's retry policy.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Policy")]
#[derive(Debug)]
pub(crate) struct PyRetryPolicy(pub(crate) RetryPolicy);

#[pymethods]
impl PyRetryPolicy {
    #[new]
    #[pyo3(signature = (*, max_retries, initial, multiplier, max_delay, jitter, retry_on, give_up_on))]
    fn new(
        max_retries: Option<u32>,
        initial: f64,
        multiplier: f64,
        max_delay: f64,
        jitter: f64,
        retry_on: Vec<String>,
        give_up_on: Vec<String>,
    ) -> PyResult<Self> {
        let policy = RetryPolicy {
            max_retries,
            initial,
            multiplier,
            max_delay,
            jitter,
            retry_on,
            give_up_on,
        };
        policy.check().map_err(|error| errors::raise(&error))?;
        Ok(Self(policy))
    }

    /// Seconds before retry `retry` (1-based) for a draw from [0, 1).
    fn delay(&self, retry: u32, draw: f64) -> f64 {
        self.0.delay(retry, draw).as_secs_f64()
    }

    /// Whether an error of these types (its own first, then its bases) may be retried.
    fn wants(&self, error_types: Vec<String>) -> bool {
        self.0.wants(&error_types)
    }
}

/// An error and its causes: type, message, trace.
pub(crate) type Errors = Vec<(String, String, String)>;

pub(crate) fn records(errors: Errors) -> Vec<ErrorRecord> {
    errors
        .into_iter()
        .map(|(error_type, message, trace)| ErrorRecord {
            error_type,
            message,
            trace,
        })
        .collect()
}

/// One message on its way to one handler.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Delivery")]
#[derive(Debug)]
pub(crate) struct PyDelivery(Mutex<Delivery>, MessageKind);

impl PyDelivery {
    pub(crate) fn of(delivery: Delivery, kind: MessageKind) -> Self {
        Self(Mutex::new(delivery), kind)
    }

    /// A copy as it stands.
    pub(crate) fn core(&self) -> Delivery {
        self.0.lock().clone()
    }
}

#[pymethods]
impl PyDelivery {
    #[new]
    #[pyo3(signature = (policy, *, command, max_retries=None))]
    fn new(policy: &PyRetryPolicy, command: bool, max_retries: Option<u32>) -> Self {
        let kind = if command {
            MessageKind::Command
        } else {
            MessageKind::Event
        };
        Self(
            Mutex::new(Delivery::new(&policy.0, kind, max_retries)),
            kind,
        )
    }

    /// Begins an attempt and returns its 1-based number.
    fn begin(&self) -> u32 {
        self.0.lock().begin()
    }

    /// Attempts so far.
    #[getter]
    fn attempts(&self) -> u32 {
        self.0.lock().attempts()
    }

    /// The attempt failed: seconds to wait before the next one, or the reason to give up.
    fn failed(
        &self,
        error_types: Vec<String>,
        errors: Errors,
        clock: &PyClock,
        ids: &PyIds,
    ) -> (Option<f64>, Option<&'static str>) {
        let next = self
            .0
            .lock()
            .failed(&error_types, records(errors), clock.0.now(), ids.0.draw());
        answer(next)
    }

    /// The handler wants to be called again after `seconds`.
    fn retry_after(
        &self,
        seconds: f64,
        errors: Errors,
        clock: &PyClock,
    ) -> (Option<f64>, Option<&'static str>) {
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        answer(
            self.0
                .lock()
                .retry_after(delay, records(errors), clock.0.now()),
        )
    }

    /// The dead letter. `payload` is the encoded one, `None` if it cannot be encoded.
    #[pyo3(signature = (*, reason, handler, message, type_name, version, topic, payload, max_retries, clock, ids))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called at one place"
    )]
    fn dead_letter(
        &self,
        reason: &str,
        handler: String,
        message: &Bound<'_, PyAny>,
        type_name: &str,
        version: u32,
        topic: String,
        payload: Option<&Bound<'_, PyBytes>>,
        max_retries: Option<u32>,
        clock: &PyClock,
        ids: &PyIds,
    ) -> PyResult<DeadLetter> {
        let now = clock.0.now();
        let stamp = fastcall::stamp_of(message)
            .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("not stamped"))?;
        let metadata = stamp.metadata();
        let correlation_id = metadata.correlation_id.to_string();
        let delivery = self.0.lock();
        let body = payload.and_then(|payload| {
            let payload = Bytes::copy_from_slice(payload.as_bytes());
            let encoded = match self.1 {
                MessageKind::Command => {
                    let mut envelope = CommandEnvelope::new(Command {
                        id: stamp.id,
                        type_name: type_name.into(),
                        params: payload,
                        metadata,
                    });
                    envelope.attempts = delivery.attempts();
                    envelope.max_retries = max_retries;
                    envelope.status = orkestra::message::CommandStatus::Failed;
                    wire::encode_command(&envelope)
                }
                MessageKind::Event => wire::encode_event(&Event {
                    id: stamp.id,
                    type_name: type_name.into(),
                    version,
                    data: payload,
                    metadata,
                    occurred_at: stamp.at,
                }),
            };
            encoded.ok()
        });
        let addressed = Addressed {
            id: ids.0.next_id(now),
            handler,
            kind: self.1,
            message_id: stamp.id,
            type_name: type_name.to_owned(),
            topic,
            body,
            correlation_id,
            trace_id: stamp.trace().trace_id(),
        };
        let reason = DeadLetterReason::parse(reason).unwrap_or(DeadLetterReason::RetriesExhausted);
        Ok(DeadLetter(delivery.dead_letter(reason, addressed, now)))
    }
}

fn answer(next: Next) -> (Option<f64>, Option<&'static str>) {
    match next {
        Next::Retry { after } => (Some(after.as_secs_f64()), None),
        Next::DeadLetter { reason } => (None, Some(reason.as_str())),
    }
}
