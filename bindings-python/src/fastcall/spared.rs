//! Messages that the garbage collector is spared.
//!
//! A batch keeps its typed events, a thousand or so, until it is done with, and the collector walks over what is kept again and again: that took a third of
//! the time of a projection. A recorded event of text and numbers refers to nothing that could refer back to it (its stamp, which stays when it is
//! published again, does not), so no cycle goes through it, and counting references frees it. Python leaves out tuples of such things for the same reason.

use std::ptr::null_mut;

use pyo3::{
    ffi::{self, PyObject},
    prelude::*,
};

/// Takes `object`, an object of ours that refers to nothing that could refer back to it, out of the collector's sight. pyo3 shows it every object.
pub(crate) fn hide<T>(object: &Bound<'_, T>) {
    // SAFETY: every class of pyo3's is one of the collector's, and its objects take themselves from it when they end.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// Takes `message`, a recorded event whose class gives it nothing but its fields, out of the collector's sight if these are text, numbers, truth values or nothing.
pub(crate) fn spare(message: &Bound<'_, PyAny>) {
    let py = message.py();
    let Ok(given) = message.getattr(pyo3::intern!(py, "__pydantic_fields_set__")) else {
        return;
    };
    // SAFETY: the fields are a dictionary that nobody changes meanwhile, as no Python code runs; the message and the set of the names that were
    // given are objects of the collector's, which may be taken from it at any time and take themselves from it when they end.
    unsafe {
        let fields = ffi::PyObject_GenericGetDict(message.as_ptr(), null_mut());
        if fields.is_null() {
            ffi::PyErr_Clear();
            return;
        }
        let plain = ffi::PyDict_CheckExact(fields) != 0 && holds_plain_values(fields);
        ffi::Py_DECREF(fields);
        if plain && ffi::Py_TYPE(given.as_ptr()) == &raw mut ffi::PySet_Type {
            ffi::PyObject_GC_UnTrack(given.as_ptr().cast());
            ffi::PyObject_GC_UnTrack(message.as_ptr().cast());
        }
    }
}

unsafe fn holds_plain_values(fields: *mut PyObject) -> bool {
    let (mut place, mut value) = (0, null_mut());
    while ffi::PyDict_Next(fields, &raw mut place, null_mut(), &raw mut value) != 0 {
        let kind = ffi::Py_TYPE(value);
        let plain = kind == &raw mut ffi::PyUnicode_Type
            || kind == &raw mut ffi::PyLong_Type
            || kind == &raw mut ffi::PyFloat_Type
            || kind == &raw mut ffi::PyBool_Type
            || value == ffi::Py_None();
        if !plain {
            return false;
        }
    }
    true
}
