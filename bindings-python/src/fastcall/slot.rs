//! The slot of a message: where its stamp is kept, outside of the payload and of equality.
//!
//! A stamp there is a `Stamp`, or the `Call` that sent the message. The slot is a member of Python's `__slots__`, whose offset is found
//! when the base class is made: reading an empty slot the official way raises, which costs more than the whole dispatch.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use orkestra::{clock::derive_event_id, message::MessageError};
use pyo3::{
    exceptions::PyRuntimeError,
    ffi::{self, PyObject},
    prelude::*,
    types::PyString,
};

use crate::{
    convert, errors,
    fastcall::{
        app,
        call::{self, Call},
    },
    metadata::Metadata,
    stamp::{PyStamp, Stamp},
};

static OFFSET: AtomicUsize = AtomicUsize::new(0);
static MESSAGE_TYPE: AtomicUsize = AtomicUsize::new(0);

/// Finds the slot of `base` (the common base class of all messages) with the help of `instance`, whose slot holds `marker`.
#[pyfunction]
pub(super) fn find_slot(
    base: &Bound<'_, PyAny>,
    instance: &Bound<'_, PyAny>,
    marker: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let size: usize = base.getattr("__basicsize__")?.extract()?;
    let header = size_of::<PyObject>();
    let step = size_of::<*mut PyObject>();
    for offset in (header..size).step_by(step) {
        // SAFETY: reads pointer-sized words within the object, all of which are initialised by the allocation.
        let word = unsafe { *place_at(instance.as_ptr(), offset) };
        if word == marker.as_ptr() {
            OFFSET.store(offset, Relaxed);
            MESSAGE_TYPE.store(base.as_ptr() as usize, Relaxed);
            return Ok(());
        }
    }
    Err(PyRuntimeError::new_err(
        "the slot of messages was not found",
    ))
}

#[inline]
unsafe fn place_at(object: *mut PyObject, offset: usize) -> *mut *mut PyObject {
    object.cast::<u8>().add(offset).cast()
}

/// The place of the stamp in `message`, which must be an instance of the messages' base class.
#[inline]
pub(super) unsafe fn place(message: *mut PyObject) -> *mut *mut PyObject {
    place_at(message, OFFSET.load(Relaxed))
}

/// Whether `object` is a message, so that it has the slot.
pub(crate) fn is_message(object: &Bound<'_, PyAny>) -> bool {
    let base = MESSAGE_TYPE.load(Relaxed) as *mut ffi::PyTypeObject;
    // SAFETY: the base class lives as long as the package.
    !base.is_null() && unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), base) != 0 }
}

/// Puts `stamp` on `message`, or on an object that has an attribute for it (a raw event).
pub(crate) fn put(message: &Bound<'_, PyAny>, stamp: &Bound<'_, PyAny>) {
    if is_message(message) {
        // SAFETY: it is a message, so the slot is there.
        unsafe { replace(message.as_ptr(), stamp.as_ptr()) }
    } else {
        // What has no place for a stamp goes without.
        let _ = message.setattr(pyo3::intern!(message.py(), "__orkestra_stamp__"), stamp);
    }
}

/// Puts `stamp` on `message` and gives back what was there.
#[inline]
pub(super) unsafe fn replace(message: *mut PyObject, stamp: *mut PyObject) {
    let place = place(message);
    ffi::Py_XINCREF(stamp);
    let old = *place;
    *place = stamp;
    ffi::Py_XDECREF(old);
}

/// What stands in the slot of `message`, borrowed; null when it is empty.
#[inline]
pub(super) unsafe fn content(message: *mut PyObject) -> *mut PyObject {
    let place = place(message);
    *place
}

/// The stamp that `object` is or holds.
pub(super) unsafe fn stamp_in<'a>(py: Python<'_>, object: *mut PyObject) -> Option<&'a Stamp> {
    if object.is_null() {
        None
    } else if ffi::Py_TYPE(object) == call::call_type() {
        let call = object.cast::<Call>();
        (*call).stamped.then(|| &(*call).stamp)
    } else {
        let object = Bound::from_borrowed_ptr(py, object);
        let stamp: *const Stamp = &raw const object.cast::<PyStamp>().ok()?.get().stamp;
        Some(&*stamp)
    }
}

/// A copy of the stamp of `message`, if it has one.
pub(crate) fn stamp_of(message: &Bound<'_, PyAny>) -> Option<Stamp> {
    if !is_message(message) {
        let found = message
            .getattr(pyo3::intern!(message.py(), "__orkestra_stamp__"))
            .ok()?;
        return Some(found.cast::<PyStamp>().ok()?.get().stamp.clone());
    }
    // SAFETY: it is a message, and its slot keeps the stamp alive while we copy it.
    unsafe { stamp_in(message.py(), content(message.as_ptr())).cloned() }
}

fn needed(message: &Bound<'_, PyAny>) -> PyResult<Stamp> {
    if let Some(stamp) = stamp_of(message) {
        return Ok(stamp);
    }
    let type_name = message
        .getattr("__orkestra_type__")
        .and_then(|info| info.getattr("type_name"))
        .and_then(|name| name.extract())
        .or_else(|_| message.get_type().qualname().map(|name| name.to_string()))?;
    Err(errors::raise(&MessageError::NotStamped { type_name }))
}

/// The id of a message that was sent, read or made from another one.
///
/// Raises:
///     `NotStampedError`: It was only constructed.
#[pyfunction]
pub(super) fn id_of<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    Ok(convert::uuid(message.py(), needed(message)?.id))
}

/// The metadata of a message that was sent, read or made from another one.
///
/// Raises:
///     `NotStampedError`: It was only constructed.
#[pyfunction]
pub(super) fn metadata_of(message: &Bound<'_, PyAny>) -> PyResult<Metadata> {
    Ok(Metadata(needed(message)?.metadata()))
}

/// Whether a message has an id and metadata.
#[pyfunction]
pub(super) fn is_stamped(message: &Bound<'_, PyAny>) -> bool {
    stamp_of(message).is_some()
}

/// Stamps `message` as caused by `cause`; the next sending takes the stamp over.
///
/// Id and time are those of the app that handles `cause` now, else the machine's.
#[pyfunction]
pub(super) fn stamp_caused_by(
    message: &Bound<'_, PyAny>,
    cause: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let cause = needed(cause)?;
    let (id, at) = call::current_time_and_id(message.py());
    let link = cause.caused(at);
    let stamp = Bound::new(message.py(), PyStamp::unsent(Stamp { id, at, link }))?;
    put(message, stamp.as_any());
    Ok(())
}

/// Stamps what an aggregate decided on `command`: ids that follow from the command's, in order.
#[pyfunction]
pub(super) fn stamp_decided(
    app: &Bound<'_, PyAny>,
    command: &Bound<'_, PyAny>,
    events: Vec<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let cause = needed(command)?;
    let at = app::now(app)?;
    for (index, event) in (0_u32..).zip(&events) {
        let stamp = Stamp {
            id: derive_event_id(cause.id, index),
            at,
            link: cause.caused(at),
        };
        put(event, Bound::new(app.py(), PyStamp::sent(stamp))?.as_any());
    }
    Ok(())
}
