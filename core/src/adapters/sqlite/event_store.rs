//! Event streams in SQLite.

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, append, queue::Size};
use crate::ports::{
    Append, Appended, Capabilities, DeleteMode, EventRef, EventStore, ExpectedRevision, IdlePage,
    IdleStreams, NewEvent, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

#[async_trait]
impl EventStore for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all(true)
    }

    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        append::check(&events)?;
        self.write(append::size(&events), move |tx| {
            tx.append(&stream, &events, expected)
        })?
        .await
    }

    async fn append_many(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        let mut size = Size::default();
        for one in &appends {
            append::check(&one.events)?;
            let more = append::size(&one.events);
            size.events += more.events;
            size.bytes += more.bytes;
        }
        self.write(size, move |tx| tx.append_many(&appends))?.await
    }

    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        self.read(move |reader| reader.read_stream(&stream, options))?
            .await
    }

    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError> {
        self.read(move |reader| reader.read_all(&options))?.await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.read(|reader| reader.head())?.await
    }

    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        self.read(move |reader| reader.find_event(id))?.await
    }

    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        self.write(Size::default(), move |tx| {
            tx.delete(&stream, expected, mode)
        })?
        .await
    }

    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError> {
        self.read(move |reader| reader.idle_streams(&options))?
            .await
    }

    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError> {
        loop {
            let stored = self.stored();
            if self.head().await? > position {
                return Ok(());
            }
            if self.watching() {
                stored.await;
            }
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shut().await
    }
}
