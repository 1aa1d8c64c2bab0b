//! Everything in this process's memory: for tests, and for programs that need nothing kept.
//!
//! ```
//! use std::sync::Arc;
//! use orkestra::{adapters::memory::MemoryStore, clock::SystemClock, ports::EventStore};
//!
//! let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new(Arc::new(SystemClock::default())));
//! assert!(!store.capabilities().durable);
//! ```

mod checkpoint_store;
mod dead_letter_store;
mod event_store;
mod inbox_store;
mod lease_store;
mod log;
mod outbox_store;
mod snapshot_store;
mod waiters;

use std::{collections::HashMap, fmt, sync::Arc, task::Waker};

use parking_lot::{Mutex, MutexGuard};

use self::{
    dead_letter_store::DeadLetters,
    inbox_store::Handled,
    lease_store::Grant,
    log::Log,
    outbox_store::Outbox,
    waiters::{Condition, Waiters},
};
use crate::{
    clock::{Clock, Timestamp},
    ports::{Checkpoint, Snapshot, StoreError},
};

/// Dead letters that a store keeps unless told otherwise.
pub const DEFAULT_DEAD_LETTER_LIMIT: usize = 10_000;

/// All store ports on one lock. What it holds is gone with it.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// A hard deletion of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The stream.
    pub stream: Arc<str>,
    /// Its last revision then.
    pub last_revision: u64,
    /// When it was deleted.
    pub deleted_at: Timestamp,
}

struct State {
    closed: bool,
    log: Log,
    deletions: Vec<Deletion>,
    snapshots: HashMap<Arc<str>, Snapshot>,
    checkpoints: HashMap<String, Checkpoint>,
    leases: HashMap<String, Grant>,
    dead_letters: DeadLetters,
    outbox: Outbox,
    handled: Handled,
    waiters: Waiters,
}

impl MemoryStore {
    /// An empty store whose leases expire by `clock`. It keeps 10,000 dead letters.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_dead_letter_limit(clock, DEFAULT_DEAD_LETTER_LIMIT)
    }

    /// An empty store that keeps `limit` dead letters (at least 1): past it the oldest is dropped with a warning.
    pub fn with_dead_letter_limit(clock: Arc<dyn Clock>, limit: usize) -> Self {
        Self {
            clock,
            state: Mutex::new(State {
                closed: false,
                log: Log::default(),
                deletions: Vec::new(),
                snapshots: HashMap::new(),
                checkpoints: HashMap::new(),
                leases: HashMap::new(),
                dead_letters: DeadLetters::new(limit.max(1)),
                outbox: Outbox::default(),
                handled: Handled::default(),
                waiters: Waiters::default(),
            }),
        }
    }

    /// The hard deletions so far, oldest first.
    pub fn deletions(&self) -> Vec<Deletion> {
        self.state.lock().deletions.clone()
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock();
        if state.closed {
            return Err(StoreError::Closed {});
        }
        Ok(state)
    }
}

impl State {
    fn is_met(&self, condition: &Condition) -> bool {
        match condition {
            Condition::EventAfter(position) => self.log.head() > *position,
            Condition::MessageAfter(serial) => self.outbox.has_after(*serial),
            Condition::CheckpointAt(name, position) => self
                .checkpoints
                .get(name)
                .is_some_and(|c| c.position >= Some(*position)),
        }
    }

    /// Takes out the wakers whose condition is met now. The caller wakes them after it let go of the lock.
    #[must_use]
    fn take_woken(&mut self) -> Vec<Waker> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let mut waiters = std::mem::take(&mut self.waiters);
        let woken = waiters.take_if(|condition| self.is_met(condition));
        self.waiters = waiters;
        woken
    }
}

/// Wakers may run foreign code: never call this under the lock.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("MemoryStore")
            .field("head", &state.log.head())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::{
        clock::{ManualClock, derive_event_id},
        message::MessageKind,
        ports::{
            DeadLetter, DeadLetterFilter, DeadLetterReason, DeadLetterStatus, DeadLetterStore,
            DeleteMode, EventStore, ExpectedRevision, NewEvent, StreamName,
        },
    };

    fn now<T>(future: impl Future<Output = Result<T, StoreError>>) -> T {
        future
            .now_or_never()
            .expect("memory needs no waiting")
            .unwrap()
    }

    fn letter(n: u32) -> DeadLetter {
        let id = derive_event_id(Uuid::from_u128(1), n);
        DeadLetter {
            id,
            handler: "shop.place_order".into(),
            kind: MessageKind::Command,
            message_id: id,
            type_name: "Shop.PlaceOrder".into(),
            topic: "place_order".into(),
            body: "{}".into(),
            requeueable: true,
            reason: DeadLetterReason::RetriesExhausted,
            errors: Vec::new(),
            attempts: 1,
            first_failed_at: Timestamp::from_micros(0),
            last_failed_at: Timestamp::from_micros(0),
            correlation_id: id.to_string(),
            trace_id: None,
            status: DeadLetterStatus::Dead,
            history: Vec::new(),
        }
    }

    #[test]
    fn past_the_limit_the_oldest_dead_letter_is_dropped() {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::with_dead_letter_limit(clock, 2);

        for n in [1, 2, 3] {
            now(store.record(letter(n)));
        }
        // What fails again is the newest once more.
        now(store.record(letter(2)));
        now(store.record(letter(4)));

        let page = now(store.list(DeadLetterFilter::default()));
        let kept: Vec<_> = page.items.into_iter().map(|l| l.id).collect();
        assert_eq!(kept, [4, 2].map(|n| letter(n).id));
    }

    #[test]
    fn a_hard_deletion_is_recorded() {
        let clock = ManualClock::new(Timestamp::from_micros(5));
        let store = MemoryStore::new(Arc::new(clock));
        let stream = StreamName::new("order-1").unwrap();
        let event = NewEvent {
            id: Uuid::from_u128(7),
            type_name: "Shop.OrderPlaced".into(),
            version: 1,
            data: "{}".into(),
            metadata: "{}".into(),
            occurred_at: Timestamp::from_micros(1),
        };
        now(store.append(stream.clone(), vec![event], ExpectedRevision::Any));

        now(store.delete_stream(stream, ExpectedRevision::Any, DeleteMode::Hard));

        let deletion = Deletion {
            stream: "order-1".into(),
            last_revision: 0,
            deleted_at: Timestamp::from_micros(5),
        };
        assert_eq!(store.deletions(), [deletion]);
    }
}
