//! Functions of `CPython` that are exported but not in the stable ABI of 3.10, looked up when the module is imported.
//!
//! Where one is missing a slower way over the stable ABI takes its place, so callers never ask.

use std::{
    ffi::{CStr, c_int, c_void},
    mem,
    ptr::null_mut,
    sync::OnceLock,
};

use pyo3::{
    ffi::{self, PyObject},
    prelude::*,
    types::PyTuple,
};

type Vectorcall = unsafe extern "C" fn(
    *mut PyObject,
    *const *mut PyObject,
    usize,
    *mut PyObject,
) -> *mut PyObject;
type VarGet = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> c_int;
type VarSet = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
type VarReset = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> c_int;
type Finalize = unsafe extern "C" fn(*mut PyObject) -> c_int;

/// Set in the count of arguments: the place before the first argument may be used by the callee.
pub(super) const ARGUMENTS_OFFSET: usize = 1 << (usize::BITS - 1);

/// What the fast path calls.
#[derive(Debug)]
pub(super) struct Symbols {
    pub(super) vectorcall: Vectorcall,
    pub(super) var_get: VarGet,
    pub(super) var_set: VarSet,
    pub(super) var_reset: VarReset,
    pub(super) finalize: Finalize,
    /// The context variable that holds what is being handled.
    pub(super) handling: *mut PyObject,
    /// `asyncio._get_running_loop`.
    pub(super) running_loop: *mut PyObject,
    /// `types.CoroutineType`.
    pub(super) coroutine: *mut PyObject,
}

// SAFETY: the pointers are immortal objects (their references are never given back), used only with the interpreter attached.
unsafe impl Send for Symbols {}
// SAFETY: as above.
unsafe impl Sync for Symbols {}

static SYMBOLS: OnceLock<Symbols> = OnceLock::new();

/// Looks everything up; called once by the module's initialisation.
pub(super) fn load(py: Python<'_>) -> PyResult<()> {
    let leak = |module: &str, name: &str| -> PyResult<*mut PyObject> {
        Ok(py.import(module)?.getattr(name)?.into_ptr())
    };
    let handling = py
        .import("contextvars")?
        .getattr("ContextVar")?
        .call1(("orkestra_handling",))?
        .into_ptr();
    // SAFETY: each symbol has the type that CPython's headers give it.
    let symbols = unsafe {
        Symbols {
            vectorcall: symbol(c"PyObject_Vectorcall").map_or(slow_vectorcall as Vectorcall, |p| {
                mem::transmute::<*mut c_void, Vectorcall>(p)
            }),
            var_get: symbol(c"PyContextVar_Get").map_or(slow_var_get as VarGet, |p| {
                mem::transmute::<*mut c_void, VarGet>(p)
            }),
            var_set: symbol(c"PyContextVar_Set").map_or(slow_var_set as VarSet, |p| {
                mem::transmute::<*mut c_void, VarSet>(p)
            }),
            var_reset: symbol(c"PyContextVar_Reset").map_or(slow_var_reset as VarReset, |p| {
                mem::transmute::<*mut c_void, VarReset>(p)
            }),
            finalize: symbol(c"PyObject_CallFinalizerFromDealloc")
                .map_or(no_finalizer as Finalize, |p| {
                    mem::transmute::<*mut c_void, Finalize>(p)
                }),
            handling,
            running_loop: leak("asyncio.events", "_get_running_loop")?,
            coroutine: leak("types", "CoroutineType")?,
        }
    };
    let _ = SYMBOLS.set(symbols);
    Ok(())
}

/// What was loaded.
#[inline]
pub(super) fn symbols() -> &'static Symbols {
    #[expect(
        clippy::expect_used,
        reason = "the module loads them before anything else"
    )]
    SYMBOLS.get().expect("the module is imported")
}

#[cfg(unix)]
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a lookup in what is loaded already; the interpreter is, as it runs us.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

#[cfg(not(unix))]
fn symbol(_: &CStr) -> Option<*mut c_void> {
    None
}

unsafe extern "C" fn slow_vectorcall(
    callable: *mut PyObject,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    let count = count & !ARGUMENTS_OFFSET;
    let tuple = ffi::PyTuple_New(count.cast_signed());
    if tuple.is_null() {
        return null_mut();
    }
    for i in 0..count {
        let arg = *args.add(i);
        ffi::Py_INCREF(arg);
        ffi::PyTuple_SetItem(tuple, i.cast_signed(), arg);
    }
    let mut keywords = null_mut();
    if !names.is_null() {
        keywords = ffi::PyDict_New();
        for i in 0..ffi::PyTuple_Size(names) {
            let value = *args.add(count + i.cast_unsigned());
            ffi::PyDict_SetItem(keywords, ffi::PyTuple_GetItem(names, i), value);
        }
    }
    let result = ffi::PyObject_Call(callable, tuple, keywords);
    ffi::Py_DECREF(tuple);
    ffi::Py_XDECREF(keywords);
    result
}

/// Calls `callable` with `args`, the last of which have `names`.
pub(crate) fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    args: [&Bound<'py, PyAny>; N],
    names: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = args.map(Bound::as_ptr);
    let (positional, names) = match names {
        None => (N, null_mut()),
        Some(names) => (N - names.len(), names.as_ptr()),
    };
    // SAFETY: the pointers are borrowed for the call; there are as many as counts and names say.
    unsafe {
        let result =
            (symbols().vectorcall)(callable.as_ptr(), pointers.as_ptr(), positional, names);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

unsafe fn method(object: *mut PyObject, name: &CStr, arg: *mut PyObject) -> *mut PyObject {
    let bound = ffi::PyObject_GetAttrString(object, name.as_ptr());
    if bound.is_null() {
        return null_mut();
    }
    let result = ffi::PyObject_CallFunctionObjArgs(bound, arg, null_mut::<PyObject>());
    ffi::Py_DECREF(bound);
    result
}

unsafe extern "C" fn slow_var_get(
    var: *mut PyObject,
    _default: *mut PyObject,
    value: *mut *mut PyObject,
) -> c_int {
    *value = method(var, c"get", ffi::Py_None());
    if (*value).is_null() {
        return -1;
    }
    if *value == ffi::Py_None() {
        ffi::Py_DECREF(*value);
        *value = null_mut();
    }
    0
}

unsafe extern "C" fn slow_var_set(var: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    method(var, c"set", value)
}

unsafe extern "C" fn slow_var_reset(var: *mut PyObject, token: *mut PyObject) -> c_int {
    let result = method(var, c"reset", token);
    if result.is_null() {
        return -1;
    }
    ffi::Py_DECREF(result);
    0
}

unsafe extern "C" fn no_finalizer(_: *mut PyObject) -> c_int {
    0
}
