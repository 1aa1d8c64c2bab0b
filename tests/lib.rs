//! Tests that span packages; see the test targets beside this file. Here is what they share.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

pub mod broker;
pub mod kurrentdb;
pub mod postgres;
mod private;
