//! [`InboxStore`] in memory.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    clock::Timestamp,
    ports::{InboxEntry, InboxStore, StoreError},
};

#[derive(Default)]
pub(super) struct Handled {
    entries: HashMap<(String, Uuid), InboxEntry>,
    /// The keys, oldest first.
    order: VecDeque<(String, Uuid)>,
}

impl Handled {
    fn purge_one(&mut self, before: Timestamp) -> bool {
        let old = self
            .order
            .front()
            .and_then(|key| self.entries.get(key))
            .is_some_and(|entry| entry.handled_at < before);
        if old && let Some(key) = self.order.pop_front() {
            self.entries.remove(&key);
        }
        old
    }
}

#[async_trait]
impl InboxStore for MemoryStore {
    async fn find(&self, handler: String, message: Uuid) -> Result<Option<InboxEntry>, StoreError> {
        Ok(self
            .open()?
            .handled
            .entries
            .get(&(handler, message))
            .cloned())
    }

    async fn record(
        &self,
        handler: String,
        message: Uuid,
        result: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        let handled_at = self.clock.now();
        let handled = &mut self.open()?.handled;
        let key = (handler, message);
        match handled.entries.entry(key.clone()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(place) => {
                place.insert(InboxEntry { handled_at, result });
                handled.order.push_back(key);
                Ok(true)
            }
        }
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let handled = &mut self.open()?.handled;
        let purged = (0..limit).take_while(|_| handled.purge_one(before));
        Ok(purged.count() as u64)
    }
}
