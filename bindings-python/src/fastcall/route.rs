//! A registered handler as the fast path sees it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pyo3::{PyTraverseError, gc::PyVisit, prelude::*, types::PyString};

/// A handler with what is needed to call it, and its slots: how many messages it may have in hand.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question that the fast path asks"
)]
pub(crate) struct Route {
    /// The user's callable.
    pub(super) handler: Py<PyAny>,
    /// The handler's name within the app.
    name: Py<PyString>,
    /// What the registration knows: options, index in the registry.
    info: Py<PyAny>,
    /// Called with this route when a slot is free and somebody waits.
    wake: Py<PyAny>,
    pub(super) is_async: bool,
    /// Whether it is asynchronous but needs no event loop: all it waits for is the core.
    pub(super) anywhere: bool,
    pub(super) inline: bool,
    pub(super) wants_metadata: bool,
    /// Whether nothing about it needs the slow path (a timeout does).
    pub(super) plain: bool,
    limit: u32,
    busy: AtomicU32,
    waiting: AtomicU32,
}

impl Route {
    /// Takes a slot if one is free and nobody waits for it.
    #[inline]
    pub(super) fn take(&self) -> bool {
        let busy = self.busy.load(Relaxed);
        if busy < self.limit && self.waiting.load(Relaxed) == 0 {
            self.busy.store(busy + 1, Relaxed);
            true
        } else {
            false
        }
    }

    /// Gives a slot back, to the first that waits if there is one.
    #[inline]
    pub(super) fn give_back(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.busy
            .store(this.busy.load(Relaxed).saturating_sub(1), Relaxed);
        if this.waiting.load(Relaxed) > 0
            && let Err(error) = this.wake.bind(slf.py()).call1((slf,))
        {
            error.write_unraisable(slf.py(), Some(slf));
        }
    }
}

#[pymethods]
impl Route {
    #[new]
    #[pyo3(signature = (*, handler, name, info, wake, is_async, anywhere, inline, wants_metadata, plain, limit))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "keyword-only, called at one place"
    )]
    fn new(
        handler: Py<PyAny>,
        name: Py<PyString>,
        info: Py<PyAny>,
        wake: Py<PyAny>,
        is_async: bool,
        anywhere: bool,
        inline: bool,
        wants_metadata: bool,
        plain: bool,
        limit: u32,
    ) -> Self {
        Self {
            handler,
            name,
            info,
            wake,
            is_async,
            anywhere,
            inline,
            wants_metadata,
            plain,
            limit,
            busy: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
        }
    }

    #[getter]
    fn handler(&self, py: Python<'_>) -> Py<PyAny> {
        self.handler.clone_ref(py)
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.name.clone_ref(py)
    }

    #[getter]
    fn info(&self, py: Python<'_>) -> Py<PyAny> {
        self.info.clone_ref(py)
    }

    #[getter]
    fn is_async(&self) -> bool {
        self.is_async
    }

    #[getter]
    fn inline(&self) -> bool {
        self.inline
    }

    #[getter]
    fn wants_metadata(&self) -> bool {
        self.wants_metadata
    }

    #[getter]
    fn busy(&self) -> u32 {
        self.busy.load(Relaxed)
    }

    /// Takes a slot if one is free and nobody waits for it.
    fn acquire(&self) -> bool {
        self.take()
    }

    /// Takes a slot for the one that has waited longest, if one is free.
    fn acquire_waiting(&self) -> bool {
        let busy = self.busy.load(Relaxed);
        let free = busy < self.limit;
        if free {
            self.busy.store(busy + 1, Relaxed);
        }
        free
    }

    /// Gives a slot back.
    fn release(slf: &Bound<'_, Self>) {
        Self::give_back(slf);
    }

    /// Says how many wait.
    fn set_waiting(&self, waiting: u32) {
        self.waiting.store(waiting, Relaxed);
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Route {}>", self.name.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handler)?;
        visit.call(&self.info)?;
        visit.call(&self.wake)
    }
}
