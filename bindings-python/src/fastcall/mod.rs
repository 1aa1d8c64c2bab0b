//! The in-process success path: `dispatch` and `publish` as native methods, and the awaitable they return.
//!
//! The only place with `unsafe`: pyo3's own classes cost 200 ns more per dispatch than these raw types (LIMITS.md, Python boundary). The
//! rules that make it sound: every function here runs with the interpreter attached; a pointer field owns one reference or is null; a
//! field is emptied before its reference is given back, as that may run any code.
#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "the one file of the binding that STYLE.md allows it in; every function is a callback of the interpreter"
)]
#![allow(
    clippy::missing_safety_doc,
    clippy::ref_as_ptr,
    clippy::borrow_as_ptr,
    reason = "callbacks of the interpreter, private to this folder"
)]

mod app;
mod call;
mod coroutine;
mod incoming;
mod options;
mod route;
mod slot;
mod spared;
mod symbols;

use pyo3::prelude::*;

pub(crate) use call::stamp_fact;
pub(crate) use coroutine::stamp_sending;
pub(crate) use incoming::{handle, take_incoming, with_incoming};
pub(crate) use slot::{is_message, put as put_stamp, stamp_of};
pub(crate) use spared::{hide, spare};
pub(crate) use symbols::call;

/// Adds the types and functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    symbols::load(py)?;
    coroutine::make_type(py)?;
    app::make_type(py)?;
    // SAFETY: both types were just made and live as long as the process.
    unsafe {
        module.add(
            "Call",
            Bound::from_borrowed_ptr(py, call::call_type().cast()),
        )?;
        module.add(
            "AppCore",
            Bound::from_borrowed_ptr(py, app::app_type().cast()),
        )?;
        module.add(
            "HANDLING",
            Bound::from_borrowed_ptr(py, symbols::symbols().handling),
        )?;
    }
    module.add_class::<route::Route>()?;
    module.add_function(wrap_pyfunction!(slot::find_slot, module)?)?;
    module.add_function(wrap_pyfunction!(slot::id_of, module)?)?;
    module.add_function(wrap_pyfunction!(slot::metadata_of, module)?)?;
    module.add_function(wrap_pyfunction!(slot::is_stamped, module)?)?;
    module.add_function(wrap_pyfunction!(slot::stamp_caused_by, module)?)?;
    module.add_function(wrap_pyfunction!(slot::stamp_decided, module)?)?;
    module.add_function(wrap_pyfunction!(app::set_command_route, module)?)?;
    module.add_function(wrap_pyfunction!(app::set_event_routes, module)?)?;
    module.add_function(wrap_pyfunction!(app::set_app_state, module)?)?;
    module.add_function(wrap_pyfunction!(app::set_broker, module)?)?;
    module.add_function(wrap_pyfunction!(app::set_time_source, module)?)?;
    module.add_function(wrap_pyfunction!(app::mark_used, module)?)?;
    module.add_function(wrap_pyfunction!(coroutine::wrap_coroutine, module)?)?;
    module.add_function(wrap_pyfunction!(coroutine::new_handling, module)?)?;
    module.add_function(wrap_pyfunction!(coroutine::new_command, module)?)?;
    module.add_function(wrap_pyfunction!(incoming::claimed, module)?)?;
    Ok(())
}
