//! Orkestra: commands, events, aggregates and durable workflows on one core.
#![forbid(unsafe_code)]

pub mod adapters;
pub mod aggregate;
mod app;
pub mod clock;
pub mod code;
pub mod delivery;
mod error;
pub mod message;
pub mod ports;
pub mod registry;
pub mod retry;
pub mod subscription;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topic;

pub use app::{Backend, DEFAULT_STORE, Plan, Services, Settings};
pub use error::{AppError, Error, catalogue};
