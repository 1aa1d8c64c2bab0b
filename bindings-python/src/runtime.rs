//! The bridge: the core's futures, awaited by Python.
//!
//! The future is polled on the thread that awaits it. If it has to wait, its waker (on a thread of the store) puts the operation's number
//! into the loop's mailbox and wakes the loop over a socket, once until the loop has emptied the mailbox; no interpreter is needed for that.
//! The loop then polls again and settles an `asyncio.Future`. Without a running loop the operation blocks, with the interpreter released.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use orkestra::{AppError, code::Coded};
use parking_lot::Mutex;
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyRuntimeError, PyStopIteration},
    prelude::*,
    sync::PyOnceLock,
    types::{PyCFunction, PyTuple},
};

use crate::{errors, time::PyClock};

type Convert = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Convert> + Send>>;

/// A call of the core that can be awaited, once.
#[pyclass(frozen, module = "orkestra._orkestra")]
pub(crate) struct Op {
    state: Mutex<State>,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Op")
    }
}

enum State {
    New(Work),
    Waiting {
        work: Work,
        waker: Waker,
        future: Py<PyAny>,
        mailbox: Arc<Mailbox>,
        ticket: u64,
    },
    Ready(Convert),
    Done,
}

impl Op {
    /// The doorway: `future` runs without the interpreter, `convert` makes its result Python's, errors become exceptions.
    pub(crate) fn new<T, E, F, C>(future: F, convert: C) -> Self
    where
        T: Send + 'static,
        E: Coded + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        C: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        let work = async move {
            let result = future.await;
            let convert: Convert = Box::new(move |py| match result {
                Ok(value) => convert(py, value),
                Err(error) => Err(errors::raise(&error)),
            });
            convert
        };
        Self {
            state: Mutex::new(State::New(Box::pin(work))),
        }
    }

    /// The same for a result that pyo3 knows how to convert.
    pub(crate) fn value<T, F>(future: F) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = Result<T, orkestra::Error>> + Send + 'static,
    {
        Self::new(future, |py, value| value.into_py_any(py))
    }

    fn begin(slf: &Bound<'_, Self>, mut work: Work) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let Some(running) = running_loop(py)? else {
            let convert = block_on(py, work)?;
            return finished(py, convert);
        };
        let mailbox = Mailbox::of(py, &running)?;
        let ticket = mailbox.next.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(Letter {
            mailbox: Arc::clone(&mailbox),
            ticket,
        }));
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(convert) => finished(py, convert),
            Poll::Pending => {
                let future = running.call_method0(pyo3::intern!(py, "create_future"))?;
                future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
                mailbox.waiting.lock().insert(ticket, slf.clone().unbind());
                *slf.get().state.lock() = State::Waiting {
                    work,
                    waker,
                    future: future.clone().unbind(),
                    mailbox,
                    ticket,
                };
                Ok(Some(future.unbind()))
            }
        }
    }

    /// Polls again after a wake-up; the loop's thread calls it.
    fn poll_again(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let state = std::mem::replace(&mut *this.state.lock(), State::Done);
        match state {
            State::Waiting {
                mut work,
                waker,
                future,
                mailbox,
                ticket,
            } => match work.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(convert) => {
                    *this.state.lock() = State::Ready(convert);
                    let future = future.bind(py);
                    if !future
                        .call_method0(pyo3::intern!(py, "done"))?
                        .is_truthy()?
                    {
                        future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
                    }
                }
                Poll::Pending => {
                    mailbox.waiting.lock().insert(ticket, slf.clone().unbind());
                    *this.state.lock() = State::Waiting {
                        work,
                        waker,
                        future,
                        mailbox,
                        ticket,
                    };
                }
            },
            other => *this.state.lock() = other,
        }
        Ok(())
    }

    /// Drops the work.
    fn give_up(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Done);
        if let State::Waiting {
            mailbox, ticket, ..
        } = &state
        {
            let op = mailbox.waiting.lock().remove(ticket);
            drop(op);
        }
    }
}

fn finished(py: Python<'_>, convert: Convert) -> PyResult<Option<Py<PyAny>>> {
    let value = convert(py)?;
    Err(PyStopIteration::new_err((value,)))
}

