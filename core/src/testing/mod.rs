//! What tests need: conformance suites for the ports, sample data and a small executor.
//!
//! A suite's macro takes a function that makes a [`Fixture`] with a fresh store, and makes one named test per case:
//!
//! ```
//! use std::sync::Arc;
//! use orkestra::{adapters::memory::MemoryStore, clock::ManualClock, ports::EventStore, testing::Fixture};
//!
//! fn memory() -> Fixture<dyn EventStore> {
//!     let clock = ManualClock::default();
//!     Fixture::<dyn EventStore>::new(Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock)
//! }
//!
//! orkestra::event_store_suite!(memory);
//! ```
//!
//! Names carry the ids of the case tables that the project works by: A append, B read, D snapshots, E subscriptions, G checkpoints, H leases, L dead
//! letters.
#![expect(clippy::unwrap_used, reason = "a test kit panics to fail a test")]

mod block_on;
mod fixture;
pub mod samples;
#[macro_use]
mod suite;

pub mod checkpoint_store;
pub mod dead_letter_store;
pub mod event_store;
pub mod inbox_store;
pub mod lease_store;
pub mod outbox_store;
mod scenario;
pub mod snapshot_store;
pub mod subscription;

pub use block_on::{Started, block_on};
pub use fixture::Fixture;
pub use scenario::Scenario;

/// Says on the test's output that a case does not apply to this adapter.
#[expect(clippy::print_stdout, reason = "a skip must be seen in the report")]
fn skip(case: &str, reason: &str) {
    println!("skipped {case}: {reason}");
}
