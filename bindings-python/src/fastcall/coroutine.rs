//! `Call` as Python sees it: the protocol of coroutines, `wait`, and what the package's slow path asks.

use std::{
    ffi::{c_int, c_void},
    ptr::{self, null_mut},
};

use orkestra::ports::TraceContext;
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError},
    ffi::{self, PyObject, PySendResult},
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use super::call::{
    Call, Kind, State, TYPE, clear_field, drop_options, enter, finish, give_back_slot, leave,
    new_call, next_event_id, set_options, settle, stamp, start, to_broker,
};
use crate::{
    convert, errors,
    fastcall::{
        app::App,
        incoming::{drop_incoming, trace_of},
        options::Options,
        slot,
        symbols::symbols,
    },
    metadata::Metadata,
    runtime,
    stamp::Stamp,
};

unsafe fn describe(py: Python<'_>, call: *mut Call) -> String {
    let verb = match (*call).kind {
        Kind::Command => "dispatch",
        Kind::Send => "send",
        Kind::Event => "publish",
        Kind::Coroutine | Kind::Handling => "",
    };
    let message = (*call).message;
    let what = if message.is_null() {
        String::new()
    } else {
        let message = Bound::from_borrowed_ptr(py, message);
        match message.cast::<PyString>() {
            Ok(name) => name.to_string_lossy().into_owned(),
            Err(_) => message
                .get_type()
                .qualname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    };
    match (verb.is_empty(), what.is_empty()) {
        (true, _) => what,
        (false, true) => verb.to_owned(),
        (false, false) => format!("{verb} of {what}"),
    }
}

/// Whether `call` may go on; the error is set if not.
unsafe fn may_go_on(py: Python<'_>, call: *mut Call) -> bool {
    match (*call).state {
        State::New | State::Suspended => true,
        State::Active => {
            PyValueError::new_err("coroutine already executing").restore(py);
            false
        }
        State::Done => {
            PyRuntimeError::new_err(format!(
                "cannot reuse already awaited {}",
                describe(py, call)
            ))
            .restore(py);
            false
        }
    }
}

unsafe extern "C" fn am_send(
    slf: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    let py = Python::assume_attached();
    let call = slf.cast::<Call>();
    *result = null_mut();
    let sent = match (*call).state {
        State::Suspended => {
            (*call).state = State::Active;
            ffi::PyIter_Send((*call).inner, value, result)
        }
        State::New => {
            if value != ffi::Py_None() {
                PyTypeError::new_err("can't send non-None value to a just-started coroutine")
                    .restore(py);
                return PySendResult::PYGEN_ERROR;
            }
            start(py, call, result)
        }
        _ => {
            may_go_on(py, call);
            return PySendResult::PYGEN_ERROR;
        }
    };
    settle(py, call, sent, result)
}

/// The outcome of a step as a method has to give it: what is yielded, or `StopIteration`.
unsafe fn as_method(py: Python<'_>, sent: PySendResult, result: *mut PyObject) -> *mut PyObject {
    match sent {
        PySendResult::PYGEN_NEXT => result,
        PySendResult::PYGEN_ERROR => null_mut(),
        PySendResult::PYGEN_RETURN => {
            let value = Bound::from_owned_ptr(py, result);
            PyStopIteration::new_err((value.unbind(),)).restore(py);
            null_mut()
        }
    }
}

unsafe extern "C" fn iternext(slf: *mut PyObject) -> *mut PyObject {
    let mut result = null_mut();
    let sent = am_send(slf, ffi::Py_None(), &raw mut result);
    if sent == PySendResult::PYGEN_RETURN && result == ffi::Py_None() {
        ffi::Py_DECREF(result);
        return null_mut();
    }
    as_method(Python::assume_attached(), sent, result)
}

unsafe extern "C" fn am_await(slf: *mut PyObject) -> *mut PyObject {
    let call = slf.cast::<Call>();
    if (*call).state == State::New {
        ffi::Py_INCREF(slf);
        return slf;
    }
    let py = Python::assume_attached();
    if may_go_on(py, call) {
        PyRuntimeError::new_err(format!("{} is being awaited already", describe(py, call)))
            .restore(py);
    }
    null_mut()
}

unsafe extern "C" fn iter(slf: *mut PyObject) -> *mut PyObject {
    ffi::Py_INCREF(slf);
    slf
}

unsafe extern "C" fn method_send(slf: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    let mut result = null_mut();
    let sent = am_send(slf, value, &raw mut result);
    as_method(Python::assume_attached(), sent, result)
}

unsafe extern "C" fn method_throw(slf: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    let call = slf.cast::<Call>();
    if !may_go_on(py, call) {
        return null_mut();
    }
    let args = Bound::from_borrowed_ptr(py, args).cast_into_unchecked::<PyTuple>();
    let mut result = null_mut();
    if (*call).state == State::New {
        // As a coroutine that never ran: it ends with the exception.
        finish(py, call);
        let raise = py
            .import("orkestra._raise")
            .and_then(|module| module.getattr("throw"))
            .and_then(|throw| throw.call1(&args));
        if let Err(error) = raise {
            error.restore(py);
        }
        return null_mut();
    }
    (*call).state = State::Active;
    let inner = Bound::from_borrowed_ptr(py, (*call).inner);
    let sent = match inner.call_method1("throw", &args) {
        Ok(value) => {
            result = value.into_ptr();
            PySendResult::PYGEN_NEXT
        }
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            match error.value(py).getattr("value") {
                Ok(value) => {
                    result = value.into_ptr();
                    PySendResult::PYGEN_RETURN
                }
                Err(error) => {
                    error.restore(py);
                    PySendResult::PYGEN_ERROR
                }
            }
        }
        Err(error) => {
            error.restore(py);
            PySendResult::PYGEN_ERROR
        }
    };
    let sent = settle(py, call, sent, &raw mut result);
    as_method(py, sent, result)
}

