//! [`SnapshotStore`] in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::ports::{Snapshot, SnapshotStore, StoreError, StreamName};

#[async_trait]
impl SnapshotStore for MemoryStore {
    async fn save(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        let mut state = self.open()?;
        let newer_is_there = state.snapshots.get(&*snapshot.stream).is_some_and(|old| {
            old.schema_version == snapshot.schema_version && old.revision > snapshot.revision
        });
        if !newer_is_there {
            state.snapshots.insert(snapshot.stream.shared(), snapshot);
        }
        Ok(())
    }

    async fn load(&self, stream: StreamName) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.open()?.snapshots.get(&*stream).cloned())
    }
}
