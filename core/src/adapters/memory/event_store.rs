//! [`EventStore`] in memory.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Deletion, MemoryStore,
    waiters::{Condition, Wait},
    wake,
};
use crate::ports::{
    Append, Appended, Capabilities, DeleteMode, EventRef, EventStore, ExpectedRevision, IdlePage,
    IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

#[async_trait]
impl EventStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: false,
            shared: false,
            immutable: false,
            ..Capabilities::all(true)
        }
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        let (appended, woken) = {
            let mut state = self.open()?;
            let appended = state.log.append(Append {
                stream,
                events,
                expected,
            })?;
            (appended, state.take_woken())
        };
        wake(woken);
        Ok(appended)
    }

    async fn append_many(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        let (appended, woken) = {
            let mut state = self.open()?;
            let mark = state.log.mark();
            let appended = appends
                .into_iter()
                .map(|append| state.log.append(append))
                .collect::<Result<Vec<_>, _>>()
                .inspect_err(|_| state.log.roll_back(mark))?;
            (appended, state.take_woken())
        };
        wake(woken);
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        Ok(self.open()?.log.read_stream(&stream, options))
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        Ok(self.open()?.log.read_all(&options))
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        Ok(self.open()?.log.head())
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        Ok(self.open()?.log.find_event(id))
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        let deleted_at = self.clock.now();
        let mut state = self.open()?;
        let Some(last_revision) = state.log.delete(&stream, expected, mode)? else {
            return Ok(false);
        };
        // A fold of deleted events must not come back as state.
        state.snapshots.remove(&*stream);
        if mode == DeleteMode::Hard {
            state.deletions.push(Deletion {
                stream: stream.shared(),
                last_revision,
                deleted_at,
            });
        }
        Ok(true)
    }

    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError> {
        Ok(self.open()?.log.idle_streams(&options))
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        Wait::new(self, Condition::EventAfter(position)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let woken = {
            let mut state = self.state.lock();
            state.closed = true;
            state.waiters.take_if(|_| true)
        };
        wake(woken);
        Ok(())
    }
}
