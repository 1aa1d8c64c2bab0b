//! The conformance suites, run by every adapter.

mod memory;
mod rabbitmq;
mod sqlite;
