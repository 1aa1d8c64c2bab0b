//! The SQL of an inbox in a file of the user's own.

use pyo3::prelude::*;

/// The statements of a handler's record in SQLite: what makes the table, and what gives a row when a message is new.
#[pyfunction]
pub(crate) fn claim_sql() -> (&'static str, &'static str) {
    let sql = orkestra::claim_sql();
    (sql.create, sql.claim)
}
