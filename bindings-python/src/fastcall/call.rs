//! `Call`: what `dispatch`, `publish` and every other call returns, and the steps it takes. `coroutine` is how Python sees it.

use std::{
    ptr::{self, null_mut},
    sync::OnceLock,
    time::Duration,
};

use orkestra::{
    broker::Incoming,
    clock::{Timestamp, derive_event_id},
    message::{MessageKind, Metadata as CoreMetadata},
};
use pyo3::{
    exceptions::PyRuntimeError,
    ffi::{self, PyObject, PySendResult, PyTypeObject},
    prelude::*,
    types::PyTuple,
};
use uuid::Uuid;

use crate::{
    broker::Wish,
    envelope::EventEnvelope,
    errors,
    fastcall::{
        app::{App, AppState},
        incoming,
        options::Options,
        route::Route,
        slot,
        symbols::{ARGUMENTS_OFFSET, symbols},
    },
    metadata::Metadata,
    stamp::{Link, PyStamp, Stamp},
    time,
};

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Made, not awaited: also what zeroed memory means.
    New = 0,
    /// Waits for something.
    Suspended,
    /// Runs right now.
    Active,
    /// Over.
    Done,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Dispatches a command.
    Command = 0,
    /// Accepts a command for later.
    Send,
    /// Publishes an event.
    Event,
    /// Drives a coroutine of the package.
    Coroutine,
    /// Nothing: it only is what is being handled.
    Handling,
}

/// Who drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// This file: the handler is called directly.
    Fast = 0,
    /// A coroutine of the package.
    Slow,
    /// Nothing is left to do.
    Over,
}

/// The object. Pointers own a reference or are null.
#[repr(C)]
pub(crate) struct Call {
    pub(super) base: PyObject,
    pub(super) app: *mut PyObject,
    /// The command or event; of a coroutine its name, for messages to people.
    pub(super) message: *mut PyObject,
    /// The route of a command, a tuple of the routes of an event.
    pub(super) routes: *mut PyObject,
    /// What is being driven.
    pub(super) inner: *mut PyObject,
    /// Takes the context variable back to what it was.
    pub(super) token: *mut PyObject,
    /// The route whose slot is taken.
    pub(super) held: *mut PyObject,
    /// An error of the options, for the one who awaits.
    pub(super) error: *mut PyObject,
    pub(super) options: *mut Options,
    /// What arrived over a broker and is being handled here; null for what did not, and once it is settled.
    pub(super) incoming: *mut Incoming,
    pub(super) stamp: Stamp,
    /// Of an event: the next route. Of a command: how many events were made while it was handled.
    pub(super) count: u32,
    pub(super) state: State,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) stamped: bool,
    /// Whether something else was being handled when this began.
    pub(super) nested: bool,
    /// Whether a synchronous caller waits, in its own thread.
    pub(super) blocking: bool,
    /// Whether only an event loop can drive it.
    pub(super) needs_loop: bool,
}

pub(super) static TYPE: OnceLock<usize> = OnceLock::new();

/// The type, once the module is imported.
#[inline]
pub(super) fn call_type() -> *mut PyTypeObject {
    TYPE.get()
        .map_or(null_mut(), |address| *address as *mut PyTypeObject)
}

impl Call {
    pub(super) unsafe fn state<'a>(call: *mut Self) -> &'a AppState {
        App::state((*call).app)
    }

    pub(super) unsafe fn route<'a>(py: Python<'_>, route: *mut PyObject) -> &'a Route {
        let route: *const Route = Bound::from_borrowed_ptr(py, route)
            .cast_unchecked::<Route>()
            .get();
        &*route
    }
}

