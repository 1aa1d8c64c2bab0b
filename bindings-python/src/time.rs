//! Clocks and id sources, as handles that Python passes around.

use std::{sync::Arc, time::Duration};

use orkestra::clock::{
    Clock, IdSource, ManualClock as CoreManualClock, ManualIds as CoreManualIds, SystemClock,
    SystemIds, Timestamp, after_fork_in_child, derive_event_id,
};
use pyo3::{prelude::*, types::PyString};
use uuid::Uuid;

use crate::{convert, errors, runtime::Op};

/// A clock.
#[pyclass(frozen, subclass, module = "orkestra._orkestra", name = "Clock")]
#[derive(Debug)]
pub(crate) struct PyClock(pub(crate) Arc<dyn Clock>);

#[pymethods]
impl PyClock {
    /// The machine's clock.
    #[staticmethod]
    fn system() -> Self {
        Self(Arc::new(SystemClock::default()))
    }

    /// The time of day, UTC.
    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.0.now())
    }

    /// Seconds since some fixed moment.
    fn monotonic(&self) -> f64 {
        self.0.monotonic().as_secs_f64()
    }

    /// Ends after `seconds`.
    fn sleep(&self, seconds: f64) -> Op {
        let sleep = self
            .0
            .sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Op::value(async move {
            sleep.await;
            Ok(())
        })
    }
}

/// A clock that stands still until it is told to move: for tests.
#[pyclass(frozen, extends = PyClock, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct ManualClock(CoreManualClock);

#[pymethods]
impl ManualClock {
    /// A clock that shows `start`, an aware `datetime`.
    #[new]
    fn new(start: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        let clock = CoreManualClock::new(convert::timestamp(start)?);
        let base = PyClock(Arc::new(clock.clone()));
        Ok(PyClassInitializer::from(base).add_subclass(Self(clock)))
    }

    /// Moves the time on (seconds or a `timedelta`) and wakes what is due.
    fn advance(&self, py: Python<'_>, duration: &Bound<'_, PyAny>) -> PyResult<()> {
        let seconds = convert::seconds(duration, "duration")?;
        let step = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        py.detach(|| self.0.advance(step));
        Ok(())
    }

    /// Seconds until the earliest sleep ends, `None` when nothing sleeps.
    fn next_wake(&self) -> Option<f64> {
        self.0.next_wake().map(|d| d.as_secs_f64())
    }
}

/// A source of ids and random draws.
#[pyclass(frozen, subclass, module = "orkestra._orkestra", name = "Ids")]
#[derive(Debug)]
pub(crate) struct PyIds(pub(crate) Arc<dyn IdSource>);

#[pymethods]
impl PyIds {
    /// Ids from the operating system's randomness.
    #[staticmethod]
    fn system() -> Self {
        Self(Arc::new(SystemIds::default()))
    }

    /// A new id for something that happens at the time of `clock`.
    fn next_id<'py>(&self, py: Python<'py>, clock: &PyClock) -> Bound<'py, PyString> {
        convert::uuid(py, self.0.next_id(clock.0.now()))
    }

    /// A draw from [0, 1).
    fn draw(&self) -> f64 {
        self.0.draw()
    }
}

/// Ids that count 1, 2, 3, … and draws that are all the same: for tests.
#[pyclass(frozen, extends = PyIds, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct ManualIds;

#[pymethods]
impl ManualIds {
    /// Every draw is `draw`, which lies in [0, 1).
    #[new]
    #[pyo3(signature = (draw=0.5))]
    fn new(draw: f64) -> PyClassInitializer<Self> {
        let base = PyIds(Arc::new(CoreManualIds::with_draw(draw)));
        PyClassInitializer::from(base).add_subclass(Self)
    }
}

/// A time and a new id from the machine, for what is made outside of an app.
pub(crate) fn now_and_id() -> (Uuid, Timestamp) {
    static IDS: std::sync::OnceLock<SystemIds> = std::sync::OnceLock::new();
    let now = convert::now();
    (IDS.get_or_init(SystemIds::default).next_id(now), now)
}

/// A new id from the machine's clock and randomness.
#[pyfunction]
pub(crate) fn new_id(py: Python<'_>) -> Bound<'_, PyString> {
    convert::uuid(py, now_and_id().0)
}

/// `my_app` -> `MyApp`.
#[pyfunction]
pub(crate) fn camelize(name: &str) -> String {
    orkestra::topic::camelize(name)
}

/// `MyApp` -> `my_app`, for one segment.
#[pyfunction]
pub(crate) fn underscore(segment: &str) -> String {
    orkestra::topic::underscore(segment)
}

/// The id of the `index`-th event made while handling the command `command_id`.
#[pyfunction]
pub(crate) fn event_id_for<'py>(
    py: Python<'py>,
    command_id: &str,
    index: u32,
) -> PyResult<Bound<'py, PyString>> {
    let id =
        orkestra::message::parse_message_id(command_id).map_err(|error| errors::raise(&error))?;
    Ok(convert::uuid(py, derive_event_id(id, index)))
}

/// Tells the core that this process is a fresh child of a fork.
#[pyfunction]
pub(crate) fn forked() {
    after_fork_in_child();
    crate::logs::forked();
}

/// Writes microseconds since 1970 as RFC 3339.
#[pyfunction]
pub(crate) fn format_time(micros: i64) -> String {
    Timestamp::from_micros(micros).to_string()
}

/// Reads RFC 3339 as microseconds since 1970; `None` for what is no time.
#[pyfunction]
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    Timestamp::parse(text).map(Timestamp::as_micros)
}
