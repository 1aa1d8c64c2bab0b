//! Orkestra: commands, events, aggregates and durable workflows on one core.
#![forbid(unsafe_code)]

pub mod clock;
pub mod code;
pub mod message;
pub mod ports;
pub mod retry;
pub mod topic;
