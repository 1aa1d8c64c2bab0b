//! Event streams in PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    PostgresStore, idle, queue,
    queue::{Deletion, Work},
    read,
};
use crate::ports::{
    Append, Appended, Capabilities, DeleteMode, EventRef, EventStore, ExpectedRevision, IdlePage,
    IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

#[async_trait]
impl EventStore for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all(true)
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        let append = Append {
            stream,
            events,
            expected,
        };
        self.core()?.queue.append(append)?.await
    }

    async fn append_many(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        queue::check(appends.iter().map(|append| &*append.events))?;
        let queue = &self.core()?.queue;
        queue.push(|answer| Work::Many(appends, answer))?.await
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        let core = Arc::clone(self.core()?);
        self.read(move |conn| {
            let (core, stream) = (Arc::clone(&core), stream.clone());
            async move { read::read_stream(&core, conn, &stream, options).await }
        })?
        .await
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        let core = Arc::clone(self.core()?);
        let options = Arc::new(options);
        self.read(move |conn| {
            let (core, options) = (Arc::clone(&core), Arc::clone(&options));
            async move { read::read_all(&core, conn, &options).await }
        })?
        .await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.read(|conn| async move { read::head(&conn).await })?
            .await
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        self.read(move |conn| async move { read::find_event(&conn, id).await })?
            .await
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        let deletion = Deletion {
            stream,
            expected,
            mode,
        };
        let queue = &self.core()?.queue;
        queue.push(|answer| Work::Delete(deletion, answer))?.await
    }

    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError> {
        let options = Arc::new(options);
        self.read(move |conn| {
            let options = Arc::clone(&options);
            async move { idle::idle_streams(&conn, &options).await }
        })?
        .await
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        loop {
            let stored = self.stored();
            if self.head().await? > position {
                return Ok(());
            }
            stored.await;
            // Told by whoever committed: nothing is asked again.
            if self.told() > position {
                return Ok(());
            }
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shut().await
    }
}
