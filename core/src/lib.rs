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

pub use app::{
    Aggregate, AggregateAnswer, Answer, Backend, Builder, Command, CommandSet, Context,
    DEFAULT_STORE, DeadLetters, Dispatch, Envelope, Event, EventSet, Execute, HandlerError,
    Message, Middleware, MiddlewareFuture, Next, Orkestra, Outcome, Plan, Publish, Published,
    Reject, RetryAfter, Sent, Services, Settings, decode, decode_event, encode, spec_of,
};
/// Payloads are bytes of this type.
pub use bytes::Bytes;
pub use error::{AppError, Error, catalogue};
