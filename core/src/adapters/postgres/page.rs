//! Building a page of events: all payloads in one buffer, names shared.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio_postgres::{Row, RowStream};
use uuid::Uuid;

use super::{
    connect::Conn,
    error::Failure,
    names::{Names, name},
    value::{Json, Moment, unsigned},
};
use crate::ports::{Position, RecordedEvent};

/// The most events that a page has, whatever is asked for.
pub(super) const MAX_EVENTS: usize = 10_000;

/// The most bytes of payload that a page has; a single event may have more.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The columns of an event, in the order in which a page takes them, and the generation of the tables.
macro_rules! columns {
    () => {
        "e.position, e.stream_id, e.type_id, e.revision, e.event_id, e.version, e.occurred_at, e.data, e.metadata, \
         (SELECT {schema}.generation()) AS generation"
    };
}
pub(super) use columns;

/// An event whose names are not known yet.
struct Entry {
    stream: i64,
    type_id: i64,
    event: RecordedEvent,
    data_end: usize,
    end: usize,
}

/// A page in the making.
#[derive(Default)]
pub(super) struct PageBuilder {
    entries: Vec<Entry>,
    payload: Vec<u8>,
    /// That of the tables that the entries come from.
    generation: i64,
}

impl PageBuilder {
    /// Takes the rows of `stream`, as many as a page may have. Returns whether all were taken.
    pub(super) async fn fill(
        &mut self,
        conn: &Conn,
        stream: RowStream,
        limit: usize,
    ) -> Result<bool, Failure> {
        self.fill_wanted(conn, stream, limit, |_| Ok(true)).await
    }

    /// The same of the rows that are `wanted`.
    pub(super) async fn fill_wanted(
        &mut self,
        conn: &Conn,
        stream: RowStream,
        limit: usize,
        mut wanted: impl FnMut(&Row) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let mut rows = pin!(stream);
        let nothing: Arc<str> = Arc::default();
        conn.patiently(async {
            while let Some(row) = rows.try_next().await? {
                if !wanted(&row)? {
                    continue;
                }
                if self.entries.len() >= limit || self.payload.len() >= MAX_BYTES {
                    return Ok(false);
                }
                self.push(&row, &nothing)?;
            }
            Ok(true)
        })
        .await
    }

    fn push(&mut self, row: &Row, nothing: &Arc<str>) -> Result<(), Failure> {
        let data: Json<'_> = row.try_get(7)?;
        let metadata: Json<'_> = row.try_get(8)?;
        self.payload.extend_from_slice(data.0);
        let data_end = self.payload.len();
        self.payload.extend_from_slice(metadata.0);
        let version: i32 = row.try_get(5)?;
        let occurred_at: Moment = row.try_get(6)?;
        if self.entries.is_empty() {
            self.generation = row.try_get(9)?;
        }
        let event = RecordedEvent {
            id: row.try_get::<_, Uuid>(4)?,
            type_name: Arc::clone(nothing),
            version: u32::try_from(version).unwrap_or(0),
            stream: Arc::clone(nothing),
            revision: unsigned(row.try_get(3)?),
            position: Position(unsigned(row.try_get(0)?)),
            data: Bytes::new(),
            metadata: Bytes::new(),
            occurred_at: occurred_at.0,
        };
        self.entries.push(Entry {
            stream: row.try_get(1)?,
            type_id: row.try_get::<_, i32>(2)?.into(),
            event,
            data_end,
            end: self.payload.len(),
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// The position of the last event.
    pub(super) fn last_position(&self) -> Option<Position> {
        self.entries.last().map(|entry| entry.event.position)
    }

    /// The events, each with its names and its slices of the one buffer. `stream` is the name of all, if they are of one.
    pub(super) async fn finish(
        self,
        conn: &Conn,
        names: &Names,
        stream: Option<Arc<str>>,
    ) -> Result<Vec<RecordedEvent>, Failure> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let types = names
            .types(
                conn,
                self.generation,
                self.entries.iter().map(|e| e.type_id),
            )
            .await?;
        let streams = match &stream {
            Some(_) => None,
            None => Some(
                names
                    .streams(conn, self.generation, self.entries.iter().map(|e| e.stream))
                    .await?,
            ),
        };
        let payload = Bytes::from(self.payload);
        let mut start = 0;
        let mut events = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            let mut event = entry.event;
            event.type_name = name(&types, entry.type_id)?;
            event.stream = match (&stream, &streams) {
                (Some(stream), _) => Arc::clone(stream),
                (None, Some(streams)) => name(streams, entry.stream)?,
                (None, None) => Arc::default(),
            };
            event.data = payload.slice(start..entry.data_end);
            event.metadata = payload.slice(entry.data_end..entry.end);
            start = entry.end;
            events.push(event);
        }
        Ok(events)
    }
}
