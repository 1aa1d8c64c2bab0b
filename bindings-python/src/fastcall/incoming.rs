//! What arrived over a broker, as the call that is being handled.

use std::ptr::null_mut;

use orkestra::{broker::Incoming, ports::TraceContext};
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use super::{
    app::App,
    call::{Call, Kind, State, call_type, clear_field, current, enter, leave, new_call},
    slot,
};
use crate::stamp::{PyStamp, Stamp};

/// Makes `message` what is being handled in this context. It has `stamp` and came as `incoming`.
pub(crate) fn handle<'py>(
    app: &Bound<'py, PyAny>,
    message: &Bound<'py, PyAny>,
    stamp: Stamp,
    is_event: bool,
    incoming: Box<Incoming>,
) -> PyResult<Bound<'py, PyAny>> {
    App::check(app)?;
    let py = app.py();
    let kind = if is_event {
        Kind::Event
    } else {
        Kind::Handling
    };
    // SAFETY: `app` is one; the new call owns its references and the box.
    unsafe {
        let call = new_call(app.as_ptr(), message.as_ptr(), null_mut(), kind);
        if call.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*call).state = State::Done;
        (*call).incoming = Box::into_raw(incoming);
        let call = Bound::from_owned_ptr(py, call.cast());
        let fields = call.as_ptr().cast::<Call>();
        if slot::is_message(message) {
            (*fields).stamp = stamp;
            slot::replace(message.as_ptr(), call.as_ptr());
        } else {
            (*fields).stamp = stamp.clone();
            slot::put(message, Bound::new(py, PyStamp::sent(stamp))?.as_any());
        }
        (*fields).stamped = true;
        if enter(fields) {
            Ok(call)
        } else {
            Err(PyErr::fetch(py))
        }
    }
}

fn fields(call: &Bound<'_, PyAny>) -> PyResult<*mut Call> {
    // SAFETY: the type is compared only.
    let is_call = unsafe { pyo3::ffi::Py_TYPE(call.as_ptr()) == call_type() };
    if is_call {
        Ok(call.as_ptr().cast())
    } else {
        Err(PyRuntimeError::new_err("expected a call"))
    }
}

fn settled() -> PyErr {
    PyRuntimeError::new_err("the message is settled already")
}

/// What is being handled, to settle it: it is not being handled any more.
pub(crate) fn take_incoming(call: &Bound<'_, PyAny>) -> PyResult<Box<Incoming>> {
    let call = fields(call)?;
    // SAFETY: it is a call, kept alive by the caller; the box is taken once.
    unsafe {
        leave(call);
        let incoming = (*call).incoming;
        (*call).incoming = null_mut();
        // The message holds the call as its stamp.
        clear_field(&raw mut (*call).message);
        if incoming.is_null() {
            return Err(settled());
        }
        Ok(Box::from_raw(incoming))
    }
}

/// Asks what is being handled.
pub(crate) fn with_incoming<T>(
    call: &Bound<'_, PyAny>,
    ask: impl FnOnce(&Incoming) -> T,
) -> PyResult<T> {
    let call = fields(call)?;
    // SAFETY: as above; `ask` runs no Python code.
    unsafe {
        let incoming = (*call).incoming;
        if incoming.is_null() {
            return Err(settled());
        }
        Ok(ask(&*incoming))
    }
}

/// The handler has recorded by itself that it has handled what the call is about. Of what came from the log nothing is to be told.
#[pyfunction]
pub(super) fn claimed(call: &Bound<'_, PyAny>) -> PyResult<()> {
    let call = fields(call)?;
    // SAFETY: as above; nobody else has the box now, as the interpreter is attached and no Python code runs.
    unsafe {
        let incoming = (*call).incoming;
        if !incoming.is_null() {
            (*incoming).claimed();
        }
    }
    Ok(())
}

/// The trace of a message that is sent now: its own, else that of what is being handled here; empty for none.
pub(super) unsafe fn trace_of(stamp: &Stamp) -> TraceContext {
    let own = stamp.trace();
    if !own.is_empty() {
        return own;
    }
    let call = current();
    if call.is_null() {
        return own;
    }
    let trace = (*call).stamp.trace();
    pyo3::ffi::Py_DECREF(call.cast());
    trace
}

/// Gives back to the broker what was never settled.
pub(super) unsafe fn drop_incoming(call: *mut Call) {
    let incoming = (*call).incoming;
    if !incoming.is_null() {
        (*call).incoming = null_mut();
        drop(Box::from_raw(incoming));
    }
}