unsafe extern "C" fn method_close(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    let call = slf.cast::<Call>();
    match (*call).state {
        State::Active => {
            may_go_on(py, call);
            return null_mut();
        }
        State::Done => {}
        State::New | State::Suspended => {
            if let Err(error) = close(py, call) {
                error.restore(py);
                return null_mut();
            }
        }
    }
    ffi::Py_INCREF(ffi::Py_None());
    ffi::Py_None()
}

unsafe fn close(py: Python<'_>, call: *mut Call) -> PyResult<()> {
    let inner = (*call).inner;
    let closed = if inner.is_null() {
        Ok(())
    } else {
        (*call).state = State::Active;
        Bound::from_borrowed_ptr(py, inner)
            .call_method0("close")
            .map(drop)
    };
    finish(py, call);
    closed
}

/// `wait(timeout=None)`: the result, for code without an event loop.
unsafe extern "C" fn method_wait(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    let py = Python::assume_attached();
    let call = slf.cast::<Call>();
    if !may_go_on(py, call) {
        return null_mut();
    }
    let named = if names.is_null() {
        0
    } else {
        ffi::PyTuple_Size(names)
    };
    let timeout = match (count, named) {
        (0, 0) => null_mut(),
        (1, 0) => *args,
        (0, 1)
            if ffi::PyUnicode_CompareWithASCIIString(
                ffi::PyTuple_GetItem(names, 0),
                c"timeout".as_ptr(),
            ) == 0 =>
        {
            *args
        }
        _ => {
            PyTypeError::new_err("wait() takes one argument: timeout").restore(py);
            return null_mut();
        }
    };
    let timeout = if timeout == ffi::Py_None() {
        null_mut()
    } else {
        timeout
    };
    match wait(py, call, timeout) {
        Ok(value) => value,
        Err(error) => {
            if (*call).state == State::New {
                // Whoever waited has an answer: it is not that nobody asked.
                let _ = close(py, call);
            }
            error.restore(py);
            null_mut()
        }
    }
}

