//! Snapshots in SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{
    OptionalExtension,
    types::{ToSqlOutput, ValueRef},
};
use serde::de::IgnoredAny;

use super::{
    SqliteStore,
    error::Failure,
    number::{signed, small, time, unsigned},
    queue::Size,
    reader::Reader,
};
use crate::ports::{Snapshot, SnapshotStore, StoreError, StreamName};

#[async_trait]
impl SnapshotStore for SqliteStore {
    async fn save(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        let size = Size {
            events: 1,
            bytes: snapshot.state.len(),
        };
        self.write(size, move |tx| {
            tx.conn
                .prepare_cached(
                    "INSERT INTO orkestra_snapshots (stream, revision, schema_version, state, taken_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (stream) DO UPDATE SET \
                     revision = excluded.revision, schema_version = excluded.schema_version, \
                     state = excluded.state, taken_at = excluded.taken_at \
                     WHERE excluded.schema_version <> schema_version OR excluded.revision >= revision",
                )?
                .execute((
                    &*snapshot.stream,
                    signed(snapshot.revision),
                    snapshot.schema_version,
                    ToSqlOutput::Borrowed(ValueRef::Text(&snapshot.state)),
                    snapshot.taken_at.as_micros(),
                ))?;
            Ok(())
        })?
        .await
    }

    async fn load(&self, stream: StreamName) -> Result<Option<Snapshot>, StoreError> {
        self.read(move |reader| reader.snapshot(stream))?.await
    }
}

impl Reader<'_> {
    fn snapshot(&self, stream: StreamName) -> Result<Option<Snapshot>, Failure> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT revision, schema_version, state, taken_at FROM orkestra_snapshots WHERE stream = ?1",
            )?
            .query_row([&*stream], |row| {
                Ok((
                    unsigned(row.get(0)?),
                    small(row.get(1)?),
                    Bytes::copy_from_slice(row.get_ref(2)?.as_bytes().unwrap_or_default()),
                    time(row.get(3)?),
                ))
            })
            .optional()?;
        let Some((revision, schema_version, state, taken_at)) = found else {
            return Ok(None);
        };
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(&state) {
            return Err(StoreError::Corrupt {
                what: format!("the snapshot of {stream}"),
                reason: error.to_string(),
            }
            .into());
        }
        Ok(Some(Snapshot {
            stream,
            revision,
            schema_version,
            state,
            taken_at,
        }))
    }
}
