//! The conformance suites, run by every adapter.
#![expect(clippy::unwrap_used, reason = "tests")]

mod memory;
mod sqlite;
