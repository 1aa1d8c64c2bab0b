//! The native half of the Python package `orkestra`: conversions and the fast path of in-process calls. All behaviour is the core's.
#![allow(clippy::needless_pass_by_value, reason = "what pyo3 extracts is owned")]

use pyo3::prelude::*;

mod aggregate;
mod broker;
mod cli;
mod convert;
mod dead_letters;
mod envelope;
mod errors;
mod fastcall;
mod inbox;
mod logs;
mod metadata;
mod outgoing;
mod payload;
mod projection;
mod recorded;
mod registry;
mod retention;
mod retry;
mod runtime;
mod stamp;
mod store;
mod subscription;
mod time;
mod wire;
mod work;

/// `orkestra._orkestra`, private to the package.
#[pymodule]
fn _orkestra(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    logs::install(module.py())?;
    fastcall::register(module)?;
    broker::register(module)?;
    module.add_class::<aggregate::PyExecution>()?;
    module.add_class::<dead_letters::DeadLetter>()?;
    module.add_class::<envelope::EventEnvelope>()?;
    module.add_class::<metadata::Metadata>()?;
    module.add_class::<outgoing::Outgoing>()?;
    module.add_class::<projection::PyProjection>()?;
    module.add_class::<projection::PyViewCheckpoint>()?;
    module.add_class::<projection::PyViewSwitch>()?;
    module.add_class::<recorded::Page>()?;
    module.add_class::<recorded::Records>()?;
    module.add_class::<store::Log>()?;
    module.add_class::<recorded::RecordedEvent>()?;
    module.add_class::<registry::Registry>()?;
    module.add_class::<retention::Retention>()?;
    module.add_class::<retry::PyDelivery>()?;
    module.add_class::<retry::PyRetryPolicy>()?;
    module.add_class::<runtime::Gate>()?;
    module.add_class::<runtime::Op>()?;
    module.add_class::<stamp::PyStamp>()?;
    module.add_class::<store::Plan>()?;
    module.add_class::<store::Services>()?;
    module.add_class::<subscription::Reader>()?;
    module.add_class::<time::ManualClock>()?;
    module.add_class::<time::ManualIds>()?;
    module.add_class::<time::PyClock>()?;
    module.add_class::<time::PyIds>()?;
    module.add_class::<work::PyWork>()?;
    module.add_function(wrap_pyfunction!(cli::run_cli, module)?)?;
    module.add_function(wrap_pyfunction!(convert::seconds, module)?)?;
    module.add_function(wrap_pyfunction!(inbox::claim_sql, module)?)?;
    module.add_function(wrap_pyfunction!(metadata::metadata_from_dict, module)?)?;
    module.add_function(wrap_pyfunction!(payload::encode_payload, module)?)?;
    module.add_function(wrap_pyfunction!(projection::view_texts, module)?)?;
    module.add_function(wrap_pyfunction!(recorded::lane_of, module)?)?;
    module.add_function(wrap_pyfunction!(recorded::put_recorded_stamp, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::either, module)?)?;
    module.add_function(wrap_pyfunction!(registry::catalogue, module)?)?;
    module.add_function(wrap_pyfunction!(registry::topic_matches, module)?)?;
    module.add_function(wrap_pyfunction!(registry::topic_of, module)?)?;
    module.add_function(wrap_pyfunction!(time::camelize, module)?)?;
    module.add_function(wrap_pyfunction!(time::event_id_for, module)?)?;
    module.add_function(wrap_pyfunction!(time::forked, module)?)?;
    module.add_function(wrap_pyfunction!(time::format_time, module)?)?;
    module.add_function(wrap_pyfunction!(time::new_id, module)?)?;
    module.add_function(wrap_pyfunction!(time::parse_time, module)?)?;
    module.add_function(wrap_pyfunction!(time::underscore, module)?)?;
    module.add_function(wrap_pyfunction!(wire::decode_envelope, module)?)?;
    module.add_function(wrap_pyfunction!(wire::encode_command, module)?)?;
    module.add_function(wrap_pyfunction!(wire::encode_event, module)?)?;
    module.add_function(wrap_pyfunction!(wire::put_stamp, module)?)?;
    // The module is private: nothing is imported from it by a star.
    module.delattr("__all__")
}
