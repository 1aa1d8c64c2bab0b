//! `Retention`: letting go of what is old.

use std::{path::PathBuf, time::Duration};

use orkestra::{
    ports::StreamPattern,
    retention::{PurgeStreams, Retention as CoreRetention},
};
use pyo3::{IntoPyObjectExt, exceptions::PyValueError, prelude::*};

use crate::{errors, runtime::Op, store::Services};

/// Lets go of what is old, step by step.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Retention(CoreRetention);

fn age(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("older_than: expected 0 or more, found {seconds}"))
    })
}

#[pymethods]
impl Retention {
    #[new]
    fn new(services: &Services) -> Self {
        Self(services.core.retention())
    }

    /// Archives and deletes idle streams: streams and events gone, streams that went on, and those that have hidden events.
    #[pyo3(signature = (older_than, streams, archive))]
    fn purge_streams(
        &self,
        older_than: f64,
        streams: &str,
        archive: Option<PathBuf>,
    ) -> PyResult<Op> {
        let pattern = StreamPattern::new(streams).map_err(|error| errors::raise(&error))?;
        let mut options = PurgeStreams::new(age(older_than)?).streams(pattern);
        options.archive = archive;
        let core = self.0.clone();
        Ok(Op::new(
            async move { core.purge_streams(options).await },
            |py, done| (done.streams, done.events, done.went_on, done.hidden).into_py_any(py),
        ))
    }

    /// Removes dead letters, of one handler alone if it is given.
    #[pyo3(signature = (older_than, handler))]
    fn purge_dead_letters(&self, older_than: f64, handler: Option<String>) -> PyResult<Op> {
        let (core, age) = (self.0.clone(), age(older_than)?);
        Ok(Op::value(async move {
            Ok(core.purge_dead_letters(age, handler.as_deref()).await?)
        }))
    }

    /// Removes messages that have not left.
    fn purge_outbox(&self, older_than: f64) -> PyResult<Op> {
        let (core, age) = (self.0.clone(), age(older_than)?);
        Ok(Op::value(async move { Ok(core.purge_outbox(age).await?) }))
    }

    /// Forgets what was handled.
    fn purge_inbox(&self, older_than: f64) -> PyResult<Op> {
        let (core, age) = (self.0.clone(), age(older_than)?);
        Ok(Op::value(async move { Ok(core.purge_inbox(age).await?) }))
    }
}