#[pymethods]
impl Op {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let state = std::mem::replace(&mut *slf.get().state.lock(), State::Done);
        match state {
            State::New(work) => Self::begin(slf, work),
            State::Ready(convert) => finished(slf.py(), convert),
            waiting @ State::Waiting { .. } => {
                *slf.get().state.lock() = waiting;
                Err(PyRuntimeError::new_err("a call is awaited twice"))
            }
            State::Done => Err(PyRuntimeError::new_err("a call is awaited twice")),
        }
    }

    fn send(slf: &Bound<'_, Self>, _value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (*args))]
    fn throw(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        slf.get().give_up();
        let py = slf.py();
        py.import("orkestra._raise")?
            .getattr("throw")?
            .call1(args)?;
        Ok(())
    }

    fn close(&self) {
        self.give_up();
    }
}

static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let get = RUNNING.get_or_try_init(py, || {
        Ok::<_, PyErr>(
            py.import("asyncio.events")?
                .getattr("_get_running_loop")?
                .unbind(),
        )
    })?;
    let running = get.bind(py).call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// What is woken of one loop.
struct Mailbox {
    letters: Mutex<Vec<u64>>,
    rung: AtomicBool,
    bell: Bell,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Py<Op>>>,
}

struct Letter {
    mailbox: Arc<Mailbox>,
    ticket: u64,
}

impl Wake for Letter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mailbox.letters.lock().push(self.ticket);
        if !self.mailbox.rung.swap(true, Ordering::AcqRel) {
            self.mailbox.bell.ring();
        }
    }
}

/// How a loop is woken from another thread.
enum Bell {
    #[cfg(unix)]
    Socket {
        ringing: std::os::unix::net::UnixStream,
        listening: std::os::unix::net::UnixStream,
    },
    /// Where a loop cannot watch a socket: a weak reference to it, and what it is to call.
    Threadsafe {
        running: Py<PyAny>,
        drain: Mutex<Option<Py<PyAny>>>,
    },
}

impl Bell {
    fn ring(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket { ringing, .. } => {
                use std::io::Write;
                // A full socket rings already; a closed one has nobody to wake.
                let _ = (&*ringing).write(&[1]);
            }
            Self::Threadsafe { running, drain } => Python::attach(|py| {
                let running = running.bind(py).call0();
                if let (Ok(running), Some(drain)) = (running, drain.lock().as_ref())
                    && !running.is_none()
                {
                    // A closed loop has nobody waiting.
                    let _ = running.call_method1("call_soon_threadsafe", (drain,));
                }
            }),
        }
    }

    fn hush(&self) {
        #[cfg(unix)]
        if let Self::Socket { listening, .. } = self {
            use std::io::Read;
            let mut buffer = [0_u8; 64];
            let _ = (&*listening).read(&mut buffer);
        }
    }
}

/// A mailbox as Python keeps it, as long as its loop lives.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Mailbox")]
struct PyMailbox(Arc<Mailbox>);

static MAILBOXES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl Mailbox {
    fn of(py: Python<'_>, running: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let all = MAILBOXES
            .get_or_try_init(py, || {
                Ok::<_, PyErr>(
                    py.import("weakref")?
                        .getattr("WeakKeyDictionary")?
                        .call0()?
                        .unbind(),
                )
            })?
            .bind(py);
        let found = all.call_method1(pyo3::intern!(py, "get"), (running,))?;
        if let Ok(found) = found.cast::<PyMailbox>() {
            return Ok(Arc::clone(&found.get().0));
        }
        let mailbox = Self::open(py, running)?;
        all.set_item(running, Py::new(py, PyMailbox(Arc::clone(&mailbox)))?)?;
        Ok(mailbox)
    }

    fn open(py: Python<'_>, running: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        #[cfg(unix)]
        {
            use std::os::{fd::AsRawFd, unix::net::UnixStream};
            let (ringing, listening) = UnixStream::pair()?;
            ringing.set_nonblocking(true)?;
            listening.set_nonblocking(true)?;
            let fd = listening.as_raw_fd();
            let mailbox = Self::with(Bell::Socket { ringing, listening });
            let added = running.call_method1("add_reader", (fd, Self::drainer(py, &mailbox)?));
            if added.is_ok() {
                return Ok(mailbox);
            }
        }
        let weak = py.import("weakref")?.getattr("ref")?.call1((running,))?;
        let mailbox = Self::with(Bell::Threadsafe {
            running: weak.unbind(),
            drain: Mutex::new(None),
        });
        if let Bell::Threadsafe { drain, .. } = &mailbox.bell {
            *drain.lock() = Some(Self::drainer(py, &mailbox)?.into_any().unbind());
        }
        Ok(mailbox)
    }

    fn with(bell: Bell) -> Arc<Self> {
        Arc::new(Self {
            letters: Mutex::default(),
            rung: AtomicBool::new(false),
            bell,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        })
    }

    fn drainer<'py>(py: Python<'py>, mailbox: &Arc<Self>) -> PyResult<Bound<'py, PyCFunction>> {
        let weak = Arc::downgrade(mailbox);
        PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            let py = args.py();
            let Some(mailbox) = weak.upgrade() else {
                return Ok(());
            };
            mailbox.drain(py)
        })
    }

    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.bell.hush();
        // Cleared before the letters are taken: what comes after rings again.
        self.rung.store(false, Ordering::Release);
        let letters = std::mem::take(&mut *self.letters.lock());
        for ticket in letters {
            let op = self.waiting.lock().remove(&ticket);
            if let Some(op) = op {
                Op::poll_again(op.bind(py))?;
            }
        }
        Ok(())
    }
}

