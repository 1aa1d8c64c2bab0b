//! `AppCore`: the native base of `orkestra.Orkestra`, with `dispatch`, `send` and `publish`.

use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    hash::{BuildHasherDefault, Hasher},
    ptr::null_mut,
    sync::{Arc, OnceLock},
};

use orkestra::clock::{Clock, IdSource, SystemClock, SystemIds, Timestamp, fork_count};
use pyo3::{
    exceptions::PyTypeError,
    ffi::{self, PyObject, PyTypeObject},
    prelude::*,
    types::{PyTuple, PyType},
};

use crate::{
    broker::Sender,
    fastcall::{
        call::{self, Kind},
        options::Options,
        route::Route,
    },
    store::Services,
    time::{PyClock, PyIds},
};

/// Types are found by their address, which is a good hash but for its low bits.
#[derive(Debug, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type ByType<T> = HashMap<usize, T, BuildHasherDefault<AddressHasher>>;

/// What the fast path knows of an app.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question that the fast path asks"
)]
pub(super) struct AppState {
    /// The class is kept alive beside its route.
    commands: ByType<(Py<PyType>, Py<Route>)>,
    events: ByType<(Py<PyType>, Py<PyTuple>)>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
    /// Nothing stands around the handlers: no middleware, no telemetry.
    pub(super) plain: bool,
    /// Whether messages go through a broker.
    pub(super) has_broker: bool,
    /// No middleware stands around sending.
    pub(super) sends_plainly: bool,
    /// What sends over the broker, once everything is open.
    pub(super) sender: Option<Sender>,
    closed: bool,
    /// The count of forks when it opened something that does not survive one.
    used_at: Option<u64>,
}

impl AppState {
    /// Whether calls are taken: it is not closed, and not the copy of a used app in a forked child.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        !self.closed && self.used_at.is_none_or(|forks| forks == fork_count())
    }
}

/// The object.
#[repr(C)]
pub(super) struct App {
    base: PyObject,
    state: *mut AppState,
}

static TYPE: OnceLock<usize> = OnceLock::new();

/// The type, once the module is imported.
#[inline]
pub(super) fn app_type() -> *mut PyTypeObject {
    TYPE.get()
        .map_or(null_mut(), |address| *address as *mut PyTypeObject)
}

impl App {
    /// The state of an object that is known to be an app.
    #[inline]
    pub(super) unsafe fn state<'a>(app: *mut PyObject) -> &'a AppState {
        &*(*app.cast::<Self>()).state
    }

    /// Refuses what is no app.
    pub(super) fn check(app: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: both are live.
        if unsafe { ffi::PyObject_TypeCheck(app.as_ptr(), app_type()) } == 0 {
            return Err(PyTypeError::new_err("expected an app"));
        }
        Ok(())
    }

    fn with<R>(app: &Bound<'_, PyAny>, f: impl FnOnce(&mut AppState) -> R) -> PyResult<R> {
        Self::check(app)?;
        // SAFETY: it is an app, the interpreter is attached, and `f` runs no Python code.
        Ok(f(unsafe { &mut *(*app.as_ptr().cast::<Self>()).state }))
    }
}

unsafe extern "C" fn new(
    class: *mut PyTypeObject,
    _args: *mut PyObject,
    _kwargs: *mut PyObject,
) -> *mut PyObject {
    let app = ffi::PyType_GenericAlloc(class, 0).cast::<App>();
    if !app.is_null() {
        (*app).state = Box::into_raw(Box::new(AppState {
            commands: HashMap::default(),
            events: HashMap::default(),
            clock: Arc::new(SystemClock::default()),
            ids: Arc::new(SystemIds::default()),
            plain: true,
            has_broker: false,
            sends_plainly: true,
            sender: None,
            closed: false,
            used_at: None,
        }));
    }
    app.cast()
}

