//! The native half of the Python package `orkestra`: conversions and the fast path of in-process calls. All behaviour is the core's.

use pyo3::prelude::*;

mod convert;
mod envelope;
mod errors;
mod fastcall;
mod metadata;
mod runtime;
mod stamp;
mod time;

/// `orkestra._orkestra`, private to the package.
#[pymodule]
fn _orkestra(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    fastcall::register(module)?;
    module.add_class::<envelope::EventEnvelope>()?;
    module.add_class::<metadata::Metadata>()?;
    module.add_class::<runtime::Op>()?;
    module.add_class::<stamp::PyStamp>()?;
    module.add_class::<time::PyClock>()?;
    module.add_class::<time::PyIds>()?;
    module.add_function(wrap_pyfunction!(metadata::metadata_from_dict, module)?)?;
    module.add_function(wrap_pyfunction!(time::new_id, module)?)?;
    module.add_function(wrap_pyfunction!(time::camelize, module)?)?;
    module.add_function(wrap_pyfunction!(time::underscore, module)?)?;
    module.add_function(wrap_pyfunction!(time::event_id_for, module)?)?;
    module.add_function(wrap_pyfunction!(time::forked, module)?)?;
    module.add_function(wrap_pyfunction!(time::format_time, module)?)?;
    module.add_function(wrap_pyfunction!(time::parse_time, module)?)?;
    Ok(())
}