unsafe fn wait(py: Python<'_>, call: *mut Call, timeout: *mut PyObject) -> PyResult<*mut PyObject> {
    let symbols = symbols();
    let running = (symbols.vectorcall)(symbols.running_loop, ptr::null(), 0, null_mut());
    if running.is_null() {
        return Err(PyErr::fetch(py));
    }
    ffi::Py_DECREF(running);
    if running != ffi::Py_None() {
        let what = describe(py, call);
        let _ = close(py, call);
        return Err(errors::wait_in_loop(&what));
    }
    if (*call).state != State::New {
        return Err(PyRuntimeError::new_err(format!(
            "{} is being awaited already",
            describe(py, call)
        )));
    }
    let timeout = (!timeout.is_null()).then(|| Bound::from_borrowed_ptr(py, timeout));
    if needs_loop(py, call) {
        let slf = Bound::from_borrowed_ptr(py, call.cast());
        let app = Bound::from_borrowed_ptr(py, (*call).app);
        return Ok(app
            .call_method1("_wait_on_loop", (slf, timeout))?
            .into_ptr());
    }
    (*call).blocking = true;
    let seconds = timeout
        .map(|timeout| convert::seconds(&timeout, "timeout"))
        .transpose()?;
    let deadline = runtime::Deadline::begin(seconds);
    let mut result = null_mut();
    let sent = am_send(call.cast(), ffi::Py_None(), &raw mut result);
    drop(deadline);
    match sent {
        PySendResult::PYGEN_RETURN => Ok(result),
        PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        PySendResult::PYGEN_NEXT => {
            ffi::Py_XDECREF(result);
            let _ = close(py, call);
            Err(PyRuntimeError::new_err(
                "a handler called from wait() waited for an event loop",
            ))
        }
    }
}

/// Whether something of the user's that is asynchronous may run in `call`.
unsafe fn needs_loop(py: Python<'_>, call: *mut Call) -> bool {
    if (*call).kind == Kind::Coroutine {
        return (*call).needs_loop;
    }
    let state = Call::state(call);
    if !state.is_usable() || !(*call).error.is_null() {
        // It is refused, which needs nothing.
        return false;
    }
    if state.has_broker {
        return !state.sends_plainly;
    }
    let waits = |route: *mut PyObject| {
        let route = Call::route(py, route);
        route.is_async && !route.anywhere
    };
    let routes = (*call).routes;
    match (*call).kind {
        Kind::Coroutine | Kind::Handling => false,
        // Nobody takes it: that is said without a loop.
        Kind::Command | Kind::Event if routes.is_null() => false,
        Kind::Send => true,
        Kind::Command => !state.plain || waits(routes),
        Kind::Event => {
            !state.plain
                || (0..ffi::PyTuple_Size(routes)).any(|i| waits(ffi::PyTuple_GetItem(routes, i)))
        }
    }
}

unsafe extern "C" fn finalize(slf: *mut PyObject) {
    let call = slf.cast::<Call>();
    if (*call).state == State::Done {
        return;
    }
    let py = Python::assume_attached();
    let earlier = PyErr::take(py);
    let unused = (*call).state == State::New && (*call).kind != Kind::Handling;
    if unused {
        let text = format!("{} was never awaited", describe(py, call));
        let category = py.get_type::<pyo3::exceptions::PyRuntimeWarning>();
        let text = std::ffi::CString::new(text).unwrap_or_default();
        if let Err(error) = PyErr::warn(py, &category, &text, 1) {
            error.write_unraisable(py, None);
        }
    }
    if (*call).kind == Kind::Handling {
        (*call).state = State::Done;
    } else if let Err(error) = close(py, call) {
        error.write_unraisable(py, None);
    }
    if let Some(error) = earlier {
        error.restore(py);
    }
}

unsafe extern "C" fn traverse(
    slf: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let call = slf.cast::<Call>();
    for object in [
        ffi::Py_TYPE(slf).cast(),
        (*call).app,
        (*call).message,
        (*call).routes,
        (*call).inner,
        (*call).token,
        (*call).held,
        (*call).error,
    ] {
        if !object.is_null() {
            let stop = visit(object, arg);
            if stop != 0 {
                return stop;
            }
        }
    }
    0
}

unsafe extern "C" fn clear(slf: *mut PyObject) -> c_int {
    let call = slf.cast::<Call>();
    clear_field(&raw mut (*call).inner);
    clear_field(&raw mut (*call).message);
    clear_field(&raw mut (*call).routes);
    clear_field(&raw mut (*call).token);
    clear_field(&raw mut (*call).held);
    clear_field(&raw mut (*call).error);
    clear_field(&raw mut (*call).app);
    0
}

