//! The native part of the npm package `orkestra`: conversions only. The typed API is in `bindings-node/ts`.
//!
//! Text and numbers cross the boundary, JSON where there is structure; an error crosses as the JSON text `{code, message, details}`.
#![allow(
    unsafe_code,
    reason = "the napi macros generate it; none is written by hand"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "napi hands arguments over by value"
)]
#![allow(
    clippy::missing_errors_doc,
    reason = "whatever the core refuses is thrown; the TypeScript above says what that is"
)]
#![allow(
    missing_debug_implementations,
    reason = "only JavaScript ever holds these classes"
)]

// First: napi has to meet a class, and its name, before the modules that add methods to it.
pub mod services;

pub mod bridge;
pub mod broker;
pub mod cli;
pub mod consumers;
pub mod dead_letters;
pub mod delivery;
mod error;
pub mod execution;
mod lent;
pub mod logs;
pub mod names;
pub mod outbox;
mod pages;
pub mod projection;
pub mod registry;
pub mod relay;
pub mod retention;
pub mod store;
pub mod subscription;
pub mod view;
pub mod work;
