//! `Projection`: the core's reader of a view, stepped by Python; and the SQL of the view's checkpoint.

use std::sync::Arc;

use futures_util::lock::{Mutex, MutexGuard};
use orkestra::{
    Error,
    ports::{FencingToken, Position},
    projection::{
        Dialect, Mode, Projection, ProjectionBatch, ProjectionOptions, ViewCheckpoint, ViewRow,
        ViewSwitch, view_sql,
    },
};
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{errors, recorded::Page, registry, runtime::Op, store::Services, subscription::start};

/// What the view's database says: position and token.
type Row = (Option<u64>, u64);

fn view_row((position, token): Row) -> ViewRow {
    ViewRow {
        position: position.map(Position),
        token: FencingToken(token),
    }
}

/// The statements by which a view and its checkpoint commit together.
#[pyfunction(name = "view_sql")]
pub(crate) fn view_texts<'py>(py: Python<'py>, dialect: &str) -> PyResult<Bound<'py, PyDict>> {
    let sql = view_sql(match dialect {
        "postgres" => Dialect::Postgres,
        "sqlite" => Dialect::Sqlite,
        other => return Err(PyValueError::new_err(format!("no dialect {other}"))),
    });
    let texts = PyDict::new(py);
    texts.set_item("exists", sql.exists)?;
    texts.set_item("create", sql.create)?;
    texts.set_item("load", sql.load)?;
    texts.set_item("save", sql.save(false))?;
    texts.set_item("save_anew", sql.save(true))?;
    texts.set_item("switch_clear", sql.switch_clear)?;
    texts.set_item("switch_move", sql.switch_move)?;
    Ok(texts)
}

/// One save of a view's checkpoint.
#[pyclass(frozen, module = "orkestra._orkestra", name = "ViewCheckpoint")]
#[derive(Debug)]
pub(crate) struct PyViewCheckpoint(ViewCheckpoint);

#[pymethods]
impl PyViewCheckpoint {
    /// Name, expected position, position, token: the parameters of a save.
    fn parameters(&self) -> (&str, Option<u64>, Option<u64>, u64) {
        let save = &self.0;
        (
            &save.name,
            save.expected.map(|p| p.0),
            save.position.map(|p| p.0),
            save.token.0,
        )
    }

    /// Whether what an earlier rebuild left does not count.
    #[getter]
    fn anew(&self) -> bool {
        self.0.anew
    }

    /// Whether the table may be missing.
    #[getter]
    fn unsure(&self) -> bool {
        self.0.unsure
    }

    /// Why a save gave no row, when the view says this.
    #[pyo3(signature = (found))]
    fn refusal(&self, found: Option<Row>) -> PyErr {
        errors::raise(&self.0.refusal(found.map(view_row)))
    }
}

/// The switch from a live view to a rebuilt one.
#[pyclass(frozen, module = "orkestra._orkestra", name = "ViewSwitch")]
#[derive(Debug)]
pub(crate) struct PyViewSwitch(ViewSwitch);

#[pymethods]
impl PyViewSwitch {
    /// Live name, name of the rebuild, expected position of the rebuild, token of the live name.
    fn parameters(&self) -> (&str, &str, Option<u64>, u64) {
        let switch = &self.0;
        let expected = switch.expected.map(|p| p.0);
        (&switch.name, &switch.rebuild, expected, switch.token.0)
    }

    /// Why a move gave no row, when the view says this of the two names; `None` if there was nothing to move.
    #[pyo3(signature = (live, rebuilt))]
    fn refusal(&self, live: Option<Row>, rebuilt: Option<Row>) -> Option<PyErr> {
        let error = self.0.refusal(live.map(view_row), rebuilt.map(view_row))?;
        Some(errors::raise(&error))
    }
}

/// The reader of one view.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Projection")]
#[derive(Debug)]
pub(crate) struct PyProjection {
    core: Arc<Mutex<Projection>>,
    registry: Arc<registry::Inner>,
}

impl PyProjection {
    /// What is asked between two calls, when nobody else has it.
    fn now(&self) -> PyResult<MutexGuard<'_, Projection>> {
        self.core
            .try_lock()
            .ok_or_else(|| PyRuntimeError::new_err("the projection is in use"))
    }

    /// A batch as Python sees it: the events, and whether they are history.
    fn batch(
        py: Python<'_>,
        batch: ProjectionBatch,
        registry: Arc<registry::Inner>,
    ) -> PyResult<Py<PyAny>> {
        let last = batch.position.map(|p| p.0);
        let page = Page::new(batch.events, registry, last, batch.end);
        (page, batch.replaying).into_py_any(py)
    }
}

