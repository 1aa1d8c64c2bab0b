//! The conformance suites, run by every adapter.

mod kurrentdb;
mod memory;
mod postgres;
mod rabbitmq;
mod sqlite;
