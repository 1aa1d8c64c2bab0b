//! A store that fails when it is told to.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Shop, Stores};
use crate::ports::{
    Append, Appended, Capabilities, Checkpoint, CheckpointStore, DeleteMode, EventRef, EventStore,
    ExpectedRevision, IdlePage, IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream,
    SaveCheckpoint, StoreError, StreamName, StreamPage,
};

/// The fixture's stores, with trouble in between.
#[derive(Debug)]
pub(super) struct Flaky {
    stores: Stores,
    /// Reads to fail.
    pub(super) reads: AtomicU32,
    /// Waits to fail.
    pub(super) waits: AtomicU32,
    /// Waits that end before there is anything.
    pub(super) early: AtomicU32,
    /// Saves to fail.
    pub(super) saves: AtomicU32,
    /// Saves whose answer gets lost.
    pub(super) unheard: AtomicU32,
    /// Events that were read.
    pub(super) seen: AtomicU32,
}

impl Shop {
    pub(super) fn flaky(&self) -> Arc<Flaky> {
        Arc::new(Flaky {
            stores: self.store().clone(),
            reads: 0.into(),
            waits: 0.into(),
            early: 0.into(),
            saves: 0.into(),
            unheard: 0.into(),
            seen: 0.into(),
        })
    }
}

/// Whether one of `left` is used up.
fn take(left: &AtomicU32) -> bool {
    let one_less = |n: u32| n.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        .is_ok()
}

fn away() -> StoreError {
    StoreError::Unavailable {
        reason: "connection reset".into(),
    }
}

#[async_trait]
impl EventStore for Flaky {
    fn capabilities(&self) -> Capabilities {
        self.stores.events.capabilities()
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        self.stores.events.append(stream, events, expected).await
    }

    async fn append_many(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        self.stores.events.append_many(appends).await
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        self.stores.events.read_stream(stream, options).await
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        if take(&self.reads) {
            return Err(away());
        }
        let page = self.stores.events.read_all(options).await?;
        let count = u32::try_from(page.events.len()).unwrap();
        self.seen.fetch_add(count, Ordering::SeqCst);
        Ok(page)
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.stores.events.head().await
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        self.stores.events.find_event(id).await
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        self.stores
            .events
            .delete_stream(stream, expected, mode)
            .await
    }

    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError> {
        self.stores.events.idle_streams(options).await
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        if take(&self.early) {
            return Ok(());
        }
        if take(&self.waits) {
            return Err(away());
        }
        self.stores.events.wait_for_events(position).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.stores.events.close().await
    }
}

#[async_trait]
impl CheckpointStore for Flaky {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        self.stores.checkpoints.load(name).await
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        if take(&self.saves) {
            return Err(away());
        }
        self.stores
            .checkpoints
            .save(name, position, options)
            .await?;
        if take(&self.unheard) {
            return Err(away());
        }
        Ok(())
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        self.stores.checkpoints.wait_until(name, position).await
    }
}