#[pymethods]
impl PyProjection {
    /// The reader of the live view, or of a rebuild, which may go on where an earlier one stopped.
    #[new]
    #[pyo3(signature = (services, *, name, rebuild, topics, stream_prefix, start, batch_size))]
    fn new(
        services: &Services,
        name: String,
        rebuild: Option<bool>,
        topics: Vec<String>,
        stream_prefix: Option<String>,
        start: &Bound<'_, PyAny>,
        batch_size: usize,
    ) -> PyResult<Self> {
        let registry = Arc::clone(&services.registry.0);
        let mut options = ProjectionOptions::new(registry.filter(Some(topics))?);
        options.stream_prefix = stream_prefix;
        options.start = self::start(start)?;
        options.batch_size = batch_size;
        let mode = rebuild.map_or(Mode::Live, |resume| Mode::Rebuild { resume });
        Ok(Self {
            core: Arc::new(Mutex::new(services.core.projection(name, mode, &options))),
            registry,
        })
    }

    /// `""`, or what the names of a rebuild have at their end.
    #[getter]
    fn suffix(&self) -> PyResult<&'static str> {
        Ok(self.now()?.suffix())
    }

    /// Whether the user's `prepare` has to be called before a batch is handled.
    #[getter]
    fn is_unprepared(&self) -> PyResult<bool> {
        Ok(self.now()?.is_unprepared())
    }

    /// The tables are there.
    fn prepared(&self) -> PyResult<()> {
        self.now()?.prepared();
        Ok(())
    }

    /// The checkpoint of a view that stands at `position` afterwards.
    #[pyo3(signature = (position))]
    fn checkpoint(&self, position: Option<u64>) -> PyResult<PyViewCheckpoint> {
        let checkpoint = self.now()?.checkpoint(position.map(Position));
        Ok(PyViewCheckpoint(checkpoint))
    }

    /// The handler failed.
    fn failed(&self) -> PyResult<()> {
        self.now()?.failed();
        Ok(())
    }

    /// What follows the view's place is read again.
    fn rewind(&self) -> PyResult<()> {
        self.now()?.rewind();
        Ok(())
    }

    /// Finds the place to start at.
    fn open(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.open().await?) })
    }

    /// Waits for the next batch: a page, and whether it is history.
    fn next(&self) -> Op {
        let core = Arc::clone(&self.core);
        let registry = Arc::clone(&self.registry);
        Op::new(
            async move { Ok::<_, Error>(core.lock().await.next().await?) },
            move |py, batch| Self::batch(py, batch, registry),
        )
    }

    /// The next batch, `None` when there is none now.
    fn try_next(&self) -> Op {
        let core = Arc::clone(&self.core);
        let registry = Arc::clone(&self.registry);
        Op::new(
            async move { Ok::<_, Error>(core.lock().await.try_next().await?) },
            move |py, batch| match batch {
                Some(batch) => Self::batch(py, batch, registry),
                None => Ok(py.None()),
            },
        )
    }

    /// The view's transaction is committed, with the checkpoint at `position`.
    #[pyo3(signature = (position))]
    fn saved(&self, position: Option<u64>) -> Op {
        let core = Arc::clone(&self.core);
        let position = position.map(Position);
        Op::value(async move { Ok(core.lock().await.saved(position).await?) })
    }

    /// Everything up to `position` is handled, without a transaction of the view.
    #[pyo3(signature = (position))]
    fn handled(&self, position: Option<u64>) -> Op {
        let core = Arc::clone(&self.core);
        let position = position.map(Position);
        Op::value(async move { Ok(core.lock().await.handled(position).await?) })
    }

    /// The view stands elsewhere.
    #[pyo3(signature = (row))]
    fn found(&self, row: Option<Row>) -> Op {
        let core = Arc::clone(&self.core);
        let row = row.map(view_row);
        Op::value(async move { Ok(core.lock().await.found(row).await?) })
    }

    /// Position, head, events handled, and whether it caught up.
    fn progress(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move {
            let progress = core.lock().await.progress().await?;
            let at = |position: Option<Position>| position.map(|p| p.0);
            Ok((
                at(progress.position),
                at(progress.head),
                progress.handled,
                progress.caught_up,
            ))
        })
    }

    /// Has the live view wait.
    fn pause_live(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.pause_live().await?) })
    }

    /// What the user's switch moves.
    fn switch(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::new(
            async move { core.lock().await.switch().await },
            |py, switch| PyViewSwitch(switch).into_py_any(py),
        )
    }

    /// The switch is committed.
    fn switched(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.switched().await?) })
    }

    /// The switch was rolled back.
    fn not_switched(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.not_switched().await?) })
    }

    /// Lets another process go on at once.
    fn release(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.release().await?) })
    }
}
