//! Aggregates: load, decide, append, and decide again when somebody else was faster.

mod error;
mod execution;

pub use error::AggregateError;
pub use execution::{Action, Executed, Execution, ExecutionOptions, recorded_prefix};
