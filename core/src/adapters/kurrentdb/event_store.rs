//! Event streams in KurrentDB.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    KurrentdbStore,
    append::{self, Job},
    error::unavailable,
    read::check_name,
};
use crate::ports::{
    Append, Appended, Capabilities, DeleteMode, EventRef, EventStore, ExpectedRevision, IdlePage,
    IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

#[async_trait]
impl EventStore for KurrentdbStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            append_many: false,
            unique_ids: false,
            hard_delete: false,
            idle_streams: false,
            ..Capabilities::all(true)
        }
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        check_name(&stream)?;
        append::check(&events)?;
        let handle = self.core.handle()?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            events,
            expected,
            answer,
        };
        if self.core.queues.put(&stream, job)? {
            handle.spawn(Arc::clone(&self.core).append_all(stream));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(unavailable("its thread ended")))
    }

    async fn append_many(&self, mut appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        self.core.handle()?;
        match (appends.pop(), appends.is_empty()) {
            (None, _) => Ok(Vec::new()),
            (Some(only), true) => {
                let appended = self.append(only.stream, only.events, only.expected).await?;
                Ok(vec![appended])
            }
            (Some(_), false) => Err(StoreError::Unsupported {
                store: "KurrentDB".into(),
                what: "append to several streams in one transaction".into(),
                reason: "its client has no such call".into(),
            }),
        }
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        check_name(&stream)?;
        self.run(|core| async move { core.read_stream(&stream, options).await })
            .await
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        self.run(|core| async move { core.read_all(&options).await })
            .await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.run(|core| async move { core.head().await }).await
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        self.run(|core| async move { core.find_event(id).await })
            .await
    }

    async fn find_in_stream(
        &self,
        stream: StreamName,
        id: Uuid,
    ) -> Result<Option<EventRef>, StoreError> {
        check_name(&stream)?;
        self.run(|core| async move { core.find_in_stream(&stream, id).await })
            .await
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        check_name(&stream)?;
        self.run(|core| async move { core.delete(&stream, expected, mode).await })
            .await
    }

    async fn idle_streams(&self, _: IdleStreams) -> Result<IdlePage, StoreError> {
        self.core.handle()?;
        Err(StoreError::Unsupported {
            store: "KurrentDB".into(),
            what: "list streams by name and age".into(),
            reason: "it has no list of streams; it drops old events itself, by $maxAge in a stream's metadata".into(),
        })
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        self.core.wait(position).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.stop().await
    }
}
