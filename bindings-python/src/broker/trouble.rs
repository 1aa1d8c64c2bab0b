//! `Trouble`: what arrived and cannot be handled.

use std::{fmt, future::Future, pin::Pin};

use orkestra::{Error, ports};
use parking_lot::Mutex;
use pyo3::{IntoPyObjectExt, exceptions::PyRuntimeError, prelude::*};

use crate::{dead_letters::DeadLetter, runtime::Op};

type Burial = Pin<Box<dyn Future<Output = ports::DeadLetter> + Send>>;

/// A message that cannot be handled. Dropped, it goes back to its queue.
#[pyclass(frozen, module = "orkestra._orkestra")]
pub(crate) struct Trouble {
    text: String,
    burial: Mutex<Option<Burial>>,
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trouble({})", self.text)
    }
}

impl Trouble {
    pub(crate) fn new(
        text: String,
        burial: impl Future<Output = ports::DeadLetter> + Send + 'static,
    ) -> Self {
        Self {
            text,
            burial: Mutex::new(Some(Box::pin(burial))),
        }
    }
}

#[pymethods]
impl Trouble {
    /// What is wrong.
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    /// Records it as a dead letter; then it leaves its queue. Once.
    fn bury(&self) -> PyResult<Op> {
        let burial = self
            .burial
            .lock()
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("it is buried already"))?;
        Ok(Op::new(
            async move { Ok::<_, Error>(burial.await) },
            |py, letter| DeadLetter(letter).into_py_any(py),
        ))
    }
}
