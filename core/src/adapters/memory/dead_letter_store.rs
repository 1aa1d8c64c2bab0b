//! [`DeadLetterStore`] in memory, with an upper limit.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    clock::Timestamp,
    ports::{
        DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterStatus, DeadLetterStore, StoreError,
    },
};

const DEFAULT_PAGE: usize = 100;

pub(super) struct DeadLetters {
    limit: usize,
    next_serial: u64,
    /// In the order of the last failure.
    entries: BTreeMap<u64, DeadLetter>,
    by_id: HashMap<Uuid, u64>,
    by_message: HashMap<(String, Uuid), u64>,
}

impl DeadLetters {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            next_serial: 0,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            by_message: HashMap::new(),
        }
    }

    fn record(&mut self, letter: DeadLetter) -> DeadLetter {
        let key = (letter.handler.clone(), letter.message_id);
        let earlier = self.by_message.get(&key).copied();
        let letter = match earlier.and_then(|serial| self.remove(serial)) {
            Some(earlier) => earlier.again(letter),
            None => letter,
        };
        self.next_serial += 1;
        self.by_id.insert(letter.id, self.next_serial);
        self.by_message.insert(key, self.next_serial);
        self.entries.insert(self.next_serial, letter.clone());
        if self.entries.len() > self.limit
            && let Some(oldest) = self.entries.keys().next().copied()
            && let Some(dropped) = self.remove(oldest)
        {
            tracing::warn!(
                id = %dropped.id,
                handler = %dropped.handler,
                message_id = %dropped.message_id,
                limit = self.limit,
                "dropped the oldest dead letter: the limit of the memory store is reached"
            );
        }
        letter
    }

    fn remove(&mut self, serial: u64) -> Option<DeadLetter> {
        let letter = self.entries.remove(&serial)?;
        self.by_id.remove(&letter.id);
        self.by_message
            .remove(&(letter.handler.clone(), letter.message_id));
        Some(letter)
    }

    fn purge(&mut self, before: Timestamp, handler: Option<&str>, limit: usize) -> u64 {
        let mut old: Vec<(Timestamp, u64)> = self
            .entries
            .iter()
            .filter(|(_, letter)| letter.last_failed_at < before)
            .filter(|(_, letter)| handler.is_none_or(|handler| letter.handler == handler))
            .map(|(serial, letter)| (letter.last_failed_at, *serial))
            .collect();
        old.sort_unstable();
        old.truncate(limit);
        for (_, serial) in &old {
            self.remove(*serial);
        }
        old.len() as u64
    }

    fn get_mut(&mut self, id: Uuid) -> Result<&mut DeadLetter, StoreError> {
        self.by_id
            .get(&id)
            .and_then(|serial| self.entries.get_mut(serial))
            .ok_or_else(|| StoreError::NoDeadLetter { id: id.to_string() })
    }

    fn list(&self, filter: &DeadLetterFilter) -> DeadLetterPage {
        let text = filter.text.as_ref().map(|text| text.to_lowercase());
        let mut found: Vec<(&u64, &DeadLetter)> = self
            .entries
            .iter()
            .filter(|(_, letter)| matches(filter, text.as_deref(), letter))
            .collect();
        found.sort_by_key(|(serial, letter)| Reverse((letter.last_failed_at, **serial)));
        let limit = match filter.limit {
            0 => DEFAULT_PAGE,
            limit => limit,
        };
        DeadLetterPage {
            total: found.len(),
            items: found
                .into_iter()
                .skip(filter.offset)
                .take(limit)
                .map(|(_, letter)| letter.clone())
                .collect(),
        }
    }
}

fn matches(filter: &DeadLetterFilter, text: Option<&str>, letter: &DeadLetter) -> bool {
    filter.handler.as_ref().is_none_or(|h| *h == letter.handler)
        && filter
            .topic
            .as_ref()
            .is_none_or(|pattern| pattern.matches(&letter.topic))
        && filter.since.is_none_or(|t| letter.last_failed_at >= t)
        && filter.until.is_none_or(|t| letter.last_failed_at < t)
        && filter.status.is_none_or(|status| letter.status == status)
        && text.is_none_or(|text| letter.mentions(text))
}

#[async_trait]
impl DeadLetterStore for MemoryStore {
    async fn record(&self, letter: DeadLetter) -> Result<DeadLetter, StoreError> {
        Ok(self.open()?.dead_letters.record(letter))
    }

    async fn list(&self, filter: DeadLetterFilter) -> Result<DeadLetterPage, StoreError> {
        Ok(self.open()?.dead_letters.list(&filter))
    }

    async fn get(&self, id: Uuid) -> Result<DeadLetter, StoreError> {
        self.open()?.dead_letters.get_mut(id).cloned()
    }

    async fn requeue(&self, id: Uuid, body: Option<Bytes>) -> Result<DeadLetter, StoreError> {
        let mut state = self.open()?;
        let letter = state.dead_letters.get_mut(id)?;
        letter.status = DeadLetterStatus::Requeued;
        if let Some(body) = body {
            letter.body = body;
        }
        Ok(letter.clone())
    }

    async fn take_back(&self, id: Uuid, body: Bytes) -> Result<DeadLetter, StoreError> {
        let mut state = self.open()?;
        let letter = state.dead_letters.get_mut(id)?;
        letter.status = DeadLetterStatus::Dead;
        letter.body = body;
        Ok(letter.clone())
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        let letters = &mut self.open()?.dead_letters;
        let serial = letters.by_id.get(&id).copied();
        Ok(serial.and_then(|serial| letters.remove(serial)).is_some())
    }

    async fn purge(
        &self,
        before: Timestamp,
        handler: Option<String>,
        limit: usize,
    ) -> Result<u64, StoreError> {
        Ok(self
            .open()?
            .dead_letters
            .purge(before, handler.as_deref(), limit))
    }
}
