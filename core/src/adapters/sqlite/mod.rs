//! The stores in one SQLite file: events, snapshots, checkpoints, leases, dead letters, outbox and inbox.
//!
//! One thread writes, with group commit; a few read. Several processes may use the same file. See `docs/adapters/sqlite.md`.

mod append;
mod checkpoint_store;
mod dead_letter_store;
mod delete;
mod error;
mod event_store;
mod fork;
mod gate;
mod heads;
mod idle;
mod inbox_store;
mod lease_store;
mod names;
mod number;
mod open;
mod outbox_store;
mod page;
mod queue;
mod read;
mod reader;
mod schema;
mod snapshot_store;
mod store;
mod text;
mod watch;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use store::SqliteStore;

use crate::clock::Clock;

/// How to open a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The file; made if there is none. Its folder must exist.
    pub path: PathBuf,
    /// Tells when leases expire, and the times of what is recorded.
    pub clock: Arc<dyn Clock>,
    /// How long a write waits for other processes. Default 10 s.
    pub busy_timeout: Duration,
    /// Threads that read, each with its own connection. Default 2.
    pub readers: usize,
}

impl SqliteConfig {
    /// The defaults for the file `path`.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.into(),
            clock,
            busy_timeout: Duration::from_secs(10),
            readers: 2,
        }
    }

    /// The same with another wait for other processes.
    #[must_use]
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self {
            busy_timeout,
            ..self
        }
    }

    /// The same with another number of reading threads, at least 1.
    #[must_use]
    pub fn readers(self, readers: usize) -> Self {
        Self { readers, ..self }
    }
}

#[cfg(test)]
mod tests;
