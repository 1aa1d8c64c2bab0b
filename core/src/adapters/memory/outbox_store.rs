//! [`OutboxStore`] in memory.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    MemoryStore,
    waiters::{Condition, Wait},
    wake,
};
use crate::{
    clock::Timestamp,
    ports::{OutboxBacklog, OutboxRow, OutboxStore, Outgoing, StoreError},
};

#[derive(Default)]
pub(super) struct Outbox {
    next_serial: u64,
    rows: BTreeMap<u64, OutboxRow>,
    ids: HashSet<Uuid>,
}

impl Outbox {
    /// Whether there is a message after the serial `after`.
    pub(super) fn has_after(&self, after: Option<u64>) -> bool {
        let last = self.rows.last_key_value().map(|(serial, _)| *serial);
        last > after
    }

    fn enqueue(&mut self, message: Outgoing, now: Timestamp) {
        if !self.ids.insert(message.id) {
            return;
        }
        self.next_serial += 1;
        let row = OutboxRow {
            serial: self.next_serial,
            message,
            enqueued_at: now,
        };
        self.rows.insert(row.serial, row);
    }

    fn remove(&mut self, serial: u64) -> bool {
        let removed = self.rows.remove(&serial);
        removed.is_some_and(|row| self.ids.remove(&row.message.id))
    }
}

#[async_trait]
impl OutboxStore for MemoryStore {
    async fn enqueue(&self, messages: Vec<Outgoing>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let woken = {
            let mut state = self.open()?;
            for message in messages {
                state.outbox.enqueue(message, now);
            }
            state.take_woken()
        };
        wake(woken);
        Ok(())
    }

    async fn pending(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let state = self.open()?;
        let rows = state.outbox.rows.range(after.map_or(0, |a| a + 1)..);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn delete(&self, serials: Vec<u64>) -> Result<u64, StoreError> {
        let outbox = &mut self.open()?.outbox;
        let removed = serials.into_iter().filter(|serial| outbox.remove(*serial));
        Ok(removed.count() as u64)
    }

    async fn backlog(&self) -> Result<OutboxBacklog, StoreError> {
        let rows = &self.open()?.outbox.rows;
        Ok(OutboxBacklog {
            messages: rows.len() as u64,
            oldest: rows.values().map(|row| row.enqueued_at).min(),
        })
    }

    async fn wait_for_messages(&self, after: Option<u64>) -> Result<(), StoreError> {
        Wait::new(self, Condition::MessageAfter(after)).await
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let outbox = &mut self.open()?.outbox;
        let old = outbox.rows.values().filter(|row| row.enqueued_at < before);
        let serials: Vec<u64> = old.map(|row| row.serial).take(limit).collect();
        let removed = serials.into_iter().filter(|serial| outbox.remove(*serial));
        Ok(removed.count() as u64)
    }
}