/// A new call of `app`; steals nothing.
#[inline]
pub(super) unsafe fn new_call(
    app: *mut PyObject,
    message: *mut PyObject,
    routes: *mut PyObject,
    kind: Kind,
) -> *mut Call {
    let call = ffi::PyType_GenericAlloc(call_type(), 0).cast::<Call>();
    if call.is_null() {
        return call;
    }
    // The rest is zero already, which is null, `New`, `Fast` and false.
    ptr::write(
        &raw mut (*call).stamp,
        Stamp {
            id: Uuid::nil(),
            at: Timestamp::from_micros(0),
            link: Link::Root,
        },
    );
    ffi::Py_XINCREF(app);
    ffi::Py_XINCREF(message);
    ffi::Py_XINCREF(routes);
    (*call).app = app;
    (*call).message = message;
    (*call).routes = routes;
    (*call).kind = kind;
    call
}

/// Gives `call` what the sender said.
pub(super) unsafe fn set_options(call: *mut Call, options: Result<Options, PyErr>, py: Python<'_>) {
    match options {
        Ok(options) => (*call).options = Box::into_raw(Box::new(options)),
        Err(error) => (*call).error = error.into_value(py).into_ptr(),
    }
}

pub(super) unsafe fn clear_field(field: *mut *mut PyObject) {
    let old = *field;
    if !old.is_null() {
        *field = null_mut();
        ffi::Py_DECREF(old);
    }
}

pub(super) unsafe fn drop_options(call: *mut Call) {
    let options = (*call).options;
    if !options.is_null() {
        (*call).options = null_mut();
        drop(Box::from_raw(options));
    }
}

/// What is being handled in this context, a new reference; null for nothing.
#[inline]
pub(super) unsafe fn current() -> *mut Call {
    let symbols = symbols();
    let mut value = null_mut();
    if (symbols.var_get)(symbols.handling, null_mut(), &raw mut value) != 0 {
        ffi::PyErr_Clear();
        return null_mut();
    }
    if !value.is_null() && ffi::Py_TYPE(value) != call_type() {
        ffi::Py_DECREF(value);
        return null_mut();
    }
    value.cast()
}

/// An id and a time for a message made outside of a sending: of the app that handles something now, else the machine's.
pub(super) fn current_time_and_id(py: Python<'_>) -> (Uuid, Timestamp) {
    // SAFETY: the interpreter is attached, and the call is kept until its app was asked.
    unsafe {
        let call = current();
        if call.is_null() {
            return time::now_and_id();
        }
        let call = Bound::from_owned_ptr(py, call.cast());
        let state = Call::state(call.as_ptr().cast());
        let at = state.clock.now();
        (state.ids.next_id(at), at)
    }
}

/// The stamp of `event`, a fact to record in `app`; one that has none is given one, caused by what is being handled.
pub(crate) fn stamp_fact(app: &Bound<'_, PyAny>, event: &Bound<'_, PyAny>) -> PyResult<Stamp> {
    if let Some(stamp) = slot::stamp_of(event) {
        return Ok(stamp);
    }
    App::check(app)?;
    let py = app.py();
    // SAFETY: `app` is one, and the current call is kept while it is read.
    let stamp = unsafe {
        let parent = current();
        let state = App::state(app.as_ptr());
        let at = state.clock.now();
        let mut stamp = Stamp {
            id: Uuid::nil(),
            at,
            link: Link::Root,
        };
        if !parent.is_null() && (*parent).stamped {
            stamp.link = (*parent).stamp.caused(at);
        }
        stamp.id = if !parent.is_null() && (*parent).kind != Kind::Event {
            next_event_id(parent)
        } else {
            state.ids.next_id(at)
        };
        ffi::Py_XDECREF(parent.cast());
        stamp
    };
    let made = Bound::new(py, PyStamp::sent(stamp.clone()))?;
    slot::put(event, made.as_any());
    Ok(stamp)
}

/// The id of the next event made while the command of `call` is handled.
pub(super) unsafe fn next_event_id(call: *mut Call) -> Uuid {
    let index = (*call).count;
    (*call).count += 1;
    derive_event_id((*call).stamp.id, index)
}

