//! Messages that are to leave, kept until they have.

use std::fmt;

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    ports::{Outgoing, StoreError},
};

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place: messages leave in this order. Numbers may be missing, and one may appear behind a greater one while transactions commit.
    pub serial: u64,
    /// The message.
    pub message: Outgoing,
    /// When it was put in.
    pub enqueued_at: Timestamp,
}

/// How much is in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxBacklog {
    /// Messages in it.
    pub messages: u64,
    /// When the oldest of them was put in; `None` when it is empty.
    pub oldest: Option<Timestamp>,
}

/// A store of messages that are to leave: commands and events that a program decided to send together with what it stored.
#[async_trait]
pub trait OutboxStore: Send + Sync + fmt::Debug {
    /// Puts `messages` in, all or none, in their order. A message whose id is in the outbox already is kept once: as it is there.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn enqueue(&self, messages: Vec<Outgoing>) -> Result<(), StoreError>;

    /// The first `limit` messages (fewer if they are large) after the serial `after`, all of them for `None`, in increasing serial. They stay.
    ///
    /// Who remembers a serial and goes on after it may miss one that was committed late: begin again with `None`.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn pending(&self, after: Option<u64>, limit: usize)
    -> Result<Vec<OutboxRow>, StoreError>;

    /// Takes out the messages with these serials: they have left. Returns how many were there.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn delete(&self, serials: Vec<u64>) -> Result<u64, StoreError>;

    /// How much is in it.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn backlog(&self) -> Result<OutboxBacklog, StoreError>;

    /// Waits until there is a message after the serial `after` (any message for `None`), put in by this process or another. May end early.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store is closed; transient ones if it is away.
    async fn wait_for_messages(&self, after: Option<u64>) -> Result<(), StoreError>;

    /// Takes out at most `limit` messages that were put in before `before`, oldest first, though they have not left. Returns how many.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
