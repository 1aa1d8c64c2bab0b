//! Which messages a handler has handled, so that it handles none twice.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::{clock::Timestamp, ports::StoreError};

/// That a handler has handled a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEntry {
    /// When it was recorded.
    pub handled_at: Timestamp,
    /// The handler's result as JSON, for a command.
    pub result: Option<Bytes>,
}

/// A store of what was handled: one entry per handler and message.
#[async_trait]
pub trait InboxStore: Send + Sync + fmt::Debug {
    /// The entry of `handler`, its full name, for the message of that id; `None` if it has not handled it, or that was purged.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn find(&self, handler: String, message: Uuid) -> Result<Option<InboxEntry>, StoreError>;

    /// Records that `handler` has handled the message. Returns true if that is new; an entry that is there stays as it is.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn record(
        &self,
        handler: String,
        message: Uuid,
        result: Option<Bytes>,
    ) -> Result<bool, StoreError>;

    /// Removes at most `limit` entries that were recorded before `before`, oldest first. Returns how many.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