unsafe extern "C" fn traverse(
    slf: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let mut objects = vec![ffi::Py_TYPE(slf).cast()];
    let state = (*slf.cast::<App>()).state;
    if !state.is_null() {
        for (class, route) in (*state).commands.values() {
            objects.extend([class.as_ptr(), route.as_ptr()]);
        }
        for (class, routes) in (*state).events.values() {
            objects.extend([class.as_ptr(), routes.as_ptr()]);
        }
    }
    for object in objects {
        let stop = visit(object, arg);
        if stop != 0 {
            return stop;
        }
    }
    0
}

unsafe extern "C" fn clear(slf: *mut PyObject) -> c_int {
    let state = (*slf.cast::<App>()).state;
    if !state.is_null() {
        let commands = std::mem::take(&mut (*state).commands);
        let events = std::mem::take(&mut (*state).events);
        drop((commands, events));
    }
    0
}

unsafe extern "C" fn dealloc(slf: *mut PyObject) {
    ffi::PyObject_GC_UnTrack(slf.cast());
    let app = slf.cast::<App>();
    let state = (*app).state;
    if !state.is_null() {
        (*app).state = null_mut();
        drop(Box::from_raw(state));
    }
    let kind = ffi::Py_TYPE(slf);
    ffi::PyObject_GC_Del(slf.cast());
    ffi::Py_DECREF(kind.cast());
}

#[inline]
unsafe fn make_call(
    app: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
    kind: Kind,
) -> *mut PyObject {
    if count != 1 {
        let method = method_name(kind);
        PyTypeError::new_err(format!(
            "{method}() takes 1 positional argument but {count} were given"
        ))
        .restore(Python::assume_attached());
        return null_mut();
    }
    let message = *args;
    let state = App::state(app);
    let class = ffi::Py_TYPE(message) as usize;
    let routes = match kind {
        Kind::Command => state
            .commands
            .get(&class)
            .map_or(null_mut(), |(_, route)| route.as_ptr()),
        Kind::Event => state.events.get(&class).map_or_else(
            || resolve_events(app, message),
            |(_, routes)| routes.as_ptr(),
        ),
        _ => null_mut(),
    };
    let call = call::new_call(app, message, routes, kind);
    if call.is_null() || names.is_null() {
        return call.cast();
    }
    let py = Python::assume_attached();
    match Options::parse(py, args.add(1), names, method_name(kind)) {
        Ok(options) => call::set_options(call, Ok(options), py),
        Err(Ok(later)) => call::set_options(call, Err(later), py),
        Err(Err(now)) => {
            let call = Bound::from_owned_ptr(py, call.cast());
            let _ = call.call_method0("close");
            drop(call);
            now.restore(py);
            return null_mut();
        }
    }
    call.cast()
}

/// The routes of an event class that was not published before; null for what is refused when it is awaited.
unsafe fn resolve_events(app: *mut PyObject, message: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    let bound = Bound::from_borrowed_ptr(py, app);
    let class = Bound::from_borrowed_ptr(py, message).get_type();
    let resolved = bound.call_method1("_resolve_event", (&class,));
    if resolved.is_err() {
        return null_mut();
    }
    App::state(app)
        .events
        .get(&(class.as_ptr() as usize))
        .map_or(null_mut(), |(_, routes)| routes.as_ptr())
}

fn method_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "publish",
        Kind::Send => "send",
        _ => "dispatch",
    }
}

unsafe extern "C" fn dispatch(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    make_call(slf, args, count, names, Kind::Command)
}

unsafe extern "C" fn send(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    make_call(slf, args, count, names, Kind::Send)
}

unsafe extern "C" fn publish(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    make_call(slf, args, count, names, Kind::Event)
}

/// Makes `route` the handler of the commands of `class`.
#[pyfunction]
pub(super) fn set_command_route(
    app: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
    route: &Bound<'_, Route>,
) -> PyResult<()> {
    let entry = (class.clone().unbind(), route.clone().unbind());
    let old = App::with(app, |state| {
        state.commands.insert(class.as_ptr() as usize, entry)
    })?;
    drop(old);
    Ok(())
}

