//! Tasks that wait for the store to change. The list lives under the store's lock, so that no wake-up is lost.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::MemoryStore;
use crate::ports::{Position, StoreError};

/// What a task waits for.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// An event after this position, any event for `None`.
    EventAfter(Option<Position>),
    /// A message in the outbox after this serial, any message for `None`.
    MessageAfter(Option<u64>),
    /// The named checkpoint at this position or after it.
    CheckpointAt(String, Position),
}

#[derive(Default)]
pub(super) struct Waiters {
    next_key: u64,
    waiting: HashMap<u64, (Condition, Waker)>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn take_if(&mut self, is_met: impl Fn(&Condition) -> bool) -> Vec<Waker> {
        self.waiting
            .extract_if(|_, (condition, _)| is_met(condition))
            .map(|(_, (_, waker))| waker)
            .collect()
    }

    fn add(&mut self, key: Option<u64>, condition: &Condition, waker: &Waker) -> u64 {
        let key = key.unwrap_or_else(|| {
            self.next_key += 1;
            self.next_key
        });
        self.waiting.insert(key, (condition.clone(), waker.clone()));
        key
    }
}

/// Ends when the condition is met or the store is closed. Dropping it takes it off the list.
pub(super) struct Wait<'a> {
    store: &'a MemoryStore,
    condition: Condition,
    key: Option<u64>,
}

impl<'a> Wait<'a> {
    pub(super) fn new(store: &'a MemoryStore, condition: Condition) -> Self {
        Self {
            store,
            condition,
            key: None,
        }
    }
}

impl Future for Wait<'_> {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = match this.store.open() {
            Ok(state) => state,
            Err(closed) => return Poll::Ready(Err(closed)),
        };
        if state.is_met(&this.condition) {
            return Poll::Ready(Ok(()));
        }
        this.key = Some(state.waiters.add(this.key, &this.condition, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.store.state.lock().waiters.waiting.remove(&key);
        }
    }
}
