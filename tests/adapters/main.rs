//! The conformance suites, run by every adapter.

mod kurrentdb;
mod memory;
mod rabbitmq;
mod sqlite;
