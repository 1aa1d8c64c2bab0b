//! Orkestra: commands, events, aggregates and durable workflows on one core.
#![forbid(unsafe_code)]
