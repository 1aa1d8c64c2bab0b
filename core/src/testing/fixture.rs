//! What a conformance case gets to work on.

use std::{any::Any, fmt, sync::Arc};

use crate::{
    clock::ManualClock,
    ports::{CheckpointStore, EventStore},
};

/// A fresh, empty store behind the port `P`, and what else the suite may need.
pub struct Fixture<P: ?Sized> {
    store: Arc<P>,
    clock: ManualClock,
    reopen: Option<Box<dyn Fn() -> Arc<P>>>,
    damage: Option<Box<dyn Fn()>>,
    events: Option<Arc<dyn EventStore>>,
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    kept: Vec<Box<dyn Any>>,
}

impl<P: ?Sized> Fixture<P> {
    /// A store that takes its time from `clock`.
    pub fn new(store: Arc<P>, clock: ManualClock) -> Self {
        Self {
            store,
            clock,
            reopen: None,
            damage: None,
            events: None,
            checkpoints: None,
            kept: Vec::new(),
        }
    }

    /// How to close the store and open another one on the same data. Every durable adapter gives this.
    #[must_use]
    pub fn reopened_by(mut self, reopen: impl Fn() -> Arc<P> + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// How to make everything stored unreadable, as a broken disk would; for snapshots.
    #[must_use]
    pub fn damaged_by(mut self, damage: impl Fn() + 'static) -> Self {
        self.damage = Some(Box::new(damage));
        self
    }

    /// The event store on the same data, if the adapter has one.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn EventStore>) -> Self {
        self.events = Some(events);
        self
    }

    /// The checkpoint store on the same data, if the adapter has one.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Arc<dyn CheckpointStore>) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Keeps `guard`, a temporary folder for example, until the case is over.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    /// The store.
    pub fn store(&self) -> &P {
        &self.store
    }

    /// The store, shared.
    pub fn shared(&self) -> Arc<P> {
        Arc::clone(&self.store)
    }

    /// The clock that the store reads.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    pub(super) fn events(&self) -> Option<&dyn EventStore> {
        self.events.as_deref()
    }

    pub(super) fn checkpoints(&self) -> Option<&dyn CheckpointStore> {
        self.checkpoints.as_deref()
    }

    /// Whether the store was closed and opened again; `false` if there is no way to.
    pub(super) fn reopen(&mut self) -> bool {
        let Some(reopen) = &self.reopen else {
            return false;
        };
        self.store = reopen();
        true
    }

    /// Whether what is stored was damaged; `false` if there is no way to.
    pub(super) fn damage(&self) -> bool {
        if let Some(damage) = &self.damage {
            damage();
        }
        self.damage.is_some()
    }
}

impl<P: ?Sized> Drop for Fixture<P> {
    fn drop(&mut self) {
        // What was kept goes last: the store may still need its folder to close.
        self.reopen = None;
        self.damage = None;
        self.events = None;
        self.checkpoints = None;
    }
}

impl<P: ?Sized + fmt::Debug> fmt::Debug for Fixture<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("store", &self.store)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
