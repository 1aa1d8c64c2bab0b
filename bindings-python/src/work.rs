//! `Work`: what becomes of a projection's batch, stepped by Python.

use std::time::Duration;

use orkestra::{
    delivery::Addressed,
    message::{MessageKind, wire},
    ports::DeadLetterReason,
    projection::{Step, Work},
    subscription::Poison,
};
use parking_lot::Mutex;
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
};

use crate::{
    dead_letters::DeadLetter,
    recorded::Page,
    retry::{Errors, PyRetryPolicy, records},
    time::{PyClock, PyIds},
};

/// A batch on its way into a view.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Work")]
#[derive(Debug)]
pub(crate) struct PyWork(Mutex<Work>);

fn poison(word: &str) -> PyResult<Poison> {
    match word {
        "park" => Ok(Poison::Park),
        "skip" => Ok(Poison::Skip),
        "stop" => Ok(Poison::Stop),
        other => Err(PyValueError::new_err(format!("no poison policy {other}"))),
    }
}

fn poison_word(poison: Poison) -> &'static str {
    match poison {
        Poison::Park => "park",
        Poison::Skip => "skip",
        Poison::Stop => "stop",
    }
}

#[pymethods]
impl PyWork {
    #[new]
    fn new(page: &Page, policy: &PyRetryPolicy, poison: &str) -> PyResult<Self> {
        let positions = page.events().iter().map(|event| event.position);
        let end = page.last.map(orkestra::ports::Position);
        let work = Work::new(positions, end, &policy.0, self::poison(poison)?);
        Ok(Self(Mutex::new(work)))
    }

    /// What to do now: `("handle", first, end, position)`, `("wait", seconds)`, `("give_up", event, poison, reason, position)` or `("done",)`.
    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.0.lock().step() {
            Step::Handle { events, position } => {
                ("handle", events.start, events.end, position.map(|p| p.0)).into_py_any(py)
            }
            Step::Wait { after } => ("wait", after.as_secs_f64()).into_py_any(py),
            Step::GiveUp {
                event,
                poison,
                reason,
                position,
            } => {
                let position = position.map(|p| p.0);
                (
                    "give_up",
                    event,
                    poison_word(poison),
                    reason.as_str(),
                    position,
                )
                    .into_py_any(py)
            }
            Step::Done => ("done",).into_py_any(py),
        }
    }

    /// The 1-based number of the attempt.
    #[getter]
    fn attempt(&self) -> u32 {
        self.0.lock().attempt()
    }

    /// The events at hand are in the view.
    fn succeeded(&self) {
        self.0.lock().succeeded();
    }

    /// The handler failed with an error of these types.
    fn failed(&self, error_types: Vec<String>, errors: Errors, clock: &PyClock, ids: &PyIds) {
        let (now, draw) = (clock.0.now(), ids.0.draw());
        self.0
            .lock()
            .failed(&error_types, records(errors), now, draw);
    }

    /// Something was away that the handler needs and that comes back.
    fn away(&self, errors: Errors, clock: &PyClock, ids: &PyIds) {
        let (now, draw) = (clock.0.now(), ids.0.draw());
        self.0.lock().away(records(errors), now, draw);
    }

    /// The handler wants to be called again after `seconds`.
    fn retry_after(&self, seconds: f64, errors: Errors, clock: &PyClock) {
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.0
            .lock()
            .retry_after(delay, records(errors), clock.0.now());
    }

    /// The handler refused.
    fn rejected(&self) {
        self.0.lock().rejected();
    }

    /// The wait is over.
    fn waited(&self) {
        self.0.lock().waited();
    }

    /// The event at hand is parked or skipped.
    fn given_up(&self) {
        self.0.lock().given_up();
    }

    /// The dead letter of the event at `index` of the page.
    #[pyo3(signature = (page, index, *, reason, handler, topic, clock, ids))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called at one place"
    )]
    fn dead_letter(
        &self,
        page: &Page,
        index: usize,
        reason: &str,
        handler: String,
        topic: String,
        clock: &PyClock,
        ids: &PyIds,
    ) -> PyResult<DeadLetter> {
        let recorded = page
            .events()
            .get(index)
            .ok_or_else(|| PyIndexError::new_err(index))?;
        let reason = DeadLetterReason::parse(reason)
            .ok_or_else(|| PyValueError::new_err(format!("no reason {reason}")))?;
        let now = clock.0.now();
        let event = recorded.event().ok();
        let to = Addressed {
            id: ids.0.next_id(now),
            handler,
            kind: MessageKind::Event,
            message_id: recorded.id,
            type_name: recorded.type_name.to_string(),
            topic,
            correlation_id: event
                .as_ref()
                .map(|event| event.metadata.correlation_id.to_string())
                .unwrap_or_default(),
            body: event.and_then(|event| wire::encode_event(&event).ok()),
            trace_id: recorded.trace().trace_id(),
        };
        Ok(DeadLetter(self.0.lock().dead_letter(reason, to, now)))
    }
}
