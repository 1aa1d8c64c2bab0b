//! The inbox in SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{OptionalExtension, types::ValueRef};
use uuid::Uuid;

use super::{
    SqliteStore,
    number::{signed, time},
    queue::Size,
    text::{bytes_of, text_or_bytes},
};
use crate::{
    clock::Timestamp,
    ports::{InboxEntry, InboxStore, StoreError},
};

#[async_trait]
impl InboxStore for SqliteStore {
    async fn find(&self, handler: String, message: Uuid) -> Result<Option<InboxEntry>, StoreError> {
        self.read(move |reader| {
            let mut statement = reader.conn.prepare_cached(
                "SELECT handled_at, result FROM orkestra_inbox WHERE handler = ?1 AND message_id = ?2",
            )?;
            let entry = statement.query_row((&handler, message.as_bytes()), |row| {
                let result = match row.get_ref(1)? {
                    ValueRef::Null => None,
                    _ => Some(Bytes::copy_from_slice(bytes_of(row, 1)?)),
                };
                Ok(InboxEntry {
                    handled_at: time(row.get(0)?),
                    result,
                })
            });
            Ok(entry.optional()?)
        })?
        .await
    }

    async fn record(
        &self,
        handler: String,
        message: Uuid,
        result: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        let size = Size {
            events: 1,
            bytes: result.as_ref().map_or(0, Bytes::len),
        };
        self.write(size, move |tx| {
            let added = tx
                .conn
                .prepare_cached(
                    "INSERT INTO orkestra_inbox (handler, message_id, handled_at, result) \
                     VALUES (?1, ?2, ?3, ?4) ON CONFLICT (handler, message_id) DO NOTHING",
                )?
                .execute((
                    &handler,
                    message.as_bytes(),
                    tx.clock.now().as_micros(),
                    result.as_deref().map(text_or_bytes),
                ))?;
            Ok(added > 0)
        })?
        .await
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write(Size::default(), move |tx| {
            tx.removed(
                "DELETE FROM orkestra_inbox WHERE (handler, message_id) IN \
                 (SELECT handler, message_id FROM orkestra_inbox \
                 WHERE handled_at < ?1 ORDER BY handled_at LIMIT ?2)",
                (before.as_micros(), signed(limit as u64)),
            )
        })?
        .await
    }
}