/// Gives the message its id, time and metadata.
pub(super) unsafe fn stamp(py: Python<'_>, call: *mut Call) -> PyResult<()> {
    if (*call).stamped {
        return Ok(());
    }
    let parent = current();
    (*call).nested = !parent.is_null();
    let result = stamp_under(py, call, parent);
    ffi::Py_XDECREF(parent.cast());
    result
}

pub(super) unsafe fn stamp_under(
    py: Python<'_>,
    call: *mut Call,
    parent: *mut Call,
) -> PyResult<()> {
    let state = Call::state(call);
    let message = (*call).message;
    let is_event = (*call).kind == Kind::Event;
    let existing = slot::content(message);
    if !existing.is_null() {
        let taken = if ffi::Py_TYPE(existing) == call_type() {
            is_event
        } else {
            Bound::from_borrowed_ptr(py, existing)
                .cast::<PyStamp>()
                .is_ok_and(|stamp| stamp.get().take_unsent() || is_event)
        };
        if taken && let Some(stamp) = slot::stamp_in(py, existing) {
            (*call).stamp = stamp.clone();
            (*call).stamped = true;
            return apply_options(call);
        }
    }
    let at = state.clock.now();
    let id = if is_event && !parent.is_null() && (*parent).kind != Kind::Event {
        next_event_id(parent)
    } else {
        state.ids.next_id(at)
    };
    (*call).stamp.id = id;
    (*call).stamp.at = at;
    if !parent.is_null() && (*parent).stamped {
        (*call).stamp.link = (*parent).stamp.caused(at);
    }
    (*call).stamped = true;
    apply_options(call)?;
    if !is_event || existing.is_null() {
        slot::replace(message, call.cast());
    }
    Ok(())
}

pub(super) unsafe fn apply_options(call: *mut Call) -> PyResult<()> {
    let options = (*call).options;
    if options.is_null() {
        return Ok(());
    }
    let options = &*options;
    let stamp = &mut (*call).stamp;
    if let Some(id) = options.id {
        // A message that is the first of its chain names the chain by its id: the link stays `Root`.
        stamp.id = id;
    }
    if let Some(metadata) = &options.metadata {
        stamp.set_metadata(CoreMetadata::clone(metadata));
    }
    if options.has_fields {
        let base = stamp.metadata();
        let resolved = options
            .fields
            .resolve(stamp.id, stamp.at, Some((&base, stamp.id)))
            .map_err(|error| errors::raise(&error))?;
        let causation_id = if options.fields.causation_id.is_some() {
            resolved.causation_id.clone()
        } else {
            base.causation_id
        };
        stamp.set_metadata(CoreMetadata {
            causation_id,
            ..resolved
        });
    }
    Ok(())
}

/// Makes `call` the thing being handled in this context.
#[inline]
pub(super) unsafe fn enter(call: *mut Call) -> bool {
    if !(*call).token.is_null() {
        return true;
    }
    let symbols = symbols();
    (*call).token = (symbols.var_set)(symbols.handling, call.cast());
    !(*call).token.is_null()
}

/// Undoes `enter`. No exception may be set.
#[inline]
pub(super) unsafe fn leave(call: *mut Call) {
    let token = (*call).token;
    if !token.is_null() {
        (*call).token = null_mut();
        let symbols = symbols();
        // In another context (a finaliser's) there is nothing to take back.
        if (symbols.var_reset)(symbols.handling, token) != 0 {
            ffi::PyErr_Clear();
        }
        ffi::Py_DECREF(token);
    }
}

#[inline]
pub(super) unsafe fn give_back_slot(py: Python<'_>, call: *mut Call) {
    let held = (*call).held;
    if !held.is_null() {
        (*call).held = null_mut();
        Route::give_back(Bound::from_borrowed_ptr(py, held).cast_unchecked::<Route>());
        ffi::Py_DECREF(held);
    }
}

