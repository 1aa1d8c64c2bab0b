//! The stores in one schema of a PostgreSQL database.
//!
//! Everything that speaks to the server runs on one thread of the store's own, `orkestra-postgres`; the ports' futures wait for wakers
//! only. Several processes may use the same schema. See `docs/adapters/postgres.md`.

mod batch;
mod checkpoint_store;
mod config;
mod connect;
mod dead_letter_store;
mod error;
mod event_store;
mod hub;
mod idle;
mod inbox_store;
mod lease_store;
mod listener;
mod migrate;
mod names;
mod numbers;
mod one;
mod outbox_store;
mod page;
mod payload;
mod pool;
mod queue;
mod read;
mod snapshot_store;
mod sql;
mod store;
mod tls;
mod value;
mod writer;

pub use config::PostgresConfig;
pub use store::PostgresStore;
