//! The event store as a program of this app uses it: what is appended inside a handler belongs to the handler's trace.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::context::current;
use crate::ports::{
    Append, Appended, Capabilities, DeleteMode, EventRef, EventStore, ExpectedRevision, IdlePage,
    IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

#[derive(Debug)]
pub(super) struct Traced(pub(super) Arc<dyn EventStore>);

fn traced(events: Vec<NewEvent>) -> Vec<NewEvent> {
    match current().filter(|cause| !cause.trace.is_empty()) {
        None => events,
        Some(cause) => {
            let events = events.into_iter();
            events.map(|event| event.traced(&cause.trace)).collect()
        }
    }
}

#[async_trait]
impl EventStore for Traced {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        self.0.append(stream, traced(events), expected).await
    }

    async fn append_many(&self, mut appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        for append in &mut appends {
            append.events = traced(std::mem::take(&mut append.events));
        }
        self.0.append_many(appends).await
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        self.0.read_stream(stream, options).await
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        self.0.read_all(options).await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.0.head().await
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        self.0.find_event(id).await
    }

    async fn find_in_stream(
        &self,
        stream: StreamName,
        id: Uuid,
    ) -> Result<Option<EventRef>, StoreError> {
        self.0.find_in_stream(stream, id).await
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        self.0.delete_stream(stream, expected, mode).await
    }

    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError> {
        self.0.idle_streams(options).await
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        self.0.wait_for_events(position).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}