#[inline]
pub(super) unsafe fn take_slot(py: Python<'_>, call: *mut Call, route: *mut PyObject) -> bool {
    let taken = Call::route(py, route).take();
    if taken {
        ffi::Py_INCREF(route);
        (*call).held = route;
    }
    taken
}

/// Ends the call: nothing of it stays but the stamp. No exception may be set.
pub(super) unsafe fn finish(py: Python<'_>, call: *mut Call) {
    leave(call);
    give_back_slot(py, call);
    (*call).state = State::Done;
    (*call).phase = Phase::Over;
    clear_field(&raw mut (*call).inner);
    clear_field(&raw mut (*call).routes);
    clear_field(&raw mut (*call).error);
    if (*call).kind != Kind::Coroutine {
        clear_field(&raw mut (*call).message);
    }
    drop_options(call);
}

/// The same while an exception is set, which stays.
pub(super) unsafe fn finish_failed(py: Python<'_>, call: *mut Call) {
    let error = PyErr::take(py);
    finish(py, call);
    if let Some(error) = error {
        error.restore(py);
    }
}

/// The handler's arguments and the call itself.
#[inline]
pub(super) unsafe fn invoke(py: Python<'_>, call: *mut Call, route: &Route) -> *mut PyObject {
    let mut args = [null_mut(), (*call).message, null_mut()];
    let vectorcall = symbols().vectorcall;
    let handler = route.handler.as_ptr();
    if !route.wants_metadata {
        return vectorcall(
            handler,
            args.as_ptr().add(1),
            1 | ARGUMENTS_OFFSET,
            null_mut(),
        );
    }
    // A `Bound`: a `Py` that is dropped in a callback of ours waits for pyo3's next one.
    match Bound::new(py, Metadata((*call).stamp.metadata())) {
        Ok(metadata) => {
            args[2] = metadata.as_ptr();
            vectorcall(
                handler,
                args.as_ptr().add(1),
                2 | ARGUMENTS_OFFSET,
                null_mut(),
            )
        }
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

#[inline]
pub(super) unsafe fn is_coroutine(object: *mut PyObject) -> bool {
    ffi::Py_TYPE(object).cast() == symbols().coroutine
}

/// Begins; the outcome of the first step goes to `result`.
pub(super) unsafe fn start(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    (*call).state = State::Active;
    if !(*call).error.is_null() {
        let error = Bound::from_borrowed_ptr(py, (*call).error);
        PyErr::from_value(error).restore(py);
        return PySendResult::PYGEN_ERROR;
    }
    if (*call).kind == Kind::Coroutine {
        return ffi::PyIter_Send((*call).inner, ffi::Py_None(), result);
    }
    let state = Call::state(call);
    if !state.is_usable() {
        return slow(py, call, "_refuse", result);
    }
    if state.has_broker {
        return start_sending(py, call, result);
    }
    let options = (*call).options;
    let plain = state.plain
        && !(*call).routes.is_null()
        && (options.is_null() || (*options).timeout.is_none());
    match (*call).kind {
        Kind::Command if plain => start_command(py, call, result),
        Kind::Event if plain => start_event(py, call, result),
        Kind::Event => slow(py, call, "_slow_publish", result),
        Kind::Send => slow(py, call, "_slow_send", result),
        _ => slow(py, call, "_slow_dispatch", result),
    }
}

/// Begins a sending over the broker.
unsafe fn start_sending(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    if !Call::state(call).sends_plainly {
        return slow(py, call, "_send_around", result);
    }
    (*call).phase = Phase::Slow;
    match to_broker(py, call) {
        Ok(op) => {
            clear_field(&raw mut (*call).inner);
            (*call).inner = op.into_ptr();
            ffi::PyIter_Send((*call).inner, ffi::Py_None(), result)
        }
        Err(error) => {
            error.restore(py);
            PySendResult::PYGEN_ERROR
        }
    }
}

/// The sending of the call's message to the broker, as something to await.
pub(super) unsafe fn to_broker(py: Python<'_>, call: *mut Call) -> PyResult<Bound<'_, PyAny>> {
    if Call::state(call).sender.is_none() {
        // Opens everything, or says why not.
        let app = Bound::from_borrowed_ptr(py, (*call).app);
        app.call_method0(pyo3::intern!(py, "_services_or_refuse"))?;
    }
    let sender = match &Call::state(call).sender {
        Some(sender) => sender.clone(),
        None => return Err(PyRuntimeError::new_err("the app has no broker")),
    };
    let message = Bound::from_borrowed_ptr(py, (*call).message);
    let kind = match (*call).kind {
        Kind::Event => MessageKind::Event,
        _ => MessageKind::Command,
    };
    let outbound = sender.outbound(&message, kind)?;
    stamp(py, call)?;
    let options = (*call).options;
    let (max_retries, timeout) = if options.is_null() {
        (None, None)
    } else {
        ((*options).max_retries, (*options).timeout)
    };
    let wish = match (*call).kind {
        Kind::Event => Wish::Published,
        Kind::Send => Wish::Accepted,
        _ => Wish::Result(timeout.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX))),
    };
    let trace = incoming::trace_of(&(*call).stamp);
    let op = sender.send(
        &message,
        &outbound,
        &(*call).stamp,
        max_retries,
        trace,
        wish,
    )?;
    Ok(Bound::new(py, op)?.into_any())
}

pub(super) unsafe fn start_command(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    let route = Call::route(py, (*call).routes);
    if !(route.plain && (route.is_async || route.inline || (*call).blocking)) {
        return slow(py, call, "_slow_dispatch", result);
    }
    if let Err(error) = stamp(py, call) {
        error.restore(py);
        return PySendResult::PYGEN_ERROR;
    }
    // What is sent while something else is handled never waits for a slot: that could wait for itself.
    if !(*call).nested && !take_slot(py, call, (*call).routes) {
        return slow(py, call, "_slow_dispatch", result);
    }
    if !enter(call) {
        return PySendResult::PYGEN_ERROR;
    }
    let value = invoke(py, call, route);
    if value.is_null() {
        return PySendResult::PYGEN_ERROR;
    }
    if is_coroutine(value) {
        (*call).inner = value;
        return ffi::PyIter_Send(value, ffi::Py_None(), result);
    }
    *result = value;
    PySendResult::PYGEN_RETURN
}

pub(super) unsafe fn start_event(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    if let Err(error) = stamp(py, call) {
        error.restore(py);
        return PySendResult::PYGEN_ERROR;
    }
    if !enter(call) {
        return PySendResult::PYGEN_ERROR;
    }
    (*call).count = 0;
    next_handler(py, call, result)
}

/// Calls the handlers from the present one on, until one waits or none is left.
pub(super) unsafe fn next_handler(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    let routes = (*call).routes;
    let count = ffi::PyTuple_Size(routes).cast_unsigned();
    loop {
        let index = (*call).count as usize;
        if index >= count {
            return envelope(py, call, result);
        }
        let pointer = ffi::PyTuple_GetItem(routes, index.cast_signed());
        let route = Call::route(py, pointer);
        if !(route.plain && (route.is_async || route.inline || (*call).blocking)) {
            return slow(py, call, "_publish_rest", result);
        }
        if !take_slot(py, call, pointer) {
            return slow(py, call, "_publish_rest", result);
        }
        let value = invoke(py, call, route);
        if value.is_null() {
            return PySendResult::PYGEN_ERROR;
        }
        if is_coroutine(value) {
            clear_field(&raw mut (*call).inner);
            (*call).inner = value;
            let sent = ffi::PyIter_Send(value, ffi::Py_None(), result);
            if sent != PySendResult::PYGEN_RETURN {
                return sent;
            }
            ffi::Py_DECREF(*result);
            *result = null_mut();
            clear_field(&raw mut (*call).inner);
        } else {
            ffi::Py_DECREF(value);
        }
        give_back_slot(py, call);
        (*call).count += 1;
    }
}

pub(super) unsafe fn envelope(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    (*call).phase = Phase::Over;
    let event = Bound::from_borrowed_ptr(py, (*call).message).unbind();
    let routes = Bound::from_borrowed_ptr(py, (*call).routes)
        .cast_into_unchecked::<PyTuple>()
        .unbind();
    match Py::new(py, EventEnvelope::handled(event, routes, (*call).stamp.at)) {
        Ok(envelope) => {
            *result = envelope.into_ptr();
            PySendResult::PYGEN_RETURN
        }
        Err(error) => {
            error.restore(py);
            PySendResult::PYGEN_ERROR
        }
    }
}

/// Hands over to the app's coroutine method `name`.
pub(super) unsafe fn slow(
    py: Python<'_>,
    call: *mut Call,
    name: &str,
    result: *mut *mut PyObject,
) -> PySendResult {
    (*call).phase = Phase::Slow;
    let app = Bound::from_borrowed_ptr(py, (*call).app);
    let made = app.call_method1(name, (Bound::from_borrowed_ptr(py, call.cast()),));
    drive_slow(py, call, made, result)
}

/// Hands over after the handler raised what is set now.
pub(super) unsafe fn slow_after(
    py: Python<'_>,
    call: *mut Call,
    result: *mut *mut PyObject,
) -> PySendResult {
    (*call).phase = Phase::Slow;
    clear_field(&raw mut (*call).inner);
    let Some(error) = PyErr::take(py) else {
        return PySendResult::PYGEN_ERROR;
    };
    let name = if (*call).kind == Kind::Event {
        "_publish_failed"
    } else {
        "_dispatch_failed"
    };
    let app = Bound::from_borrowed_ptr(py, (*call).app);
    let made = app.call_method1(
        name,
        (
            Bound::from_borrowed_ptr(py, call.cast()),
            error.into_value(py),
        ),
    );
    drive_slow(py, call, made, result)
}

pub(super) unsafe fn drive_slow(
    py: Python<'_>,
    call: *mut Call,
    made: PyResult<Bound<'_, PyAny>>,
    result: *mut *mut PyObject,
) -> PySendResult {
    match made {
        Ok(coroutine) => {
            clear_field(&raw mut (*call).inner);
            (*call).inner = coroutine.into_ptr();
            ffi::PyIter_Send((*call).inner, ffi::Py_None(), result)
        }
        Err(error) => {
            error.restore(py);
            PySendResult::PYGEN_ERROR
        }
    }
}

/// Takes the outcome of a step on: to the next handler, to the slow path, or to the end.
pub(super) unsafe fn settle(
    py: Python<'_>,
    call: *mut Call,
    mut sent: PySendResult,
    result: *mut *mut PyObject,
) -> PySendResult {
    loop {
        match sent {
            PySendResult::PYGEN_NEXT => {
                (*call).state = State::Suspended;
                return sent;
            }
            PySendResult::PYGEN_RETURN => {
                if (*call).kind == Kind::Event && (*call).phase == Phase::Fast {
                    ffi::Py_XDECREF(*result);
                    *result = null_mut();
                    clear_field(&raw mut (*call).inner);
                    give_back_slot(py, call);
                    (*call).count += 1;
                    sent = next_handler(py, call, result);
                    continue;
                }
                finish(py, call);
                return sent;
            }
            PySendResult::PYGEN_ERROR => {
                // Only a handler's own failure is retried: `KeyboardInterrupt`, `SystemExit` and a cancellation end everything.
                let handled = (*call).phase == Phase::Fast
                    && (*call).stamped
                    && !(*call).token.is_null()
                    && ffi::PyErr_ExceptionMatches(ffi::PyExc_Exception) != 0;
                if handled {
                    sent = slow_after(py, call, result);
                    continue;
                }
                finish_failed(py, call);
                return sent;
            }
        }
    }
}