unsafe extern "C" fn dealloc(slf: *mut PyObject) {
    let call = slf.cast::<Call>();
    if (*call).state != State::Done && (symbols().finalize)(slf) < 0 {
        return;
    }
    ffi::PyObject_GC_UnTrack(slf.cast());
    clear(slf);
    drop_options(call);
    drop_incoming(call);
    ptr::drop_in_place(&raw mut (*call).stamp);
    let kind = ffi::Py_TYPE(slf);
    ffi::PyObject_GC_Del(slf.cast());
    ffi::Py_DECREF(kind.cast());
}

unsafe extern "C" fn repr(slf: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    let text = format!("<Call {}>", describe(py, slf.cast()));
    PyString::new(py, &text).into_ptr()
}

unsafe extern "C" fn class_getitem(class: *mut PyObject, item: *mut PyObject) -> *mut PyObject {
    ffi::Py_GenericAlias(class, item)
}

fn new_ref(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: called with fields of live objects, or null.
    unsafe {
        let object = if object.is_null() {
            ffi::Py_None()
        } else {
            object
        };
        ffi::Py_INCREF(object);
        object
    }
}

fn give<'py, T: IntoPyObject<'py>>(py: Python<'py>, value: T) -> *mut PyObject {
    match value.into_py_any(py) {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// What the package's slow path asks of a call. The closure's pointer tells which.
#[repr(usize)]
#[derive(Clone, Copy)]
enum Attribute {
    Message = 1,
    Name,
    Id,
    Metadata,
    Stamp,
    MaxRetries,
    Timeout,
    Index,
    Nested,
    Blocking,
    Routes,
    Running,
    Awaits,
    App,
    WantsResult,
}

const ATTRIBUTES: &[(&std::ffi::CStr, Attribute)] = &[
    (c"message", Attribute::Message),
    (c"__name__", Attribute::Name),
    (c"__qualname__", Attribute::Name),
    (c"id", Attribute::Id),
    (c"metadata", Attribute::Metadata),
    (c"at", Attribute::Stamp),
    (c"max_retries", Attribute::MaxRetries),
    (c"timeout", Attribute::Timeout),
    (c"index", Attribute::Index),
    (c"nested", Attribute::Nested),
    (c"blocking", Attribute::Blocking),
    (c"routes", Attribute::Routes),
    (c"cr_running", Attribute::Running),
    (c"cr_await", Attribute::Awaits),
    (c"app", Attribute::App),
    (c"wants_result", Attribute::WantsResult),
];

unsafe extern "C" fn get(slf: *mut PyObject, which: *mut c_void) -> *mut PyObject {
    let py = Python::assume_attached();
    let call = slf.cast::<Call>();
    let options = (*call).options;
    let is = |attribute: Attribute| which as usize == attribute as usize;
    if is(Attribute::Message) {
        new_ref((*call).message)
    } else if is(Attribute::Name) {
        give(py, describe(py, call))
    } else if is(Attribute::Id) {
        convert::uuid(py, (*call).stamp.id).into_ptr()
    } else if is(Attribute::Metadata) {
        give(py, Metadata((*call).stamp.metadata()))
    } else if is(Attribute::Stamp) {
        give(py, (*call).stamp.at.as_micros())
    } else if is(Attribute::MaxRetries) {
        give(
            py,
            if options.is_null() {
                None
            } else {
                (*options).max_retries
            },
        )
    } else if is(Attribute::Timeout) {
        give(
            py,
            if options.is_null() {
                None
            } else {
                (*options).timeout
            },
        )
    } else if is(Attribute::Index) {
        give(py, (*call).count)
    } else if is(Attribute::Nested) {
        give(py, (*call).nested)
    } else if is(Attribute::Blocking) {
        give(py, (*call).blocking)
    } else if is(Attribute::Routes) {
        new_ref((*call).routes)
    } else if is(Attribute::Running) {
        give(py, (*call).state == State::Active)
    } else if is(Attribute::WantsResult) {
        give(py, (*call).kind == Kind::Command)
    } else if is(Attribute::App) {
        new_ref((*call).app)
    } else {
        new_ref((*call).inner)
    }
}

unsafe extern "C" fn method_stamp(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    match stamp(py, slf.cast()) {
        Ok(()) => new_ref(null_mut()),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

unsafe extern "C" fn method_enter(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    if enter(slf.cast()) {
        new_ref(null_mut())
    } else {
        null_mut()
    }
}

unsafe extern "C" fn method_leave(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    leave(slf.cast());
    new_ref(null_mut())
}

unsafe extern "C" fn method_release(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    give_back_slot(Python::assume_attached(), slf.cast());
    new_ref(null_mut())
}

/// `next_event_id()`: the id of the next event made while this command is handled; `None` for other calls.
unsafe extern "C" fn method_next_event_id(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let call = slf.cast::<Call>();
    if (*call).kind == Kind::Event || !(*call).stamped {
        return new_ref(null_mut());
    }
    convert::uuid(Python::assume_attached(), next_event_id(call)).into_ptr()
}

/// `reset_events()`: a new attempt makes the same events again.
unsafe extern "C" fn method_reset_events(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let call = slf.cast::<Call>();
    if (*call).kind != Kind::Event {
        (*call).count = 0;
    }
    new_ref(null_mut())
}

/// `to_broker()`: the sending of the message to the broker, to be awaited.
unsafe extern "C" fn method_to_broker(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let py = Python::assume_attached();
    match to_broker(py, slf.cast()) {
        Ok(op) => op.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// Drives `coroutine` (of the package itself) as a call named `name`.
///
/// `needs_loop` says that code of the user's that is asynchronous may run in it, so `wait` runs it on the app's loop; without that, no
/// app is needed.
#[pyfunction]
#[pyo3(signature = (app, name, coroutine, needs_loop))]
pub(super) fn wrap_coroutine<'py>(
    py: Python<'py>,
    app: Option<&Bound<'py, PyAny>>,
    name: &Bound<'py, PyString>,
    coroutine: Bound<'py, PyAny>,
    needs_loop: bool,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(app) = app {
        App::check(app)?;
    }
    // SAFETY: `app` is one or null; the new call owns its references.
    unsafe {
        let app = app.map_or(null_mut(), Bound::as_ptr);
        let call = new_call(app, name.as_ptr(), null_mut(), Kind::Coroutine);
        if call.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*call).inner = coroutine.into_ptr();
        (*call).needs_loop = needs_loop && !app.is_null();
        Ok(Bound::from_owned_ptr(py, call.cast()))
    }
}

/// A command about to be stamped and executed by the package itself, with these options.
#[pyfunction]
pub(super) fn new_command<'py>(
    app: &Bound<'py, PyAny>,
    command: &Bound<'py, PyAny>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    App::check(app)?;
    let options = Options::from_dict(options)?;
    // SAFETY: `app` is one; the new call owns its references.
    unsafe {
        let call = new_call(app.as_ptr(), command.as_ptr(), null_mut(), Kind::Handling);
        if call.is_null() {
            return Err(PyErr::fetch(app.py()));
        }
        (*call).state = State::Done;
        set_options(call, Ok(options), app.py());
        Ok(Bound::from_owned_ptr(app.py(), call.cast()))
    }
}

/// Stamps `message` as one that is sent now, with these options; gives its stamp, the retries that are wanted, and the trace it belongs to.
pub(crate) fn stamp_sending(
    app: &Bound<'_, PyAny>,
    message: &Bound<'_, PyAny>,
    options: &Bound<'_, PyDict>,
    is_event: bool,
) -> PyResult<(Stamp, Option<u32>, TraceContext)> {
    App::check(app)?;
    let py = app.py();
    let options = Options::from_dict(options)?;
    let max_retries = options.max_retries;
    let kind = if is_event { Kind::Event } else { Kind::Send };
    // SAFETY: `app` is one; the new call owns its references and is given back at the end.
    unsafe {
        let call = new_call(app.as_ptr(), message.as_ptr(), null_mut(), kind);
        if call.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*call).state = State::Done;
        set_options(call, Ok(options), py);
        let owner = Bound::from_owned_ptr(py, call.cast());
        stamp(py, call)?;
        let made = (*call).stamp.clone();
        let trace = trace_of(&made);
        drop(owner);
        Ok((made, max_retries, trace))
    }
}

/// A handling without a sender: of a recorded event, or of a message that comes back from the dead letters.
///
/// `message` has a stamp, which is copied.
#[pyfunction]
pub(super) fn new_handling<'py>(
    app: &Bound<'py, PyAny>,
    message: &Bound<'py, PyAny>,
    is_event: bool,
) -> PyResult<Bound<'py, PyAny>> {
    App::check(app)?;
    let stamp = slot::stamp_of(message);
    // SAFETY: as above.
    unsafe {
        let kind = if is_event {
            Kind::Event
        } else {
            Kind::Handling
        };
        let call = new_call(app.as_ptr(), message.as_ptr(), null_mut(), kind);
        if call.is_null() {
            return Err(PyErr::fetch(app.py()));
        }
        (*call).state = State::Done;
        if let Some(stamp) = stamp {
            (*call).stamp = stamp;
            (*call).stamped = true;
        }
        Ok(Bound::from_owned_ptr(app.py(), call.cast()))
    }
}