thread_local! {
    static DEADLINE: Cell<Option<(Instant, f64)>> = const { Cell::new(None) };
}

/// The limit of the blocking wait of this thread, as long as this lives.
#[derive(Debug)]
pub(crate) struct Deadline(Option<(Instant, f64)>);

impl Deadline {
    /// Sets a limit of so many seconds from now; `None` keeps the limit around it.
    pub(crate) fn begin(seconds: Option<f64>) -> Self {
        let outer = DEADLINE.get();
        if let Some(seconds) = seconds {
            let limit = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let own = now().checked_add(limit).map(|at| (at, seconds));
            if outer.is_none_or(|outer| own.is_some_and(|own| own.0 < outer.0)) {
                DEADLINE.set(own);
            }
        }
        Self(outer)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the limit of a real wait of a real thread"
    )]
    Instant::now()
}

/// Wakes a thread that waits for one future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// How often a blocked main thread looks for signals such as Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

fn block_on(py: Python<'_>, mut work: Work) -> PyResult<Convert> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let deadline = DEADLINE.get();
    loop {
        let waited = py.detach(|| {
            let mut cx = Context::from_waker(&waker);
            let look_up = now() + SIGNALS_EVERY;
            loop {
                if let Poll::Ready(convert) = work.as_mut().poll(&mut cx) {
                    return Some(convert);
                }
                let until = deadline.map_or(look_up, |(at, _)| at.min(look_up));
                let left = until.saturating_duration_since(now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        });
        if let Some(convert) = waited {
            return Ok(convert);
        }
        py.check_signals()?;
        if let Some((at, seconds)) = deadline
            && now() >= at
        {
            return Err(errors::raise(&AppError::WaitTimeout { seconds }));
        }
    }
}

/// Waits for `future` on this thread, which is one that nothing else needs and that holds no interpreter.
pub(crate) fn park_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
        thread::park();
    }
}

/// Something to wait for until somebody opens it.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug, Default, Clone)]
pub(crate) struct Gate(Arc<Mutex<Waiting>>);

/// Those before a gate.
#[derive(Debug, Default)]
struct Waiting {
    open: bool,
    next: u64,
    wakers: HashMap<u64, Waker>,
}

/// Who waits at a gate, and is forgotten by it when this goes.
struct Opened {
    gate: Arc<Mutex<Waiting>>,
    ticket: Option<u64>,
}

impl Future for Opened {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { gate, ticket } = self.get_mut();
        let mut gate = gate.lock();
        if gate.open {
            return Poll::Ready(());
        }
        let ticket = *ticket.get_or_insert_with(|| {
            gate.next += 1;
            gate.next
        });
        gate.wakers.insert(ticket, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.lock().wakers.remove(&ticket);
        }
    }
}

impl Gate {
    pub(crate) fn opened(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        Opened {
            gate: Arc::clone(&self.0),
            ticket: None,
        }
    }
}

#[pymethods]
impl Gate {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Whether it is open.
    #[getter]
    fn is_open(&self) -> bool {
        self.0.lock().open
    }

    /// Lets everybody through.
    pub(crate) fn open(&self) {
        let waiting = {
            let mut gate = self.0.lock();
            gate.open = true;
            std::mem::take(&mut gate.wakers)
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Until it is open.
    fn wait(&self) -> Op {
        let opened = self.opened();
        Op::value(async move {
            opened.await;
            Ok(())
        })
    }
}

/// Until `seconds` of `clock` are over or `gate` is open.
#[pyfunction]
pub(crate) fn either(clock: &PyClock, seconds: f64, gate: &Gate) -> Op {
    let sleep = clock
        .0
        .sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let opened = gate.opened();
    Op::value(async move {
        futures_util::future::select(sleep, opened).await;
        Ok(())
    })
}
