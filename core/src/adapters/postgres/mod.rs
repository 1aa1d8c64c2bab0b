//! The stores in one schema of a PostgreSQL database.
//!
//! Everything that speaks to the server runs on one thread of the store's own, `orkestra-postgres`; the ports' futures wait for wakers
//! only. Several processes may use the same schema. See `docs/adapters/postgres.md`.
#![allow(dead_code, reason = "the ports that use it are on their way")]

mod config;
mod connect;
mod error;
mod migrate;
mod pool;
mod sql;
mod store;
mod tls;

pub use config::PostgresConfig;
pub use store::PostgresStore;