/// Makes the type and registers it as a coroutine.
pub(super) fn make_type(py: Python<'_>) -> PyResult<()> {
    let plain = |name: &'static std::ffi::CStr,
                 function: ffi::PyCFunction,
                 flags,
                 doc: &'static std::ffi::CStr| ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    };
    let methods = vec![
        plain(
            c"send",
            method_send,
            ffi::METH_O,
            c"Goes on with a value, as a coroutine does.",
        ),
        plain(
            c"throw",
            method_throw,
            ffi::METH_VARARGS,
            c"Goes on with an exception, as a coroutine does.",
        ),
        plain(c"close", method_close, ffi::METH_NOARGS, c"Gives up."),
        ffi::PyMethodDef {
            ml_name: c"wait".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: method_wait,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc:
                c"wait($self, /, timeout=None)\n--\n\nThe result, for code without an event loop."
                    .as_ptr(),
        },
        plain(
            c"stamp",
            method_stamp,
            ffi::METH_NOARGS,
            c"Gives the message its id and metadata.",
        ),
        plain(
            c"enter",
            method_enter,
            ffi::METH_NOARGS,
            c"Makes this what is being handled.",
        ),
        plain(c"leave", method_leave, ffi::METH_NOARGS, c"Undoes enter()."),
        plain(
            c"release",
            method_release,
            ffi::METH_NOARGS,
            c"Gives the handler's slot back.",
        ),
        plain(
            c"next_event_id",
            method_next_event_id,
            ffi::METH_NOARGS,
            c"The id of the next event made here.",
        ),
        plain(
            c"reset_events",
            method_reset_events,
            ffi::METH_NOARGS,
            c"Counts events from 0 again.",
        ),
        plain(
            c"to_broker",
            method_to_broker,
            ffi::METH_NOARGS,
            c"The sending of the message to the broker, to be awaited.",
        ),
        plain(
            c"__class_getitem__",
            class_getitem,
            ffi::METH_O | ffi::METH_CLASS,
            c"See PEP 585.",
        ),
        // SAFETY: all zero is the end mark.
        unsafe { std::mem::zeroed() },
    ];
    let mut attributes: Vec<ffi::PyGetSetDef> = ATTRIBUTES
        .iter()
        .map(|(name, which)| ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get),
            set: None,
            doc: ptr::null(),
            closure: *which as usize as *mut c_void,
        })
        .collect();
    // SAFETY: all zero is the end mark.
    attributes.push(unsafe { std::mem::zeroed() });
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut slots = vec![
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_iter, iter as *mut c_void),
        slot(ffi::Py_tp_iternext, iternext as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_am_await, am_await as *mut c_void),
        slot(ffi::Py_am_send, am_send as *mut c_void),
        slot(ffi::Py_tp_methods, methods.leak().as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, attributes.leak().as_mut_ptr().cast()),
        slot(
            ffi::Py_tp_doc,
            c"Something to await, or to wait() for.".as_ptr() as *mut c_void,
        ),
        slot(0, null_mut()),
    ];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "a small struct"
    )]
    let mut spec = ffi::PyType_Spec {
        name: c"orkestra._orkestra.Call".as_ptr(),
        basicsize: size_of::<Call>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: what the specification points to is leaked or static; the slots are copied.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    py.import("collections.abc")?
        .getattr("Coroutine")?
        .call_method1("register", (&made,))?;
    let _ = TYPE.set(made.into_ptr() as usize);
    Ok(())
}
