//! Saved folds of streams.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    clock::Timestamp,
    ports::{StoreError, StreamName},
};

/// A saved fold with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream: StreamName,
    /// The last revision that is folded in.
    pub revision: u64,
    /// The aggregate's schema version; a snapshot of another version is ignored.
    pub schema_version: u32,
    /// The state as JSON, UTF-8 bytes.
    pub state: Bytes,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// A store of snapshots, the latest per stream.
#[async_trait]
pub trait SnapshotStore: Send + Sync + fmt::Debug {
    /// Saves `snapshot`; one of the same stream and schema version with a lower or equal revision is replaced, a higher one stays.
    /// One of another schema version is always replaced.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn save(&self, snapshot: Snapshot) -> Result<(), StoreError>;

    /// The latest snapshot of `stream`, whatever its schema version; `None` if there is none. What cannot be read back is reported as
    /// [`StoreError::Corrupt`], which callers treat as none.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn load(&self, stream: StreamName) -> Result<Option<Snapshot>, StoreError>;
}