/// Makes `routes` (a tuple of routes, or `None` to ask again) the handlers of the events of `class`; `class` `None` means all.
#[pyfunction]
#[pyo3(signature = (app, class, routes))]
pub(super) fn set_event_routes(
    app: &Bound<'_, PyAny>,
    class: Option<&Bound<'_, PyType>>,
    routes: Option<&Bound<'_, PyTuple>>,
) -> PyResult<()> {
    let old = App::with(app, |state| match (class, routes) {
        (Some(class), Some(routes)) => {
            let entry = (class.clone().unbind(), routes.clone().unbind());
            state
                .events
                .insert(class.as_ptr() as usize, entry)
                .into_iter()
                .collect()
        }
        _ => std::mem::take(&mut state.events)
            .into_values()
            .collect::<Vec<_>>(),
    })?;
    drop(old);
    Ok(())
}

/// Says whether nothing stands around the handlers or around sending, and whether the app is closed.
#[pyfunction]
#[pyo3(signature = (app, *, plain, sends_plainly, closed))]
pub(super) fn set_app_state(
    app: &Bound<'_, PyAny>,
    plain: bool,
    sends_plainly: bool,
    closed: bool,
) -> PyResult<()> {
    App::with(app, |state| {
        state.plain = plain;
        state.sends_plainly = sends_plainly;
        state.closed = closed;
    })
}

/// Says that messages go through a broker; `services` are what they go with, once they are open.
#[pyfunction]
#[pyo3(signature = (app, services=None))]
pub(super) fn set_broker(
    app: &Bound<'_, PyAny>,
    services: Option<&Bound<'_, Services>>,
) -> PyResult<()> {
    let sender = services.and_then(|services| services.get().sender());
    let old = App::with(app, |state| {
        state.has_broker = true;
        std::mem::replace(&mut state.sender, sender)
    })?;
    drop(old);
    Ok(())
}

/// Sets where the app's times and ids come from.
#[pyfunction]
pub(super) fn set_time_source(
    app: &Bound<'_, PyAny>,
    clock: &Bound<'_, PyClock>,
    ids: &Bound<'_, PyIds>,
) -> PyResult<()> {
    App::with(app, |state| {
        state.clock = Arc::clone(&clock.get().0);
        state.ids = Arc::clone(&ids.get().0);
    })
}

/// Says that the app has opened something that does not survive a fork. Returns whether the app may be used here.
#[pyfunction]
pub(super) fn mark_used(app: &Bound<'_, PyAny>, used: bool) -> PyResult<bool> {
    App::with(app, |state| {
        if used {
            state.used_at.get_or_insert(fork_count());
        }
        state.used_at.is_none_or(|forks| forks == fork_count())
    })
}

/// The time of the app's clock.
pub(super) fn now(app: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    App::with(app, |state| state.clock.now())
}

/// Makes the type.
pub(super) fn make_type(py: Python<'_>) -> PyResult<()> {
    let method =
        |name: &'static std::ffi::CStr, function, doc: &'static std::ffi::CStr| ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: function,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        };
    let methods = vec![
        method(
            c"dispatch",
            dispatch,
            c"Sends a command and waits for its handler's result.",
        ),
        method(c"send", send, c"Accepts a command to be handled soon."),
        method(c"publish", publish, c"Hands an event to its handlers."),
        // SAFETY: all zero is the end mark.
        unsafe { std::mem::zeroed() },
    ];
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut slots = vec![
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_methods, methods.leak().as_mut_ptr().cast()),
        slot(
            ffi::Py_tp_doc,
            c"The native part of an app.".as_ptr() as *mut c_void,
        ),
        slot(0, null_mut()),
    ];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "a small struct"
    )]
    let mut spec = ffi::PyType_Spec {
        name: c"orkestra._orkestra.AppCore".as_ptr(),
        basicsize: size_of::<App>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_BASETYPE)
            as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: what the specification points to is leaked or static; the slots are copied.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    let _ = TYPE.set(made.into_ptr() as usize);
    Ok(())
}
